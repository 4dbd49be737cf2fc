//! The codebook that new segments of each field are written with.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use tantivy::schema::Field;

use super::train::{sampled_pages, train};
use super::{Codebook, OUTGROWN};
use crate::kernel::Depth;
use crate::options::LateField;

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

    /// The current codebook if it fits `tokens` tokens, else one trained on some of the `pages` pages that hold them, which
    /// `read` gives by number. Others then use it too: whoever asks meanwhile waits for it.
    pub fn for_pages<E>(
        &self,
        late: &LateField,
        depth: Depth,
        pages: usize,
        tokens: u64,
        read: impl FnMut(usize) -> Result<Vec<f32>, E>,
    ) -> Result<Arc<Codebook>, E> {
        let state = self.state(late.field);
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |codebook: &&Arc<Codebook>| tokens / OUTGROWN < codebook.trained_tokens;
        if let (Some(current), false) = (state.current.as_ref().filter(fits), state.retrain) {
            return Ok(current.clone());
        }
        let sample = sampled_pages(pages, tokens).map(read).collect::<Result<Vec<_>, E>>()?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let codebook = Arc::new(on_own_threads(|| train(&sample, late.options.dim(), tokens, depth, now)));
        *state = State { current: Some(codebook.clone()), retrain: false };
        Ok(codebook)
    }
}

/// Runs `work`, which is parallel, on threads of its own. Merges run as tasks of a pool: there a thread that waits for part of
/// the work takes up another task meanwhile, such as a merge that waits for the codebook which is being trained.
fn on_own_threads<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let threads = rayon::ThreadPoolBuilder::new().build();
    std::thread::scope(|scope| {
        let done = scope.spawn(move || match threads {
            Ok(threads) => threads.install(work),
            Err(_) => work(),
        });
        done.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
