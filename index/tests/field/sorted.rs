//! Indexes sorted by a field: pages follow their documents through every reordering.

use colqwen_index_field::{LateInteraction, ROW_FIELD};
use tantivy::directory::{MmapDirectory, RamDirectory};
use tantivy::index::{IndexSettings, IndexSortByField};
use tantivy::schema::{Schema, TEXT};
use tantivy::{Index, Order};

use crate::oracle::{Pair, schema};

fn settings(order: Order) -> IndexSettings {
    IndexSettings { sort_by_field: Some(IndexSortByField { field: "id".to_owned(), order }), ..Default::default() }
}

#[test]
fn pages_follow_their_documents() {
    for order in [Order::Asc, Order::Desc] {
        let folder = tempfile::tempdir().unwrap();
        let directory = || MmapDirectory::open(folder.path()).unwrap();
        let mut pair = Pair::create(directory(), settings(order));
        assert!(pair.index.schema().get_field(ROW_FIELD).is_ok());
        let shuffled = |start: u64| (0..40).map(move |at| start + at * 17 % 40);
        pair.add(shuffled(0));
        pair.commit();
        pair.check();
        pair.add(shuffled(20).filter(|id| *id >= 40));
        pair.delete([5, 45]);
        pair.upsert([7, 8, 9]);
        pair.commit();
        pair.check();
        pair.merge();
        pair.check();
        pair.reopen(directory());
        pair.add(shuffled(100));
        pair.commit();
        pair.merge();
        pair.check();
    }
}

#[test]
fn rows_are_unique_across_writers_and_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let directory = || MmapDirectory::open(folder.path()).unwrap();
    let mut pair = Pair::create(directory(), settings(Order::Asc));
    pair.add(0..10);
    pair.commit();
    pair.reopen(directory());
    pair.add(10..20);
    pair.commit();
    pair.writer = None;
    pair.open_writer();
    pair.add(20..30);
    pair.commit();
    let searcher = pair.reader().searcher();
    let mut rows = Vec::new();
    for reader in searcher.segment_readers() {
        let column = reader.fast_fields().u64(ROW_FIELD).unwrap();
        rows.extend(reader.doc_ids_alive().filter_map(|doc| column.first(doc)));
    }
    let with_vectors = pair.committed.values().filter(|page| page.tokens.is_some() || page.small.is_some()).count();
    assert_eq!(rows.len(), with_vectors);
    rows.sort_unstable();
    assert!(rows.windows(2).all(|pair| pair[0] < pair[1]));
}

#[test]
fn a_sorted_index_created_without_rows_is_refused_with_the_fix() {
    let directory = RamDirectory::create();
    Index::builder().schema(schema().0).settings(settings(Order::Asc)).open_or_create(directory.clone()).unwrap();
    let error = LateInteraction::new().open(directory).unwrap_err().to_string();
    assert!(error.contains("\"id\"") && error.contains("LateInteraction::create"), "{error}");
}

#[test]
fn a_row_field_of_another_type_is_refused() {
    let mut builder = Schema::builder();
    for (_, entry) in schema().0.fields() {
        builder.add_field(entry.clone());
    }
    builder.add_text_field(ROW_FIELD, TEXT);
    let error = LateInteraction::new()
        .create(RamDirectory::create(), builder.build(), settings(Order::Asc))
        .unwrap_err()
        .to_string();
    assert!(error.contains("rename"), "{error}");
}
