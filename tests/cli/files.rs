//! Files that the tests make: pictures of many small pages, and vectors.

use std::path::Path;

use colqwen_index::ingest::embeddings::{
    PageFileOptions, PageRecord, PageWriter, QueryFileOptions, QueryRecord, QueryWriter,
};
use colqwen_index::{MultiVector, UnitLength};

/// Height and width of the pages of [`tiff`]: the least that the model looks at, so that hundreds are encoded in seconds.
const SIDE: u32 = 56;

/// A TIFF of grey pages, each with a stripe where its number puts it; `seed` makes other pages.
pub fn tiff(pages: u32, seed: u8) -> Vec<u8> {
    tiff_of(&vec![(SIDE, SIDE); pages as usize], seed)
}

/// As [`tiff`], with a page of each of these widths and heights.
pub fn tiff_of(sizes: &[(u32, u32)], seed: u8) -> Vec<u8> {
    let mut bytes = b"II*\0\0\0\0\0".to_vec();
    let mut link = 4;
    for (page, (width, height)) in (0..).zip(sizes.iter().copied()) {
        let pixels = bytes.len() as u32;
        let stripe = page % height;
        bytes.extend((0..width * height).map(|at| if at / width == stripe { 255 } else { seed }));
        let directory = bytes.len() as u32;
        bytes[link..link + 4].copy_from_slice(&directory.to_le_bytes());
        let short = |tag: u16, value: u32| (tag, 3u16, value);
        let long = |tag: u16, value: u32| (tag, 4u16, value);
        let entries = [
            long(256, width),
            long(257, height),
            short(258, 8),
            short(259, 1),
            short(262, 1),
            long(273, pixels),
            short(277, 1),
            long(278, height),
            long(279, width * height),
        ];
        bytes.extend((entries.len() as u16).to_le_bytes());
        for (tag, kind, value) in entries {
            bytes.extend(tag.to_le_bytes());
            bytes.extend(kind.to_le_bytes());
            bytes.extend(1u32.to_le_bytes());
            bytes.extend(value.to_le_bytes());
        }
        link = bytes.len();
        bytes.extend([0; 4]);
    }
    bytes
}

/// Numbers that look random and are the same in every run.
pub struct Numbers(pub u64);

impl Numbers {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    /// `tokens` vectors of length 1.
    pub fn vectors(&mut self, tokens: usize, dim: usize) -> MultiVector {
        let values = (0..tokens * dim).map(|_| self.next() as f32 / (1u64 << 30) as f32 - 1.0).collect();
        MultiVector::try_new(dim, values, UnitLength::Normalize).unwrap()
    }
}

pub fn write_pages(file: &Path, options: PageFileOptions, pages: &[PageRecord]) {
    let mut writer = PageWriter::create(file, options).unwrap();
    pages.iter().for_each(|page| writer.write(page).unwrap());
    writer.finish().unwrap();
}

pub fn write_queries(file: &Path, options: QueryFileOptions, queries: &[QueryRecord]) {
    let mut writer = QueryWriter::create(file, options).unwrap();
    queries.iter().for_each(|query| writer.write(query).unwrap());
    writer.finish().unwrap();
}
