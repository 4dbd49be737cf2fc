//! A generation that is open is never removed: whoever has it open holds a lease, a lock on a file in its folder.
//!
//! The lease is held through the directory that tantivy reads from. Index, readers, writers and searchers hold that directory, so a
//! searcher keeps its generation until it is dropped, also after its [`PageIndex`](super::PageIndex) has moved on.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;

use tantivy::directory::error::{DeleteError, LockError, OpenReadError, OpenWriteError};
use tantivy::directory::{DirectoryLock, FileHandle, Lock, MmapDirectory, WatchCallback, WatchHandle, WritePtr};
use tantivy::{Directory, TantivyError};

use crate::Error;

/// Name of the file that is locked: shared by whoever has the generation open, exclusively by whoever removes it.
pub(super) const LEASE_FILE: &str = "lease";

/// Keeps a generation from being removed while it lives.
#[derive(Debug)]
struct Lease {
    /// `None` where nobody may write to the folder or files cannot be locked; then nobody can tell that it is open.
    _file: Option<File>,
}

impl Lease {
    /// Takes a lease; `None` if the generation is being removed or is gone.
    fn take(folder: &Path) -> Result<Option<Self>, Error> {
        let path = folder.join(LEASE_FILE);
        let opened = File::open(&path).or_else(|error| match error.kind() {
            ErrorKind::NotFound => OpenOptions::new().append(true).create(true).open(&path),
            _ => Err(error),
        });
        let file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) => {
                return Ok(Some(Self { _file: None }));
            }
            Err(cause) => return Err(Error::Io { path, action: "open it", cause }),
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(path.exists().then_some(Self { _file: Some(file) })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => Ok(Some(Self { _file: None })),
            Err(TryLockError::Error(cause)) => Err(Error::Io { path, action: "lock it", cause }),
        }
    }
}

/// Locks a generation against being opened, to remove it; `None` if somebody has it open.
pub(super) fn lock_for_removal(folder: &Path) -> Result<Option<File>, Error> {
    let path = folder.join(LEASE_FILE);
    let file = OpenOptions::new().append(true).create(true).open(&path).map_err(Error::io(&path, "open it"))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(cause)) => Err(Error::Io { path, action: "lock it", cause }),
    }
}

/// The folder of a generation's pages, held by a lease.
#[derive(Clone, Debug)]
pub(super) struct LeasedDirectory {
    files: MmapDirectory,
    _lease: Arc<Lease>,
}

impl LeasedDirectory {
    /// Opens a folder; `None` if it is being removed or is gone.
    pub fn open(folder: &Path) -> Result<Option<Self>, Error> {
        let Some(lease) = Lease::take(folder)? else { return Ok(None) };
        let files = MmapDirectory::open(folder).map_err(TantivyError::from)?;
        Ok(Some(Self { files, _lease: Arc::new(lease) }))
    }

    /// Creates a folder and opens it.
    pub fn create(folder: &Path) -> Result<Self, Error> {
        fs::create_dir_all(folder).map_err(Error::io(folder, "create it"))?;
        Self::open(folder)?.ok_or_else(|| {
            let cause = io::Error::from(ErrorKind::NotFound);
            Error::Io { path: folder.to_owned(), action: "open it", cause }
        })
    }
}

impl Directory for LeasedDirectory {
    fn get_file_handle(&self, path: &Path) -> Result<Arc<dyn FileHandle>, OpenReadError> {
        self.files.get_file_handle(path)
    }

    fn delete(&self, path: &Path) -> Result<(), DeleteError> {
        self.files.delete(path)
    }

    fn exists(&self, path: &Path) -> Result<bool, OpenReadError> {
        self.files.exists(path)
    }

    fn open_write(&self, path: &Path) -> Result<WritePtr, OpenWriteError> {
        self.files.open_write(path)
    }

    fn atomic_read(&self, path: &Path) -> Result<Vec<u8>, OpenReadError> {
        self.files.atomic_read(path)
    }

    fn atomic_write(&self, path: &Path, data: &[u8]) -> io::Result<()> {
        self.files.atomic_write(path, data)
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.files.sync_directory()
    }

    fn acquire_lock(&self, lock: &Lock) -> Result<DirectoryLock, LockError> {
        self.files.acquire_lock(lock)
    }

    fn watch(&self, callback: WatchCallback) -> tantivy::Result<WatchHandle> {
        self.files.watch(callback)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leased_folder_is_not_locked_for_removal_and_a_locked_one_not_leased() {
        let folder = tempfile::tempdir().unwrap();
        let one = LeasedDirectory::open(folder.path()).unwrap().unwrap();
        let other = one.clone();
        drop(one);
        assert!(lock_for_removal(folder.path()).unwrap().is_none());
        drop(other);
        let removal = lock_for_removal(folder.path()).unwrap().unwrap();
        assert!(LeasedDirectory::open(folder.path()).unwrap().is_none());
        drop(removal);
        assert!(LeasedDirectory::open(folder.path()).unwrap().is_some());
        assert!(LeasedDirectory::open(&folder.path().join("gone")).unwrap().is_none());
    }
}
