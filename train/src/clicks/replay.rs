//! Old examples among the new: a run that learns from tonight's clicks alone forgets what it learnt before.

use std::collections::HashSet;

use crate::data::Question;
use crate::random::{Purpose, Stream};

/// Draws up to `count` of `earlier`, all equally likely, without those whose `query_id` the new examples have
/// (reservoir sampling, Vitter 1985: one pass, and the earlier examples may come from many files). Positives, weights,
/// negatives with their origins and groups stay as they are. The draw depends on the seed and the order of `earlier` alone,
/// and keeps that order.
pub fn sample<'a>(
    earlier: impl IntoIterator<Item = &'a Question>,
    count: usize,
    new: &HashSet<String>,
    seed: u64,
) -> Vec<Question> {
    let mut stream = Stream::new(seed, Purpose::Choice, &[count as u64]);
    let mut kept: Vec<(usize, &Question)> = Vec::with_capacity(count.min(1 << 16));
    let candidates = earlier.into_iter().filter(|question| !new.contains(&question.query_id));
    for (at, question) in candidates.enumerate() {
        if kept.len() < count {
            kept.push((at, question));
        } else if let Some(place) = kept.get_mut(stream.below(at + 1)) {
            *place = (at, question);
        }
    }
    kept.sort_by_key(|(at, _)| *at);
    kept.into_iter().map(|(_, question)| question.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn questions(count: usize) -> Vec<Question> {
        let one = |at: usize| Question { query_id: at.to_string(), group: Some("7".into()), ..Question::default() };
        (0..count).map(one).collect()
    }

    #[test]
    fn every_example_is_as_likely_as_another() {
        let all = questions(20);
        let mut drawn = [0; 20];
        for seed in 0..2000 {
            let sample = sample(&all, 5, &HashSet::new(), seed);
            assert!(sample.len() == 5 && sample.is_sorted_by_key(|one| one.query_id.parse::<usize>().unwrap()));
            sample.iter().for_each(|one| drawn[one.query_id.parse::<usize>().unwrap()] += 1);
        }
        // 500 expected, with a standard deviation of 19.
        assert!(drawn.iter().all(|count| (420..580).contains(count)), "{drawn:?}");
    }

    #[test]
    fn what_is_asked_again_is_not_replayed() {
        let (all, new) = (questions(10), HashSet::from(["3".to_owned(), "4".to_owned()]));
        let found = sample(&all, 100, &new, 1);
        assert_eq!(found.len(), 8);
        assert!(found.iter().all(|one| !new.contains(&one.query_id) && one.group.as_deref() == Some("7")));
        assert_eq!(sample(&all, 4, &new, 1), sample(&all, 4, &new, 1));
        assert!(sample(&all, 0, &new, 1).is_empty());
    }
}
