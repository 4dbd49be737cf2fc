//! Why a page scored what it scored: for each query token, the page token that answered it.

use tantivy::query::Explanation;
use tantivy::schema::Field;

use crate::codes::Calibration;
use crate::kernel::token_scores;
use crate::segment::SegmentFile;
use crate::vectors::length;
use crate::{Error, MultiVector, PageLayout, PatchBox};

/// The best page token of one query token.
#[derive(Clone, PartialEq, Debug)]
pub struct TokenMatch {
    /// Index of the query token.
    pub query_token: usize,
    /// Index of the page token with the highest dot product; the first of equal ones.
    pub page_token: usize,
    /// Their dot product.
    pub score: f32,
    /// The patches of the page image that the page token stands for; empty for prompt tokens and unknown layouts.
    pub patches: Vec<PatchBox>,
}

/// The MaxSim of a query with one page, token by token.
#[derive(Clone, PartialEq, Debug)]
pub struct PageExplanation {
    /// The sum of the token scores.
    pub score: f32,
    /// One entry per query token.
    pub tokens: Vec<TokenMatch>,
    /// Where the page's tokens lie, where known.
    pub layout: Option<PageLayout>,
}

impl PageExplanation {
    pub(super) fn to_tantivy(&self) -> Explanation {
        let mut explanation = Explanation::new("MaxSim, the sum over query tokens of the best dot product", self.score);
        for token in &self.tokens {
            let mut description = format!("query token {} matches page token {}", token.query_token, token.page_token);
            for patch in &token.patches {
                let (left, top, right, bottom) = (patch.left, patch.top, patch.right, patch.bottom);
                description += &format!(", patch {} at pixels {left},{top} to {right},{bottom}", patch.patch);
            }
            explanation.add_detail(Explanation::new_with_string(description, token.score));
        }
        explanation
    }
}

pub(super) fn explain(
    file: &SegmentFile,
    field: Field,
    doc: u32,
    query: &MultiVector,
) -> Result<Option<PageExplanation>, Error> {
    let Some(table) = file.field(field) else { return Ok(None) };
    let Some(place) = table.place_of(doc) else { return Ok(None) };
    let values = file.values(field, place)?;
    let layout = file.layout(table, &table.pages[place])?;
    let calibration = match (file.block_of(field, place), table.f16_range(&table.pages[place])) {
        (Some((block, _)), None) => block.codebook.calibration,
        _ => Calibration::NONE,
    };
    let best = |(query_token, scores): (usize, Vec<f32>)| {
        let (page_token, score) = scores
            .into_iter()
            .enumerate()
            .reduce(|best, next| if next.1 > best.1 { next } else { best })
            .unwrap_or((0, 0.0));
        let score = calibration.correct(score, length(query.token(query_token)));
        let patches = layout.as_ref().map(|layout| layout.patches_of(page_token)).unwrap_or_default();
        TokenMatch { query_token, page_token, score, patches }
    };
    let tokens: Vec<TokenMatch> =
        token_scores(query.values(), table.dim, &values).into_iter().enumerate().map(best).collect();
    Ok(Some(PageExplanation { score: tokens.iter().map(|token| token.score).sum(), tokens, layout }))
}
