//! Makes the small checkpoint that is embedded in the program: a ColQwen2 of two and a half million weights that reads printed
//! Latin words, trained from nothing but pages that are rendered here.
//!
//! ```sh
//! export RAYON_NUM_THREADS=1 # the threads are those of the batch
//! run() { cargo run --release -p colqwen-index-train --example small_checkpoint -- "$@"; }
//! run pages --files training.txt --per-file 4 --out work/pages
//! run pages --files held-out.txt --per-file 10 --out work/held-out
//! run vocabulary --pages work/pages --out work/tokenizer.json
//! run train --stage reading --pages work/pages --held-out work/held-out --tokenizer work/tokenizer.json --out work/1.safetensors
//! run train --stage words --from work/1.safetensors ... --out work/2.safetensors
//! run export --from work/4.safetensors --tokenizer work/tokenizer.json --out work/checkpoint
//! ```

mod crop;
mod evaluate;
mod memory;
mod network;
mod pieces;
mod render;
mod stage;
mod step;
mod synthetic;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use rayon::prelude::*;
use serde_json::{Value, json};

use crop::Prepared;
use network::Network;
use pieces::Pieces;
use stage::Stage;

#[derive(Parser)]
#[command(about = "Makes the small checkpoint")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Render pages of PDFs
    Pages {
        /// A file that names one PDF per line
        #[arg(long)]
        files: PathBuf,
        /// At most so many pages of each
        #[arg(long, default_value_t = 4)]
        per_file: usize,
        /// By which factor the area of a page may be larger or smaller than the model's budget; 1 to evaluate
        #[arg(long, default_value_t = render::ZOOM)]
        zoom: f64,
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// The folder to keep them in
        #[arg(long)]
        out: PathBuf,
    },
    /// Set pages in many typefaces from the words of rendered ones
    Synthetic {
        /// A file that names one TrueType or OpenType font per line
        #[arg(long)]
        fonts: PathBuf,
        /// Rendered pages whose words are set
        #[arg(long)]
        words: PathBuf,
        #[arg(long)]
        count: usize,
        /// Set running text only, no words drawn at random
        #[arg(long)]
        in_order: bool,
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// The folder to keep them in
        #[arg(long)]
        out: PathBuf,
    },
    /// Choose the pieces of words and write tokenizer.json
    Vocabulary {
        #[arg(long)]
        pages: PathBuf,
        /// Pieces and special tokens
        #[arg(long, default_value_t = 4900)]
        size: usize,
        #[arg(long)]
        out: PathBuf,
    },
    /// Train one stage
    Train(Train),
    /// Measure how well a checkpoint finds rendered pages
    Evaluate {
        /// The folder of the checkpoint
        #[arg(long)]
        checkpoint: PathBuf,
        /// Pages that `pages` rendered, of documents that the training did not see
        #[arg(long)]
        pages: PathBuf,
        #[arg(long, default_value_t = 300)]
        queries: usize,
        #[arg(long, default_value_t = 100_000)]
        most_pages: usize,
        #[arg(long, default_value_t = 5)]
        seed: u64,
    },
    /// Write the checkpoint folder
    Export {
        /// Weights of the last stage
        #[arg(long)]
        from: PathBuf,
        #[arg(long)]
        tokenizer: PathBuf,
        /// The stage whose crops are the tiles that pages are encoded in
        #[arg(long)]
        tiles: Stage,
        #[arg(long)]
        out: PathBuf,
    },
}

#[derive(Args)]
struct Train {
    /// reading, words, lines, blocks or tiles
    #[arg(long)]
    stage: Stage,
    /// Training pages, one or more folders
    #[arg(long, required = true, num_args = 1..)]
    pages: Vec<PathBuf>,
    /// Pages to judge by
    #[arg(long)]
    held_out: PathBuf,
    #[arg(long)]
    tokenizer: PathBuf,
    /// Weights of the stage before, or model.safetensors of a finished checkpoint; random ones otherwise
    #[arg(long)]
    from: Option<PathBuf>,
    /// Where the weights go
    #[arg(long)]
    out: PathBuf,
    /// Steps, instead of the stage's own number
    #[arg(long)]
    steps: Option<u64>,
    /// Highest learning rate, instead of the stage's own
    #[arg(long)]
    rate: Option<f64>,
    #[arg(long, default_value_t = 2)]
    threads: usize,
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Pages { files, per_file, zoom, seed, out } => {
            println!("{} pages", render::render(&files, per_file, zoom, seed, &out)?);
            Ok(())
        }
        Command::Synthetic { fonts, words, count, in_order, seed, out } => {
            let press = synthetic::Press::new(&fonts, &words, in_order)?;
            println!("{} pages", press.print(count, seed, &out)?);
            Ok(())
        }
        Command::Vocabulary { pages, size, out } => {
            let sheets = render::load(&pages)?;
            let words = sheets.iter().flat_map(|sheet| sheet.words.iter().map(|word| word.text.as_str()));
            let pieces = Pieces::count(words, size);
            println!("{} pieces", pieces.len());
            write_json(&out, &pieces.tokenizer())
        }
        Command::Train(train) => {
            let pieces = read_pieces(&train.tokenizer)?;
            let prepare = |folders: &[PathBuf]| -> Result<Vec<Prepared>> {
                let mut prepared = Vec::new();
                for folder in folders {
                    let sheets = render::load(folder)?.into_par_iter();
                    let pages = sheets.map(|sheet| Ok(Prepared::new(render::fitted(sheet)?, &pieces)));
                    let pages: Vec<Prepared> = pages.collect::<Result<_>>()?;
                    prepared.extend(pages.into_iter().filter(|page| page.runs.len() > 20));
                }
                crop::weigh(&mut prepared);
                Ok(prepared)
            };
            // The environment may allow rayon less, for the sake of the training itself.
            let pool = rayon::ThreadPoolBuilder::new().num_threads(train.threads).build()?;
            let (pages, held_out) = pool.install(|| {
                Ok::<_, anyhow::Error>((prepare(&train.pages)?, prepare(std::slice::from_ref(&train.held_out))?))
            })?;
            let network = match &train.from {
                Some(path) => Network::load(&pieces, path)?,
                None => Network::new(&pieces, train.seed)?,
            };
            println!("{} pages, {} held out, {} weights", pages.len(), held_out.len(), network.weights());
            let Train { stage, steps, rate, threads, seed, .. } = train;
            let run = stage::Run { stage, steps, rate, threads, seed };
            run.train(&network, &pieces, [&pages, &held_out], &train.out)
        }
        Command::Evaluate { checkpoint, pages, queries, most_pages, seed } => {
            let evaluation = evaluate::Evaluation { checkpoint: &checkpoint, pages: &pages, queries, most_pages, seed };
            println!("{}", evaluation.run()?);
            Ok(())
        }
        Command::Export { from, tokenizer, tiles, out } => {
            let pieces = read_pieces(&tokenizer)?;
            let network = Network::load(&pieces, &from)?;
            std::fs::create_dir_all(&out)?;
            let tensors = network.checkpoint()?;
            safetensors::serialize_to_file(tensors, None, &out.join("model.safetensors"))?;
            write_json(&out.join("config.json"), &network::config_json(&pieces))?;
            write_json(&out.join("tokenizer.json"), &pieces.tokenizer())?;
            // White paper is 0, ink 2.55: (255 - grey) / 100, as the training has it.
            let std = [-100.0 / 255.0; 3];
            write_json(
                &out.join("preprocessor_config.json"),
                &json!({
                "size": {"shortest_edge": render::LEAST_PIXELS as u64, "longest_edge": render::PAGE_PIXELS as u64},
                "patch_size": 14, "merge_size": 2, "temporal_patch_size": 1,
                "image_mean": [1.0, 1.0, 1.0], "image_std": std, "tiles": tiles.tiles()}),
            )?;
            write_json(&out.join("colqwen_index.json"), &json!({"query_format": "bare"}))
        }
    }
}

fn read_pieces(path: &PathBuf) -> Result<Pieces> {
    let text = std::fs::read_to_string(path).with_context(|| format!("{}", path.display()))?;
    let value: Value = serde_json::from_str(&text)?;
    Pieces::of_tokenizer(&value).with_context(|| format!("{} is no tokenizer of this program", path.display()))
}

fn write_json(path: &PathBuf, value: &Value) -> Result<()> {
    std::fs::write(path, serde_json::to_string(value)?).with_context(|| format!("{}", path.display()))
}
