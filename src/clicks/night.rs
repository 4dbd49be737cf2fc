//! A run under way: what its outcome depends on, and how it ends.

use std::fs::{self, OpenOptions};
use std::path::PathBuf;

use colqwen_index_train::clicks::log::Position;
use serde_json::{Value, json};

use super::folder::{RunFolder, RunRecord};
use super::pages::Pages;
use super::report::Report;
use super::{ClickOptions, Outcome, PUBLISHED, REFUSED};
use crate::{Error, PageIndex};

/// The report, within the folder of the run.
pub(super) const REPORT: &str = "report.html";
/// Reasons that name this many bad lines or pages are long enough.
const NAMED: usize = 10;

/// All that the outcome depends on, but for the earlier runs, whose last one it names.
pub(super) fn plan(
    index: &PageIndex,
    options: &ClickOptions,
    positions: &[Position],
    (pages, last): (&Pages, Option<u32>),
) -> Result<Value, Error> {
    let hash = |path: &PathBuf| -> Result<String, Error> {
        let bytes = fs::read(path).map_err(Error::io(path, "read it"))?;
        Ok(blake3::hash(&bytes).to_hex().to_string())
    };
    Ok(json!({
        "version": env!("CARGO_PKG_VERSION"), "generation": index.generation(), "model": index.model(),
        "pages": pages.digest(), "goes_on_from_run": last, "logs": positions,
        "judged": options.judged.as_ref().map(hash).transpose()?, "lookup": options.lookup.as_ref().map(hash).transpose()?,
        "mode": options.mode.to_string(), "weighting": options.weighting.to_string(),
        "k_anonymity": options.k_anonymity, "dwell_ms": options.dwell_ms,
        "bad_share": options.bad_share, "batch": options.batch, "epochs": options.epochs, "rate": options.rate,
        "seed": options.seed, "dry_run": options.dry_run,
    }))
}

/// Fails while nothing is done yet if no report can be written where it is wanted.
pub(super) fn check_report(options: &ClickOptions) -> Result<(), Error> {
    let open =
        |path: &PathBuf| OpenOptions::new().create(true).append(true).open(path).map_err(Error::io(path, "open it"));
    options.report.as_ref().map(open).transpose().map(drop)
}

/// A run under way.
pub(super) struct Night<'o> {
    pub run: RunFolder,
    pub plan: Value,
    pub positions: Vec<Position>,
    pub generation: u32,
    pub metrics: Value,
    pub options: &'o ClickOptions,
}

impl Night<'_> {
    /// Nothing changes.
    pub fn refuse(self, reason: String, report: Report) -> Result<Outcome, Error> {
        self.finish(REFUSED, reason, None, report)
    }

    /// Says what will be so once the new model serves; a run that is killed in between is known by it.
    pub fn intend(&self, reason: &str, report: &Report) -> Result<(), Error> {
        self.write_report(
            &Report { decision: PUBLISHED.to_owned(), reason: reason.to_owned(), ..report.clone() },
            None,
        )?;
        self.run.intend(&self.record(PUBLISHED, reason, None))
    }

    /// Writes report and record.
    pub fn finish(
        self,
        decision: &str,
        reason: String,
        generation: Option<u32>,
        mut report: Report,
    ) -> Result<Outcome, Error> {
        (report.decision, report.reason) = (decision.to_owned(), reason.clone());
        let html = self.write_report(&report, Some(generation.unwrap_or(self.generation)))?;
        let record = self.record(decision, &reason, generation);
        self.run.finish(&record)?;
        if let Some(path) = &self.options.report {
            fs::write(path, &html).map_err(Error::io(path, "write the report"))?;
        }
        Ok(Outcome { record, report: self.run.join(REPORT) })
    }

    fn record(&self, decision: &str, reason: &str, generation: Option<u32>) -> RunRecord {
        RunRecord {
            number: self.run.number(),
            decision: decision.to_owned(),
            reason: reason.to_owned(),
            generations: [self.generation, generation.unwrap_or(self.generation)],
            positions: self.positions.clone(),
            plan: self.plan.clone(),
            metrics: self.metrics.clone(),
        }
    }

    /// Writes the report into the folder of the run; its text.
    fn write_report(&self, report: &Report, serves: Option<u32>) -> Result<String, Error> {
        let html = Report { facts: self.facts(serves), ..report.clone() }.html();
        let path = self.run.join(REPORT);
        fs::write(&path, &html).map_err(Error::io(&path, "write the report"))?;
        Ok(html)
    }

    fn facts(&self, serves: Option<u32>) -> Vec<(String, String)> {
        let mut facts = vec![("run".to_owned(), self.run.number().to_string())];
        facts.extend(serves.map(|serves| ("generation that serves".to_owned(), serves.to_string())));
        let of = |values: &Value, names: &[&str]| -> Vec<(String, String)> {
            let wanted = names.iter().filter(|name| !values[**name].is_null());
            wanted.map(|name| (name.replace('_', " "), plain(&values[*name]))).collect()
        };
        facts.extend(of(&self.plan, &["mode", "weighting", "seed", "batch", "version"]));
        let counts =
            ["training_queries", "replayed_queries", "rehearsed_queries", "validation_queries", "gate_queries"];
        facts.extend(of(&self.metrics, &counts));
        facts.extend(of(&self.metrics, &["merged_pages", "no_propensities"]));
        for part in ["log", "visits"] {
            let values = self.metrics[part].as_object().into_iter().flatten().filter(|(_, value)| value.is_number());
            facts
                .extend(values.map(|(name, count)| (format!("{part}: {}", name.replace('_', " ")), count.to_string())));
        }
        facts.extend(bad_lines(&self.metrics["files"]));
        for (title, values) in [
            ("pages shown that are deleted, with impressions", &self.metrics["visits"]["deleted_pages"]),
            ("pages under suspicion", &self.metrics["suspects"]),
        ] {
            if let Some(values) = values.as_array().filter(|values| !values.is_empty()) {
                let named = values.iter().take(NAMED).map(plain).collect::<Vec<_>>().join("; ");
                let more = values.len().saturating_sub(NAMED);
                facts.push((title.to_owned(), if more > 0 { format!("{named}; and {more} more") } else { named }));
            }
        }
        let gate = &self.metrics["gate"];
        if let Some(p) = gate["clicks"]["ndcg_10"]["p"].as_f64() {
            facts.push(("gate: p of the gain on held-out clicks".to_owned(), format!("{p:.2e}")));
            facts.push((
                "gate: p that is asked for".to_owned(),
                format!("{:.2e}", gate["alpha"].as_f64().unwrap_or(0.0)),
            ));
            facts.extend(of(gate, &["trial"]).into_iter().map(|(name, value)| (format!("gate: {name}"), value)));
        }
        facts
    }
}

/// Of each file with bad lines how many there are, and the first of them.
fn bad_lines(files: &Value) -> Vec<(String, String)> {
    let bad = |file: &Value| {
        let count = file["bad"].as_u64().filter(|count| *count > 0)?;
        let line = |line: &Value| format!("line {}: {}", line["line"], plain(&line["problem"]));
        let first = file["first_bad"].as_array().into_iter().flatten().take(NAMED).map(line);
        let first = first.collect::<Vec<_>>().join("; ");
        Some((format!("bad lines of {}", plain(&file["position"]["path"])), format!("{count}; {first}")))
    };
    files.as_array().into_iter().flatten().filter_map(bad).collect()
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(plain).collect::<Vec<_>>().join(", "),
        Value::Object(values) => {
            let named = values.iter().map(|(name, value)| format!("{} {}", name.replace('_', " "), plain(value)));
            named.collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}
