//! Writes a segment file page by page, as documents come.

use std::io::{self, Write};

use tantivy::directory::{TerminatingWrite, WritePtr};

use super::{FORMAT_VERSION, FieldTable, HEAD_LENGTH, MAGIC, PAGE_ALIGNMENT, PageEntry, checksum};
use crate::Origin;
use crate::options::LateField;

/// Streams pages to the file; only the page table (20 bytes a page) stays in memory.
pub(crate) struct SegmentFileWriter {
    file: WritePtr,
    hasher: blake3::Hasher,
    offset: u64,
    fields: Vec<FieldTable>,
}

impl SegmentFileWriter {
    pub fn create(file: WritePtr, fields: &[LateField]) -> io::Result<Self> {
        let mut writer = Self {
            file,
            hasher: blake3::Hasher::new(),
            offset: 0,
            fields: fields.iter().map(FieldTable::new).collect(),
        };
        let mut head = [0; HEAD_LENGTH];
        head[..8].copy_from_slice(&MAGIC);
        head[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        writer.put(&head)?;
        Ok(writer)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.hasher.update(bytes);
        self.offset += bytes.len() as u64;
        Ok(())
    }

    /// Appends a page of the field at position `at`: its vectors, then its layout.
    pub fn push(&mut self, at: usize, doc: u32, origin: Origin, vectors: &[u8], layout: &[u8]) -> io::Result<()> {
        let table = &mut self.fields[at];
        let origin = table
            .origin_index(origin)
            .ok_or_else(|| io::Error::other(format!("field {}: a segment holds at most 255 models", table.name)))?;
        let tokens = (vectors.len() / table.precision.bytes_per_token(table.dim)) as u16;
        let layout_length = layout.len() as u32;
        table.pages.push(PageEntry { doc, offset: self.offset, tokens, origin, layout_length });
        self.put(vectors)?;
        self.put(layout)?;
        let padding = self.offset.next_multiple_of(PAGE_ALIGNMENT as u64) - self.offset;
        self.put(&[0; PAGE_ALIGNMENT][..padding as usize])
    }

    /// Bytes that the page table takes in memory.
    pub fn table_bytes(&self) -> usize {
        self.fields.iter().map(|table| table.pages.capacity() * size_of::<PageEntry>()).sum()
    }

    /// Gives each document its final id, then writes table and tail.
    ///
    /// `final_doc` maps the ids given to [`push`](Self::push); pages keep their place in the file.
    pub fn finish(mut self, final_doc: impl Fn(u32) -> Option<u32>) -> io::Result<()> {
        let mut encoded = (self.fields.len() as u16).to_le_bytes().to_vec();
        for table in &mut self.fields {
            for page in &mut table.pages {
                page.doc = final_doc(page.doc).ok_or_else(|| {
                    io::Error::other(format!(
                        "field {}: document {} has no place in the new order",
                        table.name, page.doc
                    ))
                })?;
            }
            table.pages.sort_unstable_by_key(|page| page.doc);
            table.encode(&mut encoded);
        }
        let mut table_hasher = blake3::Hasher::new();
        table_hasher.update(&encoded);
        let mut tail = checksum(&self.hasher).to_vec();
        tail.extend_from_slice(&checksum(&table_hasher));
        tail.extend_from_slice(&self.offset.to_le_bytes());
        tail.extend_from_slice(&(encoded.len() as u64).to_le_bytes());
        tail.extend_from_slice(&MAGIC);
        self.file.write_all(&encoded)?;
        self.file.write_all(&tail)?;
        self.file.terminate()
    }
}
