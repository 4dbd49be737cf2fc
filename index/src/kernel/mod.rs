//! The arithmetic of MaxSim, compiled once per instruction set and chosen at run time.
//!
//! This folder is the only place with `unsafe`: calling code compiled for instructions whose presence was just checked,
//! and viewing bytes as f16.

mod dot;
mod maxsim;
#[cfg(test)]
mod tests;

pub(crate) use maxsim::{MaxSim, token_scores};
