//! Opens a segment file and reads pages from it by range.

use std::ops::Range;

use tantivy::HasLen;
use tantivy::directory::{FileSlice, OwnedBytes};
use tantivy::schema::Field;

use super::{
    Block, CHECKSUM_LENGTH, Coding, FORMAT_VERSION, FieldTable, HEAD_LENGTH, MAGIC, OLDEST_VERSION, PageEntry,
    TAIL_LENGTH, checksum,
};
use crate::bytes::{ByteReader, Malformed, halves};
use crate::codes::{CodedRecord, DirectRecord};
use crate::value::decode_layout;
use crate::{Error, PageLayout};

/// An open segment file: its tables and inverted lists in memory, its pages read on demand.
#[derive(Debug)]
pub(crate) struct SegmentFile {
    segment: String,
    file: FileSlice,
    pages_checksum: [u8; CHECKSUM_LENGTH],
    pages_end: usize,
    fields: Vec<OpenField>,
}

/// A field's table, and the blocks and places in them of its pages.
#[derive(Debug)]
struct OpenField {
    table: FieldTable,
    blocks: Vec<Block>,
    /// For each page of the table its place in its block.
    places: Vec<u32>,
}

impl SegmentFile {
    /// Opens and checks head, tail and table. `segment` names the segment in errors.
    pub fn open(segment: String, file: FileSlice) -> Result<Self, Error> {
        let damaged = |problem: &str| Error::SegmentFile { segment: segment.clone(), problem: problem.to_owned() };
        let length = file.len();
        if length < HEAD_LENGTH + TAIL_LENGTH {
            return Err(damaged(&format!("{length} bytes are too short for head and tail")));
        }
        let head = file.read_bytes_slice(0..HEAD_LENGTH)?;
        if head[..8] != MAGIC {
            return Err(damaged("it does not begin with the magic bytes of a late-interaction segment"));
        }
        let version = u32::from_le_bytes([head[8], head[9], head[10], head[11]]);
        if !(OLDEST_VERSION..=FORMAT_VERSION).contains(&version) {
            return Err(Error::SegmentVersion { segment, received: version, expected: FORMAT_VERSION });
        }
        let tail = file.read_bytes_slice(length - TAIL_LENGTH..length)?;
        let (pages_checksum, table_checksum, table_range) = read_tail(&tail, length)
            .map_err(|Malformed| damaged("its tail is damaged: the file was cut off or overwritten"))?;
        let pages_end = table_range.start;
        let table = file.read_bytes_slice(table_range)?;
        let mut hasher = blake3::Hasher::new();
        hasher.update(&table);
        if checksum(&hasher) != table_checksum {
            return Err(damaged("the checksum of its page table does not match"));
        }
        let mut reader = ByteReader(&table);
        let tables: Vec<FieldTable> = reader
            .u16()
            .and_then(|count| (0..count).map(|_| FieldTable::decode(&mut reader, version, pages_end as u64)).collect())
            .map_err(|Malformed| damaged("its page table is malformed"))?;
        let mut opened = Self { segment, file, pages_checksum, pages_end, fields: Vec::new() };
        for table in tables {
            let field = opened.open_blocks(table)?;
            opened.fields.push(field);
        }
        Ok(opened)
    }

    fn open_blocks(&self, table: FieldTable) -> Result<OpenField, Error> {
        let damaged = |problem: &str| Error::SegmentFile { segment: self.segment.clone(), problem: problem.to_owned() };
        let mut pages = vec![Vec::new(); table.blocks.len()];
        let mut places = vec![0; table.pages.len()];
        for ((at, page), place) in (0u32..).zip(&table.pages).zip(&mut places) {
            if let Coding::Block(block) = page.coding {
                *place = pages[usize::from(block)].len() as u32;
                pages[usize::from(block)].push(at);
            }
        }
        let mut blocks = Vec::with_capacity(pages.len());
        for (place, pages) in table.blocks.iter().zip(pages) {
            let bytes = self.read(place.offset..place.offset + place.length)?;
            let mut hasher = blake3::Hasher::new();
            hasher.update(&bytes);
            if checksum(&hasher) != place.checksum {
                return Err(damaged("the checksum of a codebook or its lists does not match"));
            }
            let block = Block::decode(bytes, pages, |page| table.pages[page as usize]);
            let block = block.map_err(|Malformed| damaged("a codebook or its lists are malformed"))?;
            if block.codebook.dim() != table.dim {
                return Err(damaged("a codebook has another dimension than its field"));
            }
            blocks.push(block);
        }
        Ok(OpenField { table, blocks, places })
    }

    /// The table of `field`; `None` if the segment was written before the field existed.
    pub fn field(&self, field: Field) -> Option<&FieldTable> {
        self.open_field(field).map(|open| &open.table)
    }

    /// The tables of all fields.
    pub fn fields(&self) -> impl Iterator<Item = &FieldTable> {
        self.fields.iter().map(|open| &open.table)
    }

    fn open_field(&self, field: Field) -> Option<&OpenField> {
        self.fields.iter().find(|open| open.table.field_id == field.field_id())
    }

    /// The blocks of a field's pages, by [`Coding::Block`].
    pub fn blocks(&self, field: Field) -> &[Block] {
        self.open_field(field).map_or(&[], |open| &open.blocks)
    }

    /// The block of the page at `place` of the table, and its place in the block; `None` where there is no codebook.
    pub fn block_of(&self, field: Field, place: usize) -> Option<(&Block, usize)> {
        let open = self.open_field(field)?;
        match open.table.pages[place].coding {
            Coding::Block(block) => Some((&open.blocks[usize::from(block)], open.places[place] as usize)),
            Coding::Half | Coding::Direct => None,
        }
    }

    /// The segment's name, for messages.
    pub fn segment(&self) -> &str {
        &self.segment
    }

    /// Bytes of the whole file.
    pub fn num_bytes(&self) -> u64 {
        self.file.len() as u64
    }

    /// Any range of the pages, mapped or read at once.
    pub fn read(&self, range: Range<u64>) -> Result<OwnedBytes, Error> {
        Ok(self.file.read_bytes_slice(range.start as usize..range.end as usize)?)
    }

    /// The stored vectors of one page, codes and f16 copy, and its encoded layout.
    pub fn page(&self, table: &FieldTable, page: &PageEntry) -> Result<(OwnedBytes, OwnedBytes), Error> {
        let vectors = table.vector_bytes(page);
        let end = page.offset + vectors as u64 + u64::from(page.layout_length);
        Ok(self.read(page.offset..end)?.split(vectors))
    }

    /// The vectors of the page at `place` of the table at the highest precision stored, `tokens x dim`.
    pub fn values(&self, field: Field, place: usize) -> Result<Vec<f32>, Error> {
        let Some(OpenField { table, .. }) = self.open_field(field) else { return Ok(Vec::new()) };
        let page = &table.pages[place];
        let tokens = usize::from(page.tokens);
        if let Some(range) = table.f16_range(page) {
            return Ok(halves(&self.read(range)?).collect());
        }
        let codes = self.read(page.offset..page.offset + table.code_bytes(page) as u64)?;
        let values = match (self.block_of(field, place), table.precision.depth()) {
            (Some((block, at)), Some(depth)) => {
                let groups: Vec<_> = block.groups(at).collect();
                let record = CodedRecord::cut(&codes, tokens, table.dim, depth);
                record.map(|record| record.values(&groups, &block.codebook))
            }
            _ => DirectRecord::cut(&codes, tokens, table.dim).map(|record| record.values(table.dim)),
        };
        values.ok_or_else(|| Error::SegmentFile {
            segment: self.segment.clone(),
            problem: format!("the codes of document {} are too short", page.doc),
        })
    }

    /// The layout of one page, where it was recorded.
    pub fn layout(&self, table: &FieldTable, page: &PageEntry) -> Result<Option<PageLayout>, Error> {
        let start = page.offset + table.vector_bytes(page) as u64;
        let layout = self.read(start..start + u64::from(page.layout_length))?;
        decode_layout(&layout, usize::from(page.tokens)).map_err(|Malformed| Error::SegmentFile {
            segment: self.segment.clone(),
            problem: format!("the page layout of document {} is malformed", page.doc),
        })
    }

    /// Reads all pages and compares their checksum.
    pub fn verify(&self) -> Result<(), Error> {
        let mut hasher = blake3::Hasher::new();
        let mut at = 0;
        while at < self.pages_end {
            let end = self.pages_end.min(at + (4 << 20));
            hasher.update(&self.file.read_bytes_slice(at..end)?);
            at = end;
        }
        if checksum(&hasher) == self.pages_checksum {
            return Ok(());
        }
        Err(Error::SegmentFile {
            segment: self.segment.clone(),
            problem: "the checksum of its pages does not match: the vectors are damaged".to_owned(),
        })
    }
}

type Checksum = [u8; CHECKSUM_LENGTH];

fn read_tail(tail: &[u8], file_length: usize) -> Result<(Checksum, Checksum, Range<usize>), Malformed> {
    let mut reader = ByteReader(tail);
    let pages = reader.take(CHECKSUM_LENGTH)?.try_into().map_err(|_| Malformed)?;
    let table = reader.take(CHECKSUM_LENGTH)?.try_into().map_err(|_| Malformed)?;
    let (offset, length) = (reader.u64()? as usize, reader.u64()? as usize);
    let end = offset.checked_add(length).ok_or(Malformed)?;
    if reader.take(8)? != MAGIC || offset < HEAD_LENGTH || end != file_length - TAIL_LENGTH {
        return Err(Malformed);
    }
    Ok((pages, table, offset..end))
}
