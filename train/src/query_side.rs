//! Training of queries alone: pages stay as they are stored, so that an index need not be encoded again.
//!
//! [`QuerySide`] wraps a model under training. Queries go through it; a page is the token vectors that an index holds, and no
//! gradient leads back from it. Everything else of a training, batches, losses, gradient caching, stays the same. That
//! only the query encoder moves while document vectors are fixed is also how ANN-based retrievers are adapted (Zhan et al.,
//! "Optimizing dense retrieval model training with hard negatives", SIGIR 2021).

use std::sync::Arc;

use crate::Error;
use crate::encode::{Encode, Parameter, Place, Side};
use crate::gradients::Gradients;
use crate::maxsim::Packed;

/// A query to be encoded, or a page that is encoded already.
#[derive(Clone, Debug)]
pub enum QueryOrPage<Query> {
    /// A query as the model takes it.
    Query(Query),
    /// The token vectors of one page, `tokens x dim`.
    Page(Arc<Packed>),
}

/// A model whose queries learn while all pages are constants.
#[derive(Debug)]
pub struct QuerySide<'m, E: Encode> {
    model: &'m E,
}

impl<'m, E: Encode> QuerySide<'m, E> {
    /// Trains the queries of `model`.
    pub fn of(model: &'m E) -> Self {
        Self { model }
    }

    fn queries(items: &[QueryOrPage<E::Item>]) -> Result<Vec<E::Item>, Error>
    where
        E::Item: Clone,
    {
        let query = |item: &QueryOrPage<E::Item>| match item {
            QueryOrPage::Query(query) => Ok(query.clone()),
            QueryOrPage::Page(page) => {
                Err(Error::shape("query", "one to be encoded", format!("a page of {} tokens", page.tokens())))
            }
        };
        items.iter().map(query).collect()
    }

    fn pages(items: &[QueryOrPage<E::Item>]) -> Result<Packed, Error> {
        let page = |item: &QueryOrPage<E::Item>| match item {
            QueryOrPage::Page(page) => Ok((**page).clone()),
            QueryOrPage::Query(_) => Err(Error::shape("page", "stored token vectors", "a query to be encoded")),
        };
        Packed::cat(&items.iter().map(page).collect::<Result<Vec<_>, _>>()?)
    }
}

impl<E: Encode> Encode for QuerySide<'_, E>
where
    E::Item: Clone + Send,
{
    type Item = QueryOrPage<E::Item>;

    fn parameters(&self) -> &[Parameter] {
        self.model.parameters()
    }

    fn encode(&self, items: &[Self::Item], side: Side, place: Place) -> Result<Packed, Error> {
        match side {
            Side::Query => self.model.encode(&Self::queries(items)?, side, place),
            Side::Page => Self::pages(items),
        }
    }

    fn vectors(&self, items: &[Self::Item], side: Side, place: Place) -> Result<Packed, Error> {
        match side {
            Side::Query => self.model.vectors(&Self::queries(items)?, side, place),
            Side::Page => Self::pages(items),
        }
    }

    fn lead(
        &self,
        items: &[Self::Item],
        side: Side,
        place: Place,
        slopes: &Packed,
        gradients: &mut Gradients,
    ) -> Result<(), Error> {
        match side {
            Side::Query => self.model.lead(&Self::queries(items)?, side, place, slopes, gradients),
            Side::Page => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use colqwen_index_ingest::colqwen2::ColQwen2;

    use super::*;
    use crate::grad_cache::{Batch, GradCache};
    use crate::loss::{Kind, Loss};
    use crate::maxsim::MaxSim;
    use crate::network::{Lora, Network, NetworkOptions, Trained};
    use crate::scores::Targets;

    #[test]
    fn gradients_are_those_of_queries_beside_constant_pages() {
        let model = ColQwen2::builtin().unwrap();
        let lora = Trained::Lora(Lora { dropout: 0.0, ..Lora::default() });
        let network = Network::new(&model, lora, NetworkOptions::default()).unwrap();
        let queries: Vec<_> =
            ["one two", "three"].iter().map(|text| Arc::new(model.query_input(&[text]).unwrap())).collect();
        let texts = ["filter", "river bed", "three"];
        let stored: Vec<Packed> = texts
            .iter()
            .map(|text| network.infer(&[Arc::new(model.query_input(&[text]).unwrap())]).unwrap().detach())
            .collect();
        let targets = Targets::new(3, [0, 1, 1, 1, 1, 0].map(|other| match other {
            0 => crate::scores::Cell::Positive,
            _ => crate::scores::Cell::Negative,
        }).to_vec())
        .unwrap();
        let cache = GradCache { maxsim: MaxSim::default(), loss: Loss::new(Kind::InfoNce), mini_batch: 2 };
        let side = QuerySide::of(&network);
        let items: Vec<_> = queries.iter().cloned().map(QueryOrPage::Query).collect();
        let pages: Vec<_> = stored.iter().cloned().map(|page| QueryOrPage::Page(Arc::new(page))).collect();
        let batch = Batch { queries: &items, pages: &pages, constant_pages: None, targets: &targets };
        let learnt = cache.learn(&side, batch, 0).unwrap();
        // The same by hand: the derivative by the query vectors alone, led through the network.
        let vectors = network.vectors(&queries, Side::Query, Place { step: 0, first_row: 0 }).unwrap();
        let packed = Packed::cat(&stored).unwrap();
        let scored = cache.maxsim.score(&vectors, &packed).unwrap();
        let evaluated = cache.loss.evaluate(&scored.scores, &targets).unwrap();
        let slopes = cache.maxsim.backward(&vectors, &packed, &scored, &evaluated.gradient).unwrap().queries;
        let slopes = Packed::new(slopes, &vectors.lengths().collect::<Vec<_>>()).unwrap();
        let mut expected = Gradients::none(network.parameters().len());
        network.lead(&queries, Side::Query, Place { step: 0, first_row: 0 }, &slopes, &mut expected).unwrap();
        assert!((learnt.evaluated.value - evaluated.value).abs() < 1e-6);
        let (found, expected) = (learnt.gradients.norm().unwrap(), expected.norm().unwrap());
        assert!(found > 0.0 && (found - expected).abs() < 1e-5 * expected, "{found} {expected}");
        assert!(side.vectors(&items, Side::Page, Place { step: 0, first_row: 0 }).is_err());
        assert!(side.vectors(&pages, Side::Query, Place { step: 0, first_row: 0 }).is_err());
    }
}
