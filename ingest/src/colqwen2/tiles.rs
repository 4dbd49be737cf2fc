//! Pages in tiles: a processor option for models whose attention does not reach over a whole page.
//!
//! A page is cut into overlapping tiles of whole merged patches, each an image of its own to the model. Of every merged patch
//! the vector of that tile is kept in which it lies farthest from the cuts, so that the page has one vector per merged patch,
//! row by row, as it would have had uncut; the tokens of the prompt are left out. Attention then costs what the tiles cost,
//! which also makes pages at high resolution affordable to large models.

use std::ops::Range;

use candle_core::Tensor;
use colqwen_index_field::MAX_TOKENS;
use image::RgbImage;

use super::ColQwen2;
use super::fields::Fields;
use super::model::ModelInput;
use super::preprocess::{self, Grid};
use super::tokens::Tokens;
use crate::encoder::EncoderError;

/// Patches (14 pixels a side) that one core takes through a small model at once, so that what lies between two operations stays in
/// its cache: chosen by the example `page_cost`.
const PATCHES_AT_ONCE: usize = 1024;

/// Sizes in merged patches; from `tiles` in the processor's file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tiling {
    /// Rows of a tile.
    pub rows: usize,
    /// Columns of a tile; pages that are not wider are not cut.
    pub columns: usize,
    /// Rows that a tile shares with the next.
    pub shared_rows: usize,
    /// Columns that a tile shares with the next.
    pub shared_columns: usize,
}

/// A tile of a page, in merged patches.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tile {
    /// Rows of the page that the model sees.
    pub rows: Range<usize>,
    /// Columns of the page that the model sees.
    pub columns: Range<usize>,
    /// Rows of the page whose vectors are kept.
    pub kept_rows: Range<usize>,
    /// Columns of the page whose vectors are kept.
    pub kept_columns: Range<usize>,
}

impl Tile {
    /// The merged grid that the model sees.
    pub fn grid(&self) -> Grid {
        Grid { rows: self.rows.len(), columns: self.columns.len() }
    }

    /// Kept vectors: the place in the tile, row by row, and the place on a page of `columns` columns.
    pub fn kept(&self, columns: usize) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.kept_rows.clone().flat_map(move |row| {
            self.kept_columns.clone().map(move |column| {
                let within = (row - self.rows.start) * self.columns.len() + column - self.columns.start;
                (within, row * columns + column)
            })
        })
    }
}

impl Tile {
    /// What each of the tile's merged patches shows, if they all show the same: `width` of the page's `values`, which has
    /// `columns` columns.
    fn uniform<'a>(&self, values: &'a [f32], columns: usize, width: usize) -> Option<&'a [f32]> {
        let patch = |row: usize, column: usize| &values[(row * columns + column) * width..][..width];
        let first = patch(self.rows.start, self.columns.start);
        let mut rows = self.rows.clone();
        rows.all(|row| self.columns.clone().all(|column| patch(row, column) == first)).then_some(first)
    }
}

impl Tiling {
    /// Reads `{"rows": 4, "columns": 16, "shared_rows": 1, "shared_columns": 3}`.
    pub(crate) fn read(fields: &Fields) -> Result<Option<Self>, EncoderError> {
        let Some(tiles) = fields.object("tiles") else { return Ok(None) };
        let side = |name: &str, shared: &str| {
            let size = tiles.count(name, None)?;
            let overlap = if tiles.get(shared).is_some() { tiles.count(shared, None)? } else { 0 };
            if size > MAX_TOKENS {
                return Err(tiles.refuse(name, format!("at most {MAX_TOKENS}, the tokens of a page")));
            }
            if size == 0 || overlap >= size {
                return Err(tiles.refuse(shared, format!("less than {name}, which is {size}")));
            }
            Ok((size, overlap))
        };
        let ((rows, shared_rows), (columns, shared_columns)) =
            (side("rows", "shared_rows")?, side("columns", "shared_columns")?);
        Ok(Some(Self { rows, columns, shared_rows, shared_columns }))
    }

    /// The tiles of a page of `grid` merged patches, row by row.
    pub fn tiles(&self, grid: Grid) -> Vec<Tile> {
        let rows = spans(grid.rows, self.rows, self.shared_rows);
        let columns = spans(grid.columns, self.columns, self.shared_columns);
        let tile = |(rows, kept_rows): &(Range<usize>, Range<usize>), columns: &(Range<usize>, Range<usize>)| Tile {
            rows: rows.clone(),
            kept_rows: kept_rows.clone(),
            columns: columns.0.clone(),
            kept_columns: columns.1.clone(),
        };
        rows.iter().flat_map(|rows| columns.iter().map(move |columns| tile(rows, columns))).collect()
    }
}

/// A page cut into tiles.
pub(super) struct TiledPage {
    /// The values of all merged patches, row by row, those of one together.
    values: Vec<f32>,
    /// Values of a merged patch.
    width: usize,
    merge_size: usize,
    /// The page's merged patches.
    merged: Grid,
    /// The tiles that differ.
    pub shown: Vec<Tile>,
    /// For each merged patch, row by row, its token among those of all shown tiles.
    pub places: Vec<u32>,
    /// The page's patches.
    pub grid: Grid,
}

impl TiledPage {
    /// The model's input for `tiles` of the page, each a sequence of its own.
    pub fn input(&self, tokens: &Tokens, tiles: &[Tile]) -> Result<ModelInput, EncoderError> {
        let (columns, width) = (self.merged.columns, self.width);
        let mut cut = Vec::with_capacity(tiles.iter().map(|tile| tile.grid().patches() * width).sum());
        let (mut sequences, mut grids) = (Vec::new(), Vec::new());
        for tile in tiles {
            for row in tile.rows.clone() {
                let first = row * columns + tile.columns.start;
                cut.extend_from_slice(&self.values[first * width..(first + tile.columns.len()) * width]);
            }
            let seen = tile.grid();
            sequences.push(tokens.tile(seen.patches()));
            grids.push(Grid { rows: seen.rows * self.merge_size, columns: seen.columns * self.merge_size });
        }
        let patch_dim = width / self.merge_size.pow(2);
        Ok(ModelInput::images(sequences, preprocess::pixel_tensor(cut, patch_dim)?, grids))
    }
}

impl ColQwen2 {
    /// Cuts a page. `index` is for the messages.
    pub(super) fn cut_into_tiles(
        &self,
        tiling: Tiling,
        index: usize,
        page: &RgbImage,
    ) -> Result<TiledPage, EncoderError> {
        let vision = &self.model.config().vision;
        let (values, grid) = self.preprocessor.patches(index, page)?;
        let merged = grid.merged(vision.merge_size);
        let width = vision.patch_dim() * vision.merge_size * vision.merge_size;
        let (mut places, mut shown, mut uniform) = (vec![0u32; merged.patches()], Vec::new(), Vec::new());
        let mut rows = 0;
        for tile in tiling.tiles(merged) {
            // Tiles of blank paper are all alike: one of them is looked at.
            let patch = tile.uniform(&values, merged.columns, width);
            let same =
                patch.and_then(|patch| uniform.iter().find(|(grid, of, _)| (*grid, *of) == (tile.grid(), patch)));
            let first = same.map_or(rows, |(.., first)| *first);
            for (within, on_page) in tile.kept(merged.columns) {
                places[on_page] = (first + self.tokens.first_patch() + within) as u32;
            }
            if first == rows {
                uniform.extend(patch.map(|patch| (tile.grid(), patch, rows)));
                rows += self.tokens.tile(tile.grid().patches()).len();
                shown.push(tile);
            }
        }
        drop(uniform);
        Ok(TiledPage { values, width, merge_size: vision.merge_size, merged, shown, places, grid })
    }

    /// The hidden states of a page that is encoded in tiles, one per merged patch, row by row: patches x hidden_size. Also the
    /// page's grid, before merging. `index` is for the messages.
    pub(super) fn tiled_states(
        &self,
        tiling: Tiling,
        index: usize,
        page: &RgbImage,
    ) -> Result<(Tensor, Grid), EncoderError> {
        let page = self.cut_into_tiles(tiling, index, page)?;
        let patches = tiling.rows * tiling.columns * page.merge_size * page.merge_size;
        let at_once = if self.page_per_core { PATCHES_AT_ONCE / patches } else { self.pages_per_batch };
        let states = page.shown.chunks(at_once.max(1));
        let states = states.map(|tiles| self.model.hidden(&page.input(&self.tokens, tiles)?, self.ops));
        let states = Tensor::cat(&states.collect::<Result<Vec<_>, _>>()?, 0)?;
        let places = Tensor::from_vec(page.places, page.merged.patches(), states.device())?;
        Ok((states.index_select(&places, 0)?, page.grid))
    }
}

/// Spans of `size` that cover `total`, and the part of each that is kept: up to the middle of what it shares with the next.
fn spans(total: usize, size: usize, shared: usize) -> Vec<(Range<usize>, Range<usize>)> {
    let mut starts: Vec<usize> = (0..total.saturating_sub(shared).max(1)).step_by(size - shared).collect();
    // The last one is moved back to full size rather than cut short.
    starts.iter_mut().for_each(|start| *start = (*start).min(total.saturating_sub(size)));
    let mut kept = 0;
    let ends = starts.iter().skip(1).copied().map(Some).chain([None]);
    starts
        .iter()
        .zip(ends)
        .map(|(start, next)| {
            let end = (start + size).min(total);
            let first = kept;
            kept = next.map_or(end, |next| (next + end).div_ceil(2));
            (*start..end, first..kept)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_patch_is_kept_once_and_seen_by_its_tile(
            rows in 1usize..40, columns in 1usize..40, height in 1usize..9, width in 1usize..9, shared in 0usize..9,
        ) {
            let tiling =
                Tiling { rows: height, columns: width, shared_rows: shared % height, shared_columns: shared % width };
            let mut seen = vec![0; rows * columns];
            for tile in tiling.tiles(Grid { rows, columns }) {
                prop_assert!(tile.rows.len() == height.min(rows) && tile.columns.len() == width.min(columns));
                prop_assert!(tile.rows.end <= rows && tile.columns.end <= columns);
                for (within, on_page) in tile.kept(columns) {
                    prop_assert!(within < tile.grid().patches());
                    seen[on_page] += 1;
                }
            }
            prop_assert!(seen.iter().all(|times| *times == 1));
        }
    }

    #[test]
    fn tiles_larger_than_any_page_are_refused() {
        let read = |rows: u64| {
            let value = serde_json::json!({"tiles": {"rows": rows, "columns": 16, "shared_rows": 1}});
            Tiling::read(&Fields::new(std::path::Path::new("preprocessor_config.json"), &value))
        };
        assert_eq!(read(65_535).unwrap().unwrap().rows, 65_535);
        let error = read(1 << 31).unwrap_err().to_string();
        assert!(error.contains("tiles.rows: expected at most 65535") && error.contains("2147483648"), "{error}");
    }

    #[test]
    fn kept_parts_meet_in_the_middle_of_what_is_shared() {
        assert_eq!(spans(10, 4, 2), [(0..4, 0..3), (2..6, 3..5), (4..8, 5..7), (6..10, 7..10)]);
        assert_eq!(spans(3, 4, 2), [(0..3, 0..3)]);
        assert_eq!(spans(7, 4, 1), [(0..4, 0..4), (3..7, 4..7)]);
        assert_eq!(spans(8, 4, 1), [(0..4, 0..4), (3..7, 4..6), (4..8, 6..8)]);
    }
}
