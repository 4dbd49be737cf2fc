//! Pages of a new segment that wait, as f16 in a temporary file, until all of them are known: only then can a codebook be
//! trained on them or found to fit.

use std::io::{self, Read, Seek, SeekFrom, Write};

use rayon::prelude::*;
use tempfile::SpooledTempFile;

use crate::Origin;
use crate::bytes::halves;
use crate::codes::{CodedPage, CurrentCodebooks, PageEncoder, encode_direct};
use crate::options::LateField;
use crate::segment::{Coding, EncodedPage, PageHead, SegmentFileWriter};

/// Bytes that are kept in memory before there is a file.
const IN_MEMORY: usize = 4 << 20;
/// Tokens that are encoded at once, by all threads.
const BATCH_TOKENS: usize = 1 << 15;

struct SpooledPage {
    doc: u32,
    origin: Origin,
    tokens: u16,
    layout: Box<[u8]>,
    offset: u64,
}

/// The pages of one field of a new segment.
pub(crate) struct PageSpool {
    file: SpooledTempFile,
    pages: Vec<SpooledPage>,
    length: u64,
    tokens: u64,
    layout_bytes: usize,
}

impl PageSpool {
    pub fn new() -> Self {
        let file = SpooledTempFile::new(IN_MEMORY);
        Self { file, pages: Vec::new(), length: 0, tokens: 0, layout_bytes: 0 }
    }

    /// Adds a page; `vectors` are f16, `tokens x dim`.
    pub fn push(&mut self, head: &PageHead<'_>, vectors: &[u8]) -> io::Result<()> {
        let PageHead { doc, tokens, origin, layout } = *head;
        self.pages.push(SpooledPage { doc, origin, tokens, layout: layout.into(), offset: self.length });
        self.file.write_all(vectors)?;
        self.length += vectors.len() as u64;
        self.tokens += u64::from(tokens);
        self.layout_bytes += layout.len();
        Ok(())
    }

    /// Bytes in memory.
    pub fn mem_usage(&self) -> usize {
        self.pages.capacity() * size_of::<SpooledPage>() + self.layout_bytes + IN_MEMORY.min(self.length as usize)
    }

    fn read(&mut self, page: usize, dim: usize) -> io::Result<Vec<f32>> {
        let values = usize::from(self.pages[page].tokens) * dim;
        let mut bytes = vec![0; values * 2];
        self.file.seek(SeekFrom::Start(self.pages[page].offset))?;
        self.file.read_exact(&mut bytes)?;
        Ok(halves(&bytes).collect())
    }

    /// Encodes all pages and appends them to the segment file as the field at position `at`.
    pub fn write(
        mut self,
        at: usize,
        late: &LateField,
        codebooks: &CurrentCodebooks,
        file: &mut SegmentFileWriter,
    ) -> io::Result<()> {
        let Some(depth) = late.options.precision().depth() else { return Ok(()) };
        let (dim, keeps_f16) = (late.options.dim(), late.options.keeps_f16());
        let (pages, tokens) = (self.pages.len(), self.tokens);
        let codebook = match tokens < late.options.codebook_tokens() {
            true => None,
            false => Some(codebooks.for_pages(late, depth, pages, tokens, |page| self.read(page, dim))?),
        };
        let coding = match &codebook {
            Some(codebook) => file.block(at, codebook)?,
            None => Coding::Direct,
        };
        let encoder = codebook.as_deref().map(|codebook| PageEncoder::new(codebook, depth, keeps_f16));
        let encode = |vectors: Vec<f32>| match &encoder {
            Some(encoder) => encoder.encode(&vectors),
            None => encode_direct(&vectors, dim, keeps_f16),
        };
        let mut next = 0;
        while next < self.pages.len() {
            let start = next;
            let (mut vectors, mut tokens) = (Vec::new(), 0);
            while next < self.pages.len() && tokens < BATCH_TOKENS {
                tokens += usize::from(self.pages[next].tokens);
                vectors.push(self.read(next, dim)?);
                next += 1;
            }
            let coded: Vec<CodedPage> = vectors.into_par_iter().map(encode).collect();
            for (page, coded) in self.pages[start..next].iter().zip(&coded) {
                let SpooledPage { doc, origin, tokens, layout, .. } = page;
                let head = PageHead { doc: *doc, tokens: *tokens, origin: *origin, layout };
                file.push(at, &head, &EncodedPage::coded(coding, coded))?;
            }
        }
        Ok(())
    }
}
