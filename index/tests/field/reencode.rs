//! A new index with new vectors: all else is as before, and the vectors are those of an index made from them.

use std::collections::BTreeMap;

use colqwen_index_field::{
    Effort, Error, Fingerprint, LateInteraction, LateInteractionOptions, MultiVector, Origin, PageLayout, PageVectors,
    Precision, QueryVectors, StoredPage, reencode,
};
use tantivy::collector::{Count, TopDocs};
use tantivy::directory::{MmapDirectory, RamDirectory};
use tantivy::index::{IndexSettings, IndexSortByField};
use tantivy::merge_policy::NoMergePolicy;
use tantivy::query::{AllQuery, QueryParser};
use tantivy::schema::{FAST, Field, INDEXED, Schema, TEXT};
use tantivy::{Index, IndexWriter, Order, TantivyDocument, Term};

use crate::oracle::{Random, maxsim};

const DIM: usize = 16;
const WORDS: [&str; 6] = ["lamp", "bog", "peat", "wick", "otter", "reed"];

struct Shelf {
    handle: LateInteraction,
    index: Index,
    id: Field,
    /// Indexed and not stored.
    text: Field,
    tokens: Field,
    /// A second late-interaction field, which keeps its vectors.
    other: Field,
}

fn model(byte: u8) -> Origin {
    Origin::Model(Fingerprint::from_bytes([byte; 32]))
}

/// What model `seed` makes of page `id`; enough tokens for a codebook over some hundreds of pages.
fn vectors(seed: u64, id: u64) -> PageVectors {
    let mut random = Random::new(seed * 1_000_003 + id);
    let tokens = 20 + random.below(40) as usize;
    PageVectors::new(random.vectors(DIM, tokens)).with_origin(model(seed as u8))
}

fn text(id: u64) -> String {
    let mut random = Random::new(id + 77);
    (0..5 + random.below(20)).map(|_| WORDS[random.below(6) as usize]).collect::<Vec<_>>().join(" ")
}

fn has_vectors(id: u64) -> bool {
    id % 9 != 4
}

fn schema(precision: Precision) -> (Schema, [Field; 4]) {
    let mut builder = Schema::builder();
    let id = builder.add_u64_field("id", INDEXED | FAST);
    let text = builder.add_text_field("text", TEXT);
    let tokens = LateInteractionOptions::new(DIM).with_precision(precision).add_to(&mut builder, "tokens");
    let other = LateInteractionOptions::new(2).add_to(&mut builder, "other");
    (builder.build(), [id, text, tokens, other])
}

impl Shelf {
    fn create(
        directory: impl Into<Box<dyn tantivy::Directory>>,
        precision: Precision,
        settings: IndexSettings,
    ) -> Self {
        let (schema, [id, text, tokens, other]) = schema(precision);
        let handle = LateInteraction::new();
        let index = handle.create(directory, schema, settings).unwrap();
        Self { handle, index, id, text, tokens, other }
    }

    fn open(directory: impl Into<Box<dyn tantivy::Directory>>, precision: Precision) -> Self {
        let (_, [id, text, tokens, other]) = schema(precision);
        let handle = LateInteraction::new();
        let index = handle.open(directory).unwrap();
        Self { handle, index, id, text, tokens, other }
    }

    fn writer(&self) -> IndexWriter {
        let writer: IndexWriter = self.index.writer_with_num_threads(1, 50_000_000).unwrap();
        writer.set_merge_policy(Box::new(NoMergePolicy));
        writer
    }

    fn add(&self, writer: &mut IndexWriter, seed: u64, ids: impl IntoIterator<Item = u64>) {
        for id in ids {
            let mut document = TantivyDocument::new();
            document.add_u64(self.id, id);
            document.add_text(self.text, text(id));
            if has_vectors(id) {
                self.handle.add(&mut document, self.tokens, &vectors(seed, id)).unwrap();
            }
            let angle = id as f32;
            let kept = MultiVector::try_new(2, vec![angle.cos(), angle.sin()], Default::default()).unwrap();
            self.handle.add(&mut document, self.other, &PageVectors::new(kept)).unwrap();
            writer.add_document(document).unwrap();
        }
        writer.commit().unwrap();
    }

    fn by_id(&self, hits: impl IntoIterator<Item = (f32, tantivy::DocAddress)>) -> BTreeMap<u64, f32> {
        let searcher = self.handle.reader(&self.index).unwrap().searcher();
        let id = |address: tantivy::DocAddress| {
            let column = searcher.segment_reader(address.segment_ord).fast_fields().u64("id").unwrap();
            column.first(address.doc_id).unwrap()
        };
        hits.into_iter().map(|(score, address)| (id(address), score)).collect()
    }

    fn late(&self, field: Field, query: &MultiVector, origin: Origin) -> Result<BTreeMap<u64, f32>, Error> {
        let reader = self.handle.reader(&self.index)?;
        let query = self.handle.query(field, QueryVectors::new(query.clone()).with_origin(origin));
        let hits = query.k(10_000).effort(Effort::Exact).search(&reader.searcher())?;
        Ok(self.by_id(hits.into_iter().map(Into::into)))
    }

    fn words(&self, words: &str) -> BTreeMap<u64, f32> {
        let searcher = self.index.reader().unwrap().searcher();
        let query = QueryParser::for_index(&self.index, vec![self.text]).parse_query(words).unwrap();
        self.by_id(searcher.search(&query, &TopDocs::with_limit(10_000).order_by_score()).unwrap())
    }

    fn count(&self) -> usize {
        self.index.reader().unwrap().searcher().search(&AllQuery, &Count).unwrap()
    }
}

fn sorted() -> IndexSettings {
    let by = IndexSortByField { field: "id".to_owned(), order: Order::Desc };
    IndexSettings { sort_by_field: Some(by), ..Default::default() }
}

/// Page `id` of model `seed`, found by the fast field.
fn replaced(seed: u64, page: StoredPage<'_>) -> Result<Option<PageVectors>, String> {
    let column = page.segment.fast_fields().u64("id").map_err(|error| error.to_string())?;
    let id = column.first(page.doc).ok_or("a page without id")?;
    assert!(has_vectors(id), "only documents with vectors are asked for");
    Ok(Some(vectors(seed, id)))
}

#[test]
fn a_reencoded_index_is_the_old_one_with_the_vectors_of_a_new_one() {
    for (precision, settings) in [
        (Precision::F16, IndexSettings::default()),
        (Precision::Bits8, IndexSettings::default()),
        (Precision::Bits2, IndexSettings::default()),
        (Precision::F16, sorted()),
        (Precision::Bits8, sorted()),
    ] {
        let shelf = Shelf::create(RamDirectory::create(), precision, settings.clone());
        let mut writer = shelf.writer();
        // Interleaved, so that a sorted index is shuffled by the merge.
        for part in 0..3 {
            shelf.add(&mut writer, 1, (0..400).filter(|id| id % 3 == part));
        }
        let gone = |id: u64| id.is_multiple_of(13);
        for id in (0..400).filter(|id| gone(*id)) {
            writer.delete_term(Term::from_field_u64(shelf.id, id));
        }
        writer.commit().unwrap();
        // BM25 counts deleted documents until a merge drops them.
        writer.merge(&shelf.index.searchable_segment_ids().unwrap()).wait().unwrap();

        let out = RamDirectory::create();
        let done = reencode(&shelf.index, out.clone(), shelf.tokens, |page| replaced(2, page)).unwrap();
        let new = Shelf::open(out.clone(), precision);
        let live: Vec<u64> = (0..400).filter(|id| !gone(*id)).collect();
        let with_vectors = live.iter().filter(|id| has_vectors(**id)).count();
        assert_eq!((done.pages, done.origin), (with_vectors as u64, model(2)));
        assert_eq!(new.count(), live.len());
        for words in ["lamp", "bog wick", "\"peat reed\"", "otter -lamp"] {
            let (before, after) = (shelf.words(words), new.words(words));
            assert!(!before.is_empty());
            assert_eq!(before, after, "{words}");
        }

        // Made from the new vectors in the order of the merge.
        let scratch = Shelf::create(RamDirectory::create(), precision, settings.clone());
        let order = (0..3).flat_map(|part| (0..400).filter(move |id| id % 3 == part));
        scratch.add(&mut scratch.writer(), 2, order.filter(|id| !gone(*id)));
        for seed in 0..5 {
            let query = Random::new(seed + 9).vectors(DIM, 8);
            let found = new.late(new.tokens, &query, model(2)).unwrap();
            assert_eq!(found.len(), with_vectors);
            assert_eq!(found, scratch.late(scratch.tokens, &query, model(2)).unwrap(), "{precision:?}");
            if precision == Precision::F16 {
                for (id, score) in &found {
                    assert!((score - maxsim(&query, &vectors(2, *id).vectors)).abs() < 2e-2);
                }
            }
            let small = Random::new(seed).vectors(2, 1);
            let kept = new.late(new.other, &small, Origin::Unknown).unwrap();
            assert_eq!(kept, shelf.late(shelf.other, &small, Origin::Unknown).unwrap());
        }

        // Queries and pages of the old model are refused by the new index, those of the new one by the old.
        let query = Random::new(3).vectors(DIM, 4);
        assert!(matches!(new.late(new.tokens, &query, model(1)), Err(Error::OtherQueryModel { .. })));
        assert!(matches!(shelf.late(shelf.tokens, &query, model(2)), Err(Error::OtherQueryModel { .. })));
        let mut document = TantivyDocument::new();
        assert!(matches!(new.handle.add(&mut document, new.tokens, &vectors(1, 1)), Err(Error::OtherPageModel { .. })));

        // It goes on as any other.
        let mut writer = new.writer();
        new.add(&mut writer, 2, 400..450);
        writer.delete_term(Term::from_field_u64(new.id, 1));
        writer.commit().unwrap();
        writer.merge(&new.index.searchable_segment_ids().unwrap()).wait().unwrap();
        let found = new.late(new.tokens, &query, model(2)).unwrap();
        assert!(found.contains_key(&440) && !found.contains_key(&1));
        assert_eq!(new.count(), live.len() + 49);
    }
}

#[test]
fn deleted_documents_are_dropped_and_pages_may_lose_their_vectors() {
    let shelf = Shelf::create(RamDirectory::create(), Precision::Bits8, IndexSettings::default());
    let mut writer = shelf.writer();
    shelf.add(&mut writer, 1, 0..50);
    shelf.add(&mut writer, 1, 50..60);
    for id in 0..50 {
        writer.delete_term(Term::from_field_u64(shelf.id, id));
    }
    writer.commit().unwrap();
    let out = RamDirectory::create();
    let mut asked = 0;
    let done = reencode(&shelf.index, out.clone(), shelf.tokens, |page| {
        asked += 1;
        Ok::<_, String>(replaced(2, page)?.filter(|_| asked > 3))
    });
    assert_eq!(done.unwrap().pages, asked - 3);
    let new = Shelf::open(out, Precision::Bits8);
    assert_eq!(new.count(), 10);
    assert_eq!(new.late(new.tokens, &Random::new(1).vectors(DIM, 2), model(2)).unwrap().len() as u64, asked - 3);

    for id in 50..60 {
        writer.delete_term(Term::from_field_u64(shelf.id, id));
    }
    writer.commit().unwrap();
    let out = RamDirectory::create();
    let none = reencode(&shelf.index, out.clone(), shelf.tokens, |_| -> Result<_, String> { Err("asked".to_owned()) });
    assert_eq!(none.unwrap().pages, 0);
    let new = Shelf::open(out, Precision::Bits8);
    assert_eq!(new.count(), 0);
    new.add(&mut new.writer(), 2, 0..3);
    assert_eq!(new.count(), 3);
}

#[test]
fn what_cannot_be_reencoded_leaves_no_index_behind() {
    let shelf = Shelf::create(RamDirectory::create(), Precision::Bits8, IndexSettings::default());
    shelf.add(&mut shelf.writer(), 1, 0..30);
    let folder = tempfile::tempdir().unwrap();
    let directory = || MmapDirectory::open(folder.path()).unwrap();
    let mut pages = 0;
    let error = reencode(&shelf.index, directory(), shelf.tokens, |page| {
        pages += 1;
        if pages == 7 { Err("page 7 is nowhere".to_owned()) } else { replaced(2, page) }
    })
    .unwrap_err();
    assert!(matches!(&error, Error::Replacement { .. }) && error.to_string().contains("page 7 is nowhere"), "{error}");
    assert!(LateInteraction::new().open(directory()).is_err());

    let mut models = 0;
    let error = reencode(&shelf.index, RamDirectory::create(), shelf.tokens, |page| {
        models += 1;
        replaced(models % 2 + 2, page)
    });
    assert!(matches!(error.unwrap_err(), Error::OtherPageModel { .. }));
    let narrow = |_: StoredPage<'_>| Ok::<_, String>(Some(PageVectors::new(Random::new(1).vectors(DIM - 1, 3))));
    let error = reencode(&shelf.index, RamDirectory::create(), shelf.tokens, narrow).unwrap_err();
    assert!(matches!(error, Error::Dim { received: 15, expected: 16, .. }), "{error}");
    let unchecked = |page: StoredPage<'_>| {
        let layout =
            PageLayout { width: 84, height: 56, grid_rows: 900, grid_cols: 3, first_patch: 0, token_patches: None };
        replaced(2, page).map(|new| new.map(|new| PageVectors { layout: Some(layout), ..new }))
    };
    let error = reencode(&shelf.index, RamDirectory::create(), shelf.tokens, unchecked).unwrap_err();
    assert!(matches!(error, Error::Layout { .. }), "{error}");
    let error = reencode(&shelf.index, RamDirectory::create(), shelf.text, |page| replaced(2, page)).unwrap_err();
    assert!(matches!(error, Error::NotLateInteraction { .. }), "{error}");
    let full = RamDirectory::create();
    Shelf::create(full.clone(), Precision::F16, IndexSettings::default());
    let error = reencode(&shelf.index, full, shelf.tokens, |page| replaced(2, page)).unwrap_err();
    assert!(matches!(error, Error::IndexExists), "{error}");
}

#[test]
fn the_old_index_may_be_written_to_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let shelf = Shelf::create(MmapDirectory::open(folder.path()).unwrap(), Precision::Bits8, IndexSettings::default());
    let mut writer = shelf.writer();
    for part in 0..4 {
        shelf.add(&mut writer, 1, part * 20..part * 20 + 20);
    }
    let out = RamDirectory::create();
    let mut asked = 0;
    reencode(&shelf.index, out.clone(), shelf.tokens, |page| {
        asked += 1;
        if asked == 5 {
            shelf.add(&mut writer, 1, 80..90);
            writer.delete_term(Term::from_field_u64(shelf.id, 2));
            writer.commit().unwrap();
            writer.merge(&shelf.index.searchable_segment_ids().unwrap()).wait().unwrap();
            writer.garbage_collect_files().wait().unwrap();
        }
        replaced(2, page)
    })
    .unwrap();
    let new = Shelf::open(out, Precision::Bits8);
    assert_eq!((new.count(), shelf.count()), (80, 89));
}
