//! Pages and queries of many shapes: tokens about centres that pages share, blank paper, any number of tokens.

use std::ops::RangeInclusive;

use colqwen_index_field::{MultiVector, UnitLength};

use crate::oracle::Random;

/// Centres that the tokens of one page lie about.
const TOPICS: usize = 12;
/// Distinct kinds of blank paper.
const BACKGROUNDS: u64 = 4;
const BLANK_NOISE: f32 = 0.1;

/// What the pages of a corpus look like.
#[derive(Clone, PartialEq, Debug)]
pub struct Shape {
    pub dim: usize,
    pub pages: u64,
    /// Tokens of a page.
    pub tokens: RangeInclusive<u64>,
    /// Centres that tokens lie about; 0 for tokens that have nothing in common.
    pub centres: u64,
    /// How far a token lies from its centre.
    pub token_noise: f32,
    /// The share of a page's tokens that are blank paper.
    pub blank: f32,
    pub query_tokens: usize,
    /// How far a query token lies from the page token that it was made from.
    pub query_noise: f32,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            dim: 64,
            pages: 1000,
            tokens: 30..=60,
            centres: 256,
            token_noise: 0.6,
            blank: 0.0,
            query_tokens: 12,
            query_noise: 0.7,
        }
    }
}

/// Pages and queries of a shape, each made from its number alone.
pub struct Corpus {
    pub shape: Shape,
    centres: Vec<Vec<f32>>,
    backgrounds: Vec<Vec<f32>>,
}

impl Corpus {
    pub fn new(shape: Shape) -> Self {
        let vectors = |count: u64, seed: u64| {
            let mut random = Random::new(seed);
            (0..count).map(|_| normal(&mut random, shape.dim, 1.0)).collect()
        };
        Self { centres: vectors(shape.centres, 11), backgrounds: vectors(BACKGROUNDS, 12), shape }
    }

    pub fn page(&self, number: u64) -> MultiVector {
        let (values, _) = self.tokens(number);
        MultiVector::try_new(self.shape.dim, values, UnitLength::Normalize).unwrap()
    }

    pub fn pages(&self, numbers: std::ops::Range<u64>) -> impl Iterator<Item = (u64, MultiVector)> {
        numbers.map(|number| (number, self.page(number)))
    }

    /// A query for one of the pages: tokens near those of it that are not blank.
    pub fn query(&self, seed: u64) -> MultiVector {
        self.asked(seed, seed * 7919 % self.shape.pages)
    }

    /// A query for one page.
    pub fn query_of(&self, number: u64) -> MultiVector {
        self.asked(number, number)
    }

    fn asked(&self, seed: u64, number: u64) -> MultiVector {
        let mut random = Random::new(seed + 5_000_000_000);
        let (values, written) = self.tokens(number);
        let token = |random: &mut Random| {
            let token = written[random.below(written.len() as u64) as usize];
            let near = &values[token * self.shape.dim..][..self.shape.dim];
            sum(near, &normal(random, self.shape.dim, self.shape.query_noise))
        };
        let values = (0..self.shape.query_tokens).flat_map(|_| token(&mut random)).collect();
        MultiVector::try_new(self.shape.dim, values, UnitLength::Normalize).unwrap()
    }

    /// The values of a page's tokens, and which tokens are not blank: at least one.
    fn tokens(&self, number: u64) -> (Vec<f32>, Vec<usize>) {
        let mut random = Random::new(number * 7919 + 1);
        let (least, most) = (*self.shape.tokens.start(), *self.shape.tokens.end());
        let count = least + random.below(most - least + 1);
        let topics: Vec<u64> = (0..TOPICS).map(|_| random.below(self.shape.centres.max(1))).collect();
        let (mut values, mut written) = (Vec::new(), Vec::new());
        for token in 0..count as usize {
            let vector = if token > 0 && (random.below(1 << 20) as f32) < self.shape.blank * (1 << 20) as f32 {
                let background = &self.backgrounds[random.below(BACKGROUNDS) as usize];
                sum(background, &normal(&mut random, self.shape.dim, BLANK_NOISE))
            } else {
                written.push(token);
                let topic = topics[random.below(TOPICS as u64) as usize];
                match self.centres.get(topic as usize) {
                    Some(centre) => sum(centre, &normal(&mut random, self.shape.dim, self.shape.token_noise)),
                    None => normal(&mut random, self.shape.dim, 1.0),
                }
            };
            values.extend(vector);
        }
        (values, written)
    }
}

/// About normally distributed values that have a length of about `length` together.
pub fn normal(random: &mut Random, dim: usize, length: f32) -> Vec<f32> {
    let scale = length * (3.0 / dim as f32).sqrt();
    let value = |bits: u64| (0..4).map(|part| (bits >> (16 * part)) as u16 as f32 / 65536.0).sum::<f32>() - 2.0;
    (0..dim).map(|_| value(random.next()) * scale).collect()
}

fn sum(one: &[f32], other: &[f32]) -> Vec<f32> {
    one.iter().zip(other).map(|(one, other)| one + other).collect()
}
