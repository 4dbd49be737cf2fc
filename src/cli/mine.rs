//! `colqwen-index mine`

use std::path::PathBuf;

use colqwen_index::PageIndex;
use colqwen_index::page_index::Effort;
use colqwen_index::train::data;
use colqwen_index::training::{MineOptions, mine};

use super::{model, progress, wrong_usage};

/// Mine hard negatives: pages that an index ranks high for a query they do not answer.
///
/// Each query is searched in the index. Its positives are left out, and so are pages that score above --threshold of its
/// best positive: they are often answers that nobody labelled. What remains are the negatives in the file that is written;
/// those of the data are replaced. A query without positives keeps all its hits.
///
/// Example: colqwen-index mine --index shelf --data questions.parquet --out with-negatives.parquet
#[derive(clap::Args)]
pub struct Arguments {
    /// The folder of the index.
    #[arg(long, value_name = "DIR")]
    index: PathBuf,
    /// Queries, as `train` takes them; `positives` may be missing.
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// The file to write.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Hits that are looked at per query.
    #[arg(long, value_name = "N", default_value_t = 100)]
    depth: usize,
    /// Share of the best positive's score above which a hit is left out.
    #[arg(long, value_name = "S", default_value_t = 0.95)]
    threshold: f64,
    /// How much work goes into each search: low, default, high, a number, or exact.
    #[arg(long, value_name = "E", default_value = "default")]
    effort: Effort,
    /// The model to encode queries with: a folder, a hub id, or `builtin` [default: the one the index records].
    #[arg(long, value_name = "M")]
    model: Option<String>,
}

pub fn run(arguments: Arguments, quiet: bool) -> anyhow::Result<()> {
    if !(arguments.threshold > 0.0 && arguments.threshold.is_finite()) || arguments.depth == 0 {
        return Err(wrong_usage("--threshold and --depth take numbers above 0"));
    }
    let data = data::read(&arguments.data)?;
    let index = PageIndex::open(&arguments.index)?;
    let encoder = model::for_search(&index, arguments.model.as_deref())?;
    let options = MineOptions { depth: arguments.depth, threshold: arguments.threshold, effort: arguments.effort };
    let (mined, report) = mine(&index, &*encoder, &data, options)?;
    data::write(&arguments.out, &mined)?;
    progress::remark(
        quiet,
        &format!(
            "{} negatives for {} queries; {} hits left out as too near a positive, {} queries whose positives the index lacks",
            report.mined,
            mined.questions.len(),
            report.suspects,
            report.without_positive
        ),
    );
    Ok(())
}
