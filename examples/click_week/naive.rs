//! What a program without care makes of the same log: every click is an answer, and nothing is held back.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::ControlFlow;
use std::path::Path;

use anyhow::{Context, Result};
use colqwen_index::PageIndex;
use colqwen_index::ingest::two_parts::TwoParts;
use colqwen_index::model::{Model, load_colqwen2};
use colqwen_index::train::clicks::record::{LoggedQuery, Record};
use colqwen_index::train::data::{PageId, PositivePage, Question, TrainingData};
use colqwen_index::train::network::Lora;
use colqwen_index::training::{Learning, MineOptions, TrainOptions, mine, train_query_side};

/// Times that each query is seen.
const EPOCHS: u64 = 5;

/// Trains the query side of the model that `index` records on every click of the log.
pub fn train(index: &PageIndex, records: &[Record], (batch, seed): (usize, u64), out: &Path) -> Result<Model> {
    let name = index.model().context("the index records a model")?.name.clone();
    let base = load_colqwen2(&name, "cpu")?;
    let (data, _) = mine(index, &base, &questions(records), MineOptions::default())?;
    let options = TrainOptions {
        batch: batch.min(data.questions.len()),
        negatives: 2,
        epochs: EPOCHS,
        seed,
        learning: Learning::Queries,
        ..TrainOptions::default()
    };
    let lora = Lora { dropout: 0.0, ..Lora::default() };
    let trained = train_query_side(&base, &data, index, out, &options, lora, &[], |_, _| ControlFlow::Continue(()))?;
    let query = trained.model.context("the training was stopped")?;
    let folder = out.join("parts");
    TwoParts::write(&base, &query, &folder)?;
    Ok(Model::load(&folder.display().to_string(), "cpu")?)
}

/// Every query, with every page that was clicked for it.
fn questions(records: &[Record]) -> TrainingData {
    let mut lists: HashMap<&str, (&str, Vec<&PageId>)> = HashMap::new();
    let mut clicked: BTreeMap<&str, BTreeSet<&PageId>> = BTreeMap::new();
    for record in records {
        match record {
            Record::Impression(shown) => {
                if let LoggedQuery::Text(text) = &shown.query {
                    lists.insert(&shown.id, (text, shown.shown.iter().map(|shown| &shown.page).collect()));
                }
            }
            Record::Click(click) => {
                let list = lists.get(click.impression.as_str());
                if let Some((query, page)) =
                    list.and_then(|(query, pages)| Some((query, pages.get(click.rank as usize - 1)?)))
                {
                    clicked.entry(query).or_default().insert(page);
                }
            }
            Record::View(_) => {}
        }
    }
    let question = |(query, pages): (&str, BTreeSet<&PageId>)| Question {
        query_id: query.to_owned(),
        query: query.to_owned(),
        positives: pages.into_iter().map(|page| PositivePage { page: page.clone(), weight: 1.0 }).collect(),
        ..Question::default()
    };
    TrainingData {
        questions: clicked.into_iter().map(|(query, pages)| question((query, pages))).collect(),
        mined_from: None,
    }
}
