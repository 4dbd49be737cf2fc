//! What is written comes back, and a file is complete or absent.

use std::fs;

use colqwen_index_field::{Fingerprint, MultiVector, Origin, PageLayout, PageVectors, QueryVectors, UnitLength};
use colqwen_index_ingest::embeddings::schema::VERSION;
use colqwen_index_ingest::embeddings::{
    Error, FurtherColumn, FurtherKind, PageFileOptions, PageReader, PageRecord, PageWriter, Precision,
    QueryFileOptions, QueryReader, QueryRecord, QueryWriter, Value,
};

use super::{page_with_layout, vectors};

fn model() -> Origin {
    Origin::Model(Fingerprint::from_bytes([7; 32]))
}

fn every_further_column() -> Vec<FurtherColumn> {
    use FurtherKind::{Bool, F64, I64, Str, Timestamp, U64};
    let mut columns: Vec<_> = [("u", U64), ("i", I64), ("f", F64), ("b", Bool), ("t", Timestamp), ("s", Str)]
        .map(|(name, kind)| FurtherColumn::one(name, kind))
        .into();
    columns.extend([("ts", Timestamp), ("ss", Str), ("us", U64)].map(|(name, kind)| FurtherColumn::many(name, kind)));
    columns
}

fn pages() -> Vec<PageRecord> {
    let named = |name: &str, value| (name.to_owned(), value);
    let further = vec![
        named("u", Value::U64(u64::MAX)),
        named("i", Value::I64(i64::MIN)),
        named("f", Value::F64(-0.1)),
        named("b", Value::Bool(true)),
        named("t", Value::TimestampMicros(-1)),
        named("s", Value::Str("ü".into())),
        named("ts", Value::List(vec![Value::TimestampMicros(0), Value::TimestampMicros(1_700_000_000_000_001)])),
        named("ss", Value::List(vec![])),
        named("us", Value::List(vec![Value::U64(3), Value::U64(3)])),
    ];
    let pooled = PageLayout {
        width: 84,
        height: 56,
        grid_rows: 2,
        grid_cols: 3,
        first_patch: 0,
        token_patches: Some(vec![vec![0, 1], vec![], vec![5]]),
    };
    vec![
        PageRecord {
            text: Some("Zeile eins\nZeile zwei".into()),
            source: Some("in/a.pdf".into()),
            content_hash: Some(vec![0, 255, 1]),
            further,
            ..PageRecord::new("a.pdf", 1, page_with_layout(0))
        },
        PageRecord::new("a.pdf", u32::MAX, PageVectors::new(vectors(1, 2))),
        PageRecord {
            text: Some(String::new()),
            further: vec![named("b", Value::Bool(false)), named("s", Value::Str(String::new()))],
            ..PageRecord::new("b/ü.pdf", 3, PageVectors::new(vectors(3, 1)).with_layout(pooled).unwrap())
        },
    ]
}

fn of_model(mut pages: Vec<PageRecord>) -> Vec<PageRecord> {
    pages.iter_mut().for_each(|page| page.vectors.origin = model());
    pages
}

#[test]
fn everything_comes_back_in_both_precisions() {
    let folder = tempfile::tempdir().unwrap();
    for precision in [Precision::F16, Precision::F32] {
        let path = folder.path().join(format!("{precision}.parquet"));
        let options = PageFileOptions {
            origin: model(),
            precision,
            query_format: Some("{\"prefix\": \"Query: \"}".into()),
            pooled: true,
            further: every_further_column(),
            ..PageFileOptions::new(4)
        };
        let mut writer = PageWriter::create(&path, options).unwrap();
        let pages = of_model(pages());
        pages.iter().for_each(|page| writer.write(page).unwrap());
        assert_eq!(writer.finish().unwrap(), 3);

        let reader = PageReader::open(&path).unwrap();
        assert_eq!((reader.dim(), reader.rows(), reader.origin(), reader.path()), (4, 3, model(), path.as_path()));
        let metadata = reader.metadata().clone();
        assert_eq!((metadata.version.as_deref(), metadata.dim), (Some(VERSION), Some(4)));
        assert_eq!(metadata.precision, Some(precision.to_string()));
        assert_eq!(metadata.query_format.as_deref(), Some("{\"prefix\": \"Query: \"}"));
        assert_eq!(reader.further_columns(), every_further_column());
        assert_eq!(reader.collect::<Result<Vec<_>, Error>>().unwrap(), pages);
    }
}

#[test]
fn f32_is_exact_and_f16_close() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pages.parquet");
    let exact = MultiVector::try_new(3, vec![0.1, 0.2, 0.974_679_4], UnitLength::Require).unwrap();
    for (precision, tolerance) in [(Precision::F32, 0.0), (Precision::F16, 5e-4)] {
        let mut writer = PageWriter::create(&path, PageFileOptions { precision, ..PageFileOptions::new(3) }).unwrap();
        writer.write(&PageRecord::new("d", 1, PageVectors::new(exact.clone()))).unwrap();
        writer.finish().unwrap();
        let read = PageReader::open(&path).unwrap().next().unwrap().unwrap();
        for (read, wrote) in read.vectors.vectors.values().iter().zip(exact.values()) {
            assert!((read - wrote).abs() <= tolerance, "{precision}: {read} for {wrote}");
        }
    }
}

#[test]
fn many_row_groups_and_no_rows_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pages.parquet");
    for rows in [0, 1, 2500] {
        let mut writer = PageWriter::create(&path, PageFileOptions::new(4)).unwrap();
        for row in 0..rows {
            let tokens = vectors(1 + row as usize % 5, row as usize);
            writer.write(&PageRecord::new(format!("d{row}"), row + 1, PageVectors::new(tokens))).unwrap();
        }
        assert_eq!((writer.rows(), writer.finish().unwrap()), (u64::from(rows), u64::from(rows)));
        let mut read = 0;
        for (row, page) in PageReader::open(&path).unwrap().enumerate() {
            let page = page.unwrap();
            assert_eq!((page.doc_id, page.page), (format!("d{row}"), row as u32 + 1));
            assert_eq!(page.vectors.vectors, vectors(1 + row % 5, row));
            read += 1;
        }
        assert_eq!(read, rows);
    }
}

#[test]
fn queries_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queries.parquet");
    let queries: Vec<_> = (0..1500)
        .map(|at| QueryRecord {
            query_id: at.to_string(),
            text: (at % 2 == 0).then(|| format!("what is {at}?")),
            vectors: QueryVectors::new(vectors(1 + at % 3, at)).with_origin(model()),
        })
        .collect();
    let options = QueryFileOptions { origin: model(), ..QueryFileOptions::new(4) };
    let mut writer = QueryWriter::create(&path, options).unwrap();
    queries.iter().for_each(|query| writer.write(query).unwrap());
    assert_eq!((writer.rows(), writer.finish().unwrap()), (1500, 1500));
    let reader = QueryReader::open(&path).unwrap();
    assert_eq!((reader.dim(), reader.rows(), reader.origin()), (4, 1500, model()));
    assert_eq!(reader.metadata().precision.as_deref(), Some("f32"));
    assert_eq!(reader.collect::<Result<Vec<_>, Error>>().unwrap(), queries);
}

#[test]
fn a_file_appears_complete_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pages.parquet");
    let names = || {
        let entries = fs::read_dir(folder.path()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>()
    };
    let page = PageRecord::new("d", 1, PageVectors::new(vectors(2, 0)));

    let mut writer = PageWriter::create(&path, PageFileOptions::new(4)).unwrap();
    writer.write(&page).unwrap();
    assert!(!path.exists() && names().iter().all(|name| name.starts_with('.') && !name.ends_with(".parquet")));
    drop(writer);
    assert!(names().is_empty());
    drop(QueryWriter::create(&path, QueryFileOptions::new(4)).unwrap());
    assert!(names().is_empty());

    // A complete file stays in place until its successor is complete, too.
    let mut writer = PageWriter::create(&path, PageFileOptions::new(4)).unwrap();
    writer.write(&page).unwrap();
    writer.finish().unwrap();
    let mut writer = PageWriter::create(&path, PageFileOptions::new(4)).unwrap();
    writer.write(&page).unwrap();
    writer.write(&page).unwrap();
    assert_eq!(PageReader::open(&path).unwrap().rows(), 1);
    writer.finish().unwrap();
    assert_eq!((PageReader::open(&path).unwrap().rows(), names()), (2, vec!["pages.parquet".to_owned()]));
}

#[test]
fn a_writer_refuses_what_its_file_cannot_hold() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pages.parquet");
    let options = PageFileOptions {
        origin: model(),
        further: vec![FurtherColumn::one("year", FurtherKind::U64), FurtherColumn::many("tags", FurtherKind::Str)],
        ..PageFileOptions::new(4)
    };
    let mut writer = PageWriter::create(&path, options).unwrap();
    let good = PageRecord::new("d", 1, PageVectors::new(vectors(2, 0)).with_origin(model()));
    let mut refused = |change: &dyn Fn(&mut PageRecord), says: &str| {
        let mut page = good.clone();
        change(&mut page);
        let error = writer.write(&page).unwrap_err().to_string();
        assert!(error.contains("pages.parquet: row 0") && error.contains(says), "{error}");
    };
    let further = |name: &'static str, value| move |page: &mut PageRecord| page.further = vec![(name.into(), value)];
    refused(&|page| page.page = 0, "\"page\": expected a uint32 from 1, received 0");
    refused(&|page| page.doc_id.clear(), "\"doc_id\": expected text of 1 to 65000 bytes, received 0 bytes");
    refused(&|page| page.vectors.origin = Origin::Unknown, "received vectors of model unknown");
    refused(&|page| page.vectors.vectors = MultiVector::try_new(1, vec![1.0], UnitLength::Any).unwrap(), "4 values");
    refused(&|page| page.vectors.layout = pages().remove(2).vectors.layout, "without pooled pages");
    refused(&|page| further("other", Value::Bool(true))(page), "\"other\": expected one of the file's further");
    refused(&|page| further("year", Value::I64(1))(page), "\"year\": expected U64, received I64(1)");
    refused(&|page| further("year", Value::List(vec![]))(page), "expected U64, received List");
    refused(&|page| further("tags", Value::List(vec![Value::U64(1)]))(page), "expected a list of Str");
    refused(&|page| page.further = vec![("year".into(), Value::U64(1)); 2], "received two");

    // The file is as if those pages had never been tried; a single value stands for a list of one.
    let single = PageRecord { further: vec![("tags".into(), Value::Str("x".into()))], ..good };
    writer.write(&single).unwrap();
    assert_eq!(writer.finish().unwrap(), 1);
    let read = PageReader::open(&path).unwrap().next().unwrap().unwrap();
    assert_eq!(read.further, [("tags".to_owned(), Value::List(vec![Value::Str("x".into())]))]);
}

#[test]
fn a_file_cannot_be_created_with_clashing_columns_or_without_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let create = |names: &[&str], dim, file: &str| {
        let further = names.iter().map(|name| FurtherColumn::one(*name, FurtherKind::Bool)).collect();
        let options = PageFileOptions { further, ..PageFileOptions::new(dim) };
        PageWriter::create(folder.path().join(file), options).err().unwrap().to_string()
    };
    assert!(create(&["x", "x"], 4, "f").contains("column \"x\" appears twice"));
    assert!(create(&["token_patches"], 4, "f").contains("column \"token_patches\" appears twice"));
    assert!(create(&["page_key"], 4, "f").contains("page index keeps for itself"));
    assert!(create(&[], 0, "f").contains("expected a number from 1, received \"0\""));
    assert!(create(&[], 4, "none/f").contains("cannot create the file"));
    assert!(fs::read_dir(folder.path()).unwrap().next().is_none());
}
