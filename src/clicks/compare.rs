//! The model that serves and the new one, side by side on held-out questions.

use colqwen_index_field::{Effort, QueryVectors};
use colqwen_index_ingest::encoder::Encoder;
use colqwen_index_train::clicks::gate::{Compared, Comparison};
use colqwen_index_train::data::{PageId, Question};

use super::lessons::Judgement;
use super::pages::Pages;
use super::report::{GateRow, MovedPage, MovedQuery};
use super::thumbnail::Thumbnails;
use crate::page_index::{NextGeneration, SearchRequest};
use crate::{Error, PageIndex};

/// Hits of each model that are compared.
const DEPTH: usize = 100;
/// Rank from which on a page no longer counts as shown.
const SHOWN: usize = 10;
/// Queries of each kind in a report, and pages of each.
const QUERIES: usize = 10;
const PAGES: usize = 6;
/// Queries that are encoded together.
const AT_ONCE: usize = 32;

/// What can be asked for the best pages.
pub(super) trait Ranks {
    /// The best pages for each text, near-identical ones once.
    fn rankings(&self, texts: &[&str], pages: &Pages) -> Result<Vec<Vec<PageId>>, Error>;
}

/// An index and the model that asks it.
pub(super) struct Asked<'a> {
    pub index: &'a PageIndex,
    pub encoder: &'a dyn Encoder,
}

impl Ranks for Asked<'_> {
    fn rankings(&self, texts: &[&str], pages: &Pages) -> Result<Vec<Vec<PageId>>, Error> {
        self.index.check_model(self.encoder.serves_pages_of())?;
        let searcher = self.index.searcher();
        let mut rankings = Vec::with_capacity(texts.len());
        for texts in texts.chunks(AT_ONCE) {
            let vectors: Vec<QueryVectors> = self.encoder.encode_queries(texts)?;
            let request = |vectors: QueryVectors| SearchRequest {
                vectors: Some(vectors),
                k: DEPTH,
                effort: Effort::Exact,
                ..SearchRequest::default()
            };
            let requests: Vec<SearchRequest<'_>> = vectors.into_iter().map(request).collect();
            for answer in self.index.report_batch(&searcher, &requests)? {
                rankings.push(pages.ranking(answer.hits.into_iter().map(|hit| PageId::new(hit.doc_id, hit.page))));
            }
        }
        Ok(rankings)
    }
}

/// A generation that is built and not in use, and the model that made its pages.
pub(super) struct Fresh<'a> {
    built: PageIndex,
    encoder: &'a dyn Encoder,
}

impl<'a> Fresh<'a> {
    /// Of what `next` built beside `index`.
    pub fn of(index: &PageIndex, next: &NextGeneration, encoder: &'a dyn Encoder) -> Result<Self, Error> {
        Ok(Self { built: next.built(index)?, encoder })
    }
}

impl Ranks for Fresh<'_> {
    fn rankings(&self, texts: &[&str], pages: &Pages) -> Result<Vec<Vec<PageId>>, Error> {
        // From the codes that would serve: vectors as the model gave them would rank better than codes do, whatever was learnt.
        Asked { index: &self.built, encoder: self.encoder }.rankings(texts, pages)
    }
}

/// Both rankings of each held-out question.
pub(super) fn by_clicks(
    judgements: &[Judgement],
    [old, new]: [&dyn Ranks; 2],
    pages: &Pages,
) -> Result<Vec<Compared>, Error> {
    let texts: Vec<&str> = judgements.iter().map(|judgement| judgement.text.as_str()).collect();
    let (old, new) = (old.rankings(&texts, pages)?, new.rankings(&texts, pages)?);
    let compared = |((judgement, old), new): ((&Judgement, Vec<PageId>), Vec<PageId>)| Compared {
        query: judgement.name.clone(),
        gains: judgement.gains.clone(),
        others: Some(judgement.others.clone()),
        old,
        new,
        weight: judgement.weight,
    };
    Ok(judgements.iter().zip(old).zip(new).map(compared).collect())
}

/// Both rankings of each question of a fixed set, whose positives count alike.
pub(super) fn by_judges(
    questions: &[Question],
    [old, new]: [&dyn Ranks; 2],
    pages: &Pages,
) -> Result<Vec<Compared>, Error> {
    let texts: Vec<&str> = questions.iter().map(|question| question.query.as_str()).collect();
    let (old, new) = (old.rankings(&texts, pages)?, new.rankings(&texts, pages)?);
    let compared = |((question, old), new): ((&Question, Vec<PageId>), Vec<PageId>)| {
        let wanted = pages.ranking(question.positives.iter().map(|positive| positive.page.clone()));
        let gains = wanted.into_iter().map(|page| (page, 1.0)).collect();
        Compared { query: question.query_id.clone(), gains, others: None, old, new, weight: 1.0 }
    };
    Ok(questions.iter().zip(old).zip(new).map(compared).collect())
}

/// The rows of the gate's table for one set of questions.
pub(super) fn rows(set: &str, comparison: &Comparison) -> Vec<GateRow> {
    let metrics = [
        ("nDCG@5", comparison.ndcg_5),
        ("nDCG@10", comparison.ndcg_10),
        ("MRR", comparison.mrr),
        ("recall@5", comparison.recall_5),
        ("recall@10", comparison.recall_10),
    ];
    let row = |(metric, paired): (&str, colqwen_index_train::clicks::gate::Paired)| GateRow {
        set: set.to_owned(),
        metric: metric.to_owned(),
        old: paired.old,
        new: paired.new,
        interval: Some([paired.low, paired.high]),
    };
    metrics.into_iter().map(row).collect()
}

/// The questions that gained most and those that lost most.
pub(super) fn moved(
    compared: &[Compared],
    name: impl Fn(&str) -> String,
    thumbnails: &mut Thumbnails<'_>,
) -> [Vec<MovedQuery>; 2] {
    let mut changes: Vec<(f64, [f64; 2], &Compared)> = compared
        .iter()
        .map(|one| {
            let ndcg = one.ndcg_10();
            (ndcg[1] - ndcg[0], ndcg, one)
        })
        .collect();
    changes.sort_by(|one, other| other.0.total_cmp(&one.0).then_with(|| one.2.query.cmp(&other.2.query)));
    let mut describe = |(_, ndcg, one): &(f64, [f64; 2], &Compared)| MovedQuery {
        name: name(&one.query),
        ndcg: *ndcg,
        pages: moved_pages(one, thumbnails),
    };
    let improved = changes.iter().take_while(|change| change.0 > 0.0).take(QUERIES).map(&mut describe).collect();
    let harmed = changes.iter().rev().take_while(|change| change.0 < 0.0).take(QUERIES).map(&mut describe).collect();
    [improved, harmed]
}

fn moved_pages(one: &Compared, thumbnails: &mut Thumbnails<'_>) -> Vec<MovedPage> {
    let rank = |ranking: &[PageId], page: &PageId| ranking.iter().position(|other| other == page).map(|at| at + 1);
    let wanted = |page: &PageId| one.gains.iter().any(|(other, gain)| other == page && *gain > 0.0);
    let shown = |ranking: &[PageId]| ranking.iter().take(SHOWN).cloned().collect::<Vec<_>>();
    let mut pages: Vec<PageId> = shown(&one.new).into_iter().chain(shown(&one.old)).collect();
    let mut seen = std::collections::HashSet::new();
    pages.retain(|page| seen.insert(page.clone()));
    let mut moved: Vec<MovedPage> = pages
        .into_iter()
        .map(|page| MovedPage {
            before: rank(&one.old, &page),
            after: rank(&one.new, &page),
            wanted: wanted(&page),
            page,
            picture: None,
        })
        .filter(|page| page.before != page.after)
        .collect();
    let at = |rank: Option<usize>| rank.unwrap_or(DEPTH) as i64;
    moved.sort_by_key(|page| (!page.wanted, -(at(page.before) - at(page.after)).abs()));
    moved.truncate(PAGES);
    moved.iter_mut().for_each(|page| page.picture = thumbnails.picture(&page.page));
    moved
}

#[cfg(test)]
mod tests;
