//! The log of what people were shown and clicked, which `train-from-clicks` learns from.
//!
//! A line is one JSON object of version 1; times are RFC 3339 in UTC, ranks count from 1:
//!
//! ```json
//! {"v":1,"kind":"impression","id":"...","time":"...","session":"...","query":"...","shown":[{"doc_id":"...","page":1,"rank":1,
//!  "score":11.5}],"generation":2,"query_fingerprint":"...","randomised":false}
//! {"v":1,"kind":"click","impression":"...","time":"...","rank":1,"dwell_ms":5200}
//! {"v":1,"kind":"view","impression":"...","depth":5}
//! ```
//! Instead of `query` there may be `query_hmac`, whose texts the training is then given by a lookup.
//!
//! ```
//! use std::time::Duration;
//! use colqwen_index::click_log::{ClickLog, Impression, LoggedQuery, ShownPage};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("clicks.jsonl");
//! let log = ClickLog::append(path)?;
//! // What search found, as it is shown: `ShownPage::ranked(&hits)`.
//! let shown = [ShownPage { doc_id: "report.pdf".to_owned(), page: 3, rank: 1, score: 11.5 }];
//! let query = LoggedQuery::Text("how is the filter cleaned");
//! let id = log.impression(&Impression { session: "s1", query, shown: &shown, generation: 1, ..Impression::default() })?;
//! // When the person comes back, or never does.
//! log.click(&id, 1, Some(Duration::from_secs(40)))?;
//! # Ok(())
//! # }
//! ```

use std::collections::HashSet;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use colqwen_index_field::Fingerprint;
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::Error;
use crate::page_index::Hit;

/// The version of the lines.
const VERSION: u64 = 1;
/// The longest session or document that a reader takes.
const MAX_ID_BYTES: usize = 65_000;

/// Appends to a log file. Threads may share it, and several processes may append to one file: each line is one write to a file
/// opened for appending, under a lock. A line is in the hands of the operating system when its call returns, and survives a crash
/// of the program; [`sync`](Self::sync) makes all of them survive a power failure.
#[derive(Debug)]
pub struct ClickLog {
    path: PathBuf,
    file: Mutex<File>,
}

/// Names one list of pages that was shown.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize)]
#[serde(transparent)]
pub struct ImpressionId(String);

impl fmt::Display for ImpressionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<String> for ImpressionId {
    /// An id that went out with a page and came back with a click.
    fn from(id: String) -> Self {
        Self(id)
    }
}

/// The query of an impression.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LoggedQuery<'a> {
    /// Its text.
    Text(&'a str),
    /// A keyed hash of its text, made by the application: the log then holds no queries.
    Hmac(&'a str),
}

impl Default for LoggedQuery<'_> {
    fn default() -> Self {
        Self::Text("")
    }
}

/// A page as it was shown.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct ShownPage {
    /// The document.
    pub doc_id: String,
    /// The page within it, from 1.
    pub page: u32,
    /// Its place in the list, from 1.
    pub rank: u32,
    /// Its score.
    pub score: f32,
}

impl ShownPage {
    /// Hits in the order in which they are shown, best first.
    pub fn ranked(hits: &[Hit]) -> Vec<Self> {
        let shown =
            |(rank, hit): (u32, &Hit)| Self { doc_id: hit.doc_id.clone(), page: hit.page, rank, score: hit.score };
        (1..).zip(hits).map(shown).collect()
    }
}

/// One list of pages shown to one person.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Impression<'a> {
    /// Whoever searches, for as long as that is one person at one task; best a random id, salted. Never empty.
    pub session: &'a str,
    /// What was asked.
    pub query: LoggedQuery<'a>,
    /// What was shown.
    pub shown: &'a [ShownPage],
    /// The generation of the index that was searched.
    pub generation: u32,
    /// The query fingerprint of the model that encoded the query, if one did.
    pub query_fingerprint: Option<Fingerprint>,
    /// Whether the order was shuffled, to learn how much ranks alone attract clicks.
    pub randomised: bool,
}

#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Line<'a> {
    Impression {
        v: u64,
        id: &'a ImpressionId,
        time: String,
        session: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        query: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        query_hmac: Option<&'a str>,
        shown: &'a [ShownPage],
        generation: u32,
        #[serde(skip_serializing_if = "Option::is_none")]
        query_fingerprint: Option<Fingerprint>,
        randomised: bool,
    },
    Click {
        v: u64,
        impression: &'a ImpressionId,
        time: String,
        rank: u32,
        #[serde(skip_serializing_if = "Option::is_none")]
        dwell_ms: Option<u64>,
    },
    View {
        v: u64,
        impression: &'a ImpressionId,
        depth: u32,
    },
}

impl ClickLog {
    /// Opens a log to append to it, and creates it if need be.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn append(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let opened = OpenOptions::new().read(true).append(true).create(true).open(path);
        let file = Mutex::new(opened.map_err(Error::io(path, "open it"))?);
        Ok(Self { path: path.to_owned(), file })
    }

    /// Records that pages were shown, now.
    ///
    /// # Errors
    /// There is no session, a page has no document, a page or a rank is 0, or two have one rank: whoever reads the log would
    /// refuse the line. Or it cannot be written.
    pub fn impression(&self, shown: &Impression<'_>) -> Result<ImpressionId, Error> {
        check(shown)?;
        let id = ImpressionId(uuid::Uuid::new_v4().to_string());
        let (query, query_hmac) = match shown.query {
            LoggedQuery::Text(text) => (Some(text), None),
            LoggedQuery::Hmac(hmac) => (None, Some(hmac)),
        };
        let Impression { session, shown, generation, query_fingerprint, randomised, .. } = *shown;
        let (v, time) = (VERSION, self.now()?);
        let line = Line::Impression {
            v,
            id: &id,
            time,
            session,
            query,
            query_hmac,
            shown,
            generation,
            query_fingerprint,
            randomised,
        };
        self.write(&line)?;
        Ok(id)
    }

    /// Records that the page at `rank`, from 1, was clicked, now, and how long the person stayed there if that is known.
    ///
    /// # Errors
    /// `rank` is 0, or the line cannot be written.
    pub fn click(&self, impression: &ImpressionId, rank: u32, dwell: Option<Duration>) -> Result<(), Error> {
        if rank == 0 {
            return Err(Error::ClickRank);
        }
        let dwell_ms = dwell.map(|dwell| u64::try_from(dwell.as_millis()).unwrap_or(u64::MAX));
        self.write(&Line::Click { v: VERSION, impression, time: self.now()?, rank, dwell_ms })
    }

    /// Records that the person saw the pages down to rank `depth`.
    ///
    /// # Errors
    /// The line cannot be written.
    pub fn view(&self, impression: &ImpressionId, depth: u32) -> Result<(), Error> {
        self.write(&Line::View { v: VERSION, impression, depth })
    }

    /// Flushes all lines to the disk.
    ///
    /// # Errors
    /// The disk fails.
    pub fn sync(&self) -> Result<(), Error> {
        let file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.sync_data().map_err(Error::io(&self.path, "flush it"))
    }

    fn now(&self) -> Result<String, Error> {
        let told = OffsetDateTime::now_utc().format(&Rfc3339).map_err(io::Error::other);
        told.map_err(Error::io(&self.path, "tell the time"))
    }

    fn write(&self, line: &Line<'_>) -> Result<(), Error> {
        let mut text = serde_json::to_vec(line).map_err(|error| Error::io(&self.path, "write it")(error.into()))?;
        text.push(b'\n');
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        append_line(&mut file, text).map_err(Error::io(&self.path, "write it"))
    }
}

/// What readers of the log ask of an impression.
fn check(impression: &Impression<'_>) -> Result<(), Error> {
    let refuse = |field, expected, received: String| Err(Error::Impression { field, expected, received });
    let named = |field, text: &str| match text.len() {
        1..=MAX_ID_BYTES => Ok(()),
        other => refuse(field, "text of 1 to 65000 bytes", format!("{other} bytes")),
    };
    named("session", impression.session)?;
    let mut ranks = HashSet::new();
    for shown in impression.shown {
        named("doc_id of a page", &shown.doc_id)?;
        if shown.page == 0 {
            return refuse("page", "a number from 1", format!("0 of {:?}", shown.doc_id));
        }
        if shown.rank == 0 || !ranks.insert(shown.rank) {
            return refuse("rank", "a number from 1, each once", format!("{} of {:?}", shown.rank, shown.doc_id));
        }
    }
    Ok(())
}

/// Appends one line by one write. A line that a crash cut off is ended first, so that it spoils no other one.
fn append_line(file: &mut File, mut line: Vec<u8>) -> io::Result<()> {
    // Other processes wait here, so that the end of the file stays what it is found to be.
    let locked = match file.lock() {
        Ok(()) => true,
        Err(error) if error.kind() == io::ErrorKind::Unsupported => false,
        Err(error) => return Err(error),
    };
    let written = is_cut_off(file).and_then(|cut_off| {
        if cut_off {
            line.insert(0, b'\n');
        }
        file.write_all(&line)
    });
    if locked {
        file.unlock()?;
    }
    written
}

fn is_cut_off(file: &mut File) -> io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(false);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::{Value, json};

    use super::*;

    fn lines(path: &Path) -> Vec<Value> {
        fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn shown() -> Vec<ShownPage> {
        vec![
            ShownPage { doc_id: "a.pdf".to_owned(), page: 3, rank: 1, score: 1.5 },
            ShownPage { doc_id: "b \"quoted\"\n.pdf".to_owned(), page: 1, rank: 2, score: 1.25 },
        ]
    }

    #[test]
    fn lines_have_the_documented_form() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.jsonl");
        let log = ClickLog::append(&path).unwrap();
        let (shown, fingerprint) = (shown(), Fingerprint::from_bytes([7; 32]));
        let id = log
            .impression(&Impression {
                session: "s",
                query: LoggedQuery::Text("lamp"),
                shown: &shown,
                generation: 2,
                query_fingerprint: Some(fingerprint),
                randomised: true,
            })
            .unwrap();
        let second = Impression { session: "t", query: LoggedQuery::Hmac("00ff"), ..Impression::default() };
        assert_ne!(log.impression(&second).unwrap(), id);
        log.click(&id, 2, Some(Duration::from_millis(1234))).unwrap();
        log.click(&id, 1, None).unwrap();
        log.view(&ImpressionId::from(id.to_string()), 5).unwrap();
        log.sync().unwrap();
        assert!(matches!(log.click(&id, 0, None), Err(Error::ClickRank)));

        let mut lines = lines(&path);
        for line in &mut lines[..4] {
            let time = line.as_object_mut().unwrap().remove("time").unwrap();
            let time = OffsetDateTime::parse(time.as_str().unwrap(), &Rfc3339).unwrap();
            assert!(time.offset().is_utc() && (OffsetDateTime::now_utc() - time).whole_seconds().abs() < 600);
        }
        assert_eq!(
            lines[0],
            json!({
                "v": 1, "kind": "impression", "id": id.to_string(), "session": "s", "query": "lamp",
                "shown": [
                    {"doc_id": "a.pdf", "page": 3, "rank": 1, "score": 1.5},
                    {"doc_id": "b \"quoted\"\n.pdf", "page": 1, "rank": 2, "score": 1.25},
                ],
                "generation": 2, "query_fingerprint": "07".repeat(32), "randomised": true,
            })
        );
        assert_eq!(lines[1]["query_hmac"], "00ff");
        assert!(lines[1].get("query").is_none() && lines[1].get("query_fingerprint").is_none());
        let click = json!({"v": 1, "kind": "click", "impression": id.to_string(), "rank": 2, "dwell_ms": 1234});
        assert_eq!(lines[2], click);
        assert_eq!(lines[3], json!({"v": 1, "kind": "click", "impression": id.to_string(), "rank": 1}));
        assert_eq!(lines[4], json!({"v": 1, "kind": "view", "impression": id.to_string(), "depth": 5}));
    }

    #[test]
    fn what_a_reader_would_refuse_is_not_logged() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.jsonl");
        let log = ClickLog::append(&path).unwrap();
        let refused = |session: &str, change: &dyn Fn(&mut Vec<ShownPage>)| {
            let mut shown = shown();
            change(&mut shown);
            let impression = Impression { session, shown: &shown, ..Impression::default() };
            log.impression(&impression).unwrap_err().to_string()
        };
        assert!(refused("", &|_| {}).contains("session"));
        assert!(refused(&"s".repeat(65_001), &|_| {}).contains("65001"));
        assert!(refused("s", &|shown| shown[0].doc_id.clear()).contains("doc_id"));
        assert!(refused("s", &|shown| shown[1].page = 0).contains("page"));
        assert!(refused("s", &|shown| shown[1].rank = 0).contains("rank"));
        assert!(refused("s", &|shown| shown[1].rank = 1).contains("each once"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "");
    }

    #[test]
    fn a_line_that_was_cut_off_spoils_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.jsonl");
        fs::write(&path, "{\"v\":1,\"kind\":\"cli").unwrap();
        let log = ClickLog::append(&path).unwrap();
        let id = ImpressionId::from("i".to_owned());
        log.view(&id, 1).unwrap();
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"torn").unwrap();
        log.view(&id, 2).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!((lines.len(), lines[0], lines[2]), (4, "{\"v\":1,\"kind\":\"cli", "torn"));
        for (line, depth) in [(lines[1], 1), (lines[3], 2)] {
            assert_eq!(serde_json::from_str::<Value>(line).unwrap()["depth"], depth);
        }
    }

    #[test]
    fn threads_and_handles_append_whole_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.jsonl");
        let shown = shown();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (path, shown) = (&path, &shown);
                scope.spawn(move || {
                    // Each thread has a handle of its own, as processes have.
                    let log = ClickLog::append(path).unwrap();
                    for _ in 0..50 {
                        let session = format!("s{thread}").repeat(200);
                        log.impression(&Impression { session: &session, shown, ..Impression::default() }).unwrap();
                    }
                });
            }
        });
        let ids: std::collections::HashSet<String> =
            lines(&path).iter().map(|line| line["id"].as_str().unwrap().to_owned()).collect();
        assert_eq!(ids.len(), 200);
    }
}
