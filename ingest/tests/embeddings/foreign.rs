//! Files that other programs wrote.

use std::fs::File;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, FixedSizeBinaryArray, Int32Array, LargeStringArray, ListBuilder, RecordBatch, StringViewArray,
    UInt8Array, UInt64Array, UInt64Builder,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema};
use colqwen_index_field::{Origin, PageLayout};
use colqwen_index_ingest::embeddings::{
    Error, FileMetadata, FurtherColumn, FurtherKind, PageReader, PageRecord, QueryReader, Value,
};
use parquet::arrow::ArrowWriter;

use super::fixture;

const PAGES: [&[f32]; 3] = [
    &[1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0],
    &[0.0, 0.0, 1.0, 0.0],
    &[0.0, 0.0, 0.0, 1.0, 0.6, 0.8, 0.0, 0.0, 0.0, 0.0, -0.6, 0.8],
];

fn read(name: &str) -> (PageReader, Vec<PageRecord>) {
    let pages = PageReader::open(fixture(name)).unwrap().collect::<Result<Vec<_>, Error>>().unwrap();
    (PageReader::open(fixture(name)).unwrap(), pages)
}

fn assert_keys_and_vectors(pages: &[PageRecord], tolerance: f32) {
    let keys: Vec<_> = pages.iter().map(|page| (page.doc_id.as_str(), page.page)).collect();
    assert_eq!(keys, [("a.pdf", 1), ("a.pdf", 2), ("b/c.pdf", 1)]);
    for (page, expected) in pages.iter().zip(PAGES) {
        assert_eq!((page.vectors.vectors.dim(), page.vectors.origin), (4, Origin::Unknown));
        assert_eq!(page.vectors.vectors.values().len(), expected.len());
        let near = |(read, wrote): (&f32, &f32)| (read - wrote).abs() <= tolerance;
        assert!(page.vectors.vectors.values().iter().zip(expected).all(near));
    }
}

#[test]
fn a_file_of_pyarrow_without_metadata() {
    use FurtherKind::{Bool, F64, I64, Str, Timestamp, U64};
    let (reader, pages) = read("foreign.parquet");
    assert_eq!((reader.dim(), reader.rows(), reader.origin()), (4, 3, Origin::Unknown));
    assert_eq!(reader.metadata(), &FileMetadata::default());
    assert_keys_and_vectors(&pages, 5e-4);
    let one = [
        ("bucket", U64),
        ("delta", I64),
        ("score", F64),
        ("draft", Bool),
        ("seen_s", Timestamp),
        ("seen_ns", Timestamp),
        ("language", Str),
    ];
    let mut columns: Vec<_> = one.into_iter().map(|(name, kind)| FurtherColumn::one(name, kind)).collect();
    columns.extend([FurtherColumn::many("tags", Str), FurtherColumn::many("years", I64)]);
    assert_eq!(reader.further_columns(), columns);

    let texts: Vec<_> = pages.iter().map(|page| page.text.as_deref()).collect();
    assert_eq!(texts, [Some("eins"), None, Some("")]);
    let str = |text: &str| Value::Str(text.to_owned());
    let further = |page: usize| -> Vec<(&str, &Value)> {
        pages[page].further.iter().map(|(name, value)| (name.as_str(), value)).collect()
    };
    assert_eq!(
        further(0),
        [
            ("bucket", &Value::U64(7)),
            ("delta", &Value::I64(-1)),
            ("score", &Value::F64(0.5)),
            ("draft", &Value::Bool(true)),
            ("seen_s", &Value::TimestampMicros(1_709_208_000_000_000)),
            ("seen_ns", &Value::TimestampMicros(0)),
            ("language", &str("de")),
            ("tags", &Value::List(vec![str("x"), str("y")])),
            // The null between them is left out.
            ("years", &Value::List(vec![Value::I64(2020), Value::I64(2021)])),
        ]
    );
    // A nanosecond before 1970 is in the microsecond before 1970; nulls are left out, an empty list is not.
    assert_eq!(
        further(1),
        [
            ("delta", &Value::I64(0)),
            ("draft", &Value::Bool(false)),
            ("seen_ns", &Value::TimestampMicros(-1)),
            ("tags", &Value::List(vec![])),
        ]
    );
    assert_eq!(
        further(2),
        [
            ("bucket", &Value::U64(9)),
            ("score", &Value::F64(-2.0)),
            ("seen_s", &Value::TimestampMicros(-1_000_000)),
            ("language", &str("en")),
            ("years", &Value::List(vec![Value::I64(1999)])),
        ]
    );
}

#[test]
fn other_encodings_of_the_same_columns() {
    let (reader, pages) = read("foreign_lists.parquet");
    assert_eq!((reader.dim(), reader.further_columns()), (4, [].as_slice()));
    assert_keys_and_vectors(&pages, 0.0);
    let layout = PageLayout { width: 56, height: 28, grid_rows: 1, grid_cols: 2, first_patch: 0, token_patches: None };
    assert_eq!(pages[0].vectors.layout, Some(layout));
    assert_eq!((&pages[1].vectors.layout, &pages[2].vectors.layout), (&None, &None));
    let sources: Vec<_> = pages.iter().map(|page| page.source.as_deref()).collect();
    assert_eq!(sources, [Some("in/a.pdf"), Some("in/a.pdf"), None]);
    let hashes: Vec<_> = pages.iter().map(|page| page.content_hash.as_deref()).collect();
    assert_eq!(hashes, [Some(b"12".as_slice()), Some(b"34"), None]);
}

#[test]
fn queries_of_pyarrow_with_a_column_that_is_not_read() {
    let reader = QueryReader::open(fixture("foreign_queries.parquet")).unwrap();
    assert_eq!((reader.dim(), reader.rows(), reader.origin()), (4, 2, Origin::Unknown));
    let queries = reader.collect::<Result<Vec<_>, Error>>().unwrap();
    let ids: Vec<_> = queries.iter().map(|query| (query.query_id.as_str(), query.text.as_deref())).collect();
    assert_eq!(ids, [("q0", None), ("q1", None)]);
    assert_eq!((queries[0].vectors.vectors.values(), queries[1].vectors.vectors.values()), (PAGES[0], PAGES[1]));
}

#[test]
fn arrow_types_kept_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wide.parquet");
    // The nesting of the fixture's embeddings in 64-bit lists, and every text and number type that is left.
    let inner = DataType::LargeList(Field::new("v", DataType::Float32, true).into());
    let outer = DataType::LargeList(Field::new("t", inner, true).into());
    let file = File::open(fixture("foreign_queries.parquet")).unwrap();
    let mut rows = parquet::arrow::arrow_reader::ParquetRecordBatchReader::try_new(file, 10).unwrap();
    let embeddings = cast(rows.next().unwrap().unwrap().column_by_name("embeddings").unwrap(), &outer).unwrap();
    let mut patches = ListBuilder::new(ListBuilder::new(UInt64Builder::new()));
    patches.values().values().append_value(1);
    patches.values().append(true);
    patches.values().append(false);
    patches.append(true);
    patches.append(false);
    let number = |value| Arc::new(Int32Array::from(vec![Some(value), None])) as ArrayRef;
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("doc_id", Arc::new(LargeStringArray::from(vec!["a", "b"]))),
        ("page", Arc::new(UInt8Array::from(vec![1, 255]))),
        ("embeddings", embeddings),
        ("text", Arc::new(StringViewArray::from(vec![Some("a text longer than twelve bytes"), None]))),
        ("content_hash", Arc::new(FixedSizeBinaryArray::try_from_iter([[1, 2], [3, 4]].iter()).unwrap())),
        ("width", number(28)),
        ("height", number(56)),
        ("grid_rows", number(2)),
        ("grid_cols", number(1)),
        ("token_patches", Arc::new(patches.finish())),
        ("size", Arc::new(UInt64Array::from(vec![u64::MAX, 0]))),
    ];
    let fields: Vec<_> =
        columns.iter().map(|(name, column)| Field::new(*name, column.data_type().clone(), true)).collect();
    let schema = Arc::new(Schema::new(fields));
    let batch = RecordBatch::try_new(schema.clone(), columns.into_iter().map(|(_, column)| column).collect()).unwrap();
    let mut writer = ArrowWriter::try_new(File::create(&path).unwrap(), schema, None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();

    let reader = PageReader::open(&path).unwrap();
    assert_eq!(reader.dim(), 4);
    let pages = reader.collect::<Result<Vec<_>, Error>>().unwrap();
    assert_eq!((pages[0].vectors.vectors.values(), pages[1].vectors.vectors.values()), (PAGES[0], PAGES[1]));
    assert_eq!((pages[1].doc_id.as_str(), pages[1].page), ("b", 255));
    assert_eq!(pages[0].text.as_deref(), Some("a text longer than twelve bytes"));
    assert_eq!(pages[1].content_hash.as_deref(), Some([3, 4].as_slice()));
    let layout = pages[0].vectors.layout.as_ref().unwrap();
    // Pooled tokens need no first patch, and a null list stands for no patch.
    assert_eq!((layout.first_patch, layout.token_patches.clone()), (0, Some(vec![vec![1], vec![]])));
    assert_eq!(pages[0].further, [("size".to_owned(), Value::U64(u64::MAX))]);
}
