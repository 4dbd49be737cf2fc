//! The generations of an index: which there are, going back to one, publishing one that shares its pages, removing old ones.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use tantivy::directory::MmapDirectory;
use tantivy::{DocAddress, Document, Index, TantivyDocument, TantivyError};

use super::lease::{LeasedDirectory, lock_for_removal};
use super::pointer::Pointer;
use super::{PageIndex, RecordedModel, embeddings_folder, generation_folder, seconds_now};
use crate::Error;

/// The folder of all generations in an index.
pub(super) const GENERATIONS_FOLDER: &str = "generations";
/// What the folder of a generation is called while it is removed.
const REMOVED: &str = "removed";

/// How many generations are kept when one is published: the new one, the one it follows, and the newest others up to this
/// number. A generation that is open stays until a later publishing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeepGenerations(usize);

impl KeepGenerations {
    /// Keeps `generations`, at least two: there is always a way back.
    pub fn new(generations: usize) -> Self {
        Self(generations.max(2))
    }
}

impl Default for KeepGenerations {
    fn default() -> Self {
        Self::new(2)
    }
}

/// A generation that is kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GenerationInfo {
    /// Its number.
    pub number: u32,
    /// Whether it is in use.
    pub current: bool,
    /// The model that its queries are made with.
    pub model: Option<RecordedModel>,
    /// Its live pages.
    pub pages: u64,
    /// When it was made, in seconds since 1970, where that was recorded.
    pub created: Option<u64>,
    /// Bytes of its files: the index, and its embeddings.
    pub bytes: u64,
    /// The generation whose pages it serves with another model's queries.
    pub pages_of: Option<u32>,
}

/// What publishing did.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Published {
    /// The generation now in use.
    pub generation: u32,
    /// The one before.
    pub previous: u32,
    /// Live pages of the new generation.
    pub pages: u64,
    /// Pages that were added or replaced while it was built, and carried over.
    pub carried_over: u64,
    /// Pages that were deleted meanwhile, and are not in it.
    pub deleted: u64,
    /// Pages that could not be encoded and were left out, each with its reason.
    pub lost: Vec<String>,
    /// Generations that were removed.
    pub removed: Vec<u32>,
    /// Generations that would have been removed, but are open.
    pub still_open: Vec<u32>,
}

/// What going back did.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RolledBack {
    /// The generation that was in use.
    pub from: u32,
    /// The one in use now.
    pub to: u32,
    /// Pages, as document and number, that were in use and are not, or not as they were, in the older generation.
    pub missing: Vec<(String, u32)>,
    /// Pages that were deleted since and are there again.
    pub returned: Vec<(String, u32)>,
}

/// The live pages of an index by document and number, each with a hash of all that is stored of it but its vectors.
pub(super) type PageDigests = BTreeMap<(String, u32), (blake3::Hash, DocAddress)>;

impl PageIndex {
    /// All generations that are kept, in the order of their numbers.
    ///
    /// # Errors
    /// A file of one is damaged.
    pub fn generations(&self) -> Result<Vec<GenerationInfo>, Error> {
        let current = Pointer::read(&self.folder)?.unwrap_or_else(|| self.pointer.clone());
        let mut records = records(&self.folder)?;
        records.insert(current.generation, current.clone());
        let info = |(number, record): (u32, Pointer)| {
            let pages = record.pages_generation();
            let own = generation_folder(&self.folder, number);
            let embeddings = embeddings_folder(&self.folder, number);
            let beside = if embeddings.starts_with(&own) { 0 } else { bytes_in(&embeddings) };
            Ok(GenerationInfo {
                number,
                current: number == current.generation,
                model: record.model,
                pages: live_pages(&generation_folder(&self.folder, pages))?,
                created: record.created,
                bytes: bytes_in(&own) + beside,
                pages_of: record.pages_of,
            })
        };
        records.into_iter().map(info).collect()
    }

    /// For each kept generation the one that was in use before it, if it was published.
    #[cfg(feature = "train")]
    pub(crate) fn previous_generations(&self) -> Result<BTreeMap<u32, Option<u32>>, Error> {
        let mut records = records(&self.folder)?;
        records.insert(self.pointer.generation, self.pointer.clone());
        Ok(records.into_iter().map(|(number, record)| (number, record.previous)).collect())
    }

    /// Goes back to a kept generation, or to the one that was in use before the current one was published.
    ///
    /// # Errors
    /// There is no such generation any more, it is in use already, or the index is being written to.
    pub fn rollback(&mut self, to: Option<u32>) -> Result<RolledBack, Error> {
        // Nobody writes to the generation in use, and nobody publishes, while this is held.
        let writer = self.current_writer()?;
        self.reload()?;
        let from = self.pointer.generation;
        let kept = records(&self.folder)?;
        let gone = |to| Error::GenerationGone { path: self.folder.clone(), to, kept: kept.keys().copied().collect() };
        let to = to.or(self.pointer.previous).ok_or_else(|| gone(None))?;
        if to == from {
            return Err(Error::GenerationInUse { path: self.folder.clone(), generation: to });
        }
        let target = kept.get(&to).cloned().ok_or_else(|| gone(Some(to)))?;
        let pages = generation_folder(&self.folder, target.pages_generation());
        // Held until the pointer is replaced, so that nobody removes it meanwhile.
        let directory = LeasedDirectory::open(&pages)?.ok_or_else(|| gone(Some(to)))?;
        let older = Self::open_generation(&self.folder, target, directory)?;
        let (mut missing, mut returned) = (Vec::new(), Vec::new());
        if older.pointer.pages_generation() != self.pointer.pages_generation() {
            let (now, then) = (self.page_digests()?, older.page_digests()?);
            let same =
                |page: &(String, u32), digest: &blake3::Hash| then.get(page).is_some_and(|(other, _)| other == digest);
            missing =
                now.iter().filter(|(page, (digest, _))| !same(page, digest)).map(|(page, _)| page.clone()).collect();
            returned = then.into_keys().filter(|page| !now.contains_key(page)).collect();
        }
        self.keep_record()?;
        older.pointer.write(&self.folder)?;
        drop(writer);
        self.reload()?;
        Ok(RolledBack { from, to, missing, returned })
    }

    /// Publishes a model that serves the pages as they are, one trained on the query side only: a generation of its own that
    /// shares the pages of the current one. No file of the index is written to, and [`rollback`](Self::rollback) leads back.
    ///
    /// # Errors
    /// The model is for other pages, or the index is being written to.
    pub fn publish_model(&mut self, model: RecordedModel, keep: KeepGenerations) -> Result<Published, Error> {
        let writer = self.current_writer()?;
        self.reload()?;
        self.check_model(model.page_fingerprint)?;
        let previous = self.pointer.generation;
        let generation = self.next_number()?;
        let pointer = Pointer {
            generation,
            model: Some(model),
            pages_of: Some(self.pointer.pages_generation()),
            created: Some(seconds_now()),
            previous: Some(previous),
            ..self.pointer.clone()
        };
        let folder = generation_folder(&self.folder, generation);
        fs::create_dir_all(&folder).map_err(Error::io(&folder, "create it"))?;
        pointer.write_record(&folder)?;
        self.keep_record()?;
        pointer.write(&self.folder)?;
        drop(writer);
        self.reload()?;
        let published = Published { generation, previous, pages: self.searcher().num_docs(), ..Published::default() };
        self.remove_old(published, keep)
    }

    /// Keeps what `current` says in the folder of the generation in use, so that one can go back to it.
    pub(super) fn keep_record(&self) -> Result<(), Error> {
        self.pointer.write_record(&generation_folder(&self.folder, self.pointer.generation))
    }

    /// The number of a generation that there never was.
    pub(super) fn next_number(&self) -> Result<u32, Error> {
        let folders = generation_folders(&self.folder)?;
        let last = folders.last().copied().unwrap_or_default().max(self.pointer.generation);
        last.checked_add(1).ok_or_else(|| {
            let full =
                format!("there is no number above {last}; remove the folder of that name, which no program made");
            Error::io(&self.folder.join(GENERATIONS_FOLDER), "number a new generation")(std::io::Error::other(full))
        })
    }

    /// Removes generations that are neither in use, nor to be kept, nor open, nor needed by one that is kept.
    pub(super) fn remove_old(&self, mut published: Published, keep: KeepGenerations) -> Result<Published, Error> {
        let records = records(&self.folder)?;
        let mut kept: BTreeSet<u32> = [published.generation, published.previous].into();
        for number in records.keys().rev() {
            if kept.len() < keep.0 {
                kept.insert(*number);
            }
        }
        let pages_of = |number: &u32| records.get(number).map(Pointer::pages_generation);
        let needed: BTreeSet<u32> = kept.iter().flat_map(pages_of).chain(kept.iter().copied()).collect();
        for number in generation_folders(&self.folder)? {
            // A number above the current one is of a generation that is not published yet.
            if needed.contains(&number) || number > published.generation {
                continue;
            }
            if remove(&self.folder, number)? {
                published.removed.push(number);
            } else {
                published.still_open.push(number);
            }
        }
        sweep(&self.folder)?;
        Ok(published)
    }

    /// The live pages with a hash of what is stored of them.
    pub(super) fn page_digests(&self) -> Result<PageDigests, Error> {
        let searcher = self.searcher();
        let schema = self.index.schema();
        let mut digests = PageDigests::new();
        for (segment, reader) in (0..).zip(searcher.segment_readers()) {
            let documents = reader.get_store_reader(1).map_err(TantivyError::from)?;
            for doc in reader.doc_ids_alive() {
                let document: TantivyDocument = documents.get(doc)?;
                let Some(page) = self.fields.key_of(&document) else { continue };
                let digest = blake3::hash(document.to_json(&schema).as_bytes());
                digests.insert(page, (digest, DocAddress::new(segment, doc)));
            }
        }
        Ok(digests)
    }
}

/// Removes a generation; `false` if it is in use or open.
fn remove(folder: &Path, number: u32) -> Result<bool, Error> {
    let generation = generation_folder(folder, number);
    let Some(lock) = lock_for_removal(&generation)? else { return Ok(false) };
    // Whoever went back to it held it open until `current` said so.
    if Pointer::read(folder)?.is_some_and(|current| [current.generation, current.pages_generation()].contains(&number))
    {
        return Ok(false);
    }
    let embeddings = embeddings_folder(folder, number);
    if !embeddings.starts_with(&generation) {
        remove_parts(&embeddings)?;
    }
    let removed = generation.with_extension(REMOVED);
    fs::rename(&generation, &removed).map_err(Error::io(&generation, "remove it"))?;
    drop(lock);
    fs::remove_dir_all(&removed).map_err(Error::io(&removed, "remove it"))?;
    Ok(true)
}

/// Removes the parts of embeddings in a folder, and the folder if nothing else is in it.
pub(super) fn remove_parts(folder: &Path) -> Result<(), Error> {
    for name in names_in(folder)? {
        let part =
            name.strip_suffix(".parquet").is_some_and(|number| number.len() == 8 && number.parse::<u32>().is_ok());
        if part {
            let path = folder.join(&name);
            fs::remove_file(&path).map_err(Error::io(&path, "remove it"))?;
        }
    }
    // A folder with other files stays.
    let _ = fs::remove_dir(folder);
    Ok(())
}

/// Ends removals that were interrupted.
fn sweep(folder: &Path) -> Result<(), Error> {
    let generations = folder.join(GENERATIONS_FOLDER);
    for name in names_in(&generations)? {
        let path = generations.join(&name);
        if path.extension().is_some_and(|ending| ending == REMOVED) {
            fs::remove_dir_all(&path).map_err(Error::io(&path, "remove it"))?;
        }
    }
    Ok(())
}

/// The numbers of all folders of generations, ascending, published or not.
pub(super) fn generation_folders(folder: &Path) -> Result<Vec<u32>, Error> {
    let mut numbers: Vec<u32> = names_in(&folder.join(GENERATIONS_FOLDER))?
        .iter()
        .filter(|name| name.len() >= 6)
        .filter_map(|name| name.parse().ok())
        .collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// What each published generation keeps about itself.
fn records(folder: &Path) -> Result<BTreeMap<u32, Pointer>, Error> {
    let mut records = BTreeMap::new();
    for number in generation_folders(folder)? {
        let generation = generation_folder(folder, number);
        if generation.join(super::next_generation::UNPUBLISHED_FILE).exists() {
            continue;
        }
        if let Some(record) = Pointer::read_record(&generation)? {
            records.insert(number, record);
        }
    }
    Ok(records)
}

/// The names in a folder; none where there is no folder.
pub(crate) fn names_in(folder: &Path) -> Result<Vec<String>, Error> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(cause) => return Err(Error::Io { path: folder.to_owned(), action: "list it", cause }),
    };
    let entries = entries.collect::<Result<Vec<_>, _>>().map_err(Error::io(folder, "list it"))?;
    Ok(entries.into_iter().filter_map(|entry| entry.file_name().into_string().ok()).collect())
}

/// Bytes of all files under a folder; files that vanish meanwhile count nothing.
pub(super) fn bytes_in(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let bytes = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => bytes_in(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    };
    entries.flatten().map(bytes).sum()
}

fn live_pages(folder: &Path) -> Result<u64, Error> {
    let directory = MmapDirectory::open(folder).map_err(TantivyError::from)?;
    let segments = Index::open(directory)?.searchable_segment_metas()?;
    Ok(segments.iter().map(|segment| u64::from(segment.num_docs())).sum())
}

/// Makes a rename in a folder durable.
pub(super) fn sync_folder(folder: &Path) -> Result<(), Error> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(Error::io(folder, "flush it"))
}

/// The folder of a generation that is being built.
pub(super) fn draft_folder(folder: &Path, generation: u32) -> PathBuf {
    generation_folder(folder, generation).with_extension("building")
}
