//! Training from a folder of pages and a file of queries, and judging what came of it.
//!
//! [`train_projection`] trains the projection from hidden states to token vectors. Hidden states are computed once
//! and kept beside the run; an epoch then costs the projection alone. [`train_network`] trains low-rank updates or all weights.
//! [`new_base`] makes a model to begin with of a checkpoint that has no projection. Pages come from files or from the sources of an
//! index ([`Pages`]). [`rank_pages`], [`rank_index`] or [`rank_sources`], and [`judge`], measure a model on pages and queries,
//! [`Reprojection`] encodes pages again from hidden states, and [`mine`] finds pages that an index ranks high for a query they do
//! not answer.

mod base;
mod caches;
mod copies;
mod judge;
mod mine;
mod near_duplicates;
mod network;
mod pages;
mod projection;
mod query_side;
mod reprojection;
mod run;
mod source;
mod validation;
mod vectors;
mod vision;

pub use crate::indexing::OnError;
pub use base::new_base;
pub use caches::{CacheReport, hidden_source};
pub(crate) use copies::first_copies;
pub(crate) use judge::best_first;
pub use judge::{judge, rank_index, rank_pages, rank_sources};
pub use mine::{MineOptions, MineReport, mine};
pub use network::train_network;
pub use pages::{LostPages, Pages};
pub use projection::{ProjectionOptions, train_projection};
pub use query_side::train_query_side;
pub use reprojection::Reprojection;
pub use run::{Learning, TrainOptions, TrainOutcome};

/// What happens while pages are prepared. What is told may answer with a break: the page under way is finished, what can be
/// kept is kept, and the work ends as [`Error::Interrupted`](crate::Error::Interrupted).
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
    /// Everything is prepared; training begins, or goes on.
    Steps {
        /// Steps of the whole run.
        total: u64,
    },
}
