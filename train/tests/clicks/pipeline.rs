use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use colqwen_index_train::clicks::evidence::{Evidence, EvidenceOptions, Examples, Verdict, Weighting};
use colqwen_index_train::clicks::log::{Log, ReadOptions, read};
use colqwen_index_train::clicks::query::{Lookup, Salt};
use colqwen_index_train::clicks::record::Record;
use colqwen_index_train::clicks::split::{Part, Split, SplitOptions};
use colqwen_index_train::clicks::visits::{Canonical, VisitOptions, Visits};
use colqwen_index_train::data::PageId;

use crate::library::Library;
use crate::simulator::{Adversary, Simulation, User, users};

fn library(seed: u64) -> Library {
    Library::new(500, 1500, 1500, seed)
}

fn simulation(library: &Library, user: User, adversary: Option<Adversary>, seed: u64) -> Vec<Record> {
    let simulation = Simulation {
        days: 7,
        impressions: 20_000,
        queries_a_day: 400,
        user,
        adversary,
        dwell: seed.is_multiple_of(2),
        seed,
        queries: &library.queries,
    };
    simulation.run(|query| library.first(query), |query, page| library.is_relevant(query, page))
}

fn write(path: &Path, records: &[Record]) {
    let lines: Vec<String> = records.iter().map(|record| record.line().unwrap()).collect();
    std::fs::write(path, lines.join("\n") + "\n").unwrap();
}

fn logged(records: &[Record]) -> Log {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clicks.jsonl");
    write(&path, records);
    read(&[path], &[], &ReadOptions::default()).unwrap()
}

fn visits(records: &[Record]) -> Visits {
    let same = |page: &PageId| Canonical::Page(page.clone());
    Visits::of(&logged(records), &Lookup::default(), same, &VisitOptions::default()).unwrap()
}

fn examples(visits: &Visits) -> (Evidence, Examples) {
    let evidence = Evidence::of(visits, |_| true, &EvidenceOptions::default()).unwrap();
    let examples = evidence.examples(visits, &Salt::new([7; 32]), Weighting::Naive);
    (evidence, examples)
}

/// Positives, those of them that are right, negatives, those of them that are right.
fn judged(library: &Library, examples: &Examples) -> [usize; 4] {
    let mut counts = [0; 4];
    for question in &examples.questions {
        let right = |page: &PageId| library.is_relevant(&question.query, page);
        counts[0] += question.positives.len();
        counts[1] += question.positives.iter().filter(|positive| right(&positive.page)).count();
        counts[2] += question.negatives.len();
        counts[3] += question.negatives.iter().filter(|negative| !right(&negative.page)).count();
    }
    counts
}

#[test]
fn every_user_teaches_the_truth() {
    let library = library(1);
    for (user, seed) in users().into_iter().zip(0..) {
        let visits = visits(&simulation(&library, user, None, seed));
        let (evidence, examples) = examples(&visits);
        let [positives, right, negatives, right_negatives] = judged(&library, &examples);
        println!(
            "{user:?}: {} queries of {}, positives {right}/{positives}, negatives {right_negatives}/{negatives}, {:?} {:?}",
            examples.questions.len(),
            visits.queries().len(),
            evidence.suspects(),
            evidence.model()
        );
        assert_eq!(*evidence.verdict(), Verdict::TellsApart, "{user:?}");
        assert!(positives > 150 && right as f64 > 0.93 * positives as f64, "{user:?}: {right} of {positives}");
        assert!(negatives > 50 && right_negatives as f64 > 0.9 * negatives as f64, "{user:?}");
    }
}

/// The page that is shown for the most queries that it does not answer.
fn target(library: &Library) -> PageId {
    let mut counts: HashMap<PageId, usize> = HashMap::new();
    for query in &library.queries {
        let shown = library.first(query).into_iter();
        shown.filter(|page| !library.is_relevant(query, page)).for_each(|page| *counts.entry(page).or_default() += 1);
    }
    counts.into_iter().max_by(|one, other| one.1.cmp(&other.1).then_with(|| other.0.cmp(&one.0))).unwrap().0
}

#[test]
fn no_adversary_makes_a_page_a_positive() {
    let library = library(1);
    let page = target(&library);
    let adversaries = [
        Adversary::OnePage { page: page.clone(), share: 0.05 },
        Adversary::Sybils { page: page.clone(), sessions: 300 },
        Adversary::Sybils { page: page.clone(), sessions: 1500 },
        Adversary::NewPage { page: PageId::new("new.pdf", 1), day: 0, share: 0.2 },
        Adversary::NewPage { page: PageId::new("new.pdf", 1), day: 4, share: 0.2 },
    ];
    for (adversary, user) in
        adversaries.iter().flat_map(|adversary| users().into_iter().map(move |user| (adversary, user)))
    {
        let wanted = match adversary {
            Adversary::OnePage { page, .. } | Adversary::Sybils { page, .. } | Adversary::NewPage { page, .. } => page,
        };
        let visits = visits(&simulation(&library, user, Some(adversary.clone()), 3));
        let (evidence, examples) = examples(&visits);
        let bent: Vec<&String> = examples
            .questions
            .iter()
            .filter(|question| {
                !library.is_relevant(&question.query, wanted)
                    && question.positives.iter().any(|positive| positive.page == *wanted)
            })
            .map(|question| &question.query)
            .collect();
        let [positives, right, ..] = judged(&library, &examples);
        let gains = evidence.gains(&visits);
        let gained = gains
            .iter()
            .filter(|(query, gains)| {
                !library.is_relevant(&visits.queries()[*query].normalised, wanted)
                    && gains.iter().any(|(page, _)| page == wanted)
            })
            .count();
        println!(
            "{adversary:?} {user:?}: bent {}, gains {gained}, positives {right}/{positives}, {:?}, {:?}",
            bent.len(),
            evidence.suspects(),
            visits.counts().sessions_of_one_page
        );
        assert!(bent.is_empty() && gained == 0, "{adversary:?} {user:?}: {bent:?} {gained}");
        assert!(
            right as f64 > 0.93 * positives as f64 && positives > 150,
            "{adversary:?} {user:?}: {right} of {positives}"
        );
    }
}

#[test]
fn noise_teaches_nothing() {
    let library = library(1);
    let taught = (0..50).filter(|seed| {
        let user = User::Noise { rate: 0.2 + 0.01 * *seed as f64 };
        let records = simulation(&library, user, None, *seed);
        let (_, examples) = examples(&visits(&records));
        !examples.questions.is_empty()
    });
    assert_eq!(taught.count(), 0);
}

#[test]
fn parts_share_no_query_and_judge_later_ones() {
    let library = library(2);
    let visits = visits(&simulation(&library, User::Position { eta: 1.0, other: 0.05 }, None, 5));
    let split = Split::of(&visits, &SplitOptions::default()).unwrap();
    let mut parts: BTreeMap<usize, Vec<Part>> = BTreeMap::new();
    let mut counts: HashMap<Part, usize> = HashMap::new();
    let (mut last_training, mut late) = (None, 0);
    for visit in visits.visits() {
        let Some(part) = split.part(visit) else {
            late += usize::from(split.repeated(visit));
            continue;
        };
        *counts.entry(part).or_default() += 1;
        parts.entry(visit.query).or_default().push(part);
        if part != Part::Gate {
            last_training = last_training.max(Some(visit.time));
        }
    }
    assert!(parts.values().all(|parts| parts.iter().all(|part| *part == parts[0])));
    assert!(last_training < split.cut());
    let gate_queries = parts.iter().filter(|(_, parts)| parts[0] == Part::Gate);
    for (query, _) in gate_queries {
        assert!(visits.visits().iter().any(|visit| visit.query == *query && Some(visit.time) >= split.cut()));
    }
    assert!(late > 1000 && counts[&Part::Training] > 8000 && counts[&Part::Gate] > 500, "{counts:?} {late}");
    assert_eq!(split, Split::of(&visits, &SplitOptions::default()).unwrap());
    let other = SplitOptions { seed: 1, ..SplitOptions::default() };
    assert_ne!(split, Split::of(&visits, &other).unwrap());
    assert!(Split::of(&visits, &SplitOptions { gate: 0.95, ..SplitOptions::default() }).is_err());
}
