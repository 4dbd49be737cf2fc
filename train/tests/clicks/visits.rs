//! What sessions did, and whom nobody should learn from.

use std::time::Duration;

use colqwen_index_train::clicks::log::{Log, ReadOptions, read};
use colqwen_index_train::clicks::query::Lookup;
use colqwen_index_train::clicks::record::{Click, Impression, LoggedQuery, Record, ShownPage, Time, View};
use colqwen_index_train::clicks::visits::{Canonical, Outcome, VisitOptions, Visits};
use colqwen_index_train::data::PageId;

const MINUTE: i64 = 1_772_409_600_000_000;

pub fn impression(id: &str, session: &str, query: &str, pages: &[(&str, u32)]) -> Impression {
    let shown = pages.iter().zip(1..).map(|((doc_id, page), rank)| ShownPage {
        page: PageId::new(*doc_id, *page),
        rank,
        score: Some(1.0),
    });
    Impression {
        id: id.to_owned(),
        time: Time::from_micros(MINUTE).unwrap(),
        session: session.to_owned(),
        query: LoggedQuery::Text(query.to_owned()),
        shown: shown.collect(),
        generation: None,
        query_fingerprint: None,
        randomised: false,
    }
}

pub fn click(impression: &str, second: i64, rank: u32, dwell_ms: Option<u64>) -> Record {
    let time = Time::from_micros(MINUTE + 1_000_000 * second).unwrap();
    Record::Click(Click { impression: impression.to_owned(), time, rank, dwell_ms })
}

pub fn logged(records: &[Record]) -> Log {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clicks.jsonl");
    let lines: Vec<String> = records.iter().map(|record| record.line().unwrap()).collect();
    std::fs::write(&path, lines.join("\n") + "\n").unwrap();
    read(&[path], &[], &ReadOptions::default()).unwrap()
}

fn all(options: VisitOptions, records: &[Record]) -> Visits {
    let same = |page: &PageId| Canonical::Page(page.clone());
    Visits::of(&logged(records), &Lookup::default(), same, &options).unwrap()
}

fn anybody() -> VisitOptions {
    VisitOptions { k_anonymity: 1, ..VisitOptions::default() }
}

const FIVE: [(&str, u32); 5] = [("a", 1), ("b", 1), ("c", 1), ("d", 1), ("e", 1)];

/// Outcomes by rank of one impression.
fn outcomes(events: &[Record]) -> Vec<Outcome> {
    let mut records = vec![Record::Impression(impression("i", "s", "q", &FIVE))];
    records.extend_from_slice(events);
    let visits = all(anybody(), &records);
    let mut pages = visits.visits()[0].pages.clone();
    pages.sort_by_key(|page| page.rank);
    pages.into_iter().map(|page| page.outcome).collect()
}

#[test]
fn ranks_below_the_last_click_are_no_negatives_unless_they_were_in_view() {
    use Outcome::{NotSeen, Positive, Skipped, Unclear, Unknown};
    let view = |depth| Record::View(View { impression: "i".into(), depth });
    let twice = [click("i", 1, 2, None), click("i", 9, 4, None)];
    assert_eq!(outcomes(&[]), [Unknown; 5]);
    assert_eq!(outcomes(&twice), [Skipped, Unclear, Skipped, Positive, Unknown]);
    // The last by time, not by rank.
    let upwards = [click("i", 9, 2, None), click("i", 1, 4, None)];
    assert_eq!(outcomes(&upwards), [Skipped, Positive, Skipped, Unclear, Unknown]);
    assert_eq!(outcomes(&[click("i", 1, 2, Some(31_000)), click("i", 2, 3, Some(10))])[1..3], [Positive, Positive]);
    assert_eq!(outcomes(&[click("i", 1, 2, Some(29_000)), click("i", 2, 3, Some(10))])[1..3], [Unclear, Positive]);
    assert_eq!(outcomes(&[view(3)]), [Skipped, Skipped, Skipped, NotSeen, NotSeen]);
    assert_eq!(outcomes(&[view(3), click("i", 1, 1, None)]), [Positive, Skipped, Skipped, NotSeen, NotSeen]);
    // A click below the logged depth was in view all the same.
    assert_eq!(outcomes(&[view(1), click("i", 1, 3, None)]), [Skipped, Skipped, Positive, NotSeen, NotSeen]);
}

#[test]
fn a_session_has_one_vote_per_query_and_page() {
    let records = [
        Record::Impression(impression("1", "s", "Oil filter", &FIVE)),
        Record::Impression(impression("2", "s", "oil-filter", &FIVE[1..])),
        Record::Impression(impression("3", "t", "oil-filter", &FIVE)),
        click("2", 1, 1, None),
    ];
    let visits = all(anybody(), &records);
    assert_eq!((visits.visits().len(), visits.queries().len(), visits.queries()[0].sessions), (2, 1, 2));
    assert_eq!(
        (visits.queries()[0].text.as_str(), visits.queries()[0].normalised.as_str()),
        ("oil-filter", "oil filter")
    );
    let own = visits.visits().iter().find(|visit| visit.pages.iter().any(|page| page.outcome == Outcome::Positive));
    let clicked = own.unwrap().pages.iter().find(|page| page.outcome == Outcome::Positive).unwrap();
    assert_eq!((own.unwrap().pages.len(), clicked.rank), (5, 1));
    assert_eq!(visits.pages()[clicked.page], PageId::new("b", 1));
    assert_eq!(visits.sessions()[own.unwrap().session].only_page(), Some(clicked.page));
}

#[test]
fn near_identical_pages_are_one_and_deleted_ones_none() {
    let records = [
        Record::Impression(impression("1", "s", "q", &FIVE)),
        Record::Impression(impression("2", "t", "q", &FIVE)),
        click("1", 1, 3, None),
    ];
    let canonical = |page: &PageId| match page.doc_id.as_str() {
        "c" => Canonical::Page(PageId::new("a", 1)),
        "d" => Canonical::Deleted,
        _ => Canonical::Page(page.clone()),
    };
    let visits = Visits::of(&logged(&records), &Lookup::default(), canonical, &anybody()).unwrap();
    let clicked = visits.visits().iter().flat_map(|visit| &visit.pages).find(|page| page.outcome == Outcome::Positive);
    assert_eq!((&visits.pages()[clicked.unwrap().page], clicked.unwrap().rank), (&PageId::new("a", 1), 3));
    assert!(visits.visits().iter().all(|visit| visit.pages.len() == 3));
    assert_eq!(visits.counts().deleted_pages, [("\"d\" page 1".to_owned(), 2)]);
}

#[test]
fn rare_queries_unknown_hashes_and_greedy_sessions_are_left_out() {
    let mut records = Vec::new();
    for session in 0..5 {
        let own = format!("s{session}");
        records.push(Record::Impression(impression(&format!("a{session}"), &own, "common", &FIVE)));
        if session < 4 {
            records.push(Record::Impression(impression(&format!("b{session}"), &own, "rare", &FIVE)));
        }
    }
    // Asking often does not make a query common.
    records.extend((0..9).map(|at| Record::Impression(impression(&format!("c{at}"), "s0", "rare", &FIVE))));
    let mut hashed = impression("h", "s0", "", &FIVE);
    hashed.query = LoggedQuery::Hmac("00ff".into());
    records.push(Record::Impression(hashed));
    records.push(Record::Impression(impression("e", "s0", "?!", &FIVE)));
    let visits = all(VisitOptions::default(), &records);
    let counts = visits.counts();
    assert_eq!(visits.queries().iter().map(|query| query.text.as_str()).collect::<Vec<_>>(), ["common"]);
    assert_eq!((counts.rare_queries, counts.rare_visits, counts.unknown_hmacs, counts.empty_queries), (1, 4, 1, 1));
    let greedy = VisitOptions { k_anonymity: 1, visits_per_session: 1, ..VisitOptions::default() };
    assert_eq!((all(greedy, &records).visits().len(), all(greedy, &records).counts().over_the_cap), (5, 4));
    let zero = VisitOptions { k_anonymity: 0, dwell: Duration::ZERO, ..VisitOptions::default() };
    let same = |page: &PageId| Canonical::Page(page.clone());
    assert!(
        Visits::of(&Log::default(), &Lookup::default(), same, &zero).unwrap_err().to_string().contains("anonymity")
    );
}

#[test]
fn a_session_that_clicks_one_page_for_everything_is_left_out() {
    let asked = |session: &str, ranks: &[u32]| {
        let mut records = Vec::new();
        for (rank, at) in ranks.iter().zip(0..) {
            let id = format!("{session}{at}");
            records.push(Record::Impression(impression(&id, session, &format!("query {at}"), &FIVE)));
            records.push(click(&id, 5, *rank, None));
        }
        records
    };
    let dropped = |ranks: &[u32]| all(anybody(), &asked("s", ranks)).counts().sessions_of_one_page;
    assert_eq!((dropped(&[2, 2, 2]), dropped(&[2, 2, 2, 1, 3]), dropped(&[2, 2, 2, 1, 3, 4])), (1, 1, 0));
    assert_eq!((dropped(&[2, 2]), dropped(&[1, 2, 3])), (0, 0));
}
