//! The arithmetic of MaxSim, compiled per instruction set and chosen at run time.
//!
//! [`MaxSim`] scores f16 pages in f32. [`QueryLanes`] scores quantized tokens in int8: [`levels`] turns stored bit planes
//! into level bytes, [`lanes`] holds the query and the entry points, `portable`, `avx2` and `vnni` the arithmetic,
//! equal in every bit.
//!
//! This folder is the only place with `unsafe`: calling code compiled for instructions whose presence was just checked,
//! and viewing bytes as f16.

#[cfg(target_arch = "x86_64")]
mod avx2;
pub(crate) mod byte_rows;
mod dot;
pub(crate) mod lanes;
pub(crate) mod levels;
mod maxsim;
mod portable;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod tile;
#[cfg(target_arch = "x86_64")]
mod vnni;
#[cfg(target_arch = "x86_64")]
mod ymm;

pub(crate) use lanes::{Grade, QueryLanes, Rows, Tokens};
pub(crate) use levels::{Depth, Planes};
pub(crate) use maxsim::{MaxSim, token_scores};
