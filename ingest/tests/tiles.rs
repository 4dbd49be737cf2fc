//! A checkpoint that looks at pages tile by tile.

use std::fs;
use std::path::{Path, PathBuf};

use colqwen_index_ingest::colqwen2::{ColQwen2, LoadOptions};
use colqwen_index_ingest::encoder::Encoder;
use image::{Rgb, RgbImage};
use serde_json::{Value, json};

/// The checkpoint that looks at whole pages.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/oracle/fixtures/tiny")
}

fn uncut() -> ColQwen2 {
    ColQwen2::load(&folder(), &LoadOptions::default()).unwrap()
}

/// The same with another processor option.
fn tiled(dir: &Path, tiles: Value) -> Result<ColQwen2, String> {
    for entry in fs::read_dir(folder()).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), dir.join(entry.file_name())).unwrap();
    }
    let path = dir.join("preprocessor_config.json");
    let mut processor: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    processor["tiles"] = tiles;
    fs::write(&path, processor.to_string()).unwrap();
    ColQwen2::load(dir, &LoadOptions::default()).map_err(|error| error.to_string())
}

fn page() -> RgbImage {
    RgbImage::from_fn(280, 364, |x, y| Rgb([(x * 7) as u8, (y * 5) as u8, (x * y) as u8]))
}

#[test]
fn one_tile_gives_the_patches_of_the_uncut_page() {
    let dir = tempfile::tempdir().unwrap();
    let whole = uncut().encode_pages(&[page()]).unwrap().remove(0);
    let model = tiled(dir.path(), json!({"rows": 13, "columns": 40})).unwrap();
    let tiled = model.encode_pages(&[page()]).unwrap().remove(0);
    let (layout, of_whole) = (tiled.layout.unwrap(), whole.layout.unwrap());
    assert_eq!((layout.grid_rows, layout.grid_cols, layout.first_patch), (13, 10, 0));
    assert_eq!(tiled.vectors.tokens(), 130);
    for token in 0..130 {
        let same = whole.vectors.token(usize::from(of_whole.first_patch) + token);
        let near = tiled.vectors.token(token).iter().zip(same).all(|(one, two)| (one - two).abs() < 1e-5);
        assert!(near, "token {token}");
    }
    // What another processor made is another model's.
    assert_ne!(model.page_fingerprint(), uncut().page_fingerprint());
}

#[test]
fn every_patch_of_a_cut_page_has_a_vector_that_its_tile_alone_decides() {
    let dir = tempfile::tempdir().unwrap();
    let model = tiled(dir.path(), json!({"rows": 4, "columns": 6, "shared_rows": 1, "shared_columns": 2})).unwrap();
    let before = model.encode_pages(&[page()]).unwrap().remove(0);
    assert_eq!(before.vectors.tokens(), 130);
    let hidden = model.hidden_pages(&[page()]).unwrap().remove(0);
    assert_eq!(hidden.tokens(), 130);
    // The lower half of the page changes: rows that no tile shares with it keep their vectors.
    let mut changed = page();
    for y in 7 * 28..364 {
        (0..280).for_each(|x| changed.put_pixel(x, y, Rgb([0, 0, 0])));
    }
    let after = model.encode_pages(&[changed]).unwrap().remove(0);
    let same = |token: usize| before.vectors.token(token) == after.vectors.token(token);
    // Tiles of rows 0 to 3 and 3 to 6 keep rows 0 to 6, those below see nothing but what changed.
    assert!((0..70).all(same), "rows above the change");
    assert!(!(70..130).any(same), "rows that changed");
}

#[test]
fn blank_tiles_have_the_vectors_of_a_blank_tile_alone() {
    let dir = tempfile::tempdir().unwrap();
    let model = tiled(dir.path(), json!({"rows": 4, "columns": 6})).unwrap();
    let blank = |columns: u32, rows: u32| RgbImage::from_pixel(28 * columns, 28 * rows, Rgb([255; 3]));
    // Four tiles: the second has a dot, the others are blank.
    let mut page = blank(12, 8);
    page.put_pixel(28 * 8, 28, Rgb([0; 3]));
    let page = model.encode_pages(&[page]).unwrap().remove(0).vectors;
    let alone = model.encode_pages(&[blank(6, 4)]).unwrap().remove(0).vectors;
    for row in 0..8 {
        for column in 0..12 {
            let (found, expected) = (page.token(row * 12 + column), alone.token(row % 4 * 6 + column % 6));
            let near = found.iter().zip(expected).all(|(one, two)| (one - two).abs() < 1e-5);
            assert_eq!(near, row >= 4 || column < 6, "row {row}, column {column}");
        }
    }
}

#[test]
fn options_that_make_no_tiles_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |tiles: Value| tiled(dir.path(), tiles).err().unwrap();
    let error = refused(json!({"rows": 4, "columns": 6, "shared_rows": 4}));
    assert!(error.contains("shared_rows") && error.contains("less than rows"), "{error}");
    assert!(refused(json!({"rows": 4})).contains("columns"));
}
