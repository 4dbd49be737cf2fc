//! The Unicode text of glyphs and of PDF strings.

use hayro_interpret::hayro_cmap::BfString;
use unicode_normalization::UnicodeNormalization;

/// A glyph's text for reading: ligatures and presentation forms taken apart, no control or private characters.
pub(super) fn readable(text: BfString) -> String {
    let keep = |c: &char| !c.is_control() && !matches!(c, '\u{E000}'..='\u{F8FF}' | '\u{FFFD}' | '\u{F0000}'..);
    let mut readable = String::new();
    let mut push = |c: char| match c {
        '\t' | '\n' | '\r' => readable.push(' '),
        '\u{FB00}'..='\u{FDFF}' | '\u{FE70}'..='\u{FEFE}' => readable.extend(std::iter::once(c).nfkc()),
        c if keep(&c) => readable.push(c),
        _ => {}
    };
    match text {
        BfString::Char(c) => push(c),
        BfString::String(s) => s.chars().for_each(push),
    }
    readable
}

/// A PDF text string: UTF-16 or UTF-8 with a byte order mark, otherwise taken as Latin-1.
pub(super) fn text_string(bytes: &[u8]) -> String {
    let utf16 = |bytes: &[u8], unit: fn([u8; 2]) -> u16| {
        let units = bytes.chunks_exact(2).map(|pair| unit([pair[0], pair[1]]));
        char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
    };
    match bytes {
        [0xFE, 0xFF, rest @ ..] => utf16(rest, u16::from_be_bytes),
        [0xFF, 0xFE, rest @ ..] => utf16(rest, u16::from_le_bytes),
        [0xEF, 0xBB, 0xBF, rest @ ..] => String::from_utf8_lossy(rest).into_owned(),
        _ => bytes.iter().map(|&byte| char::from(byte)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ligatures_are_taken_apart() {
        assert_eq!(readable(BfString::Char('\u{FB03}')), "ffi");
        assert_eq!(readable(BfString::String("o\u{FB04}ine".to_owned())), "offline");
        // Only presentation forms change: a superscript stays what it is.
        assert_eq!(readable(BfString::Char('\u{B2}')), "\u{B2}");
    }

    #[test]
    fn characters_without_a_meaning_are_left_out() {
        assert_eq!(readable(BfString::String("a\u{F0B7}\u{FFFD}\u{1}b".to_owned())), "ab");
        assert_eq!(readable(BfString::Char('\t')), " ");
    }

    #[test]
    fn pdf_strings_say_their_encoding() {
        assert_eq!(text_string(b"\xFE\xFF\x00\xE9\xD8\x34\xDD\x1E"), "\u{E9}\u{1D11E}");
        assert_eq!(text_string(b"\xEF\xBB\xBF\xC3\xA9"), "\u{E9}");
        assert_eq!(text_string(b"caf\xE9"), "caf\u{E9}");
    }
}
