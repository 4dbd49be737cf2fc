//! What it takes on one core to make a page's vectors: seconds of rendering and of encoding.
//!
//! ```text
//! RAYON_NUM_THREADS=1 cargo run --release -p colqwen-index-ingest --features encode --example page_cost -- FILE...
//!
//!   --model DIR    a checkpoint instead of the one inside the program
//! ```
//!
//! Seconds are CPU time, so that other work on the machine counts little; the best of five rounds.

use std::error::Error;
use std::path::Path;

use colqwen_index_ingest::colqwen2::{ColQwen2, LoadOptions};
use colqwen_index_ingest::encoder::Encoder;
use colqwen_index_ingest::page::Document;
use cpu_time::ProcessTime;
use image::RgbImage;

const ROUNDS: usize = 5;

fn main() -> Result<(), Box<dyn Error>> {
    let mut files: Vec<String> = std::env::args().skip(1).collect();
    let model = match files.iter().position(|argument| argument == "--model") {
        Some(at) if at + 1 < files.len() => {
            let dir = files.drain(at..at + 2).nth(1).unwrap_or_default();
            ColQwen2::load(Path::new(&dir), &LoadOptions::default())?
        }
        _ => ColQwen2::builtin()?,
    };
    if files.is_empty() {
        return Err("usage: page_cost [--model DIR] FILE...".into());
    }
    let start = ProcessTime::now();
    let mut pages: Vec<RgbImage> = Vec::new();
    for file in &files {
        let document = Document::open(file)?;
        let mut reader = document.reader();
        for number in 1..=document.page_count() {
            pages.push(reader.page(number, &model.page_budget())?.image);
        }
    }
    let rendering = start.elapsed().as_secs_f64() / pages.len() as f64;

    let (mut encoding, mut tokens) = (f64::INFINITY, 0);
    for _ in 0..ROUNDS {
        let start = ProcessTime::now();
        let vectors = pages.iter().map(|page| model.encode_pages(std::slice::from_ref(page)));
        tokens = vectors.map(|page| Ok(page?[0].vectors.tokens())).sum::<Result<usize, Box<dyn Error>>>()?;
        encoding = encoding.min(start.elapsed().as_secs_f64() / pages.len() as f64);
    }
    println!(
        "{} pages of {} vectors on average: {rendering:.3} s to render, {encoding:.3} s to encode a page",
        pages.len(),
        tokens / pages.len()
    );
    Ok(())
}
