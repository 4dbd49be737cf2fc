//! Folders that appear complete under their name or not at all.

use std::fs;
use std::path::{Path, PathBuf};

use crate::encoder::EncoderError;

/// Lets `write` fill the new folder `dir`, which gets its name when all is written.
///
/// # Errors
/// `dir` exists already, or as `write`; then nothing is left behind.
pub fn write<E: From<EncoderError>>(dir: &Path, write: impl FnOnce(&Path) -> Result<(), E>) -> Result<(), E> {
    if dir.exists() {
        let exists = std::io::Error::new(
            std::io::ErrorKind::AlreadyExists,
            "the folder exists already; a checkpoint is saved to a new one",
        );
        return Err(EncoderError::io(dir)(exists).into());
    }
    // Behind a slash at the end the draft's name would be one within the folder.
    let dir = &dir.components().collect::<PathBuf>();
    let mut draft = dir.as_os_str().to_owned();
    draft.push(format!(".tmp-{}", std::process::id()));
    let draft = Path::new(&draft);
    let filled = fs::create_dir_all(draft).map_err(|error| EncoderError::io(draft)(error).into());
    let written = filled.and_then(|()| write(draft));
    let renamed = written.and_then(|()| fs::rename(draft, dir).map_err(|error| EncoderError::io(dir)(error).into()));
    if renamed.is_err() {
        // The error that led here matters more than one of cleaning up.
        let _ = fs::remove_dir_all(draft);
    }
    renamed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_complete_or_not_there() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("new");
        let failed = write(&dir, |draft| {
            fs::write(draft.join("one"), "1").unwrap();
            Err(EncoderError::io(draft)(std::io::Error::other("full")))
        });
        assert!(failed.unwrap_err().to_string().contains("full"));
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
        let put = |draft: &Path| fs::write(draft.join("one"), "1").map_err(EncoderError::io(draft));
        write(&dir, put).unwrap();
        assert!(write(&dir, put).unwrap_err().to_string().contains("exists"));
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1);
        write(&parent.path().join("slash/"), |draft| {
            assert_eq!(draft.parent(), Some(parent.path()));
            put(draft)
        })
        .unwrap();
        assert!(parent.path().join("slash/one").exists());
    }
}
