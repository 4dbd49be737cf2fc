//! One run of an index at a time.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::Path;

use super::folder::RUNS;
use crate::Error;

/// Locked while a run is under way.
const LOCK: &str = "lock";

/// Held by the one run of an index that is under way.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes it.
    ///
    /// # Errors
    /// Another process holds it.
    pub fn take(index: &Path) -> Result<Self, Error> {
        let folder = index.join(RUNS);
        fs::create_dir_all(&folder).map_err(Error::io(&folder, "create it"))?;
        let path = folder.join(LOCK);
        let opened = OpenOptions::new().append(true).create(true).open(&path);
        let file = opened.map_err(Error::io(&path, "open it"))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(Error::RunUnderWay { path: index.to_owned() }),
            // Where files cannot be locked nobody can tell.
            Err(TryLockError::Error(error)) if error.kind() == std::io::ErrorKind::Unsupported => {
                Ok(Self { _file: file })
            }
            Err(TryLockError::Error(cause)) => Err(Error::Io { path, action: "lock it", cause }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_run_waits_for_the_first_to_end() {
        let index = tempfile::tempdir().unwrap();
        let first = Lock::take(index.path()).unwrap();
        assert!(matches!(Lock::take(index.path()), Err(Error::RunUnderWay { .. })));
        drop(first);
        Lock::take(index.path()).unwrap();
    }
}
