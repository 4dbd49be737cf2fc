//! `colqwen-index export`

use std::path::PathBuf;

use colqwen_index::PageIndex;

use super::interrupt::Interrupt;
use super::progress;

/// Export all pages of an index to a Parquet file: vectors, text, layout, further columns.
///
/// The file can be imported again, trained from, or read by any Parquet reader. It appears under its name when it is
/// complete.
///
/// Example: colqwen-index export --index shelf --embeddings pages.parquet
#[derive(clap::Args)]
pub struct Arguments {
    /// The folder of the index.
    #[arg(long, value_name = "DIR")]
    index: PathBuf,
    /// The Parquet file to write.
    #[arg(long, value_name = "FILE")]
    embeddings: PathBuf,
}

pub fn run(arguments: Arguments, quiet: bool) -> anyhow::Result<()> {
    let index = PageIndex::open(&arguments.index)?;
    let bar = progress::pages(index.searcher().num_docs(), quiet);
    let interrupt = Interrupt::listen()?;
    let pages = index.export(&arguments.embeddings, |pages| {
        bar.set_position(pages);
        !interrupt.asked()
    })?;
    bar.finish_and_clear();
    progress::remark(quiet, &format!("{pages} pages exported to {}", arguments.embeddings.display()));
    Ok(())
}
