//! Ctrl-C: the first one finishes what is under way, the second one ends at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Tells whether the user asked to stop.
#[derive(Clone)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Listens for Ctrl-C from now on.
    pub fn listen() -> anyhow::Result<Self> {
        let asked = Arc::new(AtomicBool::new(false));
        let heard = asked.clone();
        ctrlc::set_handler(move || {
            if heard.swap(true, Ordering::SeqCst) {
                std::process::exit(1);
            }
            eprintln!("finishing what is under way; press Ctrl-C again to stop at once");
        })?;
        Ok(Self(asked))
    }

    /// Whether to stop.
    pub fn asked(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// The flag itself, for work that looks at it on its own.
    #[cfg(feature = "encode")]
    pub fn flag(&self) -> Arc<AtomicBool> {
        self.0.clone()
    }
}
