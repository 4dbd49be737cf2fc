//! A file being written: complete under its name, or not there at all.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Writes to a hidden file beside `path`, which takes the name `path` in [`WholeFile::finish`]. Dropped before that, it
/// leaves nothing behind.
#[derive(Debug)]
pub struct WholeFile {
    file: File,
    temporary: PathBuf,
    path: PathBuf,
    finished: bool,
}

impl WholeFile {
    /// Starts a file; one that has the name `path` already stays as it is until [`WholeFile::finish`] replaces it.
    ///
    /// # Errors
    /// The path has no file name, or the folder cannot be written to.
    pub fn create(path: &Path) -> io::Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let no_name = || io::Error::new(io::ErrorKind::InvalidInput, "the path has no name");
        let name = path.file_name().ok_or_else(no_name)?;
        // Hidden, and with another ending, so that nobody takes the rest of a killed run for a complete file.
        let mut temporary = std::ffi::OsString::from(".");
        temporary.push(name);
        temporary.push(format!(".tmp-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
        let temporary = path.with_file_name(temporary);
        let file = File::create(&temporary)?;
        Ok(Self { file, temporary, path: path.to_owned(), finished: false })
    }

    /// Flushes the file to disk and gives it its name, replacing a file that had it.
    ///
    /// # Errors
    /// The disk is full or the file cannot be renamed.
    pub fn finish(mut self) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.temporary, &self.path)?;
        self.finished = true;
        // The rename itself lasts only once the folder is on disk; elsewhere folders cannot be opened.
        if cfg!(unix) {
            let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
            File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
        }
        Ok(())
    }
}

impl Write for WholeFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for WholeFile {
    fn drop(&mut self) {
        if !self.finished {
            // Nothing can be done about a failure here, and a hidden file left behind does no harm.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_there_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let names = || fs::read_dir(folder.path()).unwrap().count();
        let mut file = WholeFile::create(&path).unwrap();
        file.write_all(b"half").unwrap();
        assert!(names() == 1 && !path.exists());
        drop(file);
        assert_eq!(names(), 0);
        fs::write(&path, b"old").unwrap();
        let mut file = WholeFile::create(&path).unwrap();
        file.write_all(b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        file.finish().unwrap();
        assert_eq!((fs::read(&path).unwrap(), names()), (b"new".to_vec(), 1));
        assert!(WholeFile::create(Path::new("/")).is_err());
    }
}
