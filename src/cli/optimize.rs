//! `colqwen-index optimize`

use std::path::PathBuf;

use colqwen_index::PageIndex;
use colqwen_index::ingest::embeddings::PageReader;

use super::interrupt::Interrupt;
use super::progress;

/// Merge an index into one segment and train its codebook anew.
///
/// After many small commits, or once the pages have changed in kind. Pages in 8 or 16 bits get new codes from what is
/// stored. Pages in 4 or 2 bits keep their codes, unless --embeddings gives their vectors again (as `export` wrote them
/// from a richer index, or as they were imported): coarse codes would lose again what they lost once.
///
/// Example: colqwen-index optimize shelf
#[derive(clap::Args)]
pub struct Arguments {
    /// The folder of the index.
    #[arg(value_name = "INDEX")]
    index: PathBuf,
    /// Parquet files with the vectors of pages of the index.
    #[arg(long, num_args = 1.., value_name = "FILE")]
    embeddings: Vec<PathBuf>,
}

pub fn run(arguments: Arguments, quiet: bool) -> anyhow::Result<()> {
    let mut index = PageIndex::open(&arguments.index)?;
    let readers = arguments.embeddings.iter().map(PageReader::open).collect::<Result<Vec<_>, _>>()?;
    let bar = progress::pages(readers.iter().map(PageReader::rows).sum(), quiet);
    let interrupt = Interrupt::listen()?;
    index.optimize(readers, |pages| {
        bar.set_position(pages);
        !interrupt.asked()
    })?;
    bar.finish_and_clear();
    let segments = index.searcher().segment_readers().len();
    progress::remark(quiet, &format!("{} pages in {segments} segments", index.searcher().num_docs()));
    Ok(())
}
