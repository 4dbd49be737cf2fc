//! The steps of a training, one JSON object per line.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use super::StepRecord;
use crate::Error;

/// Writes a line per step.
#[derive(Debug)]
pub struct StepLog {
    path: PathBuf,
    file: File,
    steps: Vec<StepRecord>,
}

impl StepLog {
    /// Opens the log of a training that goes on with step `next_step`: lines of steps from there on, which an interrupted
    /// run wrote after its last saved state, are cut off, and so is a line that it did not finish.
    ///
    /// # Errors
    /// The file cannot be read or written, or is no log of steps.
    pub fn resume(path: &Path, next_step: u64) -> Result<Self, Error> {
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let file = open.map_err(Error::io(path))?;
        let mut reader = BufReader::new(&file);
        let (mut steps, mut kept, mut line) = (Vec::new(), 0, Vec::new());
        loop {
            line.clear();
            let length = reader.read_until(b'\n', &mut line).map_err(Error::io(path))?;
            if !line.ends_with(b"\n") {
                break;
            }
            let step: StepRecord = serde_json::from_slice(&line).map_err(Error::json(path))?;
            if step.step >= next_step {
                break;
            }
            kept += length as u64;
            steps.push(step);
        }
        file.set_len(kept).map_err(Error::io(path))?;
        let mut log = Self { path: path.to_owned(), file, steps };
        std::io::Seek::seek(&mut log.file, std::io::SeekFrom::Start(kept)).map_err(Error::io(path))?;
        Ok(log)
    }

    /// Appends a step.
    ///
    /// # Errors
    /// The disk is full.
    pub fn append(&mut self, step: StepRecord) -> Result<(), Error> {
        let mut line = serde_json::to_vec(&step).map_err(Error::json(&self.path))?;
        line.push(b'\n');
        self.file.write_all(&line).map_err(Error::io(&self.path))?;
        self.steps.push(step);
        Ok(())
    }

    /// All steps, those of earlier runs first.
    pub fn steps(&self) -> &[StepRecord] {
        &self.steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resumed_log_ends_where_the_training_does() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("steps.jsonl");
        let record = |step: u64| -> StepRecord {
            serde_json::from_value(serde_json::json!({
                "step": step, "epoch": 0, "queries": 2, "pages": 2, "loss": 0.1 + step as f64, "no_learning": 0.7,
                "margin": 0.1, "accuracy": 1.0, "chance": 0.5, "token_variance": 0.3, "page_variance": 0.2,
                "gradient_norm": 1.0, "learning_rate": 0.1, "suspects": 0.0,
            }))
            .unwrap()
        };
        let mut log = StepLog::resume(&path, 0).unwrap();
        (0..5).for_each(|step| log.append(record(step)).unwrap());
        drop(log);
        // Killed within a line.
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"step\":5,").unwrap();
        let mut log = StepLog::resume(&path, 3).unwrap();
        assert_eq!(log.steps(), (0..3).map(record).collect::<Vec<_>>());
        log.append(record(3)).unwrap();
        drop(log);
        assert_eq!(StepLog::resume(&path, 9).unwrap().steps(), (0..4).map(record).collect::<Vec<_>>());
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 4);
        std::fs::write(&path, "no log\n").unwrap();
        assert!(StepLog::resume(&path, 9).unwrap_err().to_string().contains("steps.jsonl"));
    }
}
