//! Pages that are set here: many typefaces, sizes and widths, one or two columns, headings, lists and tables.
//!
//! Their words come from pages that were rendered. To train on, half of them are drawn from all different words, so that rare ones are
//! read as often as frequent ones; the other half, and to evaluate on all, stand in the order of the text.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;

use ab_glyph::{Font, FontVec, PxScale, ScaleFont};
use anyhow::{Context, Result, ensure};
use colqwen_index_train::random::{Purpose, Stream};
use image::{GrayImage, Luma};
use rayon::prelude::*;

use crate::render::{Entry, LIST, Printed, ZOOM, load};

/// Points of an A4 page.
const PAPER: [f32; 2] = [595.0, 842.0];
/// Pixels per point of a page that is neither enlarged nor reduced.
const PIXELS: f32 = 2.0;
/// A heading in a hundred blocks, a list, a table; the rest is paragraphs.
const HEADINGS: usize = 12;
const LISTS: usize = 10;
const TABLES: usize = 10;
/// Characters of a word that is drawn at random.
const LONGEST: usize = 14;

/// Typefaces and words to set pages from.
pub struct Press {
    faces: Vec<(String, FontVec)>,
    texts: Vec<Vec<String>>,
    words: Vec<String>,
    in_order: bool,
}

impl Press {
    /// Reads the fonts that the file `fonts` names, one per line, and the words of rendered `pages`; `in_order` sets no words
    /// drawn at random.
    pub fn new(fonts: &Path, pages: &Path, in_order: bool) -> Result<Self> {
        let list = fs::read_to_string(fonts).with_context(|| format!("{}", fonts.display()))?;
        let read = |name: &str| -> Result<(String, FontVec)> {
            let face = FontVec::try_from_vec(fs::read(name).with_context(|| name.to_owned())?)?;
            Ok((name.to_owned(), face))
        };
        let faces: Vec<_> = list.lines().map(read).collect::<Result<_>>()?;
        let texts: Vec<Vec<String>> =
            load(pages)?.into_iter().map(|sheet| sheet.words.into_iter().map(|word| word.text).collect()).collect();
        let words: BTreeSet<&String> = texts.iter().flatten().filter(|word| is_prose(word)).collect();
        let words = words.into_iter().cloned().collect();
        ensure!(!faces.is_empty() && !texts.is_empty(), "at least one font and one page of words");
        Ok(Self { faces, texts, words, in_order })
    }

    /// Sets `count` pages and keeps them in `folder`.
    pub fn print(&self, count: usize, seed: u64, folder: &Path) -> Result<usize> {
        fs::create_dir_all(folder)?;
        let page = |at: usize| -> Result<Entry> {
            let mut stream = Stream::new(seed, Purpose::Choice, &[at as u64]);
            let mut page = Page::new(self, &mut stream);
            page.fill(&mut stream);
            let file = format!("synthetic-{at}.png");
            page.image.save(folder.join(&file))?;
            let document = self.faces[page.body].0.clone();
            Ok(Entry { document, page: at as u32 + 1, file, words: page.words })
        };
        let entries: Vec<Entry> = (0..count).into_par_iter().map(page).collect::<Result<_>>()?;
        let mut list = fs::File::create(folder.join(LIST))?;
        for entry in &entries {
            writeln!(list, "{}", serde_json::to_string(entry)?)?;
        }
        Ok(entries.len())
    }

    fn any_face(&self, stream: &mut Stream) -> usize {
        stream.below(self.faces.len())
    }

    /// Words in the order of a text or at random.
    fn text(&self, count: usize, stream: &mut Stream) -> Vec<&str> {
        if !self.in_order && stream.below(2) == 0 {
            return (0..count).map(|_| self.words[stream.below(self.words.len())].as_str()).collect();
        }
        let text = &self.texts[stream.below(self.texts.len())];
        let first = stream.below(text.len());
        text[first..].iter().take(count).map(String::as_str).collect()
    }
}

/// Whether a word is of the kind that queries ask for: letters, with punctuation around them.
fn is_prose(word: &str) -> bool {
    word.chars().count() <= LONGEST && word.chars().all(|letter| letter.is_alphabetic() || "-.,;:()'".contains(letter))
}

/// A face at a size, in pixels per em.
#[derive(Clone, Copy)]
struct Type {
    face: usize,
    size: f32,
}

/// A page being set.
struct Page<'p> {
    press: &'p Press,
    image: GrayImage,
    words: Vec<Printed>,
    body: usize,
    /// Pixels per point.
    scale: f32,
    /// Body type in points, and line pitch in ems.
    size: f32,
    pitch: f32,
    justified: bool,
    /// Left edge and width of each column, top and bottom, in pixels.
    columns: Vec<(f32, f32)>,
    top: f32,
    bottom: f32,
}

impl<'p> Page<'p> {
    fn new(press: &'p Press, stream: &mut Stream) -> Self {
        let between = |stream: &mut Stream, low: f32, high: f32| low + (high - low) * stream.unit() as f32;
        let zoom = (ZOOM as f32).powf(2.0 * stream.unit() as f32 - 1.0);
        let scale = PIXELS * zoom.sqrt();
        let [width, height] = PAPER.map(|points| (points * scale).round());
        let margin = between(stream, 45.0, 90.0) * scale;
        let inner = width - 2.0 * margin;
        let gap = 18.0 * scale;
        let columns = match stream.below(3) {
            0 => vec![(margin, (inner - gap) / 2.0), (margin + (inner + gap) / 2.0, (inner - gap) / 2.0)],
            _ => vec![(margin, inner)],
        };
        Self {
            press,
            image: GrayImage::from_pixel(width as u32, height as u32, Luma([255])),
            words: Vec::new(),
            body: press.any_face(stream),
            scale,
            size: between(stream, 8.5, 12.5),
            pitch: between(stream, 1.12, 1.45),
            justified: stream.below(3) > 0,
            columns,
            top: between(stream, 45.0, 90.0) * scale,
            bottom: height - between(stream, 45.0, 90.0) * scale,
        }
    }

    /// Sets blocks until the columns are full.
    fn fill(&mut self, stream: &mut Stream) {
        for (left, width) in self.columns.clone() {
            let mut y = self.top;
            while y < self.bottom {
                y = self.block(left, width, y, stream);
                y += self.size * self.scale * 0.7;
            }
        }
    }

    fn block(&mut self, left: f32, width: f32, y: f32, stream: &mut Stream) -> f32 {
        let body = Type { face: self.body, size: self.size * self.scale };
        match stream.below(100) {
            kind if kind < HEADINGS => {
                let heading = Type { face: self.press.any_face(stream), size: body.size * 1.35 };
                let text = self.press.text(2 + stream.below(4), stream);
                self.paragraph(&text, heading, [left, width], y, false)
            }
            kind if kind < HEADINGS + LISTS => {
                let indent = 1.5 * body.size;
                (0..2 + stream.below(5)).fold(y, |y, _| {
                    let text = self.press.text(4 + stream.below(14), stream);
                    self.paragraph(&text, body, [left + indent, width - indent], y, false)
                })
            }
            kind if kind < HEADINGS + LISTS + TABLES => self.table(body, [left, width], y, stream),
            kind => {
                // Now and then a paragraph in another face, as code and quotations are.
                let face = if kind % 8 == 0 { self.press.any_face(stream) } else { body.face };
                let text = self.press.text(20 + stream.below(90), stream);
                self.paragraph(&text, Type { face, ..body }, [left, width], y, self.justified)
            }
        }
    }

    /// Lines of words between `left` and `left + width` from `y` on; where the next block begins.
    fn paragraph(&mut self, text: &[&str], kind: Type, [left, width]: [f32; 2], mut y: f32, justified: bool) -> f32 {
        let space = 0.28 * kind.size;
        let mut line: Vec<(&str, f32)> = Vec::new();
        let mut used = 0.0;
        for word in text {
            let Some(wide) = self.width(word, kind).filter(|wide| *wide <= width) else { continue };
            if !line.is_empty() && used + space + wide > width {
                let stretch = if justified { (width - used) / (line.len() - 1).max(1) as f32 } else { 0.0 };
                self.line(&line, kind, left, y, space + stretch.min(2.0 * space));
                y += self.pitch * kind.size;
                (line, used) = (Vec::new(), 0.0);
            }
            used += wide + if line.is_empty() { 0.0 } else { space };
            line.push((word, wide));
        }
        self.line(&line, kind, left, y, space);
        y + self.pitch * kind.size
    }

    fn table(&mut self, kind: Type, [left, width]: [f32; 2], mut y: f32, stream: &mut Stream) -> f32 {
        let columns = 2 + stream.below(4);
        let wide = width / columns as f32;
        let ruled = stream.below(2) == 0;
        for _ in 0..3 + stream.below(8) {
            if ruled && y < self.bottom {
                self.rule(left, width, y - 0.15 * kind.size);
            }
            for column in 0..columns {
                let text = self.press.text(1 + stream.below(2), stream);
                let fitting: Vec<(&str, f32)> =
                    text.iter().filter_map(|word| Some((*word, self.width(word, kind)?))).collect();
                let used: f32 = fitting.iter().map(|(_, wide)| wide + 0.3 * kind.size).sum();
                if used < wide {
                    self.line(&fitting, kind, left + column as f32 * wide, y, 0.3 * kind.size);
                }
            }
            y += self.pitch * kind.size;
        }
        y
    }

    fn rule(&mut self, left: f32, width: f32, y: f32) {
        for x in left as u32..(left + width) as u32 {
            if x < self.image.width() && (y as u32) < self.image.height() {
                self.image.put_pixel(x, y as u32, Luma([40]));
            }
        }
    }

    /// Draws words whose line begins at `y`, unless it would leave the page.
    fn line(&mut self, words: &[(&str, f32)], kind: Type, mut x: f32, y: f32, space: f32) {
        if y + kind.size > self.bottom + kind.size {
            return;
        }
        for (word, wide) in words {
            self.draw(word, kind, x, y + 0.8 * kind.size);
            let area = [x, y, x + wide, y + kind.size];
            self.words.push(Printed { text: (*word).to_owned(), area });
            x += wide + space;
        }
    }

    fn scaled(&self, kind: Type) -> ab_glyph::PxScaleFont<&'p FontVec> {
        let face = &self.press.faces[kind.face].1;
        let units = face.units_per_em().unwrap_or(1000.0);
        face.as_scaled(PxScale::from(kind.size * face.height_unscaled() / units))
    }

    /// How wide a word is; `None` where the face lacks a letter.
    fn width(&self, word: &str, kind: Type) -> Option<f32> {
        let font = self.scaled(kind);
        let glyphs: Vec<_> = word.chars().map(|letter| font.glyph_id(letter)).collect();
        let known = glyphs.iter().all(|glyph| glyph.0 != 0);
        let kerns: f32 = glyphs.windows(2).map(|pair| font.kern(pair[0], pair[1])).sum();
        known.then(|| glyphs.iter().map(|glyph| font.h_advance(*glyph)).sum::<f32>() + kerns)
    }

    fn draw(&mut self, word: &str, kind: Type, mut x: f32, baseline: f32) {
        let font = self.scaled(kind);
        let mut last = None;
        for letter in word.chars() {
            let id = font.glyph_id(letter);
            x += last.map_or(0.0, |last| font.kern(last, id));
            let glyph = id.with_scale_and_position(font.scale(), ab_glyph::point(x, baseline));
            if let Some(outline) = font.font.outline_glyph(glyph) {
                let corner = outline.px_bounds().min;
                outline.draw(|column, row, ink| {
                    let (at_x, at_y) = (corner.x as i64 + i64::from(column), corner.y as i64 + i64::from(row));
                    if at_x >= 0
                        && at_y >= 0
                        && at_x < i64::from(self.image.width())
                        && at_y < i64::from(self.image.height())
                    {
                        let pixel = self.image.get_pixel_mut(at_x as u32, at_y as u32);
                        pixel.0[0] = pixel.0[0].saturating_sub((ink * 255.0) as u8);
                    }
                });
            }
            x += font.h_advance(id);
            last = Some(id);
        }
    }
}
