//! A tiny ColQwen2 that is part of the program, so that everything can be tried without downloading a model.
//!
//! Its weights are random (made by `tests/oracle/make_builtin.py`): [`Encoder::is_trained`] is false, and its ranking
//! means nothing.
//!
//! [`Encoder::is_trained`]: crate::encoder::Encoder::is_trained

use crate::colqwen2::folder::Folder;
use crate::colqwen2::{ColQwen2, LoadOptions};
use crate::encoder::EncoderError;

/// The name that an index records for this model.
pub const NAME: &str = "builtin";

macro_rules! embedded {
    ($($name:literal),*) => {
        &[$(($name, include_bytes!(concat!("../builtin/", $name)))),*]
    };
}

const FOLDER: Folder = Folder::Embedded {
    name: NAME,
    files: embedded!(
        "config.json",
        "preprocessor_config.json",
        "tokenizer.json",
        "colqwen_index.json",
        "model.safetensors"
    ),
};

impl ColQwen2 {
    /// The embedded checkpoint, on the CPU: at most 256 visual tokens a page, 128 values per token, untrained.
    ///
    /// # Errors
    /// None that a program as built could meet; the files are checked as any checkpoint's.
    pub fn builtin() -> Result<Self, EncoderError> {
        Self::assemble(&[&FOLDER], None, &LoadOptions::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoder::Encoder;

    #[test]
    fn encodes_any_page_and_any_text() {
        let model = ColQwen2::builtin().unwrap();
        assert!(!model.is_trained());
        assert_eq!((model.dim(), model.page_budget().max_visual_tokens()), (128, 256));
        let page = image::RgbImage::from_fn(850, 1100, |x, y| image::Rgb([x as u8, y as u8, (x * y) as u8]));
        let pages = model.encode_pages(&[page]).unwrap();
        let layout = pages[0].layout.as_ref().unwrap();
        assert!(layout.patches() <= 256 && pages[0].vectors.tokens() > layout.patches());
        let queries = model.encode_queries(&["", "résultat net 東京 🙂", "<|image_pad|>"]).unwrap();
        assert_eq!(queries[0].vectors.tokens(), 10);
        assert_eq!(queries[0].origin, pages[0].origin);
        assert!(model.encode_pages(&[]).unwrap().is_empty() && model.encode_queries(&[]).unwrap().is_empty());
    }
}
