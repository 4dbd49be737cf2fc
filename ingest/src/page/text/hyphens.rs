//! Words broken at the end of a line, put together again.
//!
//! `infor-` and `mation` become `information`. The hyphen stays where it seems to belong to the word: before a
//! capital or a digit (`Franco-`, `Prussian`), in a word with another hyphen or without lower-case letters
//! (`state-of-`, `UTF-`), after a few first parts that take one (`self-`), and where the page writes the
//! word with its hyphen elsewhere.

use std::collections::HashSet;

use super::columns::Line;

/// First parts that usually keep their hyphen in English.
const KEEPS_HYPHEN: [&str; 10] = ["self", "well", "half", "cross", "ex", "two", "three", "four", "high", "low"];

/// The part of a line-end word before its hyphen, if it may be the first part of a broken word.
fn first_part(word: &str) -> Option<&str> {
    let part = word.strip_suffix(['-', '\u{2010}', '\u{AD}'])?;
    let letters = part.chars().rev().take_while(|c| c.is_alphabetic()).count();
    (letters >= 2).then_some(part)
}

/// What the two parts make: one word, a compound with its hyphen, or nothing.
fn joined(first: &str, soft: bool, second: &str, compounds: &HashSet<String>) -> Option<String> {
    let next = second.chars().next()?;
    if soft && next.is_alphabetic() {
        return Some(format!("{first}{second}"));
    }
    if !next.is_alphanumeric() {
        return None;
    }
    let compound = format!("{first}-{second}");
    let stem = first.trim_start_matches(|c: char| !c.is_alphanumeric());
    let keeps = !next.is_lowercase()
        || stem.contains('-')
        || !stem.chars().any(char::is_lowercase)
        || stem.chars().any(|c| c.is_ascii_digit())
        || KEEPS_HYPHEN.contains(&stem.to_lowercase().as_str())
        || compounds.contains(&plain(&compound));
    Some(if keeps { compound } else { format!("{first}{second}") })
}

/// A word without the punctuation around it, in lower case.
fn plain(word: &str) -> String {
    word.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase()
}

/// The lines with broken words joined: each whole word ends the line on which it begins.
pub(super) fn join(mut lines: Vec<Line>) -> Vec<Line> {
    let written = |word: &str| word.trim_end_matches('-').contains('-');
    let compounds: HashSet<String> = lines
        .iter()
        .flat_map(|line| &line.words)
        .filter(|word| written(&word.text))
        .map(|word| plain(&word.text))
        .collect();
    for index in 1..lines.len() {
        let (before, after) = lines.split_at_mut(index);
        // An emptied line hands its word to the line before; then there is nothing to join to.
        let Some(last) = before[index - 1].words.last_mut() else { continue };
        let Some(first) = first_part(&last.text) else { continue };
        let Some(second) = after[0].words.first() else { continue };
        let soft = last.text.ends_with('\u{AD}');
        let Some(text) = joined(first, soft, &second.text, &compounds) else { continue };
        last.text = text;
        last.continuation = Some(second.area);
        after[0].words.remove(0);
    }
    for word in lines.iter_mut().flat_map(|line| &mut line.words) {
        if word.text.contains('\u{AD}') {
            word.text = word.text.replace('\u{AD}', "");
        }
    }
    for line in &mut lines {
        line.words.retain(|word| !word.text.is_empty());
    }
    lines.retain(|line| !line.words.is_empty());
    lines
}

#[cfg(test)]
mod tests {
    use super::super::area::Area;
    use super::super::lines::PlacedWord;
    use super::*;

    fn text_of(lines: &[&str]) -> Vec<String> {
        let area = Area { turn: 0, u0: 0.0, u1: 1.0, v0: 0.0, v1: 1.0 };
        let word = |text: &str| PlacedWord { text: text.to_owned(), area, continuation: None, size: 10.0 };
        let line = |text: &&str| Line { words: text.split(' ').map(word).collect() };
        let joined = join(lines.iter().map(line).collect());
        let text = |line: &Line| line.words.iter().map(|word| word.text.as_str()).collect::<Vec<_>>().join(" ");
        joined.iter().map(text).collect()
    }

    #[test]
    fn broken_words_are_joined() {
        assert_eq!(text_of(&["more infor-", "mation, please"]), ["more information,", "please"]);
        assert_eq!(text_of(&["infor\u{AD}", "mation"]), ["information"]);
        assert_eq!(text_of(&["(inter-", "national"]), ["(international"]);
    }

    #[test]
    fn compounds_keep_their_hyphen() {
        assert_eq!(text_of(&["the Franco-", "Prussian war"]), ["the Franco-Prussian", "war"]);
        assert_eq!(text_of(&["in UTF-", "8 text"]), ["in UTF-8", "text"]);
        assert_eq!(text_of(&["state-of-", "the-art"]), ["state-of-the-art"]);
        assert_eq!(
            text_of(&["a self-", "made late-night", "late-", "night"]),
            ["a self-made", "late-night", "late-night"]
        );
    }

    #[test]
    fn dashes_are_left_alone() {
        assert_eq!(text_of(&["a -", "b"]), ["a -", "b"]);
        assert_eq!(text_of(&["x-", "(see)"]), ["x-", "(see)"]);
        assert_eq!(text_of(&["pages 3-", "4"]), ["pages 3-", "4"]);
    }
}
