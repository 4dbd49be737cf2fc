//! The identity of a checkpoint: what its vectors depend on, and nothing that they do not.

use colqwen_index_field::Fingerprint;

use rayon::prelude::*;

use super::checkpoint::Checkpoint;
use super::query_format::QueryFormat;

/// The files that decide what a checkpoint's vectors are. Device, number type of the computation and the folder's path
/// are not among them.
pub(crate) struct Identity<'a> {
    pub(crate) config: &'a [u8],
    pub(crate) processor: &'a [u8],
    pub(crate) tokenizer: &'a [u8],
    pub(crate) query_format: QueryFormat,
    /// The adapter's settings; empty without one.
    pub(crate) adapter: &'a str,
    pub(crate) checkpoint: &'a Checkpoint,
}

impl Identity<'_> {
    /// Everything that decides about the hidden states except the weights.
    pub(crate) fn setup(&self) -> Fingerprint {
        Fingerprint::of_parts([
            ("architecture", b"colqwen2".as_slice()),
            ("config", self.config),
            ("processor", self.processor),
            ("tokenizer", self.tokenizer),
            ("query format", self.query_format.name().as_bytes()),
        ])
    }

    /// The page and the query fingerprint.
    pub(crate) fn fingerprints(&self) -> (Fingerprint, Fingerprint) {
        // Once over the weights, which are large; the two domains are drawn from its result.
        let digests: Vec<Vec<u8>> = self.checkpoint.files().iter().map(|file| digest(file)).collect();
        let weights = digests.iter().map(|digest| ("weights", digest.as_slice()));
        let files = Fingerprint::of_parts(
            [
                ("architecture", b"colqwen2".as_slice()),
                ("config", self.config),
                ("processor", self.processor),
                ("tokenizer", self.tokenizer),
                ("query format", self.query_format.name().as_bytes()),
                ("adapter", self.adapter.as_bytes()),
            ]
            .into_iter()
            .chain(weights),
        );
        let domain =
            |name: &str| Fingerprint::of_parts([("domain", name.as_bytes()), ("files", files.as_bytes().as_slice())]);
        (domain("page"), domain("query"))
    }
}

/// Bytes hashed by one task.
const PIECE: usize = 64 << 20;

/// The hashes of a file's pieces, taken on all cores.
pub(crate) fn digest(bytes: &[u8]) -> Vec<u8> {
    bytes.par_chunks(PIECE).flat_map_iter(|piece| *blake3::hash(piece).as_bytes()).collect()
}
