//! Vectors know their model, and values that cannot be searched are refused before tantivy sees them.

use colqwen_index_field::{Error, Fingerprint, LateInteraction, Origin, PageVectors, QueryVectors};
use tantivy::directory::{MmapDirectory, RamDirectory};
use tantivy::index::IndexSettings;
use tantivy::schema::{Schema, TEXT};
use tantivy::{Index, TantivyDocument, doc};

use crate::oracle::{DIM, Pair, schema};

fn model(byte: u8) -> Origin {
    Origin::Model(Fingerprint::from_bytes([byte; 32]))
}

#[test]
fn pages_of_another_model_are_refused_before_tantivy_sees_them() {
    let folder = tempfile::tempdir().unwrap();
    let directory = || MmapDirectory::open(folder.path()).unwrap();
    let mut pair = Pair::create(directory(), IndexSettings::default());
    pair.origin = model(1);
    pair.add(0..10);
    pair.commit();
    for reopened in [false, true] {
        if reopened {
            pair.reopen(directory());
        }
        assert_eq!(pair.handle.model(pair.fields.tokens).unwrap(), model(1).fingerprint());
        let other = PageVectors::new(pair.random.vectors(DIM, 3)).with_origin(model(2));
        let mut document = TantivyDocument::new();
        let error = pair.handle.add(&mut document, pair.fields.tokens, &other).unwrap_err();
        assert!(matches!(error, Error::OtherPageModel { .. }));
        let message = error.to_string();
        assert!(message.contains(&"01".repeat(32)) && message.contains(&"02".repeat(32)), "{message}");
        assert_eq!(document.field_values().count(), 0, "nothing was added");
    }
    // The writer is unharmed.
    pair.add(10..20);
    pair.commit();
    pair.check();
}

#[test]
fn deleted_pages_do_not_choose_the_model_of_a_reopened_index() {
    let folder = tempfile::tempdir().unwrap();
    let directory = || MmapDirectory::open(folder.path()).unwrap();
    let mut pair = Pair::create(directory(), IndexSettings::default());
    pair.origin = model(1);
    pair.add([0, 1]);
    // A page without vectors keeps the segment alive.
    pair.add([3]);
    pair.commit();
    pair.delete([0, 1]);
    pair.commit();
    pair.reopen(directory());
    assert_eq!(pair.handle.model(pair.fields.tokens).unwrap(), None);
    pair.origin = model(2);
    pair.add([4]);
    pair.commit();
    pair.check();
    let vectors = QueryVectors::new(pair.random.vectors(DIM, 2)).with_origin(model(2));
    assert_eq!(pair.handle.query(pair.fields.tokens, vectors).search(&pair.reader().searcher()).unwrap().len(), 1);
}

#[test]
fn rolling_back_the_first_pages_frees_the_choice_of_model() {
    let mut pair = Pair::create(RamDirectory::create(), IndexSettings::default());
    pair.origin = model(1);
    pair.add(0..4);
    let handle = pair.handle.clone();
    handle.rollback(pair.writer()).unwrap();
    pair.pages.clear();
    pair.origin = model(2);
    pair.add(0..4);
    pair.commit();
    pair.check();
}

#[test]
fn queries_for_another_model_are_refused_naming_both() {
    let mut pair = Pair::create(RamDirectory::create(), IndexSettings::default());
    pair.origin = model(1);
    pair.add(0..10);
    pair.commit();
    let searcher = pair.reader().searcher();
    let mut search = |origin: Origin| {
        let vectors = QueryVectors::new(pair.random.vectors(DIM, 2)).with_origin(origin);
        pair.handle.query(pair.fields.tokens, vectors).search(&searcher)
    };
    assert_eq!(search(model(1)).unwrap().len(), 9);
    assert_eq!(search(Origin::Unknown).unwrap().len(), 9);
    let error = search(model(2)).unwrap_err().to_string();
    assert!(error.contains(&"01".repeat(32)) && error.contains(&"02".repeat(32)), "{error}");
}

#[test]
fn unknown_pages_mix_with_known_ones_and_are_reported() {
    let mut pair = Pair::create(RamDirectory::create(), IndexSettings::default());
    pair.add(0..5);
    pair.commit();
    pair.origin = model(1);
    pair.add(5..10);
    pair.commit();
    pair.merge();
    pair.check();
    let summary = &pair.handle.segments(&pair.reader().searcher()).unwrap()[0];
    assert_eq!(summary.fields[0].field, "tokens");
    // Tantivy merges segments in no particular order, and models are listed as they come.
    let origins = &summary.fields[0].origins;
    assert_eq!(origins.len(), 2);
    assert!(origins.contains(&Origin::Unknown) && origins.contains(&model(1)));
    assert_eq!((summary.fields[0].pages, summary.live_docs), (9, 10));
    pair.handle.verify(&pair.reader().searcher()).unwrap();
}

#[test]
fn misuse_is_refused_by_name() {
    let mut pair = Pair::create(RamDirectory::create(), IndexSettings::default());
    let (tokens, small, id) = (pair.fields.tokens, pair.fields.small, pair.fields.id);
    let page = PageVectors::new(pair.random.vectors(DIM, 2));
    let mut document = TantivyDocument::new();
    let mut refuse = |field| pair.handle.add(&mut document, field, &page).unwrap_err().to_string();
    assert!(refuse(small).contains("\"small\" holds vectors of dim 5, received dim 24"));
    assert!(refuse(id).contains("\"id\" is not a late-interaction field"));
    pair.handle.add(&mut document, tokens, &page).unwrap();
    assert!(pair.handle.add(&mut document, tokens, &page).unwrap_err().to_string().contains("one value per document"));
    let searcher = pair.reader().searcher();
    let query = pair.handle.query(small, QueryVectors::new(pair.random.vectors(DIM, 1)));
    assert!(query.search(&searcher).unwrap_err().to_string().contains("\"small\""));
    assert!(matches!(LateInteraction::new().add(&mut document, tokens, &page), Err(Error::HandleUnused)));
}

#[test]
fn a_value_that_add_did_not_make_fails_the_writer_and_rollback_recovers_it() {
    let mut pair = Pair::create(RamDirectory::create(), IndexSettings::default());
    pair.add(0..5);
    pair.commit();
    let mut document = TantivyDocument::new();
    document.add_custom(pair.fields.tokens, b"nonsense");
    let _ = pair.writer().add_document(document);
    assert!(pair.writer().commit().is_err());
    // A writer that failed cannot be rolled back to work again in every case; a new one can always be opened.
    pair.writer = None;
    pair.open_writer();
    pair.check();
    pair.add(5..9);
    pair.commit();
    pair.check();
}

#[test]
fn indexes_that_cannot_hold_vectors_are_refused_with_the_fix() {
    let directory = RamDirectory::create();
    let index = Index::builder().schema(schema().0).open_or_create(directory.clone()).unwrap();
    let fields = schema().1;
    let mut writer = index.writer_with_num_threads(1, 15_000_000).unwrap();
    writer.add_document(doc!(fields.text => "no vectors")).unwrap();
    writer.commit().unwrap();
    drop(writer);
    let error = LateInteraction::new().open(directory.clone()).unwrap_err();
    assert!(matches!(error, Error::CreatedWithoutPlugin), "{error}");
    let error = LateInteraction::new().create(directory, schema().0, IndexSettings::default()).unwrap_err();
    assert!(matches!(error, Error::IndexExists), "{error}");

    let mut builder = Schema::builder();
    builder.add_text_field("text", TEXT);
    let handle = LateInteraction::new();
    let error = handle.create(RamDirectory::create(), builder.build(), IndexSettings::default()).unwrap_err();
    assert!(matches!(error, Error::NoField), "{error}");
    handle.create(RamDirectory::create(), schema().0, IndexSettings::default()).unwrap();
    let error = handle.create(RamDirectory::create(), schema().0, IndexSettings::default()).unwrap_err();
    assert!(matches!(error, Error::HandleInUse), "{error}");
}
