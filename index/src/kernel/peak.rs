//! How fast a machine multiplies at most: independent sums in registers, no loads. What benches measure kernels against.

/// Runs that many rounds and returns the operations done, two per multiply-add.
pub(crate) type Loop = fn(u64) -> u64;

/// Sums that are added to in turn: more than latency times instructions per cycle on any machine so far.
#[cfg(target_arch = "x86_64")]
const SUMS: usize = 12;

#[cfg(target_arch = "x86_64")]
macro_rules! peak_loop {
    ($name:ident, $features:literal, $type:ty, $zero:expr, $operations:expr, $add:expr) => {
        /// # Safety
        /// The machine has the instruction set that this is named after.
        #[target_feature(enable = $features)]
        pub(super) unsafe fn $name(rounds: u64) -> u64 {
            use std::arch::x86_64::*;
            use std::hint::black_box;

            let (one, two): ($type, $type) = (black_box($zero), black_box($zero));
            let mut sums: [$type; SUMS] = [$zero; SUMS];
            for _ in 0..rounds {
                for sum in &mut sums {
                    *sum = $add(*sum, one, two);
                }
            }
            black_box(sums);
            rounds * SUMS as u64 * $operations
        }
    };
}

#[cfg(target_arch = "x86_64")]
peak_loop!(vnni, "avx512vnni,avx512vl,avx2", __m256i, _mm256_setzero_si256(), 2 * 32, |sum, one, two| {
    _mm256_dpbusd_epi32(sum, one, two)
});
#[cfg(target_arch = "x86_64")]
peak_loop!(vnni_wide, "avx512f,avx512vnni", __m512i, _mm512_setzero_si512(), 2 * 64, |sum, one, two| {
    _mm512_dpbusd_epi32(sum, one, two)
});
// The addition is to a product that does not change, and still has to wait for nothing but the sum.
#[cfg(target_arch = "x86_64")]
peak_loop!(avx2, "avx2", __m256i, _mm256_setzero_si256(), 2 * 16, |sum, one, two| {
    _mm256_madd_epi16(_mm256_xor_si256(sum, one), two)
});
#[cfg(target_arch = "x86_64")]
peak_loop!(fused_wide, "avx512f", __m512, _mm512_setzero_ps(), 2 * 16, |sum, one, two| _mm512_fmadd_ps(one, two, sum));
#[cfg(target_arch = "x86_64")]
peak_loop!(fused, "avx2,fma", __m256, _mm256_setzero_ps(), 2 * 8, |sum, one, two| _mm256_fmadd_ps(one, two, sum));

/// Of 8-bit multiply-adds (16-bit ones in `avx2`), by the names of the instruction sets' modules.
#[cfg(target_arch = "x86_64")]
pub(super) fn integer_peaks() -> Vec<(&'static str, Loop)> {
    if super::vnni::is_present() {
        // SAFETY: it was just found, and with it AVX-512 as a whole.
        let wide: Loop = |rounds| unsafe { vnni_wide(rounds) };
        // SAFETY: it was just found.
        return vec![("vnni_wide", wide), ("vnni", |rounds| unsafe { vnni(rounds) })];
    }
    if super::avx2::is_present() {
        // SAFETY: it was just found.
        return vec![("avx2", |rounds| unsafe { avx2(rounds) })];
    }
    Vec::new()
}

#[cfg(not(target_arch = "x86_64"))]
pub(super) fn integer_peaks() -> Vec<(&'static str, Loop)> {
    Vec::new()
}

/// Of f32 multiply-adds in the registers that MaxSim of f16 pages uses.
pub(super) fn fused_peak() -> Option<Loop> {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: it was just found.
            return Some(|rounds| unsafe { fused_wide(rounds) });
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: both were just found.
            return Some(|rounds| unsafe { fused(rounds) });
        }
    }
    None
}
