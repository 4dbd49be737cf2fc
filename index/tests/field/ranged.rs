//! A directory on a folder that reads by range, as one on object storage does, and can end the process at a chosen step.

use std::io::{self, BufWriter, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tantivy::HasLen;
use tantivy::directory::error::{DeleteError, OpenReadError, OpenWriteError};
use tantivy::directory::{
    AntiCallToken, Directory, FileHandle, MmapDirectory, OwnedBytes, TerminatingWrite, WatchCallback, WatchHandle,
    WritePtr,
};

/// Reads with one system call per range; writes as [`MmapDirectory`] does.
#[derive(Clone, Debug)]
pub struct RangedDirectory {
    folder: PathBuf,
    inner: MmapDirectory,
    /// Steps left until the process aborts; `None` for never.
    fuse: Option<Arc<AtomicU64>>,
}

impl RangedDirectory {
    pub fn open(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), inner: MmapDirectory::open(folder).unwrap(), fuse: None }
    }

    /// Aborts the process at the given step, counted over every change of the directory.
    pub fn aborting_at(folder: &Path, step: u64) -> Self {
        Self { fuse: Some(Arc::new(AtomicU64::new(step))), ..Self::open(folder) }
    }

    fn step(&self) {
        burn(self.fuse.as_ref());
    }
}

fn burn(fuse: Option<&Arc<AtomicU64>>) {
    if let Some(fuse) = fuse
        && fuse.fetch_sub(1, Ordering::SeqCst) == 1
    {
        std::process::abort();
    }
}

#[derive(Debug)]
struct RangedFile {
    file: std::fs::File,
    length: usize,
}

impl HasLen for RangedFile {
    fn len(&self) -> usize {
        self.length
    }
}

impl FileHandle for RangedFile {
    fn read_bytes(&self, range: Range<usize>) -> io::Result<OwnedBytes> {
        let mut bytes = vec![0; range.len()];
        self.file.read_exact_at(&mut bytes, range.start as u64)?;
        Ok(OwnedBytes::new(bytes))
    }
}

struct SteppedFile {
    file: BufWriter<std::fs::File>,
    fuse: Option<Arc<AtomicU64>>,
}

impl Write for SteppedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        burn(self.fuse.as_ref());
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl TerminatingWrite for SteppedFile {
    fn terminate_ref(&mut self, _: AntiCallToken) -> io::Result<()> {
        burn(self.fuse.as_ref());
        self.file.flush()?;
        self.file.get_ref().sync_data()
    }
}

impl Directory for RangedDirectory {
    fn get_file_handle(&self, path: &Path) -> Result<Arc<dyn FileHandle>, OpenReadError> {
        let file = std::fs::File::open(self.folder.join(path)).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => OpenReadError::FileDoesNotExist(path.to_owned()),
            _ => OpenReadError::wrap_io_error(error, path.to_owned()),
        })?;
        let length =
            file.metadata().map_err(|error| OpenReadError::wrap_io_error(error, path.to_owned()))?.len() as usize;
        Ok(Arc::new(RangedFile { file, length }))
    }

    fn delete(&self, path: &Path) -> Result<(), DeleteError> {
        self.step();
        self.inner.delete(path)
    }

    fn exists(&self, path: &Path) -> Result<bool, OpenReadError> {
        self.inner.exists(path)
    }

    fn open_write(&self, path: &Path) -> Result<WritePtr, OpenWriteError> {
        self.step();
        let file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(self.folder.join(path))
            .map_err(|error| OpenWriteError::wrap_io_error(error, path.to_owned()))?;
        let file = SteppedFile { file: BufWriter::new(file), fuse: self.fuse.clone() };
        Ok(BufWriter::new(Box::new(file)))
    }

    fn atomic_read(&self, path: &Path) -> Result<Vec<u8>, OpenReadError> {
        self.inner.atomic_read(path)
    }

    fn atomic_write(&self, path: &Path, data: &[u8]) -> io::Result<()> {
        self.step();
        self.inner.atomic_write(path, data)?;
        self.step();
        Ok(())
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.step();
        self.inner.sync_directory()
    }

    fn acquire_lock(
        &self,
        lock: &tantivy::directory::Lock,
    ) -> Result<tantivy::directory::DirectoryLock, tantivy::directory::error::LockError> {
        self.inner.acquire_lock(lock)
    }

    fn watch(&self, callback: WatchCallback) -> tantivy::Result<WatchHandle> {
        self.inner.watch(callback)
    }
}
