//! Pieces of words to segments of lines.
//!
//! A segment is the part of a line between two wide gaps: a whole line of running text, or a cell of a table.

use super::area::Area;
use super::words::{BLANK, Piece};

/// A gap wider than this, in units of the font size, parts two segments: less than the gutter between columns.
const WIDE_GAP: f64 = 0.9;
/// Text this much smaller than its neighbour may be its exponent or index.
const SCRIPT: f64 = 0.92;
/// An exponent is raised by at most this, in units of its base's font size.
const RAISED: f64 = 0.65;
/// An index is lowered by at most this, likewise.
const LOWERED: f64 = 0.45;
/// Text that stands over more than this share of its neighbour (an exponent over an index) is a word of its own.
const STACKED: f64 = 0.5;

/// A word with its place; its second part, if it was broken at the end of a line.
#[derive(Clone, Debug)]
pub(super) struct PlacedWord {
    pub text: String,
    pub area: Area,
    pub continuation: Option<Area>,
    /// Font size in points.
    pub size: f64,
}

/// Words on one line without a wide gap.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub words: Vec<PlacedWord>,
    pub area: Area,
    /// Baseline of its largest text, across the line, in points.
    pub v: f64,
    /// Its largest font size in points.
    pub size: f64,
}

/// Whether two pieces stand on the same line and near each other; `left` begins first.
fn same_segment(left: &Piece, right: &Piece) -> bool {
    let (large, small) = if left.size >= right.size { (left, right) } else { (right, left) };
    let gap = right.area.u0 - left.area.u1;
    if gap > WIDE_GAP * large.size {
        return false;
    }
    let raised = large.v - small.v;
    if raised.abs() <= 0.15 * large.size {
        return true;
    }
    // An exponent or index stands close to its base.
    small.size < SCRIPT * large.size
        && small.size > 0.4 * large.size
        && gap.abs() < 0.35 * large.size
        && (-LOWERED * large.size..=RAISED * large.size).contains(&raised)
}

/// The segments that pieces of one direction make, in no particular order.
pub(super) fn segments(mut pieces: Vec<Piece>) -> Vec<Segment> {
    pieces.sort_by(|a, b| a.v.total_cmp(&b.v));
    let largest = pieces.iter().map(|piece| piece.size).fold(0.0, f64::max);
    let mut groups = DisjointSets::new(pieces.len());
    for (index, piece) in pieces.iter().enumerate() {
        for (offset, other) in pieces[index + 1..].iter().enumerate() {
            if other.v - piece.v > RAISED * largest {
                break;
            }
            let (left, right) = if piece.area.u0 <= other.area.u0 { (piece, other) } else { (other, piece) };
            if same_segment(left, right) {
                groups.join(index, index + 1 + offset);
            }
        }
    }
    let mut members: std::collections::BTreeMap<usize, Vec<Piece>> = std::collections::BTreeMap::new();
    for (index, piece) in pieces.into_iter().enumerate() {
        members.entry(groups.root(index)).or_default().push(piece);
    }
    members.into_values().map(segment).collect()
}

/// The segment of pieces on one line; pieces without a gap become one word.
fn segment(mut pieces: Vec<Piece>) -> Segment {
    pieces.sort_by(|a, b| a.area.u0.total_cmp(&b.area.u0));
    let mut segment = Segment { words: Vec::new(), area: pieces[0].area, v: pieces[0].v, size: 0.0 };
    let mut blank_before = true;
    for piece in pieces {
        if piece.size > segment.size {
            (segment.size, segment.v) = (piece.size, piece.v);
        }
        segment.area = segment.area.union(&piece.area);
        match segment.words.last_mut() {
            Some(word) if !blank_before && adjoins(word, &piece) => {
                word.text.push_str(&piece.text);
                word.area = word.area.union(&piece.area);
                word.size = word.size.max(piece.size);
            }
            _ => segment.words.push(PlacedWord {
                text: piece.text,
                area: piece.area,
                continuation: None,
                size: piece.size,
            }),
        }
        blank_before = piece.blank_after;
    }
    segment
}

/// Whether a piece begins where a word ends.
fn adjoins(word: &PlacedWord, piece: &Piece) -> bool {
    let gap = piece.area.u0 - word.area.u1;
    let narrow = (piece.area.u1 - piece.area.u0).min(word.area.u1 - word.area.u0);
    gap <= BLANK * word.size.max(piece.size) && gap >= -STACKED * narrow
}

/// Union-find over indices.
struct DisjointSets(Vec<usize>);

impl DisjointSets {
    fn new(count: usize) -> Self {
        Self((0..count).collect())
    }

    fn root(&mut self, mut index: usize) -> usize {
        while self.0[index] != index {
            self.0[index] = self.0[self.0[index]];
            index = self.0[index];
        }
        index
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        self.0[a.max(b)] = a.min(b);
    }
}
