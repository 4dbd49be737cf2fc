//! By how much tokens are pooled, and how the content hash of a page says it.

use std::fmt;
use std::num::NonZeroU16;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What stands between the hash of a file and the factor in the content hash of a pooled page.
const MARK: &[u8; 8] = b"+pooled:";

/// About how many tokens of a page become one: a whole number from 1, which stands for no pooling.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PoolFactor(NonZeroU16);

/// A number or text that is no factor.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a pool factor is a whole number from 1 (no pooling) to 65535, received {received:?}")]
pub struct PoolFactorError {
    received: String,
}

impl PoolFactor {
    /// No pooling.
    pub const NONE: Self = Self(NonZeroU16::MIN);

    /// A factor.
    ///
    /// # Errors
    /// Zero.
    pub fn new(factor: u16) -> Result<Self, PoolFactorError> {
        NonZeroU16::new(factor).map(Self).ok_or_else(|| PoolFactorError { received: factor.to_string() })
    }

    /// The number.
    pub fn get(self) -> u16 {
        self.0.get()
    }

    /// Whether pages stay as they are.
    pub fn is_none(self) -> bool {
        self == Self::NONE
    }

    /// The content hash of pages that are made from content of this hash and pooled by this factor: what was encoded is
    /// the same, what is stored is not. Factor 1 leaves the hash as it is.
    pub fn content_hash(self, hash: &[u8]) -> Vec<u8> {
        let mut marked = hash.to_vec();
        if !self.is_none() {
            marked.extend_from_slice(MARK);
            marked.extend_from_slice(&self.get().to_le_bytes());
        }
        marked
    }

    /// The factor that [`PoolFactor::content_hash`] put into a content hash; 1 for any other hash.
    pub fn of_content_hash(hash: &[u8]) -> Self {
        let Some((rest, factor)) = hash.split_last_chunk::<2>() else { return Self::NONE };
        let factor = NonZeroU16::new(u16::from_le_bytes(*factor));
        factor.filter(|_| rest.ends_with(MARK)).map_or(Self::NONE, Self)
    }
}

impl Default for PoolFactor {
    fn default() -> Self {
        Self::NONE
    }
}

impl fmt::Display for PoolFactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for PoolFactor {
    type Err = PoolFactorError;

    fn from_str(text: &str) -> Result<Self, PoolFactorError> {
        text.trim().parse().map(Self).map_err(|_| PoolFactorError { received: text.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_are_whole_numbers_from_1() {
        assert_eq!("3".parse::<PoolFactor>().unwrap().get(), 3);
        assert_eq!(PoolFactor::default().to_string(), "1");
        for bad in ["0", "-1", "1.5", "", "65536", "two"] {
            let error = bad.parse::<PoolFactor>().unwrap_err().to_string();
            assert!(error.contains("from 1") && error.contains(&format!("{bad:?}")), "{error}");
        }
        assert!(PoolFactor::new(0).unwrap_err().to_string().contains("\"0\""));
    }

    #[test]
    fn a_content_hash_tells_the_factor() {
        let hash = [7u8; 32];
        assert_eq!(PoolFactor::NONE.content_hash(&hash), hash);
        for factor in [2, 300, u16::MAX].map(|factor| PoolFactor::new(factor).unwrap()) {
            assert_eq!(PoolFactor::of_content_hash(&factor.content_hash(&hash)), factor);
        }
        let zero = [&hash[..], MARK, &[0, 0]].concat();
        for other in [&[][..], &[3], &hash, &hash[..2], MARK, &zero] {
            assert_eq!(PoolFactor::of_content_hash(other), PoolFactor::NONE);
        }
    }
}
