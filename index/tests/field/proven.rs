//! What a search says of its own answer: hits that are called proven are the best, and the expected recall is the recall.

use colqwen_index_field::{Effort, Precision};

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

#[test]
fn an_index_of_few_pages() {
    let proven = check("150 pages", Shape { pages: 150, ..clusters() }, Precision::Bits4);
    assert!(proven > 0, "nothing was proven, so nothing was checked");
}
