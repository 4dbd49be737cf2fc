//! Whether a disk has room.

use std::path::Path;

use crate::Error;

/// Refuses where fewer than `needed` bytes are free on the disk of `folder`.
pub(super) fn check(folder: &Path, what: &'static str, needed: u64) -> Result<(), Error> {
    let available = fs4::available_space(folder).map_err(Error::io(folder, "find out how much room its disk has"))?;
    if available < needed {
        return Err(Error::DiskSpace { path: folder.to_owned(), what, needed, available });
    }
    Ok(())
}
