//! The numbered Parquet parts that pages are kept in, and what an interrupted run left in them.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;

use colqwen_index_ingest::embeddings::PageReader;

use super::IndexingReport;
use crate::page_index::{PageIndexWriter, StoredPage};
use crate::{Error, PageIndex};

/// A folder of parts, `00000001.parquet` and so on.
pub(super) struct Parts {
    folder: PathBuf,
    /// The newest part that the last commit includes.
    committed: u64,
    /// Numbers of the parts that no commit includes, ascending.
    open: Vec<u64>,
    next: u64,
}

/// A page of a file that was being replaced when a run ended: encoded, but not to be seen before all its pages are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct HeldPage {
    pub doc_id: String,
    pub page: u32,
    pub content_hash: Vec<u8>,
    pub part: u64,
}

impl Parts {
    /// Opens the folder and sweeps up what a killed run left unfinished.
    pub fn open(folder: PathBuf, committed: u64) -> Result<Self, Error> {
        fs::create_dir_all(&folder).map_err(Error::io(&folder, "create it"))?;
        let mut open = Vec::new();
        let mut last = committed;
        for entry in fs::read_dir(&folder).map_err(Error::io(&folder, "list it"))? {
            let path = entry.map_err(Error::io(&folder, "list it"))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if is_unfinished(&name) {
                fs::remove_file(&path).map_err(Error::io(&path, "remove what an interrupted run left"))?;
            } else if let Some(number) = part_number(&name) {
                last = last.max(number);
                if number > committed {
                    open.push(number);
                }
            }
        }
        open.sort_unstable();
        Ok(Self { folder, committed, open, next: last + 1 })
    }

    pub fn path(&self, part: u64) -> PathBuf {
        self.folder.join(format!("{part:08}.parquet"))
    }

    /// The number of the next part to write.
    pub fn take_number(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    /// Takes pages of parts that no commit includes into the index and commits them. Pages of a file whose earlier
    /// content stands in the index are not shown one by one; they are returned.
    pub fn resume(
        &self,
        index: &PageIndex,
        writer: &mut PageIndexWriter,
        report: &mut IndexingReport,
    ) -> Result<Vec<HeldPage>, Error> {
        let mut held = Vec::new();
        let mut stored: HashMap<String, Vec<StoredPage>> = HashMap::new();
        // Content and number of the pages taken, by document.
        let mut taken: HashMap<String, (Option<Vec<u8>>, u64)> = HashMap::new();
        let mut included = self.committed;
        let model = index.origin()?;
        for part in &self.open {
            let reader = PageReader::open(self.path(*part))?;
            // What an earlier model made is not for this generation.
            let of_this_model = reader.origin().agrees_with(model);
            for page in reader.into_iter().take_while(|_| of_this_model) {
                let page = page?;
                if !stored.contains_key(&page.doc_id) {
                    stored.insert(page.doc_id.clone(), index.pages_of(&page.doc_id)?);
                }
                let other_content = stored[&page.doc_id].iter().any(|(_, hash)| *hash != page.content_hash);
                match page.content_hash.clone().filter(|_| other_content) {
                    Some(content_hash) => {
                        held.push(HeldPage { doc_id: page.doc_id, page: page.page, content_hash, part: *part });
                    }
                    None => {
                        let hash = &page.content_hash;
                        let (content, pages) = taken.entry(page.doc_id.clone()).or_insert_with(|| (hash.clone(), 0));
                        if content != hash {
                            // The later part is the newer content, which replaces the earlier one whole.
                            writer.delete_document(&page.doc_id);
                            (*content, *pages) = (hash.clone(), 0);
                        }
                        writer.upsert(&page)?;
                        *pages += 1;
                    }
                }
            }
            if held.is_empty() {
                included = *part;
            }
        }
        report.resumed += taken.values().map(|(_, pages)| pages).sum::<u64>();
        if included > self.committed || !taken.is_empty() {
            writer.includes_part(included);
            writer.commit()?;
        }
        Ok(held)
    }
}

/// Whether a name is that of a part that was being written: `.00000001.parquet.tmp-` and more.
fn is_unfinished(name: &str) -> bool {
    let part = name.strip_prefix('.').and_then(|name| name.split_once(".tmp-"));
    part.is_some_and(|(part, _)| part_number(part).is_some())
}

fn part_number(name: &str) -> Option<u64> {
    name.strip_suffix(".parquet").filter(|number| number.len() == 8)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_unfinished_parts_are_swept_up() {
        assert!(is_unfinished(".00000012.parquet.tmp-77-0"));
        for other in [".report.parquet.tmp-77-0", "00000012.parquet", "00000012.parquet.tmp-1", ".00000012.parquet"] {
            assert!(!is_unfinished(other), "{other}");
        }
        assert_eq!((part_number("00000012.parquet"), part_number("12.parquet")), (Some(12), None));
    }
}
