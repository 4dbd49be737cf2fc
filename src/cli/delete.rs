//! `colqwen-index delete`

use std::path::PathBuf;

use anyhow::bail;
use colqwen_index::PageIndex;

use super::progress;

/// Delete a document, or one page of it, from an index.
///
/// Its embeddings stay in the Parquet parts under DIR/embeddings, but are not imported again.
///
/// Example: colqwen-index delete shelf --doc-id reports/2024.pdf --page 3
#[derive(clap::Args)]
pub struct Arguments {
    /// The folder of the index.
    #[arg(value_name = "INDEX")]
    index: PathBuf,
    /// The document, as `search` shows it.
    #[arg(long, value_name = "D")]
    doc_id: String,
    /// Only this page, from 1.
    #[arg(long, value_name = "P")]
    page: Option<u32>,
}

pub fn run(arguments: Arguments, quiet: bool) -> anyhow::Result<()> {
    let mut index = PageIndex::open(&arguments.index)?;
    let known: Vec<u32> = index.pages_of(&arguments.doc_id)?.into_iter().map(|(page, _)| page).collect();
    if known.is_empty() {
        bail!("{} holds no document {:?}", arguments.index.display(), arguments.doc_id);
    }
    let mut writer = index.writer()?;
    match arguments.page {
        Some(page) if !known.contains(&page) => bail!("document {:?} has no page {page}", arguments.doc_id),
        Some(page) => writer.delete_page(&arguments.doc_id, page),
        None => writer.delete_document(&arguments.doc_id),
    }
    index.close(writer)?;
    let deleted = arguments.page.map_or(known.len(), |_| 1);
    progress::remark(quiet, &format!("{deleted} pages of {:?} deleted", arguments.doc_id));
    Ok(())
}
