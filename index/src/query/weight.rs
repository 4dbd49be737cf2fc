//! Walks the hits of a query segment by segment, for tantivy's collectors and other queries.

use std::sync::Arc;

use tantivy::query::{EmptyScorer, Explanation, Scorer, Weight};
use tantivy::{DocId, DocSet, Score, Searcher, SegmentReader, TERMINATED, TantivyError};

use super::{LateInteractionQuery, SearchReport, explain};
use crate::segment::SegmentFile;

/// The hits of one segment by ascending doc, with the segment's id and open file.
type SegmentHits = (tantivy::index::SegmentId, Arc<SegmentFile>, Vec<(DocId, Score)>);

pub(super) struct LateInteractionWeight {
    query: LateInteractionQuery,
    segments: Vec<SegmentHits>,
    /// What finding the hits took.
    summary: String,
}

impl LateInteractionWeight {
    /// `files`: those of the searcher's segments, in order.
    pub fn new(
        query: LateInteractionQuery,
        searcher: &Searcher,
        files: Vec<Arc<SegmentFile>>,
        report: SearchReport,
    ) -> Self {
        let ids = searcher.segment_readers().iter().map(SegmentReader::segment_id);
        let mut segments: Vec<_> = ids.zip(files).map(|(id, file)| (id, file, Vec::new())).collect();
        for hit in &report.hits {
            segments[hit.address.segment_ord as usize].2.push((hit.address.doc_id, hit.score));
        }
        segments.iter_mut().for_each(|(_, _, hits)| hits.sort_unstable_by_key(|(doc, _)| *doc));
        Self { query, segments, summary: report.summary() }
    }

    fn segment(&self, reader: &SegmentReader) -> Option<&SegmentHits> {
        self.segments.iter().find(|(id, _, _)| *id == reader.segment_id())
    }
}

impl Weight for LateInteractionWeight {
    fn scorer(&self, reader: &SegmentReader, boost: Score) -> tantivy::Result<Box<dyn Scorer>> {
        Ok(match self.segment(reader) {
            Some((_, _, hits)) if !hits.is_empty() => Box::new(HitScorer { hits: hits.clone(), at: 0, boost }),
            _ => Box::new(EmptyScorer),
        })
    }

    fn explain(&self, reader: &SegmentReader, doc: DocId) -> tantivy::Result<Explanation> {
        let hit = self.segment(reader).filter(|(_, _, hits)| hits.binary_search_by_key(&doc, |(doc, _)| *doc).is_ok());
        let Some((_, file, _)) = hit else {
            let k = self.query.k;
            return Err(TantivyError::InvalidArgument(format!(
                "document {doc} is not among the {k} hits of the query"
            )));
        };
        match explain::explain(file, self.query.question.field, doc, self.query.question.vectors())? {
            Some(page) => {
                let mut explanation = page.to_tantivy();
                explanation.add_context(self.summary.clone());
                Ok(explanation)
            }
            None => Err(TantivyError::InternalError(format!("document {doc} is a hit without vectors"))),
        }
    }
}

/// The hits of one segment by ascending doc.
struct HitScorer {
    hits: Vec<(DocId, Score)>,
    at: usize,
    boost: Score,
}

impl DocSet for HitScorer {
    fn advance(&mut self) -> DocId {
        self.at = (self.at + 1).min(self.hits.len());
        self.doc()
    }

    fn seek(&mut self, target: DocId) -> DocId {
        self.at += self.hits[self.at..].partition_point(|(doc, _)| *doc < target);
        self.doc()
    }

    fn doc(&self) -> DocId {
        self.hits.get(self.at).map_or(TERMINATED, |(doc, _)| *doc)
    }

    fn size_hint(&self) -> u32 {
        self.hits.len() as u32
    }
}

impl Scorer for HitScorer {
    fn score(&mut self) -> Score {
        self.hits.get(self.at).map_or(0.0, |(_, score)| score * self.boost)
    }
}
