//! Merges one field of several segments: codes are copied, vectors without a codebook are coded where there are now enough
//! of them, and where the codebook is outgrown all are coded anew, or the new ones alone if the precision allows no more.

use std::sync::Arc;

use rayon::prelude::*;
use tantivy::DocId;

use crate::Error;
use crate::codes::{Codebook, CodedPage, CurrentCodebooks, Group, OUTGROWN, PageEncoder};
use crate::kernel::Depth;
use crate::options::LateField;
use crate::segment::{EncodedPage, FieldTable, PageEntry, PageHead, SegmentFile, SegmentFileWriter};

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

    fn head<'l>(&self, layout: &'l [u8]) -> PageHead<'l> {
        let entry = self.entry();
        let origin = self.table.origins[usize::from(entry.origin)];
        PageHead { doc: self.doc, tokens: entry.tokens, origin, layout }
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
    /// Those without a codebook get this one, the others keep theirs.
    Adopt(Arc<Codebook>),
    /// All get this one.
    Recode(Arc<Codebook>),
}

impl<'a> FieldMerge<'a> {
    /// `order`: the live documents in their new order: new document, source, document in the source.
    pub fn new(
        late: &'a LateField,
        sources: &'a [Arc<SegmentFile>],
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
        let depth = self.late.options.precision().depth();
        let plan = depth.map_or(Ok(Plan::Copy), |depth| self.plan(depth))?;
        let (Some(depth), Plan::Adopt(codebook) | Plan::Recode(codebook)) = (depth, &plan) else {
            return self.pages.iter().try_for_each(|page| self.copy(at, page, target));
        };
        let coding = target.block(at, codebook)?;
        let encoder = PageEncoder::new(codebook, depth, self.late.options.keeps_f16());
        let stays = |page: &MergedPage<'_>| match page.file.block_of(self.late.field, page.place) {
            Some((block, _)) => matches!(plan, Plan::Adopt(_)) || block.codebook.id() == codebook.id(),
            None => false,
        };
        for pages in self.pages.chunks(BATCH_PAGES) {
            let coded = pages.par_iter().map(|page| match stays(page) {
                true => Ok(None),
                false => Ok(Some(encoder.encode(&self.values(page)?))),
            });
            for (page, coded) in pages.iter().zip(coded.collect::<Result<Vec<Option<CodedPage>>, Error>>()?) {
                match coded {
                    Some(coded) => {
                        let (_, layout) = page.file.page(page.table, page.entry())?;
                        target.push(at, &page.head(&layout), &EncodedPage::coded(coding, &coded))?;
                    }
                    None => self.copy(at, page, target)?,
                }
            }
        }
        Ok(())
    }

    /// The vectors of a page that is to be coded anew. Damaged ones would go on into the codebook, and into every page that it
    /// codes.
    fn values(&self, page: &MergedPage<'_>) -> Result<Vec<f32>, Error> {
        let values = page.file.values(self.late.field, page.place)?;
        match values.iter().position(|value| !value.is_finite()) {
            None => Ok(values),
            Some(at) => {
                let (dim, entry) = (page.table.dim, page.entry());
                let (token, at, received) = (at / dim, at % dim, values[at]);
                let problem = format!(
                    "its vectors are damaged: document {}, token {token} has {received} at position {at}, expected a finite value; \
                     delete or replace the document",
                    entry.doc
                );
                Err(Error::SegmentFile { segment: page.file.segment().to_owned(), problem })
            }
        }
    }

    fn plan(&self, depth: Depth) -> Result<Plan, Error> {
        let (mut total, mut without) = (0, 0);
        let mut carried: Vec<&Arc<Codebook>> = Vec::new();
        for page in &self.pages {
            let tokens = u64::from(page.entry().tokens);
            total += tokens;
            match page.file.block_of(self.late.field, page.place) {
                None => without += tokens,
                Some((block, _)) if carried.iter().any(|known| known.id() == block.codebook.id()) => {}
                Some((block, _)) => carried.push(&block.codebook),
            }
        }
        // The one trained on the most tokens describes pages best.
        let best = carried.iter().max_by_key(|codebook| codebook.trained_tokens);
        let outgrown = best.is_some_and(|codebook| total / OUTGROWN >= codebook.trained_tokens);
        let stale = carried.is_empty() || outgrown || self.codebooks.retrains(self.late.field);
        let enough = |tokens: u64| tokens >= self.late.options.codebook_tokens();
        let read = |page: usize| self.values(&self.pages[page]);
        let train = || self.codebooks.for_pages(self.late, depth, self.pages.len(), total, read);
        Ok(match best {
            _ if self.late.options.is_recodable() && enough(total) && (stale || carried.len() > MOST_CODEBOOKS) => {
                Plan::Recode(train()?)
            }
            // Coarse codes are not coded again from themselves: pages without codes wait until they are enough for a new
            // codebook beside the outgrown one.
            _ if stale && enough(without) => Plan::Adopt(train()?),
            Some(best) if without > 0 && !stale => Plan::Adopt(Arc::clone(best)),
            _ => Plan::Copy,
        })
    }

    fn copy(&self, at: usize, page: &MergedPage<'_>, target: &mut SegmentFileWriter) -> Result<(), Error> {
        let entry = page.entry();
        let (vectors, layout) = page.file.page(page.table, entry)?;
        let (coding, groups): (_, Vec<Group>) = match page.file.block_of(self.late.field, page.place) {
            Some((block, place)) => (target.block(at, &block.codebook)?, block.groups(place).collect()),
            None => (entry.coding, Vec::new()),
        };
        let (radius, coarse_error) = (entry.radius.to_f32(), entry.coarse_error.to_f32());
        let encoded = EncodedPage { coding, vectors: &vectors, groups: &groups, radius, coarse_error };
        Ok(target.push(at, &page.head(&layout), &encoded)?)
    }
}
