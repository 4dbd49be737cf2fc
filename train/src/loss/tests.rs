use proptest::prelude::*;

use super::*;
use Cell::{Explicit as Mined, Ignored, Negative, Positive};

const KINDS: [Kind; 3] = [Kind::InfoNce, Kind::Pairwise, Kind::Sigmoid];

fn grid(queries: usize, pages: usize, values: &[f32]) -> ScoreGrid {
    ScoreGrid::new(queries, pages, values.to_vec()).unwrap()
}

#[test]
fn equal_scores_have_the_value_of_no_learning() {
    let scores = grid(4, 4, &[0.3; 16]);
    let targets = Targets::diagonal(4).unwrap();
    let at = |kind| Loss::new(kind).evaluate(&scores, &targets).unwrap();
    let info_nce = at(Kind::InfoNce);
    assert!((info_nce.value - 4f64.ln()).abs() < 1e-12 && (info_nce.no_learning - 4f64.ln()).abs() < 1e-12);
    let pairwise = at(Kind::Pairwise);
    assert!((pairwise.value - 2f64.ln()).abs() < 1e-12 && (pairwise.no_learning - 2f64.ln()).abs() < 1e-12);
    // The sigmoid loss has its least value among equal scores at the log odds of a positive, ln(1 / 3).
    let loss = Loss { temperature: 1.0, ..Loss::new(Kind::Sigmoid) };
    let even = loss.evaluate(&grid(4, 4, &[-(3f32.ln()); 16]), &targets).unwrap();
    assert!((even.value - even.no_learning).abs() < 1e-6, "{even:?}");
    assert!(loss.evaluate(&scores, &targets).unwrap().value > even.no_learning);
}

#[test]
fn a_clear_lead_costs_nothing_and_no_score_overflows() {
    let far = grid(2, 2, &[1e6, -1e6, -1e6, 1e6]);
    let wrong = grid(2, 2, &[-1e6, 1e6, 1e6, -1e6]);
    let targets = Targets::diagonal(2).unwrap();
    for kind in KINDS {
        let right = Loss::new(kind).evaluate(&far, &targets).unwrap();
        assert!(right.value.abs() < 1e-12 && right.gradient.values().iter().all(|slope| *slope == 0.0));
        let wrong = Loss::new(kind).evaluate(&wrong, &targets).unwrap();
        assert!(wrong.value > 1e6 && wrong.value.is_finite());
        assert!(wrong.gradient.values().iter().all(|slope| slope.is_finite() && *slope != 0.0));
    }
}

#[test]
fn ignored_pages_and_queries_without_negatives_change_nothing() {
    let two = Targets::new(2, vec![Positive, Negative, Negative, Positive]).unwrap();
    #[rustfmt::skip]
    let more = Targets::new(3, vec![
        Positive, Negative, Ignored,
        Negative, Positive, Ignored,
        Ignored, Ignored, Positive,
    ]).unwrap();
    for kind in KINDS {
        let loss = Loss { temperature: 0.3, ..Loss::new(kind) };
        let plain = loss.evaluate(&grid(2, 2, &[0.9, 0.4, 0.7, 0.5]), &two).unwrap();
        let other = loss.evaluate(&grid(3, 3, &[0.9, 0.4, 9.0, 0.7, 0.5, -9.0, 0.1, 0.2, 0.3]), &more).unwrap();
        if kind == Kind::Sigmoid {
            continue; // Where the third query's positive is a cell like any other.
        }
        assert_eq!((plain.value, plain.no_learning), (other.value, other.no_learning));
        assert_eq!(plain.gradient.row(0), &other.gradient.row(0)[..2]);
        assert_eq!(other.gradient.row(2), [0.0; 3]);
    }
}

#[test]
fn mined_negatives_are_a_term_or_candidates() {
    let targets = Targets::new(3, vec![Positive, Negative, Mined, Negative, Positive, Ignored]).unwrap();
    let scores = grid(2, 3, &[0.5, 0.4, 0.45, 0.1, 0.8, 0.9]);
    let weighted = |in_batch_weight| {
        let loss = Loss { explicit: Explicit::Pairs { in_batch_weight }, ..Loss::new(Kind::InfoNce) };
        loss.evaluate(&scores, &targets).unwrap().value
    };
    assert!((weighted(0.0) - softplus(-0.05 / 0.02)).abs() < 1e-5);
    assert!((weighted(0.5) - (weighted(0.0) + weighted(1.0)) / 2.0).abs() < 1e-12);
    let loss = Loss { explicit: Explicit::Candidates, ..Loss::new(Kind::InfoNce) };
    let candidates = loss.evaluate(&scores, &targets).unwrap();
    assert!((candidates.no_learning - (3f64.ln() + 2f64.ln()) / 2.0).abs() < 1e-12);
    assert!(candidates.gradient.row(0)[2] > 0.0 && candidates.gradient.row(1)[2] == 0.0);
    // Without an in-batch negative the mined ones are all there is.
    let only = Targets::new(2, vec![Positive, Mined]).unwrap();
    let value = Loss::new(Kind::Pairwise).evaluate(&grid(1, 2, &[0.2, 0.2]), &only).unwrap();
    assert!((value.value - 2f64.ln()).abs() < 1e-12 && (value.no_learning - 2f64.ln()).abs() < 1e-12);
}

#[test]
fn suspects_are_left_out_and_counted() {
    let scores = grid(2, 2, &[1.0, 0.96, 0.5, 1.0]);
    let targets = Targets::diagonal(2).unwrap();
    let loss = Loss { filter: Some(NegativeFilter::default()), ..Loss::new(Kind::InfoNce) };
    let filtered = loss.evaluate(&scores, &targets).unwrap();
    assert_eq!((filtered.suspects, filtered.gradient.row(0)), (1, [0.0, 0.0].as_slice()));
    // Collapsed embeddings look like a batch of unlabelled positives: the count tells.
    let collapsed = loss.evaluate(&grid(2, 2, &[1.0; 4]), &targets).unwrap();
    assert_eq!((collapsed.value, collapsed.suspects), (0.0, 2));
}

#[test]
fn settings_and_shapes_are_checked() {
    let (scores, targets) = (grid(2, 2, &[1.0; 4]), Targets::diagonal(2).unwrap());
    let refusal = |loss: Loss| loss.evaluate(&scores, &targets).unwrap_err().to_string();
    let loss = Loss::new(Kind::InfoNce);
    for temperature in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(refusal(Loss { temperature, ..loss }).contains("temperature"));
    }
    assert!(refusal(Loss { explicit: Explicit::Pairs { in_batch_weight: 1.5 }, ..loss }).contains("from 0 to 1"));
    let filter = |threshold, factor| Some(NegativeFilter { threshold, suspects: Suspects::Scale(factor) });
    assert!(refusal(Loss { filter: filter(0.0, 0.5), ..loss }).contains("threshold"));
    assert!(refusal(Loss { filter: filter(0.9, 1.0), ..loss }).contains("factor"));
    let error = loss.evaluate(&grid(2, 2, &[1.0, 0.0, f32::NAN, 1.0]), &targets).unwrap_err().to_string();
    assert!(error.contains("NaN for query 1, page 0"), "{error}");
    assert!(loss.evaluate(&scores, &Targets::diagonal(3).unwrap()).is_err());
    let teacher = |rows: &[Vec<(usize, f32)>]| Distillation::default().evaluate(&scores, rows).unwrap_err().to_string();
    assert!(teacher(&[vec![(0, 1.0), (1, 2.0)]]).contains("2, one per query"));
    assert!(teacher(&[vec![(0, 1.0), (1, 2.0)], vec![(0, 1.0)]]).contains("at least two"));
    assert!(teacher(&[vec![(0, 1.0), (1, 2.0)], vec![(0, 1.0), (2, 0.0)]]).contains("below 2"));
    assert!(teacher(&[vec![(0, 1.0), (1, 2.0)], vec![(0, 1.0), (0, 0.0)]]).contains("different"));
    assert!(teacher(&[vec![(0, 1.0), (1, f32::NAN)], vec![(0, 1.0), (1, 0.0)]]).contains("finite"));
}

#[test]
fn a_student_that_agrees_with_its_teacher_has_nothing_to_learn() {
    let scores = grid(1, 3, &[0.1, 0.3, 0.2]);
    let loss = Distillation { temperature: 0.1, teacher_temperature: 1.0 };
    let same = loss.evaluate(&scores, &[vec![(2, 2.0), (0, 1.0), (1, 3.0)]]).unwrap();
    assert!(same.value.abs() < 1e-9 && same.gradient.values().iter().all(|slope| slope.abs() < 1e-5));
    let equal = loss.evaluate(&grid(1, 3, &[0.5; 3]), &[vec![(2, 2.0), (0, 1.0), (1, 3.0)]]).unwrap();
    assert!((equal.value - equal.no_learning).abs() < 1e-12 && equal.value > 0.1);
}

#[test]
fn the_terms_of_a_query_count_by_its_weight() {
    #[rustfmt::skip]
    let targets = Targets::new(4, vec![
        Positive, Negative, Mined, Negative,
        Negative, Positive, Negative, Mined,
        Mined, Negative, Positive, Ignored,
    ]).unwrap();
    let scores = grid(3, 4, &[0.3, 0.5, 0.1, -0.2, 0.4, 0.2, 0.6, 0.1, 0.9, 0.3, 0.2, 0.7]);
    for kind in KINDS {
        let loss = Loss { temperature: 0.5, ..Loss::new(kind) };
        let at = |weights: [f64; 3]| {
            loss.evaluate(&scores, &targets.clone().with_weights(weights.to_vec()).unwrap()).unwrap()
        };
        let plain = loss.evaluate(&scores, &targets).unwrap();
        assert_eq!(plain, at([1.0; 3]));
        // A loss is a sum over queries, each with its weight as a factor.
        let heavy = [[3.0, 1.0, 1.0], [1.0, 3.0, 1.0], [1.0, 1.0, 3.0]].map(at);
        let sum: f64 = heavy.iter().map(|one| one.value).sum();
        assert!((sum - 5.0 * plain.value).abs() < 1e-6, "{kind:?}: {sum}, plain {}", plain.value);
        for (query, heavy) in heavy.iter().enumerate() {
            assert!((heavy.value - plain.value).abs() > 1e-3 && heavy.no_learning > plain.no_learning, "{kind:?}");
            for row in 0..3 {
                let times = if row == query { 3.0 } else { 1.0 };
                for (one, other) in heavy.gradient.row(row).iter().zip(plain.gradient.row(row)) {
                    assert!((one - times * other).abs() < 1e-5, "{kind:?}: {one}, {times} x {other}");
                }
            }
        }
        // Equal scores have the value of no learning, weighed like the loss.
        let even = loss.evaluate(&grid(3, 4, &[0.0; 12]), &targets.clone().with_weights(vec![4.0, 1.0, 1.0]).unwrap());
        let even = even.unwrap();
        assert!(kind == Kind::Sigmoid || (even.value - even.no_learning).abs() < 1e-6, "{even:?}");
    }
    for wrong in [vec![1.0; 2], vec![1.0, 0.0, 1.0], vec![1.0, f64::NAN, 1.0]] {
        assert!(targets.clone().with_weights(wrong).is_err());
    }
}

proptest! {
    /// Every derivative against a difference of two values, in batches with all kinds of cells. The steps are large
    /// because scores are f32.
    #[test]
    fn gradients_are_slopes(
        values in prop::collection::vec(-1.0f32..1.0, 12),
        kinds in prop::collection::vec(0..4usize, 12),
        positives in prop::collection::vec(0..4usize, 3),
        kind in 0..3usize, candidates: bool, filtered: bool,
    ) {
        let mut cells: Vec<Cell> = kinds.iter().map(|kind| [Negative, Negative, Mined, Ignored][*kind]).collect();
        positives.iter().enumerate().for_each(|(query, page)| cells[query * 4 + page] = Positive);
        let Ok(targets) = Targets::new(4, cells) else { return Ok(()) };
        let explicit = if candidates { Explicit::Candidates } else { Explicit::Pairs { in_batch_weight: 0.3 } };
        let filter = filtered.then_some(NegativeFilter { threshold: 0.9, suspects: Suspects::Scale(0.5) });
        let loss = Loss { temperature: 0.5, explicit, filter, ..Loss::new(KINDS[kind]) };
        let at = |values: &[f32]| loss.evaluate(&grid(3, 4, values), &targets).unwrap();
        let here = at(&values);
        for cell in 0..12 {
            let moved = |by: f32| {
                let mut values = values.clone();
                values[cell] += by;
                at(&values)
            };
            let (up, down) = (moved(1e-3), moved(-1e-3));
            // A hardest negative or a suspect that changes between the two makes a kink.
            let kink = up.suspects != down.suspects
                || (up.gradient.values()[cell] - down.gradient.values()[cell]).abs() > 0.02;
            let slope = (up.value - down.value) / 2e-3;
            let given = f64::from(here.gradient.values()[cell]);
            prop_assert!(kink || (slope - given).abs() < 2e-3, "cell {cell}: slope {slope}, gradient {given}");
        }
        // Only what was scored and is no ignored cell has a gradient.
        for (cell, slope) in here.gradient.values().iter().enumerate() {
            prop_assert!(*slope == 0.0 || targets.row(cell / 4)[cell % 4] != Ignored);
        }
    }
}
