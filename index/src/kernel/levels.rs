//! Residual levels: what the 2, 4 and 8 bits of one value stand for, and how bit planes become levels again.
//!
//! A residual value is measured in units of its token's scale `s`, about the standard deviation of the token's residual.
//! Levels are those of Lloyd (1957/1982) and Max (1960) for a normal distribution. Planes are nested: the first holds 2
//! bits (sign, and whether the magnitude is above .98 s), the second 2 more (which quarter of that cell), the third 4 more
//! (where in the quarter, evenly). A coarse pass reads the first two at most.
//!
//! Planes of one token, `width` = dim rounded up to 4, `part` = width / 4: first and second plane `part` bytes each, bits
//! `2p` of byte `i` for value `p * part + i`; third plane `2 * part` bytes, low half of byte `i` for value `i`, high half for
//! value `2 * part + i`. Levels are bytes `128 + level`.

use std::sync::LazyLock;

/// What a level byte holds for a value of zero.
pub(crate) const ZERO_LEVEL: u8 = 128;

/// Bytes of levels per token: the dimension, rounded up so that four values make one step of the dot product.
pub(crate) fn level_width(dim: usize) -> usize {
    dim.next_multiple_of(4)
}

/// How finely residual values are stored.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub(crate) enum Depth {
    /// The first plane.
    Two,
    /// The first and second.
    Four,
    /// All three.
    Eight,
}

impl Depth {
    /// Levels per unit of the token's scale.
    pub fn unit(self) -> f32 {
        match self {
            Self::Two => 72.85,
            Self::Four => 45.0,
            Self::Eight => 32.0,
        }
    }

    /// Bytes of the planes of one token.
    pub fn bytes_per_token(self, dim: usize) -> usize {
        let part = level_width(dim) / 4;
        match self {
            Self::Two => part,
            Self::Four => 2 * part,
            Self::Eight => 4 * part,
        }
    }

    /// The level of `sign | quarter << 4 | step` read this deep, in units of `1 / unit()` of the scale.
    pub fn level(self, code: u8) -> f32 {
        let level = match self {
            Self::Two => TWO_LEVELS[usize::from(code >> 6)],
            Self::Four => FOUR_LEVELS[usize::from(code >> 4)],
            Self::Eight => EIGHT_LEVELS[usize::from(code)],
        };
        f32::from(level) - f32::from(ZERO_LEVEL)
    }
}

/// Magnitudes of the first plane in units of the scale at which the next cell begins: inner below, outer from here.
const OUTER: f32 = 0.9816;
/// Where quarters 1 to 7 begin, in units of the scale, the inner four first.
pub(crate) const QUARTERS: [f32; 7] = [0.2332, 0.4700, 0.7171, OUTER, 1.3346, 1.7554, 2.3275];
/// Levels of the first plane: inner, outer, in units of 1 / 72.85 of the scale.
const TWO: [u8; 2] = [33, 110];
/// Levels of two planes by quarter, in units of 1 / 45 of the scale.
const FOUR: [u8; 8] = [5, 16, 27, 38, 52, 69, 89, 120];
/// Where each quarter begins among the magnitudes of three planes, in units of 1 / 32 of the scale.
pub(crate) const STARTS: [u8; 8] = [0, 8, 15, 23, 32, 43, 56, 75];
/// How many magnitudes it spans.
pub(crate) const SPANS: [u8; 8] = [8, 7, 8, 9, 11, 13, 19, 53];
/// The largest magnitude of three planes.
pub(crate) const LARGEST: u8 = magnitude(7, 15);

/// The magnitude of three planes.
pub(crate) const fn magnitude(quarter: usize, step: u8) -> u8 {
    STARTS[quarter] + ((step as u16 * SPANS[quarter] as u16) >> 4) as u8
}

const fn signed(negative: bool, magnitude: u8) -> u8 {
    if negative { ZERO_LEVEL - magnitude } else { ZERO_LEVEL + magnitude }
}

/// Level bytes by the first plane: bit 1 is the sign (set: not negative), bit 0 whether outer.
pub(super) const TWO_LEVELS: [u8; 4] = {
    let mut levels = [0; 4];
    let mut code = 0;
    while code < 4 {
        levels[code] = signed(code & 2 == 0, TWO[code & 1]);
        code += 1;
    }
    levels
};

/// Level bytes by `first << 2 | second`.
pub(super) const FOUR_LEVELS: [u8; 16] = {
    let mut levels = [0; 16];
    let mut code = 0;
    while code < 16 {
        levels[code] = signed(code & 8 == 0, FOUR[code & 7]);
        code += 1;
    }
    levels
};

/// Level bytes by `first << 6 | second << 4 | third`.
pub(super) const EIGHT_LEVELS: [u8; 256] = {
    let mut levels = [0; 256];
    let mut code = 0;
    while code < 256 {
        levels[code] = signed(code & 128 == 0, magnitude((code >> 4) & 7, (code & 15) as u8));
        code += 1;
    }
    levels
};

/// The planes of neighbouring tokens of one page.
#[derive(Clone, Copy)]
pub(crate) struct Planes<'a> {
    /// `tokens x part` bytes.
    pub first: &'a [u8],
    /// `tokens x part` bytes; empty at [`Depth::Two`].
    pub second: &'a [u8],
    /// `tokens x 2 part` bytes; empty below [`Depth::Eight`].
    pub third: &'a [u8],
}

/// Turns planes into levels, `tokens x width` bytes, reading as deep as `depth`.
pub(crate) fn decode_levels(depth: Depth, planes: Planes<'_>, width: usize, levels: &mut [u8]) {
    static DECODE: LazyLock<Decode> = LazyLock::new(|| decoders()[0].1);
    DECODE(depth, planes, width, levels);
}

/// A version of [`decode_levels`].
pub(super) type Decode = fn(Depth, Planes<'_>, usize, &mut [u8]);

/// The versions that this machine can run and their names, the fastest first.
pub(super) fn decoders() -> Vec<(&'static str, Decode)> {
    let mut decoders: Vec<(&str, Decode)> = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        if super::planes_vbmi::is_present() {
            // SAFETY: it was just found to be present.
            decoders.push(("vbmi", |depth, planes, width, levels| unsafe {
                in_rows(super::planes_vbmi::decode, depth, planes, width, levels);
            }));
        }
        if super::avx2::is_present() {
            // SAFETY: it was just found to be present.
            decoders.push(("avx2", |depth, planes, width, levels| unsafe {
                in_rows(super::planes_avx2::decode, depth, planes, width, levels);
            }));
        }
    }
    decoders.push(("portable", decode_portable));
    decoders
}

/// Bytes of a plane that vector machines take at once. Where a part is shorter, they read into the next one, and write into the next
/// levels, which are written after.
#[cfg(target_arch = "x86_64")]
pub(super) const ROW: usize = 32;

/// Where rows begin within a part: the last one reaches back where it would reach beyond.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) fn rows(part: usize) -> impl Iterator<Item = usize> {
    (0..part).step_by(ROW).map(move |at| at.min(part.saturating_sub(ROW)))
}

/// Checks that `decode` of a vector machine may turn `tokens` tokens into levels.
#[cfg(target_arch = "x86_64")]
pub(super) fn check_rows(depth: Depth, planes: Planes<'_>, width: usize, tokens: usize, levels: &[u8]) {
    let part = width / 4;
    let holds = |bytes: &[u8], part: usize| tokens == 0 || bytes.len() >= tokens * part + ROW.saturating_sub(width / 4);
    assert!(part > 0 && holds(planes.first, part) && holds(levels, width));
    assert!(depth == Depth::Two || holds(planes.second, part));
    assert!(depth != Depth::Eight || holds(planes.third, 2 * part));
}

/// Turns planes into levels by a vector machine; the last tokens go by way of longer copies, where rows would reach beyond.
///
/// # Safety
/// The machine that `decode` is for is present.
#[cfg(target_arch = "x86_64")]
unsafe fn in_rows(
    decode: unsafe fn(Depth, Planes<'_>, usize, usize, &mut [u8]),
    depth: Depth,
    planes: Planes<'_>,
    width: usize,
    levels: &mut [u8],
) {
    let (part, tokens) = (width / 4, levels.len() / width);
    let rest = tokens.min(ROW.div_ceil(part) - 1);
    let whole = tokens - rest;
    // SAFETY: as the caller says.
    unsafe { decode(depth, planes, width, whole, levels) };
    if rest > 0 {
        // Fewer bytes than a row per part are left.
        let (mut first, mut second, mut third, mut last) = ([0; 2 * ROW], [0; 2 * ROW], [0; 4 * ROW], [0; 6 * ROW]);
        let copy = |to: &mut [u8], from: &[u8], part: usize| {
            let from = from.get(whole * part..tokens * part).unwrap_or_default();
            to[..from.len()].copy_from_slice(from);
        };
        copy(&mut first, planes.first, part);
        copy(&mut second, planes.second, part);
        copy(&mut third, planes.third, 2 * part);
        let planes = Planes { first: &first, second: &second, third: &third };
        // SAFETY: as the caller says.
        unsafe { decode(depth, planes, width, rest, &mut last) };
        levels[whole * width..][..rest * width].copy_from_slice(&last[..rest * width]);
    }
}

/// The version for all machines, and the one that the others are tested against.
pub(super) fn decode_portable(depth: Depth, planes: Planes<'_>, width: usize, levels: &mut [u8]) {
    let part = width / 4;
    for (token, levels) in levels.chunks_exact_mut(width).enumerate() {
        let first = &planes.first[token * part..][..part];
        for (p, levels) in levels.chunks_exact_mut(part).enumerate() {
            let code = |i: usize| usize::from(first[i] >> (2 * p)) & 3;
            match depth {
                Depth::Two => (0..part).for_each(|i| levels[i] = TWO_LEVELS[code(i)]),
                Depth::Four | Depth::Eight => {
                    let second = &planes.second[token * part..][..part];
                    let code = |i: usize| code(i) << 2 | usize::from(second[i] >> (2 * p)) & 3;
                    if depth == Depth::Four {
                        (0..part).for_each(|i| levels[i] = FOUR_LEVELS[code(i)]);
                    } else {
                        let third = &planes.third[token * 2 * part + (p & 1) * part..][..part];
                        let shift = 4 * (p / 2);
                        (0..part)
                            .for_each(|i| levels[i] = EIGHT_LEVELS[code(i) << 4 | usize::from(third[i] >> shift) & 15]);
                    }
                }
            }
        }
    }
}
