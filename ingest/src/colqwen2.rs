//! ColQwen2: a Qwen2-VL vision tower and language model with a projection to one vector per token.
//!
//! Read in this order: [`preprocess`] cuts a page image into patches, `vision` turns them into one vector per merged
//! patch, `language` reads them among the tokens of a prompt ([`tokens`]), and `projection` makes token vectors of
//! length 1; [`tiles`] cuts pages that are too large for one look. [`model`] is the four on tensors; [`ColQwen2`] is the model with tokenizer, image processor and identity.
//! [`weights`], [`layout`](query_format) and `checkpoint` bring every layout of the weights to one; [`ops`] alone
//! chooses how operations are computed.

mod adapter;
mod attention;
mod attention_gradient;
mod backbone;
mod checkpoint;
mod config;
pub mod derivative;
mod differentiable;
mod elementwise;
mod fields;
mod fingerprint;
#[cfg(feature = "flash-attn")]
mod flash;
pub(crate) mod folder;
mod language;
mod layout;
mod load;
pub mod model;
pub mod ops;
pub mod pass;
pub mod preprocess;
mod projection;
pub mod query_format;
mod save;
mod settings;
pub mod tiles;
#[cfg(test)]
mod tiny;
pub mod tokens;
mod vision;
pub mod weights;

use candle_core::{DType, Device, Tensor};
use colqwen_index_field::{Fingerprint, MultiVector, Origin, PageLayout, PageVectors, QueryVectors, UnitLength};
use image::RgbImage;
use rayon::prelude::*;

pub use self::backbone::HiddenStates;
pub use self::config::{Config, TextConfig, VisionConfig};
pub use self::load::{LoadOptions, WeightMemory, parse_device};
pub use self::save::{missing_projection, save_new_model};
pub use self::settings::Settings;

pub(crate) use self::adapter::CONFIG as ADAPTER_CONFIG;
pub(crate) use self::load::CONFIG as CONFIG_FILE;
pub(crate) use self::settings::FILE as SETTINGS_FILE;

use self::checkpoint::Checkpoint;
use self::folder::Folder;
use self::model::{Model, ModelInput};
use self::ops::Ops;
use self::preprocess::{Grid, Preprocessor};
use self::query_format::QueryFormat;
use self::tokens::Tokens;
use crate::encoder::{Backbone, Encoder, EncoderError};
use crate::page::PixelBudget;

/// A ColQwen2 checkpoint, loaded and ready to encode.
pub struct ColQwen2 {
    model: Model,
    /// Where the files come from: the base last.
    folders: Vec<Folder>,
    checkpoint: Checkpoint,
    /// The identity of all files but the weights.
    setup: Fingerprint,
    preprocessor: Preprocessor,
    tokens: Tokens,
    query_format: QueryFormat,
    trained: bool,
    page_fingerprint: Fingerprint,
    query_fingerprint: Fingerprint,
    serves_pages_of: Fingerprint,
    ops: Ops,
    pages_per_batch: usize,
    /// Whether pages are spread over the cores one by one: better than splitting small matrix products.
    page_per_core: bool,
}

/// What a page takes on its way through the network.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageSize {
    /// Patches that the vision tower looks at, some of them more than once if it looks at tiles.
    pub patches: usize,
    /// Tokens of the language model, those of prompts included.
    pub tokens: usize,
    /// Token vectors that come of them.
    pub vectors: usize,
}

impl ColQwen2 {
    /// The network on tensors.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The canonical names and shapes of all weights, in the order of the names.
    pub fn weights(&self) -> impl Iterator<Item = (&str, Vec<usize>)> {
        self.checkpoint.tensors().map(|(name, _, weight)| (name, weight.shape))
    }

    /// The weight of this canonical name, an adapter's update included, in f32 on the CPU.
    ///
    /// # Errors
    /// There is none, or a failure of the tensor library.
    pub fn weight(&self, name: &str) -> Result<Tensor, EncoderError> {
        Ok(self.checkpoint.mapped(name, &[])?.tensor()?)
    }

    /// Whether an adapter was merged into the weights when they were loaded.
    pub fn has_adapter(&self) -> bool {
        self.folders.len() > 1
    }

    /// The image processor.
    pub fn preprocessor(&self) -> &Preprocessor {
        &self.preprocessor
    }

    /// The id that fills up shorter sequences where an implementation needs that.
    pub fn padding_id(&self) -> u32 {
        self.tokens.padding()
    }

    /// The id that stands for one merged patch.
    pub fn image_token_id(&self) -> u32 {
        self.tokens.image()
    }

    /// The model's input for a batch of page images. A page that is looked at in tiles is several sequences, of whose tokens
    /// those are kept that make its vectors.
    ///
    /// # Errors
    /// An image that the model cannot take.
    pub fn page_input(&self, pages: &[RgbImage]) -> Result<ModelInput, EncoderError> {
        let Some(tiling) = self.preprocessor.tiling() else { return self.page_input_from(0, pages) };
        let tiled = |(at, page)| {
            let page = self.cut_into_tiles(tiling, at, page)?;
            Ok(ModelInput { kept: Some(page.places.clone()), ..page.input(&self.tokens, &page.shown)? })
        };
        let inputs = pages.iter().enumerate().map(tiled).collect::<Result<Vec<_>, EncoderError>>()?;
        ModelInput::packed(&inputs)
    }

    /// What an upright page of the largest size takes.
    pub fn largest_page(&self) -> PageSize {
        let merge = self.model.config().vision.merge_size.pow(2);
        let merged = self.page_budget().max_visual_tokens() as usize;
        let rows = ((merged as f64 * std::f64::consts::SQRT_2).sqrt() as usize).clamp(1, merged.max(1));
        let grid = Grid { rows, columns: (merged / rows).max(1) };
        let shown: Vec<usize> = match self.preprocessor.tiling() {
            Some(tiling) => tiling.tiles(grid).iter().map(|tile| tile.grid().patches()).collect(),
            None => vec![merged],
        };
        let tokens = shown.iter().map(|patches| self.tokens.page(*patches).len()).sum();
        let vectors = if self.preprocessor.tiling().is_some() { grid.patches() } else { tokens };
        PageSize { patches: shown.iter().sum::<usize>() * merge, tokens, vectors }
    }

    fn page_input_from(&self, first: usize, pages: &[RgbImage]) -> Result<ModelInput, EncoderError> {
        let vision = &self.model.config().vision;
        let (mut values, mut grids) = (Vec::new(), Vec::with_capacity(pages.len()));
        for (at, page) in pages.iter().enumerate() {
            let (patches, grid) = self.preprocessor.patches(first + at, page)?;
            values.extend(patches);
            grids.push(grid);
        }
        let sequences = grids.iter().map(|grid| self.tokens.page(grid.merged(vision.merge_size).patches())).collect();
        Ok(ModelInput::images(sequences, preprocess::pixel_tensor(values, vision.patch_dim())?, grids))
    }

    /// The model's input for a batch of queries.
    ///
    /// # Errors
    /// The tokenizer refuses a text, or makes more tokens of it than a query may have.
    pub fn query_input(&self, queries: &[&str]) -> Result<ModelInput, EncoderError> {
        let ids = |query: &&str| self.tokens.query(query, self.query_format);
        let sequences = queries.iter().map(ids).collect::<Result<_, _>>()?;
        Ok(ModelInput::texts(sequences))
    }

    /// The vectors of all `pages`, and what `keep` makes of the states behind those of each.
    fn encode_each<S: Send>(
        &self,
        pages: &[RgbImage],
        keep: impl Fn(&Tensor) -> Result<S, EncoderError> + Sync,
    ) -> Result<Vec<(PageVectors, S)>, EncoderError> {
        let batch = if self.page_per_core { 1 } else { self.pages_per_batch };
        let encode = |(at, pages): (usize, &[RgbImage])| self.encode_batch(at * batch, pages, &keep);
        let batches: Vec<Vec<(PageVectors, S)>> = if self.page_per_core {
            pages.par_chunks(batch).enumerate().map(encode).collect::<Result<_, _>>()?
        } else {
            pages.chunks(batch).enumerate().map(encode).collect::<Result<_, _>>()?
        };
        Ok(batches.into_iter().flatten().collect())
    }

    fn encode_batch<S>(
        &self,
        first: usize,
        pages: &[RgbImage],
        keep: &impl Fn(&Tensor) -> Result<S, EncoderError>,
    ) -> Result<Vec<(PageVectors, S)>, EncoderError> {
        if let Some(tiling) = self.preprocessor.tiling() {
            let tiled = |(page, at)| {
                let (states, grid) = self.tiled_states(tiling, at, page)?;
                let layout = PageLayout { first_patch: 0, ..self.layout(&grid)? };
                Ok((self.page_of(&states, layout)?, keep(&states)?))
            };
            return pages.iter().zip(first..).map(tiled).collect();
        }
        let input = self.page_input_from(first, pages)?;
        let states = self.model.hidden(&input, self.ops)?;
        let mut start = 0;
        let of_page = |(ids, grid): (&Vec<u32>, &Grid)| {
            let states = states.narrow(0, start, ids.len())?;
            start += ids.len();
            Ok((self.page_of(&states, self.layout(grid)?)?, keep(&states)?))
        };
        input.sequences.iter().zip(&input.grids).map(of_page).collect()
    }

    /// A page of the vectors that the projection makes of `states`.
    fn page_of(&self, states: &Tensor, layout: PageLayout) -> Result<PageVectors, EncoderError> {
        let vectors = self.model.project(states)?.to_dtype(DType::F32)?.to_device(&Device::Cpu)?;
        let vectors = MultiVector::try_new(self.dim(), vectors.flatten_all()?.to_vec1()?, UnitLength::Require)?;
        Ok(PageVectors::new(vectors).with_origin(Origin::Model(self.page_fingerprint)).with_layout(layout)?)
    }

    fn layout(&self, grid: &Grid) -> Result<PageLayout, EncoderError> {
        let vision = &self.model.config().vision;
        let merged = grid.merged(vision.merge_size);
        let narrow = |what: &'static str, value: usize| {
            u16::try_from(value).map_err(|_| EncoderError::Input {
                what,
                expected: "at most 65535".to_owned(),
                received: value.to_string(),
            })
        };
        Ok(PageLayout {
            width: (grid.columns * vision.patch_size) as u32,
            height: (grid.rows * vision.patch_size) as u32,
            grid_rows: narrow("rows of merged patches", merged.rows)?,
            grid_cols: narrow("columns of merged patches", merged.columns)?,
            first_patch: narrow("first image token", self.tokens.first_patch())?,
            token_patches: None,
        })
    }
}

/// One multi-vector per sequence of `input` from all token vectors.
fn split(vectors: &Tensor, input: &ModelInput) -> Result<Vec<MultiVector>, EncoderError> {
    let dim = vectors.dim(1)?;
    let values: Vec<f32> = vectors.to_dtype(DType::F32)?.to_device(&Device::Cpu)?.flatten_all()?.to_vec1()?;
    let mut rest = values.as_slice();
    let pages = input.sequences.iter().map(|ids| {
        let (page, after) = rest.split_at(ids.len() * dim);
        rest = after;
        Ok(MultiVector::try_new(dim, page.to_vec(), UnitLength::Require)?)
    });
    pages.collect()
}

impl Encoder for ColQwen2 {
    fn dim(&self) -> usize {
        self.model.dim()
    }

    fn page_fingerprint(&self) -> Fingerprint {
        self.page_fingerprint
    }

    fn query_fingerprint(&self) -> Fingerprint {
        self.query_fingerprint
    }

    fn serves_pages_of(&self) -> Fingerprint {
        self.serves_pages_of
    }

    fn query_format(&self) -> &str {
        self.query_format.name()
    }

    fn page_budget(&self) -> PixelBudget {
        self.preprocessor.budget()
    }

    fn pages_at_once(&self) -> usize {
        if self.page_per_core {
            rayon::current_num_threads()
        } else if self.model.device().is_cpu() {
            1
        } else {
            self.pages_per_batch
        }
    }

    fn is_trained(&self) -> bool {
        self.trained
    }

    fn encode_pages(&self, pages: &[RgbImage]) -> Result<Vec<PageVectors>, EncoderError> {
        Ok(self.encode_each(pages, |_| Ok(()))?.into_iter().map(|(vectors, ())| vectors).collect())
    }

    fn backbone(&self) -> Option<Backbone> {
        Some(Backbone { fingerprint: self.backbone_fingerprint(), hidden_size: self.hidden_size() })
    }

    fn encode_pages_with_states(
        &self,
        pages: &[RgbImage],
    ) -> Result<Vec<(PageVectors, Option<HiddenStates>)>, EncoderError> {
        self.encode_each(pages, |states| Ok(backbone::half(states, &[states.dim(0)?])?.pop()))
    }

    fn project(&self, states: &HiddenStates) -> Result<MultiVector, EncoderError> {
        self.project_states(states)
    }

    fn encode_queries(&self, queries: &[&str]) -> Result<Vec<QueryVectors>, EncoderError> {
        if queries.is_empty() {
            return Ok(Vec::new());
        }
        let input = self.query_input(queries)?;
        let vectors = split(&self.model.forward(&input, self.ops)?, &input)?;
        let origin = Origin::Model(self.serves_pages_of);
        Ok(vectors.into_iter().map(|vectors| QueryVectors::new(vectors).with_origin(origin)).collect())
    }
}
