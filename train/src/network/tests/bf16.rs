//! What computing in bf16 changes: between the passes of gradient caching, and against f32.

use super::*;
use crate::grad_cache::{Batch, GradCache};
use crate::loss::{Kind, Loss};
use crate::maxsim::MaxSim;
use crate::scores::Targets;

/// The weights of `wide`, rounded for every computation.
fn narrow(model: &ColQwen2, wide: &Network, checkpointing: bool) -> Network {
    let options = NetworkOptions { seed: 7, checkpointing, number: Some(DType::BF16) };
    let narrow = Network::new(model, wide.trained().clone(), options).unwrap();
    for (from, to) in wide.parameters().iter().zip(narrow.parameters()) {
        // Masters stay f32.
        assert_eq!(to.var.dtype(), DType::F32);
        to.var.set(from.var.as_tensor()).unwrap();
    }
    narrow
}

/// The length of the difference of all gradients together, relative to their length.
fn error(expected: &Gradients, found: &Gradients) -> f64 {
    let square = |x: &Tensor| f64::from(x.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap());
    let (mut error, mut length) = (0.0, 0.0);
    for (expected, found) in expected.iter().zip(found.iter()) {
        let (expected, found) = (expected.unwrap(), found.unwrap());
        error += square(&(expected - found).unwrap());
        length += square(expected);
    }
    assert!(length > 0.0);
    (error / length).sqrt()
}

/// The first pass has no graph and other operations than the second. The loss is judged by the vectors of the first, and its
/// gradient led to the weights by the second; that must be the gradient of one pass with a graph, whose own vectors are judged.
#[test]
fn passes_with_and_without_graph_agree_in_bf16() {
    let model = tiny();
    let (queries, pages) = (queries(&model), pages(&model));
    let place = Place { first_row: 0, ..PLACE };
    let targets = Targets::diagonal(2).unwrap();
    // As steep as the default.
    let loss = Loss::new(Kind::InfoNce);
    for trained in [Trained::Projection, lora(), Trained::Full { vision: true }] {
        let wide = network(trained.clone(), true);
        let (plain, checkpointed) = (narrow(&model, &wide, false), narrow(&model, &wide, true));

        let sides = [(&queries, Side::Query), (&pages, Side::Page)];
        let [of_queries, of_pages] = sides.map(|(items, side)| plain.encode(items, side, place).unwrap());
        let [still_queries, still_pages] = sides.map(|(items, side)| plain.vectors(items, side, place).unwrap());
        let apart = [(&of_queries, &still_queries), (&of_pages, &still_pages)]
            .map(|(one, other)| largest(&(one.vectors() - other.vectors()).unwrap()));
        let maxsim = MaxSim::default();
        let scored = maxsim.score(&of_queries, &of_pages).unwrap();
        let evaluated = loss.evaluate(&scored.scores, &targets).unwrap();
        let slopes = maxsim.backward(&of_queries, &of_pages, &scored, &evaluated.gradient).unwrap();
        let mut expected = Gradients::none(plain.parameters().len());
        for (vectors, slopes) in [(&of_queries, slopes.queries), (&of_pages, slopes.pages)] {
            let surrogate = (vectors.vectors() * slopes).unwrap().sum_all().unwrap();
            expected.add(plain.parameters(), &surrogate.backward().unwrap()).unwrap();
        }

        let batch = Batch { queries: &queries, pages: &pages, constant_pages: None, teacher: None, targets: &targets };
        for (network, mini_batch) in [(&plain, 2), (&checkpointed, 2), (&checkpointed, 1)] {
            let found = GradCache { maxsim, loss, mini_batch }.learn(network, batch, place.step).unwrap().gradients;
            let error = error(&expected, &found);
            println!("{trained}, {mini_batch} at once: vectors {apart:?} apart, relative gradient error {error:.1e}");
            assert!(apart.iter().all(|apart| *apart < 1e-3), "{trained}: {apart:?}");
            assert!(error <= 2e-2, "{trained}, {mini_batch} at once: {error}");
        }
    }
}

/// No property of the passes: this is what 8 bits of mantissa cost, and that they are used at all.
#[test]
fn rounding_to_bf16_changes_gradients_by_a_few_percent() {
    let model = tiny();
    let items = pages(&model);
    for trained in [Trained::Projection, lora(), Trained::Full { vision: true }] {
        let wide = network(trained.clone(), true);
        let narrow = narrow(&model, &wide, true);
        let slopes = slopes(&wide, &items, Side::Page);
        let expected = gradients(&wide, &items, Side::Page, &slopes);
        let found = gradients(&narrow, &items, Side::Page, &slopes);
        let relative = error(&expected, &found);
        println!("{trained}: gradients in bf16 and f32 differ by {relative:.1e} of their length");
        assert!(relative > 1e-4 && relative < 5e-2, "{trained}: {relative}");
    }
}
