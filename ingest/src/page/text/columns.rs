//! Segments to lines in reading order: columns one after the other.
//!
//! Two columns of text are told from the columns of a table by what stands in them: a column's rows fill it with
//! several words each, a table's cells hold few. Lines across both columns (a title, a wide figure's caption)
//! part the page into bands; in each band the left column comes before the right. A column may hold columns. Two
//! columns of short entries, as in an index, are read across; each entry stays in one piece.

use super::lines::{PlacedWord, Segment};

/// Words of one line of the page, or of one column.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub words: Vec<PlacedWord>,
}

impl Line {
    fn of(row: Vec<Segment>) -> Self {
        Self { words: row.into_iter().flat_map(|segment| segment.words).collect() }
    }
}

/// Columns in columns are looked for this deep: up to eight side by side.
const MAX_DEPTH: usize = 3;
/// Fewer rows than this on a side are no column.
const MIN_ROWS: usize = 4;
/// A blank strip above the page's foot, or under its head, is at least this high, in units of its font size.
const APART: f64 = 1.2;
/// Mean words per row of a column of text.
const MIN_WORDS: f64 = 3.0;
/// Mean characters per row of a column of text.
const MIN_CHARACTERS: f64 = 24.0;
/// Mean words per segment of a column; cells of tables have fewer.
const MIN_SEGMENT_WORDS: f64 = 1.8;
/// Mean width of a row of a column in units of the column, which may hold columns itself.
const MIN_FILL: f64 = 0.22;

/// The lines that segments of one direction make, in reading order.
pub(super) fn reading_order(segments: Vec<Segment>) -> Vec<Line> {
    let mut lines = Vec::new();
    order(segments, MAX_DEPTH, &mut lines);
    lines
}

fn order(segments: Vec<Segment>, depth: usize, lines: &mut Vec<Line>) {
    let gutter = if depth > 0 { find_gutter(&segments) } else { None };
    let Some(gutter) = gutter else {
        lines.extend(rows(segments).into_iter().map(Line::of));
        return;
    };
    let (mut across, beside): (Vec<Segment>, Vec<Segment>) =
        segments.into_iter().partition(|segment| segment.area.u0 < gutter && segment.area.u1 > gutter);
    let mut beside = top_down(beside);
    // The page's head or foot belongs to no column.
    across.extend(beside.split_off(foot(&beside)));
    across.extend(beside.drain(..head(&beside)));
    for row in rows(across) {
        let top = row.iter().map(|segment| segment.v).fold(f64::INFINITY, f64::min);
        let below = beside.split_off(beside.partition_point(|segment| segment.v < top));
        band(std::mem::replace(&mut beside, below), gutter, depth, lines);
        lines.push(Line::of(row));
    }
    band(beside, gutter, depth, lines);
}

/// What stands between two lines across the gutter: the left column, then the right.
fn band(segments: Vec<Segment>, gutter: f64, depth: usize, lines: &mut Vec<Line>) {
    let (left, right): (Vec<Segment>, Vec<Segment>) =
        segments.into_iter().partition(|segment| segment.area.u1 <= gutter);
    for side in [left, right] {
        if !side.is_empty() {
            order(side, depth - 1, lines);
        }
    }
}

/// Where the last row begins in segments sorted from top to bottom, if it stands apart; else their number.
fn foot(sorted: &[Segment]) -> usize {
    let Some(last) = sorted.last() else { return 0 };
    let start = sorted.partition_point(|segment| segment.v < last.v - 0.3 * last.size);
    let bottom = sorted[..start].iter().map(|segment| segment.area.v1).fold(f64::NEG_INFINITY, f64::max);
    if last.area.v0 - bottom > APART * last.size { start } else { sorted.len() }
}

/// Where the first row ends in segments sorted from top to bottom, if it stands apart; else 0.
fn head(sorted: &[Segment]) -> usize {
    let Some(first) = sorted.first() else { return 0 };
    let end = sorted.partition_point(|segment| segment.v <= first.v + 0.3 * first.size);
    let top = sorted[end..].iter().map(|segment| segment.area.v0).fold(f64::INFINITY, f64::min);
    if top - first.area.v1 > APART * first.size { end } else { 0 }
}

fn top_down(mut segments: Vec<Segment>) -> Vec<Segment> {
    segments.sort_by(|a, b| a.v.total_cmp(&b.v));
    segments
}

/// Segments on the same baseline, from left to right; rows from top to bottom.
fn rows(segments: Vec<Segment>) -> Vec<Vec<Segment>> {
    let mut rows: Vec<Vec<Segment>> = Vec::new();
    for segment in top_down(segments) {
        let fits = |row: &Vec<Segment>| (segment.v - row[0].v).abs() <= 0.3 * segment.size.min(row[0].size);
        match rows.last_mut() {
            Some(row) if fits(row) => row.push(segment),
            _ => rows.push(vec![segment]),
        }
    }
    for row in &mut rows {
        row.sort_by(|a, b| a.area.u0.total_cmp(&b.area.u0));
    }
    rows
}

/// What a side of a possible gutter holds.
#[derive(Default)]
struct Side {
    rows: usize,
    words: usize,
    characters: usize,
    segments: usize,
    top: f64,
    bottom: f64,
    /// The widest row in points.
    width: f64,
    /// The sum of the rows' widths in points.
    filled: f64,
}

impl Side {
    /// Measures segments sorted from top to bottom.
    fn measure<'s>(segments: impl Iterator<Item = &'s Segment>) -> Self {
        let mut side = Self { top: f64::INFINITY, bottom: f64::NEG_INFINITY, ..Self::default() };
        let mut row: Option<(f64, f64, f64, f64)> = None;
        let (mut least, mut most) = (f64::INFINITY, f64::NEG_INFINITY);
        for segment in segments {
            side.segments += 1;
            side.words += segment.words.len();
            side.characters += segment.words.iter().map(|word| word.text.chars().count() + 1).sum::<usize>();
            side.top = side.top.min(segment.area.v0);
            side.bottom = side.bottom.max(segment.area.v1);
            least = least.min(segment.area.u0);
            most = most.max(segment.area.u1);
            row = match row {
                Some((v, size, u0, u1)) if (segment.v - v).abs() <= 0.3 * segment.size.min(size) => {
                    Some((v, size, u0.min(segment.area.u0), u1.max(segment.area.u1)))
                }
                other => {
                    side.end_row(other);
                    Some((segment.v, segment.size, segment.area.u0, segment.area.u1))
                }
            };
        }
        side.end_row(row);
        side.width = (most - least).max(0.0);
        side
    }

    fn end_row(&mut self, row: Option<(f64, f64, f64, f64)>) {
        if let Some((_, _, u0, u1)) = row {
            self.rows += 1;
            self.filled += u1 - u0;
        }
    }

    fn is_column(&self) -> bool {
        if self.rows < MIN_ROWS {
            return false;
        }
        let rows = self.rows as f64;
        let words = self.words as f64;
        words >= MIN_WORDS * rows
            && self.characters as f64 >= MIN_CHARACTERS * rows
            && words >= MIN_SEGMENT_WORDS * self.segments as f64
            && self.filled >= MIN_FILL * rows * self.width
    }
}

/// Where a vertical gutter parts the segments into two columns, in points along the line.
fn find_gutter(segments: &[Segment]) -> Option<f64> {
    if segments.len() < 2 * MIN_ROWS {
        return None;
    }
    let mut sorted: Vec<&Segment> = segments.iter().collect();
    sorted.sort_by(|a, b| a.v.total_cmp(&b.v));
    let mut sizes: Vec<f64> = sorted.iter().map(|segment| segment.size).collect();
    sizes.sort_by(f64::total_cmp);
    let size = sizes[sizes.len() / 2];

    // A gutter begins where some segment ends; near ends are one candidate, the rightmost.
    let mut ends: Vec<f64> = sorted.iter().map(|segment| segment.area.u1).collect();
    ends.sort_by(f64::total_cmp);
    let candidates = ends.windows(2).filter(|pair| pair[1] - pair[0] > 0.4 * size).map(|pair| pair[0] + 0.1 * size);

    let mut best: Option<(i64, f64)> = None;
    for gutter in candidates {
        let across = sorted.iter().filter(|s| s.area.u0 < gutter && s.area.u1 > gutter).count();
        if across * 3 > sorted.len() {
            continue;
        }
        let left = Side::measure(sorted.iter().copied().filter(|s| s.area.u1 <= gutter));
        let right = Side::measure(sorted.iter().copied().filter(|s| s.area.u0 >= gutter));
        let shared = left.bottom.min(right.bottom) - left.top.max(right.top);
        let shorter = (left.bottom - left.top).min(right.bottom - right.top);
        let rows = left.rows.min(right.rows);
        if !left.is_column() || !right.is_column() || shared < 0.5 * shorter || across * 2 > rows {
            continue;
        }
        // Within a column of two parts some lines cross; between columns hardly any does.
        let score = rows as i64 - 6 * across as i64;
        // The last of equal candidates lies furthest into the gutter.
        if best.is_none_or(|(other, _)| score >= other) {
            best = Some((score, gutter));
        }
    }
    best.map(|(_, gutter)| gutter)
}
