//! How well a checkpoint finds pages of documents that it never saw, by their images alone.
//!
//! Pages are rendered and kept as PNG files, and only these files reach the model, so that no text layer can. Asked are 2 to 4
//! words of one page, each of 4 to 12 letters and on at most 5 % of all pages; relevant are all pages that hold all of them.
//! Beside it BM25 on the text layer, which sees the very words, and the model's own answers on pages whose names were
//! shuffled: what chance gives.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use candle_core::{Device, Tensor};
use colqwen_index_ingest::colqwen2::{ColQwen2, LoadOptions};
use colqwen_index_ingest::encoder::Encoder;
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
        let all: Vec<f32> = queries.iter().flat_map(|query| query.vectors.values().iter().copied()).collect();
        let lengths: Vec<usize> = queries.iter().map(|query| query.vectors.tokens()).collect();
        let all = Tensor::from_vec(all, (lengths.iter().sum::<usize>(), model.dim()), &Device::Cpu)?;
        let mut scores = vec![vec![0.0f32; sheets.len()]; questions.len()];
        for (at, page) in encoded.iter().enumerate() {
            let page = Tensor::from_slice(page.vectors.values(), (page.vectors.tokens(), model.dim()), &Device::Cpu)?;
            let best: Vec<f32> = all.matmul(&page.t()?)?.max(1)?.to_vec1()?;
            let mut rest = best.as_slice();
            for (scores, length) in scores.iter_mut().zip(&lengths) {
                let (own, after) = rest.split_at(*length);
                scores[at] = own.iter().sum();
                rest = after;
            }
        }
        let mut shuffled: Vec<usize> = (0..sheets.len()).collect();
        Stream::new(self.seed, Purpose::Choice, &[1]).shuffle(&mut shuffled);
        let chance: Vec<Vec<f32>> =
            scores.iter().map(|scores| shuffled.iter().map(|page| scores[*page]).collect()).collect();
        let tokens: usize = encoded.iter().map(|page| page.vectors.tokens()).sum();
        Ok(json!({
            "pages": sheets.len(), "queries": questions.len(), "ndcg_at_5": mean_ndcg(&scores, &questions),
            "bm25": mean_ndcg(&bm25(&sheets, &questions), &questions), "shuffled": mean_ndcg(&chance, &questions),
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
            let of_page = &rare[stream.below(rare.len())];
            let count = 2 + stream.below(3);
            if of_page.len() < count {
                continue;
            }
            let mut chosen: BTreeSet<&String> = BTreeSet::new();
            while chosen.len() < count {
                chosen.insert(of_page[stream.below(of_page.len())]);
            }
            let holds = |page: &usize| chosen.iter().all(|word| words[*page].contains(*word));
            let relevant = (0..sheets.len()).filter(holds).collect();
            questions.push(Question { words: chosen.into_iter().cloned().collect(), relevant });
        }
        Ok(questions)
    }
}

/// Words of 4 to 12 letters, in lower case.
fn distinct(sheet: &Sheet) -> BTreeSet<String> {
    let all = sheet.words.iter().flat_map(|word| runs(&word.text)).map(|(_, run)| run);
    all.filter(|run| (4..=12).contains(&run.len()) && run.chars().all(|letter| letter.is_ascii_lowercase())).collect()
}

fn mean_ndcg(scores: &[Vec<f32>], questions: &[Question]) -> f64 {
    let one = |(scores, question): (&Vec<f32>, &Question)| {
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|one, two| scores[*two].total_cmp(&scores[*one]));
        let gain = |rank: usize| 1.0 / ((rank + 2) as f64).log2();
        let found = order.iter().take(DEPTH).enumerate().filter(|(_, page)| question.relevant.contains(page));
        let best: f64 = (0..question.relevant.len().min(DEPTH)).map(gain).sum();
        found.map(|(rank, _)| gain(rank)).sum::<f64>() / best
    };
    scores.iter().zip(questions).map(one).sum::<f64>() / questions.len().max(1) as f64
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

/// The folder of pages to evaluate on, rendered from `files`.
pub fn prepare(files: &Path, per_file: usize, seed: u64, folder: &Path) -> Result<usize> {
    let list = std::fs::read_to_string(files).with_context(|| format!("{}", files.display()))?;
    let files: Vec<PathBuf> = list.lines().map(PathBuf::from).collect();
    render::render(&files, per_file, seed, folder)
}
