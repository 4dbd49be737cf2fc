//! The promise of version 1: files written by the first release stay readable, with the same content.
//!
//! `frozen_v1.parquet` and `frozen_v1_queries.parquet` were written once by `write_the_frozen_files` and are never
//! written again. A change that these tests do not survive needs a new version.

use colqwen_index_field::{Fingerprint, Origin, PageLayout, PageVectors, QueryVectors};
use colqwen_index_ingest::embeddings::{
    Error, FileMetadata, FurtherColumn, FurtherKind, PageFileOptions, PageReader, PageRecord, PageWriter, Precision,
    QueryFileOptions, QueryReader, QueryRecord, QueryWriter, Value,
};

use super::{fixture, page_with_layout, vectors};

fn origin() -> Origin {
    Origin::Model(Fingerprint::from_bytes(std::array::from_fn(|at| at as u8)))
}

fn options() -> PageFileOptions {
    PageFileOptions {
        origin: origin(),
        query_format: Some("Query: {text}".into()),
        pooled: true,
        further: vec![
            FurtherColumn::one("bucket", FurtherKind::U64),
            FurtherColumn::one("delta", FurtherKind::I64),
            FurtherColumn::one("score", FurtherKind::F64),
            FurtherColumn::one("draft", FurtherKind::Bool),
            FurtherColumn::one("seen", FurtherKind::Timestamp),
            FurtherColumn::many("tags", FurtherKind::Str),
        ],
        ..PageFileOptions::new(4)
    }
}

fn pages() -> Vec<PageRecord> {
    let further = [
        ("bucket", Value::U64(7)),
        ("delta", Value::I64(-7)),
        ("score", Value::F64(0.25)),
        ("draft", Value::Bool(false)),
        ("seen", Value::TimestampMicros(1_709_208_000_123_456)),
        ("tags", Value::List(vec![Value::Str("x".into()), Value::Str("y".into())])),
    ];
    let pooled = PageLayout {
        width: 56,
        height: 28,
        grid_rows: 1,
        grid_cols: 2,
        first_patch: 0,
        token_patches: Some(vec![vec![0, 1], vec![]]),
    };
    vec![
        PageRecord {
            text: Some("Text of the page".into()),
            source: Some("manuals/a.pdf".into()),
            content_hash: Some((0..32).collect()),
            further: further.map(|(name, value)| (name.to_owned(), value)).into(),
            ..PageRecord::new("a.pdf", 1, page_with_layout(0).with_origin(origin()))
        },
        PageRecord::new("a.pdf", 2, PageVectors::new(vectors(3, 1)).with_origin(origin())),
        PageRecord::new("b.pdf", 1, PageVectors::new(vectors(2, 5)).with_origin(origin()).with_layout(pooled).unwrap()),
    ]
}

fn queries() -> Vec<QueryRecord> {
    let query = |id: &str, text: Option<&str>, tokens| QueryRecord {
        query_id: id.to_owned(),
        text: text.map(str::to_owned),
        vectors: QueryVectors::new(vectors(tokens, tokens)).with_origin(origin()),
    };
    vec![query("0", Some("what is frozen?"), 3), query("one", None, 1)]
}

fn metadata(query_format: Option<&str>, precision: &str) -> FileMetadata {
    FileMetadata {
        version: Some("1".into()),
        origin: origin(),
        dim: Some(4),
        query_format: query_format.map(str::to_owned),
        precision: Some(precision.into()),
        pool_factors: Vec::new(),
    }
}

#[test]
fn pages_of_version_1() {
    let reader = PageReader::open(fixture("frozen_v1.parquet")).unwrap();
    assert_eq!((reader.dim(), reader.rows(), reader.further_columns()), (4, 3, options().further.as_slice()));
    assert_eq!(reader.metadata(), &metadata(Some("Query: {text}"), "f16"));
    assert_eq!(reader.collect::<Result<Vec<_>, Error>>().unwrap(), pages());
}

#[test]
fn queries_of_version_1() {
    let reader = QueryReader::open(fixture("frozen_v1_queries.parquet")).unwrap();
    assert_eq!(reader.metadata(), &metadata(None, "f32"));
    assert_eq!(reader.collect::<Result<Vec<_>, Error>>().unwrap(), queries());
}

/// Writes the files of a new format version into the folder named by `COLQWEN_INDEX_FREEZE_INTO`; nothing otherwise.
#[test]
fn write_the_frozen_files() {
    let Some(folder) = std::env::var_os("COLQWEN_INDEX_FREEZE_INTO") else { return };
    let folder = std::path::Path::new(&folder);
    let mut writer = PageWriter::create(folder.join("frozen_v1.parquet"), options()).unwrap();
    pages().iter().for_each(|page| writer.write(page).unwrap());
    writer.finish().unwrap();
    let options = QueryFileOptions { origin: origin(), precision: Precision::F32, ..QueryFileOptions::new(4) };
    let mut writer = QueryWriter::create(folder.join("frozen_v1_queries.parquet"), options).unwrap();
    queries().iter().for_each(|query| writer.write(query).unwrap());
    writer.finish().unwrap();
}
