//! An index that grew by many small commits answers as one that was built at once.

use colqwen_index_field::{Effort, LateInteractionOptions, MultiVector, Precision};

use crate::data::{Corpus, Shape};
use crate::shelf::{Answer, Shelf};

const CODED: [Precision; 3] = [Precision::Bits8, Precision::Bits4, Precision::Bits2];
const K: usize = 10;
const QUERIES: u64 = 200;

/// Enough pages that a codebook of their first merge is much smaller than one of all.
fn corpus(pages: u64, centres: u64) -> Corpus {
    Corpus::new(Shape { pages, centres, ..Shape::default() })
}

fn queries(corpus: &Corpus) -> Vec<MultiVector> {
    (0..QUERIES).map(|seed| corpus.query(seed)).collect()
}

fn answers(shelf: &Shelf, queries: &[MultiVector], effort: Effort) -> Vec<Answer> {
    queries.iter().map(|query| shelf.search(query, K, effort)).collect()
}

fn recall(answers: &[Answer], truth: &[Answer]) -> f64 {
    answers.iter().zip(truth).map(|(answer, truth)| answer.recall(truth)).sum::<f64>() / answers.len() as f64
}

/// What 200 commits find of the true hits against what one finds, exactly and by default.
fn recall_after_200_commits(centres: u64, precision: Precision) {
    let corpus = corpus(2000, centres);
    let queries = queries(&corpus);
    let truth = answers(&Shelf::of(&corpus, Precision::F16), &queries, Effort::Exact);
    let at_once = Shelf::of(&corpus, precision);
    let mut grown = Shelf::new(LateInteractionOptions::new(corpus.shape.dim).with_precision(precision));
    for commit in 0..200 {
        grown.add(corpus.pages(commit * 10..commit * 10 + 10));
        // Which segments are merged does not depend on how fast the machine is.
        grown.settle();
    }
    let segments = grown.handle.segments(&grown.reader.searcher()).unwrap();
    assert!(segments.len() < 50, "{} segments: nothing was merged", segments.len());
    assert_eq!(segments.iter().map(|segment| segment.fields[0].pages).sum::<u64>(), corpus.shape.pages);
    for effort in [Effort::Exact, Effort::default()] {
        let of = |shelf: &Shelf| recall(&answers(shelf, &queries, effort), &truth);
        let (one, many) = (of(&at_once), of(&grown));
        println!(
            "{precision:?}, {centres} centres, {effort:?}: recall {one:.4} at once, {many:.4} in {} segments",
            segments.len()
        );
        // Segments of one size are merged in any order, so that codebooks are of other pages in every run: of 26 runs with 4 bits
        // and 512 centres the mean was .0043 below, the deviation .0029.
        assert!(many >= one - 0.02, "{precision:?} {effort:?}: recall {one} at once, {many} by 200 commits");
    }
}

#[test]
fn two_hundred_commits_in_8_bits_find_what_one_finds() {
    recall_after_200_commits(256, Precision::Bits8);
}

#[test]
fn two_hundred_commits_in_4_bits_find_what_one_finds() {
    recall_after_200_commits(256, Precision::Bits4);
}

#[test]
fn two_hundred_commits_in_2_bits_find_what_one_finds() {
    recall_after_200_commits(256, Precision::Bits2);
}

#[test]
fn two_hundred_commits_of_many_kinds_of_tokens_in_8_bits_find_what_one_finds() {
    recall_after_200_commits(512, Precision::Bits8);
}

#[test]
fn two_hundred_commits_of_many_kinds_of_tokens_in_4_bits_find_what_one_finds() {
    recall_after_200_commits(512, Precision::Bits4);
}

#[test]
fn two_hundred_commits_of_many_kinds_of_tokens_in_2_bits_find_what_one_finds() {
    recall_after_200_commits(512, Precision::Bits2);
}

/// The mean and the largest relative difference between the scores of all pages.
fn difference(one: &Shelf, other: &Shelf, queries: &[MultiVector], pages: usize) -> (f64, f64) {
    let (mut sum, mut most, mut count) = (0.0, 0.0f64, 0.0);
    for query in queries {
        let by_number = |shelf: &Shelf| {
            let answer = shelf.search(query, pages, Effort::Exact);
            let scores = answer.report.hits.iter().map(|hit| hit.score);
            let mut scores: Vec<(u64, f32)> = answer.numbers.iter().copied().zip(scores).collect();
            scores.sort_by_key(|(number, _)| *number);
            scores
        };
        let (one, other) = (by_number(one), by_number(other));
        assert_eq!((one.len(), other.len()), (pages, pages));
        for ((number, own), (same, exact)) in one.iter().zip(&other) {
            assert_eq!(number, same);
            let off = f64::from((own - exact) / exact);
            (sum, most, count) = (sum + off, most.max(off.abs()), count + 1.0);
        }
    }
    ((sum / count).abs(), most)
}

#[test]
fn an_outgrown_codebook_of_coarse_codes_is_joined_by_one_for_the_pages_to_come() {
    let corpus = corpus(4400, 512);
    let queries = queries(&corpus);
    let truth = answers(&Shelf::of(&corpus, Precision::F16), &queries, Effort::Exact);
    let mut grown = Shelf::new(LateInteractionOptions::new(corpus.shape.dim).with_precision(Precision::Bits4));
    let summary = |shelf: &Shelf| {
        let segments = shelf.handle.segments(&shelf.reader.searcher()).unwrap();
        assert_eq!(segments.len(), 1);
        segments.into_iter().flat_map(|segment| segment.fields).next().unwrap()
    };
    let (mut most, mut waited) = (0, false);
    for commit in 0..11 {
        grown.add(corpus.pages(commit * 400..commit * 400 + 400));
        grown.merge();
        let field = summary(&grown);
        most = most.max(field.codebooks.len());
        waited |= most == 1 && field.direct_pages > 0;
    }
    let field = summary(&grown);
    let trained: Vec<u64> = field.codebooks.iter().map(|codebook| codebook.trained_tokens).collect();
    assert!(waited && most == 2 && trained.iter().max() > trained.iter().min(), "{waited} {most} {trained:?}");
    let at_once = Shelf::of(&corpus, Precision::Bits4);
    for effort in [Effort::Exact, Effort::default()] {
        let of = |shelf: &Shelf| recall(&answers(shelf, &queries, effort), &truth);
        let (one, many) = (of(&at_once), of(&grown));
        println!("Bits4, codebooks of {trained:?} tokens, {effort:?}: recall {one:.4} at once, {many:.4} grown");
        assert!(many >= one - 0.01, "{effort:?}: recall {one} at once, {many} grown");
    }
}

#[test]
fn scores_stay_within_their_bits_through_ten_generations_of_merges() {
    // So many pages that each precision has a codebook at once and after the tenth.
    for (precision, pages, mean, most) in
        [(CODED[0], 800, 0.001, 0.01), (CODED[1], 800, 0.002, 0.06), (CODED[2], 1600, 0.002, 0.2)]
    {
        let corpus = corpus(pages, 512);
        let queries: Vec<MultiVector> = (0..20).map(|seed| corpus.query(seed)).collect();
        let exact = Shelf::of(&corpus, Precision::F16);
        let at_once = Shelf::of(&corpus, precision);
        let mut grown = Shelf::new(LateInteractionOptions::new(corpus.shape.dim).with_precision(precision));
        for generation in 0..10 {
            // From direct codes through the first codebook to codes that were copied six times.
            grown.add(corpus.pages(generation * pages / 10..(generation + 1) * pages / 10));
            grown.merge();
        }
        let pages = corpus.shape.pages as usize;
        let (once, ten) = (difference(&at_once, &exact, &queries, pages), difference(&grown, &exact, &queries, pages));
        println!("{precision:?}: off by {once:?} (mean, most) at once, {ten:?} after ten merges");
        let coded =
            |shelf: &Shelf| !shelf.handle.segments(&shelf.reader.searcher()).unwrap()[0].fields[0].codebooks.is_empty();
        assert!(coded(&at_once) && coded(&grown));
        assert!(once.0 < mean && once.1 < most, "{precision:?} at once: {once:?}");
        assert!(ten.0 < mean && ten.1 < most, "{precision:?} after ten merges: {ten:?}");
    }
}

/// How far scores in 8 bits are off after `generations` trainings, each on what the one before left.
fn off_after_training_anew(generations: u64) -> (f64, f64) {
    let corpus = corpus(600, 512);
    let queries: Vec<MultiVector> = (0..20).map(|seed| corpus.query(seed)).collect();
    let exact = Shelf::of(&corpus, Precision::F16);
    let mut grown = Shelf::of(&corpus, Precision::Bits8);
    let codebook = |shelf: &Shelf| {
        let segments = shelf.handle.segments(&shelf.reader.searcher()).unwrap();
        assert_eq!((segments.len(), segments[0].fields[0].codebooks.len()), (1, 1));
        segments[0].fields[0].codebooks[0].id.clone()
    };
    for generation in 0..generations {
        let before = codebook(&grown);
        grown.handle.retrain(grown.tokens).unwrap();
        // A page more each time gives merging something to do.
        grown.add(corpus.pages(1000 + generation..1001 + generation));
        grown.merge();
        assert_ne!(codebook(&grown), before, "generation {generation} was not trained anew");
    }
    grown.delete(1000..1000 + generations);
    let off = difference(&grown, &exact, &queries, corpus.shape.pages as usize);
    println!("Bits8 after {generations} trainings: off by {off:?} (mean, most)");
    off
}

#[test]
fn scores_in_8_bits_stay_within_a_thousandth_when_a_codebook_is_outgrown_twice() {
    let off = off_after_training_anew(2);
    assert!(off.0 < 0.001 && off.1 < 0.02, "{off:?}");
}

#[test]
fn scores_in_8_bits_stay_within_the_contract_when_trained_anew_five_times() {
    // Each training adds about 2e-4; a codebook is outgrown five times on the way to a thousandfold of its tokens.
    let off = off_after_training_anew(5);
    assert!(off.0 < 0.002 && off.1 < 0.02, "{off:?}");
}
