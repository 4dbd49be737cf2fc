//! The pages of a segment that share a codebook: which centroids each page has, and which pages each centroid.

use std::sync::Arc;

use roaring::RoaringBitmap;
use tantivy::directory::OwnedBytes;

use super::PageEntry;
use crate::bytes::{ByteReader, Malformed};
use crate::codes::{Codebook, Group};

/// A codebook and the lists of its pages. Pages are named by their place in the block.
#[derive(Debug)]
pub(crate) struct Block {
    pub codebook: Arc<Codebook>,
    /// The place of each page in the field's table.
    pub pages: Vec<u32>,
    starts: Vec<u32>,
    centroids: OwnedBytes,
    more: OwnedBytes,
    lists: Vec<RoaringBitmap>,
    /// The longest residual of any page.
    pub radius: f32,
}

impl Block {
    /// The centroid of each group of a page, u16 little-endian.
    pub fn group_centroids(&self, page: usize) -> &[[u8; 2]] {
        &self.centroids.as_chunks().0[self.starts[page] as usize..self.starts[page + 1] as usize]
    }

    /// The groups of a page.
    pub fn groups(&self, page: usize) -> impl Iterator<Item = Group> + '_ {
        let more = &self.more[self.starts[page] as usize..self.starts[page + 1] as usize];
        let groups = self.group_centroids(page).iter().zip(more);
        groups.map(|(centroid, more)| Group { centroid: u16::from_le_bytes(*centroid), more: *more })
    }

    /// Groups of all pages.
    pub fn num_groups(&self) -> u64 {
        self.more.len() as u64
    }

    /// The pages that have each centroid.
    pub fn lists(&self) -> &[RoaringBitmap] {
        &self.lists
    }

    /// Bytes of the group lists and of the inverted lists in the file.
    pub fn list_bytes(&self) -> (u64, u64) {
        let groups = self.pages.len() * 8 + self.centroids.len() + self.more.len();
        let inverted = self.lists.iter().map(|list| 4 + list.serialized_size() as u64).sum();
        (groups as u64, inverted)
    }

    /// Reads a block; `pages` are those of the table that name it, `entry` gives them.
    pub fn decode(mut bytes: OwnedBytes, pages: Vec<u32>, entry: impl Fn(u32) -> PageEntry) -> Result<Self, Malformed> {
        let codebook = Arc::new(Codebook::decode(&mut bytes)?);
        let mut reader = ByteReader(bytes.as_slice());
        if reader.u32()? as usize != pages.len() {
            return Err(Malformed);
        }
        let starts = (0..=pages.len()).map(|_| reader.u32()).collect::<Result<Vec<_>, _>>()?;
        if starts[0] != 0 || !starts.is_sorted() {
            return Err(Malformed);
        }
        let groups = starts[pages.len()] as usize;
        let at = bytes.len() - reader.0.len();
        let lists_at = at + 3 * groups;
        if lists_at > bytes.len() {
            return Err(Malformed);
        }
        let (centroids, more) = (bytes.slice(at..at + 2 * groups), bytes.slice(at + 2 * groups..lists_at));
        let mut reader = ByteReader(&bytes[lists_at..]);
        let list = |reader: &mut ByteReader<'_>| -> Result<RoaringBitmap, Malformed> {
            let length = reader.u32()? as usize;
            let list = RoaringBitmap::deserialize_from(reader.take(length)?).map_err(|_| Malformed)?;
            if list.max().is_some_and(|page| page as usize >= pages.len()) { Err(Malformed) } else { Ok(list) }
        };
        let lists = (0..codebook.len()).map(|_| list(&mut reader)).collect::<Result<Vec<_>, _>>()?;
        let radius = pages.iter().map(|page| entry(*page).radius.to_f32()).fold(0.0, f32::max);
        let block = Self { codebook, pages, starts, centroids, more, lists, radius };
        for (place, page) in block.pages.iter().enumerate() {
            let mut count = 0;
            for group in block.groups(place) {
                if usize::from(group.centroid) >= block.codebook.len() {
                    return Err(Malformed);
                }
                count += u32::from(group.more) + 1;
            }
            if count != u32::from(entry(*page).tokens) {
                return Err(Malformed);
            }
        }
        Ok(block)
    }
}

/// Collects the lists of a block while its pages are written.
pub(super) struct BlockBuilder {
    pub codebook: Arc<Codebook>,
    groups: Vec<Group>,
    /// Where the groups of each page begin, in the order of writing.
    starts: Vec<usize>,
}

impl BlockBuilder {
    pub fn new(codebook: Arc<Codebook>) -> Self {
        Self { codebook, groups: Vec::new(), starts: Vec::new() }
    }

    /// Adds a page; returns its number in the order of writing.
    pub fn push(&mut self, groups: &[Group]) -> u32 {
        self.starts.push(self.groups.len());
        self.groups.extend_from_slice(groups);
        self.starts.len() as u32 - 1
    }

    pub fn num_bytes(&self) -> usize {
        self.groups.capacity() * size_of::<Group>() + self.starts.capacity() * size_of::<usize>()
    }

    /// The block with its pages in the order of the table: `order` lists their numbers.
    pub fn encode(&self, order: &[u32]) -> std::io::Result<Vec<u8>> {
        let groups_of = |page: u32| {
            let (start, next) = (self.starts[page as usize], self.starts.get(page as usize + 1));
            &self.groups[start..next.copied().unwrap_or(self.groups.len())]
        };
        let mut lists = vec![RoaringBitmap::new(); self.codebook.len()];
        let mut bytes = Vec::with_capacity(self.codebook.num_bytes() + self.groups.len() * 6);
        self.codebook.encode(&mut bytes);
        bytes.extend_from_slice(&(order.len() as u32).to_le_bytes());
        let mut end = 0u32;
        bytes.extend_from_slice(&end.to_le_bytes());
        for (place, page) in (0u32..).zip(order) {
            end += groups_of(*page).len() as u32;
            bytes.extend_from_slice(&end.to_le_bytes());
            for group in groups_of(*page) {
                lists[usize::from(group.centroid)].insert(place);
            }
        }
        for page in order {
            groups_of(*page).iter().for_each(|group| bytes.extend_from_slice(&group.centroid.to_le_bytes()));
        }
        for page in order {
            bytes.extend(groups_of(*page).iter().map(|group| group.more));
        }
        for list in &lists {
            bytes.extend_from_slice(&(list.serialized_size() as u32).to_le_bytes());
            list.serialize_into(&mut bytes)?;
        }
        Ok(bytes)
    }
}
