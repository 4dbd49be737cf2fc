//! The pieces of words that queries are made of, and the tokenizer that cuts them.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value, json};
use unicode_normalization::UnicodeNormalization;

/// Letters of a piece.
const LONGEST: usize = 3;
/// Tokens with a meaning of their own, at the end of the vocabulary: those that prompts need.
const SPECIAL: [&str; 7] = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
];
/// Characters that a word is made of.
const ALPHABET: &str = "abcdefghijklmnopqrstuvwxyz0123456789";
/// Stands for what has no piece.
const UNKNOWN: &str = "[UNK]";
/// Marks a piece that goes on within a word.
const WITHIN: &str = "##";

/// The vocabulary: pieces in the order of their ids.
pub struct Pieces {
    names: Vec<String>,
    ids: HashMap<String, u32>,
}

/// Runs of letters and digits of a printed word in lower case, with the characters before each: accents are dropped.
pub fn runs(text: &str) -> Vec<(usize, String)> {
    let mut runs: Vec<(usize, String)> = Vec::new();
    let mut open = false;
    for (at, letter) in text.chars().enumerate() {
        match plain(letter) {
            Some(letter) if open => {
                if let Some((_, run)) = runs.last_mut() {
                    run.push(letter);
                }
            }
            Some(letter) => runs.push((at, letter.to_string())),
            None => {}
        }
        open = plain(letter).is_some();
    }
    runs
}

fn plain(letter: char) -> Option<char> {
    let letter = letter.nfkd().next()?.to_lowercase().next()?;
    ALPHABET.contains(letter).then_some(letter)
}

impl Pieces {
    /// The most frequent pieces of up to three letters, first and further ones of a word apart, `size` in all with special
    /// tokens; single letters are always among them.
    pub fn count<'w>(words: impl Iterator<Item = &'w str>, size: usize) -> Self {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for word in words {
            for (_, run) in runs(word) {
                let letters: Vec<char> = run.chars().collect();
                for (at, piece) in letters.chunks(LONGEST).enumerate() {
                    for length in 2..=piece.len() {
                        let text: String = piece[..length].iter().collect();
                        *counts.entry(if at == 0 { text } else { format!("{WITHIN}{text}") }).or_default() += 1;
                    }
                }
            }
        }
        let mut names: Vec<String> = vec![UNKNOWN.to_owned()];
        names.extend(ALPHABET.chars().flat_map(|letter| [letter.to_string(), format!("{WITHIN}{letter}")]));
        let mut frequent: Vec<(String, usize)> = counts.into_iter().collect();
        frequent.sort_by(|one, two| two.1.cmp(&one.1).then_with(|| one.0.cmp(&two.0)));
        let room = size.saturating_sub(names.len() + SPECIAL.len());
        names.extend(frequent.into_iter().take(room).map(|(piece, _)| piece));
        names.extend(SPECIAL.map(str::to_owned));
        Self::new(names)
    }

    fn new(names: Vec<String>) -> Self {
        let ids = names.iter().enumerate().map(|(id, name)| (name.clone(), id as u32)).collect();
        Self { names, ids }
    }

    /// The vocabulary of a tokenizer that [`Pieces::tokenizer`] made.
    pub fn of_tokenizer(tokenizer: &Value) -> Option<Self> {
        let vocabulary = tokenizer["model"]["vocab"].as_object()?;
        let special = tokenizer["added_tokens"].as_array()?.iter();
        let mut names = vec![String::new(); vocabulary.len()];
        let pairs = vocabulary.iter().map(|(name, id)| (name.as_str(), id));
        for (name, id) in pairs.chain(special.filter_map(|token| Some((token["content"].as_str()?, &token["id"])))) {
            let id = id.as_u64()? as usize;
            names.resize(names.len().max(id + 1), String::new());
            names[id] = name.to_owned();
        }
        Some(Self::new(names))
    }

    pub fn len(&self) -> usize {
        self.names.len()
    }

    pub fn id(&self, name: &str) -> Option<u32> {
        self.ids.get(name).copied()
    }

    /// The longest pieces from the left, as the tokenizer cuts a run of letters and digits.
    pub fn cut(&self, run: &str) -> Vec<u32> {
        let letters: Vec<char> = run.chars().collect();
        let (mut ids, mut at) = (Vec::new(), 0);
        while at < letters.len() {
            let longest = (1..=LONGEST.min(letters.len() - at)).rev().find_map(|length| {
                let text: String = letters[at..at + length].iter().collect();
                let name = if at == 0 { text } else { format!("{WITHIN}{text}") };
                self.id(&name).map(|id| (id, length))
            });
            let Some((id, length)) = longest else { return vec![0] };
            ids.push(id);
            at += length;
        }
        ids
    }

    /// Features of each piece: which letter stands where, at the start of a word or within, and how many letters there are.
    /// Rows of [`Pieces::features`] numbers, 0 or 1; none for special tokens.
    pub fn composition(&self) -> Vec<f32> {
        let width = Self::features();
        let mut rows = vec![0.0; self.names.len() * width];
        for (name, row) in self.names.iter().zip(rows.chunks_exact_mut(width)) {
            let (within, letters) = name.strip_prefix(WITHIN).map_or((0, name.as_str()), |rest| (1, rest));
            if letters.is_empty() || !letters.chars().all(|letter| ALPHABET.contains(letter)) {
                continue;
            }
            for (slot, letter) in letters.chars().enumerate() {
                let place = ALPHABET.find(letter).unwrap_or_default();
                row[(place * LONGEST + slot) * 2 + within] = 1.0;
            }
            row[ALPHABET.len() * LONGEST * 2 + (letters.len() - 1) * 2 + within] = 1.0;
        }
        rows
    }

    /// How many features a piece may have.
    pub fn features() -> usize {
        (ALPHABET.len() + 1) * LONGEST * 2
    }

    /// `tokenizer.json`.
    pub fn tokenizer(&self) -> Value {
        let (words, special) = self.names.split_at(self.names.len() - SPECIAL.len());
        let vocabulary: serde_json::Map<String, Value> =
            words.iter().enumerate().map(|(id, name)| (name.clone(), json!(id))).collect();
        let token = |(at, name): (usize, &String)| {
            json!({"id": words.len() + at, "content": name, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true})
        };
        json!({
            "version": "1.0", "truncation": null, "padding": null,
            "added_tokens": special.iter().enumerate().map(token).collect::<Vec<_>>(),
            "normalizer": {"type": "Sequence", "normalizers": [
                {"type": "NFKD"}, {"type": "StripAccents"}, {"type": "Lowercase"},
                {"type": "Replace", "pattern": {"Regex": "[^a-z0-9]+"}, "content": " "}]},
            "pre_tokenizer": {"type": "WhitespaceSplit"},
            "post_processor": null,
            "decoder": {"type": "WordPiece", "prefix": WITHIN, "cleanup": false},
            "model": {"type": "WordPiece", "unk_token": UNKNOWN, "continuing_subword_prefix": WITHIN,
                "max_input_chars_per_word": 1000, "vocab": vocabulary},
        })
    }
}
