//! Indexes PDFs and searches them, start to end: by the images of their pages alone, and by images and text together.
//!
//! ```text
//! cargo run --release --example index_pdfs                     # the samples beside this file
//! cargo run --release --example index_pdfs -- ~/papers         # your own
//! cargo run --release --example index_pdfs -- ~/papers --model vidore/colqwen2-v1.0 --query "attention heads"
//! ```

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Parser;
use colqwen_index::indexing::{IndexingOptions, Progress};
use colqwen_index::ingest::builtin;
use colqwen_index::model::Model;
use colqwen_index::page_index::{Hit, Mode, SearchRequest, UNTRAINED_LATE_WEIGHT};
use colqwen_index::{PageIndex, PageIndexOptions};
use comfy_table::{Table, presets};
use indicatif::{ProgressBar, ProgressStyle};

/// Index PDFs, page images and folders of them, then ask a few questions.
#[derive(Parser)]
struct Arguments {
    /// PDFs, page images or folders [default: the samples of this repository].
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// The model: a folder, a hub id, or `builtin`.
    #[arg(long, default_value = builtin::NAME)]
    model: String,
    /// cpu or cuda:N.
    #[arg(long, default_value = "cpu")]
    device: String,
    /// The folder of the index, kept for the next run [default: a temporary one].
    #[arg(long, value_name = "DIR")]
    index: Option<PathBuf>,
    /// What to ask; may be given more than once.
    #[arg(long, value_name = "TEXT")]
    query: Vec<String>,
}

fn main() -> anyhow::Result<()> {
    let mut arguments = Arguments::parse();
    let samples = arguments.paths.is_empty();
    if samples {
        arguments.paths.push(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data"));
    }
    if arguments.query.is_empty() {
        let questions: &[&str] = match samples {
            true => &["how do I descale the boiler", "inverter replaced after the hail storm", "larvae hunting snails"],
            false => &["installation", "table of results", "introduction"],
        };
        arguments.query.extend(questions.iter().map(ToString::to_string));
    }

    // 1. A model. The builtin one is part of the program and reads printed Latin words; others come from a folder or the hub.
    let model = Model::load(&arguments.model, &arguments.device)?;
    let trained = model.encoder.is_trained();
    if !trained {
        println!("The weights of this model were never trained: what it finds by the images means nothing.\n");
    }

    // 2. An index that records the model.
    let temporary = tempfile::tempdir()?;
    let folder = arguments.index.clone().unwrap_or_else(|| temporary.path().join("index"));
    let mut index = if PageIndex::exists(&folder)? {
        PageIndex::open(&folder)?
    } else {
        let mut options = PageIndexOptions::new(model.encoder.dim());
        options.model = Some(model.recorded());
        PageIndex::create(&folder, &options)?
    };

    // 3. Pages are rendered, encoded, kept as Parquet and committed; a second run finds them done.
    let bar = ProgressBar::new(0)
        .with_style(ProgressStyle::with_template("{bar:30} {pos}/{len} pages  {per_sec}  {eta} left  {wide_msg}")?);
    let start = Instant::now();
    let report = index.index_files(&arguments.paths, &model, &IndexingOptions::default(), |event| match event {
        Progress::Planned { pages, .. } => bar.set_length(pages),
        Progress::Page { doc_id } => {
            bar.set_message(doc_id.to_owned());
            bar.inc(1);
        }
        Progress::Skipped { problem } => bar.suspend(|| eprintln!("left out: {problem}")),
    })?;
    bar.finish_and_clear();
    let seconds = start.elapsed().as_secs_f64();
    let speed = report.encoded as f64 / seconds.max(1e-9);
    println!(
        "{} pages encoded in {seconds:.1} s ({speed:.1} pages/s), {} files unchanged",
        report.encoded, report.unchanged
    );

    // 4. Questions. Late interaction compares them with the images alone, hybrid ranking takes in the words of the text layer.
    let searcher = index.searcher();
    for question in &arguments.query {
        let late = SearchRequest {
            vectors: model.encoder.encode_queries(&[question])?.pop(),
            text: Some(question),
            k: 3,
            late_weight: (!trained).then_some(UNTRAINED_LATE_WEIGHT),
            ..SearchRequest::default()
        };
        let hybrid = SearchRequest { mode: Mode::Hybrid, ..late.clone() };
        let mut table = Table::new();
        table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_width(120);
        table.set_header(["by the images alone (MaxSim)", "by images and text", "text of the page on the left"]);
        let named = |hit: &Hit| format!("{}, page {}", hit.doc_id, hit.page);
        for (hit, with_text) in index.search(&searcher, &late)?.iter().zip(index.search(&searcher, &hybrid)?) {
            let snippet = index.snippet(&searcher, hit, question, 60)?;
            table.add_row([format!("{}  {:.2}", named(hit), hit.score), named(&with_text), snippet]);
        }
        println!("\n{question}\n{table}");
    }
    if let Some(folder) = arguments.index {
        println!("\nThe index stays in {0}; ask more with: colqwen-index search {0} \"...\"", folder.display());
    }
    Ok(())
}
