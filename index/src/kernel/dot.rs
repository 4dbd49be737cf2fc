//! Dot products of one page token with query tokens, written so that the compiler vectorises them.

/// Values per step: one AVX-512 register, two of AVX2, four of NEON.
const LANES: usize = 16;

/// Query tokens that share each load of the page token.
pub(super) const GROUP: usize = 4;

/// `a * b + c`, fused where the instruction set has it (a library call otherwise, hundreds of times slower).
#[inline(always)]
fn multiply_add<const FUSED: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

/// The dot products of `page` with `N` query tokens, all of the same length.
#[inline(always)]
pub(super) fn dots<const FUSED: bool, const N: usize>(query: [&[f32]; N], page: &[f32]) -> [f32; N] {
    let dim = page.len();
    let whole = dim - dim % LANES;
    let mut sums = [[0.0f32; LANES]; N];
    for start in (0..whole).step_by(LANES) {
        let page_lanes = &page[start..start + LANES];
        for (sum, token) in sums.iter_mut().zip(query) {
            let lanes = &token[start..start + LANES];
            for lane in 0..LANES {
                sum[lane] = multiply_add::<FUSED>(lanes[lane], page_lanes[lane], sum[lane]);
            }
        }
    }
    let mut results = [0.0; N];
    for ((result, sum), token) in results.iter_mut().zip(sums).zip(query) {
        let tail = token[whole..].iter().zip(&page[whole..]).map(|(one, two)| one * two).sum::<f32>();
        *result = sum.iter().sum::<f32>() + tail;
    }
    results
}
