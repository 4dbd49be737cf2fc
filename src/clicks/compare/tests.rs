use std::collections::HashMap;
use std::path::Path;

use colqwen_index_field::{Fingerprint, MultiVector, PageVectors, Precision, UnitLength};
use colqwen_index_ingest::embeddings::PageRecord;
use colqwen_index_ingest::encoder::EncoderError;
use colqwen_index_ingest::page::PixelBudget;
use colqwen_index_train::maxsim::{MaxSim, Packed};
use colqwen_index_train::random::{Purpose, Stream};
use image::RgbImage;

use super::*;
use crate::PageIndexOptions;
use crate::page_index::{BuildOptions, EncodePages, PageToEncode, RecordedModel};

const DIM: usize = 16;
/// Enough tokens for a codebook of 2 bits.
const PAGES: u32 = 720;
const TOKENS: usize = 96;
const QUERIES: usize = 200;
/// How much of a query's token is noise.
const NOISE: f32 = 0.85;

fn model(number: u8) -> RecordedModel {
    let page_fingerprint = Fingerprint::from_bytes([number; 32]);
    RecordedModel { name: format!("model-{number}"), page_fingerprint, query_format: "plain".to_owned() }
}

fn random(stream: &mut Stream) -> Vec<f32> {
    let values: Vec<f32> = (0..DIM).map(|_| stream.normal() as f32).collect();
    let length = values.iter().map(|value| value * value).sum::<f32>().sqrt();
    values.into_iter().map(|value| value / length).collect()
}

fn of_tokens(tokens: impl Iterator<Item = Vec<f32>>) -> MultiVector {
    MultiVector::try_new(DIM, tokens.flatten().collect(), UnitLength::Normalize).unwrap()
}

/// A page, the same whatever model it is said to be of.
fn page(number: u32) -> MultiVector {
    let mut stream = Stream::new(1, Purpose::Weights, &[u64::from(number)]);
    of_tokens((0..TOKENS).map(|_| random(&mut stream)))
}

fn page_of_query(query: usize) -> u32 {
    1 + (query * 7) as u32 % PAGES
}

/// Some tokens of a page, under so much noise that rounding decides some ranks.
fn query(number: usize) -> MultiVector {
    let mut stream = Stream::new(2, Purpose::Weights, &[number as u64]);
    let wanted = page(page_of_query(number));
    of_tokens((0..4).map(|_| {
        let (token, noise) = (stream.below(TOKENS), random(&mut stream));
        wanted.token(token).iter().zip(noise).map(|(value, noise)| value + NOISE * noise).collect()
    }))
}

/// The same vectors under the name of a model.
struct Named(u8);

impl Encoder for Named {
    fn dim(&self) -> usize {
        DIM
    }

    fn page_fingerprint(&self) -> Fingerprint {
        model(self.0).page_fingerprint
    }

    fn query_fingerprint(&self) -> Fingerprint {
        self.page_fingerprint()
    }

    fn serves_pages_of(&self) -> Fingerprint {
        self.page_fingerprint()
    }

    fn query_format(&self) -> &str {
        "plain"
    }

    fn page_budget(&self) -> PixelBudget {
        PixelBudget { factor: 2, min_pixels: 4, max_pixels: 4 }
    }

    fn encode_pages(&self, _: &[RgbImage]) -> Result<Vec<PageVectors>, EncoderError> {
        Ok(Vec::new())
    }

    fn encode_queries(&self, queries: &[&str]) -> Result<Vec<QueryVectors>, EncoderError> {
        let vectors =
            |text: &&str| QueryVectors::new(query(text.parse().unwrap())).with_origin(Some(self.page_fingerprint()));
        Ok(queries.iter().map(vectors).collect())
    }
}

impl EncodePages for Named {
    fn encode(&mut self, pages: &[PageToEncode]) -> Result<Vec<Result<PageVectors, String>>, Error> {
        let vectors =
            |wanted: &PageToEncode| Ok(PageVectors::new(page(wanted.page)).with_origin(Some(self.page_fingerprint())));
        Ok(pages.iter().map(vectors).collect())
    }
}

fn index(folder: &Path) -> PageIndex {
    let options = PageIndexOptions { precision: Precision::Bits2, model: Some(model(1)), ..PageIndexOptions::new(DIM) };
    let mut index = PageIndex::create(folder, &options).unwrap();
    let mut writer = index.writer().unwrap();
    for number in 1..=PAGES {
        let vectors = PageVectors::new(page(number)).with_origin(Some(model(1).page_fingerprint));
        let mut record = PageRecord::new("book", number, vectors);
        record.text = Some(format!("{number} ").repeat(60));
        writer.upsert(&record).unwrap();
    }
    index.close(writer).unwrap();
    index
}

/// The mean reciprocal rank of the page that each query was made from.
fn quality(rankings: &[Vec<PageId>]) -> f64 {
    let of_query = |(number, ranking): (usize, &Vec<PageId>)| {
        let wanted = PageId::new("book", page_of_query(number));
        ranking.iter().position(|page| *page == wanted).map_or(0.0, |at| 1.0 / (at as f64 + 1.0))
    };
    rankings.iter().enumerate().map(of_query).sum::<f64>() / rankings.len() as f64
}

/// By the vectors themselves.
fn exactly() -> Vec<Vec<PageId>> {
    let queries: Vec<MultiVector> = (0..QUERIES).map(query).collect();
    let queries = Packed::from_multi_vectors(&queries.iter().collect::<Vec<_>>()).unwrap();
    let mut scored: HashMap<usize, Vec<(f32, PageId)>> = HashMap::new();
    for number in 1..=PAGES {
        let pages = Packed::from_multi_vectors(&[&page(number)]).unwrap();
        let scores = MaxSim { per_token: false, ..MaxSim::default() }.score(&queries, &pages).unwrap().scores;
        for (at, score) in scores.values().iter().enumerate() {
            scored.entry(at).or_default().push((*score, PageId::new("book", number)));
        }
    }
    (0..QUERIES).map(|at| crate::training::best_first(scored.remove(&at).unwrap()).collect()).collect()
}

#[test]
fn a_model_that_learnt_nothing_is_as_good_as_the_one_that_serves_in_two_bits() {
    let folder = tempfile::tempdir().unwrap();
    let index = index(&folder.path().join("index"));
    let mut next = index.next_generation(model(2), BuildOptions::default()).unwrap();
    next.encode(&index, &mut Named(2), &mut |_, _| {}).unwrap();
    next.build(&index).unwrap();
    let pages = Pages::of(&index).unwrap();
    assert_eq!((pages.count(), pages.merged()), (PAGES as usize, 0));
    let texts: Vec<String> = (0..QUERIES).map(|number| number.to_string()).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let serving = Asked { index: &index, encoder: &Named(1) }.rankings(&texts, &pages).unwrap();
    let fresh = Fresh::of(&index, &next, &Named(2)).unwrap();
    let new = fresh.rankings(&texts, &pages).unwrap();
    let [serving, new, exact] = [&serving, &new, &exactly()].map(|rankings| quality(rankings));
    println!("serving {serving:.3}, new {new:.3}, exact {exact:.3}");
    // What codes cost is worth many times what may seem to be gained.
    assert!(exact > serving + 0.05, "exact {exact}, serving {serving}: codes of 2 bits cost nothing here");
    assert!((new - serving).abs() < 0.015, "serving {serving}, new {new}");
    drop(fresh);
    next.discard().unwrap();
}
