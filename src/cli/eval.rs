//! `colqwen-index eval`

use std::io::Write;
use std::ops::ControlFlow;
use std::path::PathBuf;

use colqwen_index::model::Model;
use colqwen_index::train::data::{self, PageId, Question};
use colqwen_index::train::metrics::{Mean, Metrics};
use colqwen_index::training::{LostPages, OnError, Preparation, judge, rank_index, rank_pages, rank_sources};
use colqwen_index::{Error, PageIndex};
use comfy_table::Table;

use super::index::OnErrorName;
use super::interrupt::Interrupt;
use super::{model, progress};

/// Measure how well a model ranks pages for queries whose pages are known.
///
/// With --pages all pages of these files are encoded and compared with every query, exactly; with --index the stored vectors
/// are searched, exactly as well. A --model that makes other pages than those of the index is judged by what it makes of them: they
/// are rendered from their files again, and the index stays as it is. Printed are nDCG@5 and @10, the mean reciprocal rank and recall@1, @5 and @10, each with
/// the interval of 95 % of 1000 resamplings of the queries.
///
/// Example: colqwen-index eval --data held-out.parquet --pages ~/papers --model trained/model
#[derive(clap::Args)]
#[command(group(clap::ArgGroup::new("where").required(true)))]
pub struct Arguments {
    /// Queries with their positive pages, as `train` takes them.
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// The files and folders that hold the pages.
    #[arg(long, value_name = "PATH", num_args = 1.., group = "where")]
    pages: Vec<PathBuf>,
    /// The index that holds the pages.
    #[arg(long, value_name = "DIR", group = "where")]
    index: Option<PathBuf>,
    /// The model: a folder, a hub id, or `builtin` [default: the one the index records].
    #[arg(long, value_name = "M", required_unless_present = "index")]
    model: Option<String>,
    /// What to do with pages that cannot be found, rendered or read: with `skip` they are left out, and so are queries that have
    /// no other positive page.
    #[arg(long, value_enum, default_value_t = OnErrorName::Fail)]
    on_error: OnErrorName,
    /// What resampling depends on.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Print one JSON object, with `pages_lost` and `queries_left_out` beside the metrics.
    #[arg(long)]
    json: bool,
    /// Where the model computes: cpu or cuda:N; that which the index records always on the cpu.
    #[arg(long, value_name = "DEVICE", default_value = "cpu", requires = "model")]
    device: String,
}

pub fn run(arguments: Arguments, quiet: bool) -> anyhow::Result<()> {
    let data = data::read(&arguments.data)?;
    let rows: Vec<usize> = (0..data.questions.len()).filter(|row| !data.questions[*row].positives.is_empty()).collect();
    let questions: Vec<&Question> = rows.iter().map(|row| &data.questions[*row]).collect();
    let mut lost = LostPages::new(OnError::from(arguments.on_error));
    if questions.len() < data.questions.len() {
        let left_out = data.questions.len() - questions.len();
        progress::remark(
            quiet,
            &format!("{left_out} of {} queries have no positive page and are left out", data.questions.len()),
        );
    }
    let index = arguments.index.as_ref().map(PageIndex::open).transpose()?;
    let bar = progress::pages(0, quiet);
    let interrupt = Interrupt::listen()?;
    let encoding = |event: Preparation<'_>| {
        match event {
            Preparation::Planned { pages } => bar.set_length(pages as u64),
            Preparation::Page { doc_id } => {
                bar.set_message(doc_id.to_owned());
                bar.inc(1);
            }
            Preparation::Steps { .. } => {}
        }
        if interrupt.asked() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let rankings = match (&index, &arguments.model) {
        (Some(index), None) => rank_index(index, &*model::for_search(index, None)?, &questions, &mut lost),
        (Some(index), Some(name)) => {
            let model = Model::load(name, &arguments.device)?;
            match index.check_model(model.encoder.serves_pages_of()) {
                Err(Error::OtherModel { .. }) => {
                    let text = "the index holds pages of another model; those of this one are made of the same files";
                    progress::remark(quiet, text);
                    rank_sources(index, &model, &questions, &mut lost, encoding)
                }
                checked => checked.and_then(|()| rank_index(index, &*model.encoder, &questions, &mut lost)),
            }
        }
        (None, Some(name)) => {
            let model = Model::load(name, &arguments.device)?;
            rank_pages(&*model.encoder, &questions, &arguments.pages, &mut lost, encoding)
        }
        (None, None) => return Err(super::wrong_usage("give --model, or --index of an index that records one")),
    };
    bar.finish_and_clear();
    let rankings: Vec<Vec<PageId>> = rankings?;
    let left = lost.removed_from(&data);
    let left_out = data.usable() - left.usable();
    super::train::report_lost(&lost, left_out, quiet);
    let questions: Vec<&Question> = rows.iter().map(|row| &left.questions[*row]).collect();
    let metrics = judge(&questions, &rankings, arguments.seed)?;
    let mut out = std::io::stdout().lock();
    if arguments.json {
        let mut object = serde_json::to_value(&metrics)?;
        object["pages_lost"] = lost.pages().len().into();
        object["queries_left_out"] = left_out.into();
        writeln!(out, "{object}")?;
    } else {
        writeln!(out, "{}", table(&metrics))?;
    }
    Ok(())
}

fn table(metrics: &Metrics) -> Table {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_header(["metric", "mean", "95 % from", "to"]);
    let rows: [(&str, Mean); 6] = [
        ("nDCG@5", metrics.ndcg_5),
        ("nDCG@10", metrics.ndcg_10),
        ("MRR", metrics.mrr),
        ("recall@1", metrics.recall_1),
        ("recall@5", metrics.recall_5),
        ("recall@10", metrics.recall_10),
    ];
    for (name, mean) in rows {
        let number = |value: f64| format!("{value:.4}");
        table.add_row([name.to_owned(), number(mean.mean), number(mean.low), number(mean.high)]);
    }
    table.add_row(["queries".to_owned(), metrics.queries.to_string()]);
    table
}
