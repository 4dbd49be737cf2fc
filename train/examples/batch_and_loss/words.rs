//! Pictures of printed words, cut out of the sample PDFs.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use colqwen_index_ingest::page::{Document, PixelBudget};
use image::GrayImage;

use crate::page::CELL;

/// Pixels of a page: two per point for A4 and letter.
const PAGE_PIXELS: u32 = 2_007_040;
/// Letters of a word.
const LETTERS: std::ops::RangeInclusive<usize> = 4..=12;
/// Words that learn; the next most frequent ones are seen by nothing but the control.
const LEARNT: usize = 200;
const UNSEEN: usize = 60;

/// A word, and how it looks each time it is printed.
pub struct Word {
    pub text: String,
    pub pictures: Vec<GrayImage>,
}

/// Words to learn, and words for the control.
pub struct Words {
    pub learnt: Vec<Word>,
    pub unseen: Vec<Word>,
}

impl Words {
    /// Those of all PDFs of `folder`.
    pub fn of_pdfs(folder: &Path) -> Result<Self> {
        let entries = std::fs::read_dir(folder).with_context(|| format!("{}", folder.display()))?;
        let mut files: Vec<_> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
        files.retain(|file| file.extension().is_some_and(|extension| extension == "pdf"));
        files.sort();
        let mut found: BTreeMap<String, Vec<GrayImage>> = BTreeMap::new();
        for file in &files {
            collect(file, &mut found).with_context(|| format!("{}", file.display()))?;
        }
        let mut words: Vec<Word> = found.into_iter().map(|(text, pictures)| Word { text, pictures }).collect();
        // Frequent ones first; of equals in the order of the alphabet.
        words.sort_by_key(|word| std::cmp::Reverse(word.pictures.len()));
        let enough = words.len() >= LEARNT + UNSEEN;
        anyhow::ensure!(enough, "{}: {} words, expected {}", folder.display(), words.len(), LEARNT + UNSEEN);
        words.truncate(LEARNT + UNSEEN);
        let unseen = words.split_off(LEARNT);
        Ok(Self { learnt: words, unseen })
    }
}

/// Adds the words of a PDF that fit into a row of cells.
fn collect(file: &Path, found: &mut BTreeMap<String, Vec<GrayImage>>) -> Result<()> {
    let document = Document::open(file)?;
    let budget = PixelBudget { factor: 2, min_pixels: PAGE_PIXELS / 2, max_pixels: PAGE_PIXELS };
    for page in document.reader().pages(budget) {
        let page = page?;
        let image = image::imageops::grayscale(&page.image);
        let (width, height) = (image.width() as f32, image.height() as f32);
        let words = page.text.iter().flat_map(|text| &text.words);
        for word in words.filter(|word| word.continuation.is_none()) {
            let text = word.text.trim_end_matches(['.', ',', ';', ':']);
            let plain = text.bytes().all(|letter| letter.is_ascii_lowercase());
            if !plain || !LETTERS.contains(&text.len()) {
                continue;
            }
            let (left, top) = ((word.bbox.x0 * width).floor() as u32, (word.bbox.y0 * height).floor() as u32);
            let (right, bottom) = ((word.bbox.x1 * width).ceil() as u32, (word.bbox.y1 * height).ceil() as u32);
            let (right, bottom) = (right.min(image.width()), bottom.min(image.height()));
            if bottom > top && right > left && bottom - top <= CELL {
                let picture = image::imageops::crop_imm(&image, left, top, right - left, bottom - top).to_image();
                found.entry(text.to_owned()).or_default().push(picture);
            }
        }
    }
    Ok(())
}
