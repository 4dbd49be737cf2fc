//! Training of late-interaction models: losses over large batches with exact gradients.
//!
//! In reading order: [`scores`] holds the scores of a batch and what each of them should become, [`loss`] turns both into
//! a number and its gradient, [`maxsim`] makes scores of token vectors and leads the gradient back to them,
//! [`grad_cache`] leads it on to the weights of any model that can [`encode`], in the memory of a mini-batch, and
//! [`optimiser`] moves the weights. [`data`] says which pages answer which queries and puts batches together, [`trainer`]
//! runs them, with [`constant`] vectors where pages do not learn or a ranking is to be kept, [`watch`] records every step and notices a collapse, and [`state`] lets a run go on after a kill. What trains
//! is the whole [`network`], or a part of it, from pages; or the [`projection`] alone, from [`hidden`] states that are
//! computed once. [`replicas`] let several devices train as one. [`metrics`] judges rankings, [`early_stop`] keeps the state that did best. [`random`] makes [`dropout`] and every other
//! chance repeatable.
//!
//! ```
//! use colqwen_index_train::loss::{Kind, Loss};
//! use colqwen_index_train::scores::{ScoreGrid, Targets};
//!
//! # fn main() -> Result<(), colqwen_index_train::Error> {
//! // Query 0 belongs to page 0, query 1 to page 1.
//! let scores = ScoreGrid::new(2, 2, vec![0.9, 0.4, 0.5, 0.8])?;
//! let loss = Loss::new(Kind::InfoNce).evaluate(&scores, &Targets::diagonal(2)?)?;
//! println!("{:.4}, without learning {:.4}", loss.value, loss.no_learning);
//! assert!(loss.value < 1e-3 && (loss.no_learning - 2f64.ln()).abs() < 1e-9);
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod clicks;
pub mod constant;
pub mod data;
pub mod dropout;
pub mod early_stop;
pub mod encode;
mod error;
mod frozen;
pub mod grad_cache;
pub mod gradients;
pub mod hidden;
pub mod localised;
pub mod loss;
pub mod maxsim;
pub mod metrics;
pub mod network;
pub mod optimiser;
pub mod projection;
pub mod random;
pub mod reading;
pub mod replicas;
pub mod scores;
pub mod state;
#[cfg(test)]
mod tiny;
pub mod trainer;
pub mod watch;

pub use error::Error;
