//! The query together with tantivy's own: filters, BM25, facets, counting, explanations, boosts.

use colqwen_index_field::{PageLayout, PageVectors, QueryVectors};
use tantivy::collector::{Count, FacetCollector, TopDocs};
use tantivy::directory::RamDirectory;
use tantivy::index::IndexSettings;
use tantivy::query::{BooleanQuery, BoostQuery, EmptyQuery, Occur, Query, QueryClone, RangeQuery, TermQuery};
use tantivy::schema::IndexRecordOption;
use tantivy::{TantivyDocument, Term};

use crate::oracle::{DIM, Pair, assert_same, ids};

fn pair() -> Pair {
    let mut pair = Pair::create(RamDirectory::create(), IndexSettings::default());
    for start in [0, 40, 80] {
        pair.add(start..start + 40);
        pair.delete([start + 1, start + 2]);
        pair.commit();
    }
    pair
}

fn word(pair: &Pair, word: &str) -> TermQuery {
    TermQuery::new(Term::from_field_text(pair.fields.text, word), IndexRecordOption::WithFreqs)
}

#[test]
fn a_filter_applies_before_scoring() {
    let mut pair = pair();
    let searcher = pair.reader().searcher();
    for k in [2, 10, 1000] {
        let query = pair.random.vectors(DIM, 4);
        let filter = RangeQuery::new(
            std::ops::Bound::Included(Term::from_field_u64(pair.fields.id, 50)),
            std::ops::Bound::Excluded(Term::from_field_u64(pair.fields.id, 60)),
        );
        let late = pair.handle.query(pair.fields.tokens, QueryVectors::new(query.clone())).k(k).filter(filter);
        let expected = pair.expected(pair.fields.tokens, &query, |id| (50..60).contains(&id));
        assert_same(&ids(&searcher, pair.fields, &late, 1000), &expected[..k.min(expected.len())]);
    }
    let nothing = pair.handle.query(pair.fields.tokens, QueryVectors::new(pair.random.vectors(DIM, 1)));
    assert!(nothing.filter(EmptyQuery).search(&searcher).unwrap().is_empty());
}

#[test]
fn clauses_beside_the_query_filter_its_hits_afterwards() {
    let mut pair = pair();
    let searcher = pair.reader().searcher();
    let query = pair.random.vectors(DIM, 3);
    let late = pair.handle.query(pair.fields.tokens, QueryVectors::new(query.clone())).k(20);
    let even = word(&pair, "even");
    let both = BooleanQuery::new(vec![
        (Occur::Must, late.box_clone()),
        (Occur::Must, Box::new(tantivy::query::ConstScoreQuery::new(even.box_clone(), 0.0))),
    ]);
    let expected: Vec<_> = pair
        .expected(pair.fields.tokens, &query, |_| true)
        .into_iter()
        .take(20)
        .filter(|(id, _)| id % 2 == 0)
        .collect();
    assert_same(&ids(&searcher, pair.fields, &both, 100), &expected);

    let hybrid = BooleanQuery::new(vec![(Occur::Should, late.box_clone()), (Occur::Should, even.box_clone())]);
    let bm25 = ids(&searcher, pair.fields, &even, 100);
    for (id, score) in ids(&searcher, pair.fields, &hybrid, 100) {
        let near = pair.expected(pair.fields.tokens, &query, |_| true);
        let late = near.iter().take(20).find(|(near, _)| *near == id).map_or(0.0, |(_, score)| *score);
        let text = bm25.iter().find(|(match_id, _)| *match_id == id).map_or(0.0, |(_, score)| *score);
        assert!((score - late - text).abs() < 4e-3, "page {id}: {score} is not {late} + {text}");
    }
}

#[test]
fn counting_facets_and_boosts() {
    let mut pair = pair();
    let searcher = pair.reader().searcher();
    let query = pair.random.vectors(DIM, 3);
    let late = pair.handle.query(pair.fields.tokens, QueryVectors::new(query.clone())).k(15);
    assert_eq!(searcher.search(&late, &Count).unwrap(), 15);
    assert_eq!(late.count(&searcher).unwrap(), 15);
    let all = late.clone().k(1000);
    assert_eq!(all.count(&searcher).unwrap(), pair.expected(pair.fields.tokens, &query, |_| true).len());

    let mut facets = FacetCollector::for_field("facet");
    facets.add_facet("/rest");
    let (top, facets) = searcher.search(&late, &(TopDocs::with_limit(15).order_by_score(), facets)).unwrap();
    assert_eq!(facets.get("/rest").map(|(_, count)| count).sum::<u64>(), top.len() as u64);

    let boosted = ids(&searcher, pair.fields, &BoostQuery::new(late.box_clone(), 2.0), 15);
    let doubled: Vec<_> = pair.expected(pair.fields.tokens, &query, |_| true)[..15]
        .iter()
        .map(|(id, score)| (*id, score * 2.0))
        .collect();
    boosted.iter().zip(&doubled).for_each(|(one, two)| assert!((one.1 - two.1).abs() < 8e-3));
    assert!(late.k(0).search(&searcher).unwrap().is_empty());
}

#[test]
fn delete_query_reports_an_error_and_the_index_stays_healthy() {
    let mut pair = pair();
    let query = pair.handle.query(pair.fields.tokens, QueryVectors::new(pair.random.vectors(DIM, 1)));
    let refused = pair.writer().delete_query(query.box_clone()).is_err();
    assert!(refused);
    pair.add(300..310);
    pair.commit();
    pair.check();
}

#[test]
fn a_layout_that_nobody_checked_is_checked_when_its_page_is_added() {
    let mut pair = Pair::create(RamDirectory::create(), IndexSettings::default());
    let mut page = PageVectors::new(pair.random.vectors(DIM, 2));
    for (grid_rows, token_patches) in
        [(3, None), (0, Some(vec![vec![0], vec![]])), (1, Some(vec![vec![0; 65_537], vec![]]))]
    {
        let mut document = TantivyDocument::new();
        page.layout =
            Some(PageLayout { width: 84, height: 56, grid_rows, grid_cols: 3, first_patch: 0, token_patches });
        let error = pair.handle.add(&mut document, pair.fields.tokens, &page).unwrap_err();
        assert!(matches!(error, colqwen_index_field::Error::Layout { .. }), "{error}");
        assert!(document.get_first(pair.fields.tokens).is_none());
    }
}

#[test]
fn explanations_name_the_page_token_and_its_patch() {
    let mut pair = Pair::create(RamDirectory::create(), IndexSettings::default());
    let page = pair.random.vectors(DIM, 10);
    let layout = PageLayout { width: 84, height: 56, grid_rows: 2, grid_cols: 3, first_patch: 2, token_patches: None };
    let stored = PageVectors::new(page.clone()).with_layout(layout.clone()).unwrap();
    let mut document = TantivyDocument::new();
    document.add_u64(pair.fields.id, 1);
    pair.handle.add(&mut document, pair.fields.tokens, &stored).unwrap();
    pair.writer().add_document(document).unwrap();
    pair.writer().add_document(TantivyDocument::new()).unwrap();
    pair.writer().commit().unwrap();

    let searcher = pair.reader().searcher();
    // The query is page tokens 1 (prompt) and 4 (patch 2) themselves.
    let values = [page.token(1), page.token(4)].concat();
    let vectors = colqwen_index_field::MultiVector::try_new(DIM, values, Default::default()).unwrap();
    let query = pair.handle.query(pair.fields.tokens, QueryVectors::new(vectors));
    let hit = query.search(&searcher).unwrap()[0];
    let explained = query.explain_page(&searcher, hit.address).unwrap().unwrap();
    assert_eq!(explained.tokens.iter().map(|token| token.page_token).collect::<Vec<_>>(), [1, 4]);
    assert!((explained.score - hit.score).abs() < 1e-4 && (hit.score - 2.0).abs() < 1e-2);
    assert!(explained.tokens[0].patches.is_empty());
    let patch = explained.tokens[1].patches[0];
    assert_eq!((patch.patch, patch.left, patch.top, patch.right, patch.bottom), (2, 56, 0, 84, 28));
    assert_eq!(explained.layout, Some(layout.clone()));

    let tantivy_explanation = query.explain(&searcher, hit.address).unwrap();
    assert!((tantivy_explanation.value() - hit.score).abs() < 1e-4);
    assert!(tantivy_explanation.to_pretty_json().contains("patch 2 at pixels 56,0 to 84,28"));
    let work = "of 1 pages 0 were scored by centroids (0 list entries), 0 by coarse codes and 1 in full (10 tokens)";
    assert!(tantivy_explanation.to_pretty_json().contains(work), "{}", tantivy_explanation.to_pretty_json());
    let other = tantivy::DocAddress::new(hit.address.segment_ord, hit.address.doc_id);
    let back = pair.handle.page(&searcher, pair.fields.tokens, other).unwrap().unwrap();
    assert_eq!((back.vectors.tokens(), back.layout), (10, Some(layout)));
}
