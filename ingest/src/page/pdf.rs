//! PDF pages through hayro: rendered straight to the model's size, and their glyphs.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex};

use hayro::kurbo::{Affine, Rect};
use hayro::vello_cpu::color::palette::css::WHITE;
use hayro::vello_cpu::{Pixmap, RasterizerSettings, RenderContext, Resources, TargetInit};
use hayro::{RenderCache, RenderSettings};
use hayro_interpret::{
    Context, InterpreterCache, InterpreterSettings, InterpreterWarning, TransformExt, interpret_page,
};
use hayro_syntax::page::Page as PdfPage;
use hayro_syntax::{DecryptionError, LoadPdfError, Pdf};
use image::RgbImage;

use super::pdf_images::oversized_in;
use super::text::{GlyphCollector, TextLayer};
use super::{Page, PageError, PixelBudget};

/// An open PDF.
pub(super) struct PdfFile {
    pdf: Pdf,
    page_count: u32,
}

/// The end marker of a PDF stands in this many bytes from its end, trailing blanks apart.
const END_MARKER_WITHIN: usize = 2048;

impl PdfFile {
    pub(super) fn new(path: &Path, bytes: Vec<u8>) -> Result<Self, PageError> {
        let path = || path.to_owned();
        if let Some(detail) = truncation(&bytes) {
            return Err(PageError::Truncated { path: path(), detail });
        }
        let load = || Pdf::new(bytes).map(|pdf| (oversized_in(&pdf), pdf));
        let loaded = catch_unwind(AssertUnwindSafe(load))
            .map_err(|panic| PageError::Damaged { path: path(), detail: panic_message(panic) })?;
        let (oversized, pdf) = loaded.map_err(|error| match error {
            LoadPdfError::Decryption(DecryptionError::PasswordProtected) => PageError::Encrypted { path: path() },
            LoadPdfError::Decryption(error) => PageError::Decryption {
                path: path(),
                detail: match error {
                    DecryptionError::MissingIDEntry => "the file identifier is missing",
                    DecryptionError::UnsupportedAlgorithm => "the algorithm is not supported",
                    _ => "the encryption dictionary is invalid",
                },
            },
            LoadPdfError::Invalid => {
                let detail = "neither its cross-reference table nor its pages can be found".to_owned();
                PageError::Damaged { path: path(), detail }
            }
        })?;
        if let Some(detail) = oversized {
            return Err(PageError::Damaged { path: path(), detail });
        }
        let page_count = u32::try_from(pdf.pages().len()).unwrap_or(u32::MAX);
        if page_count == 0 {
            return Err(PageError::NoPages { path: path() });
        }
        Ok(Self { pdf, page_count })
    }

    pub(super) fn page_count(&self) -> u32 {
        self.page_count
    }

    pub(super) fn reader(&self) -> PdfReader<'_> {
        let warnings = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&warnings);
        let settings = InterpreterSettings {
            warning_sink: Arc::new(move |warning| {
                let text = match warning {
                    InterpreterWarning::UnsupportedFont => "a font could not be loaded",
                    InterpreterWarning::ImageDecodeFailure => "an image could not be decoded",
                    InterpreterWarning::UnresolvedAnnotationAppearance => "an annotation could not be drawn",
                    _ => "some content could not be drawn",
                };
                let mut warnings = sink.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                if !warnings.contains(&text) {
                    warnings.push(text);
                }
            }),
            ..InterpreterSettings::default()
        };
        PdfReader { file: self, settings, warnings, caches: Caches::default(), pages_cached: 0 }
    }
}

/// Why the bytes look like the first part of a longer PDF.
fn truncation(bytes: &[u8]) -> Option<String> {
    if let Some(length) = linearized_length(bytes)
        && length > bytes.len()
    {
        return Some(format!("it says it has {length} bytes, but the file has {}", bytes.len()));
    }
    let trimmed = bytes.iter().rposition(|byte| !matches!(byte, 0 | b' ' | b'\t' | b'\r' | b'\n')).map_or(0, |i| i + 1);
    let tail = &bytes[trimmed.saturating_sub(END_MARKER_WITHIN)..trimmed];
    let has = |marker: &[u8]| tail.windows(marker.len()).any(|window| window == marker);
    if has(b"%%EOF") || has(b"startxref") {
        return None;
    }
    Some(format!("no end marker (%%EOF) at the end of its {} bytes", bytes.len()))
}

/// The file length a linearized PDF states at its beginning, in bytes.
fn linearized_length(bytes: &[u8]) -> Option<usize> {
    let head = &bytes[..bytes.len().min(1024)];
    let find = |from: usize, what: &[u8]| head[from..].windows(what.len()).position(|w| w == what).map(|at| from + at);
    let dictionary = find(0, b"/Linearized")?;
    let end = find(dictionary, b">>").unwrap_or(head.len());
    let length = find(dictionary, b"/L ").filter(|&at| at < end)? + 3;
    let digits: String = head[length..end].iter().take_while(|b| b.is_ascii_digit()).map(|&b| b as char).collect();
    digits.parse().ok()
}

/// Reads pages of one [`PdfFile`], keeping fonts and glyphs between them.
pub(super) struct PdfReader<'d> {
    file: &'d PdfFile,
    settings: InterpreterSettings,
    warnings: Arc<Mutex<Vec<&'static str>>>,
    caches: Caches<'d>,
    pages_cached: u32,
}

#[derive(Default)]
struct Caches<'d> {
    render: RenderCache<'d>,
    text: InterpreterCache<'d>,
}

/// The caches keep every decoded image and never shrink, so they start afresh after this many pages.
const PAGES_PER_CACHE: u32 = 32;

impl<'d> PdfReader<'d> {
    pub(super) fn page(&mut self, path: &Path, number: u32, budget: &PixelBudget) -> Result<Page, PageError> {
        if self.pages_cached >= PAGES_PER_CACHE {
            self.forget();
        }
        self.pages_cached += 1;
        self.warnings.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clear();

        let failed = |message| PageError::Interpreter { path: path.to_owned(), page: number, message };
        let Some(page) = self.file.pdf.pages().get(number as usize - 1) else {
            return Err(failed("the page has gone".to_owned()));
        };
        let read = catch_unwind(AssertUnwindSafe(|| {
            let text = self.text(page)?;
            Ok((text, self.render(page, budget)))
        }));
        let read = read.map_err(|panic| {
            // A panic can leave a cache half filled.
            self.forget();
            failed(panic_message(panic))
        })?;
        let (text, image) = read.map_err(failed)?;
        let image = image.ok_or_else(|| failed("the picture has the wrong size".to_owned()))?;
        let (width, height) = page.render_dimensions();
        let warnings = self.warnings.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        Ok(Page { number, image, text: Some(text), size_points: Some([width, height]), warnings })
    }

    fn forget(&mut self) {
        self.caches = Caches::default();
        self.pages_cached = 0;
    }

    /// The page's words; coordinates are points from the top left corner of the page as displayed. An error where the page shows
    /// an image that cannot be rendered.
    fn text(&self, page: &'d PdfPage<'d>) -> Result<TextLayer, String> {
        let (width, height) = page.render_dimensions();
        let (width, height) = (f64::from(width), f64::from(height));
        let transform = page.initial_transform(true).to_kurbo();
        let area = Rect::new(0.0, 0.0, width, height);
        let mut context = Context::new(transform, area, &self.caches.text, page.xref(), self.settings.clone());
        let mut collector = GlyphCollector::default();
        interpret_page(page, &mut context, &mut collector);
        Ok(TextLayer::from_glyphs(collector.into_glyphs()?, width, height))
    }

    fn render(&self, page: &'d PdfPage<'d>, budget: &PixelBudget) -> Option<RgbImage> {
        let (page_width, page_height) = page.render_dimensions();
        let (page_width, page_height) = (f64::from(page_width), f64::from(page_height));
        let (width, height) = budget.fill(page_width, page_height);
        let pixmap_width = u16::try_from(width).ok()?;
        let pixmap_height = u16::try_from(height).ok()?;

        // The two scales differ by less than one tile, as they do after smart_resize.
        let scale = Affine::scale_non_uniform(f64::from(width) / page_width, f64::from(height) / page_height);
        let transform = scale * page.initial_transform(true).to_kurbo();
        let mut context = RenderContext::new(pixmap_width, pixmap_height);
        let render_settings = RenderSettings::default();
        hayro::render_into(page, &self.caches.render, &self.settings, &render_settings, &mut context, transform);
        context.flush();
        let mut pixmap = Pixmap::new(pixmap_width, pixmap_height);
        let raster = RasterizerSettings { target_init: TargetInit::Clear(WHITE), ..RasterizerSettings::default() };
        context.render_with(&mut pixmap, &mut Resources::default(), raster);

        let rgb = pixmap.data_as_u8_slice().chunks_exact(4).flat_map(|rgba| [rgba[0], rgba[1], rgba[2]]).collect();
        RgbImage::from_raw(width, height, rgb)
    }
}

fn panic_message(panic: Box<dyn std::any::Any + Send>) -> String {
    match panic.downcast::<String>() {
        Ok(message) => *message,
        Err(panic) => panic.downcast_ref::<&str>().map_or("it panicked", |message| message).to_owned(),
    }
}
