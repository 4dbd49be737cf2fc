//! PDF pages as the model will see them, with the place of every word, rendered once and kept in a folder.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use colqwen_index_ingest::colqwen2::preprocess::smart_resize;
use colqwen_index_ingest::page::text::Word;
use colqwen_index_ingest::page::{Document, PixelBudget};
use colqwen_index_train::random::{Purpose, Stream};
use image::GrayImage;
use image::imageops::FilterType;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Pixels of a page: an A4 or letter page has 2 of them per point.
pub const PAGE_PIXELS: f64 = 2_007_040.0;
/// Smaller pictures of pages are enlarged before they are looked at: type is then as large as the training has it. On set pages
/// of .77 to 1.3 times the budget that brought nDCG@5 from .665 to .699 (`small_checkpoint evaluate`).
pub const LEAST_PIXELS: f64 = 1_900_000.0;
/// Pages to train on are kept larger and smaller by up to this factor: brought to the size that the model sees, they are as sharp
/// and as blurred as pictures that others made.
pub const ZOOM: f64 = 1.3;
/// Fewer words make no page of text.
const FEWEST_WORDS: usize = 50;

/// A rendered page: grey levels row by row, and words in pixels.
pub struct Sheet {
    /// The PDF it is a page of, or the typeface that it is set in.
    pub document: String,
    /// Its picture.
    pub image: GrayImage,
    /// Its words.
    pub words: Vec<Printed>,
}

/// A word in print.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Printed {
    /// Its text.
    pub text: String,
    /// Left, top, right and bottom edge in pixels.
    pub area: [f32; 4],
}

/// One line of the list.
#[derive(Serialize, Deserialize)]
pub struct Entry {
    pub document: String,
    pub page: u32,
    pub file: String,
    pub words: Vec<Printed>,
}

/// The file that lists the pages of a folder.
pub const LIST: &str = "pages.jsonl";

/// Renders up to `per_file` pages of each PDF that the file `list` names, one per line, into `folder`, with an area that is
/// up to `zoom` times as large or small as the model's budget.
pub fn render(list: &Path, per_file: usize, zoom: f64, seed: u64, folder: &Path) -> Result<usize> {
    let files = fs::read_to_string(list).with_context(|| format!("{}", list.display()))?;
    let files: Vec<PathBuf> = files.lines().map(PathBuf::from).collect();
    fs::create_dir_all(folder)?;
    let entries: Vec<Vec<Entry>> = files
        .par_iter()
        .enumerate()
        .map(|(at, file)| {
            file_pages(at, file, (per_file, zoom), seed, folder).unwrap_or_else(|error| {
                eprintln!("{}: {error:#}", file.display());
                Vec::new()
            })
        })
        .collect();
    let mut list = fs::File::create(folder.join(LIST))?;
    for entry in entries.iter().flatten() {
        writeln!(list, "{}", serde_json::to_string(entry)?)?;
    }
    Ok(entries.iter().map(Vec::len).sum())
}

fn file_pages(at: usize, file: &Path, (per_file, zoom): (usize, f64), seed: u64, folder: &Path) -> Result<Vec<Entry>> {
    let document = Document::open(file)?;
    let mut stream = Stream::new(seed, Purpose::Choice, &[at as u64]);
    let mut numbers: Vec<u32> = (1..=document.page_count()).collect();
    stream.shuffle(&mut numbers);
    let mut reader = document.reader();
    let mut entries = Vec::new();
    // Covers and pictures are passed over.
    for number in numbers.into_iter().take(3 * per_file) {
        if entries.len() == per_file {
            break;
        }
        let zoom = zoom.powf(2.0 * stream.unit() - 1.0);
        let pixels = (PAGE_PIXELS * zoom) as u32;
        let budget = PixelBudget { factor: 2, min_pixels: pixels / 2, max_pixels: pixels };
        let Ok(page) = reader.page(number, &budget) else { continue };
        let (width, height) = page.image.dimensions();
        let on_page = |word: &Word| {
            let (w, h) = (width as f32, height as f32);
            let area = [word.bbox.x0 * w, word.bbox.y0 * h, word.bbox.x1 * w, word.bbox.y1 * h];
            Printed { text: word.text.clone(), area }
        };
        // The first part of a broken word shows only a part of its text.
        let whole = |word: &&Word| word.continuation.is_none();
        let words: Vec<Printed> =
            page.text.iter().flat_map(|text| text.words.iter().filter(whole).map(on_page)).collect();
        if words.len() < FEWEST_WORDS {
            continue;
        }
        let name = format!("{at}-{number}.png");
        image::imageops::grayscale(&page.image).save(folder.join(&name)).context("saving a page")?;
        entries.push(Entry { document: file.display().to_string(), page: number, file: name, words });
    }
    Ok(entries)
}

/// A page in the size in which the processor of the checkpoint hands it to the model.
pub fn fitted(sheet: Sheet) -> Result<Sheet> {
    let budget = PixelBudget { factor: 28, min_pixels: LEAST_PIXELS as u32, max_pixels: PAGE_PIXELS as u32 };
    let (width, height) = sheet.image.dimensions();
    let (new_height, new_width) = smart_resize(height, width, &budget).map_err(anyhow::Error::msg)?;
    let (x, y) = (new_width as f32 / width as f32, new_height as f32 / height as f32);
    let image = image::imageops::resize(&sheet.image, new_width, new_height, FilterType::CatmullRom);
    let scaled = |word: Printed| {
        let [x0, y0, x1, y1] = word.area;
        Printed { area: [x * x0, y * y0, x * x1, y * y1], ..word }
    };
    Ok(Sheet { image, words: sheet.words.into_iter().map(scaled).collect(), ..sheet })
}

/// Loads all pages of `folder`.
pub fn load(folder: &Path) -> Result<Vec<Sheet>> {
    let list = fs::read_to_string(folder.join(LIST)).with_context(|| format!("{}", folder.display()))?;
    let entries: Vec<Entry> = list.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    entries
        .into_par_iter()
        .map(|entry| {
            let image = image::open(folder.join(&entry.file))?.into_luma8();
            Ok(Sheet { document: entry.document, image, words: entry.words })
        })
        .collect()
}
