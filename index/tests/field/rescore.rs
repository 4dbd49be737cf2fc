//! Hits of BM25 ranked anew by MaxSim, against the definition of MaxSim and against exact search.

use std::collections::{BTreeMap, HashSet};

use colqwen_index_field::{
    Effort, Error, Fallback, Fingerprint, LateInteraction, LateInteractionOptions, LateInteractionRescorer,
    MultiVector, Origin, PageVectors, Precision, QueryVectors, RescoredHit, UnitLength,
};
use tantivy::collector::TopDocs;
use tantivy::directory::RamDirectory;
use tantivy::index::IndexSettings;
use tantivy::merge_policy::NoMergePolicy;
use tantivy::query::{AllQuery, BooleanQuery, EmptyQuery, Occur, Query, TermQuery};
use tantivy::schema::{FAST, Field, INDEXED, IndexRecordOption, Schema, TEXT};
use tantivy::{DocAddress, IndexReader, IndexWriter, Score, Searcher, TantivyDocument, Term};

use crate::data::{Corpus, Shape};
use crate::oracle::{Random, maxsim};

/// Enough that the large segment gets a codebook at any precision.
const PAGES: u64 = 1900;
/// Each so-manieth document has no vectors.
const BARE: u64 = 7;
const FIRST_PASS: usize = 150;

fn corpus() -> Corpus {
    Corpus::new(Shape { dim: 32, pages: PAGES, ..Shape::default() })
}

fn is_bare(number: u64) -> bool {
    number % BARE == 3
}

/// Documents of words and vectors in several segments.
struct Library {
    late: LateInteraction,
    writer: IndexWriter,
    reader: IndexReader,
    number: Field,
    words: Field,
    tokens: Field,
    /// The vectors of the live documents that have some.
    pages: BTreeMap<u64, MultiVector>,
}

impl Library {
    fn new(options: LateInteractionOptions) -> Self {
        let mut schema = Schema::builder();
        let number = schema.add_u64_field("number", INDEXED | FAST);
        let words = schema.add_text_field("words", TEXT);
        let tokens = options.add_to(&mut schema, "tokens");
        let late = LateInteraction::new();
        let index = late.create(RamDirectory::create(), schema.build(), IndexSettings::default()).unwrap();
        let writer = index.writer_with_num_threads(1, 100_000_000).unwrap();
        writer.set_merge_policy(Box::new(NoMergePolicy));
        let reader = late.reader(&index).unwrap();
        Self { late, writer, reader, number, words, tokens, pages: BTreeMap::new() }
    }

    /// All pages of the corpus, a segment with codebooks and two small ones, with deleted documents in each.
    fn of(corpus: &Corpus, options: LateInteractionOptions) -> Self {
        let mut library = Self::new(options);
        for numbers in [0..PAGES - 60, PAGES - 60..PAGES - 20, PAGES - 20..PAGES] {
            library.add(numbers.map(|number| (number, (!is_bare(number)).then(|| corpus.page(number)))));
        }
        library.delete((0..PAGES).filter(|number| number % 11 == 5));
        library
    }

    /// Documents whose words say little about their vectors: how often each occurs depends on the number.
    fn add(&mut self, pages: impl Iterator<Item = (u64, Option<MultiVector>)>) {
        for (number, vectors) in pages {
            let mut document = TantivyDocument::new();
            document.add_u64(self.number, number);
            let words = [("lamp ", number % 5), ("bog ", number % 3), ("filler ", 4 + number * 31 % 23)];
            document.add_text(self.words, words.map(|(word, times)| word.repeat(times as usize)).concat());
            if let Some(vectors) = vectors {
                self.late.add(&mut document, self.tokens, &PageVectors::new(vectors.clone())).unwrap();
                self.pages.insert(number, vectors);
            }
            self.writer.add_document(document).unwrap();
        }
        self.commit();
    }

    fn delete(&mut self, numbers: impl Iterator<Item = u64>) {
        for number in numbers {
            self.writer.delete_term(Term::from_field_u64(self.number, number));
            self.pages.remove(&number);
        }
        self.commit();
    }

    fn commit(&mut self) {
        self.writer.commit().unwrap();
        self.late.reload(&self.reader).unwrap();
    }

    fn words(&self) -> BooleanQuery {
        let word = |word: &str| -> Box<dyn Query> {
            Box::new(TermQuery::new(Term::from_field_text(self.words, word), IndexRecordOption::WithFreqs))
        };
        BooleanQuery::new(vec![(Occur::Should, word("lamp")), (Occur::Should, word("bog"))])
    }

    fn first_pass(&self, searcher: &Searcher) -> Vec<(Score, DocAddress)> {
        searcher.search(&self.words(), &TopDocs::with_limit(FIRST_PASS).order_by_score()).unwrap()
    }

    fn rescorer(&self, vectors: &MultiVector) -> LateInteractionRescorer {
        self.late.rescorer(self.tokens, QueryVectors::new(vectors.clone()))
    }

    fn exact(&self, vectors: &MultiVector) -> colqwen_index_field::LateInteractionQuery {
        self.late.query(self.tokens, QueryVectors::new(vectors.clone())).k(PAGES as usize).effort(Effort::Exact)
    }
}

fn number_of(searcher: &Searcher, address: DocAddress) -> u64 {
    let column = searcher.segment_reader(address.segment_ord).fast_fields().u64("number").unwrap();
    column.first(address.doc_id).unwrap()
}

fn numbers(searcher: &Searcher, hits: &[RescoredHit]) -> Vec<u64> {
    hits.iter().map(|hit| number_of(searcher, hit.address)).collect()
}

/// Precisions, and how far a score may lie from the MaxSim of the vectors as they were given, in shares of it.
const PRECISIONS: [(Precision, f32); 4] =
    [(Precision::F16, 1e-3), (Precision::Bits8, 0.01), (Precision::Bits4, 0.03), (Precision::Bits2, 0.15)];

#[test]
fn the_first_pass_is_ranked_by_exact_maxsim_at_every_precision() {
    let corpus = corpus();
    for (precision, tolerance) in PRECISIONS {
        let library = Library::of(&corpus, LateInteractionOptions::new(32).with_precision(precision));
        let searcher = library.reader.searcher();
        assert_eq!(searcher.segment_readers().len(), 3);
        let coded = library.late.segments(&searcher).unwrap().iter().any(|s| !s.fields[0].codebooks.is_empty());
        assert_eq!(coded, precision != Precision::F16, "the large segment has a codebook");
        let first_pass = library.first_pass(&searcher);
        let named: HashSet<DocAddress> = first_pass.iter().map(|(_, address)| *address).collect();
        let first_pass_scores: BTreeMap<DocAddress, Score> =
            first_pass.iter().map(|(s, address)| (*address, *s)).collect();
        for seed in 0..5 {
            let query = corpus.query(seed);
            let rescorer = library.rescorer(&query).fallback(Fallback::Drop);
            let hits = rescorer.rescore(&searcher, first_pass.iter().copied()).unwrap();
            assert!(hits.iter().all(|hit| hit.rescored && hit.first_pass == first_pass_scores[&hit.address]));

            // Exact search finds the same documents in the same order, bit for bit.
            let exact = library.exact(&query).search(&searcher).unwrap();
            let exact: Vec<_> =
                exact.iter().filter(|hit| named.contains(&hit.address)).map(|hit| (hit.score, hit.address)).collect();
            let found: Vec<(Score, DocAddress)> = hits.iter().map(|hit| (*hit).into()).collect();
            assert_eq!(found, exact, "{precision:?}");

            // And so does the definition, as far as the precision goes.
            let mut truth: Vec<(u64, f32)> = first_pass
                .iter()
                .map(|(_, address)| number_of(&searcher, *address))
                .filter_map(|number| Some((number, maxsim(&query, library.pages.get(&number)?))))
                .collect();
            truth.sort_by(|one, other| other.1.total_cmp(&one.1));
            assert_eq!(hits.len(), truth.len());
            let truth_of: BTreeMap<u64, f32> = truth.iter().copied().collect();
            for (hit, (_, best)) in hits.iter().zip(&truth) {
                let own = truth_of[&number_of(&searcher, hit.address)];
                let most = tolerance * own.abs();
                assert!((hit.score - own).abs() <= most, "{precision:?}: {} instead of {own}", hit.score);
                // What stands at a rank is as good as what should stand there.
                assert!((own - best).abs() <= 2.0 * most, "{precision:?}: {own} in the place of {best}");
            }
        }
    }
}

#[test]
fn an_f16_copy_is_what_rescoring_reads() {
    let corpus = corpus();
    let options = LateInteractionOptions::new(32).with_precision(Precision::Bits2).with_f16_kept(true);
    let library = Library::of(&corpus, options);
    let searcher = library.reader.searcher();
    let query = corpus.query(1);
    for hit in library.rescorer(&query).rescore(&searcher, library.first_pass(&searcher)).unwrap() {
        if hit.rescored {
            let own = maxsim(&query, &library.pages[&number_of(&searcher, hit.address)]);
            assert!((hit.score - own).abs() <= 1e-3 * own, "{} instead of {own}", hit.score);
        }
    }
}

#[test]
fn every_fallback_puts_documents_without_vectors_where_it_says() {
    let corpus = corpus();
    let library = Library::of(&corpus, LateInteractionOptions::new(32));
    let searcher = library.reader.searcher();
    let (query, first_pass) = (corpus.query(2), library.first_pass(&searcher));
    let all = |fallback| {
        let hits = library.rescorer(&query).fallback(fallback).rescore(&searcher, first_pass.clone()).unwrap();
        assert!(hits.is_sorted_by(|one, next| one.score >= next.score), "{fallback:?}");
        assert!(hits.iter().all(|hit| hit.rescored != is_bare(number_of(&searcher, hit.address))));
        hits
    };
    let pages = all(Fallback::Drop);
    let bare: Vec<(Score, DocAddress)> =
        first_pass.iter().copied().filter(|(_, address)| is_bare(number_of(&searcher, *address))).collect();
    assert!(bare.len() > 10 && pages.len() + bare.len() == FIRST_PASS);
    let lowest = pages.last().unwrap().score;

    // Last: behind all pages, as the first pass had them.
    let last = all(Fallback::Last);
    assert_eq!(last[..pages.len()], pages);
    let behind = |hits: &[RescoredHit]| hits.iter().map(|hit| (hit.first_pass, hit.address)).collect::<Vec<_>>();
    assert_eq!(behind(&last[pages.len()..]), bare);
    assert!(last[pages.len()..].iter().all(|hit| hit.score == lowest));
    assert_eq!(
        LateInteractionRescorer::fallback(library.rescorer(&query), Fallback::default())
            .rescore(&searcher, first_pass.clone())
            .unwrap(),
        last
    );

    // A fixed score: among the pages, as the first pass had them.
    let middle = pages[pages.len() / 2].score;
    let fixed = all(Fallback::Score(middle));
    let at = fixed.iter().position(|hit| !hit.rescored).unwrap();
    assert_eq!(at, pages.len() / 2 + 1, "MaxSim before fallback where scores are equal");
    assert_eq!(behind(&fixed[at..at + bare.len()]), bare);

    // The first pass's score: ranked as any other.
    let kept = all(Fallback::FirstPass);
    assert!(kept.iter().filter(|hit| !hit.rescored).all(|hit| hit.score == hit.first_pass));
    assert_eq!(kept.len(), FIRST_PASS);

    // A score that is none comes last, behind every other.
    let unknown =
        library.rescorer(&query).fallback(Fallback::Score(f32::NAN)).rescore(&searcher, first_pass.clone()).unwrap();
    assert_eq!(unknown[..pages.len()], pages);
    assert_eq!(behind(&unknown[pages.len()..]), bare);
}

#[test]
fn documents_without_vectors_alone_keep_their_order() {
    let mut library = Library::new(LateInteractionOptions::new(32));
    library.add((0..20).map(|number| (number, None)));
    let searcher = library.reader.searcher();
    let first_pass = library.first_pass(&searcher);
    let query = corpus().query(0);
    let hits = library.rescorer(&query).rescore(&searcher, first_pass.clone()).unwrap();
    assert_eq!(hits.iter().map(|hit| (hit.first_pass, hit.address)).collect::<Vec<_>>(), first_pass);
    assert!(hits.iter().all(|hit| hit.score == 0.0 && !hit.rescored));
    assert_eq!(library.rescorer(&query).fallback(Fallback::Drop).rescore(&searcher, first_pass).unwrap(), []);
}

#[test]
fn one_call_runs_a_query_and_rescores_its_best() {
    let corpus = corpus();
    let library = Library::of(&corpus, LateInteractionOptions::new(32).with_precision(Precision::Bits8));
    let searcher = library.reader.searcher();
    let query = corpus.query(3);
    let rescorer = library.rescorer(&query);
    let two_calls = rescorer.rescore(&searcher, library.first_pass(&searcher)).unwrap();
    assert_eq!(rescorer.search(&searcher, &library.words(), FIRST_PASS).unwrap(), two_calls);
    assert_eq!(rescorer.search(&searcher, &library.words(), 0).unwrap(), []);
    assert_eq!(rescorer.search(&searcher, &EmptyQuery, 10).unwrap(), []);
    // All documents, and more than there are: exact search.
    let all = rescorer.fallback(Fallback::Drop).search(&searcher, &AllQuery, usize::MAX).unwrap();
    let exact = library.exact(&query).search(&searcher).unwrap();
    assert_eq!(all.len(), library.pages.len());
    assert!(all.iter().zip(&exact).all(|(one, other)| (one.score, one.address) == (other.score, other.address)));
    // The hits of the field's own query are hits too.
    let own = library.rescorer(&query).rescore(&searcher, exact.iter().copied()).unwrap();
    assert!(own.iter().zip(&exact).all(|(one, other)| one.score == other.score && one.first_pass == other.score));
}

#[test]
fn deleted_and_repeated_documents_do_not_count() {
    let corpus = corpus();
    let mut library = Library::new(LateInteractionOptions::new(32));
    library.add((0..30).map(|number| (number, Some(corpus.page(number)))));
    let named: Vec<(Score, DocAddress)> = (0..30).map(|doc| (doc as f32, DocAddress::new(0, doc))).collect();
    library.delete([4, 9].into_iter());
    let searcher = library.reader.searcher();
    let twice = named.iter().copied().chain(named.iter().map(|(score, address)| (score + 100.0, *address)));
    let hits = library.rescorer(&corpus.query(0)).rescore(&searcher, twice).unwrap();
    let mut found = numbers(&searcher, &hits);
    found.sort_unstable();
    assert_eq!(found, (0..30).filter(|number| ![4, 9].contains(number)).collect::<Vec<u64>>());
    assert!(hits.iter().all(|hit| hit.first_pass < 100.0), "the first score counts");
}

#[test]
fn equal_pages_stand_by_address_on_any_number_of_threads() {
    // Enough tokens that the work is spread over threads where there are any.
    let (page, other) = (Random::new(1).vectors(32, 900), Random::new(2).vectors(32, 900));
    let mut library = Library::new(LateInteractionOptions::new(32));
    for start in [0, 40, 80] {
        let vectors = |number: u64| if number.is_multiple_of(3) { page.clone() } else { other.clone() };
        library.add((start..start + 40).map(|number| (number, Some(vectors(number)))));
    }
    let searcher = library.reader.searcher();
    let query = Random::new(3).vectors(32, 30);
    let rescorer = library.rescorer(&query);
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| rescorer.search(&searcher, &AllQuery, 200)).unwrap()
    };
    let hits = on(1);
    assert_eq!(hits.len(), 120);
    assert!(hits.is_sorted_by(|one, next| one.score > next.score || one.address < next.address));
    assert_eq!(hits.iter().map(|hit| hit.score.to_bits()).collect::<HashSet<_>>().len(), 2);
    for threads in [2, 5] {
        assert_eq!(on(threads), hits);
    }
}

#[test]
fn what_cannot_be_compared_is_refused_by_name() {
    let corpus = corpus();
    let mut library = Library::new(LateInteractionOptions::new(32));
    library.add((0..5).map(|number| (number, None)));
    let model = |byte: u8| Origin::Model(Fingerprint::from_bytes([byte; 32]));
    let mut document = TantivyDocument::new();
    let page = PageVectors::new(corpus.page(0)).with_origin(model(1));
    library.late.add(&mut document, library.tokens, &page).unwrap();
    library.writer.add_document(document).unwrap();
    library.commit();
    let searcher = library.reader.searcher();
    let vectors = |dim: usize| MultiVector::try_new(dim, vec![1.0; dim], UnitLength::Normalize).unwrap();
    let rescore = |field, vectors, hits: &[(Score, DocAddress)]| {
        library.late.rescorer(field, vectors).rescore(&searcher, hits.iter().copied())
    };
    let query = || QueryVectors::new(vectors(32));
    let good = [(1.0, DocAddress::new(0, 0))];
    assert_eq!(rescore(library.tokens, query().with_origin(model(1)), &good).unwrap().len(), 1);

    let error = rescore(library.tokens, QueryVectors::new(vectors(16)), &good).unwrap_err();
    assert!(matches!(error, Error::Dim { received: 16, expected: 32, .. }), "{error}");
    let most = colqwen_index_field::MAX_QUERY_TOKENS;
    let long = MultiVector::try_new(32, [1.0; 32].repeat(most + 1), UnitLength::Normalize).unwrap();
    let error = rescore(library.tokens, QueryVectors::new(long.clone()), &good).unwrap_err();
    assert!(matches!(error, Error::QueryTokens { received, .. } if received == most + 1), "{error}");
    let error = library.late.query(library.tokens, QueryVectors::new(long)).search(&searcher).unwrap_err();
    assert!(matches!(error, Error::QueryTokens { .. }), "{error}");
    let error = rescore(library.tokens, query().with_origin(model(2)), &good).unwrap_err();
    assert!(matches!(error, Error::OtherQueryModel { .. }), "{error}");
    assert!(error.to_string().contains(&"01".repeat(32)) && error.to_string().contains(&"02".repeat(32)), "{error}");
    let error = rescore(library.words, query(), &good).unwrap_err();
    assert!(matches!(error, Error::NotLateInteraction { .. }) && error.to_string().contains("\"words\""), "{error}");
    for address in [DocAddress::new(2, 0), DocAddress::new(0, 5), DocAddress::new(u32::MAX, u32::MAX)] {
        let error = rescore(library.tokens, query(), &[good[0], (1.0, address)]).unwrap_err();
        assert!(matches!(error, Error::NoDocument { segments: 2, .. }), "{error}");
        assert!(library.exact(&vectors(32)).explain_page(&searcher, address).is_err());
        assert!(library.late.page(&searcher, library.tokens, address).is_err());
        assert!(library.late.layout(&searcher, library.tokens, address).is_err());
    }
    // Nothing to rescore is no reason to accept a query that could not rescore anything.
    assert!(rescore(library.tokens, QueryVectors::new(vectors(16)), &[]).is_err());
    assert_eq!(rescore(library.tokens, query(), &[]).unwrap(), []);
}
