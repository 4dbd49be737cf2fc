//! Why late interaction stays at 0.69, and what cures it: two losses in batches of 3, 32, 128 and 512, trained from random
//! weights for the same CPU time each; and what a batch of 512 takes in memory.
//!
//! ```sh
//! cargo run --release -p colqwen-index-train --example batch_and_loss -- --plot benches/batch_and_loss.svg
//! ```
//!
//! The model is a small ColQwen2. Its pages are put together from words of the sample PDFs, and it has to find the page that
//! shows the words of a query. Every training and every measurement of memory runs in a process of its own, on one thread.

mod cell;
mod checkpoint;
mod held_out;
mod memory;
mod page;
mod plot;
mod setup;
mod table;
mod words;

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

use cell::{Cell, Event, Line};
use memory::{Peak, Work};
use setup::Loss;

/// Batches that are compared.
const BATCHES: [usize; 4] = [3, 32, 128, 512];
/// The same pages one small batch after the other, in one large batch, and a quarter of them without mini-batches.
const WORKS: [Work; 3] = [
    Work { pages: 512, batch: 8, mini_batch: 8 },
    Work { pages: 512, batch: 512, mini_batch: 8 },
    Work { pages: 128, batch: 128, mini_batch: 128 },
];
/// What keeps glibc from giving memory back to the system and asking for it again thousands of times a step.
const KEEP_MEMORY: [(&str, &str); 3] =
    [("MALLOC_MMAP_MAX_", "0"), ("MALLOC_TRIM_THRESHOLD_", "100000000000"), ("MALLOC_TOP_PAD_", "100000000")];

#[derive(Parser)]
#[command(about = "Compares losses and batches")]
struct Arguments {
    #[command(subcommand)]
    one: Option<One>,
    /// CPU seconds of each of the eight trainings
    #[arg(long, default_value_t = 60.0)]
    seconds: f64,
    /// Highest learning rate
    #[arg(long, default_value_t = 2e-3)]
    rate: f64,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Trainings that run at the same time
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// Where every step goes, as JSON lines
    #[arg(long, default_value = "target/batch_and_loss.jsonl")]
    log: PathBuf,
    /// Where the table goes, as Markdown
    #[arg(long, default_value = "target/batch_and_loss.md")]
    table: PathBuf,
    /// Where the plot goes
    #[arg(long, default_value = "target/batch_and_loss.svg")]
    plot: PathBuf,
}

/// What a process of its own does.
#[derive(Subcommand)]
enum One {
    #[command(hide = true)]
    Cell {
        #[arg(long)]
        loss: Loss,
        #[arg(long)]
        batch: usize,
        #[arg(long)]
        seconds: f64,
        #[arg(long)]
        rate: f64,
        #[arg(long)]
        seed: u64,
    },
    #[command(hide = true)]
    Memory {
        #[arg(long)]
        pages: usize,
        #[arg(long)]
        batch: usize,
        #[arg(long)]
        mini_batch: usize,
        #[arg(long)]
        seed: u64,
    },
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    match arguments.one {
        Some(One::Cell { loss, batch, seconds, rate, seed }) => {
            Cell { loss, batch, seconds, rate, seed }.train(&mut std::io::stdout().lock())
        }
        Some(One::Memory { pages, batch, mini_batch, seed }) => {
            println!("{}", serde_json::to_string(&Work { pages, batch, mini_batch }.measure(seed)?)?);
            Ok(())
        }
        None => compare(&arguments),
    }
}

fn compare(arguments: &Arguments) -> Result<()> {
    let create = |path: &PathBuf| {
        path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
        File::create(path)
    };
    let log = create(&arguments.log).with_context(|| format!("{}", arguments.log.display()))?;
    let peaks = WORKS.map(|work| (work, peak(work, arguments.seed)));
    let peaks = peaks.into_iter().map(|(work, peak)| Ok((work, peak?))).collect::<Result<Vec<_>>>()?;
    let cells: Vec<(Loss, usize)> =
        [Loss::Pairwise, Loss::InfoNce].into_iter().flat_map(|loss| BATCHES.map(|batch| (loss, batch))).collect();
    let mut lines = Vec::new();
    for together in cells.chunks(arguments.jobs.max(1)) {
        let running = together.iter().map(|(loss, batch)| start(arguments, *loss, *batch));
        let running = running.collect::<Result<Vec<_>>>()?;
        // Each is read by a thread of its own: a process whose lines nobody reads comes to a halt.
        let followed = thread::scope(|scope| {
            let readers: Vec<_> = running.into_iter().map(|child| scope.spawn(|| follow(child, &log))).collect();
            readers.into_iter().map(|reader| reader.join()).collect::<Vec<_>>()
        });
        for training in followed {
            lines.extend(training.map_err(|_| anyhow::anyhow!("a reader of a training panicked"))??);
        }
    }
    let table = table::markdown(&lines, &peaks, arguments.seconds);
    print!("{table}");
    create(&arguments.table)?.write_all(table.as_bytes())?;
    create(&arguments.plot)?.write_all(plot::svg(&lines)?.as_bytes())?;
    Ok(())
}

/// This program again, on one thread.
fn again() -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.env("RAYON_NUM_THREADS", "1").stdout(Stdio::piped());
    Ok(command)
}

fn start(arguments: &Arguments, loss: Loss, batch: usize) -> Result<std::process::Child> {
    let mut command = again()?;
    command.envs(KEEP_MEMORY).args(["cell", "--loss", loss.argument()]);
    command.args(["--batch", &batch.to_string(), "--seconds", &arguments.seconds.to_string()]);
    command.args(["--rate", &arguments.rate.to_string()]);
    Ok(command.args(["--seed", &arguments.seed.to_string()]).spawn()?)
}

/// The lines of a training, which are written to `log` as they come.
fn follow(mut child: std::process::Child, mut log: &File) -> Result<Vec<Line>> {
    let out = child.stdout.take().context("a process without output")?;
    // Each verdict is shown once; the log has them all.
    let (mut lines, mut said) = (Vec::new(), HashSet::new());
    for text in BufReader::new(out).lines() {
        let text = text?;
        // In one piece, because others write there, too.
        log.write_all(format!("{text}\n").as_bytes())?;
        let line: Line = serde_json::from_str(&text)?;
        let name = format!("{} {}", line.loss.name(), line.batch);
        match &line.event {
            Event::HeldOut { steps, ndcg_5 } => {
                eprintln!("{name}: {steps} steps, {:.0} CPU seconds, nDCG@5 {ndcg_5:.3}", line.cpu_seconds);
            }
            Event::Verdict { steps, kind, words } if !kind.is_empty() && said.insert(kind.clone()) => {
                eprintln!("{name}: {steps} steps: {words}");
            }
            _ => {}
        }
        lines.push(line);
    }
    let status = child.wait()?;
    anyhow::ensure!(status.success(), "a training ended with {status}");
    Ok(lines)
}

/// The memory of `work`. Its process uses the allocator as it is: what is kept for speed would count, too.
fn peak(work: Work, seed: u64) -> Result<Peak> {
    let Work { pages, batch, mini_batch } = work;
    let numbers = [pages, batch, mini_batch].map(|number| number.to_string());
    let mut command = again()?;
    command.args(["memory", "--pages", &numbers[0], "--batch", &numbers[1], "--mini-batch", &numbers[2]]);
    let output = command.args(["--seed", &seed.to_string()]).output()?;
    anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}
