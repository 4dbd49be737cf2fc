//! `colqwen-index rollback`

use std::path::PathBuf;

use colqwen_index::PageIndex;

use super::progress;

/// Pages that a remark names.
const NAMED_PAGES: usize = 10;

/// Go back to an earlier generation of an index: its model, and its pages as they were.
///
/// Pages that were indexed since are not in it; they are named, and `index` adds them. Without --to it is the generation
/// that was in use before the current one was published. `rollback --to` a later number goes forward again.
///
/// Example: colqwen-index rollback shelf
#[derive(clap::Args)]
pub struct Arguments {
    /// The folder of the index.
    #[arg(value_name = "INDEX")]
    index: PathBuf,
    /// The generation to go back to, as `generations` lists it.
    #[arg(long, value_name = "N")]
    to: Option<u32>,
}

pub fn run(arguments: Arguments, quiet: bool) -> anyhow::Result<()> {
    let mut index = PageIndex::open(&arguments.index)?;
    let done = index.rollback(arguments.to)?;
    let model = index.model().map_or("no recorded model".to_owned(), |model| format!("model {}", model.name));
    progress::remark(quiet, &format!("generation {} is in use again in place of {}: {model}", done.to, done.from));
    for (pages, what) in [(&done.missing, "not in it, or not as they were"), (&done.returned, "there again")] {
        if pages.is_empty() {
            continue;
        }
        let named = pages.iter().take(NAMED_PAGES).map(|(doc_id, page)| format!("{doc_id} page {page}"));
        let mut named = named.collect::<Vec<_>>().join(", ");
        if pages.len() > NAMED_PAGES {
            named.push_str(", ...");
        }
        progress::remark(quiet, &format!("{} pages are {what}: {named}", pages.len()));
    }
    Ok(())
}
