//! Embeddings in and out: export, import, encode, queries from files.

use std::path::Path;

use colqwen_index::ingest::embeddings::{
    PageFileOptions, PageReader, PageRecord, QueryFileOptions, QueryReader, QueryRecord,
};
use colqwen_index::{Fingerprint, Origin, PageVectors, QueryVectors};

use super::files::{Numbers, write_pages, write_queries};
use super::support::{SAMPLE_PAGES, assert_same, cli, copied_samples, pages, samples};

/// A query's id and its hits: document, page, score.
type Found = (String, Vec<(String, u64, String)>);

/// The lines of a batch search, the hits of each in an order that does not depend on where pages stand in the index.
fn batch(index: &Path, queries: &Path) -> Vec<Found> {
    let run = cli!("search", index, "--queries", queries, "-k", "100", "--effort", "exact", "--json").done();
    let lines = run.json_lines().into_iter().map(|line| {
        let mut hits: Vec<_> =
            line.hits.into_iter().map(|hit| (hit.doc_id, hit.page, format!("{:.4}", hit.score))).collect();
        hits.sort();
        (line.query_id, hits)
    });
    lines.collect()
}

#[test]
fn an_exported_index_is_the_same_when_imported() {
    let temporary = tempfile::tempdir().unwrap();
    let path = |name: &str| temporary.path().join(name);
    cli!("index", "--bits", "16", samples(), "--index", path("one")).done();
    let exported = cli!("export", "--index", path("one"), "--embeddings", path("pages.parquet")).done();
    assert!(exported.out.is_empty() && exported.err.contains("9 pages exported"), "{}", exported.err);
    let imported = cli!("import", "--bits", "16", "--embeddings", path("pages.parquet"), "--index", path("two")).done();
    assert!(imported.out.is_empty() && imported.err.contains("9 pages with"), "{}", imported.err);
    assert_same(&path("two"), &path("one"));

    let texts = ["how is the machine descaled", "", "sheep"];
    cli!("encode", "--text", texts[0], texts[1], texts[2], "--model", "builtin", "--out", path("q.parquet")).done();
    let queries: Vec<QueryRecord> = QueryReader::open(path("q.parquet")).unwrap().map(Result::unwrap).collect();
    let written: Vec<_> = queries.iter().map(|query| (query.query_id.as_str(), query.text.as_deref())).collect();
    assert_eq!(written, [("0", Some(texts[0])), ("1", Some(texts[1])), ("2", Some(texts[2]))]);
    let found = batch(&path("one"), &path("q.parquet"));
    assert_eq!(
        found.iter().map(|(id, hits)| (id.as_str(), hits.len())).collect::<Vec<_>>(),
        [("0", 9), ("1", 9), ("2", 9)]
    );
    assert_eq!(batch(&path("two"), &path("q.parquet")), found);

    // A typed query is encoded as `encode --text` does it.
    let typed = |index: &str| {
        let run = cli!("search", path(index), texts[0], "--model", "builtin", "-k", "100", "--json").done();
        let hits = run.json_lines().remove(0).hits.into_iter();
        let mut hits: Vec<_> = hits.map(|hit| (hit.doc_id, hit.page, format!("{:.4}", hit.score))).collect();
        hits.sort();
        hits
    };
    assert_eq!((typed("one"), typed("two")), (found[0].1.clone(), found[0].1.clone()));
    let words = |index: &str| cli!("search", path(index), "sheep", "--mode", "bm25", "--json").done().hits();
    assert_eq!((words("two"), words("two").len()), (words("one"), 1));

    // An index made by import records no model by name, and says how to name one.
    let error = cli!("search", path("two"), "sheep").refused(1);
    assert!(error.contains("--model"), "{error}");
    // It is the index of the builtin model all the same, and files go on into it.
    assert_eq!(cli!("index", "--bits", "16", samples(), "--index", path("two")).done().report().encoded, 0);
    cli!("search", path("two"), "sheep").done();
}

#[test]
fn importing_again_replaces_and_adds() {
    let temporary = tempfile::tempdir().unwrap();
    let path = |name: &str| temporary.path().join(name);
    let mut numbers = Numbers(5);
    let mut page = |doc_id: &str, page| PageRecord::new(doc_id, page, PageVectors::new(numbers.vectors(3, 16)));
    let (a1, a2, other_a1, b1) = (page("a", 1), page("a", 2), page("a", 1), page("b", 1));
    write_pages(&path("one.parquet"), PageFileOptions::new(16), &[a1, a2.clone()]);
    write_pages(&path("two.parquet"), PageFileOptions::new(16), &[other_a1, b1]);
    cli!("import", "--bits", "16", "--embeddings", path("one.parquet"), path("two.parquet"), "--index", path("index"))
        .done();
    let stored = pages(&path("index"));
    let keys: Vec<_> = stored.iter().map(|page| (page.doc_id.as_str(), page.page)).collect();
    assert_eq!(keys, [("a", 1), ("a", 2), ("b", 1)]);
    let of = |file: &str| PageReader::open(path(file)).unwrap().map(Result::unwrap).collect::<Vec<_>>();
    assert_eq!(stored, [of("two.parquet")[0].clone(), of("one.parquet")[1].clone(), of("two.parquet")[1].clone()]);
}

#[test]
fn files_that_do_not_fit_the_index_are_refused_whole() {
    let temporary = tempfile::tempdir().unwrap();
    let path = |name: &str| temporary.path().join(name);
    let mut numbers = Numbers(6);
    let mut file = |name: &str, dim, origin: Origin| {
        let vectors = PageVectors::new(numbers.vectors(3, dim)).with_origin(origin);
        let options = PageFileOptions { origin, ..PageFileOptions::new(dim) };
        write_pages(&path(name), options, &[PageRecord::new(name, 1, vectors)]);
    };
    let model = |byte| Origin::Model(Fingerprint::from_bytes([byte; 32]));
    file("good.parquet", 16, model(1));
    file("unknown.parquet", 16, Origin::Unknown);
    file("narrow.parquet", 8, model(1));
    file("foreign.parquet", 16, model(2));
    let import = |name: &str| {
        cli!("import", "--bits", "16", "--embeddings", path("good.parquet"), path(name), "--index", path("index"))
    };
    // Nothing of a first import is left behind that is refused.
    for name in ["narrow.parquet", "foreign.parquet"] {
        let error = import(name).refused(1);
        assert!(error.contains(name), "{error}");
        assert!(!path("index").exists());
    }
    import("unknown.parquet").done();
    let before = pages(&path("index"));
    let error = import("narrow.parquet").refused(1);
    assert!(error.contains("narrow.parquet") && error.contains("dim 8") && error.contains("dim 16"), "{error}");
    let error = import("foreign.parquet").refused(1);
    assert!(error.contains(&"01".repeat(32)) && error.contains(&"02".repeat(32)), "{error}");
    std::fs::write(path("text.parquet"), "no Parquet").unwrap();
    let error = import("text.parquet").refused(1);
    assert!(error.contains("text.parquet"), "{error}");
    assert!(pages(&path("index")) == before);
}

#[test]
fn vectors_of_another_length_are_refused_unless_normalised() {
    let temporary = tempfile::tempdir().unwrap();
    let path = |name: &str| temporary.path().join(name);
    let long = colqwen_index::MultiVector::try_new(2, vec![3.0, 4.0], colqwen_index::UnitLength::Any);
    write_pages(
        &path("long.parquet"),
        PageFileOptions::new(2),
        &[PageRecord::new("a", 1, PageVectors::new(long.unwrap()))],
    );
    let error =
        cli!("import", "--bits", "16", "--embeddings", path("long.parquet"), "--index", path("index")).refused(1);
    assert!(error.contains("long.parquet") && error.contains("row 0"), "{error}");
    cli!("import", "--bits", "16", "--embeddings", path("long.parquet"), "--index", path("index"), "--normalize")
        .done();
    let stored = pages(&path("index"));
    let [x, y] = stored[0].vectors.vectors.values() else { panic!("two values") };
    assert!((x - 0.6).abs() < 1e-3 && (y - 0.8).abs() < 1e-3, "{x} {y}");
}

#[test]
fn page_images_give_rows_in_order() {
    let temporary = tempfile::tempdir().unwrap();
    let path = |name: &str| temporary.path().join(name);
    let picture =
        |number: u32| Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/oracle/fixtures/page{number}.png"));
    let out = path("pages.parquet");
    let run = cli!("encode", "--image", picture(2), picture(0), "--model", "builtin", "--out", &out, "--dtype", "f32");
    assert_eq!(run.done().out, "");
    let rows: Vec<PageRecord> = PageReader::open(&out).unwrap().map(Result::unwrap).collect();
    let keys: Vec<_> = rows.iter().map(|row| (row.doc_id.as_str(), row.page)).collect();
    assert_eq!(keys, [("page2.png", 1), ("page0.png", 1)]);
    for row in &rows {
        let layout = row.vectors.layout.as_ref().unwrap();
        let patches = usize::from(layout.grid_rows) * usize::from(layout.grid_cols);
        assert!(row.vectors.vectors.tokens() >= patches && patches > 0);
    }
    let metadata = PageReader::open(&out).unwrap().metadata().clone();
    assert_eq!((metadata.precision.as_deref(), metadata.dim), (Some("f32"), Some(128)));
    cli!("import", "--bits", "16", "--embeddings", &out, "--index", path("index")).done();
    assert_eq!(pages(&path("index")).len(), 2);

    // Each page of a PDF is a row, as f16 unless asked otherwise, the same as `index` makes them.
    let pdf = samples().join("pantry-recipes.pdf");
    cli!("encode", "--image", &pdf, "--model", "builtin", "--out", &out).done();
    cli!("index", "--bits", "16", &pdf, "--index", path("from-pdf")).done();
    let rows: Vec<PageRecord> = PageReader::open(&out).unwrap().map(Result::unwrap).collect();
    let indexed = pages(&path("from-pdf"));
    assert_eq!(rows.len(), 2);
    for (row, indexed) in rows.iter().zip(&indexed) {
        assert_eq!((row.page, &row.vectors, &row.text), (indexed.page, &indexed.vectors, &indexed.text));
    }

    // A file that fails leaves nothing behind, not even half of it.
    std::fs::write(path("bad.png"), "no picture").unwrap();
    let error = cli!("encode", "--image", &pdf, path("bad.png"), "--model", "builtin", "--out", path("no.parquet"));
    let error = error.refused(1);
    assert!(error.contains("bad.png"), "{error}");
    assert!(!super::support::file_names(temporary.path()).iter().any(|name| name.starts_with("no.parquet")));
}

#[test]
fn queries_of_another_model_are_refused_with_both_fingerprints() {
    let temporary = copied_samples();
    let path = |name: &str| temporary.path().join(name);
    let index = path("index");
    cli!("index", path("docs"), "--index", &index).done();
    let inspection = super::support::inspect(&index);
    let own = inspection["model"]["page_fingerprint"].as_str().unwrap();
    let mut numbers = Numbers(7);
    let mut queries = |name: &str, dim, origin: Origin| {
        let vectors = QueryVectors::new(numbers.vectors(4, dim)).with_origin(origin);
        let options = QueryFileOptions { origin, ..QueryFileOptions::new(dim) };
        write_queries(&path(name), options, &[QueryRecord { query_id: "q".to_owned(), text: None, vectors }]);
        cli!("search", &index, "--queries", path(name), "--json", "-k", "100")
    };
    let other = Fingerprint::from_bytes([0xab; 32]);
    let error = queries("other.parquet", 128, Origin::Model(other)).refused(1);
    assert!(error.contains(own) && error.contains(&other.to_string()), "{error}");
    let error = queries("narrow.parquet", 64, Origin::Unknown).refused(1);
    assert!(error.contains("64") && error.contains("128"), "{error}");
    // Unknown is allowed, and so is the index's own.
    let hits = |run: super::support::Ran| run.done().json_lines().remove(0).hits.len() as u64;
    assert_eq!(hits(queries("unknown.parquet", 128, Origin::Unknown)), SAMPLE_PAGES);
    let own: Fingerprint = own.parse().unwrap();
    assert_eq!(hits(queries("own.parquet", 128, Origin::Model(own))), SAMPLE_PAGES);
}
