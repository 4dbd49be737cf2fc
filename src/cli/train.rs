//! `colqwen-index train`

mod names;
mod parse;
mod reporter;

pub(super) use parse::memory as parse_memory;
pub(super) use reporter::{Reporter, report_lost};

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::path::PathBuf;

use colqwen_index::model::load_colqwen2;
use colqwen_index::train::data::{self, TrainingData};
use colqwen_index::train::loss::{Explicit, Kind, Loss, NegativeFilter};
use colqwen_index::train::maxsim::Similarity;
use colqwen_index::train::network::{Lora, Trained};
use colqwen_index::train::optimiser::Decay;
use colqwen_index::train::trainer::Ending;
use colqwen_index::train::watch::{StepRecord, Verdict};
use colqwen_index::training::{
    Learning, Pages, Preparation, ProjectionOptions, TrainOptions, new_base, train_network, train_projection,
};
use colqwen_index::{Error, PageIndex};

use super::index::OnErrorName;
use super::interrupt::Interrupt;
use super::{progress, wrong_usage};
use names::{DecayName, LossName, MinedName, SideName, TrainedName};

/// Train a model on queries whose pages are known.
///
/// --train projection: only the last layer, which turns the language model's states into token vectors. So every query and
/// page goes through the model once, the states are kept under OUT/hidden, and an epoch costs the projection alone.
/// --train lora: low-rank updates of the language model and the projection, --train full: all weights but the vision tower's; pages
/// then go through the language model at every step, and through the vision tower once, unless --vision lets it learn. A batch of any size fits: gradients are cached, exactly, and --memory sets how many pages are
/// computed together.
///
/// OUT receives steps.jsonl (one line per step), plot.svg, training.state and, at the end, model/: a checkpoint to be
/// named with --model. Where updates were trained there is adapter/, too, as peft reads it: it names its base, or has a copy of the
/// builtin one, and can be named with --model as well. A run that ends early or is killed goes on with --resume, as if it had not
/// been interrupted. When nothing is being learnt, that is said in words.
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
    /// Low-rank updates: rank, alpha, dropout and targets, such as r=32,alpha=32,dropout=0.1,targets=q_proj+v_proj. Targets are the
    /// ends of the names of the linear layers that get one [default: all of the language model and the projection].
    #[arg(long, value_name = "SETTINGS", value_parser = parse::lora)]
    lora: Option<Lora>,
    /// Let the vision tower learn, too (with --train lora, where its linear layers join the targets, or full).
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
    /// How negatives that were mined for a query enter its loss, where the data have some.
    #[arg(long, value_enum, default_value_t = MinedName::Pairs)]
    mined: MinedName,
    /// What the loss over the batch counts beside the term of mined negatives, from 0 to 1 (with --mined pairs).
    #[arg(long, value_name = "W", default_value_t = 0.5)]
    in_batch_weight: f64,
    /// Let negatives that were mined for one query be negatives of all others of the batch, too, that they do not answer.
    #[arg(long)]
    share_negatives: bool,
    /// Train on a smooth maximum over the tokens of a page, which lets all of them learn: T ln sum exp(x / T), with T such as
    /// 0.1. Searches take the maximum in any case [default: the maximum].
    #[arg(long, value_name = "T")]
    smooth_max: Option<f32>,
    /// Leave out pages of a batch that score above this share of a query's right page, such as 0.95: they are often answers
    /// that nobody labelled. Only for a model that ranks well already [default: none is left out].
    #[arg(long, value_name = "SHARE")]
    filter: Option<f64>,
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
    /// Begin with a new projection, drawn from --seed, instead of the model's own (with --train projection). A checkpoint that
    /// has none, as a plain Qwen2-VL, is first saved with one as OUT/base, whatever learns; later runs into OUT take that as it is.
    #[arg(long)]
    new_projection: bool,
    /// What all chance depends on.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Memory to use, such as 20GB: for hidden states of pages, and as much for those of queries; or for the pages that go
    /// through the model together.
    #[arg(long, value_name = "SIZE", default_value = "2GB", value_parser = parse::memory)]
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

impl Arguments {
    fn options(&self) -> TrainOptions {
        let kind = match self.loss {
            LossName::InfoNce => Kind::InfoNce,
            LossName::Pairwise => Kind::Pairwise,
            LossName::Sigmoid => Kind::Sigmoid,
        };
        let loss = Loss {
            kind,
            temperature: self.temperature,
            explicit: match self.mined {
                MinedName::Pairs => Explicit::Pairs { in_batch_weight: self.in_batch_weight },
                MinedName::Candidates => Explicit::Candidates,
            },
            filter: self.filter.map(|threshold| NegativeFilter { threshold, ..NegativeFilter::default() }),
            by_weight: false,
        };
        TrainOptions {
            loss,
            similarity: self.smooth_max.map_or(Similarity::Max, |tau| Similarity::SmoothMax { tau }),
            batch: self.batch,
            negatives: self.negatives,
            share_negatives: self.share_negatives,
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

    /// Refuses options that do not go together or lie outside of their range, before anything is read.
    fn check(&self) -> anyhow::Result<()> {
        if self.lora.is_some() && self.train != TrainedName::Lora {
            return Err(wrong_usage("--lora goes with --train lora"));
        }
        if self.train == TrainedName::Projection && self.vision {
            return Err(wrong_usage("--vision goes with --train lora or full"));
        }
        if self.train != TrainedName::Projection && self.dropout != 0.0 {
            return Err(wrong_usage("--dropout goes with --train projection"));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            let received = self.dropout;
            return Err(wrong_usage(format!(
                "--dropout takes a number from 0 up to, not including, 1, received {received}"
            )));
        }
        if !(self.distil.is_finite() && self.distil >= 0.0) {
            return Err(wrong_usage("--distil takes a number from 0"));
        }
        // Not by clap, which leaves out a requirement that conflicts with what was given.
        if self.constant_negatives > 0 && self.index.is_none() {
            return Err(wrong_usage("--constant-negatives goes with --index"));
        }
        self.options().check().map_err(|error| wrong_usage(error.to_string()))
    }
}

pub fn run(arguments: Arguments, quiet: bool) -> anyhow::Result<()> {
    arguments.check()?;
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
    let index = arguments.index.as_ref().map(PageIndex::open).transpose()?;
    let name = begins_with(&arguments, &data, quiet)?;
    let model = load_colqwen2(&name, &arguments.device)?;
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
            // One that lies under OUT/base has come from the seed already.
            let new_projection = arguments.new_projection && name == arguments.model;
            let projection = ProjectionOptions { dropout: arguments.dropout, new_projection };
            train_projection(&model, data, pages, out, options, projection, &[], prepare, observe)
        }
        TrainedName::Lora => {
            let lora = arguments.lora.unwrap_or_default();
            let trained = Trained::Lora(if arguments.vision { lora.with_vision() } else { lora });
            train_network(&model, &name, data, pages, out, options, trained, &[], prepare, observe)
        }
        TrainedName::Full => {
            let trained = Trained::Full { vision: arguments.vision };
            train_network(&model, &name, data, pages, out, options, trained, &[], prepare, observe)
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

/// The name of the model to begin with: the one that was given or, where that has no projection and a new one is wanted, the one
/// that is made of it.
fn begins_with(arguments: &Arguments, data: &TrainingData, quiet: bool) -> anyhow::Result<String> {
    if arguments.new_projection {
        if let Some(base) = new_base(&arguments.model, data, &arguments.out, &arguments.options())? {
            let folder = base.display().to_string();
            progress::remark(quiet, &format!("the model has no projection: the training begins with {folder}"));
            return Ok(folder);
        }
        if arguments.train != TrainedName::Projection {
            return Err(wrong_usage("--new-projection goes with --train projection where the model has a projection"));
        }
    }
    Ok(arguments.model.clone())
}
