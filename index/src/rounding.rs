//! Rounding in a few instructions that every machine has for several numbers at once: `round` is a call where the compiler may
//! not count on SSE4.1, and casts check each number for what does not fit.

/// Added to a number of a magnitude below [`LIMIT`], this leaves the nearest whole number in the last bits.
const SHIFT: f32 = 1.5 * (1u32 << 23) as f32;

/// What magnitudes must stay below.
#[cfg(test)]
const LIMIT: f32 = (1u32 << 22) as f32;

/// `value.round()`, a zero's sign aside, for magnitudes below 2^22.
pub(crate) fn rounded(value: f32) -> f32 {
    let nearest = (value + SHIFT) - SHIFT;
    // Halves went to the even neighbour.
    if (value - nearest).abs() == 0.5 { value + 0.5f32.copysign(value) } else { nearest }
}

/// A whole number of a magnitude below 2^22.
pub(crate) fn whole(value: f32) -> i32 {
    (value + SHIFT).to_bits().wrapping_sub(SHIFT.to_bits()) as i32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn rounded_is_round(value in prop_oneof![-130.0f32..130.0, (1.0 - LIMIT)..(LIMIT - 1.0)], half in -999i32..999) {
            for value in [value, half as f32 + 0.5, (half as f32 + 0.5).next_down(), (half as f32 + 0.5).next_up()] {
                prop_assert_eq!(rounded(value), value.round());
                prop_assert_eq!(whole(rounded(value)), value.round() as i32);
            }
        }
    }
}
