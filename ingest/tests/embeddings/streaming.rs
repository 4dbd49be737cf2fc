//! Memory stays bounded whatever the size of a row group.
#![cfg(target_os = "linux")]

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use arrow::array::{ArrayRef, FixedSizeListArray, Float32Array, ListArray, RecordBatch, StringArray, UInt32Array};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Schema};
use colqwen_index_ingest::embeddings::PageReader;
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;

const ROWS: usize = 240;
const TOKENS: usize = 1024;
const DIM: usize = 128;
const FILE: &str = "COLQWEN_INDEX_TEST_STREAMED_FILE";

/// One row group of 126 MB of embeddings.
fn write_one_row_group(path: &Path) {
    let value = Arc::new(Field::new("item", DataType::Float32, false));
    let token = Arc::new(Field::new("item", DataType::FixedSizeList(value.clone(), DIM as i32), false));
    let schema = Arc::new(Schema::new(vec![
        Field::new("doc_id", DataType::Utf8, false),
        Field::new("page", DataType::UInt32, false),
        Field::new("embeddings", DataType::List(token.clone()), false),
    ]));
    let properties = WriterProperties::builder().set_dictionary_enabled(false).build();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), schema.clone(), Some(properties)).unwrap();
    for row in 0..ROWS {
        let mut values = vec![0.0_f32; TOKENS * DIM];
        (0..TOKENS).for_each(|token| values[token * DIM + (token * 31 + row * 7) % DIM] = 1.0);
        let values = Arc::new(Float32Array::from(values));
        let tokens = FixedSizeListArray::try_new(value.clone(), DIM as i32, values, None).unwrap();
        let embeddings =
            ListArray::try_new(token.clone(), OffsetBuffer::from_lengths([TOKENS]), Arc::new(tokens), None).unwrap();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(vec![format!("d{row}")])),
            Arc::new(UInt32Array::from(vec![1])),
            Arc::new(embeddings),
        ];
        writer.write(&RecordBatch::try_new(schema.clone(), columns).unwrap()).unwrap();
    }
    assert_eq!(writer.close().unwrap().num_row_groups(), 1);
}

#[test]
fn one_huge_row_group_is_read_in_little_memory() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("huge.parquet");
    write_one_row_group(&path);
    // A process of its own, whose peak is that of reading alone.
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "streaming::reads_the_named_file", "--nocapture"])
        .env(FILE, &path)
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success(), "{output}\n{}", String::from_utf8_lossy(&child.stderr));
    let peak: usize = output.split("peak_kib=").nth(1).unwrap().split_whitespace().next().unwrap().parse().unwrap();
    assert!(
        peak < 64 << 10,
        "{} MiB at the peak for {} MiB of embeddings",
        peak >> 10,
        (ROWS * TOKENS * DIM * 4) >> 20
    );
}

/// Runs only as a child process of the test above.
#[test]
fn reads_the_named_file() {
    let Some(path) = std::env::var_os(FILE) else { return };
    let tokens: usize = PageReader::open(path).unwrap().map(|page| page.unwrap().vectors.vectors.tokens()).sum();
    assert_eq!(tokens, ROWS * TOKENS);
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    println!("peak_kib={}", peak.trim().trim_end_matches(" kB"));
}
