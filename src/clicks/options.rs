//! What a run is asked for.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// What is trained.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Mode {
    /// The query encoder: all stored vectors stay valid.
    #[default]
    QuerySide,
    /// The last layer, for pages and queries; pages are encoded again.
    Projection,
    /// Low-rank updates, for pages and queries; pages are encoded again.
    Lora,
    /// All weights; pages are encoded again.
    Full,
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "query-side" => Ok(Self::QuerySide),
            "projection" => Ok(Self::Projection),
            "lora" => Ok(Self::Lora),
            "full" => Ok(Self::Full),
            other => Err(format!("expected query-side, projection, lora or full, received {other:?}")),
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::QuerySide => "query-side",
            Self::Projection => "projection",
            Self::Lora => "lora",
            Self::Full => "full",
        })
    }
}

/// What a click is worth.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Weighting {
    /// One vote, at every rank.
    #[default]
    Naive,
    /// As naive, and by the inverse of the probability that its rank is examined: from lists in random order where the logs
    /// have enough, otherwise by the position-based and the cascade model. Each way is trained, and what answers the
    /// questions to validate by best is kept. Refused, with a reason, where ranks do not vary.
    InversePropensity,
}

impl fmt::Display for Weighting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Naive => "naive",
            Self::InversePropensity => "inverse-propensity",
        })
    }
}

/// What a run is asked for.
#[derive(Clone, Debug)]
pub struct ClickOptions {
    /// The logs: JSON lines or Parquet.
    pub clicks: Vec<PathBuf>,
    /// What is trained.
    pub mode: Mode,
    /// What a click is worth.
    pub weighting: Weighting,
    /// Questions with known pages that clicks never touch; no model is published that answers them worse.
    pub judged: Option<PathBuf>,
    /// The texts of queries that the logs hold as HMACs.
    pub lookup: Option<PathBuf>,
    /// Sessions that must have asked a query before anything is learnt from it.
    pub k_anonymity: usize,
    /// Milliseconds on a page from which a click says that it answers.
    pub dwell_ms: u64,
    /// The largest share of bad lines in a log.
    pub bad_share: f64,
    /// Queries per batch.
    pub batch: usize,
    /// Times that each query is seen, at most.
    pub epochs: u64,
    /// The highest learning rate; a default of the mode otherwise.
    pub rate: Option<f64>,
    /// Bytes for what is kept in memory.
    pub memory: usize,
    /// What all chance depends on.
    pub seed: u64,
    /// Do everything but publish.
    pub dry_run: bool,
    /// Where the report goes besides the run's folder.
    pub report: Option<PathBuf>,
    /// Name queries by their text in the report.
    pub show_queries: bool,
}

impl ClickOptions {
    /// The defaults, for these logs.
    pub fn new(clicks: Vec<PathBuf>) -> Self {
        Self {
            clicks,
            mode: Mode::default(),
            weighting: Weighting::default(),
            judged: None,
            lookup: None,
            k_anonymity: 5,
            dwell_ms: 30_000,
            bad_share: 0.01,
            batch: 512,
            epochs: 8,
            rate: None,
            memory: 2 << 30,
            seed: 0,
            dry_run: false,
            report: None,
            show_queries: false,
        }
    }
}
