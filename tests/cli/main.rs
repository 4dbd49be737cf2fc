//! The command line, run as a program.
#![cfg(all(unix, feature = "cli", feature = "encode"))]

mod changes;
#[cfg(feature = "train")]
mod clicks;
mod crash;
mod exact;
mod exchange;
mod files;
mod further;
mod images;
mod index_search;
mod pooling;
mod support;
#[cfg(feature = "train")]
mod training;
#[cfg(feature = "train")]
mod training_pages;
mod usage;
mod writers;
