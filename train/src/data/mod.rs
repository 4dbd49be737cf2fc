//! Training data: which pages answer which queries. One schema for training, evaluation and mining.
//!
//! A Parquet file, version 1, one row per query. Columns by name, in any order; others are left alone:
//!
//! | column | type | |
//! |---|---|---|
//! | `query_id` | utf8 | required; 1 to 65,000 bytes, no two the same |
//! | `query` | utf8 | required: its text |
//! | `positives` | `list<struct<doc_id utf8, page uint32, weight float32>>` | pages that answer it; `weight` may be left out and is 1 then |
//! | `negatives` | `list<struct<doc_id utf8, page uint32, score float32, origin utf8>>` | pages that do not; `score` and `origin` may be left out or null |
//! | `group` | utf8 | batches hold queries of one group as far as possible |
//!
//! | metadata key | value |
//! |---|---|
//! | `colqwen-index.training_version` | `1` |
//! | `colqwen-index.mined_generation` | the generation of the index that the negatives were mined from |
//! | `colqwen-index.mined_page_fingerprint` | the model of that index's pages |
//!
//! A file without `positives`, `negatives` or metadata is read as one where they are empty: `mine` takes bare queries.

mod batches;
pub(crate) mod columns;
mod error;
mod reader;
mod writer;

pub use batches::{BatchOptions, Batches, Drawn};
pub use error::{DataError, DataProblem};
pub use reader::read;
pub use writer::write;

use std::collections::BTreeSet;
use std::fmt;

use colqwen_index_field::Fingerprint;

/// The version that this program writes, and the only one it reads.
pub const VERSION: &str = "1";

pub(crate) const KEY_VERSION: &str = "colqwen-index.training_version";
pub(crate) const KEY_GENERATION: &str = "colqwen-index.mined_generation";
pub(crate) const KEY_FINGERPRINT: &str = "colqwen-index.mined_page_fingerprint";

/// A page by document and number.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PageId {
    /// The document.
    pub doc_id: String,
    /// The page within it, from 1.
    pub page: u32,
}

impl PageId {
    /// Page `page` of `doc_id`.
    pub fn new(doc_id: impl Into<String>, page: u32) -> Self {
        Self { doc_id: doc_id.into(), page }
    }
}

impl fmt::Display for PageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} page {}", self.doc_id, self.page)
    }
}

/// A page that answers a query.
#[derive(Clone, PartialEq, Debug)]
pub struct PositivePage {
    /// The page.
    pub page: PageId,
    /// How often it is chosen against the query's other positives; above 0. Where queries are weighed
    /// ([`Loss::by_weight`](crate::loss::Loss::by_weight)), their mean is what the query counts.
    pub weight: f32,
}

/// A page that does not answer a query although it may look so.
#[derive(Clone, PartialEq, Debug)]
pub struct NegativePage {
    /// The page.
    pub page: PageId,
    /// Its score when it was mined.
    pub score: Option<f32>,
    /// Where it comes from, for people: `index`, `skipped` and the like.
    pub origin: Option<String>,
}

/// A query with its pages.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Question {
    /// Its name, never empty.
    pub query_id: String,
    /// Its text.
    pub query: String,
    /// Pages that answer it.
    pub positives: Vec<PositivePage>,
    /// Pages that do not.
    pub negatives: Vec<NegativePage>,
    /// Where it comes from: queries of one group are best told apart within the group.
    pub group: Option<String>,
}

impl Question {
    /// What it counts where queries are weighed: what its positives weigh on average.
    pub fn weight(&self) -> f64 {
        let sum: f64 = self.positives.iter().map(|positive| f64::from(positive.weight)).sum();
        if self.positives.is_empty() { 1.0 } else { sum / self.positives.len() as f64 }
    }

    fn fingerprint(&self) -> Fingerprint {
        let mut parts =
            vec![("query_id", self.query_id.clone().into_bytes()), ("query", self.query.clone().into_bytes())];
        let mut page = |kind, page: &PageId, number: Option<f32>| {
            parts.push((kind, page.doc_id.clone().into_bytes()));
            parts.push(("page", page.page.to_le_bytes().to_vec()));
            parts.push(("number", number.map_or(Vec::new(), |number| number.to_le_bytes().to_vec())));
        };
        self.positives.iter().for_each(|positive| page("positive", &positive.page, Some(positive.weight)));
        self.negatives.iter().for_each(|negative| page("negative", &negative.page, negative.score));
        parts.extend(self.group.iter().map(|group| ("group", group.clone().into_bytes())));
        Fingerprint::of_parts(parts.iter().map(|(name, bytes)| (*name, bytes.as_slice())))
    }
}

/// What the index was that negatives were mined from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MinedFrom {
    /// Its generation.
    pub generation: String,
    /// The model of its pages, where it is known.
    pub page_fingerprint: Option<Fingerprint>,
}

/// A whole file.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct TrainingData {
    /// The queries.
    pub questions: Vec<Question>,
    /// The index that negatives come from, if any do.
    pub mined_from: Option<MinedFrom>,
}

impl TrainingData {
    /// The identity of the queries and their pages, for telling whether two runs learn from the same.
    pub fn fingerprint(&self) -> Fingerprint {
        let questions: Vec<Fingerprint> = self.questions.iter().map(Question::fingerprint).collect();
        Fingerprint::of_parts(questions.iter().map(|question| ("question", question.as_bytes().as_slice())))
    }

    /// The same without some pages. Questions that have no positive left stay, and take part in nothing.
    #[must_use]
    pub fn without(&self, pages: &BTreeSet<PageId>) -> Self {
        let mut left = self.clone();
        for question in &mut left.questions {
            question.positives.retain(|positive| !pages.contains(&positive.page));
            question.negatives.retain(|negative| !pages.contains(&negative.page));
        }
        left
    }

    /// Questions with a positive.
    pub fn usable(&self) -> usize {
        self.questions.iter().filter(|question| !question.positives.is_empty()).count()
    }

    /// Every page that is named, once, in order of its id.
    pub fn pages(&self) -> Vec<&PageId> {
        let mut pages = BTreeSet::new();
        for question in &self.questions {
            pages.extend(question.positives.iter().map(|positive| &positive.page));
            pages.extend(question.negatives.iter().map(|negative| &negative.page));
        }
        pages.into_iter().collect()
    }
}
