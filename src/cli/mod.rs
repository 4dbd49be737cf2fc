//! The commands, one file each. Results go to stdout, progress and messages to stderr.

mod delete;
#[cfg(feature = "encode")]
mod encode;
#[cfg(feature = "train")]
mod eval;
mod export;
mod generations;
mod import;
#[cfg(feature = "encode")]
mod index;
mod inspect;
mod interrupt;
#[cfg(feature = "train")]
mod mine;
#[cfg(feature = "encode")]
mod model;
mod optimize;
mod progress;
#[cfg(feature = "encode")]
mod reencode;
mod results;
mod rollback;
mod search;
mod stats;
#[cfg(feature = "train")]
mod train;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Search document pages by what they look like and what they say.
///
/// Pages of PDFs and images are encoded by ColQwen2 into hundreds of token embeddings each, kept in a tantivy index, and
/// found again by MaxSim (late interaction), by BM25 of their text, or by both.
///
/// Exit codes: 0 done, 1 failed, 2 wrong usage.
#[derive(Parser)]
#[command(name = "colqwen-index", version, max_term_width = 110, propagate_version = true)]
struct Arguments {
    /// Print no progress and no remarks on stderr, only errors.
    #[arg(long, short, global = true)]
    quiet: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    #[cfg(feature = "encode")]
    Index(index::Arguments),
    Search(search::Arguments),
    Import(import::Arguments),
    Export(export::Arguments),
    #[cfg(feature = "encode")]
    Encode(encode::Arguments),
    Inspect(inspect::Arguments),
    Optimize(optimize::Arguments),
    Delete(delete::Arguments),
    #[cfg(feature = "encode")]
    Reencode(reencode::Arguments),
    Generations(generations::Arguments),
    Rollback(rollback::Arguments),
    #[cfg(feature = "train")]
    Train(train::Arguments),
    #[cfg(feature = "train")]
    Eval(eval::Arguments),
    #[cfg(feature = "train")]
    Mine(mine::Arguments),
}

/// A mistake in the arguments that only running the command shows.
#[derive(Debug)]
struct WrongUsage(String);

impl std::fmt::Display for WrongUsage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for WrongUsage {}

fn wrong_usage(problem: impl Into<String>) -> anyhow::Error {
    WrongUsage(problem.into()).into()
}

/// Parses the arguments and runs the command.
pub fn run() -> ExitCode {
    let arguments = Arguments::parse();
    let quiet = arguments.quiet;
    let outcome = match arguments.command {
        #[cfg(feature = "encode")]
        Command::Index(arguments) => index::run(arguments, quiet),
        Command::Search(arguments) => search::run(arguments, quiet),
        Command::Import(arguments) => import::run(arguments, quiet),
        Command::Export(arguments) => export::run(arguments, quiet),
        #[cfg(feature = "encode")]
        Command::Encode(arguments) => encode::run(arguments, quiet),
        Command::Inspect(arguments) => inspect::run(arguments),
        Command::Optimize(arguments) => optimize::run(arguments, quiet),
        Command::Delete(arguments) => delete::run(arguments, quiet),
        #[cfg(feature = "encode")]
        Command::Reencode(arguments) => reencode::run(arguments, quiet),
        Command::Generations(arguments) => generations::run(arguments),
        Command::Rollback(arguments) => rollback::run(arguments, quiet),
        #[cfg(feature = "train")]
        Command::Train(arguments) => train::run(arguments, quiet),
        #[cfg(feature = "train")]
        Command::Eval(arguments) => eval::run(arguments, quiet),
        #[cfg(feature = "train")]
        Command::Mine(arguments) => mine::run(arguments, quiet),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads the results has enough of them, as `head` does.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(if error.is::<WrongUsage>() { 2 } else { 1 })
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}
