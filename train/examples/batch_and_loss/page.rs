//! Small pages of printed words, and queries about them.

use colqwen_index_train::random::Stream;
use colqwen_index_train::scores::{Cell, Targets};
use image::{GrayImage, RgbImage};

use crate::words::Word;

/// Pixels per side of a patch, one token of a page.
pub const CELL: u32 = 28;
/// Cells of a page.
pub const ROWS: u32 = 3;
pub const COLUMNS: u32 = 5;
/// Words that a page is to have, as far as there is room.
const FEWEST: usize = 4;
const MOST: usize = 7;
/// Words of a query.
const LONGEST_QUERY: usize = 3;

/// A page, and which words it shows.
pub struct Page {
    pub image: RgbImage,
    words: Vec<usize>,
}

impl Page {
    /// Random words of `words`, each once, each at the left edge of a cell.
    pub fn draw(words: &[Word], stream: &mut Stream) -> Self {
        let mut paper = GrayImage::from_pixel(COLUMNS * CELL, ROWS * CELL, image::Luma([255]));
        let wanted = FEWEST + stream.below(MOST - FEWEST + 1);
        let mut used = [0; ROWS as usize];
        let mut shown = Vec::new();
        // Words that find no room are passed over.
        for _ in 0..3 * wanted {
            let word = stream.below(words.len());
            let picture = &words[word].pictures[stream.below(words[word].pictures.len())];
            let cells = picture.width().div_ceil(CELL);
            let first = stream.below(used.len());
            let room = |row: &usize| used[*row] + cells <= COLUMNS;
            let row = (0..used.len()).map(|row| (first + row) % used.len()).find(room);
            let Some(row) = row.filter(|_| shown.len() < wanted && !shown.contains(&word)) else { continue };
            let (x, y) = (used[row] * CELL, row as u32 * CELL + (CELL - picture.height()) / 2);
            image::imageops::replace(&mut paper, picture, x.into(), y.into());
            used[row] += cells;
            shown.push(word);
        }
        Self { image: image::DynamicImage::ImageLuma8(paper).into_rgb8(), words: shown }
    }

    /// Whether the page shows all words of a query.
    pub fn answers(&self, query: &[usize]) -> bool {
        query.iter().all(|word| self.words.contains(word))
    }

    /// One to three of its words, in the order in which they were put there.
    pub fn ask(&self, stream: &mut Stream) -> Vec<usize> {
        let mut places: Vec<usize> = (0..self.words.len()).collect();
        stream.shuffle(&mut places);
        places.truncate(1 + stream.below(LONGEST_QUERY));
        places.sort_unstable();
        places.into_iter().map(|place| self.words[place]).collect()
    }
}

/// A query as text.
pub fn text(query: &[usize], words: &[Word]) -> String {
    query.iter().map(|word| words[*word].text.as_str()).collect::<Vec<_>>().join(" ")
}

/// Pages, and a query about each.
pub struct Collection {
    pub pages: Vec<Page>,
    pub queries: Vec<Vec<usize>>,
}

impl Collection {
    pub fn draw(size: usize, words: &[Word], stream: &mut Stream) -> Self {
        let pages: Vec<Page> = (0..size).map(|_| Page::draw(words, stream)).collect();
        let queries = pages.iter().map(|page| page.ask(stream)).collect();
        Self { pages, queries }
    }

    /// Each query wants its own page; others that happen to answer it are left out.
    pub fn targets(&self) -> Result<Targets, colqwen_index_train::Error> {
        let cell = |query: usize, page: usize| {
            if query == page {
                Cell::Positive
            } else if self.pages[page].answers(&self.queries[query]) {
                Cell::Ignored
            } else {
                Cell::Negative
            }
        };
        let size = self.pages.len();
        Targets::new(size, (0..size * size).map(|at| cell(at / size, at % size)).collect())
    }
}
