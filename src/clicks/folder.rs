//! The folder of a run, `INDEX/runs/NNNNNN`, and what earlier runs left.
//!
//! A run writes `plan.json` first: all that its outcome depends on. It is complete when `run.jsonl` is there. A run that was
//! killed is gone on with by the next command of the same plan; one of another plan begins anew and leaves it.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::path::{Path, PathBuf};

use colqwen_index_ingest::whole_file::WholeFile;
use colqwen_index_train::clicks::log::Position;
use colqwen_index_train::clicks::query::Salt;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::Error;

const MAGIC: &str = "colqwen-index run";
const VERSION: u64 = 1;
const RUNS: &str = "runs";
const PLAN: &str = "plan.json";
/// Two lines of JSON: what the file is, with the checksum of the second line as it stands; and the record.
const RECORD: &str = "run.jsonl";
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
    path: PathBuf,
    number: u32,
}

/// All complete runs of an index, by number.
#[derive(Clone, Debug, Default)]
pub struct History {
    runs: Vec<RunRecord>,
    last: u32,
}

impl History {
    /// Reads the records of all complete runs under `index`.
    pub fn read(index: &Path) -> Result<Self, Error> {
        let folder = index.join(RUNS);
        let mut history = Self::default();
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(history),
            Err(cause) => return Err(Error::Io { path: folder, action: "list it", cause }),
        };
        for entry in entries {
            let entry = entry.map_err(Error::io(&folder, "list it"))?;
            let Some(number) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            history.last = history.last.max(number);
            let path = entry.path().join(RECORD);
            if path.exists() {
                history.runs.push(read_record(&path)?);
            }
        }
        history.runs.sort_by_key(|run| run.number);
        Ok(history)
    }

    /// How far the logs were read by the last run that published: what came after is new.
    pub fn positions(&self) -> Vec<Position> {
        self.published().map_or_else(Vec::new, |run| run.positions.clone())
    }

    /// The last run that published.
    pub fn published(&self) -> Option<&RunRecord> {
        self.runs.iter().rev().find(|run| run.decision == "published")
    }

    /// How often the gate was asked since it last let a model through, with this time.
    pub fn trials(&self) -> u64 {
        self.runs.iter().rev().take_while(|run| run.decision != "published").count() as u64 + 1
    }
}

impl RunFolder {
    /// Goes on with the last run if it is incomplete and of the same plan, or begins the next one.
    pub fn begin(index: &Path, history: &History, plan: &Value) -> Result<Self, Error> {
        let at = |number: u32| index.join(RUNS).join(format!("{number:06}"));
        let last = at(history.last);
        if history.last > 0 && !last.join(RECORD).exists() {
            let same = fs::read(last.join(PLAN)).ok().and_then(|text| serde_json::from_slice::<Value>(&text).ok());
            if same.as_ref() == Some(plan) {
                return Ok(Self { path: last, number: history.last });
            }
        }
        let number = history.last + 1;
        let run = Self { path: at(number), number };
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

    /// Writes the record: the run is complete.
    pub fn finish(&self, record: &RunRecord) -> Result<(), Error> {
        let path = self.path.join(RECORD);
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

fn read_record(path: &Path) -> Result<RunRecord, Error> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn record(number: u32, decision: &str) -> RunRecord {
        RunRecord {
            number,
            decision: decision.to_owned(),
            reason: "because".to_owned(),
            generations: [1, 1],
            positions: Vec::new(),
            plan: json!({}),
            metrics: json!({"ndcg": 0.5}),
        }
    }

    #[test]
    fn a_killed_run_is_gone_on_with_and_a_complete_one_is_not() {
        let index = tempfile::tempdir().unwrap();
        let begin = |plan: &Value| RunFolder::begin(index.path(), &History::read(index.path()).unwrap(), plan).unwrap();
        let (one, other) = (json!({"seed": 1}), json!({"seed": 2}));
        let first = begin(&one);
        assert_eq!((first.number(), begin(&one).number()), (1, 1));
        let second = begin(&other);
        assert_eq!(second.number(), 2);
        second.finish(&record(2, "published")).unwrap();
        let third = begin(&other);
        assert_eq!(third.number(), 3);
        third.finish(&record(3, "refused")).unwrap();
        let history = History::read(index.path()).unwrap();
        assert_eq!((history.trials(), history.published().map(|run| run.number)), (2, Some(2)));
        assert_eq!(salt(index.path()).unwrap().name("river"), salt(index.path()).unwrap().name("river"));
    }

    #[test]
    fn records_that_are_damaged_or_of_another_version_are_refused() {
        let index = tempfile::tempdir().unwrap();
        let run = RunFolder::begin(index.path(), &History::default(), &json!({})).unwrap();
        run.finish(&record(1, "refused")).unwrap();
        let path = run.join(RECORD);
        let text = fs::read_to_string(&path).unwrap();
        let refused = |from: &str, to: &str| {
            fs::write(&path, text.replace(from, to)).unwrap();
            History::read(index.path()).unwrap_err().to_string()
        };
        assert!(refused("because", "why not").contains("checksum"));
        assert!(refused("\"version\":1", "\"version\":7").contains("version 7"));
        assert!(refused(MAGIC, "something else").contains("something else"));
    }
}
