//! Running the program and reading what it says.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::Duration;

use colqwen_index::ingest::embeddings::{PageReader, PageRecord};
use serde_json::Value;
use tempfile::TempDir;

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_colqwen-index");

/// Runs the program with the given arguments, each anything that is an `OsStr`, and waits for it.
macro_rules! cli {
    ($($argument:expr),* $(,)?) => {{
        let mut command = std::process::Command::new(crate::support::PROGRAM);
        $(command.arg($argument);)*
        crate::support::Ran::of(&mut command)
    }};
}
pub(crate) use cli;

/// What a run of the program gave.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

/// What `index` says it did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Report {
    pub encoded: u64,
    pub resumed: u64,
    pub unchanged: u64,
    pub pruned: u64,
    pub problems: u64,
}

impl Ran {
    pub fn of(command: &mut Command) -> Self {
        Self::from(command.stdin(Stdio::null()).output().unwrap())
    }

    /// The same, if the exit code is 0.
    #[track_caller]
    pub fn done(self) -> Self {
        assert_eq!(self.code, Some(0), "{}{}", self.out, self.err);
        self
    }

    /// What it said on stderr, if it ended with this code and without results.
    #[track_caller]
    pub fn refused(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{}{}", self.out, self.err);
        assert_eq!(self.out, "", "a command that fails prints no results");
        assert!(!self.err.contains("panicked"), "{}", self.err);
        self.err
    }

    /// The line in which `index` sums up.
    #[track_caller]
    pub fn report(&self) -> Report {
        let line = self.err.lines().find(|line| line.contains("pages encoded"));
        let line = line.unwrap_or_else(|| panic!("no report in {}", self.err));
        let numbers: Vec<u64> = line.split(", ").map(|part| part.split(' ').next().unwrap().parse().unwrap()).collect();
        let [encoded, resumed, unchanged, pruned, problems] = numbers[..] else { panic!("unexpected report {line}") };
        Report { encoded, resumed, unchanged, pruned, problems }
    }

    /// The result lines of `--json`, each of exactly the promised shape.
    #[track_caller]
    pub fn json_lines(&self) -> Vec<Line> {
        self.out.lines().map(Line::parse).collect()
    }

    /// Document and page of the hits of the only query.
    #[track_caller]
    pub fn hits(&self) -> Vec<(String, u64)> {
        let lines = self.json_lines();
        assert_eq!(lines.len(), 1, "{}", self.out);
        assert_eq!(lines[0].query_id, "0", "a typed query is number 0");
        lines[0].hits.iter().map(|hit| (hit.doc_id.clone(), hit.page)).collect()
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

/// One line of `--json`.
#[derive(Clone, PartialEq, Debug)]
pub struct Line {
    pub query_id: String,
    pub hits: Vec<JsonHit>,
}

#[derive(Clone, PartialEq, Debug)]
pub struct JsonHit {
    pub doc_id: String,
    pub page: u64,
    pub score: f64,
}

impl Line {
    #[track_caller]
    fn parse(text: &str) -> Self {
        let line: Value = serde_json::from_str(text).unwrap();
        if line.get("proven").is_some() {
            assert_eq!(keys(&line), ["bits", "expected_recall", "hits", "proven", "query_id"], "{text}");
            let (proven, found) = (line["proven"].as_u64().unwrap(), line["hits"].as_array().unwrap().len() as u64);
            assert!(proven <= found && (0.0..=1.0).contains(&line["expected_recall"].as_f64().unwrap()), "{text}");
        } else {
            assert_eq!(keys(&line), ["hits", "query_id"], "{text}");
        }
        let hit = |hit: &Value| {
            assert_eq!(keys(hit), ["doc_id", "page", "score"], "{text}");
            JsonHit {
                doc_id: hit["doc_id"].as_str().unwrap().to_owned(),
                page: hit["page"].as_u64().unwrap(),
                score: hit["score"].as_f64().unwrap(),
            }
        };
        let hits: Vec<JsonHit> = line["hits"].as_array().unwrap().iter().map(hit).collect();
        assert!(hits.is_sorted_by(|one, next| one.score >= next.score), "best hit first: {text}");
        Self { query_id: line["query_id"].as_str().unwrap().to_owned(), hits }
    }
}

/// The keys of a JSON object, sorted.
pub fn keys(object: &Value) -> Vec<&str> {
    let keys: BTreeSet<&str> = object.as_object().unwrap().keys().map(String::as_str).collect();
    keys.into_iter().collect()
}

/// The folder of the sample PDFs.
pub fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data")
}

/// The folder of a tiny checkpoint of random weights, which finds nothing and takes no time.
pub fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle/fixtures/tiny")
}

/// The folder of the builtin model without the enlargement of small pictures, which takes its time: for many pages that need no
/// meaning.
pub fn quick() -> PathBuf {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    let make = || {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("quick");
        std::fs::create_dir_all(&folder).unwrap();
        for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("ingest/small")).unwrap() {
            let path = entry.unwrap().path();
            std::fs::copy(&path, folder.join(path.file_name().unwrap())).unwrap();
        }
        let path = folder.join("preprocessor_config.json");
        let mut options: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        options["size"]["shortest_edge"] = 3136.into();
        std::fs::write(path, options.to_string()).unwrap();
        folder
    };
    MADE.get_or_init(make).clone()
}

/// How many pages the sample PDFs have together.
pub const SAMPLE_PAGES: u64 = 9;
/// How many sample PDFs there are.
pub const SAMPLE_FILES: u64 = 5;

/// A temporary folder with a copy of the sample PDFs in `docs`.
pub fn copied_samples() -> TempDir {
    let temporary = tempfile::tempdir().unwrap();
    let docs = temporary.path().join("docs");
    std::fs::create_dir(&docs).unwrap();
    copy_samples(&docs, "");
    temporary
}

/// Copies the sample PDFs into a folder, with a prefix before each name.
pub fn copy_samples(folder: &Path, prefix: &str) {
    for entry in std::fs::read_dir(samples()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "pdf") {
            let name = path.file_name().unwrap().to_str().unwrap();
            std::fs::copy(&path, folder.join(format!("{prefix}{name}"))).unwrap();
        }
    }
}

/// All pages of an index, by `export`, sorted by document and page.
#[track_caller]
pub fn pages(index: &Path) -> Vec<PageRecord> {
    let temporary = tempfile::tempdir().unwrap();
    let file = temporary.path().join("pages.parquet");
    cli!("export", "--index", index, "--embeddings", &file).done();
    let mut pages: Vec<PageRecord> = PageReader::open(&file).unwrap().map(Result::unwrap).collect();
    pages.sort_by(|one, other| (&one.doc_id, one.page).cmp(&(&other.doc_id, other.page)));
    pages
}

/// Two indexes hold the same pages with the same vectors, texts, hashes and further columns.
#[track_caller]
pub fn assert_same(one: &Path, other: &Path) {
    let (one, other) = (pages(one), pages(other));
    let keys = |pages: &[PageRecord]| -> Vec<_> { pages.iter().map(|page| (page.doc_id.clone(), page.page)).collect() };
    assert_eq!(keys(&one), keys(&other));
    // Without the vectors in the message.
    for (one, other) in one.iter().zip(&other) {
        assert!(one == other, "{:?} page {} differs", one.doc_id, one.page);
    }
}

/// Document and page of all pages of an index, sorted; none twice.
#[track_caller]
pub fn page_keys(index: &Path) -> Vec<(String, u32)> {
    let keys: Vec<(String, u32)> = pages(index).into_iter().map(|page| (page.doc_id, page.page)).collect();
    assert!(keys.is_sorted_by(|one, next| one < next), "a page stands in the index twice: {keys:?}");
    keys
}

/// What `inspect --json --verify` says.
#[track_caller]
pub fn inspect(index: &Path) -> Value {
    serde_json::from_str(&cli!("inspect", index, "--json", "--verify").done().out).unwrap()
}

/// Starts `index` with the [`quick`] model.
pub fn start_index(docs: &Path, index: &Path) -> Child {
    let model = quick();
    start(&[
        "index".as_ref(),
        docs.as_os_str(),
        "--index".as_ref(),
        index.as_os_str(),
        "--model".as_ref(),
        model.as_os_str(),
    ])
}

/// Starts the program.
pub fn start(arguments: &[impl AsRef<std::ffi::OsStr>]) -> Child {
    let mut command = Command::new(PROGRAM);
    command.args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Sends a signal, such as `-INT` for Ctrl-C.
pub fn signal(program: &Child, signal: &str) {
    assert!(Command::new("kill").args([signal, &program.id().to_string()]).status().unwrap().success());
}

/// Waits until `condition` holds or the program has ended; tells whether the program still runs.
pub fn wait_until(program: &mut Child, condition: impl Fn() -> bool) -> bool {
    loop {
        if program.try_wait().unwrap().is_some() {
            return false;
        }
        if condition() {
            return true;
        }
        sleep(Duration::from_millis(1));
    }
}

/// Names of the files in a folder; none where there is no folder.
pub fn file_names(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    entries.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned())).collect()
}

/// Paths of the finished parts of an index.
pub fn parts(index: &Path) -> Vec<PathBuf> {
    let folder = index.join("embeddings");
    let mut names = file_names(&folder);
    names.retain(|name| name.ends_with(".parquet"));
    names.sort();
    names.into_iter().map(|name| folder.join(name)).collect()
}

/// Whether a part is being written.
pub fn writes_part(index: &Path) -> bool {
    file_names(&index.join("embeddings")).iter().any(|name| name.contains(".parquet.tmp-"))
}
