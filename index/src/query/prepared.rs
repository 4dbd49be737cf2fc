//! A query prepared for the segments of one searcher, and the scoring of single pages.

use std::collections::HashMap;
use std::ops::Range;

use tantivy::schema::Field;

use crate::codes::{Calibration, CodedRecord, DirectRecord};
use crate::kernel::lanes::raise_best;
use crate::kernel::levels::level_width;
use crate::kernel::{Depth, Grade, Lines, MaxSim, QueryLanes, Rows, Tokens};
use crate::segment::{Block, FieldTable, SegmentFile};
use crate::vectors::length;
use crate::{Error, MultiVector};

/// The query in the forms that pages are scored with.
pub(super) struct PreparedQuery<'q> {
    pub vectors: &'q MultiVector,
    pub lanes: QueryLanes,
    /// The length of each query token.
    pub token_lengths: Vec<f32>,
    /// The sum of the lengths of the query tokens.
    pub lengths: f32,
    /// Lane scores of all centroids of each codebook.
    rows: HashMap<[u8; 16], Lines<f32>>,
}

impl<'q> PreparedQuery<'q> {
    pub fn new(vectors: &'q MultiVector) -> Self {
        let lanes = QueryLanes::new(vectors.values(), vectors.dim(), Grade::Refined);
        let token_lengths: Vec<f32> = vectors.iter().map(length).collect();
        let lengths = token_lengths.iter().sum();
        Self { vectors, lanes, token_lengths, lengths, rows: HashMap::new() }
    }

    /// Compares the query with the centroids of a block, once per codebook.
    pub fn prepare(&mut self, block: &Block) {
        self.rows.entry(block.codebook.id()).or_insert_with(|| block.codebook.rows(&self.lanes));
    }

    /// Lane scores of the centroids of a prepared block, `centroids x lanes`.
    pub fn rows(&self, block: &Block) -> &[f32] {
        self.rows.get(&block.codebook.id()).map_or(&[], Lines::values)
    }
}

/// Scores pages one after the other; the room that this takes is kept.
pub(super) struct PageScorer<'q> {
    query: &'q PreparedQuery<'q>,
    halves: MaxSim<'q>,
    best: Vec<f32>,
    scales: Vec<f32>,
    levels: Lines<u8>,
    centroids: Vec<u16>,
    /// Runs of tokens that are decoded at once.
    together: Vec<Range<usize>>,
}

/// One page of a segment.
#[derive(Clone, Copy)]
pub(super) struct PagePlace<'a> {
    pub file: &'a SegmentFile,
    pub field: Field,
    pub table: &'a FieldTable,
    /// The place of the page in the table.
    pub place: usize,
}

/// Neighbouring tokens of one centroid.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub centroid: u16,
    pub tokens: Range<usize>,
}

/// How deep planes are read for estimates: with the first plane alone half as many pages again have to be scored in full
/// (`benches/end_to_end`).
const COARSE_DEPTH: Depth = Depth::Four;

/// The share of a page's largest residual that residuals of repeated tokens, blank paper or margins, stay below.
const REPEATED: f32 = 0.3;

fn short(page: &PagePlace<'_>) -> Error {
    Error::SegmentFile {
        segment: page.file.segment().to_owned(),
        problem: format!("the codes of document {} are too short", page.table.pages[page.place].doc),
    }
}

impl<'q> PageScorer<'q> {
    pub fn new(query: &'q PreparedQuery<'q>) -> Self {
        Self {
            query,
            halves: MaxSim::new(query.vectors.values(), query.vectors.dim()),
            best: vec![0.0; query.lanes.lanes()],
            scales: Vec::new(),
            levels: Lines::default(),
            centroids: Vec::new(),
            together: Vec::new(),
        }
    }

    /// The MaxSim at the highest precision stored; `vectors` are the page's stored vectors, codes and f16 copy.
    pub fn full(&mut self, page: &PagePlace<'_>, vectors: &[u8]) -> Result<f32, Error> {
        let entry = &page.table.pages[page.place];
        if let Some(range) = page.table.f16_range(entry) {
            let start = (range.start - entry.offset) as usize;
            return Ok(self.halves.score(&vectors[start..start + (range.end - range.start) as usize]));
        }
        let depth = page.table.precision.depth().unwrap_or(Depth::Eight);
        self.coded(page, vectors, depth, Grade::Refined)
    }

    /// An estimate of the MaxSim: by the first two planes at most, and by the tokens of some runs only, repeated ones once. Also how many
    /// tokens that were.
    pub fn coarse(&mut self, page: &PagePlace<'_>, block: &Block, runs: &[Run]) -> Result<(f32, usize), Error> {
        let entry = &page.table.pages[page.place];
        let (tokens, dim) = (usize::from(entry.tokens), page.table.dim);
        let depth = page.table.precision.depth().map_or(Depth::Two, |depth| depth.min(COARSE_DEPTH));
        let codes = page.file.read(entry.offset..entry.offset + CodedRecord::length(tokens, dim, depth) as u64)?;
        let record = CodedRecord::cut(&codes, tokens, dim, depth).ok_or_else(|| short(page))?;
        let repeated = REPEATED * entry.radius.to_f32() / (dim as f32).sqrt();
        self.centroids.clear();
        self.together.clear();
        for run in runs {
            let start = run.tokens.start;
            let end = if record.repeats(run.tokens.clone(), repeated) { start + 1 } else { run.tokens.end };
            self.centroids.resize(self.centroids.len() + end - start, run.centroid);
            match self.together.last_mut() {
                Some(last) if last.end == start => last.end = end,
                _ => self.together.push(start..end),
            }
        }
        let scored = self.centroids.len();
        record.of_runs(&self.together, scored, dim, &mut self.scales, &mut self.levels);
        self.best.fill(f32::NEG_INFINITY);
        let rows = Some(Rows { table: self.query.rows(block), centroids: &self.centroids });
        let tokens = Tokens { levels: self.levels.values(), scales: &self.scales, rows };
        raise_best(&self.query.lanes, Grade::Coarse, tokens, &mut self.best);
        let score = block.codebook.calibration.correct(self.query.lanes.total(&self.best), self.query.lengths);
        Ok((score, scored))
    }

    /// The MaxSim of direct codes by the coarse grade.
    pub fn direct(&mut self, page: &PagePlace<'_>) -> Result<f32, Error> {
        let entry = &page.table.pages[page.place];
        let bytes = page.table.code_bytes(entry) as u64;
        let codes = page.file.read(entry.offset..entry.offset + bytes)?;
        self.coded(page, &codes, Depth::Eight, Grade::Coarse)
    }

    fn coded(&mut self, page: &PagePlace<'_>, codes: &[u8], depth: Depth, grade: Grade) -> Result<f32, Error> {
        let entry = &page.table.pages[page.place];
        let (tokens, dim) = (usize::from(entry.tokens), page.table.dim);
        self.best.fill(f32::NEG_INFINITY);
        let calibration = match page.file.block_of(page.field, page.place) {
            Some((block, place)) => {
                let record = CodedRecord::cut(codes, tokens, dim, depth).ok_or_else(|| short(page))?;
                record.scales(&mut self.scales);
                record.levels(dim, &mut self.levels);
                self.centroids.clear();
                for group in block.groups(place) {
                    self.centroids.extend((0..=group.more).map(|_| group.centroid));
                }
                let rows = Some(Rows { table: self.query.rows(block), centroids: &self.centroids });
                let levels = &self.levels.values()[..tokens * level_width(dim)];
                raise_best(&self.query.lanes, grade, Tokens { levels, scales: &self.scales, rows }, &mut self.best);
                block.codebook.calibration
            }
            None => {
                let record = DirectRecord::cut(codes, tokens, dim).ok_or_else(|| short(page))?;
                record.scales(&mut self.scales);
                let tokens = Tokens { levels: record.levels, scales: &self.scales, rows: None };
                raise_best(&self.query.lanes, grade, tokens, &mut self.best);
                Calibration::NONE
            }
        };
        Ok(calibration.correct(self.query.lanes.total(&self.best), self.query.lengths))
    }
}
