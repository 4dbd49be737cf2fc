//! Accents drawn on their own over a letter, as old TeX fonts do, joined with it.

use unicode_normalization::UnicodeNormalization;

use super::glyphs::Glyph;

/// The combining form of an accent that is drawn as a glyph of its own.
fn combining(accent: &str) -> Option<char> {
    let mut chars = accent.chars();
    let (Some(c), None) = (chars.next(), chars.next()) else { return None };
    Some(match c {
        '`' | '\u{2CB}' => '\u{300}',
        '\u{B4}' | '\u{2CA}' => '\u{301}',
        '^' | '\u{2C6}' => '\u{302}',
        '~' | '\u{2DC}' => '\u{303}',
        '\u{AF}' | '\u{2C9}' => '\u{304}',
        '\u{2D8}' => '\u{306}',
        '\u{2D9}' => '\u{307}',
        '\u{A8}' => '\u{308}',
        '\u{2DA}' | '\u{B0}' => '\u{30A}',
        '\u{2DD}' => '\u{30B}',
        '\u{2C7}' => '\u{30C}',
        '\u{B8}' => '\u{327}',
        '\u{2DB}' => '\u{328}',
        '\u{300}'..='\u{36F}' => c,
        _ => return None,
    })
}

/// Whether two neighbours in drawing order stand over each other rather than side by side.
fn overlap(accent: &Glyph, letter: &Glyph) -> bool {
    let shared = accent.u1.min(letter.u1) - accent.u0.max(letter.u0);
    let narrow = (accent.u1 - accent.u0).min(letter.u1 - letter.u0);
    accent.turn == letter.turn
        && shared > 0.6 * narrow.max(0.05 * letter.size)
        && (accent.v - letter.v).abs() < 0.6 * letter.size
}

fn composed(letter: &str, accent: char) -> Option<String> {
    let mut chars = letter.chars();
    let (Some(c), None) = (chars.next(), chars.next()) else { return None };
    // TeX puts accents on letters without their dot.
    let base = match c {
        '\u{131}' => 'i',
        '\u{237}' => 'j',
        c => c,
    };
    base.is_alphabetic().then(|| [base, accent].into_iter().nfc().collect())
}

/// The glyphs, with each accent that stands over the letter before or after it joined with that letter.
pub(super) fn compose(glyphs: Vec<Glyph>) -> Vec<Glyph> {
    let mut joined: Vec<Glyph> = Vec::with_capacity(glyphs.len());
    for mut glyph in glyphs {
        if let Some(before) = joined.last() {
            if let Some(accent) = combining(&before.text)
                && overlap(before, &glyph)
                && let Some(text) = composed(&glyph.text, accent)
            {
                glyph.text = text;
                joined.pop();
            } else if let Some(accent) = combining(&glyph.text)
                && overlap(&glyph, before)
                && let Some(text) = composed(&before.text, accent)
            {
                glyph = Glyph { text, ..before.clone() };
                joined.pop();
            }
        }
        joined.push(glyph);
    }
    joined
}
