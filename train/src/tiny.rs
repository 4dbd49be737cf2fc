//! The model of unit tests: a tiny ColQwen2 with random weights, made by `tests/oracle/make_tiny.py`.

use std::path::Path;

use colqwen_index_ingest::colqwen2::{ColQwen2, LoadOptions};

pub(crate) fn tiny() -> ColQwen2 {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/oracle/fixtures/tiny");
    ColQwen2::load(&folder, &LoadOptions::default()).unwrap()
}
