//! `colqwen-index import`

use std::path::PathBuf;

use colqwen_index::field::Precision;
use colqwen_index::ingest::embeddings::{PageReader, ReadOptions};
use colqwen_index::{Error, PageIndex, PageIndexOptions, UnitLength};

use super::interrupt::Interrupt;
use super::progress;

/// Import token embeddings from Parquet files into an index.
///
/// The files are this project's exchange format: `doc_id`, `page`, `embeddings` (a list of vectors per page), and
/// optionally text, layout and further columns, which become fields that --filter can use. Files that other programs
/// wrote in this form are welcome. A page that stands in the index already is replaced.
///
/// The index is created if need be; its fields are those of the first file.
///
/// Example: colqwen-index import --embeddings pages.parquet --index shelf
#[derive(clap::Args)]
pub struct Arguments {
    /// The Parquet files.
    #[arg(long, required = true, num_args = 1.., value_name = "FILE")]
    embeddings: Vec<PathBuf>,
    /// The folder of the index.
    #[arg(long, value_name = "DIR")]
    index: PathBuf,
    /// Bits per stored value, for a new index.
    #[arg(long, value_name = "16|8|4|2", default_value_t = 8)]
    bits: u32,
    /// Keep an f16 copy beside codes of 8, 4 or 2 bits, for a new index: exact scores at 256 bytes more per token of 128.
    #[arg(long)]
    keep_f16: bool,
    /// Divide each vector by its length instead of refusing vectors whose length is not 1.
    #[arg(long)]
    normalize: bool,
}

/// The precision of `--bits`.
pub fn precision(bits: u32) -> anyhow::Result<Precision> {
    Precision::from_bits(bits).map_err(|_| super::wrong_usage(format!("--bits takes 16, 8, 4 or 2, received {bits}")))
}

pub fn run(arguments: Arguments, quiet: bool) -> anyhow::Result<()> {
    let precision = precision(arguments.bits)?;
    let unit_length = if arguments.normalize { UnitLength::Normalize } else { UnitLength::Require };
    // All files are looked at before an index is created for the first of them.
    let open = |file| PageReader::open_with(file, ReadOptions { unit_length });
    let readers = arguments.embeddings.iter().map(open).collect::<Result<Vec<_>, _>>()?;
    let mut index = match PageIndex::open(&arguments.index) {
        Ok(index) => index,
        Err(Error::NoIndex { .. }) => {
            let mut options = PageIndexOptions::new(readers[0].dim());
            options.precision = precision;
            options.keep_f16 = arguments.keep_f16;
            options.further = readers[0].further_columns().to_vec();
            options.check_files(&arguments.index, &readers)?;
            PageIndex::create(&arguments.index, &options)?
        }
        Err(error) => return Err(error.into()),
    };
    let bar = progress::pages(readers.iter().map(PageReader::rows).sum(), quiet);
    let interrupt = Interrupt::listen()?;
    let report = index.import(readers, |pages| {
        bar.set_position(pages);
        !interrupt.asked()
    })?;
    bar.finish_and_clear();
    progress::remark(quiet, &format!("{} pages with {} tokens imported", report.pages, report.tokens));
    Ok(())
}
