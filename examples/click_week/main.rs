//! A simulated week of searches over a page index, and what `train-from-clicks` makes of it.
//!
//! Users search an index of real pages and click as the simulator of the train crate says, which knows which pages hold all
//! words of a query. The program under trial does not: it gets the log, and nothing else. Then true relevance tells how
//! much better the published model ranks, for queries that were asked in the week, and for new ones that share no set of words
//! with them; BM25 and the model before stand beside it.
//!
//! ```sh
//! colqwen-index index manuals --index base
//! cargo run --release --example click_week -- --index base --work week --user position-1-0.05 --seed 1
//! ```
//! One line of JSON per run goes to stdout. Where the gate refuses a query encoder, `after` is what it would have done. `both` is
//! both kinds of queries by traffic, `repeated` those of the week, `new` those that nobody asked.

mod naive;
mod rehearsal;
#[path = "../../train/tests/clicks/simulator.rs"]
#[allow(dead_code, reason = "adversaries and noise are drawn by name")]
mod simulator;
mod world;

use std::collections::BTreeSet;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Parser;
use colqwen_index::PageIndex;
use colqwen_index::clicks::{ClickOptions, Event, Mode, train_from_clicks};
use colqwen_index::model::Model;
use colqwen_index::train::data::{PageId, TrainingData};
use serde_json::json;

use simulator::{Adversary, Simulation, User};
use world::World;

/// The share of the traffic to come that new queries have: of the next day's queries 30 % are new to the week, of those a week
/// later nearly all.
const NEW: f64 = 0.5;

/// Simulate a week of clicks on an index and train from them
#[derive(Parser)]
struct Arguments {
    /// An index of real pages; it is copied, not changed
    #[arg(long)]
    index: PathBuf,
    /// A folder for the copy, the log and everything that comes of them
    #[arg(long)]
    work: PathBuf,
    /// position-ETA-OTHER, cascade-STOP-OTHER, noise-RATE
    #[arg(long, default_value = "position-1-0.05")]
    user: String,
    /// one-page, sybils or new-page
    #[arg(long)]
    adversary: Option<String>,
    #[arg(long, default_value_t = 20_000)]
    impressions: usize,
    /// Queries of one day; 30 % of them are new on the next
    #[arg(long, default_value_t = 250)]
    queries_a_day: usize,
    #[arg(long, default_value = "query-side")]
    mode: Mode,
    #[arg(long, default_value_t = 64)]
    batch: usize,
    #[arg(long, default_value_t = 8)]
    epochs: u64,
    #[arg(long)]
    rate: Option<f64>,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Train on every click as well, as a program without care would, and judge that beside it
    #[arg(long)]
    naive: bool,
    /// Train without the questions of clicks as well, on those of the pages' own words alone, and judge that beside it: what of
    /// the gain is owed to clicks
    #[arg(long)]
    rehearsal_only: bool,
    /// Write the log and stop there, for the command line to be tried on
    #[arg(long)]
    only_log: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if arguments.rehearsal_only && arguments.mode != Mode::QuerySide {
        bail!("--rehearsal-only trains the query side, received --mode {}", arguments.mode);
    }
    let index = arguments.work.join("index");
    if !index.exists() {
        copy(&arguments.index, &index)?;
    }
    let week = arguments.queries_a_day + (arguments.queries_a_day * 6 * 3) / 10;
    let world = World::of(&PageIndex::open(&index)?, week, 200, arguments.seed)?;
    let log = arguments.work.join("clicks.jsonl");
    // Without an adversary this page tells how many lists a page enters by what honest users taught.
    let target = world.intruder();
    let adversary = arguments.adversary.as_deref().map(|name| adversary(name, &target)).transpose()?;
    let simulation = Simulation {
        days: 7,
        impressions: arguments.impressions,
        queries_a_day: arguments.queries_a_day,
        user: user(&arguments.user)?,
        adversary,
        asked: 6,
        dwell: true,
        seed: arguments.seed,
        queries: &world.asked,
    };
    let records = simulation.run(|query| world.first(query), |query, page| world.answers(query, page));
    let lines: Vec<String> = records.iter().map(|record| record.line()).collect::<Result<_, _>>()?;
    fs::write(&log, lines.join("\n") + "\n")?;
    if arguments.only_log {
        println!("{}", log.display());
        return Ok(());
    }
    let options = ClickOptions {
        mode: arguments.mode,
        batch: arguments.batch,
        epochs: arguments.epochs,
        rate: arguments.rate,
        seed: arguments.seed,
        ..ClickOptions::new(vec![log])
    };
    let candidate = arguments.work.join("candidate");
    let began = Instant::now();
    let outcome = train_from_clicks(&index, &options, |event| {
        if let Event::Stage(name) = event {
            eprintln!("{:>6.1} s  {name}", began.elapsed().as_secs_f64());
            // What the gate refuses is thrown away; the simulator wants to know whether it was right to.
            if name.starts_with("comparing") && arguments.mode == Mode::QuerySide {
                let trained = newest(&index.join("models"));
                if let Some(Err(error)) = trained.map(|trained| copy(&trained, &candidate)) {
                    eprintln!("{error:#}");
                }
            }
        }
        ControlFlow::Continue(())
    })?;
    let seconds = began.elapsed().as_secs_f64();
    let index = PageIndex::open(&index)?;
    let served = index.model().context("the index records a model")?.name.clone();
    let published = outcome.record.decision == "published";
    let tried = if !published && candidate.exists() { candidate.display().to_string() } else { served };
    let model = Model::load(&tried, "cpu")?;
    let traffic = world.traffic(&records);
    let [repeated, new] =
        [world.judge(&index, &*model.encoder, &world.asked)?, world.judge(&index, &*model.encoder, &world.new)?];
    let [before, before_new] = [world.before(&world.asked)?, world.before(&world.new)?];
    let naive = arguments.naive.then(|| -> Result<_> {
        // From the model before, on the index before.
        let base = PageIndex::open(&arguments.index)?;
        let chosen = (arguments.batch, arguments.seed);
        let model = naive::train(&base, &records, chosen, &arguments.work.join("naive"))?;
        let judge = |queries: &[String]| world.judge(&base, &*model.encoder, queries);
        Ok([judge(&world.asked)?, judge(&world.new)?])
    });
    let naive = naive.transpose()?;
    let taught = last_questions(&arguments.work.join("index"))?;
    let rehearsed = arguments.rehearsal_only.then(|| -> Result<_> {
        let base = PageIndex::open(&arguments.index)?;
        let chosen = (arguments.batch, arguments.epochs, arguments.rate, arguments.seed);
        let model = rehearsal::train(&base, taught.clone(), chosen, &arguments.work.join("rehearsal"))?;
        let judge = |queries: &[String]| world.judge(&base, &*model.encoder, queries);
        Ok([judge(&world.asked)?, judge(&world.new)?])
    });
    let rehearsed = rehearsed.transpose()?;
    let weighted = |of: &[f64]| of.iter().zip(&traffic).map(|(ndcg, share)| ndcg * share).sum::<f64>();
    let mean = |of: &[f64]| of.iter().sum::<f64>() / of.len().max(1) as f64;
    let both = |asked: &[f64], new: &[f64]| (1.0 - NEW) * weighted(asked) + NEW * mean(new);
    let figures = |[asked, new]: [Vec<f64>; 2]| json!({"repeated": weighted(&asked), "new": mean(&new), "both": both(&asked, &new)});
    let bm25 = [world.bm25(&index, &world.asked)?, world.bm25(&index, &world.new)?];
    let taught: BTreeSet<String> = taught.questions.into_iter().map(|question| question.query).collect();
    // Unweighted: what the training did to which kind of query.
    let kind = |wanted: &dyn Fn(usize) -> bool| {
        let of =
            |values: &[f64]| -> Vec<f64> { (0..values.len()).filter(|at| wanted(*at)).map(|at| values[at]).collect() };
        json!({"queries": of(&before).len(), "before": mean(&of(&before)), "after": mean(&of(&repeated))})
    };
    let is_taught = |at: usize| taught.contains(&world.asked[at]);
    let kinds = json!({
        "taught": kind(&is_taught),
        "asked, with an answer among those shown": kind(&|at| !is_taught(at) && before[at] > 0.0),
        "asked, without one": kind(&|at| !is_taught(at) && before[at] == 0.0),
    });
    let entered = world.entered(&index, &*model.encoder, &target)?;
    println!(
        "{}",
        json!({
            "user": arguments.user, "adversary": arguments.adversary, "seed": arguments.seed,
            "decision": outcome.record.decision, "reason": outcome.record.reason, "seconds": seconds,
            "pages": world.pages(), "impressions": arguments.impressions, "asked": world.asked.len(),
            "repeated": {"before": weighted(&before), "after": weighted(&repeated), "bm25": weighted(&bm25[0])},
            "kinds": kinds,
            "every click an answer": naive.map(figures), "rehearsal only": rehearsed.map(figures),
            "new": {"before": mean(&before_new), "after": mean(&new), "bm25": mean(&bm25[1])},
            "both": {"before": both(&before, &before_new), "after": both(&repeated, &new), "bm25": both(&bm25[0], &bm25[1])},
            "lists_the_page_entered": entered, "training": outcome.record.metrics["training_queries"],
            "gate": outcome.record.metrics["gate"]["clicks"]["ndcg_10"], "gate_queries": outcome.record.metrics["gate_queries"],
            "validation": outcome.record.metrics["validation"],
        })
    );
    Ok(())
}

fn user(name: &str) -> Result<User> {
    let parts: Vec<&str> = name.split('-').collect();
    let number = |at: usize| -> Result<f64> {
        parts.get(at).and_then(|part| part.parse().ok()).with_context(|| format!("{name}: a number is missing"))
    };
    match parts[0] {
        "position" => Ok(User::Position { eta: number(1)?, other: number(2)? }),
        "cascade" => Ok(User::Cascade { stop: number(1)?, other: number(2)? }),
        "noise" => Ok(User::Noise { rate: number(1)? }),
        other => bail!("expected position, cascade or noise, received {other:?}"),
    }
}

/// The adversary by its name, for `page`.
fn adversary(name: &str, page: &PageId) -> Result<Adversary> {
    let page = page.clone();
    Ok(match name {
        "one-page" => Adversary::OnePage { page, share: 0.05 },
        "sybils" => Adversary::Sybils { page, sessions: 500 },
        "new-page" => Adversary::NewPage { page, day: 4, share: 0.2 },
        other => bail!("expected one-page, sybils or new-page, received {other:?}"),
    })
}

/// The questions that the last run learnt from.
fn last_questions(index: &Path) -> Result<TrainingData> {
    let Ok(entries) = fs::read_dir(index.join("negatives")) else { return Ok(TrainingData::default()) };
    let last = entries.filter_map(|entry| Some(entry.ok()?.path())).max();
    Ok(last.map(colqwen_index::train::data::read).transpose()?.unwrap_or_default())
}

/// The folder of the last model that was trained.
fn newest(models: &Path) -> Option<PathBuf> {
    let folders = fs::read_dir(models).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    folders.filter(|path| path.is_dir()).max()
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("{}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
