//! The codebook that new segments of each field are written with.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tantivy::schema::Field;

use super::{Codebook, OUTGROWN};

/// Shared by all writer threads and merges of an index: segments that are flushed in parallel before the first commit
/// use one codebook, and merging them copies codes.
#[derive(Default, Debug)]
pub(crate) struct CurrentCodebooks {
    fields: Mutex<HashMap<Field, Arc<Mutex<State>>>>,
}

#[derive(Default, Debug)]
struct State {
    current: Option<Arc<Codebook>>,
    /// Whether the next large segment is to train a new one.
    retrain: bool,
}

impl CurrentCodebooks {
    fn state(&self, field: Field) -> Arc<Mutex<State>> {
        self.fields.lock().unwrap_or_else(PoisonError::into_inner).entry(field).or_default().clone()
    }

    /// Makes the newest of the codebooks offered the current one.
    pub fn seed(&self, field: Field, codebook: &Arc<Codebook>) {
        let state = self.state(field);
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.current.as_ref().is_none_or(|current| current.created < codebook.created) {
            state.current = Some(codebook.clone());
        }
    }

    /// Lets the next large segment train a new codebook.
    pub fn retrain(&self, field: Field) {
        self.state(field).lock().unwrap_or_else(PoisonError::into_inner).retrain = true;
    }

    /// Whether [`retrain`](Self::retrain) was asked for and has not happened.
    pub fn retrains(&self, field: Field) -> bool {
        self.state(field).lock().unwrap_or_else(PoisonError::into_inner).retrain
    }

    /// The current codebook if it fits `tokens` tokens, else one that `train` makes, which others then use too: whoever
    /// asks meanwhile waits for it.
    pub fn for_tokens<E>(
        &self,
        field: Field,
        tokens: u64,
        train: impl FnOnce() -> Result<Codebook, E>,
    ) -> Result<Arc<Codebook>, E> {
        let state = self.state(field);
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |codebook: &&Arc<Codebook>| tokens / OUTGROWN < codebook.trained_tokens;
        if let (Some(current), false) = (state.current.as_ref().filter(fits), state.retrain) {
            return Ok(current.clone());
        }
        let codebook = Arc::new(train()?);
        *state = State { current: Some(codebook.clone()), retrain: false };
        Ok(codebook)
    }
}
