//! The vectors that enter the index, validated once at the edge and trusted from there on.

use crate::{Error, Origin, PageLayout};

/// The most tokens that one page may have.
pub const MAX_TOKENS: usize = u16::MAX as usize;

/// The most tokens that a query may have: its scores with 65,536 centroids take 1 GiB then.
pub const MAX_QUERY_TOKENS: usize = 4096;

/// How far a token's length may lie from 1 and still count as unit length: what bf16 arithmetic and f16 storage cost.
const UNIT_TOLERANCE: f32 = 0.02;

/// What [`MultiVector::try_new`] does about the length of each token vector.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum UnitLength {
    /// Refuse vectors whose length is not 1 (within 0.02).
    #[default]
    Require,
    /// Divide each vector by its length; a vector of length 0 is refused.
    Normalize,
    /// Take vectors of any length, for models whose MaxSim is not a sum of cosines.
    Any,
}

/// The Euclidean length of one token vector.
pub(crate) fn length(vector: &[f32]) -> f32 {
    vector.iter().map(|value| value * value).sum::<f32>().sqrt()
}

/// The largest magnitude among values.
pub(crate) fn largest(values: &[f32]) -> f32 {
    // Several maxima side by side: one after the other would be all that is waited for.
    let (whole, rest) = values.as_chunks::<16>();
    let mut most = [0.0f32; 16];
    for values in whole {
        for (most, value) in most.iter_mut().zip(values) {
            *most = if value.abs() > *most { value.abs() } else { *most };
        }
    }
    most.into_iter().chain(rest.iter().map(|value| value.abs())).fold(0.0, f32::max)
}

/// The token embeddings of one page or query: `tokens x dim` values, row by row.
#[derive(Clone, PartialEq, Debug)]
pub struct MultiVector {
    dim: usize,
    values: Vec<f32>,
}

impl MultiVector {
    /// Checks and wraps `values`, `tokens x dim` row by row.
    ///
    /// # Errors
    /// `dim` is zero, there are no tokens or more than [`MAX_TOKENS`], the number of values is not a multiple of
    /// `dim`, a value is not finite or does not fit f16, or a vector's length is refused by `unit_length`.
    pub fn try_new(dim: usize, mut values: Vec<f32>, unit_length: UnitLength) -> Result<Self, Error> {
        if dim == 0 || !values.len().is_multiple_of(dim) {
            return Err(Error::Shape { dim, values: values.len() });
        }
        let tokens = values.len() / dim;
        if tokens == 0 || tokens > MAX_TOKENS {
            return Err(Error::TokenCount { received: tokens, most: MAX_TOKENS });
        }
        for (token, vector) in values.chunks_exact_mut(dim).enumerate() {
            if let Some(at) =
                vector.iter().position(|value| !value.is_finite() || value.abs() > f32::from(half::f16::MAX))
            {
                return Err(Error::NotFinite { token, at, received: vector[at] });
            }
            let length = length(vector);
            match unit_length {
                UnitLength::Require if (length - 1.0).abs() > UNIT_TOLERANCE => {
                    return Err(Error::NotUnitLength { token, received: length });
                }
                UnitLength::Normalize if !(length.is_normal()) => {
                    return Err(Error::NotUnitLength { token, received: length });
                }
                UnitLength::Normalize => vector.iter_mut().for_each(|value| *value /= length),
                UnitLength::Require | UnitLength::Any => {}
            }
        }
        Ok(Self { dim, values })
    }

    /// Values per token.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Number of tokens, 1 to [`MAX_TOKENS`].
    pub fn tokens(&self) -> usize {
        self.values.len() / self.dim
    }

    /// One token's vector, `dim` values.
    pub fn token(&self, token: usize) -> &[f32] {
        &self.values[token * self.dim..(token + 1) * self.dim]
    }

    /// All tokens in order, each `dim` values.
    pub fn iter(&self) -> std::slice::ChunksExact<'_, f32> {
        self.values.chunks_exact(self.dim)
    }

    /// `tokens x dim` values, row by row.
    pub fn values(&self) -> &[f32] {
        &self.values
    }
}

/// One page's token embeddings, with the model they come from and, where known, where each token lies on the page.
#[derive(Clone, PartialEq, Debug)]
pub struct PageVectors {
    /// `tokens x dim`.
    pub vectors: MultiVector,
    /// The page fingerprint of the model that made them.
    pub origin: Origin,
    /// How tokens map to patches of the page image.
    pub layout: Option<PageLayout>,
}

impl PageVectors {
    /// Vectors of an unknown model and layout.
    pub fn new(vectors: MultiVector) -> Self {
        Self { vectors, origin: Origin::Unknown, layout: None }
    }

    /// Records the model.
    pub fn with_origin(mut self, origin: impl Into<Origin>) -> Self {
        self.origin = origin.into();
        self
    }

    /// Records where the tokens lie on the page.
    ///
    /// # Errors
    /// The layout names more image tokens than there are vectors.
    pub fn with_layout(mut self, layout: PageLayout) -> Result<Self, Error> {
        layout.check(self.vectors.tokens())?;
        self.layout = Some(layout);
        Ok(self)
    }
}

/// One query's token embeddings, with the page fingerprint of the model whose pages it can be compared with.
#[derive(Clone, PartialEq, Debug)]
pub struct QueryVectors {
    /// `query tokens x dim`, at most [`MAX_QUERY_TOKENS`] tokens.
    pub vectors: MultiVector,
    /// The page fingerprint of the pages this query is meant for.
    pub origin: Origin,
}

impl QueryVectors {
    /// A query for pages of an unknown model.
    pub fn new(vectors: MultiVector) -> Self {
        Self { vectors, origin: Origin::Unknown }
    }

    /// Records the model whose pages this query is for.
    pub fn with_origin(mut self, origin: impl Into<Origin>) -> Self {
        self.origin = origin.into();
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_cannot_be_searched() {
        let check =
            |dim, values: &[f32], unit| MultiVector::try_new(dim, values.to_vec(), unit).unwrap_err().to_string();
        assert!(check(0, &[1.0], UnitLength::Any).contains("dim 0"));
        assert!(check(2, &[1.0, 0.0, 1.0], UnitLength::Any).contains("3 values"));
        assert!(check(2, &[], UnitLength::Any).contains("0 tokens"));
        assert!(check(1, &vec![1.0; 65_536], UnitLength::Any).contains("65536"));
        assert!(check(2, &[1.0, f32::NAN], UnitLength::Any).contains("token 0"));
        assert!(check(2, &[1.0, 0.0, 1e6, 0.0], UnitLength::Any).contains("token 1"));
        assert!(check(2, &[1.0, 0.0, 3.0, 4.0], UnitLength::Require).contains("token 1"));
        assert!(check(2, &[1.0, 0.0, 0.0, 0.0], UnitLength::Normalize).contains("token 1"));
    }

    #[test]
    fn normalises_when_asked() {
        let vectors = MultiVector::try_new(2, vec![3.0, 4.0, 0.0, 2.0], UnitLength::Normalize).unwrap();
        assert_eq!(
            (vectors.tokens(), vectors.token(0), vectors.token(1)),
            (2, [0.6, 0.8].as_slice(), [0.0, 1.0].as_slice())
        );
        let kept = MultiVector::try_new(2, vec![3.0, 4.0], UnitLength::Any).unwrap();
        assert_eq!(kept.values(), [3.0, 4.0]);
    }
}
