//! What is learnt from, what says when to stop, and what judges: apart by query and by time.
//!
//! A hash of the normalised query says which part it belongs to, so that no spelling of a query that judges was ever learnt
//! from. A moment says until when visits may teach; the queries that judge are those asked after it, as in production. What
//! they were clicked for earlier counts too, since nothing is learnt from it. Later visits of queries that taught are used for
//! neither; they tell about repeated queries ([`Split::repeated`]).

use serde::Serialize;

use super::query::normalise;
use super::record::Time;
use super::visits::{Visit, Visits};
use crate::Error;

/// What visits are used for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// They teach.
    Training,
    /// They say when to stop, and which of two ways to weigh clicks is better.
    Validation,
    /// They judge the new model against the old one.
    Gate,
}

/// How large the parts are.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct SplitOptions {
    /// Which queries fall into which part.
    pub seed: u64,
    /// Share of the queries that validate.
    pub validation: f64,
    /// Share of the queries that judge.
    pub gate: f64,
    /// Share of the visits, the last ones, that do not teach.
    pub last: f64,
}

impl Default for SplitOptions {
    fn default() -> Self {
        Self { seed: 0, validation: 0.1, gate: 0.3, last: 0.2 }
    }
}

/// A division of visits by query and time.
#[derive(Clone, PartialEq, Debug)]
pub struct Split {
    /// The part of each query.
    parts: Vec<Part>,
    /// Whether each query was asked after the cut.
    late: Vec<bool>,
    /// The first moment that does not teach.
    cut: Option<Time>,
}

impl Split {
    /// Divides visits. The same seed puts a query into the same part whatever else was asked. Without late visits there are
    /// no queries that judge.
    ///
    /// # Errors
    /// A share is not within 0 to 1, or validation and gate together leave nothing to learn from.
    pub fn of(visits: &Visits, options: &SplitOptions) -> Result<Self, Error> {
        let (validation, gate, last) = (options.validation, options.gate, options.last);
        let shares = [("validation", validation), ("gate", gate), ("last", last)];
        if let Some((name, received)) = shares.into_iter().find(|(_, share)| !(0.0..1.0).contains(share)) {
            return Err(Error::setting(name, "a share from 0 to below 1", received));
        }
        if validation + gate >= 1.0 {
            return Err(Error::setting("validation + gate", "below 1", validation + gate));
        }
        let part = |text: &str| {
            let at = unit(options.seed, text);
            match at {
                _ if at < gate => Part::Gate,
                _ if at < gate + validation => Part::Validation,
                _ => Part::Training,
            }
        };
        let parts = visits.queries().iter().map(|query| part(&query.normalised)).collect();
        let all = visits.visits();
        let cut = all.len() - (all.len() as f64 * last).round() as usize;
        let mut split =
            Self { parts, late: vec![false; visits.queries().len()], cut: all.get(cut).map(|visit| visit.time) };
        for visit in all.iter().filter(|visit| split.cut.is_some_and(|cut| visit.time >= cut)) {
            split.late[visit.query] = true;
        }
        Ok(split)
    }

    /// The first moment that does not teach; none if all do.
    pub fn cut(&self) -> Option<Time> {
        self.cut
    }

    /// The part of a query, as a place in [`Visits::queries`].
    pub fn query(&self, query: usize) -> Option<Part> {
        self.parts.get(query).copied()
    }

    /// What a visit is used for.
    pub fn part(&self, visit: &Visit) -> Option<Part> {
        let part = self.query(visit.query)?;
        let used = if part == Part::Gate { self.late[visit.query] } else { !self.is_late(visit) };
        used.then_some(part)
    }

    /// Whether a visit comes after those that teach, with a query of theirs.
    pub fn repeated(&self, visit: &Visit) -> bool {
        self.query(visit.query) == Some(Part::Training) && self.is_late(visit)
    }

    fn is_late(&self, visit: &Visit) -> bool {
        self.cut.is_some_and(|cut| visit.time >= cut)
    }
}

/// Where a query falls between 0 and 1.
fn unit(seed: u64, text: &str) -> f64 {
    let mut hasher = blake3::Hasher::new_derive_key("colqwen-index train query split 1");
    hasher.update(&seed.to_le_bytes()).update(normalise(text).as_bytes());
    let bytes = *hasher.finalize().as_bytes();
    let bits = bytes[..8].iter().fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
    (bits >> 11) as f64 / (1u64 << 53) as f64
}
