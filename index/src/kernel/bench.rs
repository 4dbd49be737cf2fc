//! What `benches/kernels.rs` measures: each kernel on made-up tokens, and the peak of the machine. Not part of the interface.

use half::f16;

use super::levels::{decode_levels, decode_portable, level_width};
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

    /// Multiplies and adds in registers for that many rounds; returns the operations, or `None` where no loop is written.
    pub fn peak(&self, rounds: u64) -> Option<u64> {
        self.0.peak.map(|run| run(rounds))
    }
}

/// As [`Machine::peak`], of f32 multiply-adds, for [`Case::max_sim`].
pub fn fused_peak(rounds: u64) -> Option<u64> {
    peak::fused_peak().map(|run| run(rounds))
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
    lanes: QueryLanes,
    levels: Vec<u8>,
    scales: Vec<f32>,
    centroids: Vec<u16>,
    table: Vec<f32>,
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
        Self {
            dim,
            levels: (0..width * tokens).map(|_| byte()).collect(),
            scales: (0..tokens).map(|_| f32::from(byte()) / 2560.0).collect(),
            centroids: (0..tokens).map(|_| u16::from(byte()) % CENTROIDS as u16).collect(),
            table: (0..CENTROIDS * lanes.lanes()).map(|_| f32::from(byte())).collect(),
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
        let grade = |refined| if refined { Grade::Refined } else { Grade::Coarse };
        let parts = match kernel {
            Kernel::RaiseBest { refined, rows } => {
                let rows = rows.then_some(Rows { table: &self.table, centroids: &self.centroids });
                let tokens = Tokens { levels: &self.levels, scales: &self.scales, rows };
                (machine.0.raise_best)(&self.lanes, grade(refined), tokens, &mut self.best);
                1 + u64::from(refined)
            }
            Kernel::FillRows => {
                (machine.0.fill_rows)(&self.lanes, grade(true), &self.levels, &self.scales, &mut self.rows);
                2
            }
            Kernel::Nearest => {
                (machine.0.nearest)(&self.lanes, &self.levels, &self.scales, &self.scales, &mut self.found);
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

    /// Turns planes of `bits` (2, 4 or 8) into levels; returns how many.
    pub fn decode(&mut self, bits: u8, portable: bool) -> u64 {
        let depth = match bits {
            2 => Depth::Two,
            4 => Depth::Four,
            _ => Depth::Eight,
        };
        let planes = Planes { first: &self.planes, second: &self.planes, third: &self.planes };
        let run = if portable { decode_portable } else { decode_levels };
        run(depth, planes, level_width(self.dim), &mut self.levels);
        self.levels.len() as u64
    }

    fn operations(&self) -> u64 {
        (2 * self.query.len() * self.scales.len()) as u64
    }
}
