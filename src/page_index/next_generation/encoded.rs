//! The pages that are encoded for the next generation, in numbered Parquet parts.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use colqwen_index_field::PageVectors;
use colqwen_index_ingest::embeddings::{PageFileOptions, PageReader, PageRecord, PageWriter};

use super::super::generations::names_in;
use crate::Error;

/// A part ends after this many pages,
const PAGES_PER_PART: usize = 256;
/// or this many bytes of vectors, as one part at a time is in memory when pages are merged,
const BYTES_PER_PART: usize = 64 << 20;
/// or after this much time: what a killed run loses at most.
const TIME_PER_PART: Duration = Duration::from_secs(60);

type PageKey = (String, u32);

/// Where an encoded page stands, and what it was encoded from.
struct Place {
    content_hash: Option<Vec<u8>>,
    part: u64,
    row: usize,
}

/// The part that is being written.
struct OpenPart {
    writer: PageWriter,
    pages: Vec<(PageKey, Option<Vec<u8>>)>,
    bytes: usize,
    since: Instant,
}

pub(super) struct EncodedPages {
    folder: PathBuf,
    options: PageFileOptions,
    places: HashMap<PageKey, Place>,
    open: Option<OpenPart>,
    last_part: u64,
    /// The part that was read last, whole: pages are asked for about in the order in which they were encoded.
    read: Option<(u64, Vec<PageRecord>)>,
}

impl EncodedPages {
    /// Opens the folder with what an earlier run encoded. What it left unfinished, or what cannot be read, is removed.
    pub fn open(folder: PathBuf, options: PageFileOptions) -> Result<Self, Error> {
        fs::create_dir_all(&folder).map_err(Error::io(&folder, "create it"))?;
        let mut pages = Self { folder, options, places: HashMap::new(), open: None, last_part: 0, read: None };
        let mut names = names_in(&pages.folder)?;
        names.sort_unstable();
        for name in names {
            let number = name.strip_suffix(".parquet").and_then(|number| number.parse::<u64>().ok());
            let read = number.is_some_and(|part| pages.take_in(part).is_ok());
            if !read {
                let path = pages.folder.join(&name);
                fs::remove_file(&path).map_err(Error::io(&path, "remove what an interrupted run left"))?;
            }
        }
        Ok(pages)
    }

    fn path(&self, part: u64) -> PathBuf {
        self.folder.join(format!("{part:08}.parquet"))
    }

    /// The number of the newest part.
    pub fn last_part(&self) -> u64 {
        self.last_part
    }

    fn take_in(&mut self, part: u64) -> Result<(), Error> {
        let reader = PageReader::open(self.path(part))?;
        if reader.origin() != self.options.origin || reader.dim() != self.options.dim {
            let (received, expected) = (reader.origin().to_string(), self.options.origin.to_string());
            return Err(Error::NewVectors { what: "model of an earlier part", received, expected });
        }
        let pages = reader.map(|page| page.map(|page| ((page.doc_id, page.page), page.content_hash)));
        let pages = pages.collect::<Result<Vec<_>, _>>()?;
        self.note(part, pages);
        Ok(())
    }

    /// Remembers where the pages of a finished part are.
    fn note(&mut self, part: u64, pages: Vec<(PageKey, Option<Vec<u8>>)>) {
        for (row, (key, content_hash)) in pages.into_iter().enumerate() {
            self.places.insert(key, Place { content_hash, part, row });
        }
        self.last_part = self.last_part.max(part);
    }

    /// Whether a page is encoded from this content.
    pub fn has(&self, key: &PageKey, content_hash: Option<&[u8]>) -> bool {
        self.places.get(key).is_some_and(|place| place.content_hash.as_deref() == content_hash)
    }

    /// Keeps a page, and ends the part if it is time.
    pub fn keep(&mut self, page: &PageRecord) -> Result<(), Error> {
        let open = match &mut self.open {
            Some(open) => open,
            none => {
                let path = self.folder.join(format!("{:08}.parquet", self.last_part + 1));
                let writer = PageWriter::create(path, self.options.clone())?;
                none.insert(OpenPart { writer, pages: Vec::new(), bytes: 0, since: Instant::now() })
            }
        };
        open.writer.write(page)?;
        open.pages.push(((page.doc_id.clone(), page.page), page.content_hash.clone()));
        open.bytes += size_of_val(page.vectors.vectors.values());
        let is_time = open.since.elapsed() >= TIME_PER_PART;
        if is_time || open.pages.len() >= PAGES_PER_PART || open.bytes >= BYTES_PER_PART {
            self.flush()?;
        }
        Ok(())
    }

    /// Ends the part: its pages are safe then.
    pub fn flush(&mut self) -> Result<(), Error> {
        if let Some(OpenPart { writer, pages, .. }) = self.open.take() {
            writer.finish()?;
            self.note(self.last_part + 1, pages);
        }
        Ok(())
    }

    /// The vectors of a page as they were encoded from this content; `None` if they were not.
    pub fn vectors(&mut self, key: &PageKey, content_hash: Option<&[u8]>) -> Result<Option<PageVectors>, Error> {
        let place = self.places.get(key).filter(|place| place.content_hash.as_deref() == content_hash);
        let Some(&Place { part, row, .. }) = place else { return Ok(None) };
        let pages = match &mut self.read {
            Some((read, pages)) if *read == part => pages,
            other => {
                let pages = PageReader::open(self.folder.join(format!("{part:08}.parquet")))?;
                &mut other.insert((part, pages.collect::<Result<_, _>>()?)).1
            }
        };
        Ok(pages.get(row).map(|page| page.vectors.clone()))
    }
}
