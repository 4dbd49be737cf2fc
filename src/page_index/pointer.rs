//! `current`: which generation of the index is in use, which model made its pages, and its further columns.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use colqwen_index_field::Fingerprint;
use colqwen_index_ingest::embeddings::FurtherColumn;
use colqwen_index_ingest::pooling::PoolFactor;
use serde::{Deserialize, Serialize};

use crate::Error;

/// Name of the pointer file in a page index.
pub(super) const POINTER_FILE: &str = "current";
/// Name of the file in which a generation keeps what `current` says while it is in use.
pub(super) const RECORD_FILE: &str = "generation.json";

const MAGIC: &str = "colqwen-index page index";
/// Version of an index that nothing was published to; such files are written as ever.
const FIRST_VERSION: u64 = 1;
/// The newest version: a published generation, whose embeddings stand in its own folder.
const VERSION: u64 = 2;

/// The model that made the pages of an index.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RecordedModel {
    /// Folder, hub id, or `builtin`.
    pub name: String,
    /// The page fingerprint of the model.
    pub page_fingerprint: Fingerprint,
    /// How its queries are put together.
    pub query_format: String,
}

/// What the pointer says.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct Pointer {
    pub generation: u32,
    pub dim: usize,
    pub model: Option<RecordedModel>,
    pub columns: Vec<FurtherColumn>,
    /// By which factor indexing pools unless told otherwise; absent until a page was pooled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool_factor: Option<PoolFactor>,
    /// The generation whose pages this one serves with another model's queries; its own if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pages_of: Option<u32>,
    /// When it was made, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<u64>,
    /// The generation that was in use when this one was published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<u32>,
}

/// The file: the pointer in an envelope that says what it is.
#[derive(Serialize, Deserialize)]
struct Envelope {
    magic: String,
    version: u64,
    /// BLAKE3 of the compact JSON of `index`, 64 hexadecimal digits.
    checksum: String,
    index: serde_json::Value,
}

fn checksum(index: &serde_json::Value) -> String {
    blake3::hash(index.to_string().as_bytes()).to_hex().to_string()
}

impl Pointer {
    /// Reads the pointer of the index in `folder`; `None` where there is none.
    pub fn read(folder: &Path) -> Result<Option<Self>, Error> {
        Self::read_file(folder.join(POINTER_FILE))
    }

    /// Reads what the generation in `folder` keeps; `None` where there is none.
    pub fn read_record(folder: &Path) -> Result<Option<Self>, Error> {
        Self::read_file(folder.join(RECORD_FILE))
    }

    fn read_file(path: std::path::PathBuf) -> Result<Option<Self>, Error> {
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(Error::Io { path, action: "read it", cause }),
        };
        let damaged = |problem: String| Error::Pointer { path: path.clone(), problem };
        let envelope: Envelope = serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?;
        if envelope.magic != MAGIC {
            return Err(damaged(format!("it says {:?}, expected {MAGIC:?}", envelope.magic)));
        }
        if !(FIRST_VERSION..=VERSION).contains(&envelope.version) {
            return Err(Error::PointerVersion { path, received: envelope.version, expected: VERSION });
        }
        if checksum(&envelope.index) != envelope.checksum {
            return Err(damaged("its checksum does not match".to_owned()));
        }
        serde_json::from_value(envelope.index).map(Some).map_err(|error| damaged(error.to_string()))
    }

    /// Replaces the pointer: write, fsync, rename, fsync of the folder.
    pub fn write(&self, folder: &Path) -> Result<(), Error> {
        self.write_file(folder, POINTER_FILE)
    }

    /// Keeps what the pointer says in the generation's own folder.
    pub fn write_record(&self, folder: &Path) -> Result<(), Error> {
        self.write_file(folder, RECORD_FILE)
    }

    /// The generation whose folder holds the pages.
    pub fn pages_generation(&self) -> u32 {
        self.pages_of.unwrap_or(self.generation)
    }

    fn write_file(&self, folder: &Path, name: &str) -> Result<(), Error> {
        let path = folder.join(name);
        let index = serde_json::to_value(self)
            .map_err(|error| Error::Pointer { path: path.clone(), problem: error.to_string() })?;
        let version = if self.previous.is_some() { VERSION } else { FIRST_VERSION };
        let envelope =
            serde_json::json!({ "magic": MAGIC, "version": version, "checksum": checksum(&index), "index": index });
        let draft = folder.join(format!("{name}.tmp"));
        let write = || {
            let mut file = File::create(&draft)?;
            file.write_all(format!("{envelope:#}\n").as_bytes())?;
            file.sync_all()?;
            fs::rename(&draft, &path)?;
            File::open(folder)?.sync_all()
        };
        write().map_err(Error::io(&path, "replace it"))
    }
}

#[cfg(test)]
mod tests {
    use colqwen_index_ingest::embeddings::FurtherKind;

    use super::*;

    fn pointer() -> Pointer {
        let column = FurtherColumn::many("year", FurtherKind::U64);
        Pointer {
            generation: 3,
            dim: 128,
            model: None,
            columns: vec![column],
            pool_factor: None,
            pages_of: None,
            created: None,
            previous: None,
        }
    }

    /// As the first release wrote it.
    const FROZEN: &str = r#"{
      "magic": "colqwen-index page index",
      "version": 1,
      "checksum": "3d1f6e6b86d786ad7c84480390136843c64472f0a113ef250bb1dbf5b5b8afd4",
      "index": {
        "generation": 3,
        "dim": 128,
        "model": null,
        "columns": [{ "kind": "u64", "list": true, "name": "year" }]
      }
    }"#;

    #[test]
    fn a_file_of_version_1_opens_and_a_published_generation_has_version_2() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(POINTER_FILE);
        let index = &serde_json::from_str::<serde_json::Value>(FROZEN).unwrap()["index"];
        fs::write(
            &path,
            FROZEN.replace("3d1f6e6b86d786ad7c84480390136843c64472f0a113ef250bb1dbf5b5b8afd4", &checksum(index)),
        )
        .unwrap();
        assert_eq!(Pointer::read(folder.path()).unwrap(), Some(pointer()));
        let version = || {
            let text = fs::read_to_string(&path).unwrap();
            serde_json::from_str::<serde_json::Value>(&text).unwrap()["version"].as_u64().unwrap()
        };
        pointer().write(folder.path()).unwrap();
        assert_eq!(version(), 1);
        let published = Pointer { generation: 4, previous: Some(3), pages_of: Some(3), created: Some(7), ..pointer() };
        published.write(folder.path()).unwrap();
        assert_eq!((version(), published.pages_generation()), (2, 3));
        assert_eq!(Pointer::read(folder.path()).unwrap(), Some(published));
    }

    #[test]
    fn round_trips_and_is_absent_without_an_index() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Pointer::read(folder.path()).unwrap(), None);
        pointer().write(folder.path()).unwrap();
        assert_eq!(Pointer::read(folder.path()).unwrap(), Some(pointer()));
    }

    #[test]
    fn a_pool_factor_is_kept_and_says_nothing_where_there_is_none() {
        let folder = tempfile::tempdir().unwrap();
        pointer().write(folder.path()).unwrap();
        assert!(!fs::read_to_string(folder.path().join(POINTER_FILE)).unwrap().contains("pool_factor"));
        let pooled = Pointer { pool_factor: PoolFactor::new(3).ok(), ..pointer() };
        pooled.write(folder.path()).unwrap();
        assert_eq!(Pointer::read(folder.path()).unwrap(), Some(pooled));
    }

    #[test]
    fn damage_and_other_versions_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        pointer().write(folder.path()).unwrap();
        let path = folder.path().join(POINTER_FILE);
        let text = fs::read_to_string(&path).unwrap();
        let refused = |from: &str, to: &str| {
            fs::write(&path, text.replace(from, to)).unwrap();
            Pointer::read(folder.path()).unwrap_err().to_string()
        };
        assert!(refused("\"generation\": 3", "\"generation\": 4").contains("checksum"));
        assert!(refused("\"version\": 1", "\"version\": 9").contains("version 9"));
        assert!(refused(MAGIC, "something else").contains("something else"));
        assert!(refused("{", "").contains("damaged"));
    }
}
