//! Damaged and unknown segment files are refused by name; nothing panics.

use colqwen_index_field::{EXTENSION, LateInteraction};
use tantivy::directory::MmapDirectory;
use tantivy::index::IndexSettings;

use crate::oracle::Pair;

/// A committed index in a folder, and the path of its only vector file.
fn folder() -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let mut pair = Pair::create(MmapDirectory::open(folder.path()).unwrap(), IndexSettings::default());
    pair.add(0..12);
    pair.commit();
    pair.merge();
    pair.writer().garbage_collect_files().wait().unwrap();
    drop(pair);
    let file = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|extension| extension == EXTENSION))
        .unwrap();
    (folder, file)
}

fn open_error(folder: &std::path::Path) -> Option<String> {
    LateInteraction::new().open(MmapDirectory::open(folder).unwrap()).err().map(|error| error.to_string())
}

#[test]
fn an_unknown_version_is_refused_with_both_versions() {
    let (folder, file) = folder();
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[8] = 99;
    std::fs::write(&file, bytes).unwrap();
    let error = open_error(folder.path()).unwrap();
    assert!(error.contains("version 99") && error.contains("version 1"), "{error}");
}

#[test]
fn damage_to_head_table_and_tail_is_found_at_opening() {
    let (folder, file) = folder();
    let intact = std::fs::read(&file).unwrap();
    // Tantivy's own footer stands behind our tail; its length is the u32 before the last one.
    let segment = file.file_stem().unwrap().to_str().unwrap().to_owned();
    for at in [0, 5] {
        let mut bytes = intact.clone();
        bytes[at] ^= 0xFF;
        std::fs::write(&file, &bytes).unwrap();
        let error = open_error(folder.path()).unwrap();
        assert!(error.contains(&segment), "{error}");
    }
    let magic = intact.windows(8).rposition(|window| window == b"CQWLATE\0").unwrap();
    for back in 1..200 {
        let mut bytes = intact.clone();
        bytes[magic + 8 - back] ^= 0x55;
        std::fs::write(&file, &bytes).unwrap();
        // Only the pages' own checksum may differ unnoticed here; `verify` compares it.
        let handle = LateInteraction::new();
        match handle.open(MmapDirectory::open(folder.path()).unwrap()) {
            Err(error) => assert!(error.to_string().contains(&segment), "{error}"),
            Ok(index) => assert!(handle.verify(&handle.reader(&index).unwrap().searcher()).is_err(), "byte -{back}"),
        }
    }
}

#[test]
fn damage_to_the_vectors_is_found_by_verify() {
    let (folder, file) = folder();
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[100] ^= 0xFF;
    std::fs::write(&file, &bytes).unwrap();
    let handle = LateInteraction::new();
    let index = handle.open(MmapDirectory::open(folder.path()).unwrap()).unwrap();
    let error = handle.verify(&handle.reader(&index).unwrap().searcher()).unwrap_err().to_string();
    assert!(error.contains("damaged"), "{error}");
}
