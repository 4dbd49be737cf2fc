//! How well a checkpoint finds pages of documents that it never saw, by their images alone.
//!
//! Pages are rendered and kept as PNG files, and only these files reach the model, so that no text layer can. Asked are 2 to 4
//! words of one page, each of 4 to 12 letters and on at most 5 % of all pages; relevant are all pages that hold all of them.
//! Beside it BM25 on the text layer, which sees the very words, and the model's own answers on pages whose names were
//! shuffled: what chance gives.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::time::Instant;

use anyhow::{Result, ensure};
use colqwen_index_field::MultiVector;
use colqwen_index_ingest::colqwen2::{ColQwen2, LoadOptions};
use colqwen_index_ingest::encoder::Encoder;
use colqwen_index_train::data::PageId;
use colqwen_index_train::maxsim::{MaxSim, Packed};
use colqwen_index_train::metrics::Judged;
use colqwen_index_train::random::{Purpose, Stream};
use rayon::prelude::*;
use serde_json::{Value, json};

use crate::pieces::runs;
use crate::render::{self, Sheet};

/// Distinct words that a page has to have.
const FEWEST_WORDS: usize = 30;
/// A word that is asked for is on no more than this share of the pages.
const RARE: f64 = 0.05;
const DEPTH: usize = 5;

/// What is evaluated.
pub struct Evaluation<'a> {
    pub checkpoint: &'a Path,
    pub pages: &'a Path,
    pub queries: usize,
    pub most_pages: usize,
    pub seed: u64,
}

struct Question {
    /// The page that its words are of.
    page: usize,
    words: Vec<String>,
    relevant: BTreeSet<usize>,
}

impl Evaluation<'_> {
    /// Runs it; the figures as one object.
    pub fn run(&self) -> Result<Value> {
        let mut sheets = render::load(self.pages)?;
        sheets.retain(|sheet| distinct(sheet).len() >= FEWEST_WORDS);
        Stream::new(self.seed, Purpose::Order, &[]).shuffle(&mut sheets);
        sheets.truncate(self.most_pages);
        let questions = self.questions(&sheets)?;
        let model = ColQwen2::load(self.checkpoint, &LoadOptions::default())?;
        let began = Instant::now();
        let encoded: Vec<_> = sheets
            .par_iter()
            .map(|sheet| {
                // The image alone, from its file.
                let image = image::DynamicImage::ImageLuma8(sheet.image.clone()).into_rgb8();
                Ok(model.encode_pages(&[image])?.remove(0))
            })
            .collect::<Result<_>>()?;
        let seconds = began.elapsed().as_secs_f64() * rayon::current_num_threads() as f64 / sheets.len() as f64;
        let texts: Vec<String> = questions.iter().map(|question| question.words.join(" ")).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let queries = model.encode_queries(&texts)?;
        let queries: Vec<&MultiVector> = queries.iter().map(|query| &query.vectors).collect();
        let queries = Packed::from_multi_vectors(&queries)?;
        let maxsim = MaxSim { per_token: false, ..MaxSim::default() };
        let mut scores = vec![vec![0.0f32; sheets.len()]; questions.len()];
        // One page at a time, as all similarities of a page fit into memory.
        for (at, page) in encoded.iter().enumerate() {
            let scored = maxsim.score(&queries, &Packed::from_multi_vectors(&[&page.vectors])?)?.scores;
            scores.iter_mut().zip(scored.values()).for_each(|(scores, score)| scores[at] = *score);
        }
        let mut shuffled: Vec<usize> = (0..sheets.len()).collect();
        Stream::new(self.seed, Purpose::Choice, &[1]).shuffle(&mut shuffled);
        let chance: Vec<Vec<f32>> =
            scores.iter().map(|scores| shuffled.iter().map(|page| scores[*page]).collect()).collect();
        let tokens: usize = encoded.iter().map(|page| page.vectors.tokens()).sum();
        let found = ndcg(&scores, &questions)?;
        let mut by_document: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        for (question, ndcg) in questions.iter().zip(&found) {
            let name = Path::new(&sheets[question.page].document).file_stem().unwrap_or_default().to_string_lossy();
            by_document.entry(name.into_owned()).or_default().push(*ndcg);
        }
        let by_document: BTreeMap<String, Value> = by_document
            .into_iter()
            .map(|(name, of)| (name, json!({"queries": of.len(), "ndcg_at_5": mean(&of)})))
            .collect();
        let documents: BTreeSet<&str> = sheets.iter().map(|sheet| sheet.document.as_str()).collect();
        let spread = found.iter().map(|ndcg| (ndcg - mean(&found)).powi(2)).sum::<f64>() / found.len().max(1) as f64;
        Ok(json!({
            "pages": sheets.len(), "documents": documents.len(), "queries": questions.len(), "ndcg_at_5": mean(&found),
            "plus_minus_95": 1.96 * (spread / found.len().max(1) as f64).sqrt(), "by_document": by_document,
            "bm25": mean(&ndcg(&bm25(&sheets, &questions), &questions)?), "shuffled": mean(&ndcg(&chance, &questions)?),
            "tokens_per_page": tokens / sheets.len().max(1), "core_seconds_per_page": seconds,
        }))
    }

    fn questions(&self, sheets: &[Sheet]) -> Result<Vec<Question>> {
        let words: Vec<BTreeSet<String>> = sheets.iter().map(distinct).collect();
        let mut pages_of: BTreeMap<&str, BTreeSet<usize>> = BTreeMap::new();
        for (page, words) in words.iter().enumerate() {
            words.iter().for_each(|word| {
                pages_of.entry(word).or_default().insert(page);
            });
        }
        let most = (RARE * sheets.len() as f64) as usize;
        let rare: Vec<Vec<&String>> = words
            .iter()
            .map(|words| words.iter().filter(|word| pages_of[word.as_str()].len() <= most).collect())
            .collect();
        ensure!(rare.iter().any(|words| words.len() >= 2), "too few pages with rare words");
        let mut stream = Stream::new(self.seed, Purpose::Choice, &[0]);
        let mut questions = Vec::new();
        while questions.len() < self.queries {
            let page = stream.below(rare.len());
            let of_page = &rare[page];
            let count = 2 + stream.below(3);
            if of_page.len() < count {
                continue;
            }
            let mut chosen: BTreeSet<&String> = BTreeSet::new();
            while chosen.len() < count {
                chosen.insert(of_page[stream.below(of_page.len())]);
            }
            let holds = |other: &usize| chosen.iter().all(|word| words[*other].contains(*word));
            let relevant = (0..sheets.len()).filter(holds).collect();
            questions.push(Question { page, words: chosen.into_iter().cloned().collect(), relevant });
        }
        Ok(questions)
    }
}

/// Words of 4 to 12 letters, in lower case.
fn distinct(sheet: &Sheet) -> BTreeSet<String> {
    let all = sheet.words.iter().flat_map(|word| runs(&word.text)).map(|(_, run)| run);
    all.filter(|run| (4..=12).contains(&run.len()) && run.chars().all(|letter| letter.is_ascii_lowercase())).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// nDCG of each question.
fn ndcg(scores: &[Vec<f32>], questions: &[Question]) -> Result<Vec<f64>> {
    let of_question = |(scores, question): (&Vec<f32>, &Question)| {
        let pages: Vec<PageId> = (0..scores.len()).map(|page| PageId::new("", page as u32)).collect();
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|one, two| scores[*two].total_cmp(&scores[*one]));
        let ranking = order.iter().map(|page| &pages[*page]);
        Ok(Judged::new(ranking, question.relevant.iter().map(|page| &pages[*page]))?.ndcg(DEPTH))
    };
    scores.iter().zip(questions).map(of_question).collect()
}

/// BM25 (k1 1.2, b .75) of every page for every question, over the words of the text layer.
fn bm25(sheets: &[Sheet], questions: &[Question]) -> Vec<Vec<f32>> {
    let counts: Vec<HashMap<String, f32>> = sheets
        .iter()
        .map(|sheet| {
            let mut counts = HashMap::new();
            for (_, run) in sheet.words.iter().flat_map(|word| runs(&word.text)) {
                *counts.entry(run).or_insert(0.0) += 1.0;
            }
            counts
        })
        .collect();
    let lengths: Vec<f32> = counts.iter().map(|counts| counts.values().sum()).collect();
    let mean = lengths.iter().sum::<f32>() / lengths.len().max(1) as f32;
    let weight = |word: &String| {
        let pages = counts.iter().filter(|counts| counts.contains_key(word)).count() as f32;
        (1.0 + (counts.len() as f32 - pages + 0.5) / (pages + 0.5)).ln()
    };
    let of_question = |question: &Question| {
        let weights: Vec<f32> = question.words.iter().map(weight).collect();
        let page = |(counts, length): (&HashMap<String, f32>, &f32)| -> f32 {
            let word = |(word, weight): (&String, &f32)| {
                let count = counts.get(word).copied().unwrap_or(0.0);
                weight * count * 2.2 / (count + 1.2 * (0.25 + 0.75 * length / mean))
            };
            question.words.iter().zip(&weights).map(word).sum()
        };
        counts.iter().zip(&lengths).map(page).collect()
    };
    questions.iter().map(of_question).collect()
}
