//! Data with the shape of real collections, the same in every run: documents share topics, words repeat, paper is blank.
//! Documents are made one by one when asked for, so that a collection of any size takes no memory.

use std::str::FromStr;

use half::f16;
use serde::Serialize;

/// What a collection looks like.
#[derive(Clone, Debug, Serialize)]
pub struct Shape {
    pub name: String,
    pub documents: usize,
    /// Tokens per document, least and most.
    pub tokens: (usize, usize),
    pub dim: usize,
    /// Distinct meanings that tokens are noisy copies of; 0: every token is its own.
    pub centres: usize,
    /// The share of a document's tokens that are near-copies of a few backgrounds.
    pub blank: f64,
    pub queries: usize,
    pub query_tokens: usize,
    pub seed: u64,
}

impl Shape {
    /// `documents` of `tokens` tokens without blank paper, 128-d, 60 queries of 20 tokens.
    pub fn new(name: &str, documents: usize, tokens: usize) -> Self {
        Self {
            name: name.to_owned(),
            documents,
            tokens: (tokens, tokens),
            dim: 128,
            centres: 4096,
            blank: 0.0,
            queries: 60,
            query_tokens: 20,
            seed: 1,
        }
    }
}

impl FromStr for Shape {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("{text:?} is not NAME:DOCUMENTSxTOKENS or NAME:DOCUMENTSxLEAST-MOST, say notes:5000x100");
        let (name, sizes) = text.split_once(':').ok_or_else(wrong)?;
        let (documents, tokens) = sizes.split_once('x').ok_or_else(wrong)?;
        let (least, most) = tokens.split_once('-').unwrap_or((tokens, tokens));
        let number = |text: &str| text.parse::<usize>().ok().filter(|number| *number > 0).ok_or_else(wrong);
        let (least, most) = (number(least)?, number(most)?);
        if least > most {
            return Err(wrong());
        }
        Ok(Self { tokens: (least, most), ..Self::new(name, number(documents)?, most) })
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { name, documents, tokens: (least, most), dim, centres, blank, queries, query_tokens, seed } = self;
        let tokens = if least == most { least.to_string() } else { format!("{least}-{most}") };
        write!(f, "{name}: {documents} documents x {tokens} tokens x {dim}, {centres} centres, {blank} blank, ")?;
        write!(f, "{queries} queries x {query_tokens} tokens, seed {seed}")
    }
}

/// Topics that documents of one family share, and that each document has of these and of its own.
const FAMILY_TOPICS: usize = 60;
const TOPICS: usize = 20;
/// Documents per family.
const FAMILY: usize = 20;
/// Backgrounds that blank paper shows.
const BACKGROUNDS: usize = 8;

/// What random numbers are for: each part of a collection has its own.
#[derive(Clone, Copy)]
enum Part {
    Whole,
    Family,
    Document,
    Query,
}

/// A collection, as far as its documents have in common.
pub struct Collection {
    pub shape: Shape,
    centres: Vec<Vec<f32>>,
    paper: Vec<Vec<f32>>,
    /// Popularity of the centres, summed up.
    popularity: Vec<f64>,
    /// The deviation of a token's values from its centre's.
    noise: f32,
}

impl Collection {
    /// The collection of that shape.
    pub fn new(shape: Shape) -> Self {
        let mut random = Random::of(shape.seed, Part::Whole, 0);
        let dim = shape.dim;
        let mut popular = 0.0;
        // Few meanings are common, most are rare (Zipf, 1949).
        let popularity = (0..shape.centres).map(|rank| {
            popular += 1.0 / (rank as f64 + 50.0);
            popular
        });
        Self {
            popularity: popularity.collect(),
            centres: (0..shape.centres).map(|_| random.direction(dim)).collect(),
            paper: (0..BACKGROUNDS).map(|_| random.direction(dim)).collect(),
            noise: 1.0 / (dim as f32).sqrt(),
            shape,
        }
    }

    /// The vectors of a document, `tokens x dim`.
    pub fn document(&self, number: usize) -> Vec<f16> {
        let Shape { dim, seed, tokens: (least, most), .. } = self.shape;
        let mut random = Random::of(seed, Part::Document, number);
        let tokens = least + random.below(most - least + 1);
        let content = self.content(tokens);
        let topics = self.topics(number, &mut random);
        let mut values = Vec::with_capacity(tokens * dim);
        for token in 0..tokens {
            let vector = if token >= content {
                let background = random.below(BACKGROUNDS);
                random.near(&self.paper[background], 0.1 * self.noise)
            } else if self.centres.is_empty() {
                random.direction(dim)
            } else {
                let topic = topics[random.below(topics.len())];
                random.near(&self.centres[topic], self.noise)
            };
            values.extend(vector.into_iter().map(f16::from_f32));
        }
        values
    }

    /// All queries, `query tokens x dim` each: noisy copies of tokens of one document.
    pub fn queries(&self) -> Vec<Vec<f32>> {
        let Shape { dim, documents, query_tokens, seed, .. } = self.shape;
        let query = |number| {
            let mut random = Random::of(seed, Part::Query, number);
            let document = self.document(random.below(documents));
            let content = self.content(document.len() / dim).max(1);
            let tokens = (0..query_tokens).flat_map(|_| {
                let at = random.below(content) * dim;
                let token: Vec<f32> = document[at..at + dim].iter().map(|value| value.to_f32()).collect();
                random.near(&token, self.noise)
            });
            tokens.collect()
        };
        (0..self.shape.queries).map(query).collect()
    }

    /// Tokens that are not blank, of so many.
    fn content(&self, tokens: usize) -> usize {
        tokens - (self.shape.blank * tokens as f64) as usize
    }

    /// Some topics of the document's family, and some of its own.
    fn topics(&self, document: usize, random: &mut Random) -> Vec<usize> {
        let number = document % self.shape.documents.div_ceil(FAMILY);
        let mut family = Random::of(self.shape.seed, Part::Family, number);
        let family: Vec<usize> = (0..FAMILY_TOPICS).map(|_| self.topic(&mut family)).collect();
        let mut topics: Vec<usize> = (0..TOPICS).map(|_| family[random.below(FAMILY_TOPICS)]).collect();
        topics.extend((0..TOPICS).map(|_| self.topic(random)));
        topics
    }

    /// A topic by its popularity.
    fn topic(&self, random: &mut Random) -> usize {
        let Some(all) = self.popularity.last() else { return 0 };
        let at = random.uniform() * all;
        self.popularity.partition_point(|sum| *sum < at).min(self.popularity.len() - 1)
    }
}

/// SplitMix64 (Steele et al., 2014).
struct Random(u64);

impl Random {
    /// Numbers that no other part of the collection gets.
    fn of(seed: u64, part: Part, number: usize) -> Self {
        [seed, part as u64, number as u64].into_iter().fold(Self(0), |random, next| Self(Self(random.0 ^ next).bits()))
    }

    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    fn uniform(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.uniform() * limit as f64) as usize
    }

    /// Two normal values (Box & Muller, 1958).
    fn normals(&mut self) -> [f32; 2] {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        let (sine, cosine) = (std::f64::consts::TAU * self.uniform()).sin_cos();
        [(radius * cosine) as f32, (radius * sine) as f32]
    }

    /// `centre` with normal noise of deviation `noise` per value, at the length of 1.
    fn near(&mut self, centre: &[f32], noise: f32) -> Vec<f32> {
        let mut values: Vec<f32> = centre.to_vec();
        for pair in values.chunks_mut(2) {
            pair.iter_mut().zip(self.normals()).for_each(|(value, normal)| *value += noise * normal);
        }
        let length = values.iter().map(|value| value * value).sum::<f32>().sqrt();
        values.iter_mut().for_each(|value| *value /= length);
        values
    }

    fn direction(&mut self, dim: usize) -> Vec<f32> {
        self.near(&vec![0.0; dim], 1.0)
    }
}
