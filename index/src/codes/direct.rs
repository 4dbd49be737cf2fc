//! Codes without a codebook: 8 bits per value and a scale per token, for segments too small to describe by centroids.

use half::f16;

use super::CodedPage;
use crate::bytes::put_halves;
use crate::kernel::levels::{ZERO_LEVEL, level_width};
use crate::rounding::{rounded, whole};
use crate::vectors::{largest, length};

/// Encodes `vectors`, `tokens x dim`, as [`DirectRecord`](super::DirectRecord) reads them; the f16 copy follows where it is
/// kept.
pub(crate) fn encode_direct(vectors: &[f32], dim: usize, keeps_f16: bool) -> CodedPage {
    let tokens = vectors.len() / dim;
    let mut record = Vec::with_capacity(tokens * (2 + level_width(dim)));
    let scale = |token: &[f32]| {
        let largest = largest(token);
        // Rounded up, so that no value is cut off.
        let scale = f16::from_f32(largest / 127.0);
        if scale.to_f32() * 127.0 < largest { f16::from_bits(scale.to_bits() + 1) } else { scale }
    };
    let scales: Vec<f16> = vectors.chunks_exact(dim).map(scale).collect();
    record.extend(scales.iter().flat_map(|scale| scale.to_le_bytes()));
    for (token, scale) in vectors.chunks_exact(dim).zip(scales) {
        let by = if scale.to_f32() > 0.0 { 1.0 / scale.to_f32() } else { 0.0 };
        let level = |value: &f32| rounded(value * by).clamp(-127.0, 127.0) + f32::from(ZERO_LEVEL);
        record.extend(token.iter().map(|value| whole(level(value)) as u8));
        record.resize(record.len() + level_width(dim) - dim, ZERO_LEVEL);
    }
    // What rounding to levels changes in any token, at most.
    let rounded = largest(vectors) / 254.0 * (dim as f32).sqrt();
    let longest = vectors.chunks_exact(dim).map(length).fold(0.0, f32::max);
    let coarse_error = if keeps_f16 { rounded } else { 0.0 };
    if keeps_f16 {
        put_halves(vectors, &mut record);
    }
    CodedPage { record, groups: Vec::new(), radius: longest + rounded, coarse_error }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codes::DirectRecord;

    #[test]
    fn direct_codes_keep_a_hundredth() {
        let vectors: Vec<f32> = (0..30).map(|at| ((at * 37 % 19) as f32 - 9.0) * 0.03).collect();
        let page = encode_direct(&vectors, 10, false).record;
        assert_eq!(page.len(), DirectRecord::length(3, 10));
        let values = DirectRecord::cut(&page, 3, 10).unwrap().values(10);
        for (one, two) in values.iter().zip(&vectors) {
            assert!((one - two).abs() < 0.27 / 127.0, "{one} for {two}");
        }
        assert!(DirectRecord::cut(&page[1..], 3, 10).is_none());
    }
}
