//! Which files there are, and which of their pages the index lacks.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use colqwen_index_ingest::page::Document;
use colqwen_index_ingest::pooling::PoolFactor;

use super::parts::HeldPage;
use super::{IndexingOptions, IndexingReport, OnError};
use crate::{Error, PageIndex};

/// Endings of the files that are taken from folders; a file named as an argument is taken whatever its name.
const ENDINGS: [&str; 7] = ["pdf", "png", "jpg", "jpeg", "webp", "tif", "tiff"];

/// One file with work to do.
#[derive(Clone, Debug)]
pub(super) struct FileTask {
    pub doc_id: String,
    pub path: PathBuf,
    /// Hash of the file.
    pub file_hash: [u8; 32],
    /// What its pages record: the hash of the file, and the factor by which they are pooled.
    pub content_hash: Vec<u8>,
    /// Numbers of the pages to encode, ascending.
    pub pages: Vec<u32>,
    /// Whether the index holds pages of an earlier content, which all go in one commit.
    pub replaces: bool,
}

pub(super) struct Plan {
    pub tasks: Vec<FileTask>,
    /// Ids of all files found, with work or without.
    found: BTreeSet<String>,
}

impl Plan {
    /// Looks at every file and compares it with the index.
    pub fn new(
        index: &PageIndex,
        paths: &[PathBuf],
        options: &IndexingOptions,
        factor: PoolFactor,
        report: &mut IndexingReport,
    ) -> Result<Self, Error> {
        let files = find_files(paths)?;
        let mut tasks = Vec::new();
        for (doc_id, path) in &files {
            match plan_file(index, doc_id, path, factor) {
                Ok(Some(task)) => tasks.push(task),
                Ok(None) => report.unchanged += 1,
                Err(Error::Page(error)) if options.on_error == OnError::Skip => report.skipped.push(error.to_string()),
                Err(error) => return Err(error),
            }
        }
        Ok(Self { tasks, found: files.into_keys().collect() })
    }

    /// Leaves out pages that an interrupted run already encoded from the same content.
    pub fn reuse(&mut self, held: &[HeldPage]) {
        for task in self.tasks.iter_mut().filter(|task| task.replaces) {
            let same = |page: &u32| {
                held.iter().any(|held| {
                    held.doc_id == task.doc_id && held.page == *page && held.content_hash == task.content_hash
                })
            };
            task.pages.retain(|page| !same(page));
        }
    }

    /// Documents of the index that were not found.
    pub fn vanished(&self, index: &PageIndex) -> Result<Vec<String>, Error> {
        Ok(index.doc_ids()?.into_iter().filter(|doc_id| !self.found.contains(doc_id)).collect())
    }
}

/// The work that a file needs; `None` if all its pages stand in the index.
fn plan_file(index: &PageIndex, doc_id: &str, path: &Path, factor: PoolFactor) -> Result<Option<FileTask>, Error> {
    let document = Document::open(path)?;
    let file_hash = document.content_hash();
    // Pages of another factor count as pages of another content, and are replaced.
    let content_hash = factor.content_hash(&file_hash);
    let stored = index.pages_of(doc_id)?;
    let current = |(page, hash): &(u32, Option<Vec<u8>>)| {
        *page <= document.page_count() && hash.as_deref() == Some(content_hash.as_slice())
    };
    let replaces = !stored.iter().all(current);
    let done: BTreeSet<u32> = if replaces { BTreeSet::new() } else { stored.iter().map(|(page, _)| *page).collect() };
    let pages: Vec<u32> = (1..=document.page_count()).filter(|page| !done.contains(page)).collect();
    let (doc_id, path) = (doc_id.to_owned(), path.to_owned());
    let task = FileTask { doc_id, path, file_hash, content_hash, pages, replaces };
    Ok((!task.pages.is_empty()).then_some(task))
}

/// The files that [`PageIndex::index_files`] takes from files and folders, by document id.
///
/// # Errors
/// A path that is not there, two files of one id, or nothing to index.
pub fn find_files(paths: &[PathBuf]) -> Result<BTreeMap<String, PathBuf>, Error> {
    let mut files = BTreeMap::new();
    for path in paths {
        let metadata = fs::metadata(path).map_err(Error::io(path, "find it"))?;
        if metadata.is_dir() {
            walk(path, path, &mut files)?;
        } else {
            let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
            insert(&mut files, name, path.clone())?;
        }
    }
    if files.is_empty() {
        return Err(Error::NothingToIndex { paths: paths.to_vec() });
    }
    Ok(files)
}

fn walk(root: &Path, folder: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<(), Error> {
    for entry in fs::read_dir(folder).map_err(Error::io(folder, "list it"))? {
        let entry = entry.map_err(Error::io(folder, "list it"))?;
        let path = entry.path();
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        let kind = entry.file_type().map_err(Error::io(&path, "look at it"))?;
        if kind.is_dir() {
            walk(root, &path, files)?;
        } else if is_page_file(&path) && path.is_file() {
            let parts = path.strip_prefix(root).unwrap_or(&path).components();
            let names: Vec<_> = parts.map(|part| part.as_os_str().to_string_lossy()).collect();
            insert(files, names.join("/"), path.clone())?;
        }
    }
    Ok(())
}

fn is_page_file(path: &Path) -> bool {
    let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase());
    ending.is_some_and(|ending| ENDINGS.contains(&ending.as_str()))
}

fn insert(files: &mut BTreeMap<String, PathBuf>, doc_id: String, path: PathBuf) -> Result<(), Error> {
    let same = |one: &Path, other: &Path| one.canonicalize().ok() == other.canonicalize().ok();
    match files.get(&doc_id) {
        Some(first) if !same(first, &path) => Err(Error::SameDocument { doc_id, first: first.clone(), second: path }),
        _ => {
            files.insert(doc_id, path);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_relative_to_the_argument_and_collisions_name_both() {
        let root = tempfile::tempdir().unwrap();
        for folder in ["a/deep", "b", "a/.hidden"] {
            fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        for file in ["a/one.pdf", "a/deep/two.PNG", "a/notes.txt", "a/.hidden/no.pdf", "b/one.pdf"] {
            fs::write(root.path().join(file), "x").unwrap();
        }
        let (a, b) = (root.path().join("a"), root.path().join("b"));
        let ids = |paths: &[PathBuf]| find_files(paths).map(|files| files.into_keys().collect::<Vec<_>>());
        assert_eq!(ids(std::slice::from_ref(&a)).unwrap(), ["deep/two.PNG", "one.pdf"]);
        assert_eq!(ids(&[a.join("one.pdf")]).unwrap(), ["one.pdf"]);
        assert_eq!(ids(&[a.clone(), a.join("one.pdf")]).unwrap().len(), 2, "the same file twice is one file");
        assert_eq!(
            ids(std::slice::from_ref(&root.path().to_owned())).unwrap(),
            ["a/deep/two.PNG", "a/one.pdf", "b/one.pdf"]
        );
        let error = ids(&[a, b]).unwrap_err().to_string();
        assert!(error.contains("a/one.pdf") && error.contains("b/one.pdf"), "{error}");
        assert!(ids(&[root.path().join("missing")]).unwrap_err().to_string().contains("missing"));
    }
}
