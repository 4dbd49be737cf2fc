//! Training data in Parquet: round trips, foreign files, the frozen file of version 1, refusals.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, LargeStringArray, ListArray, RecordBatch, StringArray, StructArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Fields, Schema};
use colqwen_index_field::Fingerprint;
use colqwen_index_train::data::{MinedFrom, NegativePage, PageId, PositivePage, Question, TrainingData, read, write};
use parquet::arrow::ArrowWriter;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;

fn sample() -> TrainingData {
    let positive = |doc_id: &str, page, weight| PositivePage { page: PageId::new(doc_id, page), weight };
    let negative = |page, score, origin: Option<&str>| NegativePage {
        page: PageId::new("manual.pdf", page),
        score,
        origin: origin.map(str::to_owned),
    };
    TrainingData {
        questions: vec![
            Question {
                query_id: "q1".into(),
                query: "how is the filter cleaned".into(),
                positives: vec![positive("manual.pdf", 3, 1.0), positive("résumé.pdf", 1, 0.25)],
                negatives: vec![negative(4, Some(11.5), Some("index")), negative(9, None, None)],
                group: Some("manuals".into()),
            },
            Question { query_id: "q2".into(), query: String::new(), ..Question::default() },
            Question {
                query_id: "q3".into(),
                query: "東京".into(),
                positives: vec![positive("tokyo.png", 1, 2.0)],
                ..Question::default()
            },
        ],
        mined_from: Some(MinedFrom {
            generation: "000007".into(),
            page_fingerprint: Some(Fingerprint::from_bytes([0xab; 32])),
        }),
    }
}

fn frozen() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/frozen_v1.parquet")
}

#[test]
fn what_is_written_is_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.parquet");
    write(&path, &sample()).unwrap();
    assert_eq!(read(&path).unwrap(), sample());
    let pages: Vec<String> = sample().pages().iter().map(ToString::to_string).collect();
    assert_eq!(pages[..2], ["\"manual.pdf\" page 3", "\"manual.pdf\" page 4"]);
    assert_eq!(pages.len(), 5);
    write(&path, &TrainingData::default()).unwrap();
    assert_eq!(read(&path).unwrap(), TrainingData::default());
    // Many rows, over several row groups.
    let question = |row: usize| Question { query_id: row.to_string(), ..sample().questions[row % 3].clone() };
    let many = TrainingData { questions: (0..20_000).map(question).collect(), mined_from: None };
    write(&path, &many).unwrap();
    assert_eq!(read(&path).unwrap(), many);
    assert!(write(folder.path().join("none/data.parquet"), &many).unwrap_err().to_string().contains("none"));
}

#[test]
fn data_are_known_by_their_fingerprint() {
    let change = |change: fn(&mut Question)| {
        let mut data = sample();
        change(&mut data.questions[0]);
        data.fingerprint()
    };
    let same = change(|_| ());
    assert_eq!(same, sample().fingerprint());
    assert_ne!(same, change(|question| question.query.push('x')));
    assert_ne!(same, change(|question| question.positives[0].weight = 2.0));
    assert_ne!(same, change(|question| question.negatives[0].page.page = 5));
    assert_ne!(same, change(|question| question.group = None));
}

#[test]
fn the_first_version_stays_readable() {
    assert_eq!(read(frozen()).unwrap(), sample());
}

#[test]
fn columns_and_metadata_are_those_of_the_first_version() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.parquet");
    write(&path, &sample()).unwrap();
    let schema = |path: &Path| {
        let reader = parquet::file::reader::SerializedFileReader::new(File::open(path).unwrap()).unwrap();
        let metadata = parquet::file::reader::FileReader::metadata(&reader).file_metadata().clone();
        let pairs = metadata.key_value_metadata().unwrap().iter();
        let own: Vec<_> = pairs.filter(|pair| pair.key.starts_with("colqwen")).cloned().collect();
        (format!("{:?}", metadata.schema()), own)
    };
    assert_eq!(schema(&path), schema(&frozen()));
}

/// A file of another program, from columns and metadata.
fn foreign(path: &Path, columns: Vec<(&str, ArrayRef)>, pairs: &[(&str, &str)]) {
    let fields: Vec<Field> =
        columns.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), true)).collect();
    let schema = Arc::new(Schema::new(fields));
    let pairs = pairs.iter().map(|(key, value)| KeyValue::new((*key).to_owned(), (*value).to_owned())).collect();
    let properties = WriterProperties::builder().set_key_value_metadata(Some(pairs)).build();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), schema.clone(), Some(properties)).unwrap();
    writer
        .write(&RecordBatch::try_new(schema, columns.into_iter().map(|(_, array)| array).collect()).unwrap())
        .unwrap();
    writer.close().unwrap();
}

fn texts(values: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(values))
}

/// One list of pages per row, in the types of a program that knows only 64-bit numbers.
fn lists(lengths: &[usize], doc_ids: &[&str], pages: &[i64], weights: Option<&[f64]>) -> ArrayRef {
    let mut fields = vec![Field::new("page", DataType::Int64, true), Field::new("doc_id", DataType::LargeUtf8, true)];
    let mut arrays: Vec<ArrayRef> =
        vec![Arc::new(Int64Array::from(pages.to_vec())), Arc::new(LargeStringArray::from_iter_values(doc_ids))];
    if let Some(weights) = weights {
        fields.push(Field::new("weight", DataType::Float64, true));
        arrays.push(Arc::new(arrow::array::Float64Array::from(weights.to_vec())));
    }
    let fields = Fields::from(fields);
    let structs = StructArray::new(fields.clone(), arrays, None);
    let item = Field::new("element", DataType::Struct(fields), true);
    let offsets = OffsetBuffer::<i32>::from_lengths(lengths.iter().copied());
    Arc::new(ListArray::new(item.into(), offsets, Arc::new(structs), None))
}

#[test]
fn files_of_other_programs_are_understood() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.parquet");
    foreign(
        &path,
        vec![("query", texts(&["a", "b"])), ("query_id", texts(&["1", "2"])), ("other", texts(&["x", "y"]))],
        &[],
    );
    let bare = read(&path).unwrap();
    assert_eq!(bare.questions[1], Question { query_id: "2".into(), query: "b".into(), ..Question::default() });
    let positives = lists(&[1, 2], &["a.pdf", "b.pdf", "c.pdf"], &[1, 2, 3], None);
    foreign(
        &path,
        vec![("query_id", texts(&["1", "2"])), ("query", texts(&["a", "b"])), ("positives", positives)],
        &[],
    );
    let found = read(&path).unwrap();
    let expected = PositivePage { page: PageId::new("c.pdf", 3), weight: 1.0 };
    assert_eq!((found.questions[0].positives.len(), &found.questions[1].positives[1]), (1, &expected));
}

#[test]
fn what_cannot_be_right_is_refused_with_row_and_column() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.parquet");
    let refusal = |columns: Vec<(&str, ArrayRef)>, pairs: &[(&str, &str)]| {
        foreign(&path, columns, pairs);
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("data.parquet"), "{error}");
        error
    };
    let named =
        |positives: ArrayRef| vec![("query_id", texts(&["1"])), ("query", texts(&["a"])), ("positives", positives)];
    assert!(refusal(vec![("query_id", texts(&["1"]))], &[]).contains("\"query\" is missing"));
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    assert!(refusal(vec![("query_id", numbers.clone()), ("query", texts(&["a"]))], &[]).contains("Int64"));
    assert!(refusal(named(numbers), &[]).contains("list<struct"));
    assert!(refusal(named(lists(&[1], &["a.pdf"], &[0], None)), &[]).contains("row 0, column \"positives.page\""));
    assert!(refusal(named(lists(&[1], &["a.pdf"], &[-1], None)), &[]).contains("-1"));
    assert!(refusal(named(lists(&[1], &[""], &[1], None)), &[]).contains("positives.doc_id"));
    assert!(refusal(named(lists(&[1], &["a.pdf"], &[1], Some(&[-0.5]))), &[]).contains("-0.5"));
    let twice = vec![("query_id", texts(&["1", "2", "1"])), ("query", texts(&["a", "b", "c"]))];
    assert!(refusal(twice, &[]).contains("row 2"));
    assert!(refusal(vec![("query_id", texts(&[""])), ("query", texts(&["a"]))], &[]).contains("0 bytes"));
    let bare = || vec![("query_id", texts(&["1"])), ("query", texts(&["a"]))];
    assert!(refusal(bare(), &[("colqwen-index.training_version", "2")]).contains("version \"2\""));
    let mined = [("colqwen-index.mined_generation", "1"), ("colqwen-index.mined_page_fingerprint", "abc")];
    assert!(refusal(bare(), &mined).contains("64 hexadecimal"));
}

#[test]
fn damaged_bytes_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.parquet");
    let bytes = std::fs::read(frozen()).unwrap();
    let mut refused = 0;
    for at in (0..bytes.len()).step_by(5) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x55;
        std::fs::write(&path, &damaged).unwrap();
        refused += usize::from(read(&path).is_err());
    }
    // Some bytes only change a value, or are padding; none may end the program.
    assert!(refused > bytes.len() / 20, "{refused} of {}", bytes.len());
    std::fs::write(&path, &bytes[..bytes.len() - 20]).unwrap();
    assert!(read(&path).is_err());
}
