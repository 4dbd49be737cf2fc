//! Crops of pages, what stands on them, and queries about them.

use std::collections::HashMap;

use colqwen_index_train::random::Stream;

use crate::pieces::{Pieces, runs};
use crate::render::Sheet;

/// Pixels per side of a patch and of a merged patch, the cell of a page.
pub const PATCH: usize = 14;
pub const CELL: usize = 28;
/// Classes of the reading warm-up: letters, and one for all other marks.
pub const CLASSES: usize = 27;
/// Letters of the shortest run that is asked for.
const SHORT: usize = 3;
/// Pixels by which a word has to reach into a cell to be shown by it.
const REACH: f32 = 7.0;

/// A run of letters of a page.
pub struct Run {
    pub text: String,
    pub pieces: Vec<u32>,
    /// Left, top, right and bottom edge in pixels.
    pub area: [f32; 4],
    /// How readily it is asked for.
    pub weight: f32,
}

/// A page prepared for crops.
pub struct Prepared {
    pub sheet: Sheet,
    pub runs: Vec<Run>,
}

/// How wide letters are, in hundredths of an average one: good enough to say in which patch a letter lies.
fn width(letter: char) -> f32 {
    match letter {
        'i' | 'j' | 'l' | '.' | ',' | '\'' | ':' | ';' | '!' | '|' => 0.55,
        'f' | 't' | 'r' | 'I' | '(' | ')' | '-' => 0.7,
        'm' | 'w' | 'M' | 'W' => 1.55,
        letter if letter.is_uppercase() => 1.3,
        _ => 1.0,
    }
}

/// Where each letter of a word begins and ends, from 0 to 1, and one more place for the end.
fn places(text: &str) -> Vec<f32> {
    let total: f32 = text.chars().map(width).sum();
    let mut at = 0.0;
    std::iter::once(0.0).chain(text.chars().map(|letter| (at += width(letter) / total, at).1)).collect()
}

impl Prepared {
    pub fn new(sheet: Sheet, pieces: &Pieces) -> Self {
        let mut found = Vec::new();
        for word in &sheet.words {
            let places = places(&word.text);
            let [x0, y0, x1, y1] = word.area;
            let x = |place: usize| x0 + (x1 - x0) * places[place];
            for (start, text) in runs(&word.text) {
                let area = [x(start), y0, x(start + text.chars().count()), y1];
                found.push(Run { pieces: pieces.cut(&text), text, area, weight: 0.0 });
            }
        }
        Self { sheet, runs: found }
    }
}

/// Weighs the runs of all pages together: one that is on the pages a hundred times is asked for ten times as often as one that
/// is there once, short ones seldom, and those without letters or pieces never.
pub fn weigh(pages: &mut [Prepared]) {
    let mut counts: HashMap<String, f32> = HashMap::new();
    for run in pages.iter().flat_map(|page| &page.runs) {
        *counts.entry(run.text.clone()).or_default() += 1.0;
    }
    for run in pages.iter_mut().flat_map(|page| &mut page.runs) {
        let letters = run.text.chars().any(|letter| letter.is_ascii_alphabetic());
        let length = match run.text.len() {
            _ if !letters || run.pieces == [0] => 0.0,
            0..SHORT => 0.0,
            SHORT => 0.3,
            _ => 1.0,
        };
        run.weight = length / counts[&run.text].sqrt();
    }
}

/// A part of a page.
pub struct Crop {
    /// Values of the model's patches in their order, patches x (3 x 14 x 14).
    pub pixels: Vec<f32>,
    /// For each patch, in the same order, which classes have a letter's centre there.
    pub letters: Vec<bool>,
    /// Runs that lie within, by page and place there, with the cells that show them.
    pub shown: Vec<(usize, Vec<u32>)>,
    /// Cells that show a run that the edge cuts.
    pub uncertain: Vec<bool>,
    pub page: usize,
}

/// Rows and columns of a crop in cells.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    pub rows: usize,
    pub columns: usize,
}

impl Size {
    pub fn cells(self) -> usize {
        self.rows * self.columns
    }
}

/// A crop around a random run of a random page.
pub fn draw(pages: &[Prepared], size: Size, stream: &mut Stream) -> Crop {
    loop {
        let page = stream.below(pages.len());
        let prepared = &pages[page];
        let (width, height) = prepared.sheet.image.dimensions();
        let run = &prepared.runs[stream.below(prepared.runs.len())];
        let (w, h) = ((size.columns * CELL) as f32, (size.rows * CELL) as f32);
        let [x0, y0, x1, y1] = run.area;
        if x1 - x0 > w || y1 - y0 > h {
            continue;
        }
        let mut start = |low: f32, high: f32, room: f32| {
            let at = low + (high - low) * stream.unit() as f32;
            at.clamp(-(CELL as f32), room.max(0.0)).round() as i64
        };
        let left = start(x1 - w, x0, width as f32 - w);
        let top = start(y1 - h, y0, height as f32 - h);
        return cut(prepared, page, size, left, top, stream);
    }
}

/// The crop whose top left corner is at (`left`, `top`); what lies beyond the page is white.
fn cut(prepared: &Prepared, page: usize, size: Size, left: i64, top: i64, stream: &mut Stream) -> Crop {
    let image = &prepared.sheet.image;
    let (columns, rows) = (2 * size.columns, 2 * size.rows);
    // Ink that is fainter or darker, paper that is not quite white, and the noise of a scan on every fourth crop.
    let (ink, paper) =
        (0.7 + 0.4 * stream.unit() as f32, if stream.below(2) == 0 { 0.0 } else { 0.15 * stream.unit() as f32 });
    let noise = if stream.below(4) > 0 { 0.0 } else { 0.12 * stream.unit() as f32 };
    let mut bits = stream.bits();
    let mut value = |x: i64, y: i64| {
        let inside = x >= 0 && y >= 0 && x < i64::from(image.width()) && y < i64::from(image.height());
        let grey = if inside { image.get_pixel(x as u32, y as u32).0[0] } else { 255 };
        let dark = f32::from(255 - grey) / 100.0 * ink + paper;
        if noise == 0.0 {
            return dark;
        }
        bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        dark + noise * ((bits >> 40) as f32 / (1u64 << 23) as f32 - 1.0)
    };
    let mut pixels = Vec::with_capacity(rows * columns * PATCH * PATCH * 3);
    for (row, column) in patches(size) {
        let first = pixels.len();
        for y in 0..PATCH {
            for x in 0..PATCH {
                pixels.push(value(left + (column * PATCH + x) as i64, top + (row * PATCH + y) as i64));
            }
        }
        // Three equal channels.
        for _ in 0..2 {
            pixels.extend_from_within(first..first + PATCH * PATCH);
        }
    }
    let (w, h) = ((size.columns * CELL) as f32, (size.rows * CELL) as f32);
    let within =
        |area: [f32; 4]| [area[0] - left as f32, area[1] - top as f32, area[2] - left as f32, area[3] - top as f32];
    let (mut shown, mut uncertain) = (Vec::new(), vec![false; size.cells()]);
    for (at, run) in prepared.runs.iter().enumerate() {
        let area @ [x0, y0, x1, y1] = within(run.area);
        if x1 <= 0.0 || y1 <= 0.0 || x0 >= w || y0 >= h {
            continue;
        }
        let cells = cells(area, size);
        // A box is higher than most letters: a little may be cut off.
        if x0 >= -1.0 && x1 <= w + 1.0 && y0 >= -3.0 && y1 <= h + 3.0 {
            shown.push((at, cells));
        } else {
            cells.into_iter().for_each(|cell| uncertain[cell as usize] = true);
        }
    }
    let mut letters = vec![false; rows * columns * CLASSES];
    for word in &prepared.sheet.words {
        let [x0, y0, x1, y1] = within(word.area);
        if x1 <= 0.0 || y1 <= 0.0 || x0 >= w || y0 >= h {
            continue;
        }
        let places = places(&word.text);
        for (letter, place) in word.text.chars().zip(places.windows(2)) {
            let (x, y) = (x0 + (x1 - x0) * (place[0] + place[1]) / 2.0, (y0 + y1) / 2.0);
            if x >= 0.0 && y >= 0.0 && x < w && y < h {
                let lower = letter.to_ascii_lowercase();
                let class = if lower.is_ascii_lowercase() { (lower as u8 - b'a') as usize } else { CLASSES - 1 };
                letters[patch_place(y as usize / PATCH, x as usize / PATCH, size) * CLASSES + class] = true;
            }
        }
    }
    Crop { pixels, letters, shown, uncertain, page }
}

/// Cells that a run reaches into.
fn cells([x0, y0, x1, y1]: [f32; 4], size: Size) -> Vec<u32> {
    let span = |low: f32, high: f32, count: usize| {
        let reach = REACH.min((high - low) / 2.0);
        let cell = |at: f32| (at / CELL as f32).floor().max(0.0) as usize;
        cell(low + reach).min(count - 1)..=cell(high - reach).min(count - 1)
    };
    let columns = span(x0, x1, size.columns);
    span(y0, y1, size.rows)
        .flat_map(|row| columns.clone().map(move |column| (row * size.columns + column) as u32))
        .collect()
}

/// Row and column of each patch in the model's order: cell by cell.
fn patches(size: Size) -> impl Iterator<Item = (usize, usize)> {
    (0..size.rows).flat_map(move |row| {
        (0..size.columns).flat_map(move |column| (0..4).map(move |inner| (2 * row + inner / 2, 2 * column + inner % 2)))
    })
}

fn patch_place(row: usize, column: usize, size: Size) -> usize {
    ((row / 2) * size.columns + column / 2) * 4 + (row % 2) * 2 + column % 2
}

/// A query about a crop.
pub struct Query {
    /// The runs it asks for, places on the crop's page.
    pub runs: Vec<usize>,
    /// The crop among those of the batch.
    pub crop: usize,
}

/// Up to `count` queries of 1 to `longest` different runs of a crop.
pub fn ask(
    pages: &[Prepared],
    crops: &[Crop],
    at: usize,
    count: usize,
    longest: usize,
    stream: &mut Stream,
) -> Vec<Query> {
    let crop = &crops[at];
    let runs = &pages[crop.page].runs;
    let mut total = 0.0;
    let mut sums: Vec<(usize, f32)> = Vec::new();
    for run in crop.shown.iter().map(|(run, _)| *run).filter(|run| runs[*run].weight > 0.0) {
        total += runs[run].weight;
        sums.push((run, total));
    }
    if sums.is_empty() {
        return Vec::new();
    }
    (0..count)
        .map(|_| {
            let mut chosen: Vec<usize> = Vec::new();
            for _ in 0..1 + stream.below(longest) {
                let place = stream.unit() as f32 * total;
                let (run, _) = sums[sums.partition_point(|(_, sum)| *sum <= place).min(sums.len() - 1)];
                if chosen.iter().all(|other| runs[*other].text != runs[run].text) {
                    chosen.push(run);
                }
            }
            Query { runs: chosen, crop: at }
        })
        .collect()
}
