//! Examination probabilities found again in logs that were made with them.

use colqwen_index_train::clicks::log::Log;
use colqwen_index_train::clicks::propensity::{Cascade, Propensities};
use colqwen_index_train::clicks::query::Lookup;
use colqwen_index_train::clicks::record::Record;
use colqwen_index_train::clicks::visits::{Canonical, VisitOptions, Visits};
use colqwen_index_train::data::PageId;
use colqwen_index_train::random::{Purpose, Stream};

use crate::visits::{click, impression, logged};

/// How the lists of a log are ordered.
#[derive(Clone, Copy, PartialEq)]
enum Order {
    Fixed,
    /// Turned by up to so many ranks.
    Turned(usize),
    Random,
}

const ATTRACTION: [f64; 6] = [0.2, 0.7, 0.4, 0.1, 0.6, 0.3];

/// A log of one list after another for 20 queries; `user` says which ranks are clicked, given the attraction at each.
fn log(count: usize, order: Order, user: impl Fn(&[f64], &mut Stream) -> Vec<u32>) -> Visits {
    let mut records = Vec::new();
    for at in 0..count {
        let mut stream = Stream::new(11, Purpose::Choice, &[at as u64]);
        let query = at % 20;
        let mut pages: Vec<usize> = (0..6).collect();
        pages.rotate_left(query % 6);
        match order {
            Order::Fixed => (),
            Order::Turned(most) => pages.rotate_left(stream.below(most + 1)),
            Order::Random => stream.shuffle(&mut pages),
        }
        let attraction: Vec<f64> = pages.iter().map(|page| ATTRACTION[*page]).collect();
        let named: Vec<(String, u32)> = pages.iter().map(|page| (format!("{page}.pdf"), 1)).collect();
        let named: Vec<(&str, u32)> = named.iter().map(|(name, page)| (name.as_str(), *page)).collect();
        let (id, session, query) = (format!("i{at}"), format!("s{at}"), format!("query {query}"));
        let mut shown = impression(&id, &session, &query, &named);
        shown.randomised = order == Order::Random;
        records.push(Record::Impression(shown));
        let clicks = user(&attraction, &mut stream);
        records.extend(clicks.into_iter().zip(1..).map(|(rank, at)| click(&id, at, rank, Some(60_000))));
    }
    let log: Log = logged(&records);
    let same = |page: &PageId| Canonical::Page(page.clone());
    Visits::of(&log, &Lookup::default(), same, &VisitOptions::default()).unwrap()
}

fn by_position(attraction: &[f64], stream: &mut Stream) -> Vec<u32> {
    let clicked = |(rank, attraction): &(u32, f64)| stream.unit() < attraction / f64::from(*rank);
    (1u32..).zip(attraction.iter().copied()).filter(clicked).map(|(rank, _)| rank).collect()
}

fn from_the_top(attraction: &[f64], stream: &mut Stream) -> Vec<u32> {
    let mut clicks = Vec::new();
    for (rank, attraction) in (1u32..).zip(attraction) {
        if stream.unit() < *attraction {
            clicks.push(rank);
            if stream.unit() < 0.5 {
                break;
            }
        }
    }
    clicks
}

#[test]
fn lists_in_random_order_show_what_ranks_are_worth() {
    let found = Propensities::randomised(&log(20_000, Order::Random, by_position)).unwrap();
    for rank in 1..=6 {
        assert!((found.examined(rank) * f64::from(rank) - 1.0).abs() < 0.1, "{found:?}");
    }
    assert!(found.weight(1) == 1.0 && found.weight(6) > 5.0 && found.examined(60) == found.examined(6));
    let refused = Propensities::randomised(&log(2000, Order::Fixed, by_position)).unwrap_err().to_string();
    assert!(refused.contains("random order"), "{refused}");
}

#[test]
fn the_position_based_model_needs_ranks_that_vary() {
    let found = Propensities::position_based(&log(20_000, Order::Turned(2), by_position)).unwrap();
    for rank in 1..=6 {
        assert!((found.examined(rank) * f64::from(rank) - 1.0).abs() < 0.15, "{found:?}");
    }
    let refused = Propensities::position_based(&log(2000, Order::Fixed, by_position)).unwrap_err().to_string();
    assert!(refused.contains("two ranks"), "{refused}");
    let refused = Propensities::position_based(&log(100, Order::Turned(1), |_, _| Vec::new())).unwrap_err();
    assert!(refused.to_string().contains("0 clicks"), "{refused}");
}

#[test]
fn the_cascade_model_finds_how_often_people_go_on() {
    let visits = log(20_000, Order::Random, from_the_top);
    let found = Cascade::fit(&visits).unwrap();
    // Who goes on and finds nothing more is taken for somebody who stopped, so the first rank is the purest.
    assert!((0.25..0.55).contains(&found.goes_on[0]), "{found:?}");
    let examined = found.examined();
    assert!(examined[0] == 1.0 && examined.is_sorted_by(|one, other| one >= other), "{examined:?}");
    assert!((examined[1] - (1.0 - 0.38 * 0.5)).abs() < 0.1, "{examined:?}");
    let rarely = |_: &[f64], stream: &mut Stream| if stream.unit() < 0.4 { vec![1] } else { Vec::new() };
    let refused = Propensities::cascade(&log(100, Order::Fixed, rarely)).unwrap_err().to_string();
    assert!(refused.contains("clicks on lists, expected at least 100"), "{refused}");
}

#[test]
fn weighted_means_are_clipped_and_normalised() {
    let found = Propensities::randomised(&log(20_000, Order::Random, by_position)).unwrap();
    assert_eq!(found.mean([(1, 2.0), (6, 2.0)]), Some(2.0));
    assert_eq!(found.mean([]), None);
    let mean = found.mean([(1, 0.0), (2, 1.0)]).unwrap();
    assert!((mean - found.weight(2) / (1.0 + found.weight(2))).abs() < 1e-12);
}
