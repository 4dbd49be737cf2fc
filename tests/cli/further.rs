//! Columns beyond the format's own: stored, filtered by, exported again.

use std::path::Path;

use colqwen_index::PageVectors;
use colqwen_index::QueryVectors;
use colqwen_index::ingest::embeddings::{
    FurtherColumn, FurtherKind, PageFileOptions, PageReader, PageRecord, QueryFileOptions, QueryRecord, Value,
};

use super::files::{Numbers, write_pages, write_queries};
use super::support::{assert_same, cli, pages};

const DIM: usize = 8;
/// 2024-05-01 12:00:00.000001 UTC, in microseconds.
const MAY: i64 = 1_714_564_800_000_001;
const YEAR: i64 = 365 * 86_400 * 1_000_000;

fn columns() -> Vec<FurtherColumn> {
    use FurtherKind::{Bool, F64, I64, Str, Timestamp, U64};
    vec![
        FurtherColumn::one("year", U64),
        FurtherColumn::one("delta", I64),
        FurtherColumn::one("ratio", F64),
        FurtherColumn::one("draft", Bool),
        FurtherColumn::one("made", Timestamp),
        FurtherColumn::one("language", Str),
        FurtherColumn::many("tags", Str),
        FurtherColumn::many("numbers", U64),
        FurtherColumn::many("days", Timestamp),
    ]
}

fn records() -> Vec<PageRecord> {
    let mut numbers = Numbers(3);
    let mut page = |doc_id: &str, further: Vec<(&str, Value)>| {
        let mut page = PageRecord::new(doc_id, 1, PageVectors::new(numbers.vectors(2, DIM)));
        page.further = further.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        page
    };
    let text = |text: &str| Value::Str(text.to_owned());
    vec![
        page(
            "a",
            vec![
                ("year", Value::U64(u64::MAX)),
                ("delta", Value::I64(i64::MIN)),
                ("ratio", Value::F64(0.1)),
                ("draft", Value::Bool(true)),
                ("made", Value::TimestampMicros(MAY)),
                ("language", text("de-AT Ö")),
                ("tags", Value::List(vec![text("red"), text("warm colour"), text("red")])),
                ("numbers", Value::List(vec![Value::U64(7), Value::U64(1)])),
                ("days", Value::List(vec![Value::TimestampMicros(MAY), Value::TimestampMicros(-YEAR)])),
            ],
        ),
        page(
            "b",
            vec![
                ("year", Value::U64(2023)),
                ("delta", Value::I64(-3)),
                ("ratio", Value::F64(-1e300)),
                ("draft", Value::Bool(false)),
                ("made", Value::TimestampMicros(-YEAR)),
                ("language", text("")),
                ("tags", Value::List(vec![text("blue")])),
            ],
        ),
        page("c", vec![]),
    ]
}

fn make(folder: &Path) {
    let options = PageFileOptions { further: columns(), ..PageFileOptions::new(DIM) };
    write_pages(&folder.join("pages.parquet"), options, &records());
    let vectors = QueryVectors::new(Numbers(4).vectors(2, DIM));
    let query = QueryRecord { query_id: "0".to_owned(), text: None, vectors };
    write_queries(&folder.join("queries.parquet"), QueryFileOptions::new(DIM), &[query]);
    cli!("import", "--bits", "16", "--embeddings", folder.join("pages.parquet"), "--index", folder.join("index"))
        .done();
}

#[test]
fn every_kind_of_column_can_be_filtered_by() {
    let temporary = tempfile::tempdir().unwrap();
    make(temporary.path());
    for (filter, documents) in [
        ("year:2023", "b"),
        ("year:18446744073709551615", "a"),
        ("year:[2000 TO *]", "ab"),
        ("delta:\"-3\"", "b"),
        ("delta:[* TO -3]", "ab"),
        ("ratio:0.1", "a"),
        ("ratio:[0 TO 1}", "a"),
        ("draft:true", "a"),
        ("draft:false", "b"),
        ("made:[2024-05-01T00:00:00Z TO 2024-05-02T00:00:00Z]", "a"),
        ("made:[* TO 1970-01-01T00:00:00Z]", "b"),
        ("days:[* TO 1970-01-01T00:00:00Z]", "a"),
        ("language:\"de-AT Ö\"", "a"),
        ("tags:red", "a"),
        ("tags:\"warm colour\"", "a"),
        ("tags:warm", ""),
        ("tags:IN [red blue]", "ab"),
        ("numbers:7 AND numbers:1", "a"),
        ("tags:blue OR numbers:7", "ab"),
        ("* AND NOT draft:true", "bc"),
        ("year:[2000 TO *] AND NOT draft:true AND NOT tags:red", "b"),
        ("year:2023 OR NOT draft:*", "bc"),
        ("NOT draft:true", "bc"),
        ("-tags:blue", "ac"),
    ] {
        let (index, queries) = (temporary.path().join("index"), temporary.path().join("queries.parquet"));
        let run = cli!("search", index, "--queries", queries, "--filter", filter, "--json").done();
        let mut found: Vec<String> = run.hits().into_iter().map(|(doc_id, _)| doc_id).collect();
        found.sort();
        assert_eq!(found.concat(), documents, "{filter}");
    }
}

#[test]
fn every_kind_of_column_is_exported_as_it_came() {
    let temporary = tempfile::tempdir().unwrap();
    make(temporary.path());
    let (index, out) = (temporary.path().join("index"), temporary.path().join("out.parquet"));
    cli!("export", "--index", &index, "--embeddings", &out).done();
    assert_eq!(PageReader::open(&out).unwrap().further_columns(), columns());
    for (page, made) in pages(&index).iter().zip(records()) {
        assert_eq!((&page.doc_id, &page.further), (&made.doc_id, &made.further));
    }
    cli!("import", "--bits", "16", "--embeddings", &out, "--index", temporary.path().join("again")).done();
    assert_same(&temporary.path().join("again"), &index);
}

#[test]
fn columns_that_the_index_has_not_or_has_otherwise_are_refused_by_name() {
    let temporary = tempfile::tempdir().unwrap();
    make(temporary.path());
    let before = pages(&temporary.path().join("index"));
    for (column, says) in [
        (FurtherColumn::one("colour", FurtherKind::Str), "no such field"),
        (FurtherColumn::one("year", FurtherKind::Str), "U64"),
        (FurtherColumn::one("tags", FurtherKind::Str), "list of Str"),
    ] {
        let file = temporary.path().join("other.parquet");
        let options = PageFileOptions { further: vec![column.clone()], ..PageFileOptions::new(DIM) };
        write_pages(&file, options, &[PageRecord::new("d", 1, PageVectors::new(Numbers(5).vectors(1, DIM)))]);
        let error =
            cli!("import", "--bits", "16", "--embeddings", file, "--index", temporary.path().join("index")).refused(1);
        assert!(error.contains(&format!("{:?}", column.name)) && error.contains(says), "{error}");
    }
    assert_eq!(pages(&temporary.path().join("index")), before);
    // Fewer columns are welcome.
    let file = temporary.path().join("plain.parquet");
    write_pages(
        &file,
        PageFileOptions::new(DIM),
        &[PageRecord::new("d", 1, PageVectors::new(Numbers(5).vectors(1, DIM)))],
    );
    cli!("import", "--bits", "16", "--embeddings", file, "--index", temporary.path().join("index")).done();
    assert_eq!(pages(&temporary.path().join("index")).len(), 4);
}

#[test]
fn a_time_that_the_index_cannot_hold_is_refused_and_not_bent() {
    let temporary = tempfile::tempdir().unwrap();
    let file = temporary.path().join("far.parquet");
    let column = FurtherColumn::one("until", FurtherKind::Timestamp);
    let mut page = PageRecord::new("a", 1, PageVectors::new(Numbers(5).vectors(1, DIM)));
    // The last day of the year 9999, which stands for "never" in many tables.
    page.further = vec![("until".to_owned(), Value::TimestampMicros(253_402_214_400_000_000))];
    write_pages(&file, PageFileOptions { further: vec![column], ..PageFileOptions::new(DIM) }, &[page]);
    let error =
        cli!("import", "--bits", "16", "--embeddings", &file, "--index", temporary.path().join("index")).refused(1);
    assert!(error.contains("until") && error.contains("2262"), "{error}");
}
