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
#[cfg(feature = "train")]
mod nights;
mod pooling;
mod reencoding;
mod support;
#[cfg(feature = "train")]
mod training;
#[cfg(feature = "train")]
mod training_options;
#[cfg(feature = "train")]
mod training_pages;
mod two_parts;
mod usage;
mod writers;
