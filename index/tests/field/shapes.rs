//! What the default effort finds does not depend on the shape of pages: their tokens, dimension, blank paper and clusters.

use std::borrow::Borrow;

use colqwen_index_field::Precision::{Bits2, Bits4, Bits8};
use colqwen_index_field::{Effort, Precision};

use crate::data::{Corpus, Shape};
use crate::shelf::{Answer, PARTS, Shelf};

const K: usize = 10;
const QUERIES: u64 = 200;

/// Means over all queries.
#[derive(Default, Debug)]
struct Figures {
    recall: f64,
    expected_recall: f64,
    tokens: f64,
}

impl Figures {
    fn of(pairs: impl Iterator<Item = (Answer, impl Borrow<Answer>)>) -> Self {
        let (mut sum, mut count) = (Self::default(), 0.0);
        for (answer, exact) in pairs {
            assert_eq!(answer.numbers.len(), exact.borrow().numbers.len());
            sum.recall += answer.recall(exact.borrow());
            sum.expected_recall += f64::from(answer.report.expected_recall);
            sum.tokens += answer.report.work.tokens as f64;
            count += 1.0;
        }
        let Self { recall, expected_recall, tokens } = sum;
        Self { recall: recall / count, expected_recall: expected_recall / count, tokens: tokens / count }
    }
}

/// The default effort against exact search of the same codes.
fn default_effort(name: &str, shape: Shape, precision: Precision, least: f64) {
    let corpus = Corpus::new(shape);
    let shelf = Shelf::of(&corpus, precision);
    let mut all_tokens = 0;
    let figures = Figures::of((0..QUERIES).map(|seed| {
        let query = corpus.query(seed);
        let exact = shelf.search(&query, K, Effort::Exact);
        assert_eq!(exact.numbers.len(), K);
        all_tokens = exact.report.work.tokens;
        (shelf.search(&query, K, Effort::default()), exact)
    }));
    println!("{name}, {precision:?}: {figures:?} of {all_tokens} tokens");
    assert!(figures.recall >= least, "{name}, {precision:?}: {figures:?}");
}

#[test]
fn dimensions_that_fill_no_register() {
    for (dim, precision) in [(96, Bits4), (320, Bits2)] {
        default_effort(&format!("dim {dim}"), Shape { dim, pages: 600, ..Shape::default() }, precision, 0.95);
    }
}

#[test]
fn pages_of_5_to_1200_tokens_in_one_index() {
    let shape = Shape { pages: 300, tokens: 5..=1200, ..Shape::default() };
    default_effort("5 to 1200 tokens", shape, Bits8, 0.95);
}

#[test]
fn blank_paper() {
    for (blank, precision) in [(0.0, Bits2), (0.4, Bits8), (0.8, Bits4)] {
        default_effort(&format!("blank {blank}"), Shape { blank, ..Shape::default() }, precision, 0.95);
    }
}

#[test]
fn few_centres_many_centres_and_none() {
    for (centres, precision) in [(256, Bits8), (4096, Bits4), (65_536, Bits2), (0, Bits4)] {
        default_effort(&format!("{centres} centres"), Shape { centres, ..Shape::default() }, precision, 0.95);
    }
}

#[test]
fn a_thousand_and_five_thousand_pages() {
    for pages in [1000, 5000] {
        default_effort(&format!("{pages} pages"), Shape { pages, centres: 1024, ..Shape::default() }, Bits4, 0.97);
    }
}

#[test]
fn a_filter_of_a_hundredth_keeps_all_hits_and_costs_less() {
    let corpus = Corpus::new(Shape { pages: 5000, ..Shape::default() });
    let shelf = Shelf::of(&corpus, Bits4);
    let unfiltered =
        (0..QUERIES).map(|seed| shelf.search(&corpus.query(seed), K, Effort::default()).report.work.tokens);
    let unfiltered = unfiltered.sum::<u64>() as f64 / QUERIES as f64;
    let filtered = Figures::of((0..QUERIES).map(|seed| {
        let (query, part) = (corpus.query(seed), seed % PARTS);
        let ask = |effort| shelf.ask(&shelf.query(&query, K, effort).filter(shelf.in_part(part)));
        let (answer, exact) = (ask(Effort::default()), ask(Effort::Exact));
        assert_eq!((answer.numbers.len(), answer.report.work.eligible), (K, corpus.shape.pages / PARTS));
        assert!(answer.numbers.iter().all(|number| number % PARTS == part));
        (answer, exact)
    }));
    println!("a hundredth of 5000 pages: {filtered:?}, {unfiltered:.0} tokens without filter");
    assert!(filtered.recall >= 0.97 && filtered.tokens < unfiltered, "{filtered:?}, {unfiltered} without filter");
}

#[test]
fn more_effort_finds_no_less_and_looks_at_no_less() {
    for (name, shape) in [
        ("clusters", Shape { pages: 2000, ..Shape::default() }),
        ("blank paper", Shape { pages: 1000, blank: 0.4, ..Shape::default() }),
        ("no clusters", Shape { pages: 500, centres: 0, ..Shape::default() }),
    ] {
        let corpus = Corpus::new(shape);
        let shelf = Shelf::of(&corpus, Bits4);
        let queries: Vec<_> = (0..QUERIES).map(|seed| corpus.query(seed)).collect();
        let exact: Vec<Answer> = queries.iter().map(|query| shelf.search(query, K, Effort::Exact)).collect();
        let (mut recall, mut tokens) = (0.0, 0.0);
        for share in [0.1, 0.2, 0.5, 0.8, 1.0] {
            let answers = queries.iter().map(|query| shelf.search(query, K, Effort::Share(share)));
            let figures = Figures::of(answers.zip(&exact));
            println!("{name} at {share}: {figures:?}");
            assert!(figures.recall >= recall - 0.005, "{name} at {share}: {figures:?}, recall {recall} before");
            assert!(figures.tokens >= tokens, "{name} at {share}: {figures:?}, {tokens} tokens before");
            (recall, tokens) = (figures.recall, figures.tokens);
        }
    }
}
