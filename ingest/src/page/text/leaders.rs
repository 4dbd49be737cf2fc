//! Dot leaders, as between an entry of a table of contents and its page number, left out.

use super::columns::Line;

/// So many dots in a row, each a word of its own, are a leader.
const LEADER: usize = 4;

/// The lines without their leaders; a line of dots only stays.
pub(super) fn remove(mut lines: Vec<Line>) -> Vec<Line> {
    for line in &mut lines {
        let dots: Vec<bool> = line.words.iter().map(|word| word.text == ".").collect();
        if dots.iter().all(|&dot| dot) {
            continue;
        }
        let mut keep = Vec::with_capacity(dots.len());
        for run in dots.chunk_by(|a, b| a == b) {
            keep.extend(std::iter::repeat_n(!(run[0] && run.len() >= LEADER), run.len()));
        }
        let mut keep = keep.into_iter();
        line.words.retain(|_| keep.next().unwrap_or(true));
    }
    lines
}
