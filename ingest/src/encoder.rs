//! What a page-and-query model offers to the rest of the program; one file per model implements it.

mod error;

pub use error::EncoderError;

use colqwen_index_field::{Fingerprint, MultiVector, PageVectors, QueryVectors};
use image::RgbImage;

use crate::colqwen2::HiddenStates;
use crate::page::PixelBudget;

/// What a model is without its projection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Backbone {
    /// The identity of everything that hidden states depend on.
    pub fingerprint: Fingerprint,
    /// Values per token of hidden states.
    pub hidden_size: usize,
}

/// A model that turns page images and query texts into multi-vectors that can be compared by MaxSim.
///
/// The dimension of the vectors is data ([`Encoder::dim`]), not a constant: models differ.
pub trait Encoder: Send + Sync {
    /// Values per token vector.
    fn dim(&self) -> usize;

    /// The identity of the pages this model makes; stored with every page.
    fn page_fingerprint(&self) -> Fingerprint;

    /// The identity of the queries this model makes: the same files as [`Encoder::page_fingerprint`], another domain.
    fn query_fingerprint(&self) -> Fingerprint;

    /// The page fingerprint of the pages that this model's queries are meant for: its own, unless the checkpoint was
    /// trained on the query side only and says whose pages it serves.
    fn serves_pages_of(&self) -> Fingerprint;

    /// The name of the form in which queries reach the model, recorded beside the vectors.
    fn query_format(&self) -> &str;

    /// The image sizes the model looks at, so that a renderer can choose a resolution.
    fn page_budget(&self) -> PixelBudget;

    /// How many pages are worth encoding together; more gain nothing, and take longer to interrupt.
    fn pages_at_once(&self) -> usize {
        1
    }

    /// Whether the weights were ever trained. The ranking of an untrained model means nothing.
    fn is_trained(&self) -> bool {
        true
    }

    /// Encodes page images of any sizes, in order. A batch gives what single pages give. Every token the model saw is
    /// kept, prompt tokens included, and [`PageVectors::layout`] says which of them are patches.
    ///
    /// # Errors
    /// An image the model cannot take (a side of zero, an aspect ratio above 200), or a failure of the device.
    fn encode_pages(&self, pages: &[RgbImage]) -> Result<Vec<PageVectors>, EncoderError>;

    /// What makes the hidden states, where the model has a projection that makes vectors of them. Reads all weights.
    fn backbone(&self) -> Option<Backbone> {
        None
    }

    /// As [`Encoder::encode_pages`], with the hidden states that the vectors were made of, where the model has such.
    ///
    /// # Errors
    /// As [`Encoder::encode_pages`].
    fn encode_pages_with_states(
        &self,
        pages: &[RgbImage],
    ) -> Result<Vec<(PageVectors, Option<HiddenStates>)>, EncoderError> {
        Ok(self.encode_pages(pages)?.into_iter().map(|vectors| (vectors, None)).collect())
    }

    /// The token vectors that [`Encoder::encode_pages`] makes of hidden states which this very backbone left, `tokens x dim`.
    ///
    /// # Errors
    /// The model has no such states, or they are of another width.
    fn project(&self, states: &HiddenStates) -> Result<MultiVector, EncoderError> {
        let (what, expected) = ("hidden states", "a model whose vectors are projections of them".to_owned());
        Err(EncoderError::Input { what, expected, received: format!("states of {} tokens", states.tokens()) })
    }

    /// Encodes query texts, in order. A batch gives what single queries give.
    ///
    /// # Errors
    /// A query too long to be stored, or a failure of the device.
    fn encode_queries(&self, queries: &[&str]) -> Result<Vec<QueryVectors>, EncoderError>;
}
