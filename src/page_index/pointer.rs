//! `current`: which generation of the index is in use, which model made its pages, and its further columns.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

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
/// Version of a published generation, whose embeddings stand in its own folder.
const PUBLISHED_VERSION: u64 = 2;
/// The newest version: the model lies within the index, and its name begins there.
const VERSION: u64 = 3;
/// What the name of a model within the index begins with in the file, so that the index can be moved or copied with it.
const WITHIN: &str = "./";

/// The model that made the pages of an index.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RecordedModel {
    /// Folder, hub id, or `builtin`. A folder within the index is written relative to it and read where the index is now.
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
    /// BLAKE3 of the compact JSON of `index` with its keys in order, 64 hexadecimal digits.
    checksum: String,
    index: serde_json::Value,
}

fn checksum(index: &serde_json::Value) -> String {
    // A program that embeds this may have switched serde_json to the order of insertion.
    let mut sorted = index.clone();
    sorted.sort_all_objects();
    blake3::hash(sorted.to_string().as_bytes()).to_hex().to_string()
}

impl Pointer {
    /// Reads the pointer of the index in `folder`; `None` where there is none.
    pub fn read(folder: &Path) -> Result<Option<Self>, Error> {
        Self::read_file(folder, folder.join(POINTER_FILE))
    }

    /// Reads what the generation in `folder` keeps; `None` where there is none.
    pub fn read_record(folder: &Path) -> Result<Option<Self>, Error> {
        Self::read_file(index_of(folder), folder.join(RECORD_FILE))
    }

    fn read_file(index: &Path, path: PathBuf) -> Result<Option<Self>, Error> {
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
        let mut pointer: Self = serde_json::from_value(envelope.index).map_err(|error| damaged(error.to_string()))?;
        if let Some(model) = &mut pointer.model
            && let Some(name) = model.name.strip_prefix(WITHIN)
            && envelope.version == VERSION
        {
            model.name = whole(index)?.join(name).display().to_string();
        }
        Ok(Some(pointer))
    }

    /// Replaces the pointer: write, fsync, rename, fsync of the folder.
    pub fn write(&self, folder: &Path) -> Result<(), Error> {
        self.write_file(folder, folder, POINTER_FILE)
    }

    /// Keeps what the pointer says in the generation's own folder.
    pub fn write_record(&self, folder: &Path) -> Result<(), Error> {
        self.write_file(index_of(folder), folder, RECORD_FILE)
    }

    /// The generation whose folder holds the pages.
    pub fn pages_generation(&self) -> u32 {
        self.pages_of.unwrap_or(self.generation)
    }

    fn write_file(&self, index: &Path, folder: &Path, name: &str) -> Result<(), Error> {
        let path = folder.join(name);
        let mut written = self.clone();
        let mut version = if self.previous.is_some() { PUBLISHED_VERSION } else { FIRST_VERSION };
        if let Some(model) = &mut written.model
            && let Ok(within) = Path::new(&model.name).strip_prefix(whole(index)?)
        {
            (model.name, version) = (format!("{WITHIN}{}", within.display()), VERSION);
        }
        let index = serde_json::to_value(written)
            .map_err(|error| Error::Pointer { path: path.clone(), problem: error.to_string() })?;
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

/// The index that the folder of a generation, finished or not, lies in.
fn index_of(generation: &Path) -> &Path {
    generation.ancestors().nth(2).unwrap_or(generation)
}

/// A folder by its absolute name, as models are recorded.
fn whole(folder: &Path) -> Result<PathBuf, Error> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    folder.canonicalize().map_err(Error::io(folder, "find it"))
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

    /// A file of an index that nothing was published to.
    const FROZEN_1: &str = r#"{
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
    /// One of a generation whose model lies elsewhere.
    const FROZEN_2: &str = r#"{
      "checksum": "e1aceafb86a456b2e7390fc0003f3ee8b5dc83455d1e5520a552df40143d5df1",
      "index": {
        "columns": [],
        "created": 7,
        "dim": 128,
        "generation": 4,
        "model": {
          "name": "/models/colqwen2",
          "page_fingerprint": "0000000000000000000000000000000000000000000000000000000000000000",
          "query_format": "Query: "
        },
        "pages_of": 3,
        "previous": 3
      },
      "magic": "colqwen-index page index",
      "version": 2
    }"#;
    /// What version 3 differs by: the model lies within the index.
    const WITHIN_3: [(&str, &str); 3] = [
        ("\"version\": 2", "\"version\": 3"),
        ("/models/colqwen2", "./models/000001"),
        (
            "e1aceafb86a456b2e7390fc0003f3ee8b5dc83455d1e5520a552df40143d5df1",
            "06822ddb07458c97c93acc4c0fb817373b5d60c497454e9c716adedb63371e8e",
        ),
    ];

    #[test]
    fn frozen_files_of_every_version_open_and_are_written_alike() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(POINTER_FILE);
        let model = |name: String| RecordedModel {
            name,
            page_fingerprint: Fingerprint::from_bytes([0; 32]),
            query_format: "Query: ".to_owned(),
        };
        let published = |name: String| Pointer {
            generation: 4,
            model: Some(model(name)),
            columns: Vec::new(),
            pages_of: Some(3),
            created: Some(7),
            previous: Some(3),
            ..pointer()
        };
        let frozen_3 = WITHIN_3.iter().fold(FROZEN_2.to_owned(), |text, (from, to)| text.replace(from, to));
        let within = folder.path().canonicalize().unwrap().join("models/000001").display().to_string();
        for (frozen, expected) in [
            (FROZEN_1, pointer()),
            (FROZEN_2, published("/models/colqwen2".to_owned())),
            (&frozen_3, published(within)),
        ] {
            fs::write(&path, frozen).unwrap();
            let read = Pointer::read(folder.path()).unwrap().unwrap();
            assert_eq!((&read, read.pages_generation()), (&expected, 3));
            read.write(folder.path()).unwrap();
            let parse = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
            assert_eq!(parse(&fs::read_to_string(&path).unwrap()), parse(frozen));
        }
    }

    #[test]
    fn a_model_within_the_index_moves_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let [first, second] = ["first", "second"].map(|name| folder.path().join(name));
        let generation = first.join("generations/000004");
        fs::create_dir_all(&generation).unwrap();
        let model = |folder: &Path| RecordedModel {
            name: folder.canonicalize().unwrap().join("models/000001").display().to_string(),
            page_fingerprint: Fingerprint::of_parts([("pages", &b"these"[..])]),
            query_format: "Query: ".to_owned(),
        };
        let published = Pointer { previous: Some(3), model: Some(model(&first)), ..pointer() };
        published.write(&first).unwrap();
        published.write_record(&generation).unwrap();
        assert_eq!(Pointer::read(&first).unwrap(), Some(published.clone()));
        fs::rename(&first, &second).unwrap();
        let moved = Pointer { model: Some(model(&second)), ..published };
        assert_eq!(Pointer::read(&second).unwrap(), Some(moved.clone()));
        assert_eq!(Pointer::read_record(&second.join("generations/000004")).unwrap(), Some(moved.clone()));
        // One that lies elsewhere stays there, and needs no newer version.
        let elsewhere = RecordedModel { name: "/models/colqwen2".to_owned(), ..model(&second) };
        let pointer = Pointer { model: Some(elsewhere), ..moved };
        pointer.write(&second).unwrap();
        assert_eq!(Pointer::read(&second).unwrap(), Some(pointer));
        assert!(fs::read_to_string(second.join(POINTER_FILE)).unwrap().contains("\"version\": 2"));
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
