//! Rows of byte scores, one per centroid: the best of a page's rows.

/// The bytes of one row that are looked at together.
pub(crate) const ROW_STEP: usize = 32;

/// Byte scores of centroids, `centroids x stride`; `stride` is a multiple of [`ROW_STEP`].
#[derive(Clone, Copy)]
pub(crate) struct ByteTable<'a> {
    pub bytes: &'a [u8],
    pub stride: usize,
}

impl ByteTable<'_> {
    fn part(&self, centroid: [u8; 2], step: usize) -> &[u8; ROW_STEP] {
        let start = usize::from(u16::from_le_bytes(centroid)) * self.stride + step * ROW_STEP;
        self.bytes[start..start + ROW_STEP].as_array().expect("a slice of this length")
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

/// Writes for each row of `centroids` and each step of it which columns reach `least`, one bit per column.
#[inline(always)]
fn reaching_by(table: ByteTable<'_>, centroids: &[[u8; 2]], least: &[u8], masks: &mut Vec<u32>) {
    masks.clear();
    for centroid in centroids {
        for (step, least) in least.as_chunks::<ROW_STEP>().0.iter().enumerate() {
            let row = table.part(*centroid, step);
            let mut mask = 0u32;
            for lane in 0..ROW_STEP {
                mask |= u32::from(row[lane] >= least[lane]) << lane;
            }
            masks.push(mask);
        }
    }
}

/// Writes for each row of `centroids` and each step of it which columns reach `least` (`stride` bytes), one bit per column.
pub(crate) fn reaching(table: ByteTable<'_>, centroids: &[[u8; 2]], least: &[u8], masks: &mut Vec<u32>) {
    #[cfg(target_arch = "x86_64")]
    if super::avx2::is_present() {
        // SAFETY: it was just found to be present.
        return unsafe { avx2::reaching(table, centroids, least, masks) };
    }
    reaching_by(table, centroids, least, masks);
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::*;

    use super::{ByteTable, ROW_STEP, best_bytes_by};

    #[target_feature(enable = "avx2")]
    pub(super) fn best_bytes(table: ByteTable<'_>, centroids: &[[u8; 2]], best: &mut [u8]) {
        best_bytes_by(table, centroids, best);
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn reaching(table: ByteTable<'_>, centroids: &[[u8; 2]], least: &[u8], masks: &mut Vec<u32>) {
        masks.clear();
        for centroid in centroids {
            for (step, least) in least.as_chunks::<ROW_STEP>().0.iter().enumerate() {
                // SAFETY: both are of 32 bytes.
                let (row, least) = unsafe {
                    let load = |bytes: &[u8; ROW_STEP]| _mm256_loadu_si256(bytes.as_ptr().cast());
                    (load(table.part(*centroid, step)), load(least))
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
            reaching(table, &centroids, &least, &mut masks);
            reaching_by(table, &centroids, &least, &mut expected);
            prop_assert_eq!(&masks, &expected);
            let reached = |place: u16, lane: usize| bytes[usize::from(place) * 64 + lane] >= least[lane];
            for (at, place) in places.iter().enumerate() {
                let bit = |lane: usize| masks[2 * at + lane / 32] >> (lane % 32) & 1 == 1;
                prop_assert!((0..64).all(|lane| bit(lane) == reached(*place, lane)));
            }
        }
    }
}
