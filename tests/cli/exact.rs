//! Batch search against a MaxSim written here.

use std::path::Path;

use colqwen_index::ingest::embeddings::{PageFileOptions, PageReader, PageRecord, QueryFileOptions, QueryRecord};
use colqwen_index::{MultiVector, PageVectors, QueryVectors};
use serde_json::Value;

use super::files::{Numbers, write_pages, write_queries};
use super::support::{Line, cli, keys};

const DIM: usize = 32;

/// The sum over query tokens of the best dot product with a page token.
fn max_sim(query: &MultiVector, page: &MultiVector) -> f64 {
    let dot = |one: &[f32], other: &[f32]| -> f64 {
        one.iter().zip(other).map(|(one, other)| f64::from(*one) * f64::from(*other)).sum()
    };
    let best = |token| page.iter().map(|other| dot(token, other)).fold(f64::NEG_INFINITY, f64::max);
    query.iter().map(best).sum()
}

/// 300 pages of 60 documents and 25 queries; the index, and both as they were written.
fn make(folder: &Path) -> (Vec<PageRecord>, Vec<QueryRecord>) {
    let mut numbers = Numbers(11);
    let mut pages = Vec::new();
    for document in 0..60 {
        for page in 1..=5 {
            let tokens = 1 + numbers.next() as usize % 40;
            pages.push(PageRecord::new(
                format!("shelf/{document}.pdf"),
                page,
                PageVectors::new(numbers.vectors(tokens, DIM)),
            ));
        }
    }
    let query = |number| {
        let tokens = 1 + numbers.next() as usize % 20;
        QueryRecord {
            query_id: format!("q{number}"),
            text: None,
            vectors: QueryVectors::new(numbers.vectors(tokens, DIM)),
        }
    };
    let queries: Vec<QueryRecord> = (0..25).map(query).collect();
    write_pages(&folder.join("pages.parquet"), PageFileOptions::new(DIM), &pages);
    write_queries(&folder.join("queries.parquet"), QueryFileOptions::new(DIM), &queries);
    cli!("import", "--bits", "16", "--embeddings", folder.join("pages.parquet"), "--index", folder.join("index"))
        .done();
    // As the index stores them: rounded to f16.
    let pages = PageReader::open(folder.join("pages.parquet")).unwrap().map(Result::unwrap).collect();
    (pages, queries)
}

/// The hits are the best pages that `keep` lets through, with their scores.
fn check(lines: &[Line], pages: &[PageRecord], queries: &[QueryRecord], k: usize, keep: impl Fn(&PageRecord) -> bool) {
    assert_eq!(lines.len(), queries.len());
    for (line, query) in lines.iter().zip(queries) {
        assert_eq!(line.query_id, query.query_id, "lines are in the order of the queries");
        let score = |page: &PageRecord| max_sim(&query.vectors.vectors, &page.vectors.vectors);
        let mut truth: Vec<_> =
            pages.iter().filter(|page| keep(page)).map(|page| (score(page), &page.doc_id, page.page)).collect();
        truth.sort_by(|one, other| other.0.total_cmp(&one.0));
        truth.truncate(k);
        assert_eq!(line.hits.len(), truth.len());
        for (hit, (score, doc_id, page)) in line.hits.iter().zip(truth) {
            assert!((hit.score - score).abs() < 1e-4, "{hit:?} against {score}");
            assert_eq!((&hit.doc_id, hit.page), (doc_id, u64::from(page)));
        }
    }
}

#[test]
fn batch_search_agrees_with_naive_max_sim() {
    let temporary = tempfile::tempdir().unwrap();
    let (pages, queries) = make(temporary.path());
    let (index, file) = (temporary.path().join("index"), temporary.path().join("queries.parquet"));
    for effort in ["exact", "default", "0"] {
        for threads in ["1", "2"] {
            let run = cli!(
                "search",
                &index,
                "--queries",
                &file,
                "-k",
                "10",
                "--effort",
                effort,
                "--threads",
                threads,
                "--json"
            );
            let lines = run.done().json_lines();
            check(&lines, &pages, &queries, 10, |_| true);
        }
    }
    let run = cli!("search", &index, "--queries", &file, "-k", "1000", "--effort", "exact", "--json");
    check(&run.done().json_lines(), &pages, &queries, 1000, |_| true);
    let filter = "doc_id:\"shelf/7.pdf\" OR page:[5 TO *]";
    let run = cli!("search", &index, "--queries", &file, "--filter", filter, "--json");
    check(&run.done().json_lines(), &pages, &queries, 10, |page| page.doc_id == "shelf/7.pdf" || page.page == 5);
    // Deleted pages are gone from the next search on.
    cli!("delete", &index, "--doc-id", "shelf/3.pdf").done();
    let run = cli!("search", &index, "--queries", &file, "--json");
    check(&run.done().json_lines(), &pages, &queries, 10, |page| page.doc_id != "shelf/3.pdf");
}

#[test]
fn stats_are_one_json_object() {
    let temporary = tempfile::tempdir().unwrap();
    make(temporary.path());
    let (index, file) = (temporary.path().join("index"), temporary.path().join("queries.parquet"));
    let stats = temporary.path().join("stats.json");
    let with =
        cli!("search", &index, "--queries", &file, "--threads", "1", "--effort", "exact", "--stats", &stats, "--json")
            .done();
    let without = cli!("search", &index, "--queries", &file, "--threads", "1", "--effort", "exact", "--json").done();
    assert_eq!(with.out, without.out, "measuring changes no result");
    let figures: Value = serde_json::from_str(&std::fs::read_to_string(&stats).unwrap()).unwrap();
    assert_eq!(
        keys(&figures),
        [
            "centroid_pages",
            "coarse_pages",
            "cpu_ms_per_query",
            "effort",
            "eligible",
            "expected_recall",
            "full_pages",
            "p50_ms",
            "p99_ms",
            "postings",
            "precision",
            "proven",
            "queries",
            "rounds",
            "threads",
            "tokens"
        ]
    );
    assert_eq!((&figures["queries"], &figures["threads"]), (&25.into(), &1.into()));
    assert_eq!((&figures["effort"], &figures["precision"]), (&"exact".into(), &"f16".into()));
    let number = |key: &str| figures[key].as_f64().unwrap();
    assert!(number("cpu_ms_per_query") > 0.0 && number("p99_ms") >= number("p50_ms") && number("p50_ms") > 0.0);
    let spent = number("cpu_ms_per_query") * number("queries") * number("rounds");
    assert!(spent >= 2000.0, "whole rounds until 2 s of CPU are spent: {figures}");
}
