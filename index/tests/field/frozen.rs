//! An index that the first release wrote stays readable: `tests/frozen/v1`, never to be written again.

use std::path::Path;

use colqwen_index_field::{FORMAT_VERSION, LateInteraction};
use tantivy::directory::MmapDirectory;
use tantivy::index::IndexSettings;

use crate::oracle::Pair;

/// What the frozen index holds: 20 pages in two segments, one of them deleted, with random vectors of seed 1.
fn write(pair: &mut Pair) {
    pair.add(0..12);
    pair.commit();
    pair.add(12..20);
    pair.delete([5]);
    pair.commit();
}

/// Writes the frozen index of a new format version into the folder named by `LATE_FREEZE_INTO`; does nothing otherwise.
#[test]
fn freeze() {
    let Ok(folder) = std::env::var("LATE_FREEZE_INTO") else { return };
    std::fs::create_dir_all(&folder).unwrap();
    write(&mut Pair::create(MmapDirectory::open(&folder).unwrap(), IndexSettings::default()));
}

#[test]
fn version_1_still_opens_and_gives_the_same_answers() {
    let frozen = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/frozen/v1");
    // Opened from a copy: tantivy writes lock files.
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(frozen).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    let mut pair = Pair::create(tantivy::directory::RamDirectory::create(), IndexSettings::default());
    write(&mut pair);
    let handle = LateInteraction::new();
    let index = handle.open(MmapDirectory::open(copy.path()).unwrap()).unwrap();
    let searcher = handle.reader(&index).unwrap().searcher();
    handle.verify(&searcher).unwrap();
    pair.handle = handle;
    pair.check_searcher(&searcher);
    assert_eq!(FORMAT_VERSION, 1, "a new version needs a frozen index of its own beside this one");
}
