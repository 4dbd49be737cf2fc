//! Which pages a query may find: live ones that match its filter, known before anything is scored.

use roaring::RoaringBitmap;
use tantivy::query::Weight;
use tantivy::schema::Field;
use tantivy::{DocSet, SegmentReader, TERMINATED};

use super::prepared::PagePlace;
use crate::Error;
use crate::segment::{Coding, FieldTable, SegmentFile};

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

    pub fn page(&self, place: usize) -> PagePlace<'a> {
        PagePlace { file: self.file, field: self.field, table: self.table, place }
    }
}
