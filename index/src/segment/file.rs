//! Opens a segment file and reads pages from it by range.

use std::ops::Range;

use tantivy::HasLen;
use tantivy::directory::{FileSlice, OwnedBytes};
use tantivy::schema::Field;

use super::{CHECKSUM_LENGTH, FORMAT_VERSION, FieldTable, HEAD_LENGTH, MAGIC, PageEntry, TAIL_LENGTH, checksum};
use crate::bytes::{ByteReader, Malformed};
use crate::value::decode_layout;
use crate::{Error, PageLayout};

/// An open segment file: its table in memory, its pages read on demand.
#[derive(Debug)]
pub(crate) struct SegmentFile {
    segment: String,
    file: FileSlice,
    pages_checksum: [u8; CHECKSUM_LENGTH],
    pages_end: usize,
    fields: Vec<FieldTable>,
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
        if version != FORMAT_VERSION {
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
        let fields = reader
            .u16()
            .and_then(|count| (0..count).map(|_| FieldTable::decode(&mut reader, pages_end as u64)).collect())
            .map_err(|Malformed| damaged("its page table is malformed"))?;
        Ok(Self { segment, file, pages_checksum, pages_end, fields })
    }

    /// The table of `field`; `None` if the segment was written before the field existed.
    pub fn field(&self, field: Field) -> Option<&FieldTable> {
        self.fields.iter().find(|table| table.field_id == field.field_id())
    }

    /// The tables of all fields.
    pub fn fields(&self) -> &[FieldTable] {
        &self.fields
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

    /// The f16 vectors of one page, `tokens x dim`, and its encoded layout.
    pub fn page(&self, table: &FieldTable, page: &PageEntry) -> Result<(OwnedBytes, OwnedBytes), Error> {
        let vectors = table.vector_bytes(page);
        let end = page.offset + vectors as u64 + u64::from(page.layout_length);
        Ok(self.read(page.offset..end)?.split(vectors))
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
