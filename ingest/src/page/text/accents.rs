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

#[cfg(test)]
mod tests {
    use super::*;

    fn glyph(text: &str, u0: f64, u1: f64) -> Glyph {
        Glyph { text: text.to_owned(), turn: 0, u0, u1, v: 0.0, size: 10.0, visible: true }
    }

    fn text(glyphs: Vec<Glyph>) -> Vec<String> {
        compose(glyphs).into_iter().map(|glyph| glyph.text).collect()
    }

    #[test]
    fn accents_over_letters_join_them() {
        assert_eq!(
            text(vec![glyph("M", 0.0, 9.0), glyph("\u{A8}", 9.2, 14.2), glyph("o", 9.0, 14.0)]),
            ["M", "\u{F6}"]
        );
        assert_eq!(text(vec![glyph("c", 0.0, 4.4), glyph("\u{B8}", 0.0, 4.4)]), ["\u{E7}"]);
        assert_eq!(text(vec![glyph("\u{2C6}", 0.0, 5.0), glyph("\u{131}", 1.0, 3.8)]), ["\u{EE}"]);
    }

    #[test]
    fn accents_beside_letters_stay() {
        assert_eq!(text(vec![glyph("x", 0.0, 5.0), glyph("^", 5.0, 10.0), glyph("n", 10.0, 15.0)]), ["x", "^", "n"]);
        assert_eq!(text(vec![glyph("~", 0.0, 5.0), glyph("/", 5.0, 8.0)]), ["~", "/"]);
    }
}
