//! The same life on three kinds of directory.

use tantivy::Directory;
use tantivy::directory::{MmapDirectory, RamDirectory};
use tantivy::index::IndexSettings;

use crate::oracle::Pair;
use crate::ranged::RangedDirectory;

fn live(directory: impl Fn() -> Box<dyn Directory>) {
    let mut pair = Pair::create(directory(), IndexSettings::default());
    pair.add(0..50);
    pair.commit();
    pair.delete([1, 2]);
    pair.upsert(10..15);
    pair.add(50..80);
    pair.commit();
    pair.check();
    pair.merge();
    pair.check();
    pair.writer().garbage_collect_files().wait().unwrap();
    pair.reopen(directory());
    pair.check();
    pair.add(200..210);
    pair.commit();
    pair.check();
}

#[test]
fn memory_mapped() {
    let folder = tempfile::tempdir().unwrap();
    live(|| Box::new(MmapDirectory::open(folder.path()).unwrap()));
}

#[test]
fn in_memory() {
    let directory = RamDirectory::create();
    live(|| Box::new(directory.clone()));
}

#[test]
fn read_by_ranges() {
    let folder = tempfile::tempdir().unwrap();
    live(|| Box::new(RangedDirectory::open(folder.path())));
}
