//! Add, commit, delete, upsert, merge, rollback, reopen, garbage collection.

use tantivy::directory::{MmapDirectory, RamDirectory};
use tantivy::index::IndexSettings;

use crate::oracle::Pair;

#[test]
fn every_change_is_seen_after_its_commit_and_not_before() {
    let mut pair = Pair::create(RamDirectory::create(), IndexSettings::default());
    pair.check();
    pair.add(0..60);
    pair.check();
    pair.commit();
    pair.check();
    pair.delete([3, 10, 11, 59, 777]);
    pair.check();
    pair.commit();
    pair.check();
    pair.upsert(20..30);
    pair.add(100..140);
    pair.commit();
    pair.check();
    pair.merge();
    pair.check();
    pair.delete(0..1000);
    pair.commit();
    pair.check();
    pair.add(0..3);
    pair.commit();
    pair.check();
}

#[test]
fn rollback_forgets_what_was_not_committed() {
    let mut pair = Pair::create(RamDirectory::create(), IndexSettings::default());
    pair.add(0..20);
    pair.commit();
    pair.add(20..40);
    pair.delete([1]);
    let handle = pair.handle.clone();
    handle.rollback(pair.writer()).unwrap();
    pair.pages = pair.committed.clone();
    pair.check();
    pair.add(50..60);
    pair.commit();
    pair.check();
}

#[test]
fn a_prepared_commit_can_be_aborted_or_finished() {
    let mut pair = Pair::create(RamDirectory::create(), IndexSettings::default());
    pair.add(0..20);
    pair.commit();
    pair.add(20..30);
    pair.writer().prepare_commit().unwrap().abort().unwrap();
    pair.pages = pair.committed.clone();
    pair.check();
    pair.add(30..40);
    pair.writer().prepare_commit().unwrap().commit().unwrap();
    pair.committed = pair.pages.clone();
    pair.check();
}

#[test]
fn ten_merges_and_garbage_collection_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let directory = || MmapDirectory::open(folder.path()).unwrap();
    let mut pair = Pair::create(directory(), IndexSettings::default());
    for round in 0..10 {
        pair.add(round * 10..round * 10 + 10);
        pair.delete([round * 7]);
        pair.commit();
        pair.merge();
        pair.writer().garbage_collect_files().wait().unwrap();
        pair.check();
    }
    let vector_files = std::fs::read_dir(folder.path()).unwrap().filter(|entry| {
        entry.as_ref().unwrap().path().extension().is_some_and(|extension| extension == colqwen_index_field::EXTENSION)
    });
    assert_eq!(vector_files.count(), 1, "merged segments are collected");
    pair.reopen(directory());
    pair.check();
    pair.add(500..510);
    pair.commit();
    pair.check();
}

#[test]
fn an_old_searcher_keeps_its_snapshot_through_merge_and_collection() {
    let folder = tempfile::tempdir().unwrap();
    let mut pair = Pair::create(MmapDirectory::open(folder.path()).unwrap(), IndexSettings::default());
    pair.add(0..30);
    pair.commit();
    pair.add(30..50);
    pair.commit();
    let reader = pair.reader();
    let old = reader.searcher();
    let snapshot = pair.committed.clone();
    pair.delete([4]);
    pair.commit();
    pair.merge();
    pair.writer().garbage_collect_files().wait().unwrap();
    let now = std::mem::replace(&mut pair.committed, snapshot);
    pair.check_searcher(&old);
    pair.committed = now;
    pair.handle.reload(&reader).unwrap();
    pair.check_searcher(&reader.searcher());
}

#[test]
fn a_reader_made_without_the_handle_opens_lazily_or_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let mut pair = Pair::create(MmapDirectory::open(folder.path()).unwrap(), IndexSettings::default());
    pair.add(0..30);
    pair.commit();
    pair.add(30..40);
    pair.commit();
    let plain = pair.index.reader().unwrap();
    let searcher = plain.searcher();
    pair.check_searcher(&searcher);
    pair.merge();
    pair.writer().garbage_collect_files().wait().unwrap();
    let query = colqwen_index_field::QueryVectors::new(pair.random.vectors(crate::oracle::DIM, 2));
    let error = pair.handle.query(pair.fields.tokens, query).search(&searcher).unwrap_err().to_string();
    assert!(error.contains("LateInteraction::reader") && error.contains("reload"), "{error}");
    plain.reload().unwrap();
    pair.check_searcher(&plain.searcher());
}

#[test]
fn merging_in_the_background_never_changes_an_answer() {
    let folder = tempfile::tempdir().unwrap();
    let mut pair = Pair::create(MmapDirectory::open(folder.path()).unwrap(), IndexSettings::default());
    pair.writer().set_merge_policy(Box::new(tantivy::merge_policy::LogMergePolicy::default()));
    for round in 0..25 {
        pair.add(round * 8..round * 8 + 8);
        pair.delete([round * 5]);
        pair.commit();
        pair.check();
    }
    pair.writer.take().unwrap().wait_merging_threads().unwrap();
    pair.check();
}
