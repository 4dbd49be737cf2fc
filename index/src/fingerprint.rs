//! Which model made a set of vectors.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Error;

/// The identity of a model, 32 bytes: a BLAKE3 hash over its configuration, processor, tokenizer, query format and
/// weight files. Vectors of two models must never be compared, and the fingerprint is what keeps them apart.
///
/// Shown and parsed as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// A fingerprint from its 32 bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The fingerprint of named parts. Each part enters with its name and length, so that moving a byte from one
    /// part to the next gives another fingerprint.
    pub fn of_parts<'a>(parts: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Self {
        let mut hasher = blake3::Hasher::new();
        for (name, bytes) in parts {
            hasher.update(&(name.len() as u64).to_le_bytes());
            hasher.update(name.as_bytes());
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        }
        Self(*hasher.finalize().as_bytes())
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first eight hexadecimal digits, for tables and log lines.
    pub fn short(&self) -> String {
        self.to_string()[..8].to_owned()
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

impl FromStr for Fingerprint {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let malformed = || Error::FingerprintText { received: text.to_owned() };
        if text.len() != 64 || !text.is_ascii() {
            return Err(malformed());
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| malformed())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| malformed())?;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for Fingerprint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Fingerprint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The model that page vectors belong to, or that a query was encoded for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Origin {
    /// Nobody recorded the model: vectors from a foreign file. They can be compared with anything of their dimension.
    #[default]
    Unknown,
    /// The page fingerprint of the model.
    Model(Fingerprint),
}

impl Origin {
    /// Whether vectors of `self` and of `other` may be compared: equal fingerprints, or one of them unknown.
    pub fn agrees_with(self, other: Self) -> bool {
        match (self, other) {
            (Self::Model(one), Self::Model(two)) => one == two,
            _ => true,
        }
    }

    /// The fingerprint, where it is known.
    pub fn fingerprint(self) -> Option<Fingerprint> {
        match self {
            Self::Model(fingerprint) => Some(fingerprint),
            Self::Unknown => None,
        }
    }
}

impl From<Option<Fingerprint>> for Origin {
    fn from(fingerprint: Option<Fingerprint>) -> Self {
        fingerprint.map_or(Self::Unknown, Self::Model)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("unknown"),
            Self::Model(fingerprint) => fingerprint.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_round_trips_and_refuses_other_text() {
        let fingerprint = Fingerprint::of_parts([("config", b"{}".as_slice()), ("weights", b"abc")]);
        assert_eq!(fingerprint.to_string().parse::<Fingerprint>().unwrap(), fingerprint);
        assert!("abc".parse::<Fingerprint>().unwrap_err().to_string().contains("64 hexadecimal"));
        assert!("zz".repeat(32).parse::<Fingerprint>().is_err());
        assert!("é".repeat(32).parse::<Fingerprint>().is_err());
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        let one = Fingerprint::of_parts([("a", b"bc".as_slice()), ("d", b"")]);
        let two = Fingerprint::of_parts([("a", b"b".as_slice()), ("d", b"c")]);
        assert_ne!(one, two);
    }

    #[test]
    fn unknown_agrees_with_everything() {
        let one = Origin::Model(Fingerprint::from_bytes([1; 32]));
        let two = Origin::Model(Fingerprint::from_bytes([2; 32]));
        assert!(one.agrees_with(one) && one.agrees_with(Origin::Unknown) && Origin::Unknown.agrees_with(two));
        assert!(!one.agrees_with(two));
    }
}
