//! `train` with pages of an index, lost pages, queries that learn alone and the teacher of the beginning.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command;

use colqwen_index::PageIndex;
use colqwen_index::model::load_colqwen2;
use colqwen_index::train::data::{PageId, PositivePage, Question, TrainingData, read, write};
use colqwen_index::train::network::Lora;
use colqwen_index::training::{Learning, TrainOptions, train_query_side};
use serde_json::Value;
use tempfile::TempDir;

use super::support::{PROGRAM, Ran, cli, page_keys, samples, tiny};

const QUESTIONS: [(&str, u32, &str); 4] = [
    ("espresso-machine-manual.pdf", 1, "how is the boiler descaled"),
    ("glow-worm-note.pdf", 1, "where do glow worms live"),
    ("pantry-recipes.pdf", 2, "how long does the soup simmer"),
    ("tarn-ridge-walk.pdf", 1, "the walk along the ridge"),
];

/// Own copies of the sample files, an index of them, and questions about four pages.
struct Shelf {
    temporary: TempDir,
    files: PathBuf,
    index: PathBuf,
    data: PathBuf,
}

impl Shelf {
    fn new() -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let [files, index, data] = ["files", "index", "data.parquet"].map(|name| temporary.path().join(name));
        std::fs::create_dir(&files).unwrap();
        for (name, ..) in QUESTIONS {
            std::fs::copy(samples().join(name), files.join(name)).unwrap();
        }
        cli!("index", &files, "--index", &index, "--model", tiny()).done();
        let question = |(row, (doc_id, page, query)): (usize, &(&str, u32, &str))| Question {
            query_id: row.to_string(),
            query: (*query).to_owned(),
            positives: vec![PositivePage { page: PageId::new(*doc_id, *page), weight: 1.0 }],
            ..Question::default()
        };
        let questions = QUESTIONS.iter().enumerate().map(question).collect();
        write(&data, &TrainingData { questions, mined_from: None }).unwrap();
        Self { temporary, files, index, data }
    }

    fn train(&self, out: &str, more: &[&str]) -> (Ran, PathBuf) {
        let out = self.temporary.path().join(out);
        let mut command = Command::new(PROGRAM);
        command.args(["train", "--temperature", "0.05", "--rate", "0.003", "--json", "--model"]).arg(tiny());
        command.arg("--data").arg(&self.data).arg("--out").arg(&out).arg("--index").arg(&self.index);
        (Ran::of(command.args(more)), out)
    }
}

fn losses(out: &Path) -> Vec<f64> {
    let text = std::fs::read_to_string(out.join("steps.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["loss"].as_f64().unwrap()).collect()
}

#[test]
fn pages_of_an_index_are_rendered_from_their_files_and_lost_ones_are_left_out_on_request() {
    let shelf = Shelf::new();
    let (run, out) = shelf.train("whole", &["--epochs", "20"]);
    let report: Value = serde_json::from_str(&run.done().out).unwrap();
    assert_eq!((&report["pages_lost"], &report["steps"]), (&0.into(), &20.into()));
    let whole = losses(&out);
    assert!(whole[19] < whole[0], "{whole:?}");

    std::fs::remove_file(shelf.files.join("glow-worm-note.pdf")).unwrap();
    let refused = shelf.train("gone", &["--epochs", "2"]).0.refused(1);
    assert!(refused.contains("glow-worm-note.pdf") && refused.contains("page 1"), "{refused}");
    for (out, more) in [("left", &["--epochs", "2"][..]), ("updates", &["--epochs", "1", "--train", "lora"])] {
        let more = [more, &["--on-error", "skip"]].concat();
        let run = shelf.train(out, &more).0.done();
        let report: Value = serde_json::from_str(&run.out).unwrap();
        assert_eq!((&report["pages_lost"], &report["queries_left_out"]), (&1.into(), &1.into()));
        assert!(run.err.contains("left out: \"glow-worm-note.pdf\" page 1"), "{}", run.err);
    }
    // Another content under the same name is another page.
    std::fs::copy(samples().join("tarn-ridge-walk.pdf"), shelf.files.join("glow-worm-note.pdf")).unwrap();
    let refused = shelf.train("changed", &["--epochs", "2"]).0.refused(1);
    assert!(refused.contains("has changed since it was indexed"), "{refused}");

    let run = cli!(
        "eval",
        "--data",
        &shelf.data,
        "--pages",
        &shelf.files.join("pantry-recipes.pdf"),
        "--model",
        tiny(),
        "--on-error",
        "skip",
        "--json"
    );
    let metrics: Value = serde_json::from_str(&run.done().out).unwrap();
    assert_eq!((&metrics["queries"], &metrics["queries_left_out"]), (&1.into(), &3.into()));
}

#[test]
fn queries_learn_alone_for_pages_that_stay_indexed() {
    let shelf = Shelf::new();
    // No file is needed: the stored vectors are the pages.
    std::fs::remove_dir_all(&shelf.files).unwrap();
    for (name, train) in [("projection", &["--train", "projection"][..]), ("lora", &["--train", "lora"])] {
        let more = [train, &["--side", "query", "--epochs", "30", "--constant-negatives", "3"]].concat();
        let (run, out) = shelf.train(name, &more);
        run.done();
        let losses = losses(&out);
        assert!(losses[29] < 0.8 * losses[0], "{name}: {losses:?}");
        // The model that came out searches the index as it is, where another model is refused.
        let model = out.join("model");
        cli!("search", &shelf.index, "where do glow worms live", "--model", &model, "-k", "3").done();
        let metrics = cli!("eval", "--data", &shelf.data, "--index", &shelf.index, "--model", &model, "--json").done();
        assert_eq!(serde_json::from_str::<Value>(&metrics.out).unwrap()["queries"], 4);
        assert!(!out.join("adapter").exists());
    }
}

#[test]
fn copies_of_an_answer_are_no_negatives() {
    let shelf = Shelf::new();
    // Every page once more, under another name.
    for (name, ..) in QUESTIONS {
        std::fs::copy(samples().join(name), shelf.files.join(format!("copy of {name}"))).unwrap();
    }
    cli!("index", &shelf.files, "--index", &shelf.index, "--model", tiny()).done();
    let pages = page_keys(&shelf.index).len();
    // Where all stored pages join a batch, nothing but the answer and its copy is no negative.
    let check = |of: &str, steps: &[[f64; 2]]| {
        let whole: Vec<f64> = steps.iter().filter(|step| step[0] == pages as f64).map(|step| step[1]).collect();
        let expected = ((pages - 2 + 1) as f64).ln();
        assert!(!whole.is_empty(), "{of}: {steps:?}");
        assert!(whole.iter().all(|found| (found - expected).abs() < 1e-6), "{of}: {whole:?}, expected {expected}");
    };
    for train in ["projection", "lora"] {
        let more = ["--train", train, "--side", "query", "--epochs", "10", "--constant-negatives", "100"];
        let (run, out) = shelf.train(train, &more);
        run.done();
        let steps = std::fs::read_to_string(out.join("steps.jsonl")).unwrap();
        let steps = steps.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let steps = steps.map(|step| ["pages", "no_learning"].map(|name| step[name].as_f64().unwrap()));
        check(train, &steps.collect::<Vec<_>>());
    }
    let model = load_colqwen2(tiny().to_str().unwrap(), "cpu").unwrap();
    let index = PageIndex::open(&shelf.index).unwrap();
    let (data, out) = (read(&shelf.data).unwrap(), shelf.temporary.path().join("query side"));
    let options =
        TrainOptions { epochs: 10, constant_negatives: 100, learning: Learning::Queries, ..TrainOptions::default() };
    let lora = Lora { dropout: 0.0, ..Lora::default() };
    let go_on = |_: &_, _: Option<&_>| ControlFlow::Continue(());
    let trained = train_query_side(&model, &data, &index, &out, &options, lora, &[], go_on).unwrap();
    let steps = trained.steps.iter().map(|step| [step.pages as f64, step.no_learning]);
    check("query side", &steps.collect::<Vec<_>>());
}

#[test]
fn a_teacher_keeps_the_model_near_its_beginning() {
    let shelf = Shelf::new();
    let weight_moved = |out: &Path| {
        let begun = losses(out)[0];
        begun - losses(out)[19]
    };
    let free = shelf.train("free", &["--epochs", "20"]);
    free.0.done();
    let bound = shelf.train("bound", &["--epochs", "20", "--distil", "1000"]);
    bound.0.done();
    // Both begin at the same loss: the divergence from oneself is nothing. The bound one may hardly leave it.
    assert!((losses(&free.1)[0] - losses(&bound.1)[0]).abs() < 1e-3);
    assert!(weight_moved(&bound.1) < 0.5 * weight_moved(&free.1));
    assert!(shelf.train("wrong", &["--distil", "nan"]).0.refused(2).contains("--distil"));
    let mut command = Command::new(PROGRAM);
    command.args(["train", "--model", "builtin", "--out", "none", "--constant-negatives", "3", "--data"]);
    assert_eq!(Ran::of(command.arg(&shelf.data).arg("--pages").arg(samples())).code, Some(2));
}
