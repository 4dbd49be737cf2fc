//! Pages that look almost alike: none of them is a wrong answer where another one is a right one.
//!
//! A page is compared by its merged patches, as the model receives them: two pages of one size are near-duplicates if of all
//! patches that differ from the paper (the content that most patches of the page have) at least 95 % are the same at the same
//! place, in both. So a form with another date in it counts as the same page; a shifted or scanned copy does not.

use std::collections::{BTreeSet, HashMap};

use colqwen_index_ingest::colqwen2::ColQwen2;
use colqwen_index_train::data::PageId;
use image::RgbImage;

use crate::Error;

/// Share of equal patches from which on two pages count as one.
const ALIKE: f64 = 0.95;
/// Hashes that are compared first. Pages that are alike have nearly all of their smallest hashes in common.
const SKETCH: usize = 8;

/// What a page shows: a number for each patch that is not paper, made of its place and content.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Look {
    patches: usize,
    inked: BTreeSet<u64>,
}

impl Look {
    /// The look of a page to `model`, whole also where it is looked at in tiles.
    pub fn of(page: &RgbImage, model: &ColQwen2) -> Result<Self, Error> {
        let (values, _) = model.preprocessor().patches(0, page)?;
        let vision = &model.model().config().vision;
        let merged = vision.patch_dim() * vision.merge_size * vision.merge_size;
        let hash = |patch: &[f32]| {
            let bytes: Vec<u8> = patch.iter().flat_map(|value| value.to_le_bytes()).collect();
            number(&bytes)
        };
        Ok(Self::new(&values.chunks_exact(merged).map(hash).collect::<Vec<u64>>()))
    }

    fn new(contents: &[u64]) -> Self {
        let mut counts: HashMap<u64, usize> = HashMap::new();
        contents.iter().for_each(|content| *counts.entry(*content).or_default() += 1);
        // Of equally common contents the smallest number, so that it depends on nothing else.
        let paper = counts.into_iter().max_by_key(|(content, count)| (*count, u64::MAX - content));
        let paper = paper.filter(|(_, count)| *count > 1).map(|(content, _)| content);
        let place = |(at, content): (usize, &u64)| number(&[(at as u64).to_le_bytes(), content.to_le_bytes()].concat());
        let inked = contents.iter().enumerate().filter(|(_, content)| Some(**content) != paper).map(place).collect();
        Self { patches: contents.len(), inked }
    }

    fn sketch(&self) -> Vec<u64> {
        self.inked.iter().copied().take(SKETCH).collect()
    }

    fn is_like(&self, other: &Self) -> bool {
        let common = self.inked.intersection(&other.inked).count();
        let all = self.inked.len() + other.inked.len() - common;
        self.patches == other.patches && common as f64 >= ALIKE * all as f64
    }
}

fn number(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(*blake3::hash(bytes).as_bytes().first_chunk().unwrap_or(&[0; 8]))
}

/// Pages that look almost alike, each with the number of its kind; pages that are like no other are left out.
pub(super) fn near_duplicates(looks: &[(PageId, Look)]) -> HashMap<PageId, u64> {
    let sketches: Vec<Vec<u64>> = looks.iter().map(|(_, look)| look.sketch()).collect();
    let mut kinds: Vec<usize> = (0..looks.len()).collect();
    for one in 0..looks.len() {
        for other in 0..one {
            let shared = sketches[one].iter().filter(|hash| sketches[other].contains(hash)).count();
            let candidates = shared * 2 >= sketches[one].len().max(sketches[other].len());
            if candidates && kinds[one] != kinds[other] && looks[one].1.is_like(&looks[other].1) {
                let (from, to) = (kinds[one], kinds[other]);
                kinds[..=one].iter_mut().filter(|kind| **kind == from).for_each(|kind| *kind = to);
            }
        }
    }
    let mut counts: HashMap<usize, usize> = HashMap::new();
    kinds.iter().for_each(|kind| *counts.entry(*kind).or_default() += 1);
    let repeated = looks.iter().zip(&kinds).filter(|(_, kind)| counts[kind] > 1);
    repeated.map(|((page, _), kind)| (page.clone(), *kind as u64)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_with_another_word_or_two_are_one_page() {
        // Forty patches with ink on sixty of paper; `changed` of them differ.
        let page = |name: &str, seed: u64, changed: u64| {
            let ink = (0..40).map(|at| if at < changed { 7_000 + seed * 100 + at } else { 500 + at });
            (PageId::new(name, 1), Look::new(&ink.chain([9; 60]).collect::<Vec<u64>>()))
        };
        let looks = [
            page("form", 1, 0),
            page("same form", 2, 0),
            page("form with another date", 3, 1),
            page("other text", 4, 40),
            page("half the text", 5, 20),
            (PageId::new("blank", 1), Look::new(&[9; 100])),
            (PageId::new("blank, too", 1), Look::new(&[3; 100])),
            (PageId::new("small and blank", 1), Look::new(&[9; 50])),
        ];
        let found = near_duplicates(&looks);
        let kind = |name: &str| found.get(&PageId::new(name, 1));
        assert!(kind("form").is_some() && kind("form") == kind("same form"));
        assert_eq!(kind("form"), kind("form with another date"));
        assert!(kind("blank").is_some() && kind("blank") == kind("blank, too") && kind("blank") != kind("form"));
        assert_eq!([kind("other text"), kind("half the text"), kind("small and blank")], [None; 3]);
    }
}
