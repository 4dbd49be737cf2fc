//! Data with the shape of real collections, the same in every run: documents share topics, words repeat, paper is blank.

use half::f16;

/// What a collection looks like.
#[derive(Clone, Debug)]
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

/// A collection in memory.
pub struct Collection {
    pub shape: Shape,
    /// `tokens x dim` each.
    pub documents: Vec<Vec<f16>>,
    /// `query tokens x dim` each.
    pub queries: Vec<Vec<f32>>,
}

/// Topics that documents of one family share, and that each document has of these and of its own.
const FAMILY_TOPICS: usize = 60;
const TOPICS: usize = 20;
/// Documents per family.
const FAMILY: usize = 20;
/// Backgrounds that blank paper shows.
const BACKGROUNDS: usize = 8;

impl Collection {
    /// Makes the collection.
    pub fn new(shape: Shape) -> Self {
        let mut random = Random(shape.seed);
        let dim = shape.dim;
        let noise = 1.0 / (dim as f32).sqrt();
        let centres: Vec<Vec<f32>> = (0..shape.centres).map(|_| random.direction(dim)).collect();
        let paper: Vec<Vec<f32>> = (0..BACKGROUNDS).map(|_| random.direction(dim)).collect();
        // Few meanings are common, most are rare (Zipf, 1949).
        let mut popular = 0.0;
        let cumulated: Vec<f64> = (0..shape.centres)
            .map(|rank| {
                popular += 1.0 / (rank as f64 + 50.0);
                popular
            })
            .collect();
        let topic = |random: &mut Random| {
            let at = random.uniform() * popular;
            cumulated.partition_point(|sum| *sum < at).min(shape.centres.saturating_sub(1))
        };
        let families: Vec<Vec<usize>> = (0..shape.documents.div_ceil(FAMILY))
            .map(|_| (0..FAMILY_TOPICS).map(|_| topic(&mut random)).collect())
            .collect();
        let mut contents = Vec::with_capacity(shape.documents);
        let documents: Vec<Vec<f16>> = (0..shape.documents)
            .map(|document| {
                let family = &families[document % families.len()];
                let mut topics: Vec<usize> = (0..TOPICS).map(|_| family[random.below(FAMILY_TOPICS)]).collect();
                topics.extend((0..TOPICS).map(|_| topic(&mut random)));
                let (least, most) = shape.tokens;
                let tokens = least + random.below(most - least + 1);
                let content = tokens - (shape.blank * tokens as f64) as usize;
                contents.push(content);
                let mut values = Vec::with_capacity(tokens * dim);
                for token in 0..tokens {
                    let vector = if token >= content {
                        let background = random.below(BACKGROUNDS);
                        random.near(&paper[background], 0.1 * noise)
                    } else if shape.centres == 0 {
                        random.direction(dim)
                    } else {
                        let topic = topics[random.below(topics.len())];
                        random.near(&centres[topic], noise)
                    };
                    values.extend(vector.into_iter().map(f16::from_f32));
                }
                values
            })
            .collect();
        let queries = (0..shape.queries)
            .map(|_| {
                let document = random.below(shape.documents);
                let tokens = (0..shape.query_tokens).flat_map(|_| {
                    let at = random.below(contents[document].max(1)) * dim;
                    let token: Vec<f32> =
                        documents[document][at..at + dim].iter().map(|value| value.to_f32()).collect();
                    random.near(&token, noise)
                });
                tokens.collect()
            })
            .collect();
        Self { shape, documents, queries }
    }

    /// Tokens of all documents.
    pub fn tokens(&self) -> usize {
        self.documents.iter().map(|document| document.len() / self.shape.dim).sum()
    }
}

/// SplitMix64 (Steele et al., 2014).
struct Random(u64);

impl Random {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) >> 11) as f64 / (1u64 << 53) as f64
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
