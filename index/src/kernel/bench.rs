//! What `benches/kernels.rs` measures: each kernel on made-up tokens, and the peak of the machine. Not part of the interface.

use half::f16;

use super::levels::{self, level_width};
use super::lines::Lines;
use super::machines::{self, Version};
use super::{Depth, Grade, MaxSim, Planes, QueryLanes, Rows, Tokens, peak};

/// Centroids of the made-up codebook.
const CENTROIDS: usize = 256;

/// The kernels compiled for one instruction set.
pub struct Machine(Version);

/// Those that this machine can run, the one that searches take first.
pub fn machines() -> Vec<Machine> {
    machines::present().into_iter().map(Machine).collect()
}

impl Machine {
    /// The name of the instruction set's module.
    pub fn name(&self) -> &'static str {
        self.0.name
    }
}

/// Multiplies and adds in registers for a number of rounds; returns the operations.
#[derive(Clone, Copy)]
pub struct Peak {
    /// The name of the instruction set's module.
    pub name: &'static str,
    run: peak::Loop,
}

impl Peak {
    /// As many operations as can be done in `rounds`; returns how many.
    pub fn run(&self, rounds: u64) -> u64 {
        (self.run)(rounds)
    }
}

/// Of 8-bit integers in vector registers, for the kernels of quantized tokens: one for each width of registers. AMX, which
/// multiplies several times as much, is not among them.
pub fn integer_peaks() -> Vec<Peak> {
    peak::integer_peaks().into_iter().map(|(name, run)| Peak { name, run }).collect()
}

/// What turns bit planes into levels, compiled for one instruction set.
pub struct Decoder((&'static str, levels::Decode));

/// Those that this machine can run, the one that searches take first.
pub fn decoders() -> Vec<Decoder> {
    levels::decoders().into_iter().map(Decoder).collect()
}

impl Decoder {
    /// The name of the instruction set.
    pub fn name(&self) -> &'static str {
        self.0.0
    }
}

/// Of f32 multiply-adds, for [`Case::max_sim`].
pub fn fused_peak() -> Option<Peak> {
    peak::fused_peak().map(|run| Peak { name: "fused", run })
}

/// A kernel with its options.
#[derive(Clone, Copy, Debug)]
pub enum Kernel {
    /// MaxSim of quantized tokens.
    RaiseBest {
        /// With 15 bits of the query, not 8.
        refined: bool,
        /// With the scores of centroids added.
        rows: bool,
    },
    /// Scores of centroids with the query, 15 bits.
    FillRows,
    /// The nearest centroid of each lane.
    Nearest,
}

/// A query, a page and a codebook with made-up contents.
pub struct Case {
    dim: usize,
    query: Vec<f32>,
    /// As the machine takes them that ran last.
    lanes: QueryLanes,
    levels: Lines<u8>,
    scales: Vec<f32>,
    centroids: Vec<u16>,
    table: Lines<f32>,
    planes: Vec<u8>,
    halves: Vec<u8>,
    best: Vec<f32>,
    rows: Vec<f32>,
    found: Vec<u32>,
}

impl Case {
    /// The contents are the same in every run.
    pub fn new(dim: usize, query_tokens: usize, tokens: usize) -> Self {
        let mut state = 1u64;
        let mut byte = move || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 56) as u8
        };
        let query: Vec<f32> = (0..dim * query_tokens).map(|_| f32::from(byte()) / 128.0 - 1.0).collect();
        let lanes = QueryLanes::new(&query, dim, Grade::Refined);
        let width = level_width(dim);
        let mut levels = Lines::new(width * tokens);
        levels.values_mut().fill_with(&mut byte);
        let mut centroids: Vec<u16> = (0..tokens).map(|_| u16::from(byte()) % CENTROIDS as u16).collect();
        // As pages have them.
        centroids.sort_unstable();
        Self {
            dim,
            levels,
            scales: (0..tokens).map(|_| f32::from(byte()) / 2560.0).collect(),
            centroids,
            table: Lines::new(CENTROIDS * lanes.lanes()),
            planes: (0..width * tokens).map(|_| byte()).collect(),
            halves: (0..dim * tokens)
                .flat_map(|_| f16::from_f32(f32::from(byte()) / 128.0 - 1.0).to_le_bytes())
                .collect(),
            best: vec![f32::NEG_INFINITY; lanes.lanes()],
            rows: vec![0.0; tokens * lanes.lanes()],
            found: vec![0; lanes.lanes()],
            query,
            lanes,
        }
    }

    /// Runs `kernel` once as compiled for `machine`; returns the operations that the query's tokens asked for, two per
    /// multiply-add, lanes without a token not counted.
    pub fn run(&mut self, kernel: Kernel, machine: &Machine) -> u64 {
        if self.lanes.layout() != machine.0.layout {
            self.lanes = QueryLanes::laid_out(&self.query, self.dim, Grade::Refined, machine.0.layout);
            let lanes = self.lanes.lanes();
            self.table.resize(CENTROIDS * lanes);
            self.best.resize(lanes, f32::NEG_INFINITY);
            self.rows.resize(self.scales.len() * lanes, 0.0);
            self.found.resize(lanes, 0);
        }
        let grade = |refined| if refined { Grade::Refined } else { Grade::Coarse };
        let parts = match kernel {
            Kernel::RaiseBest { refined, rows } => {
                let rows = rows.then_some(Rows { table: self.table.values(), centroids: &self.centroids });
                let tokens = Tokens { levels: self.levels.values(), scales: &self.scales, rows };
                (machine.0.raise_best)(&self.lanes, grade(refined), tokens, &mut self.best);
                1 + u64::from(refined)
            }
            Kernel::FillRows => {
                (machine.0.fill_rows)(&self.lanes, grade(true), self.levels.values(), &self.scales, &mut self.rows);
                2
            }
            Kernel::Nearest => {
                (machine.0.nearest)(&self.lanes, self.levels.values(), &self.scales, &self.scales, &mut self.found);
                1
            }
        };
        parts * self.operations()
    }

    /// MaxSim of the query with the page in f16, on the widest registers; returns the operations.
    pub fn max_sim(&mut self) -> u64 {
        self.best[0] = MaxSim::new(&self.query, self.dim).score(&self.halves);
        self.operations()
    }

    /// Turns planes of `bits` (2, 4 or 8) into levels by one of [`decoders`]; returns how many.
    pub fn decode(&mut self, bits: u8, decoder: &Decoder) -> u64 {
        let depth = match bits {
            2 => Depth::Two,
            4 => Depth::Four,
            _ => Depth::Eight,
        };
        let planes = Planes { first: &self.planes, second: &self.planes, third: &self.planes };
        (decoder.0.1)(depth, planes, level_width(self.dim), self.levels.values_mut());
        self.levels.values().len() as u64
    }

    fn operations(&self) -> u64 {
        (2 * self.query.len() * self.scales.len()) as u64
    }
}
