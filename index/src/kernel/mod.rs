//! The arithmetic of MaxSim, compiled per instruction set and chosen at run time.
//!
//! [`MaxSim`] scores f16 pages in f32. [`QueryLanes`] scores quantized tokens in int8: [`levels`] turns stored bit planes
//! into level bytes (`planes_avx2`, `planes_vbmi`), [`lanes`] holds the query and the entry points, `tile` the one loop of all
//! vector machines, `sink` what becomes of its scores, and `amx`, `vnni_wide`, `vnni`, `avx2`, `neon` and `neon_dot` what each
//! instruction set brings to it (`ymm` and `zmm` are registers). `portable` serves all other machines.
//! All are equal in every bit: integer sums are exact, and what follows are the same f32 operations in the same order.
//! [`byte_rows`] takes the best of centroid scores, [`machines`] lists what this machine has and chooses, and [`bench`] and
//! `peak` measure it.
//!
//! This folder is the only place with `unsafe`: calling code compiled for instructions whose presence was just checked, reading
//! through pointers whose ranges were, AMX in assembly with the system call that Linux wants for it, and viewing bytes as f16.

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
pub mod bench;
pub(crate) mod byte_rows;
mod dot;
pub(crate) mod lanes;
pub(crate) mod levels;
mod lines;
mod machines;
mod maxsim;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "aarch64")]
mod neon_dot;
mod peak;
#[cfg(target_arch = "x86_64")]
mod planes_avx2;
#[cfg(target_arch = "x86_64")]
mod planes_vbmi;
mod portable;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod sink;
#[cfg(test)]
mod tests;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod tile;
#[cfg(target_arch = "x86_64")]
mod vnni;
#[cfg(target_arch = "x86_64")]
mod vnni_wide;
#[cfg(target_arch = "x86_64")]
mod ymm;
#[cfg(target_arch = "x86_64")]
mod zmm;

pub(crate) use lanes::{Grade, QueryLanes, Rows, Tokens};
pub(crate) use levels::{Depth, Planes};
pub(crate) use lines::Lines;
pub(crate) use maxsim::{MaxSim, token_scores};
