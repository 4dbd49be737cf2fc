//! How well the model finds pages that it was not trained on.

use std::sync::Arc;

use anyhow::Result;
use colqwen_index_ingest::colqwen2::model::ModelInput;
use colqwen_index_train::data::PageId;
use colqwen_index_train::maxsim::{MaxSim, Packed};
use colqwen_index_train::metrics::{Judged, Mean, Metrics};

use crate::page::Collection;
use crate::setup::Setup;

/// Pages, and as many queries.
const SIZE: usize = 200;
/// Pages that are encoded together.
const TOGETHER: usize = 20;
/// Tells the held-out pages' random numbers from those of training.
const KEY: u64 = u64::MAX;

/// Held-out pages with their queries.
pub struct HeldOut {
    queries: Vec<Arc<ModelInput>>,
    pages: Vec<Arc<ModelInput>>,
    relevant: Vec<Vec<PageId>>,
}

impl HeldOut {
    /// New pages of the words that learn, or of words that no training page shows.
    pub fn new(setup: &Setup, unseen: bool) -> Result<Self> {
        let words = if unseen { &setup.words.unseen } else { &setup.words.learnt };
        let collection = Collection::draw(SIZE, words, &mut setup.stream(&[KEY, u64::from(unseen)]));
        let relevant = |query: &Vec<usize>| {
            let pages = collection.pages.iter().zip(0..).filter(|(page, _)| page.answers(query));
            pages.map(|(_, number)| id(number)).collect()
        };
        let relevant = collection.queries.iter().map(relevant).collect();
        let [queries, pages] = setup.inputs(&collection, words)?;
        Ok(Self { queries, pages, relevant })
    }

    /// Ranks all pages for every query by MaxSim.
    pub fn rank(&self, setup: &Setup) -> Result<Ranked> {
        let encode = |items: &[Arc<ModelInput>]| {
            let parts = items.chunks(TOGETHER).map(|part| setup.network.infer(part));
            Packed::cat(&parts.collect::<Result<Vec<_>, _>>()?)
        };
        let scored = MaxSim::default().score(&encode(&self.queries)?, &encode(&self.pages)?)?;
        let mut others: Vec<u32> = (0..SIZE as u32).collect();
        setup.stream(&[KEY, 2]).shuffle(&mut others);
        let (mut judged, mut shuffled) = (Vec::new(), Vec::new());
        for (query, relevant) in self.relevant.iter().enumerate() {
            let row = scored.scores.row(query);
            let mut order: Vec<u32> = (0..SIZE as u32).collect();
            // Equal scores in an order that knows nothing of the pages.
            order.sort_by(|one, other| {
                let score = |page: &u32| row[*page as usize];
                score(other).total_cmp(&score(one)).then(others[*one as usize].cmp(&others[*other as usize]))
            });
            let ranking: Vec<PageId> = order.iter().map(|page| id(*page)).collect();
            judged.push(Judged::new(&ranking, relevant)?);
            let ranking: Vec<PageId> = order.iter().map(|page| id(others[*page as usize])).collect();
            shuffled.push(Judged::new(&ranking, relevant)?);
        }
        Ok(Ranked { judged, shuffled })
    }
}

/// Rankings of all queries, and the same rankings of shuffled pages.
pub struct Ranked {
    judged: Vec<Judged>,
    shuffled: Vec<Judged>,
}

impl Ranked {
    /// nDCG@5.
    pub fn ndcg(&self) -> f64 {
        mean(&self.judged)
    }

    /// What is left of it when every page stands for another.
    pub fn shuffled_ndcg(&self) -> f64 {
        mean(&self.shuffled)
    }

    /// The interval of nDCG@5 that holds 95 of 100 resamplings of the queries.
    pub fn interval(&self) -> Result<[f64; 2]> {
        let Mean { low, high, .. } = Metrics::of(&self.judged, 1)?.ndcg_5;
        Ok([low, high])
    }
}

fn mean(judged: &[Judged]) -> f64 {
    judged.iter().map(|one| one.ndcg(5)).sum::<f64>() / judged.len() as f64
}

fn id(number: u32) -> PageId {
    PageId::new("held out", number)
}
