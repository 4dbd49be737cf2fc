//! Text drawn more than once: for a bold look, as a shadow, or invisibly over what is seen.

use std::collections::HashMap;

use super::glyphs::Glyph;
use super::words::Piece;

/// Two equal glyphs closer than this, in units of the font size, are one drawn twice.
const SAME_PLACE: f64 = 0.1;
/// The most points that this may be: all places that are as near are looked through.
const MOST_NEAR: f64 = 16.0;

/// The glyphs without those that repeat an equal one at the same place.
pub(super) fn drawn_once(glyphs: Vec<Glyph>) -> Vec<Glyph> {
    // Cells of one point, so that only near glyphs are compared.
    let cell = |at: f64| at.floor() as i64;
    let mut seen: HashMap<(i64, i64), Vec<usize>> = HashMap::new();
    let mut kept: Vec<Glyph> = Vec::with_capacity(glyphs.len());
    for glyph in glyphs {
        if glyph.is_blank() {
            kept.push(glyph);
            continue;
        }
        let near = (SAME_PLACE * glyph.size).min(MOST_NEAR);
        let same = |other: &Glyph| {
            other.text == glyph.text
                && other.turn == glyph.turn
                && (other.u0 - glyph.u0).abs() < near
                && (other.v - glyph.v).abs() < near
        };
        let mut twin = None;
        'cells: for u in cell(glyph.u0 - near)..=cell(glyph.u0 + near) {
            for v in cell(glyph.v - near)..=cell(glyph.v + near) {
                twin = seen.get(&(u, v)).and_then(|at| at.iter().copied().find(|&index| same(&kept[index])));
                if twin.is_some() {
                    break 'cells;
                }
            }
        }
        match twin {
            Some(index) => kept[index].visible |= glyph.visible,
            None => {
                seen.entry((cell(glyph.u0), cell(glyph.v))).or_default().push(kept.len());
                kept.push(glyph);
            }
        }
    }
    kept
}

/// An invisible word is a copy when visible words cover this share of it.
const COVERED: f64 = 0.5;

/// The pieces without invisible ones that lie over visible text; a page of invisible text alone (a scan with an
/// OCR layer) keeps it all.
pub(super) fn visible_or_only(pieces: Vec<Piece>) -> Vec<Piece> {
    if pieces.iter().all(|piece| piece.visible) || pieces.iter().all(|piece| !piece.visible) {
        return pieces;
    }
    let visible: Vec<_> = pieces.iter().filter(|piece| piece.visible).map(|piece| piece.area).collect();
    let covered = |piece: &Piece| {
        let own = piece.area;
        let whole = (own.u1 - own.u0) * (own.v1 - own.v0);
        let shared: f64 = visible
            .iter()
            .filter(|area| area.turn == own.turn)
            .map(|area| {
                let u = (area.u1.min(own.u1) - area.u0.max(own.u0)).max(0.0);
                let v = (area.v1.min(own.v1) - area.v0.max(own.v0)).max(0.0);
                u * v
            })
            .sum();
        shared >= COVERED * whole
    };
    let keep: Vec<bool> = pieces.iter().map(|piece| piece.visible || !covered(piece)).collect();
    pieces.into_iter().zip(keep).filter_map(|(piece, keep)| keep.then_some(piece)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn glyphs_of_any_size_are_compared_with_few_places() {
        let glyph = |u0: f64, size: f64| Glyph {
            text: "a".to_owned(),
            turn: 0,
            u0,
            u1: u0 + size,
            v: 0.0,
            size,
            visible: true,
        };
        // The last two are nearer than a tenth of their size, yet not the same: without a limit every point of 100,000 around
        // them would be looked at.
        let glyphs = vec![glyph(0.0, 12.0), glyph(1.0, 12.0), glyph(2.0, 12.0), glyph(90.0, 1e6), glyph(120.0, 1e6)];
        let kept: Vec<f64> = drawn_once(glyphs).iter().map(|glyph| glyph.u0).collect();
        assert_eq!(kept, [0.0, 2.0, 90.0, 120.0]);
    }
}
