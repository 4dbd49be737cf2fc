//! The centroids that the tokens of a segment are described by.

use std::sync::OnceLock;

use tantivy::directory::OwnedBytes;

use super::Calibration;
use crate::bytes::{ByteReader, Malformed};
use crate::kernel::levels::{ZERO_LEVEL, level_width};
use crate::kernel::{Grade, Lines, QueryLanes, lanes};
use crate::rounding::{rounded, whole};
use crate::vectors::largest;

/// The most centroids: ids are u16.
const MOST_CENTROIDS: usize = 1 << 16;

/// Tokens that are assigned at once: their int8 copies stay in the first-level cache, and fill whole registers of every machine.
const BATCH: usize = 32;

/// Centroids in 8 bits with a scale each.
///
/// ```text
/// centroids u32 | dim u32 | trained tokens u64 | created u64, seconds since 1970 | calibration: offset f32, slope f32
/// | scales f32 each | levels u8, centroids x width
/// ```
#[derive(Clone, Debug)]
pub(crate) struct Codebook {
    /// Known once somebody asks: codebooks on their way through training are nobody's.
    id: OnceLock<[u8; 16]>,
    dim: usize,
    pub trained_tokens: u64,
    pub created: u64,
    pub calibration: Calibration,
    scales: Vec<f32>,
    half_norms: Vec<f32>,
    levels: OwnedBytes,
}

impl Codebook {
    /// Quantizes `centroids`, `count x dim`.
    pub fn new(centroids: &[f32], dim: usize, trained_tokens: u64, created: u64) -> Self {
        let width = level_width(dim);
        let mut scales = Vec::with_capacity(centroids.len() / dim);
        let mut levels = Vec::with_capacity(centroids.len() / dim * width);
        for centroid in centroids.chunks_exact(dim) {
            let largest = largest(centroid);
            let scale = if largest >= 127.0 * f32::MIN_POSITIVE { largest / 127.0 } else { 1.0 };
            scales.push(scale);
            levels.extend(centroid.iter().map(|value| whole(rounded(value / scale) + f32::from(ZERO_LEVEL)) as u8));
            levels.resize(scales.len() * width, ZERO_LEVEL);
        }
        Self {
            id: OnceLock::new(),
            dim,
            trained_tokens,
            created,
            calibration: Calibration::NONE,
            half_norms: half_norms(&levels, &scales, width),
            scales,
            levels: OwnedBytes::new(levels),
        }
    }

    /// Sets the correction of scores.
    pub fn with_calibration(mut self, calibration: Calibration) -> Self {
        self.calibration = calibration;
        self.id = OnceLock::new();
        self
    }

    /// Codebooks with equal ids are equal: the first 16 bytes of the BLAKE3 of the encoded codebook.
    pub fn id(&self) -> [u8; 16] {
        *self.id.get_or_init(|| {
            let mut bytes = Vec::with_capacity(self.num_bytes());
            self.encode(&mut bytes);
            identity(&bytes)
        })
    }

    /// How many centroids for so many tokens: 8 times the square root, half of PLAID's 16 (Santhanam et al., 2022), as each
    /// costs bytes. With 4 times, twice as many pages have to be scored by codes for the same recall
    /// (`benches/end_to_end`, text and pages); 16 times gain little more.
    pub fn centroids_for(tokens: u64) -> usize {
        ((8.0 * (tokens as f64).sqrt()) as usize).next_multiple_of(16).clamp(16, MOST_CENTROIDS)
    }

    /// Number of centroids.
    pub fn len(&self) -> usize {
        self.scales.len()
    }

    /// Values per centroid.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Writes one centroid's `dim` values.
    pub fn centroid(&self, index: usize, values: &mut [f32]) {
        let levels = &self.levels[index * level_width(self.dim)..];
        for (value, level) in values.iter_mut().zip(levels) {
            *value = (f32::from(*level) - f32::from(ZERO_LEVEL)) * self.scales[index];
        }
    }

    /// The nearest centroid of each token; `tokens` is `tokens x dim`.
    pub fn assign(&self, tokens: &[f32]) -> Vec<u16> {
        let mut nearest = vec![0u32; (tokens.len() / self.dim).next_multiple_of(BATCH)];
        for (batch, found) in tokens.chunks(BATCH * self.dim).zip(nearest.chunks_exact_mut(BATCH)) {
            let lanes = QueryLanes::new(batch, self.dim, Grade::Coarse);
            lanes::nearest(&lanes, &self.levels, &self.scales, &self.half_norms, &mut found[..lanes.lanes()]);
        }
        nearest.truncate(tokens.len() / self.dim);
        nearest.into_iter().map(|index| index as u16).collect()
    }

    /// The lane scores of all centroids, `centroids x lanes`.
    pub fn rows(&self, query: &QueryLanes) -> Lines<f32> {
        let mut rows = Lines::new(self.len() * query.lanes());
        lanes::fill_rows(query, Grade::Refined, &self.levels, &self.scales, rows.values_mut());
        rows
    }

    /// Bytes in a segment file.
    pub fn num_bytes(&self) -> usize {
        32 + self.scales.len() * 4 + self.levels.len()
    }

    pub fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&(self.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&(self.dim as u32).to_le_bytes());
        bytes.extend_from_slice(&self.trained_tokens.to_le_bytes());
        bytes.extend_from_slice(&self.created.to_le_bytes());
        bytes.extend_from_slice(&self.calibration.offset.to_le_bytes());
        bytes.extend_from_slice(&self.calibration.slope.to_le_bytes());
        self.scales.iter().for_each(|scale| bytes.extend_from_slice(&scale.to_le_bytes()));
        bytes.extend_from_slice(&self.levels);
    }

    /// Reads a codebook off the front of `bytes`; its levels stay where they are.
    pub fn decode(bytes: &mut OwnedBytes) -> Result<Self, Malformed> {
        let mut reader = ByteReader(bytes.as_slice());
        let (count, dim) = (reader.u32()? as usize, reader.u32()? as usize);
        let (trained_tokens, created) = (reader.u64()?, reader.u64()?);
        let calibration = Calibration { offset: reader.f32()?, slope: reader.f32()? };
        if count == 0 || count > MOST_CENTROIDS || dim == 0 || !calibration.is_sane() {
            return Err(Malformed);
        }
        let scales = (0..count).map(|_| reader.f32()).collect::<Result<Vec<_>, _>>()?;
        let start = bytes.len() - reader.0.len();
        let end = start + count.checked_mul(level_width(dim)).ok_or(Malformed)?;
        if end > bytes.len() {
            return Err(Malformed);
        }
        let levels = bytes.slice(start..end);
        let id = OnceLock::from(identity(&bytes[..end]));
        bytes.advance(end);
        let half_norms = half_norms(&levels, &scales, level_width(dim));
        Ok(Self { id, dim, trained_tokens, created, calibration, scales, half_norms, levels })
    }
}

fn identity(encoded: &[u8]) -> [u8; 16] {
    let mut id = [0; 16];
    id.copy_from_slice(&blake3::hash(encoded).as_bytes()[..16]);
    id
}

/// Half the squared length of each centroid: what a dot product lacks of a distance.
fn half_norms(levels: &[u8], scales: &[f32], width: usize) -> Vec<f32> {
    let squared = |levels: &[u8]| -> i64 { levels.iter().map(|level| (i64::from(*level) - 128).pow(2)).sum() };
    levels.chunks_exact(width).zip(scales).map(|(levels, scale)| squared(levels) as f32 * scale * scale / 2.0).collect()
}
