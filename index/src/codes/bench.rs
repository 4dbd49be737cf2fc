//! What `benches/stages.rs` measures: what a build does to pages, and a search to the codes of one page. Not part of the
//! interface.

use super::train::{sampled_pages, train};
use super::{Codebook, CodedPage, CodedRecord, PageEncoder, encode_direct};
use crate::Precision;
use crate::kernel::byte_rows::{ByteTable, ROW_STEP, best_bytes};
use crate::kernel::lanes::raise_best;
use crate::kernel::{Depth, Grade, Lines, QueryLanes, Rows, Tokens};

/// Pages in codes, with the vectors they were made of.
pub struct Pages {
    dim: usize,
    depth: Depth,
    vectors: Vec<Vec<f32>>,
    codebook: Codebook,
    coded: Vec<CodedPage>,
    /// The distinct centroids of each page, as its scoring by centroids reads them.
    centroids: Vec<Vec<[u8; 2]>>,
}

/// A query and its scores with the centroids of pages, with room to score a page.
pub struct Query {
    lanes: QueryLanes,
    rows: Lines<f32>,
    best: Vec<f32>,
    scales: Vec<f32>,
    levels: Lines<u8>,
    centroids: Vec<u16>,
}

/// The scores of a query with centroids as bytes, with room to score a page.
pub struct ByteRows {
    stride: usize,
    bytes: Vec<u8>,
    best: Vec<u8>,
}

impl Pages {
    /// Trains a codebook on pages (`tokens x dim` each) and encodes them; `None` for f16, which has no codes.
    pub fn new(vectors: Vec<Vec<f32>>, dim: usize, precision: Precision) -> Option<Self> {
        let depth = precision.depth()?;
        let codebook = trained(&vectors, dim, depth);
        let encoder = PageEncoder::new(&codebook, depth, false);
        let coded: Vec<CodedPage> = vectors.iter().map(|page| encoder.encode(page)).collect();
        let centroids = coded.iter().map(distinct_centroids).collect();
        Some(Self { dim, depth, vectors, codebook, coded, centroids })
    }

    /// Number of centroids.
    pub fn centroids(&self) -> usize {
        self.codebook.len()
    }

    /// Trains the codebook anew; returns the number of centroids.
    pub fn train(&self) -> usize {
        trained(&self.vectors, self.dim, self.depth).len()
    }

    /// Finds the nearest centroid of each token of a page.
    pub fn assign(&self, page: usize) -> Vec<u16> {
        self.codebook.assign(&self.vectors[page])
    }

    /// The mean cosine of a page's tokens, each of length 1, to their nearest centroid.
    pub fn cosine(&self, page: usize) -> f32 {
        let (vectors, mut centroid) = (&self.vectors[page], vec![0.0; self.dim]);
        let cosine = |(token, nearest): (&[f32], u16)| {
            self.codebook.centroid(usize::from(nearest), &mut centroid);
            let length = centroid.iter().map(|value| value * value).sum::<f32>().sqrt();
            token.iter().zip(&centroid).map(|(one, other)| one * other).sum::<f32>() / length
        };
        let cosines = vectors.chunks_exact(self.dim).zip(self.assign(page)).map(cosine);
        cosines.sum::<f32>() / (vectors.len() / self.dim) as f32
    }

    /// Encodes a page by the codebook; returns its bytes.
    pub fn encode(&self, page: usize) -> usize {
        PageEncoder::new(&self.codebook, self.depth, false).encode(&self.vectors[page]).record.len()
    }

    /// Encodes a page without a codebook; returns its bytes.
    pub fn encode_direct(&self, page: usize) -> usize {
        encode_direct(&self.vectors[page], self.dim, false).record.len()
    }

    /// Compares `query tokens x dim` with all centroids.
    pub fn compare(&self, query: &[f32]) -> Query {
        let lanes = QueryLanes::new(query, self.dim, Grade::Refined);
        Query {
            rows: self.codebook.rows(&lanes),
            best: vec![0.0; lanes.lanes()],
            lanes,
            scales: Vec::new(),
            levels: Lines::default(),
            centroids: Vec::new(),
        }
    }

    /// The query's scores with centroids as bytes.
    pub fn byte_rows(&self, query: &Query) -> ByteRows {
        let stride = query.lanes.tokens().next_multiple_of(ROW_STEP);
        let mut bytes = vec![0; self.codebook.len() * stride];
        let highest = query.rows.values().iter().copied().fold(f32::MIN_POSITIVE, f32::max);
        for (row, bytes) in query.rows.values().chunks_exact(query.lanes.lanes()).zip(bytes.chunks_exact_mut(stride)) {
            row.iter().zip(bytes).for_each(|(score, byte)| *byte = (255.0 * score / highest) as u8);
        }
        ByteRows { stride, bytes, best: vec![0; stride] }
    }

    /// Scores a page by its centroids.
    pub fn centroid_score(&self, rows: &mut ByteRows, page: usize) -> u32 {
        let table = ByteTable { bytes: &rows.bytes, stride: rows.stride };
        best_bytes(table, &self.centroids[page], &mut rows.best);
        rows.best.iter().map(|byte| u32::from(*byte)).sum()
    }

    /// Scores a page by the coarse codes of all its tokens; searches leave out those that cannot be the best.
    pub fn coarse_score(&self, query: &mut Query, page: usize) -> f32 {
        self.score(query, page, self.depth.min(Depth::Four), Grade::Coarse)
    }

    /// Scores a page by all of its codes.
    pub fn full_score(&self, query: &mut Query, page: usize) -> f32 {
        self.score(query, page, self.depth, Grade::Refined)
    }

    fn score(&self, query: &mut Query, page: usize, depth: Depth, grade: Grade) -> f32 {
        let Query { lanes, rows, best, scales, levels, centroids, .. } = query;
        let coded = &self.coded[page];
        centroids.clear();
        for group in &coded.groups {
            centroids.extend((0..=group.more).map(|_| group.centroid));
        }
        let Some(record) = CodedRecord::cut(&coded.record, centroids.len(), self.dim, depth) else { return 0.0 };
        record.scales(scales);
        record.levels(self.dim, levels);
        best.fill(f32::NEG_INFINITY);
        let rows = Some(Rows { table: rows.values(), centroids });
        raise_best(lanes, grade, Tokens { levels: levels.values(), scales, rows }, best);
        lanes.total(best)
    }
}

fn trained(vectors: &[Vec<f32>], dim: usize, depth: Depth) -> Codebook {
    let tokens = vectors.iter().map(|page| (page.len() / dim) as u64).sum();
    let sample: Vec<Vec<f32>> = sampled_pages(vectors.len(), tokens).map(|page| vectors[page].clone()).collect();
    train(&sample, dim, tokens, depth, 0)
}

fn distinct_centroids(page: &CodedPage) -> Vec<[u8; 2]> {
    let mut centroids: Vec<u16> = page.groups.iter().map(|group| group.centroid).collect();
    centroids.dedup();
    centroids.into_iter().map(u16::to_le_bytes).collect()
}
