//! What is wrong with a file is told by file, column and row.

use std::fs::{self, File};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, Date32Array, FixedSizeListArray, Float32Array, Float64Array, Int32Array, Int64Array, ListArray,
    ListBuilder, PrimitiveBuilder, RecordBatch, StringArray, StructArray, TimestampSecondArray, UInt16Builder,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, Float32Type, Schema};
use colqwen_index_field::UnitLength;
use colqwen_index_ingest::embeddings::schema::{KEY_DIM, KEY_PAGE_FINGERPRINT, KEY_VERSION};
use colqwen_index_ingest::embeddings::{PageReader, Problem, QueryReader, ReadOptions};
use parquet::arrow::ArrowWriter;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use tempfile::TempDir;

use super::fixture;

/// Two-dimensional vectors, one list per row.
fn embeddings(rows: &[&[f32]]) -> ArrayRef {
    let values = Float32Array::from(rows.concat());
    let value = Arc::new(Field::new("item", DataType::Float32, true));
    let tokens = FixedSizeListArray::try_new(value, 2, Arc::new(values), None).unwrap();
    listed(rows, Arc::new(tokens), None)
}

fn listed(rows: &[&[f32]], tokens: ArrayRef, nulls: Option<NullBuffer>) -> ArrayRef {
    let token = Arc::new(Field::new("item", tokens.data_type().clone(), true));
    let offsets = OffsetBuffer::from_lengths(rows.iter().map(|row| row.len() / 2));
    Arc::new(ListArray::try_new(token, offsets, tokens, nulls).unwrap())
}

/// Vectors as lists of lists, whose lengths the type does not fix.
fn ragged(row: &[&[f32]]) -> ArrayRef {
    let mut lists = ListBuilder::new(ListBuilder::new(PrimitiveBuilder::<Float32Type>::new()));
    for token in row {
        lists.values().values().append_slice(token);
        lists.values().append(true);
    }
    lists.append(true);
    Arc::new(lists.finish())
}

fn strings(values: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

fn numbers<const N: usize>(values: [Option<i64>; N]) -> ArrayRef {
    Arc::new(Int64Array::from(values.to_vec()))
}

/// A valid file of two pages, with columns replaced or added.
fn pages(changed: Vec<(&str, ArrayRef)>) -> (TempDir, std::path::PathBuf) {
    let mut columns: Vec<(&str, ArrayRef)> = vec![
        ("doc_id", strings(&["a", "b"])),
        ("page", numbers([Some(1), Some(2)])),
        ("embeddings", embeddings(&[&[1.0, 0.0], &[0.0, 1.0, 0.6, 0.8]])),
    ];
    for (name, column) in changed {
        match columns.iter_mut().find(|(other, _)| *other == name) {
            Some(slot) => slot.1 = column,
            None => columns.push((name, column)),
        }
    }
    table(columns, &[])
}

fn table(columns: Vec<(&str, ArrayRef)>, metadata: &[(&str, &str)]) -> (TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("in.parquet");
    let fields: Vec<_> =
        columns.iter().map(|(name, column)| Field::new(*name, column.data_type().clone(), true)).collect();
    let schema = Arc::new(Schema::new(fields));
    let columns = columns.into_iter().map(|(_, column)| column).collect();
    let batch = RecordBatch::try_new(schema.clone(), columns).unwrap();
    let pairs = metadata.iter().map(|(key, value)| KeyValue::new((*key).to_owned(), (*value).to_owned())).collect();
    let properties = WriterProperties::builder().set_key_value_metadata(Some(pairs)).build();
    let mut writer = ArrowWriter::try_new(File::create(&path).unwrap(), schema, Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    (folder, path)
}

/// What opening the file, or else its first refused row, says.
fn refusal((_folder, path): (TempDir, std::path::PathBuf)) -> String {
    let error = match PageReader::open(&path) {
        Err(error) => error,
        Ok(pages) => pages.filter_map(Result::err).next().expect("a refused row"),
    };
    assert_eq!(error.path(), path);
    let text = error.to_string();
    text.strip_prefix(&format!("{}: ", path.display())).expect("the file's name first").to_owned()
}

#[test]
fn the_unchanged_file_is_accepted() {
    let (_folder, path) = pages(vec![]);
    assert_eq!(PageReader::open(&path).unwrap().filter(Result::is_ok).count(), 2);
}

#[test]
fn metadata_that_cannot_be_right() {
    let with = |key, value| {
        refusal(table(
            vec![("doc_id", strings(&["a"])), ("page", numbers([Some(1)])), ("embeddings", embeddings(&[&[1.0, 0.0]]))],
            &[(key, value)],
        ))
    };
    assert_eq!(
        with(KEY_VERSION, "2"),
        "format version \"2\" is unknown, expected \"1\"; a newer colqwen-index may read it"
    );
    assert!(with(KEY_DIM, "3").contains("expected 2, as the type of column \"embeddings\" says, received \"3\""));
    assert!(with(KEY_DIM, "two").contains("expected a number from 1, received \"two\""));
    assert!(with(KEY_DIM, "0").contains("expected a number from 1"));
    assert!(with(KEY_PAGE_FINGERPRINT, "abc").contains("expected 64 hexadecimal digits, received \"abc\""));
}

#[test]
fn missing_columns_and_columns_of_another_type() {
    let without = refusal(table(vec![("id", strings(&["a"])), ("embeddings", embeddings(&[&[1.0, 0.0]]))], &[]));
    assert_eq!(without, "column \"doc_id\" is missing: expected utf8; the file has \"id\", \"embeddings\"");
    let says = |name: &str, column: ArrayRef| refusal(pages(vec![(name, column)]));
    assert!(says("page", strings(&["1", "2"])).contains("column \"page\" has type Utf8, expected uint32"));
    assert!(says("doc_id", numbers([Some(1), Some(2)])).contains("column \"doc_id\" has type Int64, expected utf8"));
    assert!(says("text", numbers([Some(1), None])).contains("column \"text\" has type Int64"));
    assert!(says("content_hash", strings(&["a", "b"])).contains("expected binary"));
    assert!(says("grid_rows", strings(&["a", "b"])).contains("expected uint16"));
    assert!(says("token_patches", strings(&["a", "b"])).contains("expected list<list<uint16>>"));
    let doubles = Arc::new(Float64Array::from(vec![1.0, 0.0]));
    assert!(says("embeddings", doubles).contains("expected list<fixed_size_list<float16 or float32, dim>>"));
    let dates = Arc::new(Date32Array::from(vec![1, 2]));
    assert!(says("day", dates).contains("column \"day\" has type Date32, expected integers, floats, bool, timestamps"));
    let nested = StructArray::from(vec![(
        Arc::new(Field::new("x", DataType::Int32, true)),
        Arc::new(Int32Array::from(vec![1, 2])) as ArrayRef,
    )]);
    assert!(says("meta", Arc::new(nested)).contains("column \"meta\" has type Struct"));
    assert!(says("page_key", strings(&["a", "b"])).contains("\"page_key\" has a name that the page index keeps"));
    let twice = vec![("x", strings(&["a"])), ("x", strings(&["a"])), ("embeddings", embeddings(&[&[1.0, 0.0]]))];
    assert!(refusal(table(twice, &[])).contains("column \"x\" appears twice"));
}

#[test]
fn a_page_file_is_no_query_file() {
    let (_folder, path) = pages(vec![]);
    let error = QueryReader::open(path).err().unwrap().to_string();
    assert!(error.contains("column \"query_id\" is missing: expected utf8; the file has \"doc_id\""), "{error}");
    let error = PageReader::open(fixture("foreign_queries.parquet")).err().unwrap();
    assert!(matches!(error.problem(), Problem::MissingColumn { column: "doc_id", .. }), "{error}");
}

#[test]
fn keys_out_of_range() {
    let says = |name: &str, column: ArrayRef| refusal(pages(vec![(name, column)]));
    let page = |value| says("page", numbers([Some(1), value]));
    assert_eq!(page(Some(0)), "row 1, column \"page\": expected a uint32 from 1, received 0");
    assert_eq!(page(Some(-1)), "row 1, column \"page\": expected a uint32, received -1");
    assert_eq!(page(Some(1 << 32)), "row 1, column \"page\": expected a uint32, received 4294967296");
    assert_eq!(page(None), "row 1, column \"page\": expected a uint32 from 1, received null");
    assert!(says("doc_id", strings(&["a", ""])).contains("row 1, column \"doc_id\": expected text of 1 to 65000"));
    let null = Arc::new(StringArray::from(vec![None, Some("b")]));
    assert!(
        says("doc_id", null).contains("row 0, column \"doc_id\": expected text of 1 to 65000 bytes, received null")
    );
    let far = Arc::new(TimestampSecondArray::from(vec![0, i64::MAX]));
    assert!(says("seen", far).contains("row 1, column \"seen\": expected a time of 64-bit microseconds"));
}

#[test]
fn vectors_that_cannot_be_searched() {
    let says = |row: &[f32]| refusal(pages(vec![("embeddings", embeddings(&[&[1.0, 0.0], row]))]));
    assert!(says(&[1.0, f32::NAN]).starts_with("row 1, column \"embeddings\": token 0 has NaN at position 1"));
    assert!(says(&[1.0, 0.0, f32::INFINITY, 0.0]).contains("token 1 has inf"));
    assert!(says(&[3.0, 4.0]).contains("token 0 has length 5, expected 1"));
    assert!(says(&[]).contains("received 0 tokens"));

    let rows: &[&[f32]] = &[&[1.0, 0.0], &[0.0, 1.0]];
    let value = Arc::new(Field::new("item", DataType::Float32, true));
    let list = |values: Vec<Option<f32>>, tokens: Option<Vec<bool>>, pages: Option<Vec<bool>>| {
        let values = Arc::new(Float32Array::from(values));
        let tokens = FixedSizeListArray::try_new(value.clone(), 2, values, tokens.map(NullBuffer::from)).unwrap();
        refusal(self::pages(vec![("embeddings", listed(rows, Arc::new(tokens), pages.map(NullBuffer::from)))]))
    };
    let whole = vec![Some(1.0), Some(0.0), Some(0.0), Some(1.0)];
    let at = "row 1, column \"embeddings\": expected a list of vectors of 2 values, received ";
    assert_eq!(list(vec![Some(1.0), Some(0.0), None, Some(1.0)], None, None), format!("{at}a null value"));
    assert_eq!(list(whole.clone(), Some(vec![true, false]), None), format!("{at}a null vector"));
    assert_eq!(list(whole, None, Some(vec![true, false])), format!("{at}null"));
}

#[test]
fn vectors_of_another_length_are_normalised_when_asked() {
    let (_folder, path) = pages(vec![("embeddings", embeddings(&[&[3.0, 4.0], &[0.0, 2.0]]))]);
    let options = ReadOptions { unit_length: UnitLength::Normalize };
    let pages: Vec<_> = PageReader::open_with(path, options).unwrap().map(Result::unwrap).collect();
    assert_eq!(pages[0].vectors.vectors.values(), [0.6, 0.8]);
    assert_eq!(pages[1].vectors.vectors.values(), [0.0, 1.0]);
}

#[test]
fn lists_of_lists_need_one_length() {
    let file = |row: &[&[f32]], metadata: &[(&str, &str)]| {
        let page = ("page", numbers([Some(1)]));
        refusal(table(vec![("doc_id", strings(&["a"])), page, ("embeddings", ragged(row))], metadata))
    };
    assert_eq!(
        file(&[&[1.0, 0.0], &[1.0]], &[]),
        "row 0, column \"embeddings\": expected a list of vectors of 2 values, received token 1 with 1 values"
    );
    assert!(file(&[&[1.0, 0.0]], &[(KEY_DIM, "3")]).contains("vectors of 3 values, received token 0 with 2 values"));
    assert!(file(&[], &[]).contains("expected a first token that shows the dim"));
    assert!(file(&[&[]], &[]).contains("expected a first token that shows the dim"));
}

#[test]
fn a_layout_is_whole_and_fits_the_tokens() {
    let layout = |first: Option<i64>, rows: Option<i64>| {
        let numbers = |second| numbers([None, second]);
        pages(vec![
            ("width", numbers(Some(28))),
            ("height", numbers(Some(28))),
            ("grid_rows", numbers(rows)),
            ("grid_cols", numbers(Some(2))),
            ("first_patch", numbers(first)),
        ])
    };
    assert_eq!(
        refusal(layout(None, Some(1))),
        "row 1, column \"first_patch\": expected a value, as other columns of the page's layout have one (give all of \
         them or none), received none"
    );
    assert!(refusal(layout(Some(0), None)).starts_with("row 1, column \"grid_rows\": expected a value"));
    assert!(refusal(layout(Some(1), Some(1))).contains("needs more tokens than the page's 2"));
    assert!(refusal(layout(Some(0), Some(70_000))).contains("column \"grid_rows\": expected a uint16, received 70000"));
    let mut patches = ListBuilder::new(ListBuilder::new(UInt16Builder::new()));
    patches.append(true);
    patches.append(false);
    assert!(refusal(pages(vec![("token_patches", Arc::new(patches.finish()))])).contains("row 0, column \"width\""));
}

#[test]
fn reading_goes_on_after_a_refused_row() {
    let (_folder, path) = pages(vec![("page", numbers([Some(0), Some(2)]))]);
    let rows: Vec<_> = PageReader::open(path).unwrap().map(|row| row.map(|page| page.page).ok()).collect();
    assert_eq!(rows, [None, Some(2)]);
}

#[test]
fn files_that_are_cut_off_or_no_parquet() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f.parquet");
    let open = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        PageReader::open(&path).err().map(|error| error.to_string())
    };
    let whole = fs::read(fixture("foreign.parquet")).unwrap();
    assert_eq!(open(&whole), None);
    for length in [0, 3, 8, whole.len() / 2, whole.len() - 1] {
        assert!(open(&whole[..length]).unwrap().contains("f.parquet: not a complete Parquet file"), "{length}");
    }
    assert!(open(b"%PDF-1.7 and so on, long enough").unwrap().contains("not a complete Parquet file"));
    fs::remove_file(&path).unwrap();
    assert!(PageReader::open(&path).err().unwrap().to_string().contains("cannot open the file"));
    assert!(PageReader::open(folder.path()).is_err());
}

#[test]
fn damaged_bytes_are_errors_and_never_a_panic() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f.parquet");
    for name in ["frozen_v1.parquet", "foreign_lists.parquet"] {
        let whole = fs::read(fixture(name)).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x55;
            fs::write(&path, &bytes).unwrap();
            if let Ok(pages) = PageReader::open(&path) {
                // Without checksums in the file some damage passes for other values; reading must end all the same.
                assert!(pages.take(1000).count() < 1000, "byte {at} of {name}");
            }
        }
    }
}
