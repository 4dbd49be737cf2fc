//! `colqwen-index train-from-clicks`

use std::io::Write;
use std::ops::ControlFlow;
use std::path::PathBuf;

use clap::ValueEnum;
use colqwen_index::clicks::{ClickOptions, Event, Mode, Outcome, Weighting, train_from_clicks};
use serde_json::{Value, json};

use super::interrupt::Interrupt;
use super::train::{Reporter, parse_memory};
use super::{Refused, progress};

/// Learn from what people clicked, and publish the new model only if it is better.
///
/// The logs hold what was shown and what was clicked, as `search --log` and the library's ClickLog write them. Clicks become
/// questions with pages that answer them: a long or last click speaks for a page, a page skipped above a click against it, a
/// page that nobody looked at says nothing; rare queries, pages that are clicked whatever the question, and sessions that do
/// little else are left out. Hard negatives are mined from the index and kept in INDEX/negatives. Some questions, and the
/// last days, are held out: by them, and by --judged questions that clicks never touch, the new model is compared with
/// the one that serves. It is published if it is better with confidence on the former and not worse on the latter.
///
/// --mode query-side trains the query encoder alone; all stored vectors stay valid. The other modes encode all pages again,
/// into a new generation, while the old one serves. `generations` lists them, `rollback` goes back.
///
/// Run it every night: it goes on from the last published model with what is new in the logs. A run that is killed goes on
/// when the same command is given again. INDEX/runs holds a record and a report of each run.
///
/// Exit codes: 0 published (with --dry-run: would be), 1 failed, 2 wrong usage, 3 refused by the gate.
///
/// Example: colqwen-index train-from-clicks --index shelf --clicks clicks-*.jsonl --judged judged.parquet
#[derive(clap::Args)]
pub struct Arguments {
    /// The folder of the index.
    #[arg(long, value_name = "INDEX")]
    index: PathBuf,
    /// The logs: JSON lines, or Parquet with the same columns.
    #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
    clicks: Vec<PathBuf>,
    /// What is trained.
    #[arg(long, value_enum, default_value_t = ModeName::QuerySide)]
    mode: ModeName,
    /// What a click is worth. Inverse propensity counts clicks at ranks that few look at for more: it is trained beside naive, and taken
    /// only where it answers held-out questions better; refused where ranks do not vary.
    #[arg(long, value_enum, default_value_t = WeightingName::Naive)]
    weighting: WeightingName,
    /// Questions with known pages, as `train` takes them, that no published model may answer worse.
    #[arg(long, value_name = "FILE")]
    judged: Option<PathBuf>,
    /// The texts of queries that are logged as HMACs: JSON lines with query_hmac and query.
    #[arg(long, value_name = "FILE")]
    lookup: Option<PathBuf>,
    /// Sessions that must have asked a query before anything is learnt from it.
    #[arg(long, value_name = "K", default_value_t = 5, value_parser = from(1))]
    k_anonymity: usize,
    /// Milliseconds on a page from which a click says that it answers.
    #[arg(long, value_name = "MS", default_value_t = 30_000)]
    dwell: u64,
    /// The largest share of lines of a log that may be bad.
    #[arg(long, value_name = "SHARE", default_value_t = 0.01, value_parser = parse_share)]
    bad_lines: f64,
    /// Queries per batch; no more than there are.
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = from(2))]
    batch: usize,
    /// Times that each query is seen, at most: the training ends when held-out questions gain nothing more.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    epochs: u64,
    /// The highest learning rate [default: by mode].
    #[arg(long, value_name = "R")]
    rate: Option<f64>,
    /// Memory to use, such as 20GB.
    #[arg(long, value_name = "SIZE", default_value = "2GB", value_parser = parse_memory)]
    memory: usize,
    /// What all chance depends on.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Do everything but publish.
    #[arg(long)]
    dry_run: bool,
    /// Where the report goes, besides INDEX/runs.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Name queries in the report by their text instead of a salted hash.
    #[arg(long)]
    show_queries: bool,
    /// End with one JSON object: decision, reason, metrics, generation; of a run that failed, decision and reason.
    #[arg(long)]
    json: bool,
}

/// What is trained.
#[derive(Clone, Copy, ValueEnum)]
enum ModeName {
    /// The query encoder.
    QuerySide,
    /// The last layer.
    Projection,
    /// Low-rank updates.
    Lora,
    /// All weights.
    Full,
}

/// What a click is worth.
#[derive(Clone, Copy, ValueEnum)]
enum WeightingName {
    /// One vote, at every rank.
    Naive,
    /// The inverse of the probability that its rank is examined, where that is better.
    InversePropensity,
}

impl Arguments {
    fn options(&self) -> ClickOptions {
        ClickOptions {
            mode: match self.mode {
                ModeName::QuerySide => Mode::QuerySide,
                ModeName::Projection => Mode::Projection,
                ModeName::Lora => Mode::Lora,
                ModeName::Full => Mode::Full,
            },
            weighting: match self.weighting {
                WeightingName::Naive => Weighting::Naive,
                WeightingName::InversePropensity => Weighting::InversePropensity,
            },
            judged: self.judged.clone(),
            lookup: self.lookup.clone(),
            k_anonymity: self.k_anonymity,
            dwell_ms: self.dwell,
            bad_share: self.bad_lines,
            batch: self.batch,
            epochs: self.epochs,
            rate: self.rate,
            memory: self.memory,
            seed: self.seed,
            dry_run: self.dry_run,
            report: self.report.clone(),
            show_queries: self.show_queries,
            ..ClickOptions::new(self.clicks.clone())
        }
    }
}

/// Numbers of `least` and more.
fn from(least: usize) -> impl Fn(&str) -> Result<usize, String> + Clone {
    move |text| match text.parse() {
        Ok(number) if number >= least => Ok(number),
        _ => Err(format!("expected a number from {least}")),
    }
}

fn parse_share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "expected a share from 0 to 1".to_owned())
}

pub fn run(arguments: Arguments, quiet: bool) -> anyhow::Result<()> {
    let outcome = night(&arguments, quiet);
    let mut out = std::io::stdout().lock();
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(error) => {
            if arguments.json {
                writeln!(out, "{}", json!({"decision": "failed", "reason": format!("{error:#}")}))?;
            }
            return Err(error);
        }
    };
    let record = &outcome.record;
    if arguments.json {
        writeln!(out, "{}", outcome.json())?;
    } else {
        writeln!(out, "{}: {}", record.decision, record.reason)?;
        tell(&record.metrics, &mut out)?;
        writeln!(out, "generation {} serves; report: {}", record.generations[1], outcome.report.display())?;
    }
    if outcome.passed() { Ok(()) } else { Err(Refused.into()) }
}

/// What a person has to know of the logs and of the questions that were made of them.
fn tell(metrics: &Value, out: &mut impl Write) -> std::io::Result<()> {
    let count = |value: &Value| value.as_u64().unwrap_or(0);
    for file in metrics["files"].as_array().into_iter().flatten().filter(|file| count(&file["bad"]) > 0) {
        let path = file["position"]["path"].as_str().unwrap_or_default();
        let first = &file["first_bad"][0];
        let (line, problem) = (count(&first["line"]), first["problem"].as_str().unwrap_or_default());
        writeln!(out, "{path}: {} bad lines, the first is line {line}: {problem}", count(&file["bad"]))?;
    }
    let deleted = metrics["visits"]["deleted_pages"].as_array().map_or(0, Vec::len);
    if deleted > 0 {
        writeln!(out, "{deleted} pages that were shown are deleted since")?;
    }
    if let (Some(learnt), Some(judge)) = (metrics["training_queries"].as_u64(), metrics["gate_queries"].as_u64()) {
        writeln!(out, "{learnt} questions to learn from, {judge} held out to judge by")?;
    }
    Ok(())
}

fn night(arguments: &Arguments, quiet: bool) -> anyhow::Result<Outcome> {
    let interrupt = Interrupt::listen()?;
    let bar = progress::pages(0, quiet);
    let mut reporter = Reporter::new(quiet);
    let outcome = train_from_clicks(&arguments.index, &arguments.options(), |event| {
        match event {
            Event::Stage(name) => progress::remark(quiet, name),
            Event::Step(step, verdict) => reporter.step(&bar, step, verdict),
            Event::Pages(done, total) => {
                bar.set_length(total);
                bar.set_position(done);
            }
        }
        if interrupt.asked() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    bar.finish_and_clear();
    Ok(outcome?)
}
