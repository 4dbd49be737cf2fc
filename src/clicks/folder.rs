//! The folder of a run, `INDEX/runs/NNNNNN`.
//!
//! A run writes `plan.json` first: all that its outcome depends on. It is complete when `run.jsonl` is there. A run that was
//! killed is gone on with by the next command of the same plan, however much the logs have grown since; one of another plan
//! begins anew and leaves it. One that was killed when its model served already is completed by the next command.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::path::{Path, PathBuf};

use colqwen_index_ingest::whole_file::WholeFile;
use colqwen_index_train::clicks::log::Position;
use colqwen_index_train::clicks::query::Salt;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::history::History;
use crate::Error;
use crate::page_index::names_in;

const MAGIC: &str = "colqwen-index run";
const VERSION: u64 = 1;
pub(super) const RUNS: &str = "runs";
/// Where the models of all runs are kept, within an index.
pub(super) const MODELS: &str = "models";
/// Where the questions of each run are kept, within an index.
pub(super) const NEGATIVES: &str = "negatives";
pub(super) const PLAN: &str = "plan.json";
/// Two lines of JSON: what the file is, with the checksum of the second line as it stands; and the record.
pub(super) const RECORD: &str = "run.jsonl";
/// The record as it will be once the new model serves; gone when the run is complete.
pub(super) const INTENDED: &str = "publishing.jsonl";
/// What query names are salted with: the same for all runs of an index, so that reports can be compared.
const SALT: &str = "salt";

/// A complete run, as later runs see it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct RunRecord {
    /// Its number, from 1.
    pub number: u32,
    /// `published`, `would publish` or `refused`.
    pub decision: String,
    /// Why.
    pub reason: String,
    /// The generation that served when it began, and the one that serves since.
    pub generations: [u32; 2],
    /// How far it read each log.
    pub positions: Vec<Position>,
    /// All that the outcome depends on: options, hashes, versions.
    pub plan: Value,
    /// What was counted and measured.
    pub metrics: Value,
}

/// The folder of one run.
#[derive(Clone, Debug)]
pub struct RunFolder {
    pub(super) path: PathBuf,
    pub(super) number: u32,
}

impl RunFolder {
    /// Goes on with the last run if it is incomplete and of the same plan, or begins the next one.
    pub fn begin(index: &Path, history: &History, plan: &Value) -> Result<Self, Error> {
        if let Some(number) = history.interrupted(plan) {
            return Ok(Self { path: run_folder(index, number), number });
        }
        let number = history.last() + 1;
        let run = Self { path: run_folder(index, number), number };
        fs::create_dir_all(&run.path).map_err(Error::io(&run.path, "create it"))?;
        write_json(&run.path.join(PLAN), plan)?;
        Ok(run)
    }

    /// Its number, from 1.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// A file or folder within it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes the record as it will be when the new model serves.
    pub fn intend(&self, record: &RunRecord) -> Result<(), Error> {
        self.write(INTENDED, record)
    }

    /// Writes the record: the run is complete.
    pub fn finish(&self, record: &RunRecord) -> Result<(), Error> {
        self.write(RECORD, record)?;
        let intended = self.path.join(INTENDED);
        if intended.exists() {
            fs::remove_file(&intended).map_err(Error::io(&intended, "remove it"))?;
        }
        Ok(())
    }

    fn write(&self, name: &str, record: &RunRecord) -> Result<(), Error> {
        let path = self.path.join(name);
        let refuse = |error: serde_json::Error| Error::Record { path: path.clone(), problem: error.to_string() };
        let run = serde_json::to_string(record).map_err(refuse)?;
        let checksum = blake3::hash(run.as_bytes()).to_hex().to_string();
        let head = json!({"magic": MAGIC, "version": VERSION, "checksum": checksum});
        let write = || {
            let mut file = WholeFile::create(&path)?;
            writeln!(file, "{head}\n{run}")?;
            file.finish()
        };
        write().map_err(Error::io(&path, "write it"))
    }
}

pub(super) fn run_folder(index: &Path, number: u32) -> PathBuf {
    index.join(RUNS).join(format!("{number:06}"))
}

/// Where the model of a run is kept.
pub(super) fn model_folder(index: &Path, number: u32) -> PathBuf {
    index.join(MODELS).join(format!("{number:06}"))
}

/// Where the questions of a run are kept.
pub(super) fn negatives_file(index: &Path, number: u32) -> PathBuf {
    index.join(NEGATIVES).join(format!("{number:06}.parquet"))
}

/// What the names in a folder count, in order; nothing where there is no folder.
pub(super) fn numbers(folder: &Path) -> Result<Vec<u32>, Error> {
    let number = |name: String| Path::new(&name).file_stem()?.to_str()?.parse().ok();
    let mut numbers: Vec<u32> = names_in(folder)?.into_iter().filter_map(number).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

pub(super) fn read_record(path: &Path) -> Result<RunRecord, Error> {
    let refuse = |problem: String| Error::Record { path: path.to_owned(), problem };
    let text = fs::read_to_string(path).map_err(Error::io(path, "read it"))?;
    let (head, run) = text.trim_end().split_once('\n').ok_or_else(|| refuse("it has no two lines".to_owned()))?;
    let head: Value = serde_json::from_str(head).map_err(|error| refuse(error.to_string()))?;
    if head["magic"] != MAGIC {
        return Err(refuse(format!("it says {}, expected {MAGIC:?}", head["magic"])));
    }
    if head["version"] != VERSION {
        return Err(refuse(format!("it is of version {}, this program reads {VERSION}", head["version"])));
    }
    if head["checksum"] != blake3::hash(run.as_bytes()).to_hex().as_str() {
        return Err(refuse("its checksum does not match".to_owned()));
    }
    serde_json::from_str(run).map_err(|error| refuse(error.to_string()))
}

/// Replaces a file when all of it is on disk.
pub(super) fn write_json(path: &Path, value: &Value) -> Result<(), Error> {
    let write = || {
        let mut file = WholeFile::create(path)?;
        serde_json::to_writer_pretty(&mut file, value)?;
        file.finish()
    };
    write().map_err(Error::io(path, "write it"))
}

/// The salt of an index's query names, made by its first run.
pub(super) fn salt(index: &Path) -> Result<Salt, Error> {
    let path = index.join(RUNS).join(SALT);
    if let Ok(bytes) = fs::read(&path) {
        let bytes = <[u8; 32]>::try_from(bytes.as_slice());
        return bytes.map(Salt::new).map_err(|_| Error::Record { path, problem: "it has no 32 bytes".to_owned() });
    }
    let bytes = random_bytes();
    fs::create_dir_all(index.join(RUNS)).map_err(Error::io(&path, "create its folder"))?;
    let write = || {
        let mut file = WholeFile::create(&path)?;
        file.write_all(&bytes)?;
        file.finish()
    };
    write().map_err(Error::io(&path, "write it"))?;
    Ok(Salt::new(bytes))
}

/// Bytes that nobody can foretell: the standard library's hash maps have keys from the operating system.
fn random_bytes() -> [u8; 32] {
    let mut hash = blake3::Hasher::new();
    for _ in 0..4 {
        hash.update(&RandomState::new().hash_one(0u8).to_le_bytes());
    }
    *hash.finalize().as_bytes()
}
