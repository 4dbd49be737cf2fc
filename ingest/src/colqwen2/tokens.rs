//! Token ids of pages and queries, and the positions that the language model gives them.

use std::path::PathBuf;

use colqwen_index_field::MAX_QUERY_TOKENS;
use tokenizers::Tokenizer;

use super::folder::Folder;
use super::preprocess::Grid;
use super::query_format::QueryFormat;
use crate::encoder::EncoderError;

/// What a page looks like to the language model; the image token stands for all visual tokens.
const PAGE_PROMPT: &str =
    "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>Describe the image.<|im_end|><|endoftext|>";
const IMAGE: &str = "<|image_pad|>";
/// Pads batches and augments queries: only the mask tells the two apart.
const PADDING: &str = "<|endoftext|>";
const NEEDED: [&str; 6] = [IMAGE, PADDING, "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"];

/// The tokenizer, with what the prompts need of it.
pub(crate) struct Tokens {
    tokenizer: Tokenizer,
    path: PathBuf,
    before_image: Vec<u32>,
    after_image: Vec<u32>,
    image: u32,
    padding: u32,
}

impl Tokens {
    /// Reads `tokenizer.json` of the first folder that has one, and returns its bytes for the fingerprint.
    /// `image_token_id` is what `config.json` states.
    pub(crate) fn read(folders: &[&Folder], image_token_id: Option<u32>) -> Result<(Self, Vec<u8>), EncoderError> {
        const FILE: &str = "tokenizer.json";
        let folder = folders.iter().find(|folder| folder.has(FILE)).or(folders.first());
        let folder = folder.ok_or(EncoderError::FileMissing { dir: PathBuf::new(), expected: FILE.to_owned() })?;
        let (path, bytes) = (folder.path(FILE), folder.read(FILE)?.into_owned());
        Ok((Self::from_bytes(path, &bytes, image_token_id)?, bytes))
    }

    fn from_bytes(path: PathBuf, bytes: &[u8], image_token_id: Option<u32>) -> Result<Self, EncoderError> {
        let refuse = |problem: String| EncoderError::Tokenizer { path: path.clone(), problem };
        let mut tokenizer = Tokenizer::from_bytes(bytes).map_err(|error| refuse(error.to_string()))?;
        // Left over from training, they would cut or fill what is encoded here.
        tokenizer.with_truncation(None).map_err(|error| refuse(error.to_string()))?;
        tokenizer.with_padding(None);
        for token in NEEDED {
            if tokenizer.token_to_id(token).is_none() {
                return Err(EncoderError::TokenMissing { path: path.clone(), token: token.to_owned() });
            }
        }
        let id = |token: &str| tokenizer.token_to_id(token).unwrap_or_default();
        let (image, padding) = (id(IMAGE), id(PADDING));
        if let Some(expected) = image_token_id.filter(|expected| *expected != image) {
            return Err(refuse(format!(
                "{IMAGE}: expected id {expected}, the image_token_id of config.json, received {image}"
            )));
        }
        let prompt = tokenizer.encode(PAGE_PROMPT, true).map_err(|error| refuse(error.to_string()))?;
        let mut parts = prompt.get_ids().split(|id| *id == image);
        let (Some(before), Some(after), None) = (parts.next(), parts.next(), parts.next()) else {
            return Err(refuse(format!("{IMAGE} is not one token of the page prompt (is it an added token?)")));
        };
        let (before_image, after_image) = (before.to_vec(), after.to_vec());
        Ok(Self { tokenizer, path, before_image, after_image, image, padding })
    }

    /// The id that stands for one merged patch.
    pub(crate) fn image(&self) -> u32 {
        self.image
    }

    /// The id that fills up shorter sequences.
    pub(crate) fn padding(&self) -> u32 {
        self.padding
    }

    /// Index of the first image token of a page.
    pub(crate) fn first_patch(&self) -> usize {
        self.before_image.len()
    }

    /// The ids of a page of `visual_tokens` merged patches.
    pub(crate) fn page(&self, visual_tokens: usize) -> Vec<u32> {
        let image = std::iter::repeat_n(&self.image, visual_tokens);
        self.before_image.iter().chain(image).chain(&self.after_image).copied().collect()
    }

    /// The ids of a tile of `visual_tokens` merged patches: a page's, up to the last of them. What follows them changes nothing
    /// before it.
    pub(crate) fn tile(&self, visual_tokens: usize) -> Vec<u32> {
        [self.before_image.clone(), vec![self.image; visual_tokens]].concat()
    }

    /// The ids of a query.
    pub(crate) fn query(&self, text: &str, format: QueryFormat) -> Result<Vec<u32>, EncoderError> {
        let encoding = self.tokenizer.encode(format.apply(text, PADDING), true).map_err(|error| {
            EncoderError::Tokenizer { path: self.path.clone(), problem: format!("query {text:?}: {error}") }
        })?;
        let ids = encoding.get_ids();
        // The model would take long over vectors that no search takes.
        if ids.len() > MAX_QUERY_TOKENS {
            let beginning: String = text.chars().take(40).collect();
            return Err(EncoderError::Input {
                what: "query tokens",
                expected: format!("at most {MAX_QUERY_TOKENS}"),
                received: format!("{} for the query that begins with {beginning:?}", ids.len()),
            });
        }
        // Nothing that the tokenizer knows: a query still needs a token.
        Ok(if ids.is_empty() { vec![self.padding] } else { ids.to_vec() })
    }
}

/// Time, height and width of every token. Text counts up; the merged patches of an image that starts at `s` stand at
/// `s`, `s + row`, `s + column`, and the next text at `s` plus the longer side. `grids` are merged, one per image in
/// `ids`; without any, image tokens are text.
///
/// # Errors
/// The runs of image tokens do not fit the grids.
pub fn positions(ids: &[u32], image_token: u32, grids: &[Grid]) -> Result<Vec<[u32; 3]>, EncoderError> {
    let mut positions = Vec::with_capacity(ids.len());
    let mut next = 0u32;
    let mut left = grids.iter();
    while positions.len() < ids.len() {
        let at = positions.len();
        if grids.is_empty() || ids[at] != image_token {
            positions.push([next; 3]);
            next += 1;
            continue;
        }
        let run = ids[at..].iter().take_while(|id| **id == image_token).count();
        let grid = left.next().filter(|grid| grid.patches() <= run).ok_or_else(|| EncoderError::Input {
            what: "image tokens",
            expected: format!("as many as the {} merged grids have patches", grids.len()),
            received: format!("a run of {run} from token {at} on"),
        })?;
        for row in 0..grid.rows as u32 {
            positions.extend((0..grid.columns as u32).map(|column| [next, next + row, next + column]));
        }
        next += grid.rows.max(grid.columns) as u32;
    }
    match left.next() {
        Some(grid) => Err(EncoderError::Input {
            what: "image tokens",
            expected: format!("{} for a last grid of {} x {}", grid.patches(), grid.rows, grid.columns),
            received: "none".to_owned(),
        }),
        None => Ok(positions),
    }
}

/// Sequences brought to one length by padding on the left, as other implementations take them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeftPadded {
    /// Ids, each row of the same length.
    pub ids: Vec<Vec<u32>>,
    /// Whether an id is a token of the sequence rather than padding.
    pub mask: Vec<Vec<bool>>,
}

impl LeftPadded {
    /// Pads `sequences` with `padding`.
    pub fn new(sequences: &[Vec<u32>], padding: u32) -> Self {
        let longest = sequences.iter().map(Vec::len).max().unwrap_or(0);
        let fill = |sequence: &Vec<u32>| longest - sequence.len();
        Self {
            ids: sequences.iter().map(|ids| [vec![padding; fill(ids)], ids.clone()].concat()).collect(),
            mask: sequences.iter().map(|ids| [vec![false; fill(ids)], vec![true; ids.len()]].concat()).collect(),
        }
    }

    /// The sequences without their padding.
    pub fn sequences(&self) -> Vec<Vec<u32>> {
        let unpadded = |(ids, mask): (&Vec<u32>, &Vec<bool>)| {
            ids.iter().zip(mask).filter(|(_, kept)| **kept).map(|(id, _)| *id).collect()
        };
        self.ids.iter().zip(&self.mask).map(unpadded).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_takes_the_longer_side_of_its_grid() {
        let ids = [1, 2, 9, 9, 9, 9, 9, 9, 3];
        let found = positions(&ids, 9, &[Grid { rows: 3, columns: 2 }]).unwrap();
        let expected = [[0; 3], [1; 3], [2, 2, 2], [2, 2, 3], [2, 3, 2], [2, 3, 3], [2, 4, 2], [2, 4, 3], [5; 3]];
        assert_eq!(found, expected);
        assert!(positions(&ids, 9, &[Grid { rows: 3, columns: 3 }]).is_err());
        assert!(positions(&ids[..2], 9, &[Grid { rows: 3, columns: 2 }]).is_err());
        assert_eq!(positions(&ids[..4], 9, &[]).unwrap(), [[0; 3], [1; 3], [2; 3], [3; 3]]);
    }

    #[test]
    fn a_query_of_too_many_tokens_is_refused_before_the_model_sees_it() {
        let model = super::super::tiny::tiny();
        assert!(model.query_input(&[&"a ".repeat(200)]).is_ok());
        let error = model.query_input(&["short", &"a ".repeat(9000)]).unwrap_err().to_string();
        assert!(error.contains("query tokens: expected at most 4096") && error.contains("\"a a a a"), "{error}");
    }

    #[test]
    fn padding_goes_left_and_comes_off_again() {
        let sequences = vec![vec![1, 0, 2], vec![0]];
        let padded = LeftPadded::new(&sequences, 0);
        assert_eq!(padded.ids, [[1, 0, 2], [0, 0, 0]]);
        assert_eq!(padded.mask, [[true; 3], [false, false, true]]);
        assert_eq!(padded.sequences(), sequences);
    }
}
