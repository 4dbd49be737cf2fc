//! Queries: which of them are the same, what reports call them, and which text a keyed hash stands for.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use serde::Deserialize;
use unicode_normalization::UnicodeNormalization;

use crate::Error;

/// The form in which two spellings of a query are the same: compatibility forms composed (NFKC), lower case, everything
/// that is neither letter nor digit one blank. Empty where nothing is left.
pub fn normalise(text: &str) -> String {
    // Lower case may take a text out of its normal form, so it is brought there again.
    let lower = text.nfkc().collect::<String>().to_lowercase();
    let mark = |c: char| unicode_normalization::char::is_combining_mark(c);
    let folded: String = lower.nfkc().map(|c| if c.is_alphanumeric() || mark(c) { c } else { ' ' }).collect();
    folded.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The key by which queries are named without saying them. Keep it with the index: whoever has it can try texts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Salt([u8; 32]);

impl std::fmt::Debug for Salt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Salt(..)")
    }
}

impl Salt {
    /// A salt of given bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// What a normalised query is called: 16 hexadecimal digits of its keyed BLAKE3 hash.
    pub fn name(&self, normalised: &str) -> String {
        blake3::keyed_hash(&self.0, normalised.as_bytes()).to_hex()[..16].to_owned()
    }
}

/// Texts of queries that were logged as keyed hashes.
#[derive(Clone, Debug, Default)]
pub struct Lookup(HashMap<String, String>);

#[derive(Deserialize)]
struct Entry {
    query_hmac: String,
    query: String,
}

impl Lookup {
    /// Reads JSON lines `{"query_hmac": .., "query": ..}`.
    ///
    /// # Errors
    /// The file cannot be read, a line is something else, or a hash has two texts. The message names the line.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let mut texts = HashMap::new();
        for (line, at) in BufReader::new(File::open(path).map_err(Error::io(path))?).lines().zip(1..) {
            let line = line.map_err(Error::io(path))?;
            if line.trim().is_empty() {
                continue;
            }
            let refuse =
                |problem: String| Error::Clicks { path: path.to_owned(), problem: format!("line {at}: {problem}") };
            let entry: Entry = serde_json::from_str(&line).map_err(|error| refuse(error.to_string()))?;
            let earlier = texts.insert(entry.query_hmac, entry.query.clone());
            if earlier.is_some_and(|earlier| normalise(&earlier) != normalise(&entry.query)) {
                return Err(refuse("this hash had another text before".to_owned()));
            }
        }
        Ok(Self(texts))
    }

    /// The text of a keyed hash.
    pub fn text(&self, hmac: &str) -> Option<&str> {
        self.0.get(hmac).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn spellings_of_one_query_are_the_same() {
        for spelling in ["oil filter", "  Oil-Filter?", "OIL\u{a0}FILTER", "oil... filter", "\u{ff4f}il ﬁlter"] {
            assert_eq!(normalise(spelling), "oil filter", "{spelling:?}");
        }
        assert_eq!(normalise("Größe e\u{301}"), "größe é");
        assert_eq!((normalise("?!"), normalise("हिन्दी")), (String::new(), "हिन्दी".to_owned()));
        assert_ne!(normalise("oil filter"), normalise("filter oil"));
    }

    proptest! {
        #[test]
        fn a_normal_form_is_its_own(text in "\\PC{0,40}") {
            let once = normalise(&text);
            prop_assert_eq!(normalise(&once), once.clone());
            prop_assert!(!once.contains("  ") && once.trim() == once);
        }
    }

    #[test]
    fn names_depend_on_the_salt() {
        let (one, other) = (Salt::new([1; 32]), Salt::new([2; 32]));
        assert_eq!((one.name("a"), one.name("a").len()), (one.name("a"), 16));
        assert!(one.name("a") != one.name("b") && one.name("a") != other.name("a"));
        assert_eq!(format!("{one:?}"), "Salt(..)");
    }

    #[test]
    fn a_lookup_table_is_read_or_refused_by_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lookup.jsonl");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            Lookup::read(&path)
        };
        let one = "{\"query_hmac\":\"aa\",\"query\":\"Oil filter\"}\n";
        let table = read(&format!("{one}\n{}", one.replace("Oil", "oil"))).unwrap();
        assert_eq!((table.text("aa"), table.text("bb")), (Some("oil filter"), None));
        assert!(read(&format!("{one}{}", one.replace("Oil", "Air"))).unwrap_err().to_string().contains("line 2"));
        assert!(read("{\"query\":\"a\"}").unwrap_err().to_string().contains("query_hmac"));
    }
}
