//! One file per tantivy segment, holding the vectors of all late-interaction fields.
//!
//! ```text
//! head   magic "CQWLATE\0" | version u32 | zero u32
//! pages  per page: vectors | f16 copy, tokens x dim, where kept | layout | zero bytes up to a multiple of 4
//!        vectors by coding: half   f16, tokens x dim
//!                           direct scales f16 | levels u8, tokens x width
//!                           coded  order, packed | scales f16 | first, second, third bit planes (tokens by centroid)
//! blocks per codebook: codebook | pages u32 | first group of each page and the end, u32 | centroid of each group u16
//!        | tokens of each group less one, u8 | per centroid: length u32 and the pages that have it, roaring
//! table  per field: name (length u16, UTF-8) | field id u32 | dim u32 | bits u8 | f16 kept u8
//!                   | origins: count u8, each tag u8 and 32 bytes
//!                   | blocks: count u8, each offset u64, length u64, checksum 16 bytes
//!                   | pages: count u32, each doc u32, offset u64, tokens u16, origin u8, coding u8, layout length u32,
//!                     radius f16, coarse error f16
//! tail   checksum of head, pages and blocks, 16 bytes | checksum of the table, 16 bytes | table offset u64
//!        | table length u64 | magic "CQWLATE\0"
//! ```
//! Integers are little-endian, checksums are the first 16 bytes of BLAKE3. Pages of a field stand in the table by
//! ascending doc, and so they do in the blocks. Coding is 0 for half, 1 for direct, 2 + n for pages of block n. Any page can
//! be read by its range alone; opening reads head, blocks, table and tail.
//!
//! Compatibility: version 1 had no blocks, knew half alone, and had in the table no f16 mark and per page a zero byte in
//! place of the coding and no radius and error. It stays readable; any other version is refused by name.

mod block;
mod file;
mod table;
mod writer;

pub(crate) use block::Block;
pub(crate) use file::SegmentFile;
pub(crate) use table::{Coding, FieldTable, PageEntry};
pub(crate) use writer::{EncodedPage, PageHead, SegmentFileWriter};

/// The extension of the file within a segment.
pub const EXTENSION: &str = "late";

/// The version that this build writes.
pub const FORMAT_VERSION: u32 = 2;

/// The oldest version that this build reads.
const OLDEST_VERSION: u32 = 1;

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
