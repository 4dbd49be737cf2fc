//! What a search found, how sure it is, and what it did.

use super::PageHit;
use crate::Precision;

/// The answer to a search.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct SearchReport {
    /// The hits, best first; equal scores by ascending address.
    pub hits: Vec<PageHit>,
    /// So many of the first hits are proven: no page that was not scored in full can come before them.
    pub proven: usize,
    /// The share of the true hits that this answer is expected to hold, 0 to 1; 1 where all pages were scored.
    pub expected_recall: f32,
    /// The highest precision that hits were scored at.
    pub precision: Precision,
    /// What was done.
    pub work: SearchWork,
}

/// The work of one search, rung by rung.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SearchWork {
    /// Live pages that pass the filter.
    pub eligible: u64,
    /// Entries of inverted lists that were read.
    pub postings: u64,
    /// Pages scored by their centroids.
    pub centroid_pages: u64,
    /// Pages scored by coarse codes.
    pub coarse_pages: u64,
    /// Pages scored in full.
    pub full_pages: u64,
    /// Tokens scored by coarse codes, of which a page's unlikely and repeated ones are left out, and in full.
    pub tokens: u64,
}

impl SearchReport {
    /// What was done and how sure the answer is, for explanations.
    pub(super) fn summary(&self) -> String {
        let SearchWork { eligible, postings, centroid_pages, coarse_pages, full_pages, tokens } = self.work;
        let (proven, found, recall) = (self.proven, self.hits.len(), self.expected_recall);
        format!(
            "of {eligible} pages {centroid_pages} were scored by centroids ({postings} list entries), {coarse_pages} by coarse \
             codes and {full_pages} in full ({tokens} tokens); {proven} of {found} hits are proven, expected recall {recall:.4}"
        )
    }
}

impl SearchWork {
    /// Adds what another search did.
    pub fn add(&mut self, other: &Self) {
        self.eligible += other.eligible;
        self.postings += other.postings;
        self.centroid_pages += other.centroid_pages;
        self.coarse_pages += other.coarse_pages;
        self.full_pages += other.full_pages;
        self.tokens += other.tokens;
    }
}
