//! What earlier runs of an index left.

use std::fs;
use std::path::{Path, PathBuf};

use colqwen_index_train::clicks::log::Position;
use serde_json::Value;

use super::folder::{
    INTENDED, MODELS, NEGATIVES, PLAN, RECORD, RUNS, RunFolder, RunRecord, model_folder, numbers, read_record,
    run_folder,
};
use super::night::REPORT;
use super::{PUBLISHED, REFUSED};
use crate::page_index::GenerationInfo;
use crate::{Error, PageIndex};

/// All complete runs of an index, by number, and one that was not completed.
#[derive(Clone, Debug, Default)]
pub struct History {
    runs: Vec<RunRecord>,
    /// The highest number that a run, a model or a file of negatives has.
    last: u32,
    /// Number and plan of the last run, if it is not complete.
    unfinished: Option<(u32, Value)>,
}

impl History {
    /// Reads the records of all complete runs under `index`.
    pub fn read(index: &Path) -> Result<Self, Error> {
        let mut history = Self::default();
        for number in numbers(&index.join(RUNS))? {
            let folder = run_folder(index, number);
            let path = folder.join(RECORD);
            history.unfinished = None;
            if path.exists() {
                history.runs.push(read_record(&path)?);
            } else if let Ok(text) = fs::read(folder.join(PLAN)) {
                history.unfinished = serde_json::from_slice(&text).ok().map(|plan| (number, plan));
            }
            history.last = number;
        }
        // Whoever removes the runs keeps the models that serve, whose numbers are no other model's.
        for folder in [MODELS, NEGATIVES] {
            history.last = numbers(&index.join(folder))?.into_iter().fold(history.last, u32::max);
        }
        Ok(history)
    }

    /// The published runs that the generation in use descends from, the last one first: those whose clicks its model knows.
    /// What was published and gone back from is not among them.
    pub fn learnt(&self, index: &PageIndex) -> Result<Vec<&RunRecord>, Error> {
        let previous = index.previous_generations()?;
        let published = || self.runs.iter().rev().filter(|run| run.decision == PUBLISHED);
        let (mut learnt, mut at) = (Vec::new(), index.generation());
        loop {
            let run = published().find(|run| run.generations[1] == at);
            learnt.extend(run);
            let before = previous.get(&at).copied().flatten().or(run.map(|run| run.generations[0]));
            match before.filter(|before| *before < at) {
                Some(before) => at = before,
                // Of generations that are removed nobody knows what they came from.
                None => {
                    learnt.extend(published().filter(|run| run.generations[1] < at));
                    return Ok(learnt);
                }
            }
        }
    }

    /// How often the gate was asked since it last let a model through, with this time. Trials that could not publish anything
    /// are not counted.
    pub fn trials(&self) -> u64 {
        let since = self.runs.iter().rev().take_while(|run| run.decision != PUBLISHED);
        since.filter(|run| run.decision == REFUSED && !run.metrics["gate"].is_null()).count() as u64 + 1
    }

    /// What the last run meant to read of the logs, if it is not complete.
    pub fn interrupted_at(&self) -> Option<Vec<Position>> {
        self.unfinished.as_ref().and_then(|(_, plan)| serde_json::from_value(plan["logs"].clone()).ok())
    }

    /// The number of the last run, if it is not complete and of this plan.
    pub fn interrupted(&self, plan: &Value) -> Option<u32> {
        self.unfinished.as_ref().filter(|(_, unfinished)| unfinished == plan).map(|(number, _)| *number)
    }

    /// The highest number in use.
    pub(super) fn last(&self) -> u32 {
        self.last
    }

    /// Completes the last run if it was killed after its model came into use; its record and report.
    pub fn complete_published(&mut self, index: &PageIndex) -> Result<Option<(RunRecord, PathBuf)>, Error> {
        let Some((number, _)) = &self.unfinished else { return Ok(None) };
        let run = RunFolder { path: run_folder(index.folder(), *number), number: *number };
        let intended = run.join(INTENDED);
        if !intended.exists() {
            return Ok(None);
        }
        let mut record = read_record(&intended)?;
        let model = model_folder(index.folder(), *number);
        let model = model.canonicalize().unwrap_or(model).display().to_string();
        let serves = |generation: &GenerationInfo| generation.model.as_ref().is_some_and(|used| used.name == model);
        let Some(generation) = index.generations()?.into_iter().find(serves) else { return Ok(None) };
        record.generations[1] = generation.number;
        run.finish(&record)?;
        self.unfinished = None;
        self.runs.push(record.clone());
        Ok(Some((record, run.join(REPORT))))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    pub fn record(number: u32, decision: &str) -> RunRecord {
        RunRecord {
            number,
            decision: decision.to_owned(),
            reason: "because".to_owned(),
            generations: [1, 1],
            positions: Vec::new(),
            plan: json!({}),
            metrics: json!({"gate": {"p": 0.5}}),
        }
    }

    fn read(index: &Path) -> History {
        History::read(index).unwrap()
    }

    #[test]
    fn a_killed_run_is_gone_on_with_and_a_complete_one_is_not() {
        let index = tempfile::tempdir().unwrap();
        let index = index.path();
        let begin = |plan: &Value| RunFolder::begin(index, &read(index), plan).unwrap();
        let (one, other) = (json!({"seed": 1, "logs": []}), json!({"seed": 2, "logs": []}));
        let first = begin(&one);
        assert_eq!((first.number(), begin(&one).number()), (1, 1));
        assert_eq!(read(index).interrupted_at(), Some(Vec::new()));
        let second = begin(&other);
        assert_eq!(second.number(), 2);
        second.finish(&record(2, PUBLISHED)).unwrap();
        assert_eq!(read(index).interrupted_at(), None);
        let third = begin(&other);
        assert_eq!(third.number(), 3);
        third.finish(&record(3, REFUSED)).unwrap();
        assert_eq!(read(index).trials(), 2);
    }

    #[test]
    fn only_trials_that_could_publish_are_counted() {
        let index = tempfile::tempdir().unwrap();
        let end = |number: u32, decision: &str, metrics: Value| {
            let run = RunFolder::begin(index.path(), &read(index.path()), &json!({"number": number})).unwrap();
            run.finish(&RunRecord { metrics, ..record(number, decision) }).unwrap();
        };
        let asked = json!({"gate": {"p": 0.5}});
        end(1, PUBLISHED, asked.clone());
        end(2, super::super::WOULD_PUBLISH, asked.clone());
        end(3, REFUSED, json!({}));
        assert_eq!(read(index.path()).trials(), 1);
        end(4, REFUSED, asked);
        assert_eq!(read(index.path()).trials(), 2);
    }

    #[test]
    fn whoever_removes_the_runs_keeps_the_numbers_of_models_and_negatives() {
        let index = tempfile::tempdir().unwrap();
        fs::create_dir_all(model_folder(index.path(), 4)).unwrap();
        assert_eq!(read(index.path()).last(), 4);
        let file = super::super::folder::negatives_file(index.path(), 7);
        fs::create_dir_all(index.path().join(NEGATIVES)).unwrap();
        fs::write(file, "").unwrap();
        assert_eq!(read(index.path()).last(), 7);
    }

    #[test]
    fn records_that_are_damaged_or_of_another_version_are_refused() {
        let index = tempfile::tempdir().unwrap();
        let run = RunFolder::begin(index.path(), &History::default(), &json!({})).unwrap();
        run.finish(&record(1, REFUSED)).unwrap();
        let path = run.join(RECORD);
        let text = fs::read_to_string(&path).unwrap();
        let refused = |from: &str, to: &str| {
            fs::write(&path, text.replace(from, to)).unwrap();
            History::read(index.path()).unwrap_err().to_string()
        };
        assert!(refused("because", "why not").contains("checksum"));
        assert!(refused("\"version\":1", "\"version\":7").contains("version 7"));
        assert!(refused("colqwen-index run", "something else").contains("something else"));
    }
}
