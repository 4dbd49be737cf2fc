//! Reading a cache of hidden states, a row group at a time.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::fs::File;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float16Type, UInt32Type};
use colqwen_index_field::Fingerprint;
use colqwen_index_ingest::colqwen2::HiddenStates;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::errors::ParquetError;

use super::{HIDDEN, KEY_BACKBONE, KEY_VERSION, Key, Kind, VERSION};
use crate::data::{DataError, DataProblem, PageId};

/// A cache of hidden states, open for reading. Row groups stay in memory up to a budget; the ones that were not used for
/// longest make room.
pub struct HiddenCache {
    path: PathBuf,
    file: File,
    footer: ArrowReaderMetadata,
    kind: Kind,
    width: usize,
    backbone: Fingerprint,
    /// Row group and row within it.
    rows: HashMap<Key, (usize, usize)>,
    hashes: HashMap<Key, Vec<u8>>,
    held: Mutex<Held>,
}

/// Decoded row groups.
struct Held {
    budget: usize,
    bytes: usize,
    groups: HashMap<usize, Arc<Group>>,
    /// Longest unused first.
    order: VecDeque<usize>,
}

struct Group {
    states: Vec<Arc<HiddenStates>>,
    bytes: usize,
}

impl fmt::Debug for HiddenCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HiddenCache").field("path", &self.path).field("rows", &self.rows.len()).finish_non_exhaustive()
    }
}

impl HiddenCache {
    /// Opens a cache and holds at most `memory` bytes of it, but never less than one row group.
    ///
    /// # Errors
    /// The file cannot be read or is damaged, or is no cache of version 1.
    pub fn open(path: impl AsRef<Path>, memory: usize) -> Result<Self, DataError> {
        let path = path.as_ref();
        caught(|| Self::try_open(path, memory)).map_err(|problem| DataError::new(path, problem))
    }

    fn try_open(path: &Path, memory: usize) -> Result<Self, DataProblem> {
        let file = File::open(path)?;
        let footer = ArrowReaderMetadata::load(&file, ArrowReaderOptions::new())?;
        let pairs = footer.metadata().file_metadata().key_value_metadata().cloned().unwrap_or_default();
        let value = |key: &'static str, expected| {
            let pair = pairs.iter().find(|pair| pair.key == key).and_then(|pair| pair.value.clone());
            pair.ok_or(DataProblem::Metadata { key, expected, received: "nothing".to_owned() })
        };
        let version = value(KEY_VERSION, "a cache of hidden states says its version")?;
        if version != VERSION {
            return Err(DataProblem::Version { expected: VERSION, received: version });
        }
        let backbone = value(KEY_BACKBONE, "64 hexadecimal digits")?;
        let backbone = backbone.parse().map_err(|_| DataProblem::Metadata {
            key: KEY_BACKBONE,
            expected: "64 hexadecimal digits",
            received: backbone.clone(),
        })?;
        let schema = footer.schema().clone();
        let kind = if schema.field_with_name("doc_id").is_ok() { Kind::Pages } else { Kind::Queries };
        let width = width(schema.field_with_name(HIDDEN)?.data_type())?;
        let held = Mutex::new(Held { budget: memory, bytes: 0, groups: HashMap::new(), order: VecDeque::new() });
        let (rows, hashes) = (HashMap::new(), HashMap::new());
        let mut cache = Self { path: path.to_owned(), file, footer, kind, width, backbone, rows, hashes, held };
        for group in 0..cache.footer.metadata().num_row_groups() {
            cache.read_keys(group)?;
        }
        Ok(cache)
    }

    fn batches(&self, group: usize, wanted: fn(&str) -> bool) -> Result<Vec<RecordBatch>, DataProblem> {
        let roots = self.footer.schema().fields().iter().enumerate().filter(|(_, field)| wanted(field.name()));
        let mask = ProjectionMask::roots(self.footer.parquet_schema(), roots.map(|(at, _)| at));
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(self.file.try_clone()?, self.footer.clone());
        let reader = builder.with_projection(mask).with_row_groups(vec![group]).build()?;
        Ok(reader.collect::<Result<_, _>>()?)
    }

    fn read_keys(&mut self, group: usize) -> Result<(), DataProblem> {
        let mut row = 0;
        for batch in self.batches(group, |name| name != HIDDEN)? {
            for at in 0..batch.num_rows() {
                let key = key(&batch, at, self.kind)?;
                if let Some(hashes) =
                    batch.column_by_name("content_hash").and_then(|column| column.as_binary_opt::<i32>())
                    && hashes.is_valid(at)
                {
                    self.hashes.insert(key.clone(), hashes.value(at).to_vec());
                }
                self.rows.insert(key, (group, row));
                row += 1;
            }
        }
        Ok(())
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The model that made the states.
    pub fn backbone(&self) -> Fingerprint {
        self.backbone
    }

    /// Values per token.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Whether it holds pages or queries.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The number of pages or queries.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Whether it holds a page or query.
    pub fn has(&self, key: &Key) -> bool {
        self.rows.contains_key(key)
    }

    /// All pages or queries in the order in which they are read fastest.
    pub fn keys_as_stored(&self) -> Vec<&Key> {
        let mut keys: Vec<(&(usize, usize), &Key)> = self.rows.iter().map(|(key, place)| (place, key)).collect();
        keys.sort_unstable();
        keys.into_iter().map(|(_, key)| key).collect()
    }

    /// The hash of the file that a page was rendered from, if it was recorded.
    pub fn content_hash(&self, key: &Key) -> Option<&[u8]> {
        self.hashes.get(key).map(Vec::as_slice)
    }

    /// The states of a page or query; `None` if the cache does not hold it.
    ///
    /// # Errors
    /// The file is damaged or gone.
    pub fn get(&self, key: &Key) -> Result<Option<Arc<HiddenStates>>, DataError> {
        let Some((group, row)) = self.rows.get(key) else { return Ok(None) };
        let group = self.group(*group).map_err(|problem| DataError::new(&self.path, problem))?;
        Ok(group.states.get(*row).cloned())
    }

    fn group(&self, at: usize) -> Result<Arc<Group>, DataProblem> {
        // What a panicked thread left behind is only a cache.
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(group) = held.groups.get(&at).cloned() {
            held.order.retain(|other| *other != at);
            held.order.push_back(at);
            return Ok(group);
        }
        let group = Arc::new(caught(|| self.decode(at))?);
        while held.bytes + group.bytes > held.budget {
            let Some(oldest) = held.order.pop_front() else { break };
            held.bytes -= held.groups.remove(&oldest).map_or(0, |group| group.bytes);
        }
        held.bytes += group.bytes;
        held.groups.insert(at, group.clone());
        held.order.push_back(at);
        Ok(group)
    }

    fn decode(&self, group: usize) -> Result<Group, DataProblem> {
        let mut decoded = Group { states: Vec::new(), bytes: 0 };
        for batch in self.batches(group, |name| name == HIDDEN)? {
            let lists = batch.column_by_name(HIDDEN).and_then(|column| column.as_list_opt::<i32>());
            let lists = lists.ok_or_else(|| wrong_type("a column that is gone"))?;
            for row in 0..lists.len() {
                let tokens = lists.value(row);
                let values = tokens.as_fixed_size_list_opt().ok_or_else(|| wrong_type(tokens.data_type()))?.values();
                let values = values.as_primitive_opt::<Float16Type>().ok_or_else(|| wrong_type(values.data_type()))?;
                let own = &values.values()[..tokens.len() * self.width];
                let states = HiddenStates::new(self.width, own.to_vec());
                let states = states.map_err(|error| DataProblem::cell(row, HIDDEN, "states of tokens", error))?;
                decoded.bytes += own.len() * 2;
                decoded.states.push(Arc::new(states));
            }
        }
        Ok(decoded)
    }
}

fn key(batch: &RecordBatch, row: usize, kind: Kind) -> Result<Key, DataProblem> {
    let text = |name: &str| {
        let column = batch.column_by_name(name).and_then(|column| column.as_string_opt::<i32>());
        let column = column.filter(|column| column.is_valid(row)).map(|column| column.value(row).to_owned());
        column.ok_or_else(|| DataProblem::cell(row, name, "utf8", "nothing"))
    };
    if kind == Kind::Queries {
        return Ok(Key::Query(text("query")?));
    }
    let pages = batch.column_by_name("page").and_then(|column| column.as_primitive_opt::<UInt32Type>());
    let page = pages.filter(|pages| pages.is_valid(row)).map(|pages| pages.value(row));
    let page = page.ok_or_else(|| DataProblem::cell(row, "page", "uint32", "nothing"))?;
    Ok(Key::Page(PageId { doc_id: text("doc_id")?, page }))
}

fn width(hidden: &DataType) -> Result<usize, DataProblem> {
    match hidden {
        DataType::List(token) => match token.data_type() {
            DataType::FixedSizeList(value, width) if *value.data_type() == DataType::Float16 && *width > 0 => {
                Ok(*width as usize)
            }
            _ => Err(wrong_type(hidden)),
        },
        _ => Err(wrong_type(hidden)),
    }
}

fn wrong_type(received: impl ToString) -> DataProblem {
    DataProblem::ColumnType {
        column: HIDDEN.to_owned(),
        expected: "list<fixed_size_list<float16, width>>",
        received: received.to_string(),
    }
}

/// The Parquet library panics on some damaged bytes where an error is due.
fn caught<T>(read: impl FnOnce() -> Result<T, DataProblem>) -> Result<T, DataProblem> {
    let damaged = |_| Err(DataProblem::Parquet(ParquetError::General("the data is damaged".to_owned())));
    panic::catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(damaged)
}
