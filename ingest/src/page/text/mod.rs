//! The text layer of a PDF page: words, where they stand, and the order to read them in.
//!
//! Glyphs come from the page's drawing operations (hayro's interpreter calls a device of ours), each with its
//! Unicode text and place. Neighbouring glyphs become words, words lines, lines columns; a word broken at a line's
//! end is put together again, and the dots of leaders are left out. Text drawn twice (for a bold look, or invisibly
//! over the same visible text) counts once.
//!
//! Not done: right-to-left scripts keep the order in which they are drawn, and glyphs whose font says nothing
//! about Unicode are left out.

mod accents;
mod area;
mod columns;
mod duplicates;
mod glyphs;
mod hyphens;
mod leaders;
mod lines;
mod unicode;
mod words;

use std::ops::Range;

use glyphs::Glyph;
pub(super) use glyphs::GlyphCollector;

/// A rectangle on a page as fractions of its width and height as displayed, from the top left corner: (0, 0) to
/// (1, 1). Multiply by any size of the page, in pixels or points.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BBox {
    /// Left edge.
    pub x0: f32,
    /// Top edge.
    pub y0: f32,
    /// Right edge.
    pub x1: f32,
    /// Bottom edge.
    pub y1: f32,
}

/// A word of a page: what stands between two blanks.
#[derive(Clone, Debug, PartialEq)]
pub struct Word {
    /// Its text, ligatures taken apart, whole even when broken at the end of a line.
    pub text: String,
    /// Where it stands; for a word broken at the end of a line, its first part.
    pub bbox: BBox,
    /// Where the second part of a broken word stands.
    pub continuation: Option<BBox>,
}

/// The words of a page in reading order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TextLayer {
    /// The words, columns one after the other.
    pub words: Vec<Word>,
    /// The words of each line, as ranges of [`TextLayer::words`]; no line is empty.
    pub lines: Vec<Range<usize>>,
}

impl TextLayer {
    /// The page's text: words with a blank, lines with a line feed between them.
    pub fn text(&self) -> String {
        let mut text = String::with_capacity(self.words.iter().map(|word| word.text.len() + 1).sum());
        for (index, line) in self.lines.iter().enumerate() {
            if index > 0 {
                text.push('\n');
            }
            for (index, word) in self.words[line.clone()].iter().enumerate() {
                if index > 0 {
                    text.push(' ');
                }
                text.push_str(&word.text);
            }
        }
        text
    }

    /// Whether the page shows no words.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// Builds the layer for a page of `width` x `height` points from its glyphs in drawing order.
    fn assemble(glyphs: Vec<Glyph>, width: f64, height: f64) -> Self {
        let glyphs = accents::compose(duplicates::drawn_once(glyphs));
        let pieces = duplicates::visible_or_only(words::pieces(&glyphs));
        let mut lines = Vec::new();
        for group in words::by_direction(pieces) {
            lines.extend(columns::reading_order(lines::segments(group)));
        }
        let mut layer = Self::default();
        for line in hyphens::join(leaders::remove(lines)) {
            let start = layer.words.len();
            layer.words.extend(line.words.into_iter().map(|word| Word {
                bbox: word.area.on_page(width, height),
                continuation: word.continuation.map(|area| area.on_page(width, height)),
                text: word.text,
            }));
            layer.lines.push(start..layer.words.len());
        }
        layer
    }

    /// Builds the layer for a page of `width` x `height` points from its glyphs in drawing order.
    pub(super) fn from_glyphs(glyphs: Vec<Glyph>, width: f64, height: f64) -> Self {
        let on_page = |glyph: &Glyph| {
            let (x, y) = glyph.area().center();
            (-1.0..=width + 1.0).contains(&x) && (-1.0..=height + 1.0).contains(&y)
        };
        Self::assemble(glyphs.into_iter().filter(on_page).collect(), width, height)
    }
}
