//! Rows of byte scores, one per centroid: the best of a page's rows.

/// The bytes of one row that are looked at together.
pub(crate) const ROW_STEP: usize = 32;

/// Byte scores of centroids, `centroids x stride`; `stride` is a multiple of [`ROW_STEP`].
#[derive(Clone, Copy)]
pub(crate) struct ByteTable<'a> {
    pub bytes: &'a [u8],
    pub stride: usize,
}

impl<'a> ByteTable<'a> {
    /// The row of a centroid, u16 little-endian.
    pub fn row(self, centroid: [u8; 2]) -> &'a [u8] {
        let start = usize::from(u16::from_le_bytes(centroid)) * self.stride;
        &self.bytes[start..start + self.stride]
    }

    fn part(&self, centroid: [u8; 2], step: usize) -> &[u8; ROW_STEP] {
        let start = usize::from(u16::from_le_bytes(centroid)) * self.stride + step * ROW_STEP;
        self.bytes[start..].first_chunk().expect("rows are of whole steps")
    }
}

/// Writes the highest byte of each column among the rows of `centroids` (u16 little-endian each); `best` is of `stride` bytes.
#[inline(always)]
fn best_bytes_by(table: ByteTable<'_>, centroids: &[[u8; 2]], best: &mut [u8]) {
    for (step, best) in best.as_chunks_mut::<ROW_STEP>().0.iter_mut().enumerate() {
        let mut highest = [0u8; ROW_STEP];
        for centroid in centroids {
            let row = table.part(*centroid, step);
            for lane in 0..ROW_STEP {
                highest[lane] = highest[lane].max(row[lane]);
            }
        }
        *best = highest;
    }
}

/// Writes the highest byte of each column among the rows of `centroids` (u16 little-endian each); `best` is of `stride` bytes.
pub(crate) fn best_bytes(table: ByteTable<'_>, centroids: &[[u8; 2]], best: &mut [u8]) {
    #[cfg(target_arch = "x86_64")]
    if super::avx2::is_present() {
        // SAFETY: it was just found to be present.
        return unsafe { avx2::best_bytes(table, centroids, best) };
    }
    best_bytes_by(table, centroids, best);
}

/// Writes for each row and each step of it which columns reach `least`, one bit per column.
#[inline(always)]
fn reaching_by<'a>(rows: impl Iterator<Item = &'a [u8]>, least: &[u8], masks: &mut Vec<u32>) {
    masks.clear();
    for row in rows {
        for (row, least) in row.as_chunks::<ROW_STEP>().0.iter().zip(least.as_chunks::<ROW_STEP>().0) {
            masks.push((0..ROW_STEP).fold(0, |mask, lane| mask | u32::from(row[lane] >= least[lane]) << lane));
        }
    }
}

/// Writes for each row and each step of it which columns reach `least` (as long as a row), one bit per column.
pub(crate) fn reaching<'a>(rows: impl Iterator<Item = &'a [u8]>, least: &[u8], masks: &mut Vec<u32>) {
    #[cfg(target_arch = "x86_64")]
    if super::avx2::is_present() {
        // SAFETY: it was just found to be present.
        return unsafe { avx2::reaching(rows, least, masks) };
    }
    reaching_by(rows, least, masks);
}

/// The sum and the highest value of each column of `rows`, `centroids x width`.
#[inline(always)]
fn sums_by(rows: &[f32], sums: &mut [f32], highest: &mut [f32]) {
    for row in rows.chunks_exact(sums.len()) {
        for ((value, sum), most) in row.iter().zip(&mut *sums).zip(&mut *highest) {
            *sum += value;
            *most = if value > most { *value } else { *most };
        }
    }
}

/// Adds to `sums` and raises `highest` by the columns of `rows`; both are of one row's length.
pub(crate) fn sums(rows: &[f32], sums: &mut [f32], highest: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if super::avx2::is_present() {
        // SAFETY: it was just found to be present.
        return unsafe { avx2::sums(rows, sums, highest) };
    }
    sums_by(rows, sums, highest);
}

/// Writes rows as bytes, `(value - means) * by` rounded up and cut to what a byte holds; further columns stay as they are.
#[inline(always)]
fn to_bytes_by(rows: &[f32], means: &[f32], by: &[f32], bytes: &mut [u8], stride: usize) {
    for (row, bytes) in rows.chunks_exact(means.len()).zip(bytes.chunks_exact_mut(stride)) {
        for (((value, mean), by), byte) in row.iter().zip(means).zip(by).zip(bytes) {
            *byte = ((value - mean) * by).ceil().clamp(0.0, 255.0) as i32 as u8;
        }
    }
}

/// Writes `rows`, `centroids x columns` (a multiple of 8), as bytes, `centroids x stride`: `(value - means) * by` rounded up and cut to what a
/// byte holds. Bytes beyond the columns stay as they are.
pub(crate) fn to_bytes(rows: &[f32], means: &[f32], by: &[f32], bytes: &mut [u8], stride: usize) {
    #[cfg(target_arch = "x86_64")]
    if super::avx2::is_present() {
        // SAFETY: it was just found to be present.
        return unsafe { avx2::to_bytes(rows, means, by, bytes, stride) };
    }
    to_bytes_by(rows, means, by, bytes, stride);
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::*;

    use super::{ByteTable, ROW_STEP, best_bytes_by, sums_by};

    #[target_feature(enable = "avx2")]
    pub(super) fn best_bytes(table: ByteTable<'_>, centroids: &[[u8; 2]], best: &mut [u8]) {
        best_bytes_by(table, centroids, best);
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn sums(rows: &[f32], sums: &mut [f32], highest: &mut [f32]) {
        sums_by(rows, sums, highest);
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn to_bytes(rows: &[f32], means: &[f32], by: &[f32], bytes: &mut [u8], stride: usize) {
        let (means, by) = (means.as_chunks::<8>().0, by.as_chunks::<8>().0);
        for (row, bytes) in rows.chunks_exact(8 * means.len()).zip(bytes.chunks_exact_mut(stride)) {
            let lanes = row.as_chunks::<8>().0.iter().zip(means).zip(by);
            for (((value, mean), by), bytes) in lanes.zip(bytes.as_chunks_mut::<8>().0) {
                // SAFETY: all are of 8 values.
                let (value, mean, by) = unsafe {
                    let load = |values: &[f32; 8]| _mm256_loadu_ps(values.as_ptr());
                    (load(value), load(mean), load(by))
                };
                let raised = _mm256_ceil_ps(_mm256_mul_ps(_mm256_sub_ps(value, mean), by));
                let cut = _mm256_min_ps(_mm256_max_ps(raised, _mm256_setzero_ps()), _mm256_set1_ps(255.0));
                let whole = _mm256_cvttps_epi32(cut);
                let pairs = _mm_packus_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256::<1>(whole));
                *bytes = _mm_cvtsi128_si64(_mm_packus_epi16(pairs, pairs)).to_le_bytes();
            }
        }
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn reaching<'a>(rows: impl Iterator<Item = &'a [u8]>, least: &[u8], masks: &mut Vec<u32>) {
        masks.clear();
        for row in rows {
            for (row, least) in row.as_chunks::<ROW_STEP>().0.iter().zip(least.as_chunks::<ROW_STEP>().0) {
                // SAFETY: both are of 32 bytes.
                let (row, least) = unsafe {
                    let load = |bytes: &[u8; ROW_STEP]| _mm256_loadu_si256(bytes.as_ptr().cast());
                    (load(row), load(least))
                };
                let reached = _mm256_cmpeq_epi8(_mm256_max_epu8(row, least), row);
                masks.push(_mm256_movemask_epi8(reached) as u32);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn machines_agree_with_the_portable_version(
            bytes in prop::collection::vec(any::<u8>(), 64 * 5), places in prop::collection::vec(0u16..5, 0..9),
        ) {
            let table = ByteTable { bytes: &bytes, stride: 64 };
            let centroids: Vec<[u8; 2]> = places.iter().map(|place| place.to_le_bytes()).collect();
            let (mut best, mut expected) = (vec![9; 64], vec![9; 64]);
            best_bytes(table, &centroids, &mut best);
            best_bytes_by(table, &centroids, &mut expected);
            prop_assert_eq!(&best, &expected);
            let column = |lane: usize| places.iter().map(|place| bytes[usize::from(*place) * 64 + lane]).max();
            prop_assert!((0..64).all(|lane| best[lane] == column(lane).unwrap_or(0)));
            let least: Vec<u8> = best.iter().map(|byte| byte.saturating_sub(40)).collect();
            let (mut masks, mut expected) = (vec![1], vec![2]);
            reaching(centroids.iter().map(|centroid| table.row(*centroid)), &least, &mut masks);
            reaching_by(centroids.iter().map(|centroid| table.row(*centroid)), &least, &mut expected);
            prop_assert_eq!(&masks, &expected);
            let reached = |place: u16, lane: usize| bytes[usize::from(place) * 64 + lane] >= least[lane];
            for (at, place) in places.iter().enumerate() {
                let bit = |lane: usize| masks[2 * at + lane / 32] >> (lane % 32) & 1 == 1;
                prop_assert!((0..64).all(|lane| bit(lane) == reached(*place, lane)));
            }
        }

        #[test]
        fn rows_become_bytes_alike_on_all_machines(
            rows in prop::collection::vec(-2.0f32..2.0, 24 * 5), means in prop::collection::vec(-1.0f32..1.0, 24),
            by in prop::collection::vec(0.0f32..400.0, 24),
        ) {
            let (mut bytes, mut expected) = (vec![3; 32 * 5], vec![3; 32 * 5]);
            to_bytes(&rows, &means, &by, &mut bytes, 32);
            to_bytes_by(&rows, &means, &by, &mut expected, 32);
            prop_assert_eq!(&bytes, &expected);
            for (at, value) in rows.iter().enumerate() {
                let (row, column) = (at / 24, at % 24);
                let exact = (value - means[column]) * by[column];
                let byte = f32::from(bytes[row * 32 + column]);
                prop_assert!(byte == exact.clamp(0.0, 255.0) || byte - exact.clamp(0.0, 255.0) < 1.0);
                prop_assert!(byte >= exact.min(255.0) && bytes[row * 32 + 24..][..8] == [3; 8]);
            }
            let (mut sum, mut most) = (vec![0.0; 24], vec![f32::NEG_INFINITY; 24]);
            sums(&rows, &mut sum, &mut most);
            let column = |at: usize| rows.iter().skip(at).step_by(24);
            prop_assert!((0..24).all(|at| most[at] == column(at).copied().fold(f32::NEG_INFINITY, f32::max)));
            prop_assert!((0..24).all(|at| (sum[at] - column(at).sum::<f32>()).abs() < 1e-4));
        }
    }
}
