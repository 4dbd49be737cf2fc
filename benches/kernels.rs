//! Each kernel of the field as compiled for each instruction set of this machine, and its share of what the machine can
//! multiply at most.
//!
//! ```text
//! cargo bench --no-default-features --bench kernels [-- WORDS THAT LINES MUST CONTAIN]
//! ```
//! One thread. Each line is the best of many repetitions, so short that some are not interrupted, with the peak measured in
//! between, so that other programs and changing clocks meet both alike. The peak is that of the widest vector registers that
//! multiply 8-bit integers fastest; tiles (`amx`) may exceed it. Lanes that are only there to fill a register do not count.

mod machine;

use std::time::{Duration, Instant};

use colqwen_index_field::kernel_bench::{Case, Kernel, Peak, decoders, fused_peak, integer_peaks, machines};
use machine::Setting;

const PAGE_TOKENS: usize = 700;
/// Repetitions of kernel and peak; the best of each counts.
const REPETITIONS: usize = 300;
/// How long one repetition takes at least.
const REPETITION: Duration = Duration::from_micros(150);
const PEAK_ROUNDS: u64 = 2_000;

/// The most operations per second of one and of the other, repetitions taking turns.
fn interleaved(mut one: impl FnMut() -> u64, mut other: impl FnMut() -> u64) -> (f64, f64) {
    let mut best = (0.0f64, 0.0f64);
    for _ in 0..REPETITIONS {
        best.0 = best.0.max(rate(&mut one));
        best.1 = best.1.max(rate(&mut other));
    }
    best
}

fn rate(run: &mut impl FnMut() -> u64) -> f64 {
    let (start, mut operations) = (Instant::now(), 0);
    loop {
        operations += run();
        let taken = start.elapsed();
        if taken >= REPETITION || operations == 0 {
            return operations as f64 / taken.as_secs_f64().max(1e-9);
        }
    }
}

/// The fastest of the loops that do nothing but multiply; prints all.
fn highest_peak() -> Option<Peak> {
    let mut highest = (0.0, None);
    for peak in integer_peaks() {
        let (rate, _) = interleaved(|| peak.run(PEAK_ROUNDS), || 0);
        println!("{:<58} {:>9} {:9.2}", format!("peak of {}", peak.name), "", rate / 1e9);
        if rate > highest.0 {
            highest = (rate, Some(peak));
        }
    }
    highest.1
}

/// Prints lines that contain all words asked for.
struct Table {
    words: Vec<String>,
}

impl Table {
    fn line(&self, name: &str, kernel: impl FnMut() -> u64, peak: Option<Peak>) {
        if !self.words.iter().all(|word| name.contains(word)) {
            return;
        }
        let (kernel, peak) = interleaved(kernel, || peak.map_or(0, |peak| peak.run(PEAK_ROUNDS)));
        let share = if peak > 0.0 { format!("{:5.1} %", 100.0 * kernel / peak) } else { "-".to_owned() };
        println!("{name:<58} {:9.2} {:9.2} {share:>8}", kernel / 1e9, peak / 1e9);
    }
}

fn main() {
    let table = Table { words: std::env::args().skip(1).filter(|word| word != "--bench").collect() };
    println!("{}", Setting::now());
    println!("{PAGE_TOKENS} page tokens");
    println!("{:<58} {:>9} {:>9} {:>8}", "kernel", "GOP/s", "peak", "share");
    let peak = highest_peak();
    for machine in &machines() {
        for dim in [96, 128, 320] {
            for query_tokens in [8, 16, 20, 24, 28, 32, 48] {
                if dim != 128 && !matches!(query_tokens, 20 | 24 | 32) {
                    continue;
                }
                let mut case = Case::new(dim, query_tokens, PAGE_TOKENS);
                let kernels = [
                    ("raise_best coarse", Kernel::RaiseBest { refined: false, rows: false }),
                    ("raise_best coarse, rows", Kernel::RaiseBest { refined: false, rows: true }),
                    ("raise_best refined", Kernel::RaiseBest { refined: true, rows: false }),
                    ("raise_best refined, rows", Kernel::RaiseBest { refined: true, rows: true }),
                    ("fill_rows", Kernel::FillRows),
                    ("nearest", Kernel::Nearest),
                ];
                for (name, kernel) in kernels {
                    let name = format!("{:<10} {name}, dim {dim}, {query_tokens} query tokens", machine.name());
                    table.line(&name, || case.run(kernel, machine), peak);
                }
            }
        }
    }
    for dim in [96, 128, 320] {
        for query_tokens in [20, 24, 32] {
            let mut case = Case::new(dim, query_tokens, PAGE_TOKENS);
            let name = format!("{:<10} MaxSim of f16, dim {dim}, {query_tokens} query tokens", "chosen");
            table.line(&name, || case.max_sim(), fused_peak());
        }
    }
    // Levels, not operations; there is no peak to compare with.
    for decoder in &decoders() {
        for dim in [96, 128, 320] {
            for bits in [2, 4, 8] {
                let mut case = Case::new(dim, 8, PAGE_TOKENS);
                let name = format!("{:<10} levels (Glevel/s), dim {dim}, {bits} bits", decoder.name());
                table.line(&name, || case.decode(bits, decoder), None);
            }
        }
    }
}
