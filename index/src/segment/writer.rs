//! Writes a segment file page by page.

use std::io::{self, Write};
use std::sync::Arc;

use half::f16;
use tantivy::directory::{TerminatingWrite, WritePtr};

use super::block::BlockBuilder;
use super::table::BlockPlace;
use super::{Coding, FORMAT_VERSION, FieldTable, HEAD_LENGTH, MAGIC, PAGE_ALIGNMENT, PageEntry, checksum};
use crate::Origin;
use crate::codes::{Codebook, CodedPage, Group};
use crate::options::LateField;

/// What is written of a page beside its vectors.
#[derive(Clone, Copy)]
pub(crate) struct PageHead<'a> {
    /// The document, until [`SegmentFileWriter::finish`] gives it its final id.
    pub doc: u32,
    pub tokens: u16,
    pub origin: Origin,
    pub layout: &'a [u8],
}

/// The vectors of a page as they go to the file.
pub(crate) struct EncodedPage<'a> {
    pub coding: Coding,
    /// Codes, and the f16 copy where it is kept.
    pub vectors: &'a [u8],
    /// Where there is a codebook: its groups and what its codes leave out.
    pub groups: &'a [Group],
    pub radius: f32,
    pub coarse_error: f32,
}

impl<'a> EncodedPage<'a> {
    /// Vectors that stay f16.
    pub fn half(vectors: &'a [u8]) -> Self {
        Self { coding: Coding::Half, vectors, groups: &[], radius: 0.0, coarse_error: 0.0 }
    }

    /// Codes.
    pub fn coded(coding: Coding, page: &'a CodedPage) -> Self {
        let CodedPage { record, groups, radius, coarse_error } = page;
        Self { coding, vectors: record, groups, radius: *radius, coarse_error: *coarse_error }
    }
}

/// Streams pages to the file; the page table (32 bytes a page) and the centroids of pages stay in memory.
pub(crate) struct SegmentFileWriter {
    file: WritePtr,
    hasher: blake3::Hasher,
    offset: u64,
    fields: Vec<FieldWriter>,
}

struct FieldWriter {
    table: FieldTable,
    blocks: Vec<BlockBuilder>,
    /// For each page of the table its number in its block, in the order of writing.
    numbers: Vec<u32>,
}

impl SegmentFileWriter {
    pub fn create(file: WritePtr, fields: &[LateField]) -> io::Result<Self> {
        let field = |field| FieldWriter { table: FieldTable::new(field), blocks: Vec::new(), numbers: Vec::new() };
        let fields = fields.iter().map(field).collect();
        let mut writer = Self { file, hasher: blake3::Hasher::new(), offset: 0, fields };
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

    fn align(&mut self) -> io::Result<()> {
        let padding = self.offset.next_multiple_of(PAGE_ALIGNMENT as u64) - self.offset;
        self.put(&[0; PAGE_ALIGNMENT][..padding as usize])
    }

    /// The block of `codebook` in the field at position `at`, added if new.
    pub fn block(&mut self, at: usize, codebook: &Arc<Codebook>) -> io::Result<Coding> {
        let field = &mut self.fields[at];
        let known = field.blocks.iter().position(|block| block.codebook.id() == codebook.id());
        let block = known.unwrap_or_else(|| {
            field.blocks.push(BlockBuilder::new(codebook.clone()));
            field.blocks.len() - 1
        });
        match u8::try_from(block) {
            Ok(block) if block < u8::MAX - 2 => Ok(Coding::Block(block)),
            _ => Err(io::Error::other(format!("field {}: a segment holds at most 253 codebooks", field.table.name))),
        }
    }

    /// Appends a page of the field at position `at`.
    pub fn push(&mut self, at: usize, head: &PageHead<'_>, page: &EncodedPage<'_>) -> io::Result<()> {
        let field = &mut self.fields[at];
        let name = &field.table.name;
        let too_many = io::Error::other(format!("field {name}: a segment holds at most 255 models"));
        let origin = field.table.origin_index(head.origin).ok_or(too_many)?;
        field.numbers.push(match page.coding {
            Coding::Block(block) => field.blocks[usize::from(block)].push(page.groups),
            Coding::Half | Coding::Direct => 0,
        });
        field.table.pages.push(PageEntry {
            doc: head.doc,
            offset: self.offset,
            tokens: head.tokens,
            origin,
            coding: page.coding,
            layout_length: head.layout.len() as u32,
            radius: rounded_up(page.radius),
            coarse_error: rounded_up(page.coarse_error),
        });
        self.put(page.vectors)?;
        self.put(head.layout)?;
        self.align()
    }

    /// Bytes that tables and lists take in memory.
    pub fn table_bytes(&self) -> usize {
        let bytes = |field: &FieldWriter| {
            field.table.pages.capacity() * (size_of::<PageEntry>() + size_of::<u32>())
                + field.blocks.iter().map(BlockBuilder::num_bytes).sum::<usize>()
        };
        self.fields.iter().map(bytes).sum()
    }

    /// Gives each document its final id, then writes blocks, table and tail.
    ///
    /// `final_doc` maps the ids given to [`push`](Self::push); pages keep their place in the file.
    pub fn finish(mut self, final_doc: impl Fn(u32) -> Option<u32>) -> io::Result<()> {
        let mut encoded = (self.fields.len() as u16).to_le_bytes().to_vec();
        for mut field in std::mem::take(&mut self.fields) {
            let mut numbered: Vec<(PageEntry, u32)> = field.table.pages.drain(..).zip(field.numbers).collect();
            for (page, _) in &mut numbered {
                let name = &field.table.name;
                page.doc = final_doc(page.doc).ok_or_else(|| {
                    io::Error::other(format!("field {name}: document {} has no place in the new order", page.doc))
                })?;
            }
            numbered.sort_unstable_by_key(|(page, _)| page.doc);
            for (at, block) in field.blocks.iter().enumerate() {
                let of_block = |page: &PageEntry| page.coding == Coding::Block(at as u8);
                let order: Vec<u32> =
                    numbered.iter().filter(|(page, _)| of_block(page)).map(|(_, number)| *number).collect();
                let bytes = block.encode(&order)?;
                let mut hasher = blake3::Hasher::new();
                hasher.update(&bytes);
                let (offset, length) = (self.offset, bytes.len() as u64);
                field.table.blocks.push(BlockPlace { offset, length, checksum: checksum(&hasher) });
                self.put(&bytes)?;
                self.align()?;
            }
            field.table.pages.extend(numbered.into_iter().map(|(page, _)| page));
            field.table.encode(&mut encoded);
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

/// The f16 that is not below `value`: bounds stay bounds.
fn rounded_up(value: f32) -> f16 {
    let near = f16::from_f32(value);
    if near.to_f32() < value { f16::from_bits(near.to_bits() + 1) } else { near }
}
