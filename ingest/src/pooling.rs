//! Fewer tokens per page: tokens that resemble each other are merged into their mean.
//!
//! The method is that of colpali-engine 0.3.18, `HierarchicalTokenPooler` (colpali_engine/compression/token_pooling),
//! which follows Clavié et al. 2024, "Reducing the Footprint of Multi-Vector Retrieval with Minimal Performance Impact
//! via Token Pooling": Ward clustering of the page's tokens into at most `max(tokens / factor, 1)` clusters, the mean of
//! each, brought to length 1. All tokens of a page take part, prompt tokens too; queries are never pooled.
//!
//! Here the clusters stand in the order of their first tokens, a page of one token stays as it is, and a cluster whose
//! vectors cancel each other out keeps the vector of its first token, as a token of length 0 cannot be stored.
//!
//! ```
//! use colqwen_index_field::{MultiVector, UnitLength};
//! use colqwen_index_ingest::pooling::{PoolFactor, pool};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let page = MultiVector::try_new(2, vec![1.0, 0.0, 0.0, 1.0, 0.8, 0.6, -0.6, 0.8], UnitLength::Require)?;
//! let pooled = pool(&page, PoolFactor::new(2)?)?;
//! assert_eq!(pooled.members, [vec![0, 2], vec![1, 3]]);
//! assert_eq!(pooled.vectors.tokens(), 2);
//! # Ok(())
//! # }
//! ```

mod factor;
mod ward;

pub use factor::{PoolFactor, PoolFactorError};

use colqwen_index_field::{MultiVector, PageLayout, PageVectors, UnitLength};

/// The most tokens a page to be pooled may have: the distances between them take `8 x tokens x tokens` bytes.
pub const MAX_POOLED_TOKENS: usize = 8192;

/// Why a page cannot be pooled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PoolingError {
    /// The page has so many tokens that their distances would not fit into memory.
    #[error("a page to be pooled may have at most {most} tokens, received {received}; pass it on without pooling")]
    TooManyTokens {
        /// Tokens of the page.
        received: usize,
        /// [`MAX_POOLED_TOKENS`].
        most: usize,
    },
    /// The pooled vectors or their layout cannot be stored.
    #[error("the pooled page cannot be stored: {0}")]
    Vectors(#[from] colqwen_index_field::Error),
}

/// A page after pooling.
#[derive(Clone, PartialEq, Debug)]
pub struct Pooled {
    /// `clusters x dim`, in the order of the clusters' first tokens.
    pub vectors: MultiVector,
    /// For each pooled token the numbers of the tokens that were merged into it, ascending.
    pub members: Vec<Vec<u16>>,
}

/// Pools `tokens x dim` vectors into at most `max(tokens / factor, 1)`; there are fewer where merges tie. Factor 1 gives
/// the vectors back as they are.
///
/// Time and memory grow with the square of the number of tokens.
///
/// # Errors
/// More tokens than [`MAX_POOLED_TOKENS`], at a factor above 1.
pub fn pool(vectors: &MultiVector, factor: PoolFactor) -> Result<Pooled, PoolingError> {
    let tokens = vectors.tokens();
    if factor.is_none() || tokens == 1 {
        let members = (0..=u16::MAX).take(tokens).map(|token| vec![token]).collect();
        return Ok(Pooled { vectors: vectors.clone(), members });
    }
    if tokens > MAX_POOLED_TOKENS {
        return Err(PoolingError::TooManyTokens { received: tokens, most: MAX_POOLED_TOKENS });
    }
    let most = (tokens / usize::from(factor.get())).max(1);
    let mut members: Vec<Vec<u16>> = Vec::new();
    for (token, cluster) in (0..=u16::MAX).zip(ward::clusters(vectors, most)) {
        if cluster == members.len() {
            members.push(Vec::new());
        }
        members[cluster].push(token);
    }
    let values = members.iter().flat_map(|members| mean(vectors, members)).collect();
    Ok(Pooled { vectors: MultiVector::try_new(vectors.dim(), values, UnitLength::Require)?, members })
}

/// Pools a page: its model is kept, and its layout, if known, names the patches of each pooled token. A page that was
/// pooled already may be pooled again.
///
/// # Errors
/// As [`pool`].
pub fn pool_page(page: PageVectors, factor: PoolFactor) -> Result<PageVectors, PoolingError> {
    if factor.is_none() {
        return Ok(page);
    }
    let Pooled { vectors, members } = pool(&page.vectors, factor)?;
    let pooled = PageVectors::new(vectors).with_origin(page.origin);
    let Some(layout) = page.layout else { return Ok(pooled) };
    let patches = |members: &Vec<u16>| {
        let mut patches: Vec<u16> = members.iter().flat_map(|token| patches_of(&layout, *token)).collect();
        patches.sort_unstable();
        patches.dedup();
        patches
    };
    let token_patches = Some(members.iter().map(patches).collect());
    // Where pooled tokens name their patches, no token is "the first".
    Ok(pooled.with_layout(PageLayout { first_patch: 0, token_patches, ..layout })?)
}

/// The patches that a token stands for before it is pooled, as numbers of the grid.
fn patches_of(layout: &PageLayout, token: u16) -> Vec<u16> {
    match &layout.token_patches {
        Some(lists) => lists.get(usize::from(token)).cloned().unwrap_or_default(),
        None => {
            let patch = token.checked_sub(layout.first_patch).filter(|patch| usize::from(*patch) < layout.patches());
            patch.into_iter().collect()
        }
    }
}

/// The mean of some tokens' vectors, `dim` values of length 1.
fn mean(vectors: &MultiVector, members: &[u16]) -> Vec<f32> {
    let mut sum = vec![0.0f64; vectors.dim()];
    for token in members {
        for (sum, value) in sum.iter_mut().zip(vectors.token(usize::from(*token))) {
            *sum += f64::from(*value);
        }
    }
    // Below this the direction is rounding, not meaning.
    if length(&sum) < 1e-6 * members.len() as f64 {
        let first = members.first().map_or(&[][..], |token| vectors.token(usize::from(*token)));
        sum = first.iter().copied().map(f64::from).collect();
    }
    let length = length(&sum);
    sum.into_iter().map(|value| (value / length) as f32).collect()
}

fn length(vector: &[f64]) -> f64 {
    vector.iter().map(|value| value * value).sum::<f64>().sqrt()
}
