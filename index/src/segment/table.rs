//! The page table at the end of a segment file: which document has how many tokens, of which model, coded how, and where.

use half::f16;
use tantivy::SegmentReader;

use super::CHECKSUM_LENGTH;
use crate::bytes::{ByteReader, Malformed};
use crate::codes::{CodedRecord, DirectRecord};
use crate::options::LateField;
use crate::value::{decode_origin, encode_origin};
use crate::{Fingerprint, Origin, Precision};

/// How the vectors of a page are stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Coding {
    /// f16.
    Half,
    /// 8 bits without a codebook.
    Direct,
    /// Centroid and residual, by the codebook of that block.
    Block(u8),
}

impl Coding {
    fn tag(self) -> u8 {
        match self {
            Self::Half => 0,
            Self::Direct => 1,
            Self::Block(block) => 2 + block,
        }
    }

    fn from_tag(tag: u8) -> Self {
        match tag {
            0 => Self::Half,
            1 => Self::Direct,
            block => Self::Block(block - 2),
        }
    }
}

/// One page of a field in a segment.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct PageEntry {
    /// The segment's document.
    pub doc: u32,
    /// First byte of the vectors in the file.
    pub offset: u64,
    /// Number of tokens.
    pub tokens: u16,
    /// Index into [`FieldTable::origins`].
    pub origin: u8,
    /// How the vectors are stored.
    pub coding: Coding,
    /// Bytes of the layout that follows the vectors.
    pub layout_length: u32,
    /// The longest residual, or the longest vector without a codebook, as it is scored in full; rounded up.
    pub radius: f16,
    /// The largest distance between what a token's first bit plane stands for and what is scored in full; rounded up.
    pub coarse_error: f16,
}

/// Where a block stands in the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct BlockPlace {
    pub offset: u64,
    pub length: u64,
    pub checksum: [u8; CHECKSUM_LENGTH],
}

/// All pages of one field in a segment.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct FieldTable {
    pub name: String,
    pub field_id: u32,
    pub dim: usize,
    pub precision: Precision,
    pub keeps_f16: bool,
    /// The distinct models of the pages: at most one known model, and perhaps `Unknown`.
    pub origins: Vec<Origin>,
    pub(super) blocks: Vec<BlockPlace>,
    /// By ascending doc.
    pub pages: Vec<PageEntry>,
}

impl FieldTable {
    pub fn new(field: &LateField) -> Self {
        Self {
            name: field.name.clone(),
            field_id: field.field.field_id(),
            dim: field.options.dim(),
            precision: field.options.precision(),
            keeps_f16: field.options.keeps_f16(),
            origins: Vec::new(),
            blocks: Vec::new(),
            pages: Vec::new(),
        }
    }

    /// Bytes of a page's codes, or of its f16 vectors where there are none.
    pub fn code_bytes(&self, page: &PageEntry) -> usize {
        let tokens = usize::from(page.tokens);
        match (page.coding, self.precision.depth()) {
            (Coding::Direct, _) => DirectRecord::length(tokens, self.dim),
            (Coding::Block(_), Some(depth)) => CodedRecord::length(tokens, self.dim, depth),
            (Coding::Half, _) | (Coding::Block(_), None) => tokens * self.dim * 2,
        }
    }

    /// Bytes of a page's vectors in the file, the f16 copy included.
    pub fn vector_bytes(&self, page: &PageEntry) -> usize {
        let copy =
            if self.keeps_f16 && page.coding != Coding::Half { usize::from(page.tokens) * self.dim * 2 } else { 0 };
        self.code_bytes(page) + copy
    }

    /// Where a page's vectors stand as f16, if they do.
    pub fn f16_range(&self, page: &PageEntry) -> Option<std::ops::Range<u64>> {
        let start = match page.coding {
            Coding::Half => page.offset,
            _ if self.keeps_f16 => page.offset + self.code_bytes(page) as u64,
            _ => return None,
        };
        Some(start..start + (usize::from(page.tokens) * self.dim * 2) as u64)
    }

    /// The place in the table of the page of `doc`, if it has one.
    pub fn place_of(&self, doc: u32) -> Option<usize> {
        self.pages.binary_search_by_key(&doc, |page| page.doc).ok()
    }

    /// The page of `doc`, if it has one.
    pub fn page_of(&self, doc: u32) -> Option<&PageEntry> {
        self.place_of(doc).map(|at| &self.pages[at])
    }

    /// A known model other than `model` that live pages have.
    pub fn other_live_model(&self, model: Fingerprint, reader: &SegmentReader) -> Option<Fingerprint> {
        let other = |origin: &Origin| origin.fingerprint().filter(|known| *known != model);
        // Nearly always there is none, and no page is looked at.
        self.origins.iter().find_map(other)?;
        let live = self.pages.iter().filter(|page| !reader.is_deleted(page.doc));
        live.map(|page| &self.origins[usize::from(page.origin)]).find_map(other)
    }

    /// The index of `origin`, added if new; `None` where 255 models already stand.
    pub fn origin_index(&mut self, origin: Origin) -> Option<u8> {
        let at = self.origins.iter().position(|known| *known == origin).unwrap_or_else(|| {
            self.origins.push(origin);
            self.origins.len() - 1
        });
        u8::try_from(at).ok().filter(|at| *at < u8::MAX)
    }

    pub fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&(self.name.len() as u16).to_le_bytes());
        bytes.extend_from_slice(self.name.as_bytes());
        bytes.extend_from_slice(&self.field_id.to_le_bytes());
        bytes.extend_from_slice(&(self.dim as u32).to_le_bytes());
        bytes.extend_from_slice(&[self.precision.tag(), u8::from(self.keeps_f16)]);
        bytes.push(self.origins.len() as u8);
        self.origins.iter().for_each(|origin| encode_origin(*origin, bytes));
        bytes.push(self.blocks.len() as u8);
        for block in &self.blocks {
            bytes.extend_from_slice(&block.offset.to_le_bytes());
            bytes.extend_from_slice(&block.length.to_le_bytes());
            bytes.extend_from_slice(&block.checksum);
        }
        bytes.extend_from_slice(&(self.pages.len() as u32).to_le_bytes());
        for page in &self.pages {
            bytes.extend_from_slice(&page.doc.to_le_bytes());
            bytes.extend_from_slice(&page.offset.to_le_bytes());
            bytes.extend_from_slice(&page.tokens.to_le_bytes());
            bytes.extend_from_slice(&[page.origin, page.coding.tag()]);
            bytes.extend_from_slice(&page.layout_length.to_le_bytes());
            bytes.extend_from_slice(&page.radius.to_le_bytes());
            bytes.extend_from_slice(&page.coarse_error.to_le_bytes());
        }
    }

    /// Reads one field's table; ranges that leave `pages_end` are refused, so that later reads cannot run out of the file.
    pub fn decode(reader: &mut ByteReader<'_>, version: u32, pages_end: u64) -> Result<Self, Malformed> {
        let name_length = usize::from(reader.u16()?);
        let name = std::str::from_utf8(reader.take(name_length)?).map_err(|_| Malformed)?.to_owned();
        let field_id = reader.u32()?;
        let dim = reader.u32()? as usize;
        let precision = Precision::from_bits(u32::from(reader.u8()?)).map_err(|_| Malformed)?;
        let keeps_f16 = version > 1 && reader.u8()? == 1;
        let origins = (0..reader.u8()?).map(|_| decode_origin(reader)).collect::<Result<Vec<_>, _>>()?;
        let num_blocks = if version > 1 { reader.u8()? } else { 0 };
        let blocks = (0..num_blocks).map(|_| BlockPlace::decode(reader, pages_end)).collect::<Result<Vec<_>, _>>()?;
        if dim == 0 {
            return Err(Malformed);
        }
        let mut table = Self { name, field_id, dim, precision, keeps_f16, origins, blocks, pages: Vec::new() };
        let count = reader.u32()?;
        for _ in 0..count {
            let page = PageEntry::decode(reader, version)?;
            let known = match page.coding {
                Coding::Half => true,
                Coding::Direct => precision != Precision::F16,
                Coding::Block(block) => precision != Precision::F16 && usize::from(block) < table.blocks.len(),
            };
            let length = table.vector_bytes(&page) as u64 + u64::from(page.layout_length);
            let ascending = table.pages.last().is_none_or(|last| last.doc < page.doc);
            let inside = page.offset.checked_add(length).is_some_and(|end| end <= pages_end);
            if !known || !ascending || !inside || usize::from(page.origin) >= table.origins.len() || page.tokens == 0 {
                return Err(Malformed);
            }
            table.pages.push(page);
        }
        Ok(table)
    }
}

impl PageEntry {
    fn decode(reader: &mut ByteReader<'_>, version: u32) -> Result<Self, Malformed> {
        let (doc, offset, tokens) = (reader.u32()?, reader.u64()?, reader.u16()?);
        let (origin, coding) = (reader.u8()?, Coding::from_tag(reader.u8()?));
        let layout_length = reader.u32()?;
        let (radius, coarse_error) = if version > 1 { (reader.u16()?, reader.u16()?) } else { (0, 0) };
        let (radius, coarse_error) = (f16::from_bits(radius), f16::from_bits(coarse_error));
        Ok(Self { doc, offset, tokens, origin, coding, layout_length, radius, coarse_error })
    }
}

impl BlockPlace {
    fn decode(reader: &mut ByteReader<'_>, pages_end: u64) -> Result<Self, Malformed> {
        let (offset, length) = (reader.u64()?, reader.u64()?);
        let checksum = reader.take(CHECKSUM_LENGTH)?.try_into().map_err(|_| Malformed)?;
        if offset.checked_add(length).is_none_or(|end| end > pages_end) {
            return Err(Malformed);
        }
        Ok(Self { offset, length, checksum })
    }
}
