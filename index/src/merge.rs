//! Merges one field of several segments: codes are copied, vectors without a codebook are coded where there are now enough
//! of them, and all are coded anew where the codebook is outgrown and the precision allows it.

use std::sync::Arc;

use rayon::prelude::*;
use tantivy::DocId;

use crate::Error;
use crate::codes::{
    CODEBOOK_TOKENS, Codebook, CodedPage, CurrentCodebooks, Group, OUTGROWN, PageEncoder, sample_tokens, train,
};
use crate::kernel::Depth;
use crate::options::LateField;
use crate::segment::{Coding, EncodedPage, FieldTable, PageEntry, SegmentFile, SegmentFileWriter};
use crate::spool::{encode, now};

/// Codebooks that a segment carries before its pages are coded anew, where they can be.
const MOST_CODEBOOKS: usize = 4;
/// Pages that are read and coded at once, by all threads.
const BATCH_PAGES: usize = 64;

/// One page to be merged.
struct MergedPage<'a> {
    doc: DocId,
    file: &'a SegmentFile,
    table: &'a FieldTable,
    place: usize,
}

impl MergedPage<'_> {
    fn entry(&self) -> &PageEntry {
        &self.table.pages[self.place]
    }
}

/// The merge of one field.
pub(crate) struct FieldMerge<'a> {
    late: &'a LateField,
    pages: Vec<MergedPage<'a>>,
    codebooks: &'a CurrentCodebooks,
}

/// What becomes of the pages.
enum Plan {
    /// All stay as they are.
    Copy,
    /// Those without a codebook get this one.
    Adopt(Arc<Codebook>),
    /// All get this one.
    Recode(Arc<Codebook>),
}

impl<'a> FieldMerge<'a> {
    /// `order`: the live documents in their new order: new document, source, document in the source.
    pub fn new(
        late: &'a LateField,
        sources: &'a [SegmentFile],
        order: &[(DocId, usize, DocId)],
        codebooks: &'a CurrentCodebooks,
    ) -> Self {
        let page = |(doc, source, old_doc): &(DocId, usize, DocId)| {
            let file = &sources[*source];
            let table = file.field(late.field)?;
            Some(MergedPage { doc: *doc, file, table, place: table.place_of(*old_doc)? })
        };
        Self { late, pages: order.iter().filter_map(page).collect(), codebooks }
    }

    /// Appends the merged pages to the segment file as the field at position `at`.
    pub fn write(&self, at: usize, target: &mut SegmentFileWriter) -> Result<(), Error> {
        let Some(depth) = self.late.options.precision().depth() else {
            return self.pages.iter().try_for_each(|page| self.copy(at, page, target));
        };
        let plan = self.plan(depth)?;
        let codebook = match &plan {
            Plan::Copy => return self.pages.iter().try_for_each(|page| self.copy(at, page, target)),
            Plan::Adopt(codebook) | Plan::Recode(codebook) => codebook,
        };
        let coding = target.block(at, codebook)?;
        let encoder = PageEncoder::new(codebook, depth, self.late.options.keeps_f16());
        let recode = |page: &MergedPage<'_>| {
            let coded = matches!(page.entry().coding, Coding::Block(_));
            matches!(plan, Plan::Recode(_)) && self.block_id(page) != Some(codebook.id()) || !coded
        };
        for pages in self.pages.chunks(BATCH_PAGES) {
            let coded = pages.par_iter().map(|page| match recode(page) {
                true => Ok(Some(encode(&page.file.values(self.late.field, page.place)?, self.late, Some(&encoder)))),
                false => Ok(None),
            });
            for (page, coded) in pages.iter().zip(coded.collect::<Result<Vec<Option<CodedPage>>, Error>>()?) {
                match coded {
                    Some(coded) => self.push(at, page, EncodedPage::of(coding, &coded), target)?,
                    None => self.copy(at, page, target)?,
                }
            }
        }
        Ok(())
    }

    fn block_id(&self, page: &MergedPage<'_>) -> Option<[u8; 16]> {
        page.file.block_of(self.late.field, page.place).map(|(block, _)| block.codebook.id())
    }

    fn plan(&self, depth: Depth) -> Result<Plan, Error> {
        let (mut total, mut without) = (0, 0);
        // Tokens of each codebook.
        let mut carried: Vec<(Arc<Codebook>, u64)> = Vec::new();
        for page in &self.pages {
            let tokens = u64::from(page.entry().tokens);
            total += tokens;
            match page.file.block_of(self.late.field, page.place) {
                None => without += tokens,
                Some((block, _)) => match carried.iter_mut().find(|(known, _)| known.id() == block.codebook.id()) {
                    Some((_, sum)) => *sum += tokens,
                    None => carried.push((block.codebook.clone(), tokens)),
                },
            }
        }
        let largest = carried.iter().max_by_key(|(_, tokens)| *tokens).map(|(codebook, _)| codebook);
        // Coarse codes would lose again what they lost once.
        let recodable = depth == Depth::Eight || self.late.options.keeps_f16() || carried.is_empty();
        let outgrown = largest.is_some_and(|codebook| total / OUTGROWN >= codebook.trained_tokens);
        let stale = outgrown || carried.len() > MOST_CODEBOOKS || self.codebooks.retrains(self.late.field);
        if total >= CODEBOOK_TOKENS && recodable && (carried.is_empty() || stale) {
            let train = || Ok::<_, Error>(train(&self.sample(total)?, self.late.options.dim(), total, depth, now()));
            return Ok(Plan::Recode(self.codebooks.for_tokens(self.late.field, total, train)?));
        }
        Ok(match largest {
            Some(largest) if without > 0 => Plan::Adopt(largest.clone()),
            _ => Plan::Copy,
        })
    }

    /// Pages spread evenly over all, with enough tokens to train on.
    fn sample(&self, total: u64) -> Result<Vec<Vec<f32>>, Error> {
        let count = (self.pages.len() as u64 * sample_tokens(total)).div_ceil(total) as usize;
        let count = count.clamp(1, self.pages.len());
        let page = |at: usize| &self.pages[at * self.pages.len() / count];
        (0..count).map(|at| page(at).file.values(self.late.field, page(at).place)).collect()
    }

    fn copy(&self, at: usize, page: &MergedPage<'_>, target: &mut SegmentFileWriter) -> Result<(), Error> {
        let (vectors, _) = page.file.page(page.table, page.entry())?;
        let (coding, groups): (Coding, Vec<Group>) = match page.file.block_of(self.late.field, page.place) {
            Some((block, place)) => (target.block(at, &block.codebook)?, block.groups(place).collect()),
            None => (page.entry().coding, Vec::new()),
        };
        let (radius, coarse_error) = (page.entry().radius.to_f32(), page.entry().coarse_error.to_f32());
        let coded = CodedPage { record: Vec::new(), groups, radius, coarse_error };
        self.push(at, page, EncodedPage { vectors: &vectors, ..EncodedPage::of(coding, &coded) }, target)
    }

    fn push(
        &self,
        at: usize,
        page: &MergedPage<'_>,
        encoded: EncodedPage<'_>,
        target: &mut SegmentFileWriter,
    ) -> Result<(), Error> {
        let (_, layout) = page.file.page(page.table, page.entry())?;
        let (tokens, origin) = (page.entry().tokens, page.table.origins[usize::from(page.entry().origin)]);
        Ok(target.push(at, page.doc, &EncodedPage { tokens, origin, layout: &layout, ..encoded })?)
    }
}
