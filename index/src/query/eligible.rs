//! Which pages a query may find: live ones that match its filter, known before anything is scored.

use std::collections::BTreeSet;

use roaring::RoaringBitmap;
use tantivy::query::Weight;
use tantivy::schema::Field;
use tantivy::{DocId, DocSet, SegmentReader, TERMINATED};

use super::prepared::PagePlace;
use crate::Error;
use crate::segment::{Block, Coding, FieldTable, SegmentFile};

/// The eligible pages of one segment.
pub(super) struct EligiblePages<'a> {
    pub segment: u32,
    pub file: &'a SegmentFile,
    pub field: Field,
    pub table: &'a FieldTable,
    /// Places in the table; `None` where all pages are eligible.
    places: Option<RoaringBitmap>,
}

impl<'a> EligiblePages<'a> {
    pub fn new(
        segment: u32,
        reader: &SegmentReader,
        file: &'a SegmentFile,
        field: Field,
        table: &'a FieldTable,
        filter: Option<&dyn Weight>,
    ) -> Result<Self, Error> {
        let places = match filter {
            Some(filter) => {
                let mut docs = filter.scorer(reader, 1.0)?;
                let mut places = RoaringBitmap::new();
                while docs.doc() != TERMINATED {
                    if !reader.is_deleted(docs.doc())
                        && let Some(place) = table.place_of(docs.doc())
                    {
                        places.insert(place as u32);
                    }
                    docs.advance();
                }
                Some(places)
            }
            None if reader.has_deletes() => {
                let live = (0u32..).zip(&table.pages).filter(|(_, page)| !reader.is_deleted(page.doc));
                Some(live.map(|(place, _)| place).collect())
            }
            None => None,
        };
        Ok(Self { segment, file, field, table, places })
    }

    /// Those of the given documents that are live and have vectors.
    pub fn among(
        docs: &[DocId],
        segment: u32,
        reader: &SegmentReader,
        file: &'a SegmentFile,
        field: Field,
        table: &'a FieldTable,
    ) -> Self {
        let live = docs.iter().filter(|doc| !reader.is_deleted(**doc));
        let places = live.filter_map(|doc| table.place_of(*doc)).map(|place| place as u32).collect();
        Self { segment, file, field, table, places: Some(places) }
    }

    /// How many they are.
    pub fn len(&self) -> usize {
        self.places.as_ref().map_or(self.table.pages.len(), |places| places.len() as usize)
    }

    /// Their places in the table, ascending.
    pub fn places(&self) -> Box<dyn Iterator<Item = usize> + '_> {
        match &self.places {
            Some(places) => Box::new(places.iter().map(|place| place as usize)),
            None => Box::new(0..self.table.pages.len()),
        }
    }

    /// The places within block `block` of the eligible pages that belong to it; `None` where all are.
    pub fn in_block(&self, block: usize) -> Option<RoaringBitmap> {
        let places = self.places.as_ref()?;
        let of_block = |place: &u32| self.table.pages[*place as usize].coding == Coding::Block(block as u8);
        let within = |place: u32| self.file.block_of(self.field, place as usize).map(|(_, within)| within as u32);
        Some(places.iter().filter(of_block).filter_map(within).collect())
    }

    /// The blocks whose codes full scores of the eligible pages are made of: none where an f16 copy stands beside them.
    pub fn scored_blocks(&self) -> impl Iterator<Item = &'a Block> {
        let coded = self.places().filter(|place| self.table.f16_range(&self.table.pages[*place]).is_none());
        let blocks: BTreeSet<u8> = coded
            .filter_map(|place| match self.table.pages[place].coding {
                Coding::Block(block) => Some(block),
                Coding::Half | Coding::Direct => None,
            })
            .collect();
        let of_field = self.file.blocks(self.field);
        blocks.into_iter().map(move |block| &of_field[usize::from(block)])
    }

    pub fn page(&self, place: usize) -> PagePlace<'a> {
        PagePlace { file: self.file, field: self.field, table: self.table, place }
    }
}
