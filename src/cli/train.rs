//! `colqwen-index train`

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::path::PathBuf;

use clap::ValueEnum;
use colqwen_index::model::load_colqwen2;
use colqwen_index::train::data;
use colqwen_index::train::loss::{Kind, Loss};
use colqwen_index::train::network::{Lora, Trained};
use colqwen_index::train::optimiser::Decay;
use colqwen_index::train::trainer::Ending;
use colqwen_index::train::watch::{StepRecord, Verdict};
use colqwen_index::training::{
    Learning, LostPages, Pages, Preparation, ProjectionOptions, TrainOptions, train_network, train_projection,
};
use colqwen_index::{Error, PageIndex};
use indicatif::ProgressBar;

use super::index::OnErrorName;
use super::interrupt::Interrupt;
use super::{progress, wrong_usage};

/// Train a model on queries whose pages are known.
///
/// --train projection: only the last layer, which turns the language model's states into token vectors. So every query and
/// page goes through the model once, the states are kept under OUT/hidden, and an epoch costs the projection alone.
/// --train lora: low-rank updates of the language model and the projection, --train full: all weights but the vision tower's; pages
/// then go through the language model at every step, and through the vision tower once, unless --vision lets it learn. A batch of any size fits: gradients are cached, exactly, and --memory sets how many pages are
/// computed together.
///
/// OUT receives steps.jsonl (one line per step), plot.svg, training.state and, at the end, model/: a checkpoint to be
/// named with --model (and adapter/, as peft reads it, where updates were trained). A run that ends early or is killed goes on with --resume, as if it had not been interrupted. When
/// nothing is being learnt, that is said in words.
///
/// The data are a Parquet file with `query_id`, `query` and `positives` (list of `doc_id`, `page`, and `weight`), and if
/// there are any `negatives` and `group`. Documents have the ids that `index` gives them.
///
/// Example: colqwen-index train --data questions.parquet --pages ~/papers --model vidore/colqwen2-v1.0 --out trained
#[derive(clap::Args)]
#[command(group(clap::ArgGroup::new("where").required(true)))]
pub struct Arguments {
    /// The training data.
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// The files and folders that hold the pages.
    #[arg(long, value_name = "PATH", num_args = 1.., group = "where")]
    pages: Vec<PathBuf>,
    /// An index of the pages: each is rendered again from the file it came from, which must be unchanged. With --side query
    /// the stored vectors are taken instead, and no file is needed.
    #[arg(long, value_name = "DIR", group = "where")]
    index: Option<PathBuf>,
    /// What to do with pages that cannot be found or rendered: with `skip` they are left out, and so are queries that have no
    /// other positive page.
    #[arg(long, value_enum, default_value_t = OnErrorName::Fail)]
    on_error: OnErrorName,
    /// The model to begin with: a folder, a hub id, or `builtin`.
    #[arg(long, value_name = "M")]
    model: String,
    /// The folder for everything that comes out.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// What learns.
    #[arg(long, value_enum, default_value_t = TrainedName::Projection)]
    train: TrainedName,
    /// Low-rank updates: rank, alpha and dropout, such as r=32,alpha=32,dropout=0.1.
    #[arg(long, value_name = "SETTINGS", value_parser = parse_lora)]
    lora: Option<Lora>,
    /// Let the vision tower learn, too (with --train lora or full).
    #[arg(long)]
    vision: bool,
    /// Whose vectors learn: those of queries and pages, or those of queries alone, for pages that are indexed already. The model
    /// that comes out then searches the indexes of the model it began with.
    #[arg(long, value_enum, default_value_t = SideName::Both)]
    side: SideName,
    /// Keep to the rankings of the model to begin with: adds W times the divergence from them, over the pages of each batch, to
    /// the loss (with updates or all weights, the vectors of the beginning are computed once and kept in memory, 200 KB for
    /// a page of 768 tokens).
    #[arg(long, value_name = "W", default_value_t = 0.0)]
    distil: f64,
    /// Stored pages of the index that join each batch as negatives, drawn anew at every step (with --index). Meant for
    /// --side query: pages that learn move away from stored vectors.
    #[arg(long, value_name = "N", default_value_t = 0)]
    constant_negatives: usize,
    /// What is asked of the scores.
    #[arg(long, value_enum, default_value_t = LossName::InfoNce)]
    loss: LossName,
    /// What scores are divided by in the loss.
    #[arg(long, value_name = "T", default_value_t = 0.02)]
    temperature: f64,
    /// Queries per batch: the more, the more negatives each of them meets.
    #[arg(long, value_name = "N", default_value_t = 512)]
    batch: usize,
    /// Mined negatives per query and batch, where the data have some.
    #[arg(long, value_name = "N", default_value_t = 1)]
    negatives: usize,
    /// Queries or pages that are in memory with their gradients at once [default: 8 for the projection, else what --memory
    /// has room for].
    #[arg(long, value_name = "N")]
    mini_batch: Option<usize>,
    /// How often every query is seen.
    #[arg(long, value_name = "N", default_value_t = 5)]
    epochs: u64,
    /// The highest learning rate, reached after a twentieth of the steps [default: 0.001 for the projection, 0.0002 for
    /// updates, 0.00002 for all weights].
    #[arg(long, value_name = "R")]
    rate: Option<f64>,
    /// How the learning rate falls after that.
    #[arg(long, value_enum, default_value_t = DecayName::Linear)]
    decay: DecayName,
    /// Share of hidden values that are dropped (with --train projection).
    #[arg(long, value_name = "P", default_value_t = 0.0)]
    dropout: f64,
    /// Begin with a new projection instead of the model's own.
    #[arg(long)]
    new_projection: bool,
    /// What all chance depends on.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Memory to use, such as 20GB: for hidden states of pages, and as much for those of queries; or for the pages that go
    /// through the model together.
    #[arg(long, value_name = "SIZE", default_value = "2GB", value_parser = parse_memory)]
    memory: usize,
    /// Go on with the run in OUT.
    #[arg(long)]
    resume: bool,
    /// Print one JSON object instead of the folder of the model: `model`, `steps`, `pages_lost` and `queries_left_out`.
    #[arg(long)]
    json: bool,
    /// Where the model computes hidden states: cpu or cuda:N.
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: String,
}

/// What learns.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TrainedName {
    /// The last layer.
    Projection,
    /// Low-rank updates.
    Lora,
    /// All weights.
    Full,
}

/// Whose vectors learn.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SideName {
    /// Those of queries and pages.
    Both,
    /// Those of queries.
    Query,
}

/// `r=32,alpha=32,dropout=0.1`, each part optional.
fn parse_lora(text: &str) -> Result<Lora, String> {
    let mut lora = Lora::default();
    for part in text.split(',') {
        let (name, value) = part.split_once('=').ok_or_else(|| format!("expected name=number, received {part:?}"))?;
        let number = |_| format!("{name}: expected a number, received {value:?}");
        match name.trim() {
            "r" => lora.rank = value.parse().map_err(|_| format!("r: expected a whole number, received {value:?}"))?,
            "alpha" => lora.alpha = value.parse().map_err(number)?,
            "dropout" => lora.dropout = value.parse().map_err(number)?,
            other => return Err(format!("expected r, alpha or dropout, received {other:?}")),
        }
    }
    Ok(lora)
}

/// `20GB`, `512MB` or a number of bytes.
pub(super) fn parse_memory(text: &str) -> Result<usize, String> {
    let units = [("GB", 1usize << 30), ("MB", 1 << 20), ("", 1)];
    let upper = text.trim().to_uppercase();
    let found =
        units.iter().find_map(|(name, unit)| Some((upper.strip_suffix(name)?.trim().parse::<f64>().ok()?, unit)));
    match found {
        Some((number, unit)) if number > 0.0 && number.is_finite() => Ok((number * *unit as f64) as usize),
        _ => Err(format!("expected a size above 0 such as 20GB or 512MB, received {text:?}")),
    }
}

/// What is asked of the scores.
#[derive(Clone, Copy, ValueEnum)]
enum LossName {
    /// Cross entropy over all pages of the batch.
    InfoNce,
    /// The hardest page of the batch against the right one.
    Pairwise,
    /// A yes or no for every page.
    Sigmoid,
}

/// How the learning rate falls.
#[derive(Clone, Copy, ValueEnum)]
enum DecayName {
    /// Not at all.
    Constant,
    /// In a straight line.
    Linear,
    /// Along half a cosine.
    Cosine,
}

impl Arguments {
    fn options(&self) -> TrainOptions {
        let kind = match self.loss {
            LossName::InfoNce => Kind::InfoNce,
            LossName::Pairwise => Kind::Pairwise,
            LossName::Sigmoid => Kind::Sigmoid,
        };
        TrainOptions {
            loss: Loss { temperature: self.temperature, ..Loss::new(kind) },
            batch: self.batch,
            negatives: self.negatives,
            mini_batch: self.mini_batch,
            epochs: self.epochs,
            rate: self.rate.unwrap_or(match self.train {
                TrainedName::Projection => 1e-3,
                TrainedName::Lora => 2e-4,
                TrainedName::Full => 2e-5,
            }),
            decay: match self.decay {
                DecayName::Constant => Decay::Constant,
                DecayName::Linear => Decay::Linear,
                DecayName::Cosine => Decay::Cosine,
            },
            seed: self.seed,
            memory: self.memory,
            save_every: 50,
            resume: self.resume,
            on_error: self.on_error.into(),
            learning: match self.side {
                SideName::Both => Learning::Both,
                SideName::Query => Learning::Queries,
            },
            distil: self.distil,
            constant_negatives: self.constant_negatives,
        }
    }
}

pub fn run(arguments: Arguments, quiet: bool) -> anyhow::Result<()> {
    let data = data::read(&arguments.data)?;
    let unusable = data.questions.iter().filter(|question| question.positives.is_empty()).count();
    if unusable > 0 {
        progress::remark(
            quiet,
            &format!("{unusable} of {} queries have no positive page and are left out", data.questions.len()),
        );
    }
    if arguments.new_projection && arguments.resume {
        // The weights come from the state; the flag must only be the same as before.
        progress::remark(quiet, "going on with the projection of the state");
    }
    if arguments.lora.is_some() && arguments.train != TrainedName::Lora {
        return Err(wrong_usage("--lora goes with --train lora"));
    }
    if arguments.train == TrainedName::Projection && arguments.vision {
        return Err(wrong_usage("--vision goes with --train lora or full"));
    }
    if arguments.train != TrainedName::Projection && (arguments.new_projection || arguments.dropout > 0.0) {
        return Err(wrong_usage("--new-projection and --dropout go with --train projection"));
    }
    if !(arguments.distil.is_finite() && arguments.distil >= 0.0) {
        return Err(wrong_usage("--distil takes a number from 0"));
    }
    // Not by clap, which leaves out a requirement that conflicts with what was given.
    if arguments.constant_negatives > 0 && arguments.index.is_none() {
        return Err(wrong_usage("--constant-negatives goes with --index"));
    }
    let index = arguments.index.as_ref().map(PageIndex::open).transpose()?;
    let model = load_colqwen2(&arguments.model, &arguments.device)?;
    let interrupt = Interrupt::listen()?;
    let bar = RefCell::new(progress::pages(0, quiet));
    let flow = || if interrupt.asked() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
    let prepare = |event: Preparation<'_>| {
        let mut bar = bar.borrow_mut();
        match event {
            Preparation::Planned { pages } => bar.set_length(pages as u64),
            Preparation::Page { doc_id } => {
                bar.set_message(doc_id.to_owned());
                bar.inc(1);
            }
            Preparation::Steps { total } => {
                bar.finish_and_clear();
                *bar = progress::steps(total, quiet);
            }
        }
        flow()
    };
    let mut reporter = Reporter::new(quiet);
    let observe = |step: &StepRecord, verdict: Option<&Verdict>| {
        let bar = bar.borrow();
        bar.set_position(step.step + 1);
        reporter.step(&bar, step, verdict);
        flow()
    };
    let pages = match &index {
        Some(index) => Pages::Index(index),
        None => Pages::Files(&arguments.pages),
    };
    let (data, out, options) = (&data, &arguments.out, &arguments.options());
    let outcome = match arguments.train {
        TrainedName::Projection => {
            let projection = ProjectionOptions { dropout: arguments.dropout, new_projection: arguments.new_projection };
            train_projection(&model, data, pages, out, options, projection, &[], prepare, observe)
        }
        TrainedName::Lora => {
            let lora = arguments.lora.unwrap_or_default();
            let trained = Trained::Lora(if arguments.vision { lora.with_vision() } else { lora });
            train_network(&model, &arguments.model, data, pages, out, options, trained, &[], prepare, observe)
        }
        TrainedName::Full => {
            let trained = Trained::Full { vision: arguments.vision };
            train_network(&model, &arguments.model, data, pages, out, options, trained, &[], prepare, observe)
        }
    };
    bar.borrow().finish_and_clear();
    let outcome = match outcome {
        Err(Error::Interrupted) => anyhow::bail!(
            "interrupted before the first step; hidden states computed so far are kept, run the same command again"
        ),
        outcome => outcome?,
    };
    report_lost(&outcome.lost, outcome.left_out, quiet);
    let caches = outcome.caches;
    if arguments.train != TrainedName::Projection && caches.pages_computed + caches.pages_kept > 0 {
        let (computed, kept) = (caches.pages_computed, caches.pages_kept);
        let text = format!("{computed} pages went through the vision tower, once; {kept} were kept from before");
        progress::remark(quiet, &text);
    }
    if arguments.train == TrainedName::Projection {
        progress::remark(
            quiet,
            &format!(
                "{} pages and {} queries went through the model, {} and {} were kept from before; {} steps",
                caches.pages_computed,
                caches.queries_computed,
                caches.pages_kept,
                caches.queries_kept,
                outcome.steps.len()
            ),
        );
    }
    let (Ending::Complete, Some(folder)) = (outcome.ending, outcome.model) else {
        anyhow::bail!("interrupted; the state is saved, run the same command with --resume to go on");
    };
    if arguments.json {
        let object = serde_json::json!({
            "model": folder.display().to_string(),
            "steps": outcome.steps.len(),
            "pages_lost": outcome.lost.pages().len(),
            "queries_left_out": outcome.left_out,
        });
        println!("{object}");
    } else {
        println!("{}", folder.display());
    }
    Ok(())
}

/// Names pages that were lost, and how many queries go with them.
pub(super) fn report_lost(lost: &LostPages, left_out: usize, quiet: bool) {
    for (page, problem) in lost.pages() {
        progress::remark(quiet, &format!("left out: {page}: {problem}"));
    }
    if !lost.pages().is_empty() {
        let text = format!("{} pages lost, {left_out} queries left out with them", lost.pages().len());
        progress::remark(quiet, &text);
    }
}

/// Prints steps, not too many of them, and each verdict once.
pub(super) struct Reporter {
    quiet: bool,
    said: Option<std::mem::Discriminant<Verdict>>,
}

impl Reporter {
    pub(super) fn new(quiet: bool) -> Self {
        Self { quiet, said: None }
    }

    pub(super) fn step(&mut self, bar: &ProgressBar, step: &StepRecord, verdict: Option<&Verdict>) {
        if step.step < 10 || step.step.is_multiple_of(10) {
            let line = format!(
                "step {:>5}  loss {:.4} (without learning {:.4})  margin {:+.4}  accuracy {:.3}  variance {:.4}  gradient {:.3}",
                step.step,
                step.loss,
                step.no_learning,
                step.margin,
                step.accuracy,
                step.page_variance,
                step.gradient_norm
            );
            bar.suspend(|| progress::remark(self.quiet, &line));
        }
        let now = verdict.map(std::mem::discriminant);
        if let (Some(verdict), true) = (verdict, now != self.said) {
            // Also for those who asked for quiet: a run that learns nothing is no success.
            bar.suspend(|| eprintln!("warning: {verdict}"));
        }
        self.said = now;
    }
}
