//! Questions made of the pages' own words, so that a model which learns from few clicks does not forget how to read.
//!
//! Clicks teach about the queries that were clicked. Trained on them alone, a model gets better for these and worse for all
//! others. So it rehearses: words of a page, few other pages of which hold them, are a question that the pages holding all of
//! them answer (the inverse cloze task, Lee, Chang & Toutanova, ACL 2019, by words instead of sentences). An index without
//! text layers has no rehearsal.

use std::collections::{BTreeMap, BTreeSet};

use colqwen_index_train::data::{PageId, PositivePage, Question};
use colqwen_index_train::random::{Purpose, Stream};

use super::pages::Pages;
use crate::{Error, PageIndex};

/// Letters of a word that is asked for.
const LETTERS: std::ops::RangeInclusive<usize> = 4..=20;
/// Such a word is on no more than this share of the pages, or on so many.
const RARE: f64 = 0.05;
const FEW: usize = 3;
/// Pages that answer one question, at most: with more it asks for nothing in particular.
const ANSWERS: usize = 5;
/// The name under which training data hold these questions.
pub(super) const GROUP: &str = "rehearsal";

/// Draws up to `count` questions of 2 to 4 words of one page.
pub(super) fn questions(index: &PageIndex, pages: &Pages, count: usize, seed: u64) -> Result<Vec<Question>, Error> {
    let searcher = index.searcher();
    let mut words_of: BTreeMap<PageId, BTreeSet<String>> = BTreeMap::new();
    for page in index.texts(&searcher) {
        let page = page?;
        let words = page.text.as_deref().map_or_else(BTreeSet::new, words);
        for id in pages.ranking([PageId::new(page.doc_id, page.page)]) {
            words_of.entry(id).or_default().extend(words.iter().cloned());
        }
    }
    Ok(drawn(&words_of, count, seed))
}

/// Draws them from the words of all pages.
fn drawn(words_of: &BTreeMap<PageId, BTreeSet<String>>, count: usize, seed: u64) -> Vec<Question> {
    let mut pages_with: BTreeMap<&str, Vec<&PageId>> = BTreeMap::new();
    for (page, words) in words_of {
        words.iter().for_each(|word| pages_with.entry(word).or_default().push(page));
    }
    let most = ((RARE * words_of.len() as f64) as usize).max(FEW);
    let rare = |words: &BTreeSet<String>| -> Vec<String> {
        words.iter().filter(|word| pages_with[word.as_str()].len() <= most).cloned().collect()
    };
    let rich: Vec<Vec<String>> = words_of.values().map(rare).filter(|words| words.len() >= 4).collect();
    let mut stream = Stream::new(seed, Purpose::Choice, &[u64::MAX]);
    let (mut questions, mut known) = (Vec::new(), BTreeSet::new());
    // Questions with too many answers, and repeated ones, are drawn again, but not for ever.
    for _ in 0..if rich.is_empty() { 0 } else { 4 * count } {
        let words = &rich[stream.below(rich.len())];
        let mut chosen: Vec<&String> = (0..2 + stream.below(3)).map(|_| &words[stream.below(words.len())]).collect();
        chosen.sort_unstable();
        chosen.dedup();
        let answers: Vec<&PageId> = pages_with[chosen[0].as_str()]
            .iter()
            .filter(|page| chosen.iter().all(|word| words_of[**page].contains(*word)))
            .copied()
            .collect();
        // In any order they are one question: what judges must not be rehearsed in another.
        if chosen.len() < 2 || answers.len() > ANSWERS || !known.insert(chosen.clone()) {
            continue;
        }
        stream.shuffle(&mut chosen);
        let query = chosen.iter().map(|word| word.as_str()).collect::<Vec<_>>().join(" ");
        let positive = |page: &PageId| PositivePage { page: page.clone(), weight: 1.0 };
        questions.push(Question {
            query_id: format!("{GROUP}-{}", questions.len()),
            query,
            positives: answers.into_iter().map(positive).collect(),
            negatives: Vec::new(),
            group: None,
        });
        if questions.len() == count {
            break;
        }
    }
    questions
}

/// The words of a text that can be asked for, in lower case.
fn words(text: &str) -> BTreeSet<String> {
    let words = text.split(|letter: char| !letter.is_alphanumeric()).map(str::to_lowercase);
    words.filter(|word| LETTERS.contains(&word.chars().count()) && word.chars().all(char::is_alphabetic)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_that_people_ask_for() {
        let found = words("The Tarn-Ridge walk, 2024: résumé x1y2 of AND tarn");
        let expected = ["ridge", "résumé", "tarn", "walk"].map(str::to_owned);
        assert_eq!(found, BTreeSet::from(expected));
    }

    #[test]
    fn no_words_are_asked_twice_in_whatever_order() {
        let words = ["ridge", "tarn", "walk", "weir"].map(str::to_owned);
        let words_of = BTreeMap::from([(PageId::new("a.pdf", 1), BTreeSet::from(words))]);
        let questions = drawn(&words_of, 60, 1);
        let sets: BTreeSet<BTreeSet<&str>> =
            questions.iter().map(|question| question.query.split(' ').collect()).collect();
        assert_eq!(sets.len(), questions.len());
        // There are 6 + 4 + 1 sets of 2 to 4 words.
        assert!((9..=11).contains(&questions.len()), "{}", questions.len());
        // Words come in any order.
        assert!(questions.iter().any(|question| !question.query.split(' ').is_sorted()));
    }
}
