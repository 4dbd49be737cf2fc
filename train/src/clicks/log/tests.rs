use std::io::Write;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, ListArray, RecordBatch, StringArray, StructArray,
    TimestampMillisecondArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Fields, Schema};
use parquet::arrow::ArrowWriter;

use super::*;
use crate::clicks::record::{LoggedQuery, Time};
use crate::data::PageId;

fn impression(id: &str, minute: u32) -> String {
    format!(
        r#"{{"v":1,"kind":"impression","id":"{id}","time":"2026-03-02T00:{minute:02}:00Z","session":"s","query":"q","shown":[{{"doc_id":"a","page":1,"rank":1}},{{"doc_id":"b","page":2,"rank":2}}]}}"#
    )
}

fn click(id: &str, second: u32, rank: u32, dwell: &str) -> String {
    format!(
        r#"{{"v":1,"kind":"click","impression":"{id}","time":"2026-03-02T01:00:{second:02}Z","rank":{rank}{dwell}}}"#
    )
}

fn view(id: &str, depth: u32) -> String {
    format!(r#"{{"v":1,"kind":"view","impression":"{id}","depth":{depth}}}"#)
}

fn at(folder: &tempfile::TempDir, name: &str, lines: &[String]) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    path
}

fn whole(files: &[PathBuf]) -> Log {
    read(files, &[], &ReadOptions::default()).unwrap()
}

#[test]
fn clicks_find_their_impression_in_any_order_and_count_once() {
    let folder = tempfile::tempdir().unwrap();
    let clicks =
        [click("1", 9, 2, ""), click("1", 3, 1, ""), click("1", 9, 2, ",\"dwell_ms\":7000"), click("9", 1, 1, "")];
    let first =
        at(&folder, "clicks.jsonl", &[&clicks[..], &[click("2", 1, 3, ""), view("2", 1), view("8", 1)]].concat());
    let second = at(
        &folder,
        "shown.jsonl",
        &[impression("2", 1), impression("1", 0), impression("1", 0), impression("1", 5), view("2", 2)],
    );
    let log = whole(&[first.clone(), second.clone()]);
    let expected = LogCounts {
        impressions: 2,
        clicks: 2,
        views: 1,
        repeated: 3,
        contradicting: 1,
        clicks_without_impression: 1,
        views_without_impression: 1,
        clicks_off_the_list: 1,
    };
    assert_eq!(log.counts, expected);
    let ids: Vec<&str> = log.seen.iter().map(|seen| seen.impression.id.as_str()).collect();
    assert_eq!(ids, ["1", "2"]);
    let clicks: Vec<(u32, Option<u64>)> = log.seen[0].clicks.iter().map(|click| (click.rank, click.dwell_ms)).collect();
    assert_eq!((clicks, log.seen[1].depth), (vec![(1, None), (2, Some(7000))], Some(2)));
    assert_eq!(whole(&[second, first]).seen, log.seen);
}

#[test]
fn bad_lines_are_counted_with_their_number_up_to_a_share() {
    let folder = tempfile::tempdir().unwrap();
    let mut lines: Vec<String> = (0..60).map(|at| impression(&at.to_string(), at)).collect();
    (0..30).for_each(|at| lines[2 * at] = "{\"v\":1}".to_owned());
    lines[10] = String::new();
    let path = at(&folder, "clicks.jsonl", &lines);
    let log = read(std::slice::from_ref(&path), &[], &ReadOptions { bad_share: 0.5 }).unwrap();
    let file = &log.files[0];
    assert_eq!((file.records, file.bad, file.first_bad.len(), file.position.lines), (30, 29, 20, 60));
    let numbers: Vec<u64> = file.first_bad.iter().take(6).map(|bad| bad.line).collect();
    assert_eq!(numbers, [1, 3, 5, 7, 9, 13]);
    let error = read(std::slice::from_ref(&path), &[], &ReadOptions { bad_share: 0.4 }).unwrap_err().to_string();
    assert!(
        error.contains("29 of 59 lines are bad") && error.contains("line 1") && error.contains("clicks.jsonl"),
        "{error}"
    );
    assert!(read(&[path], &[], &ReadOptions { bad_share: 1.5 }).is_err());
    assert!(
        read(&[folder.path().join("none")], &[], &ReadOptions::default()).unwrap_err().to_string().contains("none")
    );
}

#[test]
fn only_new_parts_of_files_are_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = at(&folder, "clicks.jsonl", &[impression("1", 1), click("1", 1, 1, "")]);
    let first = whole(std::slice::from_ref(&path));
    let known: Vec<Position> = first.files.iter().map(|file| file.position.clone()).collect();
    let again = read(std::slice::from_ref(&path), &known, &ReadOptions::default()).unwrap();
    assert_eq!((again.seen.len(), again.files[0].from, &again.files[0].position), (0, known[0].bytes, &known[0]));
    // Grown, with a line that somebody is still writing.
    let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
    let line = impression("3", 3);
    write!(file, "{}\n{}", impression("2", 2), &line[..40]).unwrap();
    let grown = read(std::slice::from_ref(&path), &known, &ReadOptions::default()).unwrap();
    assert_eq!((grown.seen.len(), grown.files[0].unfinished, grown.files[0].bad), (1, true, 0));
    writeln!(file, "{}", &line[40..]).unwrap();
    let moved = folder.path().join("rotated.jsonl");
    std::fs::rename(&path, &moved).unwrap();
    let known = [known[0].clone(), grown.files[0].position.clone()];
    let rotated = read(std::slice::from_ref(&moved), &known, &ReadOptions::default()).unwrap();
    assert_eq!((rotated.seen.len(), rotated.seen[0].impression.id.as_str()), (1, "3"));
    assert_eq!((rotated.files[0].position.lines, rotated.files[0].unfinished), (4, false));
    // A file with other bytes in front is another file.
    let text = std::fs::read_to_string(&moved).unwrap().replace("\"id\":\"1\"", "\"id\":\"7\"");
    std::fs::write(&moved, text).unwrap();
    assert_eq!(read(&[moved], &known, &ReadOptions::default()).unwrap().seen.len(), 3);
}

/// An impression, two clicks and a view, as a program writes them that knows only 64-bit numbers.
fn parquet(path: &Path, ranks: [Option<i64>; 4], times: ArrayRef) {
    let texts = |values: [Option<&str>; 4]| Arc::new(StringArray::from(values.to_vec())) as ArrayRef;
    let numbers = |values: [Option<i64>; 4]| Arc::new(Int64Array::from(values.to_vec())) as ArrayRef;
    let fields = Fields::from(vec![
        Field::new("doc_id", DataType::Utf8, true),
        Field::new("page", DataType::Int64, true),
        Field::new("rank", DataType::Int64, true),
        Field::new("score", DataType::Float64, true),
    ]);
    let structs = StructArray::new(
        fields.clone(),
        vec![
            Arc::new(StringArray::from(vec!["a", "b"])),
            Arc::new(Int64Array::from(vec![1, 2])),
            Arc::new(Int64Array::from(vec![1, 2])),
            Arc::new(Float64Array::from(vec![Some(2.5), None])),
        ],
        None,
    );
    let item = Field::new("element", DataType::Struct(fields), true);
    let shown = ListArray::new(item.into(), OffsetBuffer::from_lengths([2, 0, 0, 0]), Arc::new(structs), None);
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("v", numbers([Some(1); 4])),
        ("kind", texts([Some("impression"), Some("click"), Some("click"), Some("view")])),
        ("id", texts([Some("1"), None, None, None])),
        ("time", times),
        ("session", texts([Some("s"), None, None, None])),
        ("query_hmac", texts([Some("ff"), None, None, None])),
        ("shown", Arc::new(shown)),
        ("generation", numbers([Some(3), None, None, None])),
        ("randomised", Arc::new(BooleanArray::from(vec![Some(true), None, None, None]))),
        ("impression", texts([None, Some("1"), Some("1"), Some("1")])),
        ("rank", numbers(ranks)),
        ("dwell_ms", numbers([None, Some(900), None, None])),
        ("depth", numbers([None, None, None, Some(2)])),
    ];
    let fields: Vec<Field> =
        columns.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), true)).collect();
    let schema = Arc::new(Schema::new(fields));
    let batch = RecordBatch::try_new(schema.clone(), columns.into_iter().map(|(_, array)| array).collect()).unwrap();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), schema, None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

#[test]
fn parquet_holds_the_same_columns() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clicks");
    let texts = ["2026-03-02T00:00:00Z", "2026-03-02T01:00:01+01:00", "2026-03-02T00:00:02Z"];
    let texts: ArrayRef = Arc::new(StringArray::from(texts.into_iter().map(Some).chain([None]).collect::<Vec<_>>()));
    parquet(&path, [None, Some(2), Some(1), None], texts);
    let log = whole(std::slice::from_ref(&path));
    let seen = &log.seen[0];
    assert_eq!((log.seen.len(), seen.clicks.len(), seen.depth), (1, 2, Some(2)));
    assert_eq!((seen.impression.generation.as_deref(), seen.impression.randomised), (Some("3"), true));
    assert_eq!(seen.impression.query, LoggedQuery::Hmac("ff".into()));
    assert_eq!((&seen.impression.shown[1].page, seen.impression.shown[0].score), (&PageId::new("b", 2), Some(2.5)));
    assert_eq!(
        (seen.clicks[0].dwell_ms, seen.clicks[0].time),
        (Some(900), "2026-03-02T00:00:01Z".parse::<Time>().unwrap())
    );
    let known = [log.files[0].position.clone()];
    assert_eq!(read(std::slice::from_ref(&path), &known, &ReadOptions::default()).unwrap().seen.len(), 0);
    // Moments as timestamps; a rank that cannot be is a bad row, not the end.
    let moments = TimestampMillisecondArray::from(vec![Some(1_772_409_600_000); 4]);
    parquet(&path, [None, Some(-2), Some(1), None], Arc::new(moments.clone().with_timezone("+01:00")));
    let log = read(std::slice::from_ref(&path), &known, &ReadOptions { bad_share: 0.3 }).unwrap();
    assert_eq!((log.seen[0].clicks.len(), log.files[0].bad, log.files[0].first_bad[0].line), (1, 1, 2));
    assert_eq!(log.seen[0].impression.time.to_string(), "2026-03-02T00:00:00Z");
    parquet(&path, [None, Some(2), Some(1), None], Arc::new(moments));
    let error = read(&[path], &[], &ReadOptions::default()).unwrap_err().to_string();
    assert!(error.contains("time zone"), "{error}");
}

#[test]
fn damaged_parquet_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clicks");
    let moments = TimestampMillisecondArray::from(vec![Some(1_772_409_600_000); 4]).with_timezone("UTC");
    parquet(&path, [None, Some(2), Some(1), None], Arc::new(moments));
    let bytes = std::fs::read(&path).unwrap();
    let mut refused = 0;
    for at in (4..bytes.len()).step_by(7) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x55;
        std::fs::write(&path, &damaged).unwrap();
        refused += usize::from(read(std::slice::from_ref(&path), &[], &ReadOptions { bad_share: 1.0 }).is_err());
    }
    assert!(refused > bytes.len() / 30, "{refused} of {}", bytes.len());
}
