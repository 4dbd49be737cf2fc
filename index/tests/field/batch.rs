//! Many queries at once give what each gives alone.

use colqwen_index_field::{
    Effort, Error, Fingerprint, LateInteractionQuery, Origin, Precision, QueryVectors, SearchReport,
};

use crate::data::{Corpus, Shape};
use crate::oracle::Random;
use crate::shelf::Shelf;

fn on<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
}

/// Two segments, one with a codebook, with deleted pages.
fn shelf(corpus: &Corpus, precision: Precision) -> Shelf {
    let mut shelf = Shelf::of(corpus, precision);
    shelf.add(corpus.pages(0..70));
    shelf.delete(10..40);
    shelf
}

/// Queries that differ in everything that a query may say.
fn queries(shelf: &Shelf, corpus: &Corpus, count: u64) -> Vec<LateInteractionQuery> {
    let efforts = [Effort::LOW, Effort::default(), Effort::Share(1.0), Effort::Exact];
    let query = |seed: u64| {
        let query = shelf.query(&corpus.query(seed), 1 + seed as usize % 20, efforts[seed as usize % 4]);
        if seed.is_multiple_of(5) { query.filter(shelf.in_part(seed)) } else { query }
    };
    (0..count).map(query).collect()
}

#[test]
fn a_batch_answers_as_its_queries_do_one_by_one() {
    let corpus = Corpus::new(Shape { pages: 1500, ..Shape::default() });
    for precision in [Precision::F16, Precision::Bits8, Precision::Bits2] {
        let shelf = shelf(&corpus, precision);
        let searcher = shelf.reader.searcher();
        let queries = queries(&shelf, &corpus, 40);
        let one_by_one: Vec<SearchReport> = queries.iter().map(|query| query.report(&searcher).unwrap()).collect();
        assert!(one_by_one.iter().all(|report| !report.hits.is_empty()));
        // More queries than threads, as many, and fewer.
        for (threads, count) in [(1, 40), (2, 40), (3, 3), (4, 2), (4, 1), (2, 0)] {
            let reports = on(threads, || LateInteractionQuery::report_batch(&queries[..count], &searcher)).unwrap();
            assert_eq!(reports, one_by_one[..count], "{precision:?}: {count} queries on {threads} threads");
        }
    }
}

#[test]
fn exact_search_gives_the_same_on_any_number_of_threads() {
    // 4,000 pages of some 45 tokens by 12 query tokens by 64 values are more work than one thread does alone.
    let corpus = Corpus::new(Shape { pages: 4000, ..Shape::default() });
    let shelf = Shelf::of(&corpus, Precision::F16);
    let searcher = shelf.reader.searcher();
    for seed in 0..5 {
        let query = shelf.query(&corpus.query(seed), 30, Effort::Exact);
        let alone = on(1, || query.report(&searcher).unwrap());
        assert_eq!(on(4, || query.report(&searcher).unwrap()), alone);
    }
}

#[test]
fn the_first_error_in_the_order_of_the_queries_is_returned() {
    let corpus = Corpus::new(Shape { pages: 200, ..Shape::default() });
    let shelf = shelf(&corpus, Precision::F16);
    let searcher = shelf.reader.searcher();
    let good = || shelf.query(&corpus.query(1), 10, Effort::Exact);
    let wrong_dim = |dim| shelf.handle.query(shelf.tokens, QueryVectors::new(Random::new(1).vectors(dim, 3)));
    for (first, second) in [(0, 1), (3, 29), (17, 18), (28, 29)] {
        let mut queries: Vec<LateInteractionQuery> = (0..30).map(|_| good()).collect();
        queries[first] = wrong_dim(5);
        queries[second] = wrong_dim(6);
        for threads in [1, 4] {
            let error = on(threads, || LateInteractionQuery::report_batch(&queries, &searcher)).unwrap_err();
            assert!(matches!(error, Error::Dim { received: 5, expected: 64, .. }), "{error}");
        }
    }
}

#[test]
fn a_query_for_another_model_fails_its_batch() {
    let corpus = Corpus::new(Shape { pages: 50, ..Shape::default() });
    let mut shelf = Shelf::of(&corpus, Precision::F16);
    let model = |byte: u8| Origin::Model(Fingerprint::from_bytes([byte; 32]));
    shelf.add_of_model(corpus.pages(50..60), model(1));
    let searcher = shelf.reader.searcher();
    let query = |origin| shelf.handle.query(shelf.tokens, QueryVectors::new(corpus.query(1)).with_origin(origin));
    let good = [query(Origin::Unknown), query(model(1))];
    assert_eq!(LateInteractionQuery::report_batch(&good, &searcher).unwrap().len(), 2);
    let error = LateInteractionQuery::report_batch(&[query(model(1)), query(model(2))], &searcher).unwrap_err();
    assert!(matches!(error, Error::OtherQueryModel { .. }), "{error}");
}
