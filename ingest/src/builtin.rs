//! A small ColQwen2 that is part of the program, so that everything can be tried without downloading a model.
//!
//! It was trained by this project from nothing but rendered pages (`train/examples/small_checkpoint`) and reads printed
//! Latin words in the images of pages: a demonstration, no replacement of ColQwen2. Its files lie in `ingest/small`.

use crate::colqwen2::folder::Folder;
use crate::colqwen2::{ColQwen2, LoadOptions};
use crate::encoder::EncoderError;

/// The name that an index records for this model. Another version of the program may have another model of this name; their
/// fingerprints tell them apart.
pub const NAME: &str = "builtin";

macro_rules! embedded {
    ($($name:literal),*) => {
        &[$(($name, include_bytes!(concat!("../small/", $name)))),*]
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
    /// The embedded checkpoint, on the CPU: some 2,420 to 2,560 visual tokens a page, seen in tiles, 128 values per token.
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
        assert!(model.is_trained());
        assert_eq!((model.dim(), model.page_budget().max_visual_tokens()), (128, 2560));
        let page = image::RgbImage::from_fn(425, 550, |x, y| image::Rgb([x as u8, y as u8, (x * y) as u8]));
        let pages = model.encode_pages(&[page]).unwrap();
        let layout = pages[0].layout.as_ref().unwrap();
        // It is enlarged to what the model reads best, 1.9 million pixels.
        assert_eq!((layout.patches(), pages[0].vectors.tokens()), (57 * 44, 2508), "a vector per merged patch");
        let queries = model.encode_queries(&["", "résultat net 東京 🙂", "<|image_pad|>"]).unwrap();
        assert!(queries.iter().all(|query| query.vectors.tokens() > 0 && query.origin == pages[0].origin));
        assert!(model.encode_pages(&[]).unwrap().is_empty() && model.encode_queries(&[]).unwrap().is_empty());
    }

    #[test]
    fn it_is_the_checkpoint_of_the_repository() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("small");
        let of_folder = ColQwen2::load(&folder, &LoadOptions::default()).unwrap();
        assert_eq!(ColQwen2::builtin().unwrap().page_fingerprint(), of_folder.page_fingerprint());
    }
}
