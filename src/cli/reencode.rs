//! `colqwen-index reencode`

use std::path::PathBuf;

use colqwen_index::PageIndex;
use colqwen_index::model::Model;
use colqwen_index::page_index::{BuildOptions, EncodePages, KeepGenerations, LostPages};

use super::interrupt::Interrupt;
use super::progress;

/// Encode all pages of an index with another model, and put the result to use as its next generation.
///
/// The pages are rendered from their files again; where the model differs from the one before in its projection alone, hidden
/// states that `index --keep-hidden` left are projected instead. The index answers as before until all of it is done; pages that are
/// indexed or deleted meanwhile are carried over. Run the same command again to go on after Ctrl-C or a crash. `rollback`
/// goes back.
///
/// Example: colqwen-index reencode shelf --model trained/model
#[derive(clap::Args)]
pub struct Arguments {
    /// The folder of the index.
    #[arg(value_name = "INDEX")]
    index: PathBuf,
    /// The model: a folder, a hub id, or `builtin`.
    #[arg(long, value_name = "M")]
    model: String,
    /// Where the model computes: cpu or cuda:N.
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: String,
    /// How many generations are kept, the new one included.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(2..))]
    keep: u16,
    /// Leave out pages whose files are gone or have changed, instead of ending.
    #[arg(long)]
    leave_out: bool,
}

pub fn run(arguments: Arguments, quiet: bool) -> anyhow::Result<()> {
    let mut index = PageIndex::open(&arguments.index)?;
    let model = Model::load(&arguments.model, &arguments.device)?;
    let interrupt = Interrupt::listen()?;
    let lost = if arguments.leave_out { LostPages::LeaveOut } else { LostPages::Refuse };
    let options = BuildOptions { lost, stop: interrupt.flag(), ..BuildOptions::default() };
    let next = index.next_generation(model.recorded(), options)?;
    let bar = progress::pages(next.missing(&index)?, quiet);
    let keep = KeepGenerations::new(arguments.keep.into());
    let mut pages = encoder(&index, &model)?;
    let published = next.publish(&mut index, &mut *pages, keep, &mut |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    let published = published?;
    published.lost.iter().for_each(|page| eprintln!("left out: {page}"));
    progress::remark(
        quiet,
        &format!(
            "generation {} is in use: {} pages, {} carried over, {} deleted meanwhile, {} left out; removed generations: {:?}",
            published.generation,
            published.pages,
            published.carried_over,
            published.deleted,
            published.lost.len(),
            published.removed,
        ),
    );
    Ok(())
}

/// Encodes pages from hidden states where these were kept.
#[cfg(feature = "train")]
fn encoder<'m>(index: &PageIndex, model: &'m Model) -> anyhow::Result<Box<dyn EncodePages + 'm>> {
    Ok(Box::new(colqwen_index::training::Reprojection::new(index, model)?))
}

/// Encodes pages from their files.
#[cfg(not(feature = "train"))]
fn encoder<'m>(_: &PageIndex, model: &'m Model) -> anyhow::Result<Box<dyn EncodePages + 'm>> {
    Ok(Box::new(colqwen_index::page_index::SourcePages::new(model)))
}
