//! The model of unit tests: a tiny ColQwen2 with random weights, made by `tests/oracle/make_tiny.py`.

use std::path::{Path, PathBuf};

use colqwen_index_ingest::colqwen2::{ColQwen2, LoadOptions};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/oracle/fixtures/tiny")
}

pub(crate) fn tiny() -> ColQwen2 {
    ColQwen2::load(&folder(), &LoadOptions::default()).unwrap()
}

/// The same, looking at pages in tiles of 2 x 2 merged patches that share one.
pub(crate) fn tiny_in_tiles() -> ColQwen2 {
    let own = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(folder()).unwrap().map(Result::unwrap) {
        std::fs::copy(entry.path(), own.path().join(entry.file_name())).unwrap();
    }
    let path = own.path().join("preprocessor_config.json");
    let mut processor: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    processor["tiles"] = serde_json::json!({"rows": 2, "columns": 2, "shared_rows": 1, "shared_columns": 1});
    std::fs::write(&path, processor.to_string()).unwrap();
    ColQwen2::load(own.path(), &LoadOptions::default()).unwrap()
}
