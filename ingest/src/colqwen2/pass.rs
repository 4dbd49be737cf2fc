//! The network as a chain of parts, each of which makes the next state of all tokens from the last: what lets training
//! compute a part again instead of keeping all that is inside it.

use candle_core::Tensor;

use super::attention::Packing;
use super::model::{Image, Model, ModelInput};
use super::ops::Ops;
use super::preprocess::Grid;
use super::tokens::positions;
use crate::encoder::EncoderError;

/// One link of the chain, in the order in which a page goes through them. Texts, and pages whose merged patches are known, begin
/// at [`Part::Embedding`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Part {
    /// Patches of pixels to vectors: patches x patch_dim to patches x embed_dim.
    PatchEmbedding,
    /// A block of the vision tower: patches x embed_dim.
    Block(usize),
    /// Patches to merged patches: to merged patches x hidden_size.
    Merger,
    /// Merged patches among the embeddings of the prompt's tokens: to tokens x hidden_size.
    Embedding,
    /// A layer of the language model: tokens x hidden_size.
    Layer(usize),
    /// The language model's final norm: tokens x hidden_size.
    Norm,
    /// To token vectors of length 1: tokens x dim, in f32.
    Projection,
}

impl Part {
    /// The part that the weight of this canonical name belongs to.
    pub fn of(name: &str) -> Option<Self> {
        let at = |rest: &str| rest.split('.').next()?.parse().ok();
        if let Some(rest) = name.strip_prefix("visual.blocks.") {
            return at(rest).map(Self::Block);
        }
        if let Some(rest) = name.strip_prefix("language_model.layers.") {
            return at(rest).map(Self::Layer);
        }
        let known = [
            ("visual.patch_embed.", Self::PatchEmbedding),
            ("visual.merger.", Self::Merger),
            ("language_model.embed_tokens.", Self::Embedding),
            ("language_model.norm.", Self::Norm),
            ("custom_text_proj.", Self::Projection),
        ];
        known.iter().find(|(prefix, _)| name.starts_with(prefix)).map(|(_, part)| *part)
    }
}

/// An input on its way through the network: what its parts need to know besides the state.
pub struct Pass<'a> {
    model: &'a Model,
    input: &'a ModelInput,
    ops: Ops,
    ids: Vec<u32>,
    tokens: Packing,
    rope: (Tensor, Tensor),
    patches: Packing,
    patch_rope: Option<(Tensor, Tensor)>,
}

impl<'a> Pass<'a> {
    pub(super) fn new(model: &'a Model, input: &'a ModelInput, ops: Ops) -> Result<Self, EncoderError> {
        let tokens = Packing::new(input.sequences.iter().map(Vec::len).collect());
        let merge = model.config.vision.merge_size;
        let mut all_positions = Vec::with_capacity(tokens.total());
        for (at, ids) in input.sequences.iter().enumerate() {
            let grid: Vec<Grid> = input.grids.get(at).map(|grid| grid.merged(merge)).into_iter().collect();
            all_positions.extend(positions(ids, model.image_token, &grid)?);
        }
        let patch_rope = matches!(input.image, Some(Image::Pixels(_)))
            .then(|| model.vision.rope(&input.grids, model.dtype, &model.device))
            .transpose()?;
        Ok(Self {
            model,
            input,
            ops,
            ids: input.sequences.concat(),
            tokens,
            rope: model.language.rope(&all_positions, model.dtype, &model.device)?,
            patches: Packing::new(input.grids.iter().map(Grid::patches).collect()),
            patch_rope,
        })
    }

    /// All parts that the input goes through, in order.
    pub fn parts(&self) -> Vec<Part> {
        let mut parts = Vec::new();
        if matches!(self.input.image, Some(Image::Pixels(_))) {
            parts.push(Part::PatchEmbedding);
            parts.extend((0..self.model.vision.blocks()).map(Part::Block));
            parts.push(Part::Merger);
        }
        parts.push(Part::Embedding);
        parts.extend((0..self.model.language.layers()).map(Part::Layer));
        parts.extend([Part::Norm, Part::Projection]);
        parts
    }

    /// What the first part takes: patches x patch_dim, or merged patches x hidden_size where the vision tower was run already,
    /// none of them for texts.
    ///
    /// # Errors
    /// The device fails.
    pub fn start(&self) -> Result<Tensor, EncoderError> {
        let (dtype, device) = (self.model.dtype, &self.model.device);
        match &self.input.image {
            Some(image) => Ok(image.tensor().to_dtype(dtype)?.to_device(device)?),
            None => Ok(Tensor::zeros((0, self.model.config.text.hidden_size), dtype, device)?),
        }
    }

    /// The state after `part`, from that before it.
    ///
    /// # Errors
    /// The input has more or fewer image tokens than merged patches, or the device fails.
    pub fn step(&self, part: Part, x: &Tensor) -> Result<Tensor, EncoderError> {
        let (vision, language, ops) = (&self.model.vision, &self.model.language, self.ops);
        match (part, &self.patch_rope) {
            (Part::PatchEmbedding, _) => Ok(vision.embed(x)?),
            (Part::Block(at), Some(rope)) => Ok(vision.block(at, x, rope, &self.patches, ops)?),
            (Part::Block(_), None) => Err(EncoderError::Input {
                what: "input of the vision tower",
                expected: "page images".to_owned(),
                received: "texts".to_owned(),
            }),
            (Part::Merger, _) => Ok(vision.merge(x, ops)?),
            (Part::Embedding, _) => self.embed(x),
            (Part::Layer(at), _) => Ok(language.layer(at, x, &self.rope, &self.tokens, ops)?),
            (Part::Norm, _) => Ok(language.norm(x, ops)?),
            (Part::Projection, _) => match &self.input.kept {
                Some(kept) => {
                    let kept = Tensor::from_slice(kept, kept.len(), x.device())?;
                    Ok(self.model.projection.forward(&x.index_select(&kept, 0)?)?)
                }
                None => Ok(self.model.projection.forward(x)?),
            },
        }
    }

    /// The state after all parts that `wanted` accepts.
    pub(super) fn run(&self, wanted: impl Fn(Part) -> bool) -> Result<Tensor, EncoderError> {
        let mut parts = self.parts().into_iter().filter(|part| wanted(*part));
        parts.try_fold(self.start()?, |x, part| self.step(part, &x))
    }

    /// Text embeddings, with the vision tower's vectors, `image`, in the places of the image tokens: tokens x hidden_size.
    fn embed(&self, image: &Tensor) -> Result<Tensor, EncoderError> {
        let text = self.model.language.embed(&self.ids)?.to_dtype(self.model.dtype)?;
        if self.input.image.is_none() {
            return Ok(text);
        }
        let image_token = self.model.image_token;
        // Pieces in turn, because a scatter would let gradients through to the rows it overwrites.
        let (mut pieces, mut used) = (Vec::new(), 0);
        let mut start = 0;
        for run in self.ids.chunk_by(|one, two| (*one == image_token) == (*two == image_token)) {
            if run[0] == image_token {
                let left = image.dim(0)? - used;
                if run.len() > left {
                    return Err(EncoderError::Input {
                        what: "image tokens",
                        expected: format!("{} in all", image.dim(0)?),
                        received: format!("{} or more", used + run.len()),
                    });
                }
                pieces.push(image.narrow(0, used, run.len())?);
                used += run.len();
            } else {
                pieces.push(text.narrow(0, start, run.len())?);
            }
            start += run.len();
        }
        Ok(Tensor::cat(&pieces, 0)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::colqwen2::tiny::tiny;

    #[test]
    fn every_weight_of_a_checkpoint_belongs_to_a_part() {
        let model = tiny();
        let page = model.page_input(&[image::RgbImage::new(60, 60)]).unwrap();
        let parts = model.model().pass(&page, Ops::Fused).unwrap().parts();
        assert!(parts.is_sorted() && parts.len() == 9, "{parts:?}");
        for (name, ..) in model.checkpoint.tensors() {
            assert!(Part::of(name).is_some_and(|part| parts.contains(&part)), "{name}");
        }
        assert_eq!(Part::of("visual.blocks.31.norm1.weight"), Some(Part::Block(31)));
        assert_eq!((Part::of("visual.blocks.x.norm1.weight"), Part::of("lm_head.weight")), (None, None));

        let query = model.query_input(&["a"]).unwrap();
        let pass = model.model().pass(&query, Ops::Fused).unwrap();
        assert_eq!(pass.parts()[0], Part::Embedding);
        let refused = pass.step(Part::Block(0), &pass.start().unwrap()).unwrap_err().to_string();
        assert!(refused.contains("page images"), "{refused}");
        assert!(pass.step(Part::Layer(9), &pass.start().unwrap()).unwrap_err().to_string().contains("layer 9"));
    }
}
