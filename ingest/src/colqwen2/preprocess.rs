//! From a page image to the patches that the vision tower takes, as transformers' `Qwen2VLImageProcessor` does it.

use candle_core::{Device, Tensor};
use colqwen_index_field::MAX_TOKENS;
use fast_image_resize as resize;
use image::RgbImage;
use serde_json::Value;

use super::config::VisionConfig;
use super::fields::Fields;
use super::folder::Folder;
use super::tiles::Tiling;
use crate::encoder::EncoderError;
use crate::page::PixelBudget;

/// Patches of one image: rows x columns, before merging.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Grid {
    /// Rows of patches.
    pub rows: usize,
    /// Columns of patches.
    pub columns: usize,
}

impl Grid {
    /// Number of patches.
    pub fn patches(&self) -> usize {
        self.rows * self.columns
    }

    /// The grid of merged patches.
    pub fn merged(&self, merge_size: usize) -> Self {
        Self { rows: self.rows / merge_size, columns: self.columns / merge_size }
    }

    /// Row and column of every patch in the order in which the model takes them: merged patch by merged patch, and
    /// within each row by row.
    pub fn positions(self, merge_size: usize) -> impl Iterator<Item = (usize, usize)> {
        let merged = self.merged(merge_size);
        (0..merged.rows).flat_map(move |row| {
            (0..merged.columns).flat_map(move |column| {
                (0..merge_size).flat_map(move |inner_row| {
                    (0..merge_size).map(move |inner| (row * merge_size + inner_row, column * merge_size + inner))
                })
            })
        })
    }
}

/// The image processor's settings.
#[derive(Clone, PartialEq, Debug)]
pub struct Preprocessor {
    patch_size: usize,
    merge_size: usize,
    temporal_patch_size: usize,
    min_pixels: u64,
    max_pixels: u64,
    mean: [f64; 3],
    std: [f64; 3],
    rescale_factor: f64,
    tiling: Option<Tiling>,
}

/// ColQwen2's own default; libraries differ (one has 1280).
const MAX_VISUAL_TOKENS: u64 = 768;
const MEAN: [f64; 3] = [0.48145466, 0.4578275, 0.40821073];
const STD: [f64; 3] = [0.26862954, 0.26130258, 0.27577711];

impl Preprocessor {
    /// Reads `processor_config.json` or `preprocessor_config.json` of the first folder that has one, and returns the
    /// file's bytes for the fingerprint. Without a file, ColQwen2's defaults.
    pub(crate) fn read(folders: &[&Folder], vision: &VisionConfig) -> Result<(Self, Vec<u8>), EncoderError> {
        for folder in folders {
            for name in ["processor_config.json", "preprocessor_config.json"] {
                if !folder.has(name) {
                    continue;
                }
                let (path, value) = (folder.path(name), folder.json(name)?);
                let fields = Fields::new(&path, &value);
                let fields = match (name, fields.object("image_processor")) {
                    (_, Some(nested)) => nested,
                    // Such a file without image settings leaves them to the other one.
                    ("processor_config.json", None) => continue,
                    (_, None) => fields,
                };
                return Ok((Self::from_fields(&fields, vision)?, folder.read(name)?.into_owned()));
            }
        }
        let nothing = Value::Object(serde_json::Map::new());
        let path = folders.first().map(|folder| folder.path("preprocessor_config.json")).unwrap_or_default();
        Ok((Self::from_fields(&Fields::new(&path, &nothing), vision)?, Vec::new()))
    }

    fn from_fields(fields: &Fields, vision: &VisionConfig) -> Result<Self, EncoderError> {
        for name in ["do_resize", "do_rescale", "do_normalize"] {
            if !fields.flag(name, true)? {
                return Err(fields.refuse(name, "true"));
            }
        }
        if fields.get("resample").is_some_and(|value| value.as_u64() != Some(3)) {
            return Err(fields.refuse("resample", "3 (bicubic)"));
        }
        for (name, expected) in [
            ("patch_size", vision.patch_size),
            ("merge_size", vision.merge_size),
            ("temporal_patch_size", vision.temporal_patch_size),
        ] {
            if fields.count(name, Some(expected))? != expected {
                return Err(fields.refuse(name, format!("{expected}, as in config.json")));
            }
        }
        let factor = (vision.patch_size * vision.merge_size) as u64;
        // Newest first; the outer old form overrides both, as in transformers.
        let size = fields.object("size");
        let pixels = |outer: &str, inner: &str, default: u64| -> Result<u64, EncoderError> {
            let mut found = fields.get(outer).map(|_| fields.count(outer, None)).transpose()?;
            for name in [inner, outer] {
                if let (None, Some(size)) = (found, &size) {
                    found = size.get(name).map(|_| size.count(name, None)).transpose()?;
                }
            }
            Ok(found.map_or(default, |pixels| pixels as u64))
        };
        let min_pixels = pixels("min_pixels", "shortest_edge", 4 * factor * factor)?;
        let max_pixels = pixels("max_pixels", "longest_edge", MAX_VISUAL_TOKENS * factor * factor)?;
        if max_pixels > MAX_TOKENS as u64 * factor * factor {
            let given = if fields.get("max_pixels").is_some() { "max_pixels" } else { "size" };
            let expected = format!("pixels of at most {MAX_TOKENS} tokens of {factor} x {factor} pixels");
            return Err(fields.refuse(given, expected));
        }
        if min_pixels > max_pixels {
            return Err(fields.refuse("size", format!("no more than {max_pixels} as the smallest number of pixels")));
        }
        Ok(Self {
            patch_size: vision.patch_size,
            merge_size: vision.merge_size,
            temporal_patch_size: vision.temporal_patch_size,
            min_pixels,
            max_pixels,
            mean: fields.numbers("image_mean", MEAN)?,
            std: fields.numbers("image_std", STD)?,
            rescale_factor: fields.number("rescale_factor", 1.0 / 255.0)?,
            tiling: Tiling::read(fields)?,
        })
    }

    /// The sizes this processor brings images to.
    pub fn budget(&self) -> PixelBudget {
        let pixels = |pixels: u64| u32::try_from(pixels).unwrap_or(u32::MAX);
        PixelBudget {
            factor: (self.patch_size * self.merge_size) as u32,
            min_pixels: pixels(self.min_pixels),
            max_pixels: pixels(self.max_pixels),
        }
    }

    /// How pages are cut before the model sees them, if they are.
    pub fn tiling(&self) -> Option<Tiling> {
        self.tiling
    }

    /// The patches of one image, row by row `patches x` ([`VisionConfig::patch_dim`]), and their grid. `index` is for
    /// the messages.
    ///
    /// # Errors
    /// A side of zero, or an aspect ratio above 200.
    pub fn patches(&self, index: usize, image: &RgbImage) -> Result<(Vec<f32>, Grid), EncoderError> {
        let (width, height) = image.dimensions();
        let refuse = |problem: String| EncoderError::Image { index, width, height, problem };
        let (new_height, new_width) = smart_resize(height, width, &self.budget()).map_err(refuse)?;
        let resized;
        let pixels = if (new_height, new_width) == (height, width) {
            image.as_raw()
        } else {
            resized = bicubic(image, new_width, new_height).map_err(refuse)?;
            &resized
        };
        let grid = Grid { rows: new_height as usize / self.patch_size, columns: new_width as usize / self.patch_size };
        Ok((self.cut(pixels, new_width as usize, grid), grid))
    }

    /// Normalises and cuts `pixels` (height x width x 3): each patch is channels x time x height x width.
    fn cut(&self, pixels: &[u8], width: usize, grid: Grid) -> Vec<f32> {
        let tables = self.normalisation();
        let side = self.patch_size;
        let mut values = Vec::with_capacity(grid.patches() * 3 * self.temporal_patch_size * side * side);
        for (row, column) in grid.positions(self.merge_size) {
            for (channel, table) in tables.iter().enumerate() {
                // A still image is its own next frame.
                for _ in 0..self.temporal_patch_size {
                    for y in row * side..(row + 1) * side {
                        let first = y * width + column * side;
                        let line = &pixels[first * 3..(first + side) * 3];
                        values.extend(line.iter().skip(channel).step_by(3).map(|grey| table[usize::from(*grey)]));
                    }
                }
            }
        }
        values
    }

    /// The normalised value of each grey level, per channel, in the order of rounding of transformers' processor.
    fn normalisation(&self) -> [[f32; 256]; 3] {
        let levels = (1.0 / self.rescale_factor) as f32;
        std::array::from_fn(|channel| {
            let (mean, std) = (self.mean[channel] as f32 * levels, self.std[channel] as f32 * levels);
            std::array::from_fn(|grey| (grey as f32 - mean) / std)
        })
    }
}

/// One tensor from the patches of several images: all patches x patch_dim.
pub(crate) fn pixel_tensor(values: Vec<f32>, patch_dim: usize) -> candle_core::Result<Tensor> {
    let patches = values.len() / patch_dim;
    Tensor::from_vec(values, (patches, patch_dim), &Device::Cpu)
}

/// Height and width that an image of `height` x `width` pixels is brought to.
///
/// # Errors
/// What is wrong with the image: a side of zero, or an aspect ratio above 200.
pub fn smart_resize(height: u32, width: u32, budget: &PixelBudget) -> Result<(u32, u32), String> {
    if height == 0 || width == 0 {
        return Err("an image needs both sides".to_owned());
    }
    let (h, w, factor) = (f64::from(height), f64::from(width), f64::from(budget.factor));
    let aspect = h.max(w) / h.min(w);
    if aspect > 200.0 {
        return Err(format!("the aspect ratio must not exceed 200, received {aspect:.1}"));
    }
    // Python's round: halves go to the even neighbour.
    let nearest = |side: f64| (side / factor).round_ties_even() * factor;
    let (rounded_h, rounded_w) = (nearest(h), nearest(w));
    let (min, max) = (f64::from(budget.min_pixels), f64::from(budget.max_pixels));
    let (h, w) = if rounded_h * rounded_w > max {
        let beta = (h * w / max).sqrt();
        let fit = |side: f64| factor.max((side / beta / factor).floor() * factor);
        (fit(h), fit(w))
    } else if rounded_h * rounded_w < min {
        let beta = (min / (h * w)).sqrt();
        let fit = |side: f64| (side * beta / factor).ceil() * factor;
        (fit(h), fit(w))
    } else {
        (rounded_h, rounded_w)
    };
    Ok((h as u32, w as u32))
}

/// Bicubic with antialiasing on 8-bit values, as PIL and torchvision do it (a = -0.5, which is Catmull-Rom): all rows
/// first, then all columns, because overshoot is cut off in between and the order shows.
fn bicubic(image: &RgbImage, width: u32, height: u32) -> Result<Vec<u8>, String> {
    let rows = convolve(image.as_raw(), image.dimensions(), (width, image.height()))?;
    convolve(&rows, (width, image.height()), (width, height))
}

/// Brings `pixels` (`from`: width, height) to the size `to`.
fn convolve(pixels: &[u8], from: (u32, u32), to: (u32, u32)) -> Result<Vec<u8>, String> {
    if from == to {
        return Ok(pixels.to_vec());
    }
    let pixel = resize::PixelType::U8x3;
    let source = resize::images::ImageRef::new(from.0, from.1, pixels, pixel).map_err(|error| error.to_string())?;
    let mut target = resize::images::Image::new(to.0, to.1, pixel);
    let options = resize::ResizeOptions::new()
        .resize_alg(resize::ResizeAlg::Convolution(resize::FilterType::CatmullRom))
        .use_alpha(false);
    resize::Resizer::new().resize(&source, &mut target, &options).map_err(|error| error.to_string())?;
    Ok(target.into_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: PixelBudget = PixelBudget { factor: 28, min_pixels: 56 * 56, max_pixels: 768 * 784 };

    #[test]
    fn patches_come_in_merge_order() {
        let positions: Vec<_> = Grid { rows: 2, columns: 4 }.positions(2).collect();
        assert_eq!(positions, [(0, 0), (0, 1), (1, 0), (1, 1), (0, 2), (0, 3), (1, 2), (1, 3)]);
    }

    #[test]
    fn images_without_a_shape_are_refused() {
        assert!(smart_resize(0, 5, &BUDGET).unwrap_err().contains("both sides"));
        assert!(smart_resize(1, 201, &BUDGET).unwrap_err().contains("200"));
        assert!(smart_resize(1, 200, &BUDGET).is_ok());
    }

    /// Height, width, and what transformers makes of them.
    #[test]
    fn sizes_are_those_of_transformers() {
        let table = [
            (1100, 850, 868, 672),
            (850, 1100, 672, 868),
            (896, 672, 896, 672),
            (14, 14, 56, 56),
            (42, 70, 56, 56),
            (70, 42, 56, 56),
            (98, 126, 112, 112),
            (1, 1, 56, 56),
            (10, 1999, 28, 812),
            (2000, 10, 812, 28),
            (3508, 2480, 896, 644),
            (5000, 26, 5012, 28),
            (28, 28, 56, 56),
            (55, 57, 56, 56),
            (770, 770, 756, 756),
            (776, 776, 756, 756),
            (784, 768, 784, 756),
            (13, 200, 28, 224),
            (602, 1002, 588, 980),
            (1684, 1190, 896, 644),
        ];
        for (height, width, new_height, new_width) in table {
            assert_eq!(smart_resize(height, width, &BUDGET), Ok((new_height, new_width)), "{height} x {width}");
        }
    }

    #[test]
    fn old_and_new_forms_of_the_limits() {
        let vision = serde_json::json!({"model_type": "qwen2_vl", "hidden_size": 8, "intermediate_size": 8,
            "num_attention_heads": 2, "num_hidden_layers": 1, "vocab_size": 8, "vision_config": {},
            "rope_scaling": {"mrope_section": [1, 1, 0]}});
        let path = std::path::Path::new("config.json");
        let vision = super::super::config::Config::from_value(path, &vision).unwrap().vision;
        let budget = |value: Value| {
            let budget = Preprocessor::from_fields(&Fields::new(path, &value), &vision).map(|read| read.budget());
            budget.map(|budget| (budget.min_pixels, budget.max_pixels)).map_err(|error| error.to_string())
        };
        use serde_json::json;
        assert_eq!(budget(json!({})), Ok((3136, 602_112)));
        assert_eq!(budget(json!({"min_pixels": 784, "max_pixels": 7840})), Ok((784, 7840)));
        assert_eq!(budget(json!({"size": {"shortest_edge": 784, "longest_edge": 7840}})), Ok((784, 7840)));
        assert_eq!(budget(json!({"size": {"min_pixels": 784, "max_pixels": 7840}})), Ok((784, 7840)));
        let both = json!({"max_pixels": 9000, "size": {"shortest_edge": 784, "longest_edge": 7840}});
        assert_eq!(budget(both), Ok((784, 9000)));
        // A page has at most 65,535 tokens.
        let most = 65_535 * 784;
        assert_eq!(budget(json!({"max_pixels": most})), Ok((3136, most)));
        for value in [json!({"max_pixels": most + 1}), json!({"size": {"longest_edge": u64::MAX}})] {
            let error = budget(value).unwrap_err();
            assert!(error.contains("expected pixels of at most 65535 tokens"), "{error}");
        }
        assert!(budget(json!({"patch_size": 16})).unwrap_err().contains("patch_size"));
        assert!(budget(json!({"resample": 2})).unwrap_err().contains("bicubic"));
    }
}
