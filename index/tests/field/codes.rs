//! Codes, codebooks and the pruned search, on pages that share topics as real ones do.

use std::collections::HashMap;

use colqwen_index_field::{
    Effort, LateInteraction, LateInteractionOptions, MultiVector, PageVectors, Precision, QueryVectors, UnitLength,
};
use tantivy::directory::RamDirectory;
use tantivy::index::IndexSettings;
use tantivy::merge_policy::NoMergePolicy;
use tantivy::query::TermQuery;
use tantivy::schema::{FAST, Field, INDEXED, IndexRecordOption, Schema};
use tantivy::{Index, IndexReader, IndexWriter, Searcher, TantivyDocument, Term};

use crate::oracle::{Random, maxsim};

const DIM: usize = 32;
const PAGE_TOKENS: usize = 60;
/// More tokens than a segment without a codebook may have.
const PAGES: u64 = 1200;
const QUERIES: u64 = 40;
const CODED: [Precision; 3] = [Precision::Bits8, Precision::Bits4, Precision::Bits2];

/// About normally distributed with the length of `scale` in all.
fn noise(random: &mut Random, scale: f32) -> Vec<f32> {
    let value = |random: &mut Random| (0..12).map(|_| random.next() as f32 / u64::MAX as f32).sum::<f32>() - 6.0;
    (0..DIM).map(|_| value(random) * scale / (DIM as f32).sqrt()).collect()
}

fn page(seed: u64) -> MultiVector {
    let mut random = Random::new(seed * 7919 + 1);
    let topics: Vec<u64> = (0..12).map(|_| random.below(150)).collect();
    let token = |random: &mut Random| {
        let topic = topics[random.below(topics.len() as u64) as usize];
        let centre = noise(&mut Random::new(topic + 1_000_000), 1.0);
        centre.iter().zip(noise(random, 0.6)).map(|(one, two)| one + two).collect::<Vec<f32>>()
    };
    let values = (0..PAGE_TOKENS).flat_map(|_| token(&mut random)).collect();
    MultiVector::try_new(DIM, values, UnitLength::Normalize).unwrap()
}

fn query(seed: u64) -> MultiVector {
    let mut random = Random::new(seed + 5_000_000);
    let page = page(seed * 9 % PAGES);
    let token = |random: &mut Random| {
        let token = page.token(random.below(PAGE_TOKENS as u64) as usize);
        token.iter().zip(noise(random, 0.7)).map(|(one, two)| one + two).collect::<Vec<f32>>()
    };
    let values = (0..8).flat_map(|_| token(&mut random)).collect();
    MultiVector::try_new(DIM, values, UnitLength::Normalize).unwrap()
}

struct Shelf {
    handle: LateInteraction,
    index: Index,
    writer: IndexWriter,
    reader: IndexReader,
    tokens: Field,
    number: Field,
}

impl Shelf {
    fn new(options: LateInteractionOptions) -> Self {
        let mut schema = Schema::builder();
        let number = schema.add_u64_field("number", INDEXED | FAST);
        let tokens = options.add_to(&mut schema, "tokens");
        let handle = LateInteraction::new();
        let index = handle.create(RamDirectory::create(), schema.build(), IndexSettings::default()).unwrap();
        let writer = index.writer_with_num_threads(1, 50_000_000).unwrap();
        writer.set_merge_policy(Box::new(NoMergePolicy));
        let reader = handle.reader(&index).unwrap();
        Self { handle, index, writer, reader, tokens, number }
    }

    fn of(precision: Precision) -> Self {
        Self::new(LateInteractionOptions::new(DIM).with_precision(precision))
    }

    fn add(&mut self, pages: impl Iterator<Item = u64>) {
        for number in pages {
            let mut document = TantivyDocument::new();
            document.add_u64(self.number, number);
            self.handle.add(&mut document, self.tokens, &PageVectors::new(page(number))).unwrap();
            self.writer.add_document(document).unwrap();
        }
        self.writer.commit().unwrap();
        self.handle.reload(&self.reader).unwrap();
    }

    fn merge(&mut self) {
        let segments = self.index.searchable_segment_ids().unwrap();
        self.writer.merge(&segments).wait().unwrap();
        self.handle.reload(&self.reader).unwrap();
    }

    fn numbers(&self, searcher: &Searcher, query: &colqwen_index_field::LateInteractionQuery) -> Vec<(u64, f32)> {
        let hits = query.search(searcher).unwrap();
        let number = |segment: u32, doc: u32| {
            searcher.segment_reader(segment).fast_fields().u64("number").unwrap().first(doc).unwrap()
        };
        hits.iter().map(|hit| (number(hit.address.segment_ord, hit.address.doc_id), hit.score)).collect()
    }

    fn search(&self, seed: u64, k: usize, effort: Effort) -> Vec<(u64, f32)> {
        let vectors = QueryVectors::new(query(seed));
        self.numbers(&self.reader.searcher(), &self.handle.query(self.tokens, vectors).k(k).effort(effort))
    }
}

fn truth(seed: u64) -> HashMap<u64, f32> {
    let query = query(seed);
    (0..PAGES).map(|number| (number, maxsim(&query, &page(number)))).collect()
}

fn best(scores: &HashMap<u64, f32>, k: usize) -> Vec<u64> {
    let mut numbers: Vec<u64> = scores.keys().copied().collect();
    numbers.sort_by(|one, two| scores[two].total_cmp(&scores[one]).then(one.cmp(two)));
    numbers.truncate(k);
    numbers
}

fn shared(one: &[(u64, f32)], other: &[u64]) -> f64 {
    one.iter().filter(|(number, _)| other.contains(number)).count() as f64
}

#[test]
fn exact_search_finds_what_the_bits_allow_and_scores_it_without_bias() {
    let truths: Vec<HashMap<u64, f32>> = (0..QUERIES).map(truth).collect();
    for (precision, least) in CODED.into_iter().zip([0.97, 0.9, 0.75]) {
        let mut shelf = Shelf::of(precision);
        shelf.add(0..PAGES);
        let (mut found, mut bias) = (0.0, 0.0);
        for (seed, truth) in (0..).zip(&truths) {
            let hits = shelf.search(seed, 10, Effort::Exact);
            found += shared(&hits, &best(truth, 10)) / (10 * QUERIES) as f64;
            let everything = shelf.search(seed, PAGES as usize, Effort::Exact);
            let relative = |(number, score): &(u64, f32)| f64::from((score - truth[number]) / truth[number]);
            bias += everything.iter().map(relative).sum::<f64>() / (PAGES * QUERIES) as f64;
        }
        assert!(found >= least, "{precision:?}: recall {found}");
        println!("{precision:?}: recall {found}, off by {bias}");
        assert!(bias.abs() < 0.002, "{precision:?}: scores are off by {bias} on average");
    }
}

#[test]
fn pruned_search_finds_what_exact_search_finds_and_more_effort_finds_more() {
    for precision in CODED {
        let mut shelf = Shelf::of(precision);
        shelf.add(0..PAGES);
        let searcher = shelf.reader.searcher();
        let (mut before, mut tokens_before) = (0.0, 0);
        for share in [0.2, 0.5, 0.8, 1.0] {
            let (mut found, mut tokens) = (0.0, 0);
            for seed in 0..QUERIES {
                let exact: Vec<u64> = shelf.search(seed, 10, Effort::Exact).iter().map(|(number, _)| *number).collect();
                let vectors = QueryVectors::new(query(seed));
                let query = shelf.handle.query(shelf.tokens, vectors).effort(Effort::Share(share));
                let report = query.report(&searcher).unwrap();
                let hits = shelf.numbers(&searcher, &query);
                found += shared(&hits, &exact) / (10 * QUERIES) as f64;
                tokens += report.work.tokens;
                // What is called proven is exactly what exact search gives.
                let proven: Vec<u64> = hits[..report.proven].iter().map(|(number, _)| *number).collect();
                assert_eq!(proven, exact[..report.proven]);
                assert!((0.0..=1.0).contains(&report.expected_recall));
            }
            assert!(found >= if share < 0.5 { 0.85 } else { 0.95 }, "{precision:?} at {share}: recall {found}");
            assert!(found >= before - 0.005 && tokens >= tokens_before, "{precision:?} at {share}: {found}, {tokens}");
            (before, tokens_before) = (found, tokens);
        }
    }
}

#[test]
fn a_filter_makes_a_search_cheaper_and_never_emptier() {
    let mut shelf = Shelf::of(Precision::Bits8);
    shelf.add((0..PAGES).chain(0..PAGES));
    shelf.writer.delete_term(Term::from_field_u64(shelf.number, 33));
    shelf.add(std::iter::empty());
    let searcher = shelf.reader.searcher();
    let filter = |number| TermQuery::new(Term::from_field_u64(shelf.number, number), IndexRecordOption::Basic);
    let ask = |k| shelf.handle.query(shelf.tokens, QueryVectors::new(query(3))).k(k);
    let all = ask(5).report(&searcher).unwrap();
    let few = ask(5).filter(filter(7)).report(&searcher).unwrap();
    assert_eq!((few.hits.len(), few.work.eligible, few.proven), (2, 2, 2));
    assert!(few.work.tokens < all.work.tokens);
    assert_eq!(ask(5).filter(filter(33)).report(&searcher).unwrap().hits.len(), 0);
    assert!(shelf.numbers(&searcher, &ask(PAGES as usize * 2)).iter().all(|(number, _)| *number != 33));
}

#[test]
fn merges_lose_nothing_and_share_a_codebook() {
    for precision in CODED {
        let mut shelf = Shelf::of(precision);
        shelf.add(0..PAGES);
        let before: Vec<Vec<(u64, f32)>> = (0..QUERIES).map(|seed| shelf.search(seed, 20, Effort::Exact)).collect();
        for round in 0..10 {
            // Pages that no query is near enough to: what was found stays found.
            let start = 10_000 + round * 3;
            shelf.add(start..start + 3);
            shelf.merge();
        }
        let kept = |(number, _): &(u64, f32)| *number < PAGES;
        for (seed, before) in (0..).zip(&before) {
            let after: Vec<(u64, f32)> = shelf.search(seed, 60, Effort::Exact).into_iter().filter(kept).collect();
            assert_eq!(&after[..before.len()], &before[..], "{precision:?}");
        }
        let segments = shelf.handle.segments(&shelf.reader.searcher()).unwrap();
        let field = &segments[0].fields[0];
        assert_eq!((segments.len(), field.codebooks.len(), field.direct_pages), (1, 1, 0), "{precision:?}");
        assert_eq!((field.pages, field.codebooks[0].pages), (PAGES + 30, PAGES + 30));
    }
}

#[test]
fn a_page_scores_alike_in_small_large_and_merged_segments() {
    for (precision, most) in CODED.into_iter().zip([0.002, 0.004, 0.01]) {
        let (mut small, mut large) = (Shelf::of(precision), Shelf::of(precision));
        (0..PAGES / 50).for_each(|at| small.add(at * 50..(at + 1) * 50));
        large.add(0..PAGES);
        let difference = |one: &Shelf, two: &Shelf| {
            let mut sum = 0.0;
            for seed in 0..QUERIES {
                let other: HashMap<u64, f32> = two.search(seed, PAGES as usize, Effort::Exact).into_iter().collect();
                let own = one.search(seed, PAGES as usize, Effort::Exact);
                sum += own.iter().map(|(number, score)| f64::from((score - other[number]) / score)).sum::<f64>();
            }
            (sum / (PAGES * QUERIES) as f64).abs()
        };
        assert!(
            small
                .handle
                .segments(&small.reader.searcher())
                .unwrap()
                .iter()
                .all(|segment| segment.fields[0].codebooks.is_empty())
        );
        assert!(difference(&small, &large) < most, "{precision:?}: {}", difference(&small, &large));
        let direct = small.search(0, 10, Effort::Exact);
        small.merge();
        assert!(difference(&small, &large) < most, "{precision:?} merged: {}", difference(&small, &large));
        assert_eq!(small.search(0, 10, Effort::Exact).len(), direct.len());
    }
}

#[test]
fn an_f16_copy_gives_exact_scores_beside_codes() {
    let options = LateInteractionOptions::new(DIM).with_precision(Precision::Bits2).with_f16_kept(true);
    let mut shelf = Shelf::new(options);
    shelf.add(0..PAGES);
    let truth = truth(1);
    for effort in [Effort::Exact, Effort::default()] {
        for (number, score) in shelf.search(1, 10, effort) {
            assert!((score - truth[&number]).abs() < 1e-2, "{number}: {score}");
        }
    }
    // Trained anew on the copies, all pages get the new codes.
    shelf.handle.retrain(shelf.tokens).unwrap();
    let before = shelf.handle.segments(&shelf.reader.searcher()).unwrap()[0].fields[0].codebooks[0].id.clone();
    shelf.add(PAGES..PAGES + 100);
    shelf.merge();
    let field = &shelf.handle.segments(&shelf.reader.searcher()).unwrap()[0].fields[0];
    assert!(field.keeps_f16 && field.codebooks.len() == 1 && field.codebooks[0].id != before);
}
