//! One file per tantivy segment, holding the vectors of all late-interaction fields.
//!
//! ```text
//! head   magic "CQWLATE\0" | version u32 | zero u32
//! pages  per page: vectors (f16, tokens x dim) | layout | zero bytes up to a multiple of 4
//! table  per field: name (length u16, UTF-8) | field id u32 | dim u32 | precision u8
//!                   | origins: count u8, each tag u8 and 32 bytes
//!                   | pages: count u32, each doc u32, offset u64, tokens u16, origin u8, zero u8, layout length u32
//! tail   checksum of head and pages, 16 bytes | checksum of the table, 16 bytes | table offset u64
//!        | table length u64 | magic "CQWLATE\0"
//! ```
//! Integers are little-endian, checksums are the first 16 bytes of BLAKE3. Pages of a field stand in the table by
//! ascending doc. Any page can be read by its range alone; opening reads head, tail and table.
//!
//! Compatibility: a reader refuses any version but its own, by name. Version 1 stays readable by every later release.

mod file;
mod table;
mod writer;

pub(crate) use file::SegmentFile;
pub(crate) use table::{FieldTable, PageEntry};
pub(crate) use writer::SegmentFileWriter;

/// The extension of the file within a segment.
pub const EXTENSION: &str = "late";

/// The version that this build writes.
pub const FORMAT_VERSION: u32 = 1;

const MAGIC: [u8; 8] = *b"CQWLATE\0";
const HEAD_LENGTH: usize = 16;
const TAIL_LENGTH: usize = 16 + 16 + 8 + 8 + 8;
const CHECKSUM_LENGTH: usize = 16;
/// Page records start at multiples of this, so that mapped f16 values are aligned.
const PAGE_ALIGNMENT: usize = 4;

fn checksum(hasher: &blake3::Hasher) -> [u8; CHECKSUM_LENGTH] {
    let mut short = [0; CHECKSUM_LENGTH];
    short.copy_from_slice(&hasher.finalize().as_bytes()[..CHECKSUM_LENGTH]);
    short
}
