//! `colqwen-index index`

use std::path::PathBuf;

use clap::ValueEnum;
use colqwen_index::indexing::{IndexingOptions, KeepEmbeddings, OnError, Progress, find_files};
use colqwen_index::ingest::pooling::PoolFactor;
use colqwen_index::model::Model;
use colqwen_index::{Error, PageIndex, PageIndexOptions};

use super::interrupt::Interrupt;
use super::{import, model, progress};

/// Index PDFs, page images, and folders of them.
///
/// Each page is rendered, encoded by the model, kept as Parquet under DIR/embeddings, and committed to the index, at
/// least every minute. Ctrl-C finishes the page under way; run the same command again to go on, also after a crash or
/// power failure. Pages that stand in the index are not encoded again; a changed file replaces all its pages at once.
///
/// Example: colqwen-index index ~/papers report.pdf --index shelf --model vidore/colqwen2-v1.0
#[derive(clap::Args)]
pub struct Arguments {
    /// PDFs, PNG, JPEG, WebP or TIFF files, or folders of them.
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
    /// The folder of the index; created if need be.
    #[arg(long, value_name = "DIR")]
    index: PathBuf,
    /// The model: a folder, a hub id, or `builtin`, a small demonstration inside the program that reads printed Latin words and
    /// is no replacement of ColQwen2 [default: the one the index records, else builtin].
    #[arg(long, value_name = "M")]
    model: Option<String>,
    /// Where the model computes: cpu or cuda:N.
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: String,
    /// Bits per stored value, for a new index.
    #[arg(long, value_name = "16|8|4|2", default_value_t = 8)]
    bits: u32,
    /// Keep an f16 copy beside codes of 8, 4 or 2 bits, for a new index.
    #[arg(long)]
    keep_f16: bool,
    /// Merge tokens of a page that resemble each other, so that about one in N is left; 1 for none. Pages of PATH that were
    /// pooled by another N are encoded again [default: the one the index records, else 1].
    #[arg(long, value_name = "N")]
    pool_factor: Option<PoolFactor>,
    /// Keep the Parquet parts in this folder instead of DIR/embeddings.
    #[arg(long, value_name = "DIR", conflicts_with = "no_embeddings")]
    embeddings: Option<PathBuf>,
    /// Keep no Parquet parts; an interrupted run then loses up to a minute of work.
    #[arg(long)]
    no_embeddings: bool,
    /// Also keep the hidden states that the projection makes the vectors of, as Parquet under DIR/hidden: `train --index DIR` then
    /// trains the projection without encoding these pages again. Takes 2 bytes for each of a token's hidden values: 1 MB
    /// per page of `builtin`, 2 MB and more of a full-size model.
    #[arg(long)]
    keep_hidden: bool,
    /// What to do with a file or page that cannot be read.
    #[arg(long, value_enum, default_value_t = OnErrorName::Skip)]
    on_error: OnErrorName,
    /// Delete documents of the index that are not found under PATH.
    #[arg(long)]
    prune: bool,
}

/// What to do with a file or page that cannot be read.
#[derive(Clone, Copy, ValueEnum)]
pub enum OnErrorName {
    /// Report it by name and go on.
    Skip,
    /// End the run.
    Fail,
}

impl From<OnErrorName> for OnError {
    fn from(name: OnErrorName) -> Self {
        match name {
            OnErrorName::Skip => Self::Skip,
            OnErrorName::Fail => Self::Fail,
        }
    }
}

pub fn run(arguments: Arguments, quiet: bool) -> anyhow::Result<()> {
    let precision = import::precision(arguments.bits)?;
    // A mistyped path shall neither load a large model nor leave an empty index behind.
    find_files(&arguments.paths)?;
    let existing = match PageIndex::open(&arguments.index) {
        Ok(index) => Some(index),
        Err(Error::NoIndex { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let model = Model::load(&model::name_for_pages(existing.as_ref(), arguments.model), &arguments.device)?;
    if !model.encoder.is_trained() {
        progress::remark(quiet, model::UNTRAINED);
    }
    let mut index = match existing {
        Some(index) => index,
        None => {
            let mut options = PageIndexOptions::new(model.encoder.dim());
            (options.precision, options.model) = (precision, Some(model.recorded()));
            options.keep_f16 = arguments.keep_f16;
            PageIndex::create(&arguments.index, &options)?
        }
    };
    let interrupt = Interrupt::listen()?;
    let options = IndexingOptions {
        on_error: arguments.on_error.into(),
        prune: arguments.prune,
        keep_hidden: arguments.keep_hidden,
        pool_factor: arguments.pool_factor,
        embeddings: match (arguments.embeddings, arguments.no_embeddings) {
            (_, true) => KeepEmbeddings::No,
            (Some(folder), _) => KeepEmbeddings::In(folder),
            (None, _) => KeepEmbeddings::InIndex,
        },
        stop: interrupt.flag(),
    };
    let bar = progress::pages(0, quiet);
    let report = index.index_files(&arguments.paths, &model, &options, |event| match event {
        Progress::Planned { pages, .. } => bar.set_length(pages),
        Progress::Page { doc_id } => {
            bar.set_message(doc_id.to_owned());
            bar.inc(1);
        }
        Progress::Skipped { problem } => bar.suspend(|| eprintln!("left out: {problem}")),
    });
    bar.finish_and_clear();
    let report = report?;
    progress::remark(
        quiet,
        &format!(
            "{} pages encoded, {} taken from an interrupted run, {} files unchanged, {} documents pruned, {} problems",
            report.encoded,
            report.resumed,
            report.unchanged,
            report.pruned,
            report.skipped.len()
        ),
    );
    Ok(())
}
