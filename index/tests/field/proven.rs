//! What a search says of its own answer: hits that are called proven are the best, and the expected recall is the recall.

use colqwen_index_field::{Effort, LateInteractionOptions, MultiVector, Precision};

use crate::data::{Corpus, Shape};
use crate::shelf::{Answer, Shelf};

const K: usize = 10;
const QUERIES: u64 = 150;
const EFFORTS: [Effort; 3] = [Effort::LOW, Effort::Share(0.5), Effort::HIGH];
/// How far the mean of the expected recall may lie from the mean recall.
const HONESTY: f64 = 0.05;

/// Asks at each effort, compares with exact search of the same codes, and gives the number of hits that were proven.
fn check(name: &str, shape: Shape, precision: Precision) -> usize {
    let corpus = Corpus::new(shape);
    let shelf = Shelf::of(&corpus, precision);
    let queries: Vec<_> = (0..QUERIES).map(|seed| corpus.query(seed)).collect();
    let exact: Vec<Answer> = queries.iter().map(|query| shelf.search(query, K, Effort::Exact)).collect();
    let mut all_proven = 0;
    for effort in EFFORTS {
        let (mut recall, mut expected, mut proven) = (0.0, 0.0, 0);
        for (query, exact) in queries.iter().zip(&exact) {
            let answer = shelf.search(query, K, effort);
            let certain = answer.report.proven;
            assert_eq!(answer.report.hits[..certain], exact.report.hits[..certain], "{name} {effort:?}");
            recall += answer.recall(exact) / QUERIES as f64;
            expected += f64::from(answer.report.expected_recall) / QUERIES as f64;
            proven += certain;
        }
        println!("{name} {precision:?} {effort:?}: recall {recall:.4}, expected {expected:.4}, {proven} hits proven");
        assert!((recall - expected).abs() < HONESTY, "{name} {effort:?}: recall {recall}, expected {expected}");
        all_proven += proven;
    }
    all_proven
}

fn clusters() -> Shape {
    Shape { pages: 1200, tokens: 20..=40, ..Shape::default() }
}

#[test]
fn pages_with_clusters() {
    check("256 centres", clusters(), Precision::Bits8);
    check("4096 centres", Shape { centres: 4096, ..clusters() }, Precision::Bits4);
}

#[test]
fn pages_without_clusters() {
    check("no centres", Shape { centres: 0, ..clusters() }, Precision::Bits4);
}

#[test]
fn pages_of_very_different_lengths() {
    check("5 to 300 tokens", Shape { tokens: 5..=300, pages: 600, ..clusters() }, Precision::Bits2);
}

#[test]
fn pages_of_mostly_blank_paper() {
    check("blank .4", Shape { blank: 0.4, ..clusters() }, Precision::Bits4);
    check("blank .8", Shape { blank: 0.8, tokens: 30..=60, ..clusters() }, Precision::Bits4);
}

#[test]
fn short_queries() {
    check("3 query tokens", Shape { query_tokens: 3, ..clusters() }, Precision::Bits4);
}

#[test]
fn queries_that_one_page_answers_best() {
    for precision in [Precision::Bits8, Precision::Bits4, Precision::Bits2] {
        // Tokens near their centres: what centroids leave out is less than what pages differ by.
        let shape = Shape { token_noise: 0.1, query_noise: 0.1, pages: 2400, ..clusters() };
        let proven = check("a page's own tokens", shape, precision);
        assert!(proven > 0, "nothing was proven, so nothing was checked");
    }
}

/// What `check` asserts of one index, and the recall at each effort.
fn check_shelf(name: &str, shelf: &Shelf, queries: &[MultiVector]) {
    for effort in EFFORTS.into_iter().chain([Effort::Share(1.0)]) {
        let mut recall = 0.0;
        for query in queries {
            let (answer, exact) = (shelf.search(query, K, effort), shelf.search(query, K, Effort::Exact));
            let certain = answer.report.proven;
            assert_eq!(answer.report.hits[..certain], exact.report.hits[..certain], "{name} {effort:?}");
            recall += answer.recall(&exact) / queries.len() as f64;
        }
        println!("{name} {effort:?}: recall {recall:.4}");
        assert!(recall > 0.9, "{name} {effort:?}: recall {recall}");
    }
}

#[test]
fn a_small_segment_with_a_codebook_beside_a_large_one() {
    let corpus = Corpus::new(Shape { pages: 1900, tokens: 40..=60, ..Shape::default() });
    for precision in [Precision::Bits8, Precision::Bits4] {
        let options = LateInteractionOptions::new(corpus.shape.dim).with_precision(precision);
        let mut shelf = Shelf::new(options.with_f16_kept(precision == Precision::Bits4));
        shelf.add(corpus.pages(0..1500));
        shelf.add(corpus.pages(1500..1900));
        let segments = shelf.handle.segments(&shelf.reader.searcher()).unwrap();
        let blocks: Vec<u64> = segments.iter().map(|segment| segment.fields[0].codebooks[0].pages).collect();
        assert!(blocks.contains(&1500) && blocks.contains(&400), "{blocks:?}");
        // Tokens of pages of the small segment.
        let queries: Vec<MultiVector> = (1500..1900).step_by(10).map(|number| corpus.query_of(number)).collect();
        check_shelf(&format!("400 pages beside 1500, {precision:?}"), &shelf, &queries);
        // A filter that leaves pages of one segment alone.
        let few = shelf.query(&queries[0], K, Effort::default()).filter(shelf.number(1777));
        assert_eq!(shelf.ask(&few).numbers, [1777]);
    }
}

#[test]
fn pages_that_no_query_token_resembles() {
    let shape = Shape { pages: 900, tokens: 20..=40, blank: 0.97, query_tokens: 1, ..Shape::default() };
    let corpus = Corpus::new(shape);
    let queries: Vec<MultiVector> = (0..60).map(|seed| corpus.query(seed)).collect();
    check_shelf("almost only blank paper", &Shelf::of(&corpus, Precision::Bits8), &queries);
}

#[test]
fn as_many_hits_as_there_are_numbers() {
    let corpus = Corpus::new(Shape { pages: 600, ..clusters() });
    let shelf = Shelf::of(&corpus, Precision::Bits4);
    let answer = shelf.search(&corpus.query(1), usize::MAX, Effort::default());
    let distinct: std::collections::HashSet<u64> = answer.numbers.iter().copied().collect();
    assert_eq!(distinct.len() as u64, corpus.shape.pages);
    let few = shelf.search(&corpus.query(1), 20, Effort::LOW).numbers;
    assert_eq!(few.iter().collect::<std::collections::HashSet<_>>().len(), 20);
}

#[test]
fn an_index_of_few_pages() {
    let proven = check("150 pages", Shape { pages: 150, ..clusters() }, Precision::Bits4);
    assert!(proven > 0, "nothing was proven, so nothing was checked");
}
