//! Training of late-interaction models: losses over large batches with exact gradients.
//!
//! In reading order: [`scores`] holds the scores of a batch and what each of them should become, [`loss`] turns both into
//! a number and its gradient, [`maxsim`] makes scores of token vectors and leads the gradient back to them,
//! [`grad_cache`] leads it on to the weights of any model that can [`encode`], in the memory of a mini-batch, and
//! [`optimiser`] moves the weights. [`data`] says which pages answer which queries and puts batches together, [`trainer`]
//! runs them, [`watch`] records every step and notices a collapse, and [`state`] lets a run go on after a kill. What trains
//! so far is the [`projection`], from [`hidden`] states that are computed once. [`metrics`] judges rankings. [`random`] makes [`dropout`] and every other
//! chance repeatable.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod data;
pub mod dropout;
pub mod encode;
mod error;
mod frozen;
pub mod grad_cache;
pub mod gradients;
pub mod hidden;
pub mod loss;
pub mod maxsim;
pub mod metrics;
pub mod optimiser;
pub mod projection;
pub mod random;
pub mod scores;
pub mod state;
pub mod trainer;
pub mod watch;

pub use error::Error;
