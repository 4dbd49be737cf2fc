//! How much of the text that `pdftotext` finds in PDFs the text layer finds too, and how fast pages are read.
//!
//! ```text
//! cargo run --release -p colqwen-index-ingest --features encode --example text_recall -- [OPTIONS] FILE.pdf...
//!
//!   --pages N      only the first N pages of each file
//!   --missing      list the words missing most often in each file
//!   --text         print the text layer instead
//!   --images DIR   write each page as DIR/FILE-PAGE.png
//! ```
//!
//! A word is a maximal run of letters and digits in lower case, at least two characters long. Page by page, the
//! words are counted with their repetitions: recall is the share of pdftotext's words that the text layer has
//! as well. Pages are rendered as for the model, so that pages/s is for picture and text on one core.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use colqwen_index_ingest::page::{Document, PixelBudget};

#[derive(Default)]
struct Options {
    pages: Option<u32>,
    missing: bool,
    text: bool,
    images: Option<PathBuf>,
    files: Vec<PathBuf>,
}

#[derive(Default)]
struct Tally {
    expected: usize,
    found: usize,
    extra: usize,
    pages: u32,
    slowest: Duration,
    time: Duration,
    missing: HashMap<String, usize>,
}

fn main() -> ExitCode {
    let mut options = Options::default();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--pages" => options.pages = arguments.next().and_then(|pages| pages.parse().ok()),
            "--missing" => options.missing = true,
            "--text" => options.text = true,
            "--images" => options.images = arguments.next().map(PathBuf::from),
            _ => options.files.push(PathBuf::from(argument)),
        }
    }
    if options.files.is_empty() {
        eprintln!("text_recall: expected PDF files");
        return ExitCode::from(2);
    }
    let mut total = Tally::default();
    let mut failed = false;
    if !options.text {
        println!(
            "{:<28} {:>5} {:>8} {:>8} {:>8} {:>8} {:>7}",
            "file", "pages", "words", "recall", "extra", "pages/s", "max s"
        );
    }
    for file in &options.files {
        match read(file, &options) {
            Ok(tally) => {
                if !options.text {
                    report(&file.file_name().unwrap_or_default().to_string_lossy(), &tally, options.missing);
                }
                total.expected += tally.expected;
                total.found += tally.found;
                total.extra += tally.extra;
                total.pages += tally.pages;
                total.time += tally.time;
                total.slowest = total.slowest.max(tally.slowest);
            }
            Err(error) => {
                eprintln!("{error}");
                failed = true;
            }
        }
    }
    if !options.text {
        report("total", &total, false);
        if let Some(peak) = peak_memory() {
            println!("peak memory {peak}");
        }
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn read(file: &Path, options: &Options) -> Result<Tally, Box<dyn std::error::Error>> {
    let opening = Instant::now();
    let document = Document::open(file)?;
    let mut reader = document.reader();
    let pages = options.pages.unwrap_or(u32::MAX).min(document.page_count());
    let mut tally = Tally { time: opening.elapsed(), pages, ..Tally::default() };
    let expected = pdftotext(file, pages);
    for number in 1..=pages {
        let started = Instant::now();
        let page = match reader.page(number, &PixelBudget::default()) {
            Ok(page) => page,
            Err(error) => {
                eprintln!("{error}");
                continue;
            }
        };
        let took = started.elapsed();
        tally.time += took;
        tally.slowest = tally.slowest.max(took);
        for warning in &page.warnings {
            eprintln!("{}: page {number}: {warning}", file.display());
        }
        if let Some(folder) = &options.images {
            let stem = file.file_stem().unwrap_or_default().to_string_lossy();
            page.image.save(folder.join(format!("{stem}-{number}.png")))?;
        }
        let text = page.text.unwrap_or_default().text();
        if options.text {
            println!("--- {} page {number}\n{text}", file.display());
            continue;
        }
        let mut own = words(&text);
        if let Some(expected) = expected.get(number as usize - 1) {
            for (word, count) in words(expected) {
                let found = own.remove(&word).unwrap_or(0);
                tally.expected += count;
                tally.found += found.min(count);
                tally.extra += found.saturating_sub(count);
                if found < count {
                    *tally.missing.entry(word).or_default() += count - found;
                }
            }
            tally.extra += own.values().sum::<usize>();
        }
    }
    Ok(tally)
}

/// The text of each page according to `pdftotext`; empty if there is no such program.
fn pdftotext(file: &Path, pages: u32) -> Vec<String> {
    let output =
        Command::new("pdftotext").args(["-enc", "UTF-8", "-l", &pages.to_string()]).arg(file).arg("-").output();
    let Ok(output) = output else { return Vec::new() };
    String::from_utf8_lossy(&output.stdout).split('\u{c}').map(str::to_owned).collect()
}

fn words(text: &str) -> HashMap<String, usize> {
    let mut words = HashMap::new();
    for word in text.split(|c: char| !c.is_alphanumeric()).filter(|word| word.chars().nth(1).is_some()) {
        *words.entry(word.to_lowercase()).or_default() += 1;
    }
    words
}

fn report(name: &str, tally: &Tally, missing: bool) {
    let recall = tally.found as f64 / tally.expected.max(1) as f64;
    let speed = f64::from(tally.pages) / tally.time.as_secs_f64();
    println!(
        "{name:<28} {:>5} {:>8} {recall:>8.4} {:>8} {speed:>8.1} {:>7.2}",
        tally.pages,
        tally.expected,
        tally.extra,
        tally.slowest.as_secs_f64()
    );
    if missing {
        let mut words: Vec<_> = tally.missing.iter().collect();
        words.sort_by_key(|(word, count)| (usize::MAX - **count, (*word).clone()));
        let words: Vec<_> = words.iter().take(40).map(|(word, count)| format!("{word} {count}")).collect();
        println!("    {}", words.join(", "));
    }
}

/// The most memory this process has had, where the system tells.
fn peak_memory() -> Option<String> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    Some(status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.trim().to_owned())
}
