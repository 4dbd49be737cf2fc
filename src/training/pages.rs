//! Where the pages of training data are found, and what happens with those that are not.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use colqwen_index_ingest::page::Document;
use colqwen_index_ingest::pooling::PoolFactor;
use colqwen_index_train::data::{PageId, TrainingData};

use crate::indexing::{OnError, find_files};
use crate::{Error, PageIndex};

/// Where pages come from.
#[derive(Clone, Copy)]
pub enum Pages<'a> {
    /// Files and folders; documents have the ids that indexing gives them.
    Files(&'a [PathBuf]),
    /// The files that the pages of an index were made from, as its `source` column names them.
    Index(&'a PageIndex),
}

/// A document and the pages of it that are wanted, ascending.
pub(super) type Wanted = (Document, Vec<PageId>);

/// Pages that could not be found or rendered, each with the reason.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LostPages {
    on_error: OnError,
    pages: BTreeMap<PageId, String>,
}

impl LostPages {
    /// None yet; with [`OnError::Fail`] the first one ends the work.
    pub fn new(on_error: OnError) -> Self {
        Self { on_error, pages: BTreeMap::new() }
    }

    /// The pages and what is wrong with each.
    pub fn pages(&self) -> &BTreeMap<PageId, String> {
        &self.pages
    }

    /// Takes note of a lost page, or ends the work.
    pub(super) fn lose(&mut self, page: &PageId, problem: impl ToString) -> Result<(), Error> {
        let problem = problem.to_string();
        if self.on_error == OnError::Fail {
            return Err(Error::PageMissing { page: page.clone(), problem });
        }
        self.pages.insert(page.clone(), problem);
        Ok(())
    }

    /// The same data without the lost pages.
    pub fn removed_from<'d>(&self, data: &'d TrainingData) -> Cow<'d, TrainingData> {
        if self.pages.is_empty() {
            return Cow::Borrowed(data);
        }
        Cow::Owned(data.without(&self.pages.keys().cloned().collect::<BTreeSet<_>>()))
    }
}

/// The documents that hold the pages `wanted`, opened.
pub(super) fn open_documents(pages: Pages<'_>, wanted: &[&PageId], lost: &mut LostPages) -> Result<Vec<Wanted>, Error> {
    let files = match pages {
        Pages::Files(paths) => files_of(paths, wanted, lost)?,
        Pages::Index(index) => sources_of(index, wanted, lost)?,
    };
    let mut documents = Vec::with_capacity(files.len());
    for ((_, path), mut stored) in files {
        stored.sort_unstable_by(|one, other| one.page.cmp(&other.page));
        let document = match Document::open(&path) {
            Ok(document) => document,
            Err(error) => {
                stored.iter().try_for_each(|stored| lost.lose(&stored.page, &error))?;
                continue;
            }
        };
        let mut found = Vec::with_capacity(stored.len());
        for stored in stored {
            match problem_with(&document, &path, &stored) {
                Some(problem) => lost.lose(&stored.page, problem)?,
                None => found.push(stored.page),
            }
        }
        if !found.is_empty() {
            documents.push((document, found));
        }
    }
    Ok(documents)
}

/// A page and what an index says of the file it was made from.
struct Stored {
    page: PageId,
    content_hash: Option<Vec<u8>>,
}

/// Pages by document and file.
type Files<'a> = BTreeMap<(&'a str, PathBuf), Vec<Stored>>;

fn files_of<'a>(paths: &[PathBuf], wanted: &[&'a PageId], lost: &mut LostPages) -> Result<Files<'a>, Error> {
    let known = find_files(paths)?;
    let mut files = Files::new();
    for page in wanted {
        match known.get(&page.doc_id) {
            Some(path) => {
                let stored = Stored { page: (*page).clone(), content_hash: None };
                files.entry((&page.doc_id, path.clone())).or_default().push(stored);
            }
            None => {
                lost.lose(page, format!("there is no such document among the {} files under {paths:?}", known.len()))?;
            }
        }
    }
    Ok(files)
}

fn sources_of<'a>(index: &PageIndex, wanted: &[&'a PageId], lost: &mut LostPages) -> Result<Files<'a>, Error> {
    let mut known = BTreeMap::new();
    let mut files = Files::new();
    for page in wanted {
        if !known.contains_key(&page.doc_id) {
            known.insert(&page.doc_id, index.sources_of(&page.doc_id)?);
        }
        match known[&page.doc_id].get(&page.page) {
            Some((Some(source), hash)) => {
                let stored = Stored { page: (*page).clone(), content_hash: hash.clone() };
                files.entry((&page.doc_id, PathBuf::from(source))).or_default().push(stored);
            }
            Some((None, _)) => {
                lost.lose(page, format!("the index {:?} does not say which file it came from", index.folder()))?;
            }
            None => lost.lose(page, format!("the index {:?} does not hold it", index.folder()))?,
        }
    }
    Ok(files)
}

fn problem_with(document: &Document, path: &Path, stored: &Stored) -> Option<String> {
    if stored.page.page == 0 || stored.page.page > document.page_count() {
        return Some(format!("{path:?} has {} pages", document.page_count()));
    }
    let hash = stored.content_hash.as_ref()?;
    let expected = PoolFactor::of_content_hash(hash).content_hash(&document.content_hash());
    (*hash != expected).then(|| format!("{path:?} has changed since it was indexed; index it again"))
}
