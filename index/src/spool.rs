//! Pages of a new segment that wait, as f16 in a temporary file, until all of them are known: only then can a codebook be
//! trained on them or found to fit.

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use half::f16;
use half::slice::HalfFloatSliceExt;
use rayon::prelude::*;
use tantivy::TantivyError;
use tempfile::SpooledTempFile;

use crate::Origin;
use crate::codes::{
    CODEBOOK_TOKENS, Codebook, CodedPage, CurrentCodebooks, PageEncoder, encode_direct, sample_tokens, train,
};
use crate::options::LateField;
use crate::segment::{Coding, EncodedPage, SegmentFileWriter};
use crate::value::FieldValue;

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

/// Encodes a page without or by a codebook; the f16 copy follows where it is kept.
pub(crate) fn encode(vectors: &[f32], late: &LateField, encoder: Option<&PageEncoder<'_>>) -> CodedPage {
    let mut page = match encoder {
        Some(encoder) => encoder.encode(vectors),
        None => CodedPage {
            record: encode_direct(vectors, late.options.dim()),
            groups: Vec::new(),
            radius: longest(vectors, late.options.dim()),
            // Codes and copy differ by half a level per value at most.
            coarse_error: match late.options.keeps_f16() {
                true => largest(vectors) / 254.0 * (late.options.dim() as f32).sqrt(),
                false => 0.0,
            },
        },
    };
    if late.options.keeps_f16() {
        page.record.extend(vectors.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()));
    }
    page
}

fn longest(vectors: &[f32], dim: usize) -> f32 {
    let square = |token: &[f32]| token.iter().map(|value| value * value).sum::<f32>();
    // Direct codes may lengthen a vector by what they round.
    vectors.chunks_exact(dim).map(square).fold(0.0, f32::max).sqrt() + largest(vectors) / 254.0 * (dim as f32).sqrt()
}

fn largest(vectors: &[f32]) -> f32 {
    vectors.iter().fold(0.0, |most, value| most.max(value.abs()))
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl PageSpool {
    pub fn new() -> Self {
        let file = SpooledTempFile::new(IN_MEMORY);
        Self { file, pages: Vec::new(), length: 0, tokens: 0, layout_bytes: 0 }
    }

    pub fn push(&mut self, doc: u32, value: &FieldValue<'_>) -> io::Result<()> {
        let tokens = value.vectors.len() / (value.dim * 2);
        let (layout, offset) = (value.layout.into(), self.length);
        self.pages.push(SpooledPage { doc, origin: value.origin, tokens: tokens as u16, layout, offset });
        self.file.write_all(value.vectors)?;
        self.length += value.vectors.len() as u64;
        self.tokens += tokens as u64;
        self.layout_bytes += value.layout.len();
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
        let halves: Vec<f16> = bytes.as_chunks().0.iter().map(|pair| f16::from_le_bytes(*pair)).collect();
        Ok(halves.to_f32_vec())
    }

    /// Pages spread evenly over all, with about `tokens` tokens.
    fn sample(&mut self, tokens: u64, dim: usize) -> io::Result<Vec<Vec<f32>>> {
        let count = ((self.pages.len() as u64 * tokens).div_ceil(self.tokens) as usize).clamp(1, self.pages.len());
        (0..count).map(|at| self.read(at * self.pages.len() / count, dim)).collect()
    }

    /// Encodes all pages and appends them to the segment file as the field at position `at`.
    pub fn write(
        mut self,
        at: usize,
        late: &LateField,
        codebooks: &CurrentCodebooks,
        file: &mut SegmentFileWriter,
    ) -> tantivy::Result<()> {
        let Some(depth) = late.options.precision().depth() else { return Ok(()) };
        let dim = late.options.dim();
        let codebook = if self.tokens < CODEBOOK_TOKENS {
            None
        } else {
            let tokens = self.tokens;
            Some(codebooks.for_tokens(late.field, tokens, || -> io::Result<Codebook> {
                Ok(train(&self.sample(sample_tokens(tokens), dim)?, dim, tokens, depth, now()))
            })?)
        };
        let coding = match &codebook {
            Some(codebook) => file.block(at, codebook)?,
            None => Coding::Direct,
        };
        let encoder = codebook.as_deref().map(|codebook| PageEncoder::new(codebook, depth, late.options.keeps_f16()));
        let mut next = 0;
        while next < self.pages.len() {
            let start = next;
            let (mut vectors, mut tokens) = (Vec::new(), 0);
            while next < self.pages.len() && tokens < BATCH_TOKENS {
                tokens += usize::from(self.pages[next].tokens);
                vectors.push(self.read(next, dim)?);
                next += 1;
            }
            let coded: Vec<CodedPage> =
                vectors.into_par_iter().map(|vectors| encode(&vectors, late, encoder.as_ref())).collect();
            for (page, coded) in self.pages[start..next].iter().zip(&coded) {
                let (origin, layout) = (page.origin, &page.layout);
                let encoded = EncodedPage { origin, layout, tokens: page.tokens, ..EncodedPage::of(coding, coded) };
                file.push(at, page.doc, &encoded)?;
            }
        }
        Ok::<(), TantivyError>(())
    }
}
