use proptest::prelude::*;

use super::super::{NegativePage, PositivePage};
use super::*;

const OPTIONS: BatchOptions = BatchOptions { size: 4, negatives: 0, share_negatives: false, seed: 3 };

fn question(row: usize, positives: &[u32], negatives: &[u32], group: Option<&str>) -> Question {
    let page = |page: &u32| PageId::new("a.pdf", *page);
    Question {
        query_id: row.to_string(),
        positives: positives.iter().map(|number| PositivePage { page: page(number), weight: 1.0 }).collect(),
        negatives: negatives
            .iter()
            .map(|number| NegativePage { page: page(number), score: None, origin: None })
            .collect(),
        group: group.map(str::to_owned),
        ..Question::default()
    }
}

fn data(questions: Vec<Question>) -> TrainingData {
    TrainingData { questions, mined_from: None }
}

proptest! {
    #[test]
    fn an_epoch_holds_every_query_once(sizes in prop::collection::vec(0..15usize, 1..5), size in 2..7usize, epoch in 0..3u64) {
        let groups = sizes.iter().enumerate().flat_map(|(group, size)| std::iter::repeat_n(group, *size));
        let questions: Vec<_> =
            groups.enumerate().map(|(row, group)| question(row, &[row as u32 + 1], &[], Some(&group.to_string()))).collect();
        let data = data(questions);
        let Ok(batches) = Batches::new(&data, BatchOptions { size, ..OPTIONS }) else {
            prop_assert!(data.questions.len() < 2);
            return Ok(());
        };
        let rows = batches.epoch(epoch);
        prop_assert_eq!(rows.len(), batches.per_epoch());
        prop_assert!(rows.iter().all(|rows| (2..=size + 1).contains(&rows.len())));
        prop_assert_eq!(&rows, &batches.epoch(epoch));
        // As many batches of one group as the groups have room for.
        let group = |row: &usize| data.questions[*row].group.clone();
        let pure = rows.iter().filter(|rows| rows.iter().all(|row| group(row) == group(&rows[0]))).count();
        prop_assert!(pure + 1 >= sizes.iter().map(|members| members / size).sum::<usize>());
        let mut all = rows.concat();
        all.sort_unstable();
        prop_assert_eq!(all, (0..data.questions.len()).collect::<Vec<_>>());
    }
}

#[test]
fn epochs_and_seeds_differ() {
    let data = data((0..40).map(|row| question(row, &[row as u32 + 1], &[], None)).collect());
    let batches = |seed| Batches::new(&data, BatchOptions { seed, ..OPTIONS }).unwrap();
    assert_ne!(batches(1).epoch(0), batches(1).epoch(1));
    assert_ne!(batches(1).epoch(0), batches(2).epoch(0));
}

#[test]
fn pages_that_answer_a_query_are_never_its_negatives() {
    use Cell::{Explicit, Ignored, Negative, Positive};
    let data = data(vec![
        question(0, &[1], &[5, 2], None),
        question(1, &[2], &[], None),
        question(2, &[1], &[], None),
        question(3, &[3], &[6], None),
    ]);
    let mut batches = Batches::new(&data, BatchOptions { negatives: 9, ..OPTIONS }).unwrap();
    let drawn = batches.draw(0, vec![0, 1, 2, 3]).unwrap();
    assert_eq!(drawn.pages[..3], [1, 2, 3].map(|page| PageId::new("a.pdf", page)));
    // Mined for query 0 and wanted by query 1; 5 and 6 are nobody's page.
    let at = |page: u32| drawn.pages.iter().position(|id| id.page == page).unwrap();
    let cells = |row: usize| [1, 2, 3, 5, 6].map(|page| drawn.targets.row(row)[at(page)]);
    assert_eq!(cells(0), [Positive, Explicit, Negative, Explicit, Ignored]);
    assert_eq!(cells(1), [Negative, Positive, Negative, Ignored, Ignored]);
    assert_eq!(cells(2), [Positive, Negative, Negative, Ignored, Ignored]);
    assert_eq!(cells(3), [Negative, Negative, Positive, Ignored, Explicit]);

    batches.options.share_negatives = true;
    let shared = batches.draw(0, vec![1, 3]).unwrap();
    assert_eq!(shared.targets.row(0), [Positive, Negative, Negative]);
    // Page 3 looks like page 2.
    let copies = [2, 3].map(|page| (PageId::new("a.pdf", page), 7)).into();
    let batches = batches.with_copies(copies);
    assert_eq!(batches.draw(0, vec![1, 3, 0]).unwrap().targets.row(0)[..3], [Positive, Ignored, Negative]);
}

#[test]
fn positives_are_chosen_by_weight_and_negatives_without_repetition() {
    let mut one = question(0, &[1, 2, 3], &[4, 5, 6], None);
    one.positives[1].weight = 3.0;
    let data = data(vec![one, question(1, &[9], &[], None)]);
    let batches = Batches::new(&data, BatchOptions { negatives: 2, ..OPTIONS }).unwrap();
    let mut counts = [0; 3];
    for epoch in 0..500 {
        let (positive, negatives) = batches.choose(epoch, 0);
        counts[positive] += 1;
        assert!(negatives.len() == 2 && negatives[0] != negatives[1]);
    }
    assert!((70..130).contains(&counts[0]) && (260..340).contains(&counts[1]), "{counts:?}");
    // The others of its positives are not negatives of it either.
    let drawn = batches.draw(0, vec![0, 1]).unwrap();
    assert_eq!(drawn.targets.of(0, Cell::Explicit).count(), 2);
}

#[test]
fn what_cannot_be_learnt_from_is_refused() {
    let refusal = |questions, size| {
        Batches::new(&data(questions), BatchOptions { size, ..OPTIONS }).map(|_| ()).unwrap_err().to_string()
    };
    assert!(refusal(vec![question(0, &[1], &[], None), question(1, &[], &[], None)], 4).contains("1 of 2"));
    assert!(refusal(vec![question(0, &[1], &[], None); 2], 1).contains("from 2"));
    let same = data(vec![question(0, &[1], &[], None), question(1, &[1], &[], None)]);
    assert!(matches!(
        Batches::new(&same, OPTIONS).unwrap().draw(0, vec![0, 1]),
        Err(Error::NoNegatives { queries: 2 })
    ));
}

#[test]
fn more_stored_pages_are_asked_for_than_there_are() {
    let data = data(vec![question(0, &[1], &[], None), question(1, &[2], &[], None)]);
    let batches = Batches::new(&data, OPTIONS).unwrap();
    let among: Vec<PageId> = (1..6).map(|page| PageId::new("a.pdf", page)).collect();
    let add = |among, count| batches.add_pages(batches.draw(0, vec![0, 1]).unwrap(), among, count, 3).unwrap();
    let (drawn, added) = add(&among[..], usize::MAX);
    let numbers: HashSet<u32> = added.iter().map(|page| page.page).collect();
    assert!(added.len() == numbers.len() && numbers.iter().all(|number| (3..6).contains(number)), "{added:?}");
    assert!(!added.is_empty() && drawn.targets.row(0).len() == 2 + added.len());
    assert!(add(&among, 2).1.len() <= 2 && add(&[], 5).1.is_empty());
}
