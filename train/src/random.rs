//! Random numbers that depend on a key alone, never on what was drawn before.
//!
//! A run that is resumed, a mini-batch that is encoded twice, and the same row on another device draw the same numbers.
//! They are the output of BLAKE3 as an extendable function over seed and key.

use std::fmt;

/// What random numbers are for, so that two uses of one seed have nothing in common.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Purpose {
    /// Values of new weights.
    Weights,
    /// Activations that are dropped.
    Dropout,
    /// The order of an epoch.
    Order,
    /// Which of several positives a query gets, and which of its mined negatives.
    Choice,
    /// Which stored pages join a batch as negatives.
    Constant,
    /// Resampling for confidence intervals.
    Bootstrap,
}

impl Purpose {
    fn name(self) -> &'static [u8] {
        match self {
            Self::Weights => b"weights",
            Self::Dropout => b"dropout",
            Self::Order => b"order",
            Self::Choice => b"choice",
            Self::Constant => b"constant",
            Self::Bootstrap => b"bootstrap",
        }
    }
}

/// A stream of random numbers.
pub struct Stream(blake3::OutputReader);

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Stream").field(&self.0.position()).finish()
    }
}

impl Stream {
    /// The stream of `seed` for one purpose and key, such as step, layer and row.
    pub fn new(seed: u64, purpose: Purpose, key: &[u64]) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("colqwen-index train random numbers 1");
        hasher.update(&seed.to_le_bytes()).update(&[purpose.name().len() as u8]).update(purpose.name());
        key.iter().for_each(|part| {
            hasher.update(&part.to_le_bytes());
        });
        Self(hasher.finalize_xof())
    }

    /// Fills `bytes`.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        self.0.fill(bytes);
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// A number from 0 up to, not including, 1.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A number below `limit`, all equally likely; 0 for a limit of 0.
    pub fn below(&mut self, limit: usize) -> usize {
        let limit = limit.max(1) as u64;
        // The last, incomplete round of numbers would favour the small ones.
        let rounds = u64::MAX - u64::MAX % limit;
        loop {
            let bits = self.bits();
            if bits < rounds {
                return (bits % limit) as usize;
            }
        }
    }

    /// A number of the standard normal distribution (Box & Muller 1958).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// Puts `items` into a random order (Fisher & Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, self.below(at + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_depend_on_every_part_of_their_key() {
        let first = |seed, purpose, key: &[u64]| Stream::new(seed, purpose, key).bits();
        let base = first(1, Purpose::Dropout, &[2, 3]);
        assert_eq!(base, first(1, Purpose::Dropout, &[2, 3]));
        let others = [
            first(2, Purpose::Dropout, &[2, 3]),
            first(1, Purpose::Order, &[2, 3]),
            first(1, Purpose::Dropout, &[3, 2]),
            first(1, Purpose::Dropout, &[2]),
            first(1, Purpose::Dropout, &[2, 3, 0]),
        ];
        assert!(others.iter().all(|other| *other != base));
        // Frozen: training states of released versions are resumed with these numbers.
        assert_eq!(base, 6_364_671_968_439_114_654);
    }

    #[test]
    fn numbers_are_spread_as_they_should_be() {
        let mut stream = Stream::new(7, Purpose::Choice, &[]);
        let mut counts = [0; 7];
        (0..7000).for_each(|_| counts[stream.below(7)] += 1);
        assert!(counts.iter().all(|count| (850..1150).contains(count)), "{counts:?}");
        assert_eq!((stream.below(1), stream.below(0)), (0, 0));
        let normals: Vec<f64> = (0..10_000).map(|_| stream.normal()).collect();
        let mean = normals.iter().sum::<f64>() / 1e4;
        let variance = normals.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / 1e4;
        assert!(mean.abs() < 0.04 && (variance - 1.0).abs() < 0.06, "{mean} {variance}");
        let mut order: Vec<usize> = (0..50).collect();
        stream.shuffle(&mut order);
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert!(order != sorted && sorted == (0..50).collect::<Vec<_>>());
    }
}
