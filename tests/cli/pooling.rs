//! Pooled tokens from the command line: stored, recorded, exchanged, and replaced where the factor changes.

use colqwen_index::PageIndex;
use colqwen_index::ingest::embeddings::{PageReader, PageRecord};
use colqwen_index::ingest::pooling::{PoolFactor, pool_page};
use serde_json::json;

use super::support::{Report, SAMPLE_PAGES, assert_same, cli, copied_samples, inspect, pages, parts, samples};

fn factors(file: &std::path::Path) -> Vec<u16> {
    PageReader::open(file).unwrap().metadata().pool_factors.iter().map(|factor| factor.get()).collect()
}

#[test]
fn a_changed_factor_replaces_pages_and_a_run_without_one_keeps_it() {
    let temporary = copied_samples();
    let (docs, index) = (temporary.path().join("docs"), temporary.path().join("index"));
    let one = docs.join("pantry-recipes.pdf");
    cli!("index", &one, "--index", &index, "--bits", "16").done();
    assert_eq!(inspect(&index)["pages_by_pool_factor"], json!({"1": 2}));
    assert!(!cli!("inspect", &index).done().out.contains("pooled"), "nothing to say of pooling");
    let whole = pages(&index);

    // Other files are pooled; the one that was not named keeps all its tokens, and inspect tells both.
    let other = docs.join("glow-worm-note.pdf");
    let run = cli!("index", &other, "--index", &index, "--pool-factor", "3");
    assert_eq!(run.done().report(), Report { encoded: 1, ..Report::default() });
    let seen = inspect(&index);
    assert_eq!((&seen["pool_factor"], &seen["pages_by_pool_factor"]), (&json!(3), &json!({"1": 2, "3": 1})));
    assert!(cli!("inspect", &index).done().out.contains("pages pooled: 2 by 1, 1 by 3"));
    assert_eq!(factors(&parts(&index)[0]), [0u16; 0]);
    assert_eq!(factors(&parts(&index)[1]), [3]);

    // A run without a factor goes on with the index's: the two pages are replaced, the pooled one stands.
    let run = cli!("index", &one, &other, "--index", &index);
    assert_eq!(run.done().report(), Report { encoded: 2, unchanged: 1, ..Report::default() });
    let pooled: Vec<PageRecord> =
        pages(&index).into_iter().filter(|page| page.doc_id == "pantry-recipes.pdf").collect();
    assert_eq!((pooled.len(), whole.len()), (2, 2));
    // What the model gave, before rounding to f16 could change which tokens are nearest.
    let encoded = temporary.path().join("encoded.parquet");
    cli!("encode", "--image", &one, "--model", "builtin", "--dtype", "f32", "--out", &encoded).done();
    let encoded: Vec<PageRecord> = PageReader::open(&encoded).unwrap().map(Result::unwrap).collect();
    for (pooled, whole) in pooled.iter().zip(&encoded) {
        let expected = pool_page(whole.vectors.clone(), PoolFactor::new(3).unwrap()).unwrap();
        assert_eq!(pooled.vectors.vectors.tokens(), whole.vectors.vectors.tokens() / 3);
        assert_eq!(pooled.vectors.layout, expected.layout);
        let lists = pooled.vectors.layout.as_ref().unwrap().token_patches.as_ref().unwrap();
        let patches = pooled.vectors.layout.as_ref().unwrap().patches();
        assert_eq!(lists.iter().map(Vec::len).sum::<usize>(), patches, "every patch belongs to one token");
    }
    assert_eq!(inspect(&index)["pages_by_pool_factor"], json!({"3": 3}));

    // And back.
    let run = cli!("index", &one, &other, "--index", &index, "--pool-factor", "1");
    assert_eq!(run.done().report().encoded, 3);
    assert_eq!(inspect(&index)["pages_by_pool_factor"], json!({"1": 3}));
    assert_eq!(pages(&index).iter().find(|page| page.doc_id == whole[0].doc_id), whole.first());
    assert_eq!(cli!("index", &one, &other, "--index", &index).done().report().unchanged, 2);
}

#[test]
fn pooled_pages_go_out_and_come_in_again() {
    let temporary = tempfile::tempdir().unwrap();
    let path = |name: &str| temporary.path().join(name);
    let pdf = samples().join("pantry-recipes.pdf");
    cli!("index", samples(), "--index", path("index"), "--bits", "16", "--pool-factor", "2").done();
    cli!("export", "--index", path("index"), "--embeddings", path("out.parquet")).done();
    assert_eq!(factors(&path("out.parquet")), [2]);
    cli!("import", "--embeddings", path("out.parquet"), "--index", path("again"), "--bits", "16").done();
    assert_same(&path("index"), &path("again"));
    assert_eq!(inspect(&path("again"))["pages_by_pool_factor"], json!({"2": SAMPLE_PAGES}));
    assert_eq!(PageIndex::open(path("again")).unwrap().pool_factor().get(), 2);
    let run = cli!("index", &pdf, "--index", path("again"));
    assert_eq!(run.done().report(), Report { unchanged: 1, ..Report::default() });
    let hits = cli!("search", path("again"), "plum cake", "--mode", "late", "-k", "3", "--json").done().hits();
    assert_eq!(hits.len(), 3);

    // `encode` makes the same pages.
    cli!("encode", "--image", &pdf, "--model", "builtin", "--pool-factor", "2", "--out", path("e.parquet")).done();
    assert_eq!(factors(&path("e.parquet")), [2]);
    let encoded: Vec<PageRecord> = PageReader::open(path("e.parquet")).unwrap().map(Result::unwrap).collect();
    let indexed: Vec<PageRecord> =
        pages(&path("index")).into_iter().filter(|page| page.doc_id == "pantry-recipes.pdf").collect();
    for (encoded, indexed) in encoded.iter().zip(&indexed) {
        assert_eq!((&encoded.vectors, &encoded.content_hash), (&indexed.vectors, &indexed.content_hash));
    }
}

#[test]
fn factors_that_make_no_sense_are_refused() {
    let temporary = tempfile::tempdir().unwrap();
    let index = temporary.path().join("index");
    for bad in ["0", "1.5", "x"] {
        let error = cli!("index", samples(), "--index", &index, "--pool-factor", bad).refused(2);
        assert!(error.contains("whole number from 1") && error.contains(bad), "{error}");
    }
    let out = temporary.path().join("q.parquet");
    let error = cli!("encode", "--text", "a", "--model", "builtin", "--out", &out, "--pool-factor", "2").refused(2);
    assert!(error.contains("--pool-factor") && error.contains("--text"), "{error}");
    assert!(!index.exists() && !out.exists());
}
