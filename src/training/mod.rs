//! Training from a folder of pages and a file of queries, and judging what came of it.
//!
//! [`train_projection`] trains the projection from hidden states to token vectors. Hidden states are computed once
//! and kept beside the run; an epoch then costs the projection alone. [`train_network`] trains low-rank updates or all weights. [`rank_pages`] or [`rank_index`], and [`judge`], measure a model on pages
//! and queries, and [`mine`] finds pages that an index ranks high for a query they do not answer.

mod caches;
mod judge;
mod mine;
mod network;
mod projection;
mod query_side;
mod run;

pub use caches::{CacheReport, hidden_source};
pub use judge::{judge, rank_index, rank_pages};
pub use mine::{MineOptions, MineReport, mine};
pub use network::train_network;
pub use projection::{ProjectionOptions, train_projection};
pub use query_side::train_query_side;
pub use run::{TrainOptions, TrainOutcome};

use std::collections::BTreeMap;
use std::path::PathBuf;

use colqwen_index_ingest::page::Document;
use colqwen_index_train::data::PageId;

use crate::Error;
use crate::indexing::find_files;

/// What happens while pages are prepared.
#[derive(Debug)]
pub enum Preparation<'a> {
    /// So many pages will be encoded.
    Planned {
        /// Their number.
        pages: usize,
    },
    /// A page is encoded.
    Page {
        /// Its document.
        doc_id: &'a str,
    },
}

/// The documents that hold `pages`, opened, each with the wanted page numbers, ascending.
fn open_documents(paths: &[PathBuf], pages: &[&PageId]) -> Result<Vec<(Document, Vec<PageId>)>, Error> {
    let files = find_files(paths)?;
    let mut wanted: BTreeMap<&str, Vec<PageId>> = BTreeMap::new();
    for page in pages {
        wanted.entry(&page.doc_id).or_default().push((*page).clone());
    }
    let mut documents = Vec::with_capacity(wanted.len());
    for (doc_id, mut pages) in wanted {
        let missing = |page: &PageId, problem: String| Error::PageMissing { page: page.clone(), problem };
        let Some(path) = files.get(doc_id) else {
            let problem = format!("there is no such document among the {} files under {paths:?}", files.len());
            return Err(missing(&pages[0], problem));
        };
        let document = Document::open(path)?;
        pages.sort_unstable();
        if let Some(page) = pages.iter().find(|page| page.page > document.page_count()) {
            return Err(missing(page, format!("{path:?} has {} pages", document.page_count())));
        }
        documents.push((document, pages));
    }
    Ok(documents)
}
