//! The exchange format: what is written comes back, what others write is read, and what is wrong is named.

mod foreign;
mod frozen;
mod refusals;
mod round_trip;
mod streaming;

use std::path::{Path, PathBuf};

use colqwen_index_field::{MultiVector, PageLayout, PageVectors, UnitLength};

/// A file that is committed beside the tests.
fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// `tokens x 4` unit vectors whose values f16 holds exactly; `seed` makes them differ.
fn vectors(tokens: usize, seed: usize) -> MultiVector {
    let mut values = vec![0.0; tokens * 4];
    for (token, vector) in values.chunks_exact_mut(4).enumerate() {
        vector[(token + seed) % 4] = if (token + seed) % 8 < 4 { 1.0 } else { -1.0 };
    }
    MultiVector::try_new(4, values, UnitLength::Require).unwrap()
}

/// A page of 2 x 3 patches after one token of the prompt.
fn page_with_layout(seed: usize) -> PageVectors {
    let layout = PageLayout { width: 84, height: 56, grid_rows: 2, grid_cols: 3, first_patch: 1, token_patches: None };
    PageVectors::new(vectors(8, seed)).with_layout(layout).unwrap()
}
