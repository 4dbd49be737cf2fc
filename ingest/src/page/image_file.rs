//! Picture files as pages: PNG, JPEG, WebP and TIFF.

use std::io::{BufRead, Cursor, Seek};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use image::codecs::jpeg::JpegDecoder;
use image::codecs::png::PngDecoder;
use image::codecs::tiff::TiffDecoder;
use image::codecs::webp::WebPDecoder;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageResult, Limits, RgbImage, RgbaImage};

use super::tiff::{TiffPage, picture_offsets};
use super::{Format, Page, PageError};

/// An open picture file; pictures are decoded when asked for.
pub(super) struct ImageFile {
    format: Format,
    bytes: Vec<u8>,
    /// Where the directory of each TIFF page starts; empty for other formats.
    tiff_pages: Vec<u64>,
}

impl ImageFile {
    pub(super) fn new(path: &Path, format: Format, bytes: Vec<u8>) -> Result<Self, PageError> {
        let tiff_pages = if format == Format::Tiff { picture_offsets(&bytes) } else { Vec::new() };
        let file = Self { format, bytes, tiff_pages };
        // The header is read now, so that a broken file is reported when it is opened.
        let page_one = |source| PageError::Image { path: path.to_owned(), page: 1, source };
        match format {
            Format::Png => PngDecoder::new(Cursor::new(&file.bytes)).map(drop),
            Format::Jpeg => JpegDecoder::new(Cursor::new(&file.bytes)).map(drop),
            Format::WebP => WebPDecoder::new(Cursor::new(&file.bytes)).map(drop),
            Format::Tiff | Format::Pdf => TiffDecoder::new(Cursor::new(&file.bytes)).map(drop),
        }
        .map_err(page_one)?;
        Ok(file)
    }

    pub(super) fn page_count(&self) -> u32 {
        self.tiff_pages.len().max(1) as u32
    }

    pub(super) fn page(&self, path: &Path, number: u32) -> Result<Page, PageError> {
        let decoded = catch_unwind(AssertUnwindSafe(|| self.decode(number))).map_err(|_| PageError::Image {
            path: path.to_owned(),
            page: number,
            source: image::ImageError::IoError(std::io::Error::other("the decoder panicked")),
        })?;
        let image =
            decoded.map_err(|source| PageError::Image { path: path.to_owned(), page: number, source }).map(on_white)?;
        Ok(Page { number, image, text: None, size_points: None, warnings: Vec::new() })
    }

    fn decode(&self, number: u32) -> ImageResult<DynamicImage> {
        let whole = Cursor::new(self.bytes.as_slice());
        match self.format {
            Format::Png => upright(PngDecoder::with_limits(whole, Limits::default())?),
            Format::Jpeg => upright(JpegDecoder::new(whole)?),
            Format::WebP => upright(WebPDecoder::new(whole)?),
            Format::Tiff | Format::Pdf => match self.tiff_pages.get(number as usize - 1) {
                Some(&offset) => tiff_picture(TiffPage::new(&self.bytes, offset)),
                None => tiff_picture(whole),
            },
        }
    }
}

fn tiff_picture(reader: impl BufRead + Seek) -> ImageResult<DynamicImage> {
    upright(TiffDecoder::new(reader)?)
}

/// Decodes a picture and turns it as its EXIF orientation says.
fn upright(mut decoder: impl ImageDecoder) -> ImageResult<DynamicImage> {
    // The decoders limit what they need beside the picture.
    Limits::default().reserve(decoder.total_bytes())?;
    decoder.set_limits(Limits::default())?;
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut image = DynamicImage::from_decoder(decoder)?;
    image.apply_orientation(orientation);
    Ok(image)
}

/// The picture on white paper, 8 bits per channel.
fn on_white(image: DynamicImage) -> RgbImage {
    if !image.color().has_alpha() {
        return image.into_rgb8();
    }
    let rgba: RgbaImage = image.into_rgba8();
    let (width, height) = rgba.dimensions();
    RgbImage::from_fn(width, height, |x, y| {
        let [red, green, blue, alpha] = rgba.get_pixel(x, y).0.map(u32::from);
        let over = |channel: u32| ((channel * alpha + 255 * (255 - alpha) + 127) / 255) as u8;
        image::Rgb([over(red), over(green), over(blue)])
    })
}
