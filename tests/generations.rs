//! Generations: pages encoded by another model, published while the index is in use, and gone back from.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use colqwen_index::field::Precision;
use colqwen_index::ingest::embeddings::PageRecord;
use colqwen_index::page_index::{
    BuildOptions, EncodePages, KeepGenerations, LostPages, Mode, PageToEncode, Published, RecordedModel, SearchRequest,
};
use colqwen_index::tantivy::Searcher;
use colqwen_index::{
    Error, Fingerprint, MultiVector, PageIndex, PageIndexOptions, PageVectors, QueryVectors, UnitLength,
};
use tempfile::TempDir;

const PAGES: u32 = 30;

/// Names of the files and folders in a folder.
fn file_names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn model(number: u8) -> RecordedModel {
    let page_fingerprint = Fingerprint::from_bytes([number; 32]);
    RecordedModel { name: format!("model-{number}"), page_fingerprint, query_format: "plain".to_owned() }
}

/// What a model makes of a page: models differ by a turn that no two pages differ by.
fn direction(model: u8, page: u32) -> MultiVector {
    let angle = page as f32 * 0.1 + f32::from(model) * 1.234;
    MultiVector::try_new(2, vec![angle.cos(), angle.sin()], UnitLength::Require).unwrap()
}

fn vectors(number: u8, page: u32) -> PageVectors {
    PageVectors::new(direction(number, page)).with_origin(Some(model(number).page_fingerprint))
}

fn record(number: u8, page: u32) -> PageRecord {
    let mut record = PageRecord::new("book", page, vectors(number, page));
    record.text = Some(format!("lamp {}", "bog ".repeat(page as usize % 5)));
    record.content_hash = Some(vec![page as u8; 32]);
    record
}

fn options() -> PageIndexOptions {
    PageIndexOptions { precision: Precision::F16, model: Some(model(1)), ..PageIndexOptions::new(2) }
}

/// An index of pages of model 1.
fn index() -> (TempDir, PageIndex) {
    let folder = tempfile::tempdir().unwrap();
    let mut index = PageIndex::create(folder.path().join("index"), &options()).unwrap();
    let mut writer = index.writer().unwrap();
    (1..=PAGES).for_each(|page| writer.upsert(&record(1, page)).unwrap());
    index.close(writer).unwrap();
    (folder, index)
}

/// Encodes by a model, and does something else before each batch.
struct Encoder<F: FnMut(&[PageToEncode])> {
    model: u8,
    meanwhile: F,
}

fn encoder(model: u8) -> Encoder<impl FnMut(&[PageToEncode])> {
    Encoder { model, meanwhile: |_: &[PageToEncode]| {} }
}

impl<F: FnMut(&[PageToEncode])> EncodePages for Encoder<F> {
    fn at_once(&self) -> usize {
        7
    }

    fn encode(&mut self, pages: &[PageToEncode]) -> Result<Vec<Result<PageVectors, String>>, Error> {
        (self.meanwhile)(pages);
        let encode = |page: &PageToEncode| match page.page {
            13 if page.content_hash.is_none() => Err("its file is gone".to_owned()),
            number => Ok(vectors(self.model, number)),
        };
        Ok(pages.iter().map(encode).collect())
    }
}

fn publish(index: &mut PageIndex, number: u8) -> Published {
    let next = index.next_generation(model(number), BuildOptions::default()).unwrap();
    next.publish(index, &mut encoder(number), KeepGenerations::default(), &mut |_, _| {}).unwrap()
}

/// The pages nearest to what a model makes of `page`, best first, with their scores.
fn late(index: &PageIndex, searcher: &Searcher, number: u8, page: u32) -> Result<Vec<(u32, f32)>, Error> {
    let vectors = QueryVectors::new(direction(number, page)).with_origin(Some(model(number).page_fingerprint));
    let request = SearchRequest { vectors: Some(vectors), k: 100, ..SearchRequest::default() };
    Ok(index.search(searcher, &request)?.iter().map(|hit| (hit.page, hit.score)).collect())
}

fn words(index: &PageIndex) -> Vec<(u32, f32)> {
    let request = SearchRequest { text: Some("bog"), k: 100, mode: Mode::Bm25, ..SearchRequest::default() };
    index.search(&index.searcher(), &request).unwrap().iter().map(|hit| (hit.page, hit.score)).collect()
}

/// All pages stand in the index with the vectors of a model, and nothing else does.
#[track_caller]
fn assert_pages(index: &PageIndex, number: u8, expected: impl IntoIterator<Item = u32>) {
    let searcher = index.searcher();
    let mut pages: Vec<PageRecord> = index.pages(&searcher).map(Result::unwrap).collect();
    pages.sort_by_key(|page| page.page);
    let numbers: Vec<u32> = pages.iter().map(|page| page.page).collect();
    assert_eq!(numbers, expected.into_iter().collect::<Vec<_>>());
    for page in &pages {
        assert_eq!(page.vectors.origin.fingerprint(), Some(model(number).page_fingerprint));
        let expected = direction(number, page.page);
        for (one, other) in page.vectors.vectors.values().iter().zip(expected.values()) {
            assert!((one - other).abs() < 1e-3, "page {}", page.page);
        }
    }
    let found = late(index, &searcher, number, 8).unwrap();
    assert!(found[0].0 == 8 && (found[0].1 - 1.0).abs() < 1e-3 && found.len() == pages.len(), "{found:?}");
}

fn drafts(index: &PageIndex) -> Vec<String> {
    let mut names = file_names(&index.folder().join("generations"));
    names.retain(|name| name.contains("building") && name != "building.lock");
    names
}

#[test]
fn a_published_generation_has_the_new_vectors_and_everything_else() {
    let (_folder, mut index) = index();
    let (before, bytes) = (words(&index), directory_bytes(&index.folder().join("generations/000001")));
    let published = publish(&mut index, 2);
    assert_eq!((published.generation, published.previous, published.pages), (2, 1, u64::from(PAGES)));
    assert_eq!((published.carried_over, published.deleted, published.lost.len()), (0, 0, 0));
    assert_eq!((index.generation(), index.model()), (2, Some(&model(2))));
    assert_pages(&index, 2, 1..=PAGES);
    assert_eq!(words(&index), before);
    assert!(late(&index, &index.searcher(), 1, 3).is_err(), "queries of the old model are refused");
    assert!(drafts(&index).is_empty());
    let after = directory_bytes(&index.folder().join("generations/000001"));
    assert!(bytes.iter().all(|file| after.contains(file)), "the old generation stays as it was");

    let listed = index.generations().unwrap();
    let shown: Vec<_> = listed.iter().map(|one| (one.number, one.current, one.pages, one.model.clone())).collect();
    assert_eq!(shown, [(1, false, 30, Some(model(1))), (2, true, 30, Some(model(2)))]);
    assert!(listed.iter().all(|one| one.created.is_some() && one.bytes > 1000));

    // Pages of the new model are added to it, those of the old one are refused.
    let mut writer = index.writer().unwrap();
    assert!(writer.upsert(&record(1, 31)).is_err());
    writer.upsert(&record(2, 31)).unwrap();
    index.close(writer).unwrap();
    assert_pages(&index, 2, 1..=31);
    index.optimize(Vec::new(), |_| true).unwrap();
    assert_pages(&index, 2, 1..=31);

    let back = index.rollback(None).unwrap();
    assert_eq!((back.from, back.to), (2, 1));
    assert_eq!((back.missing, back.returned), (vec![("book".to_owned(), 31)], vec![]));
    assert_pages(&index, 1, 1..=PAGES);
    let forward = index.rollback(Some(2)).unwrap();
    assert_eq!((forward.missing, forward.returned), (vec![], vec![("book".to_owned(), 31)]));
    assert_pages(&index, 2, 1..=31);
    assert!(matches!(index.rollback(Some(2)), Err(Error::GenerationInUse { .. })));
    let refused = index.rollback(Some(9)).unwrap_err().to_string();
    assert!(refused.contains("no generation 9") && refused.contains("[1, 2]"), "{refused}");
}

fn directory_bytes(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut names = file_names(folder);
    names.retain(|name| folder.join(name).is_file() && !name.starts_with('.'));
    names.into_iter().map(|name| (name.clone(), std::fs::read(folder.join(&name)).unwrap())).collect()
}

#[test]
fn what_changes_while_a_generation_is_built_is_carried_over() {
    let (_folder, mut index) = index();
    let mut other = PageIndex::open(index.folder()).unwrap();
    let (mut batches, mut held) = (0, None);
    let meanwhile = |_: &[PageToEncode]| {
        batches += 1;
        if batches == 2 {
            let mut writer = other.writer().unwrap();
            writer.upsert(&record(1, 31)).unwrap();
            writer.upsert(&PageRecord { content_hash: Some(vec![9]), ..record(1, 2) }).unwrap();
            writer.commit().unwrap();
            held = Some(writer);
        }
    };
    let next = index.next_generation(model(2), BuildOptions::default()).unwrap();
    let mut while_written = Encoder { model: 2, meanwhile };
    let busy = next.publish(&mut index, &mut while_written, KeepGenerations::default(), &mut |_, _| {});
    assert!(matches!(busy, Err(Error::Busy { .. })), "the last step is for one writer alone");
    index.reload().unwrap();
    assert_pages(&index, 1, 1..=31);

    // The index is merged, and goes on changing.
    let mut writer = held.unwrap();
    writer.delete_page("book", 5);
    writer.upsert(&record(1, 32)).unwrap();
    other.close(writer).unwrap();
    let published = publish(&mut index, 2);
    assert_eq!((published.carried_over, published.deleted, published.pages), (3, 1, 31));
    assert_pages(&index, 2, (1..=32).filter(|page| *page != 5));
    let searcher = index.searcher();
    let replaced = index.pages(&searcher).map(Result::unwrap).find(|page| page.page == 2).unwrap();
    assert_eq!(replaced.content_hash, Some(vec![9]));

    // A writer of the generation that was in use before would lose its pages.
    assert!(matches!(other.writer(), Err(Error::OtherGeneration { opened: 1, current: 2, .. })));
    drop(other.current_writer().unwrap());
    assert_eq!(other.generation(), 2);
}

#[test]
fn a_build_goes_on_where_it_was_given_up() {
    let (_folder, mut index) = index();
    let stop = std::sync::Arc::new(AtomicBool::new(false));
    let build = BuildOptions { stop: stop.clone(), ..BuildOptions::default() };
    let mut next = index.next_generation(model(2), build.clone()).unwrap();
    let busy = PageIndex::open(index.folder()).unwrap().next_generation(model(2), BuildOptions::default());
    assert!(matches!(busy, Err(Error::BeingBuilt { .. })));
    let mut first = Encoder { model: 2, meanwhile: |_: &[PageToEncode]| stop.store(true, Ordering::SeqCst) };
    assert!(matches!(next.encode(&index, &mut first, &mut |_, _| {}), Err(Error::Interrupted)));
    drop(next);
    assert_pages(&index, 1, 1..=PAGES);
    let next = index.next_generation(model(2), BuildOptions::default()).unwrap();
    assert_eq!(next.missing(&index).unwrap(), u64::from(PAGES) - 7);
    drop(next);

    // Nothing of it is of use to another model.
    let mut next = index.next_generation(model(3), BuildOptions::default()).unwrap();
    assert_eq!(next.missing(&index).unwrap(), u64::from(PAGES));
    let wrong = next.encode(&index, &mut encoder(2), &mut |_, _| {}).unwrap_err();
    assert!(matches!(wrong, Error::NewVectors { .. }), "{wrong}");
    next.discard().unwrap();
    assert!(drafts(&index).is_empty());
    publish(&mut index, 3);
    assert_pages(&index, 3, 1..=PAGES);
}

#[test]
fn pages_that_cannot_be_encoded_are_refused_or_left_out() {
    let (_folder, mut index) = index();
    let mut writer = index.writer().unwrap();
    writer.upsert(&PageRecord { content_hash: None, ..record(1, 13) }).unwrap();
    index.close(writer).unwrap();
    let next = index.next_generation(model(2), BuildOptions::default()).unwrap();
    let refused = next.publish(&mut index, &mut encoder(2), KeepGenerations::default(), &mut |_, _| {}).unwrap_err();
    assert!(refused.to_string().contains("page 13") && refused.to_string().contains("its file is gone"), "{refused}");
    assert_pages(&index, 1, 1..=PAGES);

    let build = BuildOptions { lost: LostPages::LeaveOut, ..BuildOptions::default() };
    let next = index.next_generation(model(2), build).unwrap();
    let published = next.publish(&mut index, &mut encoder(2), KeepGenerations::default(), &mut |_, _| {}).unwrap();
    assert_eq!(published.lost, ["book page 13: its file is gone"]);
    assert_eq!((published.pages, published.deleted), (u64::from(PAGES) - 1, 0));
    assert_pages(&index, 2, (1..=PAGES).filter(|page| *page != 13));
    assert_eq!(index.rollback(None).unwrap().returned, [("book".to_owned(), 13)]);

    let build = BuildOptions { disk_reserve: u64::MAX / 2, ..BuildOptions::default() };
    assert!(matches!(index.next_generation(model(3), build), Err(Error::DiskSpace { .. })));
}

#[test]
fn a_generation_that_is_open_is_not_removed() {
    let (_folder, mut index) = index();
    let exists = |index: &PageIndex, number: u32| index.folder().join(format!("generations/{number:06}")).exists();
    // The searcher alone holds it: its index is gone.
    let first = PageIndex::open(index.folder()).unwrap().searcher();
    publish(&mut index, 2);
    let published = publish(&mut index, 3);
    assert_eq!((published.removed, published.still_open), (vec![], vec![1]));
    assert!(exists(&index, 1));
    assert_eq!(late(&index, &first, 1, 8).unwrap()[0].0, 8, "a searcher keeps its generation");
    assert!(late(&index, &first, 3, 8).is_err(), "and takes no queries of another model");
    drop(first);
    let published = publish(&mut index, 4);
    assert_eq!((published.removed, published.still_open), (vec![1, 2], vec![]));
    assert!(!exists(&index, 1) && !exists(&index, 2) && exists(&index, 3));
    let gone = index.rollback(Some(1)).unwrap_err().to_string();
    assert!(gone.contains("no generation 1") && gone.contains("[3, 4]"), "{gone}");
    index.rollback(None).unwrap();
    assert_pages(&index, 3, 1..=PAGES);
    // Publishing after going back keeps the one that was in use.
    let published = publish(&mut index, 5);
    assert_eq!((published.previous, published.removed), (3, vec![4]));
    index.rollback(None).unwrap();
    assert_pages(&index, 3, 1..=PAGES);
}

#[test]
fn a_model_for_the_same_pages_is_published_without_touching_them() {
    let (_folder, mut index) = index();
    let pages = index.folder().join("generations/000001");
    let segments = |folder: &Path| -> Vec<_> {
        directory_bytes(folder).into_iter().filter(|(name, _)| name != "generation.json" && name != "lease").collect()
    };
    let before = segments(&pages);
    let trained = RecordedModel { name: "two-parts".to_owned(), ..model(1) };
    assert!(matches!(index.publish_model(model(2), KeepGenerations::default()), Err(Error::OtherModel { .. })));
    let published = index.publish_model(trained.clone(), KeepGenerations::default()).unwrap();
    assert_eq!((published.generation, published.previous, published.pages), (2, 1, u64::from(PAGES)));
    assert_eq!(segments(&pages), before);
    assert_eq!((index.generation(), index.model()), (2, Some(&trained)));
    assert_pages(&index, 1, 1..=PAGES);
    assert_eq!(index.generations().unwrap()[1].pages_of, Some(1));

    // Both share their pages: what is added later is in both.
    let mut writer = index.writer().unwrap();
    writer.upsert(&record(1, 31)).unwrap();
    index.close(writer).unwrap();
    let back = index.rollback(None).unwrap();
    assert!(back.missing.is_empty() && index.model() == Some(&model(1)));
    assert_pages(&index, 1, 1..=31);
    index.rollback(Some(2)).unwrap();
    // The pages outlive the generation that they were made for as long as another serves them.
    let again = RecordedModel { name: "two-parts again".to_owned(), ..model(1) };
    let published = index.publish_model(again, KeepGenerations::default()).unwrap();
    assert!(published.removed.is_empty());
    publish(&mut index, 5);
    index.rollback(None).unwrap();
    assert_eq!(index.model().unwrap().name, "two-parts again");
    assert_pages(&index, 1, 1..=31);
}

#[test]
fn after_the_last_number_nothing_is_published() {
    let (_folder, mut index) = index();
    std::fs::create_dir(index.folder().join("generations/4294967295")).unwrap();
    let error = index.publish_model(model(1), KeepGenerations::default()).unwrap_err();
    assert!(error.to_string().contains("no number above 4294967295"), "{error}");
    index.reload().unwrap();
    assert_eq!(index.generation(), 1);
    assert_pages(&index, 1, 1..=PAGES);
}

#[test]
fn no_answer_mixes_models_while_generations_are_published() {
    let (_folder, mut index) = index();
    let folder = index.folder().to_owned();
    let done = AtomicBool::new(false);
    let seen = std::thread::scope(|scope| {
        let search = || {
            let mut mine = PageIndex::open(&folder).unwrap();
            let mut seen = std::collections::BTreeSet::new();
            while !done.load(Ordering::SeqCst) || seen.len() < 2 {
                mine.reload().unwrap();
                let name = mine.model().unwrap().name.clone();
                let number: u8 = name.strip_prefix("model-").unwrap().parse().unwrap();
                let searcher = mine.searcher();
                for page in [1, 17, 30] {
                    let found = late(&mine, &searcher, number, page).unwrap();
                    assert_eq!((found.len(), found[0].0), (PAGES as usize, page), "of {name}");
                    assert!((found[0].1 - 1.0).abs() < 1e-3, "{found:?} of {name}");
                }
                seen.insert(number);
            }
            seen
        };
        let searching = [scope.spawn(search), scope.spawn(search)];
        for number in 2..8 {
            publish(&mut index, number);
        }
        done.store(true, Ordering::SeqCst);
        searching.map(|thread| thread.join().unwrap())
    });
    assert!(seen.iter().all(|models| models.contains(&7) || models.len() > 1), "{seen:?}");
    assert_pages(&index, 7, 1..=PAGES);
}
