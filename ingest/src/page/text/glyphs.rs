//! Glyphs as a page draws them: text, place, size and whether they are seen.

use hayro::kurbo::{Affine, BezPath, Point, Vec2};
use hayro_interpret::font::{Glyph as DrawnGlyph, GlyphRun};
use hayro_interpret::hayro_cmap::{BfString, WritingMode};
use hayro_interpret::{BlendMode, ClipPath, Device, DrawMode, DrawProps, Image, ImageDrawProps, SoftMask};
use hayro_syntax::object::{Dict, String as PdfString};

use super::area::Area;
use super::unicode::{readable, text_string};
use crate::page::pdf_images::oversized;

/// Heights above and below the baseline that a word's box covers, in units of the font size.
const ASCENT: f64 = 0.78;
const DESCENT: f64 = 0.22;

/// One glyph, or several that stand for one text.
#[derive(Clone, Debug)]
pub(in crate::page) struct Glyph {
    /// Its Unicode text; blank for a space.
    pub text: String,
    /// Direction of the line, in degrees clockwise from rightwards.
    pub turn: i16,
    /// Where it begins and ends along the line, in points.
    pub u0: f64,
    pub u1: f64,
    /// Its baseline across the line, in points.
    pub v: f64,
    /// The font size in points.
    pub size: f64,
    /// Whether it is painted, not drawn in the invisible mode of OCR layers.
    pub visible: bool,
}

impl Glyph {
    /// Whether it is a space, which ends a word.
    pub fn is_blank(&self) -> bool {
        self.text.chars().all(char::is_whitespace)
    }

    pub(super) fn area(&self) -> Area {
        Area {
            turn: self.turn,
            u0: self.u0,
            u1: self.u1,
            v0: self.v - ASCENT * self.size,
            v1: self.v + DESCENT * self.size,
        }
    }
}

/// A device that paints nothing and keeps the glyphs, in drawing order.
#[derive(Default)]
pub(in crate::page) struct GlyphCollector {
    glyphs: Vec<Glyph>,
    /// Open marked-content sequences; those with a text of their own, and the glyphs before them.
    marked: Vec<Option<(String, usize)>>,
    /// What is wrong with an image that is too large to be rendered: one within the content of a page is met here first.
    oversized: Option<String>,
}

impl GlyphCollector {
    /// The glyphs; an error where an image is too large to be rendered.
    pub(in crate::page) fn into_glyphs(self) -> Result<Vec<Glyph>, String> {
        self.oversized.map_or(Ok(self.glyphs), Err)
    }

    fn collect(&mut self, run: &GlyphRun<'_, '_>, page: Affine, visible: bool) {
        let transforms: Vec<Affine> = run.glyphs().iter().map(|glyph| page * glyph.transform()).collect();
        let stretched = stretches_glyphs(&transforms);
        let type3_size = type3_size(run, &transforms);
        for (glyph, transform) in run.glyphs().iter().zip(&transforms) {
            let Some(text) = glyph.as_unicode() else { continue };
            let text = readable(text);
            if text.is_empty() {
                continue;
            }
            let [a, b, c, d, ..] = transform.as_coeffs();
            // Glyph space has 1,000 units to the font size.
            let along = Vec2::new(a, b) * 1000.0;
            let size = type3_size.unwrap_or_else(|| c.hypot(d) * 1000.0);
            if !(along.hypot() > 1e-3 && size > 1e-3 && size.is_finite()) {
                continue;
            }
            let width = match &**glyph {
                DrawnGlyph::Outline(outline) => outline.advance_width(),
                DrawnGlyph::Type3(type3) => type3.advance_width(),
            };
            let width = f64::from(width.unwrap_or(500.0)) / 1000.0;
            let advance = if stretched { along.normalize() * size * width } else { along * width };
            let start = *transform * Point::ZERO;
            let placed = match run.writing_mode() {
                WritingMode::Horizontal => place(text, start, along, advance.hypot(), size, visible),
                WritingMode::Vertical => {
                    // The origin is at the glyph's left, its line runs down.
                    let down = Vec2::new(-along.y, along.x);
                    let baseline = start - down.normalize() * 0.88 * size + along.normalize() * DESCENT * size;
                    place(text, baseline, down, size, size, visible)
                }
            };
            self.glyphs.push(placed);
        }
    }
}

fn place(text: String, start: Point, direction: Vec2, advance: f64, size: f64, visible: bool) -> Glyph {
    let turn = direction.atan2().to_degrees().round().rem_euclid(360.0);
    let (sin, cos) = turn.to_radians().sin_cos();
    let u0 = start.x * cos + start.y * sin;
    let v = start.y * cos - start.x * sin;
    Glyph { text, turn: turn as i16, u0, u1: u0 + advance, v, size, visible }
}

/// Whether a substitute font's glyphs are each scaled to the width the PDF expects, so that the run's transforms
/// differ in scale and say nothing about advances.
fn stretches_glyphs(transforms: &[Affine]) -> bool {
    let scale = |transform: &Affine| {
        let [a, b, ..] = transform.as_coeffs();
        a.hypot(b)
    };
    let scales = transforms.iter().map(scale);
    let (least, most) = scales.fold((f64::INFINITY, 0.0_f64), |(low, high), s| (low.min(s), high.max(s)));
    most > least * 1.005
}

/// A Type 3 font's size says little, as its glyphs may be drawn at any scale; its advances tell more.
fn type3_size(run: &GlyphRun<'_, '_>, transforms: &[Affine]) -> Option<f64> {
    let mut advances = Vec::new();
    for (glyph, transform) in run.glyphs().iter().zip(transforms) {
        let DrawnGlyph::Type3(type3) = &**glyph else { return None };
        let [a, b, ..] = transform.as_coeffs();
        let advance = f64::from(type3.advance_width().unwrap_or(0.0)) * a.hypot(b);
        if advance > 0.0 {
            advances.push(advance);
        }
    }
    advances.sort_by(f64::total_cmp);
    // Letters are about half as wide as the font size.
    advances.get(advances.len() / 2).map(|median| median * 2.0)
}

impl<'a> Device<'a> for GlyphCollector {
    fn draw_glyph_run(&mut self, run: &GlyphRun<'_, 'a>, props: DrawProps<'a>, mode: &DrawMode) {
        self.collect(run, props.transform, !matches!(mode, DrawMode::Invisible));
    }

    fn begin_marked_content(&mut self, _tag: &[u8], properties: Option<&Dict<'_>>) {
        let nested = self.marked.iter().any(Option::is_some);
        let text = properties.and_then(|dict| dict.get::<PdfString<'_>>(b"ActualText".as_slice()));
        let replacement = text.filter(|_| !nested).map(|text| (text_string(text.as_bytes()), self.glyphs.len()));
        self.marked.push(replacement);
    }

    fn end_marked_content(&mut self) {
        if let Some((text, start)) = self.marked.pop().flatten() {
            let drawn = self.glyphs.split_off(start.min(self.glyphs.len()));
            self.glyphs.extend(replaced(drawn, &text));
        }
    }

    fn draw_image(&mut self, image: Image<'a, '_>, _: ImageDrawProps<'a>) {
        self.oversized = self.oversized.take().or_else(|| match &image {
            Image::Stencil(stencil) => oversized(stencil.stream()),
            Image::Raster(raster) => oversized(raster.stream()),
        });
    }

    fn draw_path(&mut self, _: &BezPath, _: DrawProps<'a>, _: &DrawMode) {}
    fn push_clip_path(&mut self, _: &ClipPath) {}
    fn push_transparency_group(&mut self, _: f32, _: Option<SoftMask<'a>>, _: BlendMode) {}
    fn pop_clip(&mut self) {}
    fn pop_transparency_group(&mut self) {}
}

/// The glyphs with the text their author gives for them; as drawn, where both say the same or lines differ.
fn replaced(drawn: Vec<Glyph>, text: &str) -> Vec<Glyph> {
    let letters = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
    let shown: String = drawn.iter().map(|glyph| letters(&glyph.text)).collect();
    let text = readable(BfString::String(text.to_owned()));
    let Some(first) = drawn.first() else { return drawn };
    let one_line = drawn.iter().all(|glyph| glyph.turn == first.turn && (glyph.v - first.v).abs() < first.size / 2.0);
    if shown == letters(&text) || !one_line || text.contains(char::is_whitespace) {
        return drawn;
    }
    let u0 = drawn.iter().map(|glyph| glyph.u0).fold(f64::INFINITY, f64::min);
    let u1 = drawn.iter().map(|glyph| glyph.u1).fold(f64::NEG_INFINITY, f64::max);
    if text.is_empty() { Vec::new() } else { vec![Glyph { text, u0, u1, ..first.clone() }] }
}
