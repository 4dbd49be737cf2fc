//! `train-from-clicks`: from a log to a generation that is published, refused, or gone back from.
//!
//! Users mean pages by words that stand on none of them, so that the model before can know nothing of what they want.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use std::time::Duration;

use colqwen_index::click_log::{ClickLog, Impression, LoggedQuery, ShownPage};
use colqwen_index::train::clicks::log::{ReadOptions, read};
use serde_json::{Value, json};

use super::support::{PROGRAM, Ran, cli, pages, samples, tiny};

const QUERIES: usize = 40;
const VISITS: usize = 24;

/// What the users of one log do.
#[derive(Clone, Copy, PartialEq)]
pub enum Users {
    /// They click the page that they mean.
    Mean,
    /// They click anything; each number in a way of its own.
    Random(usize),
}

/// Numbers that look random, by their key.
fn chance(key: &[usize]) -> f64 {
    let text = format!("{key:?}");
    let hash = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    // Low bits of this hash are poor.
    (hash.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 11) as f64 / (1u64 << 53) as f64
}

fn query(number: usize) -> String {
    let syllables = ["zal", "qui", "vox", "jum", "kry", "wef", "pyx", "hoz", "gax", "dwi"];
    let word = |key: usize| format!("{}{}", syllables[key % 10], syllables[(key / 10 + 3 * key + 1) % 10]);
    format!("{} {}", word(number), word(number + 57))
}

/// All pages of the samples, and which of them a query means.
fn meant(shown: &[(String, u32)], number: usize) -> usize {
    (number * 7 + number / 9) % shown.len()
}

/// Writes a log of a week over the pages of an index, each query having one list.
pub fn write_log(path: &Path, index: &Path, users: Users) {
    write_log_of(path, index, users, (0, 1));
}

/// The same, of queries from number `first` on, each having so many lists in turn.
pub fn write_log_of(path: &Path, index: &Path, users: Users, (first, lists): (usize, usize)) {
    let mut all: Vec<(String, u32)> = pages(index).into_iter().map(|page| (page.doc_id, page.page)).collect();
    all.sort();
    let mut lines = String::new();
    for visit in 0..QUERIES * VISITS {
        // A session asks three queries in a row; every query is asked every day.
        let (number, session) = (first + (visit * 11 + visit / QUERIES) % QUERIES, visit / 3);
        let minute = visit * 10_000 / (QUERIES * VISITS);
        let time = format!("2026-03-{:02}T{:02}:{:02}:00Z", 2 + minute / 1440, minute % 1440 / 60, minute % 60);
        let turn = (number * 5 + visit % lists) % all.len();
        let list: Vec<&(String, u32)> = (0..all.len()).map(|at| &all[(at + turn) % all.len()]).collect();
        let shown: Vec<Value> = (1..).zip(&list).map(|(rank, (doc_id, page))| {
            json!({"doc_id": doc_id, "page": page, "rank": rank, "score": 1.0 / f64::from(rank)})
        }).collect();
        let id = format!("i{visit}");
        let impression = json!({"v": 1, "kind": "impression", "id": id, "time": time, "session": format!("s{session}"),
            "query": query(number), "shown": shown, "generation": "1", "randomised": false});
        writeln!(lines, "{impression}").unwrap();
        for (rank, page) in (1..).zip(&list) {
            let wanted = **page == all[meant(&all, number)];
            let likely = match users {
                Users::Mean if wanted => 0.7,
                Users::Mean => 0.03,
                Users::Random(_) => 0.15,
            };
            let night = if let Users::Random(night) = users { night } else { 0 };
            if chance(&[visit, rank, night]) < likely {
                let click =
                    json!({"v": 1, "kind": "click", "impression": id, "time": time, "rank": rank, "dwell_ms": 60_000});
                writeln!(lines, "{click}").unwrap();
            }
        }
    }
    fs::write(path, lines).unwrap();
}

pub fn samples_index(folder: &Path) -> PathBuf {
    let index = folder.join("index");
    cli!("index", samples(), "--index", &index, "--bits", "16").done();
    index
}

/// How many queries find the page they mean first.
fn right(index: &Path) -> usize {
    let mut all: Vec<(String, u32)> = pages(index).into_iter().map(|page| (page.doc_id, page.page)).collect();
    all.sort();
    let first = |number: &usize| {
        let hits = cli!("search", index, query(*number), "-k", "1", "--effort", "exact", "--json").done().hits();
        let (doc_id, page) = &all[meant(&all, *number)];
        hits[0] == (doc_id.clone(), u64::from(*page))
    };
    (0..QUERIES).filter(first).count()
}

/// Every file that serves, with its bytes.
pub fn served(index: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = vec![index.join("current")];
    let mut folders = vec![index.join("generations")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    // Locks have no content, and who reads makes them.
    files.retain(|file| !file.extension().is_some_and(|extension| extension == "lock" || extension == "lease"));
    files.sort();
    files.into_iter().map(|file| (file.clone(), fs::read(&file).unwrap())).collect()
}

pub fn train(index: &Path, log: &Path, more: &[&str]) -> Ran {
    train_for(index, log, ["0.004", "12"], more)
}

pub fn train_for(index: &Path, log: &Path, [rate, epochs]: [&str; 2], more: &[&str]) -> Ran {
    let fixed = ["--batch", "32", "--epochs", epochs, "--rate", rate, "--seed", "1", "--json"];
    let mut command = std::process::Command::new(PROGRAM);
    command.args(["train-from-clicks", "--index"]).arg(index).arg("--clicks").arg(log);
    Ran::of(command.args(fixed).args(more))
}

#[test]
fn clicks_teach_the_query_side_and_a_step_back_is_kept() {
    let temporary = tempfile::tempdir().unwrap();
    let index = samples_index(temporary.path());
    let log = temporary.path().join("clicks.jsonl");
    write_log(&log, &index, Users::Mean);
    let (before, vectors) = (right(&index), pages(&index));
    let dry = train(&index, &log, &["--dry-run"]).done();
    let object: Value = serde_json::from_str(dry.out.lines().last().unwrap()).unwrap();
    assert_eq!(
        (object["decision"].as_str(), object["generation"].as_u64()),
        (Some("would publish"), Some(1)),
        "{object}"
    );
    assert_eq!(right(&index), before);
    let report = temporary.path().join("report.html");
    let run = train(&index, &log, &["--report", report.to_str().unwrap()]).done();
    let object: Value = serde_json::from_str(run.out.lines().last().unwrap()).unwrap();
    assert_eq!((object["decision"].as_str(), object["generation"].as_u64()), (Some("published"), Some(2)), "{object}");
    let after = right(&index);
    assert!(after >= before + QUERIES / 5, "{before} right before, {after} after");
    // No stored vector has changed.
    assert_eq!(pages(&index), vectors);
    let html = fs::read_to_string(report).unwrap();
    assert!(html.contains("nDCG@10") && html.contains("data:image/png") && html.contains("<svg"));
    assert!((0..QUERIES).all(|number| !html.contains(&query(number))), "queries go by their hashes");
    let model = index.canonicalize().unwrap().join("models/000002");
    assert!(model.join("page/config.json").exists() && model.join("query/config.json").exists());
    // The index is its folder: where that is moved to, its model is.
    let deployed = temporary.path().join("deployed");
    fs::rename(&index, &deployed).unwrap();
    let index = deployed;
    assert_eq!(right(&index), after);
    // The same log again has nothing new.
    let again = train(&index, &log, &[]);
    assert_eq!(again.code, Some(3), "{again:?}");
    cli!("rollback", &index).done();
    assert_eq!(right(&index), before);
}

#[test]
fn what_an_application_logs_is_what_training_reads() {
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path().join("clicks.jsonl");
    let log = ClickLog::append(&path).unwrap();
    let shown = [ShownPage { doc_id: "a.pdf".to_owned(), page: 3, rank: 1, score: 11.5 }];
    let impression = Impression {
        session: "s1",
        query: LoggedQuery::Text("filter"),
        shown: &shown,
        generation: 2,
        ..Impression::default()
    };
    let id = log.impression(&impression).unwrap();
    log.click(&id, 1, Some(Duration::from_secs(40))).unwrap();
    log.view(&id, 1).unwrap();
    let read = read(&[path], &[], &ReadOptions::default()).unwrap();
    assert_eq!((read.files[0].bad, read.files[0].records), (0, 3), "{:?}", read.files[0].first_bad);
    let seen = &read.seen[0];
    assert_eq!((seen.impression.generation.as_deref(), seen.depth), (Some("2"), Some(1)));
    assert_eq!((seen.clicks[0].rank, seen.clicks[0].dwell_ms), (1, Some(40_000)));
}

#[test]
fn noise_is_refused_and_nothing_that_serves_changes() {
    let temporary = tempfile::tempdir().unwrap();
    let index = samples_index(temporary.path());
    let log = temporary.path().join("clicks.jsonl");
    write_log(&log, &index, Users::Random(0));
    let before = served(&index);
    let run = train(&index, &log, &[]);
    assert_eq!(run.code, Some(3), "{run:?}");
    let object: Value = serde_json::from_str(run.out.lines().last().unwrap()).unwrap();
    assert_eq!((object["decision"].as_str(), object["generation"].as_u64()), (Some("refused"), Some(1)), "{object}");
    assert!(!object["reason"].as_str().unwrap().is_empty());
    assert_eq!(served(&index), before);
    // A log of something else is no log.
    fs::write(&log, "not a record\n{\"v\": 9}\n").unwrap();
    let run = train(&index, &log, &[]);
    assert!(run.code == Some(1) && run.err.contains("clicks.jsonl") && run.err.contains("line 1"), "{run:?}");
    let object: Value = serde_json::from_str(&run.out).unwrap();
    assert!(object["decision"] == "failed" && object["reason"].as_str().unwrap().contains("clicks.jsonl"), "{object}");
}

#[test]
fn fifty_nights_of_noise_publish_nothing() {
    let temporary = tempfile::tempdir().unwrap();
    let index = samples_index(temporary.path());
    let before = served(&index);
    let mut published = 0;
    for night in 1..=50 {
        let log = temporary.path().join(format!("{night}.jsonl"));
        write_log(&log, &index, Users::Random(night));
        let run = train(&index, &log, &[]);
        published += usize::from(run.code != Some(3));
        assert!(run.code != Some(3) || served(&index) == before, "night {night} was refused and changed what serves");
    }
    assert!(published <= 1, "{published} of fifty");
}

/// Trains a model whose pages learn, and what comes of it is published.
fn pages_learn(mode: &str, model: &Path, rate: &str, epochs: &str) {
    let temporary = tempfile::tempdir().unwrap();
    let index = temporary.path().join("index");
    cli!("index", samples(), "--index", &index, "--bits", "16", "--keep-hidden", "--model", model).done();
    let log = temporary.path().join("clicks.jsonl");
    write_log(&log, &index, Users::Mean);
    let (before, old) = (right(&index), pages(&index));
    let run = train_for(&index, &log, [rate, epochs], &["--mode", mode]);
    let object: Value = serde_json::from_str(run.out.lines().last().unwrap()).unwrap();
    let looks = object["metrics"]["validation"].as_array().unwrap().clone();
    assert_eq!((object["decision"].as_str(), object["generation"].as_u64()), (Some("published"), Some(2)), "{run:?}");
    let after = right(&index);
    assert!(after >= before + QUERIES / 5, "{before} right before, {after} after");
    // Each epoch was looked at, and the pages are those of the new model, all of them.
    assert!(looks.len() > 2 && looks[0]["epoch"] == 0, "{looks:?}");
    let new = pages(&index);
    assert_eq!(new.len(), old.len());
    assert!(new.iter().zip(&old).all(|(new, old)| new.vectors.origin != old.vectors.origin));
    assert!(new.iter().all(|page| page.vectors.origin == new[0].vectors.origin));
    cli!("rollback", &index).done();
    assert_eq!(right(&index), before);
}

#[test]
fn the_projection_learns_from_clicks() {
    pages_learn("projection", Path::new("builtin"), "0.01", "30");
}

#[test]
fn low_rank_updates_learn_from_clicks() {
    pages_learn("lora", &tiny(), "0.004", "12");
}

#[test]
fn all_weights_learn_from_clicks() {
    pages_learn("full", &tiny(), "0.001", "20");
}

#[test]
fn ranks_are_weighed_where_they_vary_and_that_is_better() {
    let temporary = tempfile::tempdir().unwrap();
    let index = samples_index(temporary.path());
    let run = |lists: usize| {
        let log = temporary.path().join(format!("{lists}.jsonl"));
        write_log_of(&log, &index, Users::Mean, (0, lists));
        let run = train(&index, &log, &["--weighting", "inverse-propensity", "--dry-run"]).done();
        let object: Value = serde_json::from_str(run.out.lines().last().unwrap()).unwrap();
        let metrics = object["metrics"].clone();
        // The state that is kept, on the questions that no way learnt from.
        let unseen = |looks: &Value| {
            let looks = looks.as_array().unwrap();
            let ndcg = |look: &Value| look["ndcg"].as_f64().unwrap();
            let kept = looks.iter().fold(&looks[0], |best, look| if ndcg(look) > ndcg(best) { look } else { best });
            let sets: Vec<f64> = kept["sets"].as_array().unwrap().iter().map(|set| set.as_f64().unwrap()).collect();
            assert!((ndcg(kept) - (sets[0] + sets[1]) / 2.0).abs() < 1e-9, "{kept}");
            sets[1]
        };
        let ways: Vec<(String, f64)> = metrics["weighting"]
            .as_array()
            .unwrap()
            .iter()
            .map(|way| (way["name"].as_str().unwrap().to_owned(), unseen(&way["looks"])))
            .collect();
        assert_eq!(
            unseen(&metrics["validation"]),
            ways.iter().map(|way| way.1).fold(0.0, f64::max),
            "the best is taken"
        );
        (metrics, ways)
    };
    let (metrics, ways) = run(1);
    assert!(metrics["no_propensities"].as_str().unwrap().contains("rank"), "{metrics:#}");
    assert!(ways.len() == 1 && ways[0].0 == "naive", "{ways:?}");
    let (metrics, ways) = run(4);
    assert!(metrics["no_propensities"].is_null());
    let names: Vec<&str> = ways.iter().map(|way| way.0.as_str()).collect();
    assert_eq!(names, ["naive", "position_based", "cascade"]);
    let examined = metrics["propensities"][0]["examined"].as_array().unwrap();
    assert!(examined.len() > 2 && examined[0] == 1.0, "{examined:?}");
}
