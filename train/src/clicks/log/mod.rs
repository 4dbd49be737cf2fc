//! Reading click logs: many files, old and new lines, good and bad ones, brought together into what each list led to.
//!
//! Files only grow, or are replaced. A [`Position`] remembers how far one was read and the BLAKE3 hash up to there; a file
//! that begins with the same bytes, whatever it is called now, is read from there on, and any other from its start.

mod join;
mod lines;
mod rows;

pub use join::{Log, LogCounts, Seen};

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::record::{Record, RecordProblem};
use crate::Error;

/// Bad lines of a file that are remembered with their problem.
const REMEMBERED: usize = 20;
const PARQUET_MAGIC: &[u8] = b"PAR1";

/// How far a file was read.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Position {
    /// What the file was called.
    pub path: PathBuf,
    /// Bytes that were read.
    pub bytes: u64,
    /// Lines, or rows of a Parquet file, that were read.
    pub lines: u64,
    /// BLAKE3 of these bytes, in hexadecimal digits.
    pub blake3: String,
}

/// A line that is no record.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct BadLine {
    /// The line, or row of a Parquet file, from 1.
    pub line: u64,
    /// What is wrong with it.
    pub problem: String,
}

/// What was read of a file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct FileRead {
    /// How far it was read; the next run begins there.
    pub position: Position,
    /// The byte at which reading began: what lies before was read by an earlier run.
    pub from: u64,
    /// Good lines.
    pub records: u64,
    /// Bad lines.
    pub bad: u64,
    /// The first of the bad lines, 20 at most.
    pub first_bad: Vec<BadLine>,
    /// Whether the file ends within a line, which is left to the next run.
    pub unfinished: bool,
}

impl FileRead {
    fn new(path: &Path) -> Self {
        let position = Position { path: path.to_owned(), bytes: 0, lines: 0, blake3: String::new() };
        Self { position, from: 0, records: 0, bad: 0, first_bad: Vec::new(), unfinished: false }
    }

    fn take(&mut self, line: u64, record: Result<Record, RecordProblem>, records: &mut Vec<Record>) {
        match record {
            Ok(record) => {
                self.records += 1;
                records.push(record);
            }
            Err(problem) => {
                self.bad += 1;
                if self.first_bad.len() < REMEMBERED {
                    self.first_bad.push(BadLine { line, problem: problem.to_string() });
                }
            }
        }
    }
}

/// What is let pass.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct ReadOptions {
    /// The share of bad lines, over all that is read, up to which they are only counted.
    pub bad_share: f64,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self { bad_share: 0.01 }
    }
}

/// Reads what the files hold beyond `known`: JSON lines ([`super::record`]), or Parquet with the same columns.
///
/// # Errors
/// A file cannot be read, a Parquet file lacks a column or has it in another type, or more lines are bad than allowed.
pub fn read(files: &[PathBuf], known: &[Position], options: &ReadOptions) -> Result<Log, Error> {
    read_until(files, known, &[], options)
}

/// Reads as [`read`] does what a call that was given less read: files that begin as one in `until` are read no further.
///
/// # Errors
/// As those of [`read`].
pub fn read_until(
    files: &[PathBuf],
    known: &[Position],
    until: &[Position],
    options: &ReadOptions,
) -> Result<Log, Error> {
    if !(0.0..=1.0).contains(&options.bad_share) {
        return Err(Error::setting("the share of bad lines", "0 to 1", options.bad_share));
    }
    let (mut records, mut read) = (Vec::new(), Vec::new());
    for path in files {
        read.push(if is_parquet(path)? {
            rows::read(path, known, &mut records)?
        } else {
            lines::read(path, (known, until), &mut records)?
        });
    }
    let bad: u64 = read.iter().map(|file| file.bad).sum();
    let all = bad + records.len() as u64;
    if bad as f64 > options.bad_share * all as f64 {
        return Err(too_many_bad(&read, bad, all, options.bad_share));
    }
    Ok(join::join(records, read))
}

fn too_many_bad(read: &[FileRead], bad: u64, all: u64, limit: f64) -> Error {
    let worst = read.iter().filter(|file| file.bad > 0).max_by_key(|file| file.bad);
    let path = worst.map_or(PathBuf::new(), |file| file.position.path.clone());
    let first = worst.and_then(|file| file.first_bad.first());
    let first =
        first.map_or(String::new(), |first| format!("; the first here is line {}: {}", first.line, first.problem));
    let problem = format!("{bad} of {all} lines are bad, expected at most {:.2} %{first}", 100.0 * limit);
    Error::Clicks { path, problem }
}

fn is_parquet(path: &Path) -> Result<bool, Error> {
    let mut head = Vec::new();
    let file = File::open(path).map_err(Error::io(path))?;
    file.take(PARQUET_MAGIC.len() as u64).read_to_end(&mut head).map_err(Error::io(path))?;
    Ok(head == PARQUET_MAGIC)
}

#[cfg(test)]
mod tests;
