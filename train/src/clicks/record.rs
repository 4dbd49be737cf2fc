//! One line of a click log: what was shown, what was clicked, how far down somebody looked.
//!
//! Version 1, one JSON object per line. Parts that a reader does not know are left alone; another version or kind is not.
//!
//! | kind | parts |
//! |---|---|
//! | `impression` | `id`, `time`, `session`, `query` or `query_hmac`, `shown`: list of `doc_id`, `page`, `rank`, `score`?; `generation`?, `query_fingerprint`?, `randomised`? |
//! | `click` | `impression`, `time`, `rank`, `dwell_ms`? |
//! | `view` | `impression`, `depth` |
//!
//! Times are RFC 3339 with an offset, ranks and pages count from 1. What has a question mark may be left out or null.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::data::PageId;

/// The version that is written, and the only one that is read.
pub const VERSION: u32 = 1;
/// The most bytes that an id, a session or a `doc_id` may have.
const MAX_ID_BYTES: usize = 65_000;
const MICROS: i128 = 1000;

/// What is wrong with a line of a log.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct RecordProblem(pub(super) String);

impl RecordProblem {
    fn expected(what: &str, expected: &str, received: impl fmt::Display) -> Self {
        Self(format!("{what}: expected {expected}, received {received}"))
    }
}

/// A moment, in microseconds since the beginning of 1970 in UTC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Time(i64);

impl Time {
    /// The moment that lies `micros` microseconds after the beginning of 1970.
    ///
    /// # Errors
    /// It lies outside of the years 0 to 9999, which RFC 3339 can name.
    pub fn from_micros(micros: i64) -> Result<Self, RecordProblem> {
        let within = OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * MICROS)
            .is_ok_and(|moment| (0..=9999).contains(&moment.year()));
        if within { Ok(Self(micros)) } else { Err(RecordProblem::expected("time", "a year from 0 to 9999", micros)) }
    }

    /// The present.
    pub fn now() -> Self {
        Self((OffsetDateTime::now_utc().unix_timestamp_nanos() / MICROS) as i64)
    }

    /// Microseconds since the beginning of 1970.
    pub fn micros(self) -> i64 {
        self.0
    }
}

impl FromStr for Time {
    type Err = RecordProblem;

    fn from_str(text: &str) -> Result<Self, RecordProblem> {
        let moment = OffsetDateTime::parse(text, &Rfc3339)
            .map_err(|_| RecordProblem::expected("time", "RFC 3339 with an offset", format!("{text:?}")))?;
        Self::from_micros((moment.unix_timestamp_nanos().div_euclid(MICROS)) as i64)
    }
}

impl TryFrom<String> for Time {
    type Error = RecordProblem;

    fn try_from(text: String) -> Result<Self, RecordProblem> {
        text.parse()
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let moment = OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * MICROS).map_err(|_| fmt::Error)?;
        f.write_str(&moment.format(&Rfc3339).map_err(|_| fmt::Error)?)
    }
}

impl From<Time> for String {
    fn from(time: Time) -> Self {
        time.to_string()
    }
}

/// What was asked, as the application was allowed to log it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum LoggedQuery {
    /// Its text.
    Text(String),
    /// A keyed hash of its text; a lookup table knows which.
    Hmac(String),
}

/// A page in a list of results.
#[derive(Clone, PartialEq, Debug)]
pub struct ShownPage {
    /// The page.
    pub page: PageId,
    /// Where it stood, from 1.
    pub rank: u32,
    /// The score that brought it there.
    pub score: Option<f32>,
}

/// A list of results that somebody got to see.
#[derive(Clone, PartialEq, Debug)]
pub struct Impression {
    /// Its name, unlike that of any other.
    pub id: String,
    /// When it was shown.
    pub time: Time,
    /// Whose it was, salted by the application.
    pub session: String,
    /// What was asked.
    pub query: LoggedQuery,
    /// The results; no rank stands twice.
    pub shown: Vec<ShownPage>,
    /// The generation of the index that answered.
    pub generation: Option<String>,
    /// The model of the query.
    pub query_fingerprint: Option<String>,
    /// Whether the order was left to chance.
    pub randomised: bool,
}

/// A result that was opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Click {
    /// The impression that the result stood in.
    pub impression: String,
    /// When.
    pub time: Time,
    /// The result, by its rank.
    pub rank: u32,
    /// How long it was looked at, in milliseconds.
    pub dwell_ms: Option<u64>,
}

/// How far down a list came into view.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct View {
    /// The impression.
    pub impression: String,
    /// The last rank that was in view; 0 for none.
    pub depth: u32,
}

/// A line of a log.
#[derive(Clone, PartialEq, Debug)]
pub enum Record {
    /// `impression`.
    Impression(Impression),
    /// `click`.
    Click(Click),
    /// `view`.
    View(View),
}

impl Record {
    /// Reads a line, without its line break.
    ///
    /// # Errors
    /// It is no JSON object, of another version or kind, lacks something, or holds what cannot be right.
    pub fn parse(line: &[u8]) -> Result<Self, RecordProblem> {
        let json = |error: serde_json::Error| RecordProblem(error.to_string());
        let head: Head = serde_json::from_slice(line).map_err(json)?;
        if head.v != VERSION {
            return Err(RecordProblem::expected("v", "1", head.v));
        }
        match head.kind.as_str() {
            "impression" => Raw::into_impression(serde_json::from_slice(line).map_err(json)?).map(Self::Impression),
            "click" => {
                let click: RawClick = serde_json::from_slice(line).map_err(json)?;
                let RawClick { impression, time, rank, dwell_ms } = click;
                Self::Click(Click { impression, time, rank, dwell_ms }).checked()
            }
            "view" => {
                let view: RawView = serde_json::from_slice(line).map_err(json)?;
                Self::View(View { impression: view.impression, depth: view.depth }).checked()
            }
            other => Err(RecordProblem::expected("kind", "impression, click or view", format!("{other:?}"))),
        }
    }

    /// The line of this record, without a line break.
    ///
    /// # Errors
    /// It holds what [`Record::parse`] would refuse.
    pub fn line(&self) -> Result<String, RecordProblem> {
        let text = match self.clone().checked()? {
            Self::Impression(impression) => serde_json::to_string(&Raw::of(impression)),
            Self::Click(Click { impression, time, rank, dwell_ms }) => {
                let click = RawClick { impression, time, rank, dwell_ms };
                serde_json::to_string(&Line { v: VERSION, kind: "click", parts: click })
            }
            Self::View(View { impression, depth }) => {
                serde_json::to_string(&Line { v: VERSION, kind: "view", parts: RawView { impression, depth } })
            }
        };
        text.map_err(|error| RecordProblem(error.to_string()))
    }

    /// The record, if everything in it can be right.
    pub(super) fn checked(self) -> Result<Self, RecordProblem> {
        match &self {
            Self::Impression(impression) => {
                named("id", &impression.id)?;
                named("session", &impression.session)?;
                let mut ranks = std::collections::HashSet::new();
                for shown in &impression.shown {
                    named("shown.doc_id", &shown.page.doc_id)?;
                    from_one("shown.page", shown.page.page)?;
                    from_one("shown.rank", shown.rank)?;
                    if !ranks.insert(shown.rank) {
                        return Err(RecordProblem::expected("shown.rank", "each rank once", shown.rank));
                    }
                }
            }
            Self::Click(click) => {
                named("impression", &click.impression)?;
                from_one("rank", click.rank)?;
            }
            Self::View(view) => named("impression", &view.impression)?,
        }
        Ok(self)
    }
}

fn named(what: &str, text: &str) -> Result<(), RecordProblem> {
    if (1..=MAX_ID_BYTES).contains(&text.len()) {
        return Ok(());
    }
    Err(RecordProblem::expected(what, "text of 1 to 65000 bytes", format!("{} bytes", text.len())))
}

fn from_one(what: &str, number: u32) -> Result<(), RecordProblem> {
    if number > 0 { Ok(()) } else { Err(RecordProblem::expected(what, "a number from 1", number)) }
}

#[derive(Deserialize)]
struct Head {
    v: u32,
    kind: String,
}

#[derive(Serialize)]
struct Line<T> {
    v: u32,
    kind: &'static str,
    #[serde(flatten)]
    parts: T,
}

#[derive(Serialize, Deserialize)]
struct RawClick {
    impression: String,
    time: Time,
    rank: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dwell_ms: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct RawView {
    impression: String,
    depth: u32,
}

#[derive(Serialize, Deserialize)]
struct RawShown {
    doc_id: String,
    page: u32,
    rank: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    score: Option<f32>,
}

/// A generation by its number, or by a name.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Generation {
    Number(u64),
    Name(String),
}

#[derive(Serialize, Deserialize)]
struct Raw {
    id: String,
    time: Time,
    session: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    query: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    query_hmac: Option<String>,
    shown: Vec<RawShown>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    generation: Option<Generation>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    query_fingerprint: Option<String>,
    #[serde(default)]
    randomised: Option<bool>,
}

impl Raw {
    fn of(impression: Impression) -> Line<Self> {
        let (query, query_hmac) = match impression.query {
            LoggedQuery::Text(text) => (Some(text), None),
            LoggedQuery::Hmac(hmac) => (None, Some(hmac)),
        };
        let shown = impression.shown.into_iter().map(|ShownPage { page, rank, score }| RawShown {
            doc_id: page.doc_id,
            page: page.page,
            rank,
            score,
        });
        let number = |text: String| text.parse().map_or(Generation::Name(text), Generation::Number);
        let parts = Self {
            id: impression.id,
            time: impression.time,
            session: impression.session,
            query,
            query_hmac,
            shown: shown.collect(),
            generation: impression.generation.map(number),
            query_fingerprint: impression.query_fingerprint,
            randomised: Some(impression.randomised),
        };
        Line { v: VERSION, kind: "impression", parts }
    }

    fn into_impression(self) -> Result<Impression, RecordProblem> {
        let shown = self.shown.into_iter().map(|RawShown { doc_id, page, rank, score }| ShownPage {
            page: PageId { doc_id, page },
            rank,
            score,
        });
        let impression = Impression {
            id: self.id,
            time: self.time,
            session: self.session,
            query: one_query(self.query, self.query_hmac)?,
            shown: shown.collect(),
            generation: self.generation.map(|generation| match generation {
                Generation::Number(number) => number.to_string(),
                Generation::Name(name) => name,
            }),
            query_fingerprint: self.query_fingerprint,
            randomised: self.randomised.unwrap_or(false),
        };
        match Record::Impression(impression).checked()? {
            Record::Impression(impression) => Ok(impression),
            _ => Err(RecordProblem("no impression".to_owned())),
        }
    }
}

/// The query of an impression, which is given in one way.
pub(super) fn one_query(text: Option<String>, hmac: Option<String>) -> Result<LoggedQuery, RecordProblem> {
    let received = match (text, hmac) {
        (Some(text), None) => return Ok(LoggedQuery::Text(text)),
        (None, Some(hmac)) => return Ok(LoggedQuery::Hmac(hmac)),
        (Some(_), Some(_)) => "both",
        (None, None) => "neither",
    };
    Err(RecordProblem::expected("query", "either query or query_hmac", received))
}

#[cfg(test)]
mod tests {
    use super::*;

    const IMPRESSION: &str = r#"{"v":1,"kind":"impression","id":"i1","time":"2026-03-01T10:00:00.25+01:00","session":"s","query":"oil filter","shown":[{"doc_id":"a.pdf","page":3,"rank":1,"score":12.5},{"doc_id":"b.pdf","page":1,"rank":2,"score":null}],"generation":4,"query_fingerprint":"ab","randomised":true}"#;

    #[test]
    fn lines_of_every_kind_are_read_and_written() {
        let lines = [
            IMPRESSION,
            r#"{"v":1,"kind":"click","impression":"i1","time":"2026-03-01T09:00:05Z","rank":2,"dwell_ms":40000}"#,
            r#"{"v":1,"kind":"click","impression":"i1","time":"2026-03-01T09:00:05Z","rank":2}"#,
            r#"{"v":1,"kind":"view","impression":"i1","depth":7,"more":{"is":"left alone"}}"#,
            r#"{"v":1,"kind":"impression","id":"i2","time":"2026-03-01T09:00:05Z","session":"s","query_hmac":"f0","shown":[]}"#,
        ];
        for line in lines {
            let record = Record::parse(line.as_bytes()).unwrap();
            assert_eq!(Record::parse(record.line().unwrap().as_bytes()).unwrap(), record);
        }
        let Record::Impression(found) = Record::parse(IMPRESSION.as_bytes()).unwrap() else { panic!() };
        assert_eq!(found.time.to_string(), "2026-03-01T09:00:00.25Z");
        assert_eq!((found.generation.as_deref(), found.randomised), (Some("4"), true));
        let second = ShownPage { page: PageId::new("b.pdf", 1), rank: 2, score: None };
        assert_eq!((found.query, &found.shown[1]), (LoggedQuery::Text("oil filter".into()), &second));
    }

    #[test]
    fn what_cannot_be_right_is_refused_in_words() {
        let refused = [
            ("no json", "expected"),
            (r#"{"v":2,"kind":"view","impression":"i","depth":1}"#, "v: expected 1, received 2"),
            (r#"{"v":1,"kind":"scroll","impression":"i"}"#, "\"scroll\""),
            (r#"{"v":1,"kind":"click","impression":"i","time":"2026-03-01T09:00:05Z","rank":0}"#, "from 1"),
            (r#"{"v":1,"kind":"click","impression":"i","time":"2026-03-01T09:00:05","rank":1}"#, "RFC 3339"),
            (r#"{"v":1,"kind":"click","impression":"i","time":"2026-02-30T09:00:05Z","rank":1}"#, "RFC 3339"),
            (r#"{"v":1,"kind":"click","impression":"","time":"2026-03-01T09:00:05Z","rank":1}"#, "0 bytes"),
            (r#"{"v":1,"kind":"click","impression":"i","time":"2026-03-01T09:00:05Z","rank":1,"dwell_ms":-4}"#, "-4"),
            (r#"{"v":1,"kind":"view","impression":"i"}"#, "depth"),
        ];
        for (line, expected) in refused {
            let problem = Record::parse(line.as_bytes()).unwrap_err().to_string();
            assert!(problem.contains(expected), "{line}: {problem}");
        }
        let changed = |from: &str, to: &str| {
            assert!(IMPRESSION.contains(from));
            Record::parse(IMPRESSION.replace(from, to).as_bytes()).unwrap_err().to_string()
        };
        assert!(changed("\"query\":\"oil filter\",", "").contains("neither"));
        assert!(changed("\"session\"", "\"query_hmac\":\"0\",\"session\"").contains("both"));
        assert!(changed("\"rank\":2", "\"rank\":1").contains("each rank once"));
        assert!(changed("\"page\":3", "\"page\":0").contains("shown.page"));
    }

    #[test]
    fn times_are_moments_whatever_their_offset() {
        let time = |text: &str| text.parse::<Time>().unwrap();
        assert_eq!(time("2026-03-01T10:00:00+01:00"), time("2026-03-01T09:00:00Z"));
        assert!(time("1969-12-31T23:59:59.999999Z").micros() == -1 && time("0001-01-01T00:00:00Z").micros() < 0);
        assert!(Time::from_micros(i64::MAX).is_err());
        assert!(Time::now() > time("2025-01-01T00:00:00Z"));
    }
}
