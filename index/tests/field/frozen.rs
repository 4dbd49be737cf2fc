//! Indexes that earlier formats wrote stay readable: `tests/frozen/v1` and `v2`, never to be written again.

use std::path::Path;

use colqwen_index_field::{
    Effort, FORMAT_VERSION, LateInteraction, LateInteractionOptions, PageVectors, Precision, QueryVectors,
};
use tantivy::directory::MmapDirectory;
use tantivy::index::IndexSettings;
use tantivy::merge_policy::NoMergePolicy;
use tantivy::schema::Schema;
use tantivy::{IndexWriter, TantivyDocument};

use crate::oracle::{Pair, Random, SMALL_DIM};

/// What the frozen index holds: 20 pages in two segments, one of them deleted, with random vectors of seed 1.
fn write(pair: &mut Pair) {
    pair.add(0..12);
    pair.commit();
    pair.add(12..20);
    pair.delete([5]);
    pair.commit();
}

/// What is frozen since version 2: pages of 280 tokens in 2 bits, enough for a codebook (60 were when version 2 was frozen),
/// and a small segment without.
fn write_codes(folder: &Path) {
    let mut schema = Schema::builder();
    let tokens = LateInteractionOptions::new(SMALL_DIM).with_precision(Precision::Bits2).add_to(&mut schema, "tokens");
    let handle = LateInteraction::new();
    let directory = MmapDirectory::open(folder).unwrap();
    let index = handle.create(directory, schema.build(), IndexSettings::default()).unwrap();
    let mut writer: IndexWriter = index.writer_with_num_threads(1, 50_000_000).unwrap();
    writer.set_merge_policy(Box::new(NoMergePolicy));
    let mut random = Random::new(2);
    for pages in [120, 3] {
        for _ in 0..pages {
            let mut document = TantivyDocument::new();
            let page = PageVectors::new(random.vectors(SMALL_DIM, 280));
            handle.add(&mut document, tokens, &page).unwrap();
            writer.add_document(document).unwrap();
        }
        writer.commit().unwrap();
    }
    writer.wait_merging_threads().unwrap();
}

/// The scores of all pages for one query.
fn scores(folder: &Path) -> Vec<(tantivy::DocAddress, f32)> {
    let handle = LateInteraction::new();
    let index = handle.open(MmapDirectory::open(folder).unwrap()).unwrap();
    let searcher = handle.reader(&index).unwrap().searcher();
    handle.verify(&searcher).unwrap();
    let tokens = index.schema().get_field("tokens").unwrap();
    let query = QueryVectors::new(Random::new(3).vectors(SMALL_DIM, 9));
    let hits = handle.query(tokens, query).k(100).effort(Effort::Exact).search(&searcher).unwrap();
    let mut scores: Vec<_> = hits.iter().map(|hit| (hit.address, hit.score)).collect();
    // The order of segments is by chance.
    scores.sort_by(|one, two| two.1.total_cmp(&one.1));
    scores
}

/// A copy to open: tantivy writes lock files.
fn thawed(name: &str) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    let frozen = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/frozen").join(name);
    for entry in std::fs::read_dir(frozen).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    copy
}

/// Writes the frozen index of a new format version into the folder named by `LATE_FREEZE_INTO`, and its scores into the file
/// of that name with `-scores.txt`; does nothing otherwise.
#[test]
fn freeze() {
    let Ok(folder) = std::env::var("LATE_FREEZE_INTO") else { return };
    std::fs::create_dir_all(&folder).unwrap();
    write_codes(Path::new(&folder));
    std::fs::write(format!("{folder}-scores.txt"), written(&scores(Path::new(&folder)))).unwrap();
}

/// A line per page: document, score.
fn written(scores: &[(tantivy::DocAddress, f32)]) -> String {
    scores.iter().map(|(address, score)| format!("{} {score}\n", address.doc_id)).collect()
}

#[test]
fn version_2_still_opens_and_gives_the_same_answers() {
    let frozen = scores(thawed("v2").path());
    assert_eq!(frozen.len(), 63);
    assert_eq!(written(&frozen), include_str!("../frozen/v2-scores.txt"));
    assert_eq!(FORMAT_VERSION, 2, "a new version needs a frozen index of its own beside these");
}

#[test]
fn version_1_still_opens_and_gives_the_same_answers() {
    let copy = thawed("v1");
    let mut pair = Pair::create(tantivy::directory::RamDirectory::create(), IndexSettings::default());
    write(&mut pair);
    let handle = LateInteraction::new();
    let index = handle.open(MmapDirectory::open(copy.path()).unwrap()).unwrap();
    let searcher = handle.reader(&index).unwrap().searcher();
    handle.verify(&searcher).unwrap();
    pair.handle = handle;
    pair.check_searcher(&searcher);
}
