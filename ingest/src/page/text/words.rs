//! Glyphs to pieces of words, in drawing order.
//!
//! A piece is a run of glyphs on one baseline without a gap. A word may consist of several (a letter and its
//! exponent, a word in two fonts), which are joined when its line is known.

use super::area::Area;
use super::glyphs::Glyph;

/// A gap wider than this, in units of the font size, parts two words. TeX sets blanks of 0.22 and more.
pub(super) const BLANK: f64 = 0.14;
/// A glyph may stand this far back over the one before it and still continue its word.
const BACKWARD: f64 = 0.35;
/// How far the baseline may move within a piece.
const BASELINE: f64 = 0.12;

/// A run of glyphs without a blank.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub text: String,
    pub area: Area,
    /// Baseline across the line, in points.
    pub v: f64,
    /// Font size in points.
    pub size: f64,
    /// Whether a blank was drawn after it.
    pub blank_after: bool,
    pub visible: bool,
}

/// Whether `glyph` goes on right where `piece` ends.
fn continues(piece: &Piece, glyph: &Glyph) -> bool {
    let size = piece.size.max(glyph.size);
    let gap = glyph.u0 - piece.area.u1;
    piece.area.turn == glyph.turn
        && piece.visible == glyph.visible
        && (piece.v - glyph.v).abs() <= BASELINE * size
        && piece.size.min(glyph.size) >= 0.6 * size
        && (-BACKWARD * size..=BLANK * size).contains(&gap)
        && glyph.u0 >= piece.area.u0
}

/// The pieces of words the glyphs make, in drawing order.
pub(super) fn pieces(glyphs: &[Glyph]) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    let mut open = false;
    for glyph in glyphs {
        if glyph.is_blank() {
            if open && let Some(last) = pieces.last_mut() {
                last.blank_after = true;
            }
            open = false;
            continue;
        }
        match pieces.last_mut() {
            Some(last) if open && continues(last, glyph) => {
                last.text.push_str(glyph.text.trim());
                last.area = last.area.union(&glyph.area());
                if glyph.size > last.size {
                    (last.size, last.v) = (glyph.size, glyph.v);
                }
            }
            _ => pieces.push(Piece {
                text: glyph.text.trim().to_owned(),
                area: glyph.area(),
                v: glyph.v,
                size: glyph.size,
                blank_after: false,
                visible: glyph.visible,
            }),
        }
        open = true;
    }
    pieces
}

/// The pieces parted by the direction of their lines: upright first, then by how many there are.
pub(super) fn by_direction(pieces: Vec<Piece>) -> Vec<Vec<Piece>> {
    let mut groups: Vec<Vec<Piece>> = Vec::new();
    for piece in pieces {
        match groups.iter_mut().find(|group| group[0].area.turn == piece.area.turn) {
            Some(group) => group.push(piece),
            None => groups.push(vec![piece]),
        }
    }
    groups.sort_by_key(|group| (group[0].area.turn != 0, usize::MAX - group.len()));
    groups
}
