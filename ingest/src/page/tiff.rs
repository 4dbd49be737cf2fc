//! The pages of a TIFF: its chain of image directories.
//!
//! The decoder reads the first directory only, so a later page is shown to it with the header pointing there.

use std::io::{BufRead, Read, Result, Seek, SeekFrom};

/// Tag of a directory that says, among others, whether its picture is a smaller copy of another.
const NEW_SUBFILE_TYPE: u64 = 254;
/// Its bit for a reduced-resolution copy, for example a thumbnail.
const REDUCED: u64 = 1;
/// A chain longer than this is taken for damage.
const MAX_DIRECTORIES: usize = 65_536;

/// The layout of a TIFF's numbers.
#[derive(Clone, Copy)]
struct Layout {
    big_endian: bool,
    big_tiff: bool,
}

impl Layout {
    fn of(bytes: &[u8]) -> Option<Self> {
        let big_endian = *bytes.first()? == b'M';
        let version = if big_endian { *bytes.get(3)? } else { *bytes.get(2)? };
        Some(Self { big_endian, big_tiff: version == 43 })
    }

    fn number(self, bytes: &[u8], at: u64, width: usize) -> Option<u64> {
        let at = usize::try_from(at).ok()?;
        let field = bytes.get(at..at.checked_add(width)?)?;
        let fold = |value, byte: &u8| (value << 8) | u64::from(*byte);
        Some(if self.big_endian { field.iter().fold(0, fold) } else { field.iter().rev().fold(0, fold) })
    }

    /// Where the header keeps the first directory's offset, and its width in bytes.
    fn first_offset(self) -> (u64, usize) {
        if self.big_tiff { (8, 8) } else { (4, 4) }
    }
}

/// The offsets in bytes of the directories with full-resolution pictures, in order.
pub(super) fn picture_offsets(bytes: &[u8]) -> Vec<u64> {
    let mut pictures = Vec::new();
    let Some(layout) = Layout::of(bytes) else { return pictures };
    let (count_width, entry_size) = if layout.big_tiff { (8, 20) } else { (2, 12) };
    let (at, width) = layout.first_offset();
    let mut next = layout.number(bytes, at, width);
    let mut seen = std::collections::HashSet::new();
    while let Some(offset) = next.filter(|&offset| offset != 0) {
        if seen.len() >= MAX_DIRECTORIES || !seen.insert(offset) {
            break;
        }
        let Some(count) = layout.number(bytes, offset, count_width) else { break };
        let entries = offset + count_width as u64;
        let Some(end) = count.checked_mul(entry_size).and_then(|size| entries.checked_add(size)) else { break };
        if end > bytes.len() as u64 {
            break;
        }
        let value_at = if layout.big_tiff { 12 } else { 8 };
        let reduced = (0..count).map(|entry| entries + entry * entry_size).any(|entry| {
            layout.number(bytes, entry, 2) == Some(NEW_SUBFILE_TYPE)
                && layout.number(bytes, entry + value_at, 4).is_some_and(|value| value & REDUCED != 0)
        });
        if !reduced {
            pictures.push(offset);
        }
        next = layout.number(bytes, end, width);
    }
    pictures
}

/// A TIFF whose first directory is the one at a given offset.
pub(super) struct TiffPage<'b> {
    bytes: &'b [u8],
    header: Vec<u8>,
    position: u64,
}

impl<'b> TiffPage<'b> {
    pub(super) fn new(bytes: &'b [u8], directory: u64) -> Self {
        let mut header = Vec::new();
        if let Some(layout) = Layout::of(bytes) {
            let (at, width) = layout.first_offset();
            let at = at as usize;
            header = bytes[..bytes.len().min(at)].to_vec();
            let offset = directory.to_be_bytes();
            let mut field = offset[8 - width..].to_vec();
            if !layout.big_endian {
                field.reverse();
            }
            header.extend(field);
        }
        Self { bytes, header, position: 0 }
    }
}

impl Read for TiffPage<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let length = {
            let available = self.fill_buf()?;
            let length = available.len().min(buffer.len());
            buffer[..length].copy_from_slice(&available[..length]);
            length
        };
        self.consume(length);
        Ok(length)
    }
}

impl BufRead for TiffPage<'_> {
    fn fill_buf(&mut self) -> Result<&[u8]> {
        let position = usize::try_from(self.position).unwrap_or(usize::MAX);
        let source = if position < self.header.len() { &self.header[..] } else { self.bytes };
        Ok(source.get(position..).unwrap_or_default())
    }

    fn consume(&mut self, amount: usize) {
        self.position += amount as u64;
    }
}

impl Seek for TiffPage<'_> {
    fn seek(&mut self, to: SeekFrom) -> Result<u64> {
        let moved = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
            SeekFrom::End(by) => (self.bytes.len() as u64).checked_add_signed(by),
        };
        self.position = moved.ok_or_else(|| std::io::Error::from(std::io::ErrorKind::InvalidInput))?;
        Ok(self.position)
    }
}
