//! Searching while a writer adds, replaces, deletes, commits and merges: every answer is that of one commit.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use colqwen_index_field::{
    Effort, LateInteraction, LateInteractionOptions, MultiVector, PageVectors, Precision, QueryVectors, UnitLength,
};
use tantivy::directory::MmapDirectory;
use tantivy::index::IndexSettings;
use tantivy::query::TermQuery;
use tantivy::schema::{FAST, Field, INDEXED, IndexRecordOption, Schema};
use tantivy::{Index, IndexReader, IndexWriter, Searcher, TantivyDocument, Term};

use crate::data::normal;
use crate::oracle::{Random, maxsim};

const DIM: usize = 16;
/// Pages of the first commit: with their tokens enough for a codebook.
const PAGES: u64 = 450;
const GROUPS: u64 = 6;
const K: usize = 10;
const READERS: u64 = 3;
/// Values are multiples of this, so that f16 holds them and f32 sums of their products are exact in any order.
const STEP: f32 = 1.0 / 512.0;
/// The id of a document without vectors whose version is the number of the commit.
const COMMIT_ID: u64 = u64::MAX;

/// The vectors of one version of a page, about centres that pages share.
fn page(id: u64, version: u64) -> MultiVector {
    let mut random = Random::new(id * 1_000_003 + version * 7919 + 1);
    let tokens = 30 + random.below(31);
    let topics: Vec<u64> = (0..6).map(|_| random.below(60)).collect();
    let token = |random: &mut Random| {
        let centre = normal(&mut Random::new(topics[random.below(6) as usize] + 1_000_000), DIM, 0.8);
        let noise = normal(random, DIM, 0.5);
        centre.into_iter().zip(noise).map(|(one, other)| ((one + other) / STEP).round() * STEP).collect::<Vec<f32>>()
    };
    let values = (0..tokens).flat_map(|_| token(&mut random)).collect();
    MultiVector::try_new(DIM, values, UnitLength::Any).unwrap()
}

/// Four tokens of a page that may or may not be there.
fn query(seed: u64) -> MultiVector {
    let page = page(seed % (2 * PAGES), 900_000 + seed);
    MultiVector::try_new(DIM, page.values()[..4 * DIM].to_vec(), UnitLength::Any).unwrap()
}

/// How far scores may lie from the oracle's, and how much of its hits an exact answer has on average.
struct Contract {
    options: LateInteractionOptions,
    tolerance: f32,
    exact_recall: f64,
}

struct Load {
    contract: Contract,
    handle: LateInteraction,
    index: Index,
    id: Field,
    version: Field,
    group: Field,
    tokens: Field,
    /// The version of each live page as of each commit, known before the commit.
    commits: Mutex<HashMap<u64, BTreeMap<u64, u64>>>,
    end: Instant,
    merges: AtomicU64,
}

/// What a reader saw.
#[derive(Default)]
struct Seen {
    answers: u64,
    searchers: BTreeSet<u64>,
    exact: (f64, f64),
    pruned: (f64, f64),
    proven: u64,
    ladders: u64,
}

/// A searcher and the pages that it should find.
struct Snapshot {
    searcher: Searcher,
    pages: BTreeMap<u64, MultiVector>,
}

impl Load {
    fn document(&self, id: u64, version: u64) -> TantivyDocument {
        let mut document = TantivyDocument::new();
        document.add_u64(self.id, id);
        document.add_u64(self.version, version);
        if id != COMMIT_ID {
            document.add_u64(self.group, id % GROUPS);
            self.handle.add(&mut document, self.tokens, &PageVectors::new(page(id, version))).unwrap();
        }
        document
    }

    fn put(&self, writer: &IndexWriter, id: u64, version: u64) {
        writer.delete_term(Term::from_field_u64(self.id, id));
        writer.add_document(self.document(id, version)).unwrap();
    }

    fn commit(&self, writer: &mut IndexWriter, number: u64, live: &BTreeMap<u64, u64>) {
        self.put(writer, COMMIT_ID, number);
        self.commits.lock().unwrap().insert(number, live.clone());
        writer.commit().unwrap();
    }

    /// Changes the index until the time is over; how many commits that were.
    fn write(&self, mut writer: IndexWriter, mut live: BTreeMap<u64, u64>) -> u64 {
        let mut random = Random::new(77);
        let mut number = 1;
        while Instant::now() < self.end {
            for _ in 0..12 {
                // Replaced, or added where it was not there.
                let id = random.below(2 * PAGES);
                live.insert(id, number);
                self.put(&writer, id, number);
            }
            while live.len() as u64 > PAGES {
                let id = *live.keys().nth(random.below(live.len() as u64) as usize).unwrap();
                live.remove(&id);
                writer.delete_term(Term::from_field_u64(self.id, id));
            }
            self.commit(&mut writer, number, &live);
            if number.is_multiple_of(5) {
                let segments = self.index.searchable_segment_ids().unwrap();
                // Fails where the merge policy was faster with one of the segments.
                let merged = writer.merge(&segments).wait();
                self.merges.fetch_add(u64::from(merged.is_ok()), Ordering::Relaxed);
            }
            if number.is_multiple_of(7) {
                writer.garbage_collect_files().wait().unwrap();
            }
            number += 1;
        }
        writer.wait_merging_threads().unwrap();
        number
    }

    /// Id and version of the document at an address.
    fn identity(&self, searcher: &Searcher, segment: u32, doc: u32) -> (u64, u64) {
        let fast = searcher.segment_reader(segment).fast_fields();
        (fast.u64("id").unwrap().first(doc).unwrap(), fast.u64("version").unwrap().first(doc).unwrap())
    }

    /// The pages of a searcher, which must be those of one commit.
    fn snapshot(&self, searcher: Searcher, made: &mut HashMap<(u64, u64), MultiVector>, seen: &mut Seen) -> Snapshot {
        let mut found = BTreeMap::new();
        let mut commit = None;
        for (segment, reader) in (0..).zip(searcher.segment_readers()) {
            for doc in reader.doc_ids_alive() {
                let (id, version) = self.identity(&searcher, segment, doc);
                if id == COMMIT_ID {
                    assert_eq!(commit.replace(version), None, "a searcher of two commits");
                } else {
                    assert_eq!(found.insert(id, version), None, "page {id} is there twice");
                }
            }
        }
        let commit = commit.expect("a searcher of no commit");
        assert_eq!(found, self.commits.lock().unwrap()[&commit], "commit {commit}");
        seen.searchers.insert(commit);
        made.retain(|(id, version), _| found.get(id) == Some(version));
        let mut vectors =
            |id: u64, version: u64| made.entry((id, version)).or_insert_with(|| page(id, version)).clone();
        let pages = found.iter().map(|(id, version)| (*id, vectors(*id, *version))).collect();
        Snapshot { searcher, pages }
    }

    /// Asks one question four ways and compares each answer with the oracle.
    fn check(&self, snapshot: &Snapshot, seed: u64, seen: &mut Seen) {
        let vectors = query(seed);
        let group = seed % GROUPS;
        let filter = TermQuery::new(Term::from_field_u64(self.group, group), IndexRecordOption::Basic);
        let scores: BTreeMap<u64, f32> =
            snapshot.pages.iter().map(|(id, page)| (*id, maxsim(&vectors, page))).collect();
        for filtered in [false, true] {
            let mut expected: Vec<(u64, f32)> = scores
                .iter()
                .map(|(id, score)| (*id, *score))
                .filter(|(id, _)| !filtered || id % GROUPS == group)
                .collect();
            expected.sort_by(|one, other| other.1.total_cmp(&one.1));
            expected.truncate(K);
            for effort in [Effort::Exact, Effort::default()] {
                let mut asked = self.handle.query(self.tokens, QueryVectors::new(vectors.clone())).k(K).effort(effort);
                if filtered {
                    asked = asked.filter(filter.clone());
                }
                let report = asked.report(&snapshot.searcher).unwrap();
                let hits: Vec<(u64, f32)> = report
                    .hits
                    .iter()
                    .map(|hit| {
                        let (segment, doc) = (hit.address.segment_ord, hit.address.doc_id);
                        assert!(!snapshot.searcher.segment_reader(segment).is_deleted(doc), "a deleted page");
                        (self.identity(&snapshot.searcher, segment, doc).0, hit.score)
                    })
                    .collect();
                assert_eq!(hits.len(), expected.len());
                assert_eq!(hits.iter().map(|(id, _)| id).collect::<BTreeSet<_>>().len(), hits.len(), "a page twice");
                assert!(hits.is_sorted_by(|one, other| one.1 >= other.1));
                for (id, score) in &hits {
                    assert!(!filtered || id % GROUPS == group, "page {id} does not pass the filter");
                    let off = (score - scores[id]).abs();
                    assert!(off <= self.contract.tolerance, "page {id} has {score}, expected {}", scores[id]);
                }
                let certain = if effort == Effort::Exact { hits.len() } else { report.proven };
                for ((_, score), (_, best)) in hits.iter().zip(&expected).take(certain) {
                    assert!((score - best).abs() <= self.contract.tolerance, "a hit has {score}, a page has {best}");
                }
                let worst = expected.last().map_or(f32::INFINITY, |(_, score)| *score);
                // A page that scores as much as the last hit is as good.
                let found = hits.iter().filter(|(id, _)| scores[id] >= worst).count();
                let of = if effort == Effort::Exact { &mut seen.exact } else { &mut seen.pruned };
                (of.0, of.1) = (of.0 + found as f64, of.1 + expected.len() as f64);
                seen.answers += 1;
                if effort != Effort::Exact {
                    seen.proven += report.proven as u64;
                    seen.ladders += u64::from(report.work.centroid_pages > 0);
                }
            }
        }
    }

    fn read(&self, number: u64, shared: &IndexReader) -> Seen {
        let mut seen = Seen::default();
        let mut made = HashMap::new();
        let own = self.handle.reader(&self.index).unwrap();
        let mut before: Option<(Snapshot, IndexReader)> = None;
        let mut seed = number * 1_000_000;
        while Instant::now() < self.end {
            // One reader that all threads reload at will, one that belongs to this thread, and a new one now and then.
            let reader = match seed % 8 {
                0 => self.handle.reader(&self.index).unwrap(),
                part => {
                    let reader = if part % 2 == 0 { shared } else { &own };
                    self.handle.reload(reader).unwrap();
                    reader.clone()
                }
            };
            let snapshot = self.snapshot(reader.searcher(), &mut made, &mut seen);
            self.check(&snapshot, seed, &mut seen);
            // What an older searcher stands on may have been merged away and collected; its reader, which holds it, is kept.
            if let Some((before, _)) = &before {
                self.check(before, seed, &mut seen);
            }
            if seed.is_multiple_of(3) {
                before = Some((snapshot, reader));
            }
            seed += 1;
        }
        seen
    }
}

fn run(contract: Contract) {
    let seconds = std::env::var("COLQWEN_LOAD_SECONDS").map_or(3.0, |text| text.parse::<f64>().unwrap());
    let mut schema = Schema::builder();
    let id = schema.add_u64_field("id", INDEXED | FAST);
    let version = schema.add_u64_field("version", FAST);
    let group = schema.add_u64_field("group", INDEXED);
    let tokens = contract.options.add_to(&mut schema, "tokens");
    let folder = tempfile::tempdir().unwrap();
    let handle = LateInteraction::new();
    let directory = MmapDirectory::open(folder.path()).unwrap();
    let index = handle.create(directory, schema.build(), IndexSettings::default()).unwrap();
    let mut writer = index.writer_with_num_threads(2, 40_000_000).unwrap();
    let (commits, merges) = (Mutex::default(), AtomicU64::new(0));
    let end = Instant::now();
    let mut load = Load { contract, handle, index, id, version, group, tokens, commits, end, merges };
    let live: BTreeMap<u64, u64> = (0..PAGES).map(|id| (id, 0)).collect();
    live.keys().for_each(|id| load.put(&writer, *id, 0));
    load.commit(&mut writer, 0, &live);
    // However long the first commit took.
    load.end = Instant::now() + Duration::from_secs_f64(seconds);
    let shared = load.handle.reader(&load.index).unwrap();
    let mut all = Seen::default();
    let commits = std::thread::scope(|scope| {
        let (load, shared) = (&load, &shared);
        let readers: Vec<_> = (0..READERS).map(|number| scope.spawn(move || load.read(number, shared))).collect();
        let commits = scope.spawn(move || load.write(writer, live)).join().unwrap();
        for seen in readers.into_iter().map(|reader| reader.join().unwrap()) {
            all.searchers.extend(seen.searchers);
            (all.answers, all.proven, all.ladders) =
                (all.answers + seen.answers, all.proven + seen.proven, all.ladders + seen.ladders);
            all.exact = (all.exact.0 + seen.exact.0, all.exact.1 + seen.exact.1);
            all.pruned = (all.pruned.0 + seen.pruned.0, all.pruned.1 + seen.pruned.1);
        }
        commits
    });
    let (exact, pruned) = (all.exact.0 / all.exact.1, all.pruned.0 / all.pruned.1);
    println!(
        "{:?}: {} answers on {} of {commits} commits, {} merges asked for, exact recall {exact:.4}, pruned recall \
         {pruned:.4}, {} hits proven, {} answers through centroids",
        load.contract.options.precision(),
        all.answers,
        all.searchers.len(),
        load.merges.load(Ordering::Relaxed),
        all.proven,
        all.ladders,
    );
    assert!(exact >= load.contract.exact_recall, "exact recall {exact}");
    assert!(pruned >= load.contract.exact_recall - 0.05, "recall {pruned} at default effort");
    assert!(all.ladders > 0, "no answer came through a codebook");
}

#[test]
fn answers_under_load_are_those_of_one_commit_to_the_last_bit() {
    let options = LateInteractionOptions::new(DIM).with_precision(Precision::Bits4).with_f16_kept(true);
    run(Contract { options, tolerance: 0.0, exact_recall: 1.0 });
}

#[test]
fn answers_under_load_in_8_bits_are_those_of_one_commit() {
    let options = LateInteractionOptions::new(DIM).with_precision(Precision::Bits8);
    run(Contract { options, tolerance: 0.03, exact_recall: 0.97 });
}
