//! The command line, run as a program.
#![cfg(all(unix, feature = "cli", feature = "encode"))]

mod changes;
mod crash;
mod exact;
mod exchange;
mod files;
mod further;
mod index_search;
mod pooling;
mod reencoding;
mod small;
mod support;
#[cfg(feature = "train")]
mod training;
#[cfg(feature = "train")]
mod two_parts;
mod usage;
mod writers;
