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
    let (page_lanes, page_tail) = page.as_chunks::<LANES>();
    let whole = page_lanes.len();
    let query_lanes: [&[[f32; LANES]]; N] = query.map(|token| &token.as_chunks::<LANES>().0[..whole]);
    let mut sums = [[0.0f32; LANES]; N];
    // Loops by index over arrays of known size: iterators here keep the sums in memory instead of registers.
    for at in 0..whole {
        let lanes = page_lanes[at];
        for token in 0..N {
            let query_token = &query_lanes[token][at];
            for lane in 0..LANES {
                sums[token][lane] = multiply_add::<FUSED>(query_token[lane], lanes[lane], sums[token][lane]);
            }
        }
    }
    std::array::from_fn(|token| {
        let tail = query[token][whole * LANES..].iter().zip(page_tail).map(|(one, two)| one * two).sum::<f32>();
        add_lanes(sums[token]) + tail
    })
}

/// The sum of all lanes, by halves.
#[inline(always)]
fn add_lanes(mut lanes: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
        width /= 2;
    }
    lanes[0]
}
