//! `train`, `eval` and `mine`, from questions about the sample files to a checkpoint and its metrics.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use colqwen_index::model::Model;
use colqwen_index::train::data::{PageId, PositivePage, Question, TrainingData, read, write};
use serde_json::{Value, json};

use super::support::{PROGRAM, Ran, cli, samples, tiny, wait_until};

const PAGES: [(&str, u32, &str); 9] = [
    ("espresso-machine-manual.pdf", 1, "how is the boiler descaled"),
    ("espresso-machine-manual.pdf", 2, "which pressure does the pump hold"),
    ("glow-worm-note.pdf", 1, "where do glow worms live"),
    ("pantry-recipes.pdf", 1, "bread with seeds"),
    ("pantry-recipes.pdf", 2, "how long does the soup simmer"),
    ("solar-plant-report.pdf", 1, "power of the solar plant"),
    ("solar-plant-report.pdf", 2, "which inverter failed"),
    ("tarn-ridge-walk.pdf", 1, "the walk along the ridge"),
    ("tarn-ridge-walk.pdf", 2, "where is the bus stop"),
];

/// One question about each of nine pages. A page that the samples lack would be an error of the program's.
pub fn questions() -> TrainingData {
    let question = |(row, (doc_id, page, query)): (usize, &(&str, u32, &str))| Question {
        query_id: row.to_string(),
        query: (*query).to_owned(),
        positives: vec![PositivePage { page: PageId::new(*doc_id, *page), weight: 1.0 }],
        ..Question::default()
    };
    TrainingData { questions: PAGES.iter().enumerate().map(question).collect(), mined_from: None }
}

pub fn data(folder: &Path) -> PathBuf {
    let path = folder.join("questions.parquet");
    write(&path, &questions()).unwrap();
    path
}

fn train(data: &Path, out: &Path, epochs: u64) -> Command {
    let mut command = Command::new(PROGRAM);
    command.arg("train").arg("--model").arg(tiny());
    command.args(["--new-projection", "--rate", "0.003", "--temperature", "0.05"]);
    command.args(["--epochs", &epochs.to_string(), "--mini-batch", "4", "--pages"]).arg(samples());
    command.arg("--data").arg(data).arg("--out").arg(out);
    command
}

pub fn steps(out: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(out.join("steps.jsonl")).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn ndcg(data: &Path, model: &Path) -> f64 {
    let run = cli!("eval", "--data", data, "--pages", samples(), "--model", model, "--json").done();
    let metrics: Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!(metrics["queries"], json!(9));
    let number = |name: &str| metrics["ndcg_5"][name].as_f64().unwrap();
    assert!(number("low") <= number("mean") && number("mean") <= number("high"));
    number("mean")
}

#[test]
fn a_projection_learns_the_questions_it_is_shown_and_the_backbone_runs_once() {
    let temporary = tempfile::tempdir().unwrap();
    let (data, out) = (data(temporary.path()), temporary.path().join("out"));
    let run = Ran::of(&mut train(&data, &out, 150)).done();
    assert!(run.err.contains("9 pages and 9 queries went through the model, 0 and 0 were kept"), "{}", run.err);
    let model = out.join("model");
    assert_eq!(run.out.trim(), model.display().to_string());
    let steps = steps(&out);
    assert_eq!(steps.len(), 150);
    let loss = |step: &Value| step["loss"].as_f64().unwrap();
    assert!(loss(&steps[149]) < 0.3 * steps[149]["no_learning"].as_f64().unwrap(), "{}", steps[149]);
    assert!(std::fs::read_to_string(out.join("plot.svg")).unwrap().contains("loss without learning"));
    // Each step is one of 150 epochs, and all of them together needed each page once.
    assert_eq!(steps[149]["epoch"], json!(149));
    assert!(ndcg(&data, &model) > 0.9);
    assert!(ndcg(&data, &tiny()) < 0.8);
    let table = cli!("eval", "--data", &data, "--pages", samples(), "--model", &model).done().out;
    assert!(table.contains("nDCG@5") && table.contains("recall@10"), "{table}");

    assert!(Ran::of(&mut train(&data, &out, 150)).refused(1).contains("trained model already"));
    // The states serve another training, and one of the checkpoint that came out.
    let other = temporary.path().join("other");
    std::fs::create_dir(&other).unwrap();
    std::fs::rename(out.join("hidden"), other.join("hidden")).unwrap();
    let mut again = Command::new(PROGRAM);
    again.arg("train").arg("--model").arg(&model).arg("--data").arg(&data).arg("--out").arg(&other);
    let run = Ran::of(again.args(["--epochs", "2", "--pages"]).arg(samples())).done();
    assert!(run.err.contains("0 pages and 0 queries went through the model, 9 and 9 were kept"), "{}", run.err);
}

#[test]
fn hidden_states_that_indexing_kept_train_the_projection() {
    let temporary = tempfile::tempdir().unwrap();
    let (data, out) = (data(temporary.path()), temporary.path().join("out"));
    let folder = |name: &str| temporary.path().join(name);
    let vectors = |name: &str, more: &[&str]| {
        let mut command = Command::new(PROGRAM);
        command.arg("index").arg(samples()).arg("--model").arg(tiny()).args(more).arg("--index").arg(folder(name));
        Ran::of(&mut command).done();
        let exported = folder(&format!("{name}.parquet"));
        cli!("export", "--index", folder(name), "--embeddings", &exported).done();
        let pages = colqwen_index::ingest::embeddings::PageReader::open(exported).unwrap().map(Result::unwrap);
        let mut pages: Vec<_> = pages.map(|page| (page.doc_id, page.page, page.vectors.vectors)).collect();
        pages.sort_by(|one, other| (&one.0, one.1).cmp(&(&other.0, other.1)));
        pages
    };
    assert!(vectors("plain", &[]) == vectors("kept", &["--keep-hidden"]), "keeping the states changes the vectors");
    assert!(!folder("plain").join("hidden").exists() && folder("kept").join("hidden/00000001.parquet").exists());
    vectors("pooled", &["--keep-hidden", "--pool-factor", "2"]);

    for (name, computed) in [("plain", 9), ("kept", 0), ("pooled", 0)] {
        let out = out.join(name);
        let mut command = Command::new(PROGRAM);
        command.args(["train", "--epochs", "3", "--model"]).arg(tiny()).arg("--index").arg(folder(name));
        let run = Ran::of(command.arg("--data").arg(&data).arg("--out").arg(&out)).done();
        let said = format!("{computed} pages and 9 queries went through the model, {} and 0 were kept", 9 - computed);
        assert!(run.err.contains(&said), "{name}: {}", run.err);
    }
    let weights = |name: &str| std::fs::read(out.join(name).join("model/model.safetensors")).unwrap();
    assert!(
        weights("plain") == weights("kept") && weights("plain") == weights("pooled"),
        "they trained on other states"
    );
    // Pages that are encoded already are not encoded again for their states.
    cli!("index", samples(), "--index", folder("plain"), "--keep-hidden").done();
    assert!(!folder("plain").join("hidden/00000001.parquet").exists());
}

#[test]
fn a_killed_training_goes_on_as_if_it_had_not_been() {
    let temporary = tempfile::tempdir().unwrap();
    let data = data(temporary.path());
    let (whole, killed) = (temporary.path().join("whole"), temporary.path().join("killed"));
    Ran::of(&mut train(&data, &whole, 160)).done();
    let mut run = train(&data, &killed, 160);
    let mut run = run.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    assert!(wait_until(&mut run, || steps(&killed).len() > 60), "it ended before it could be killed");
    run.kill().unwrap();
    run.wait().unwrap();
    assert!(!killed.join("model").exists());
    let resumed = Ran::of(train(&data, &killed, 160).arg("--resume")).done();
    assert!(resumed.err.contains("0 pages and 0 queries went through the model"), "{}", resumed.err);
    let log = |out: &Path| std::fs::read(out.join("steps.jsonl")).unwrap();
    assert!(log(&whole) == log(&killed), "the steps differ");
    let weights = |out: &Path| std::fs::read(out.join("model/model.safetensors")).unwrap();
    assert!(weights(&whole) == weights(&killed), "the weights differ");

    let other = Ran::of(train(&data, &temporary.path().join("none"), 160).arg("--resume")).refused(1);
    assert!(other.contains("training.state"), "{other}");
}

#[test]
fn updates_and_all_weights_learn_and_are_saved_as_models() {
    let temporary = tempfile::tempdir().unwrap();
    let data = data(temporary.path());
    let train = |name: &str, more: &[&str]| {
        let out = temporary.path().join(name);
        let mut command = Command::new(PROGRAM);
        command.arg("train").arg("--model").arg(tiny());
        command.args(["--temperature", "0.05", "--epochs", "30", "--train"]).args(more);
        command.arg("--data").arg(&data).arg("--out").arg(&out).arg("--pages").arg(samples());
        let run = Ran::of(&mut command).done();
        assert_eq!(run.out.trim(), out.join("model").display().to_string());
        let loss = |step: &Value| step["loss"].as_f64().unwrap();
        let steps = steps(&out);
        assert!(loss(&steps[29]) < 0.5 * loss(&steps[0]), "{name}: {} {}", steps[0], steps[29]);
        out
    };
    let lora = train("lora", &["lora", "--lora", "r=8,alpha=16,dropout=0", "--rate", "0.01", "--mini-batch", "3"]);
    let adapter: Value =
        serde_json::from_slice(&std::fs::read(lora.join("adapter/adapter_config.json")).unwrap()).unwrap();
    assert_eq!(
        (&adapter["r"], &adapter["base_model_name_or_path"]),
        (&json!(8), &json!(tiny().canonicalize().unwrap()))
    );
    assert!(ndcg(&data, &lora.join("model")) > 0.9);
    let full = train("full", &["full", "--rate", "0.002", "--memory", "1GB"]);
    assert!(!full.join("adapter").exists() && ndcg(&data, &full.join("model")) > 0.9);

    let refuse = |more: &[&str]| {
        let mut command = Command::new(PROGRAM);
        command.arg("train").arg("--model").arg(tiny()).args(["--out", "none"]).args(more);
        Ran::of(command.arg("--data").arg(&data).arg("--pages").arg(samples()))
    };
    assert!(refuse(&["--train", "full", "--lora", "r=4"]).refused(2).contains("--train lora"));
    assert!(
        refuse(&["--train", "lora", "--lora", "rank=4"]).refused(2).contains("expected r, alpha, dropout or targets")
    );
    assert!(refuse(&["--memory", "none"]).refused(2).contains("20GB"));
    assert!(refuse(&["--train", "lora", "--memory", "1MB"]).refused(1).contains("one page at a time"));
    assert!(!Path::new("none").exists(), "a refused training left something behind");
}

#[test]
fn a_model_that_looks_at_tiles_learns_in_its_projection_and_in_updates() {
    let temporary = tempfile::tempdir().unwrap();
    let data = data(temporary.path());
    let base = ndcg(&data, Path::new("builtin"));
    let loss = |step: &Value| step["loss"].as_f64().unwrap();
    let train = |name: &str, more: &[&str], epochs: usize| {
        let out = temporary.path().join(name);
        let mut command = Command::new(PROGRAM);
        command.args(["train", "--model", "builtin", "--epochs", &epochs.to_string()]).args(more);
        Ran::of(command.arg("--data").arg(&data).arg("--out").arg(&out).arg("--pages").arg(samples())).done();
        let steps = steps(&out);
        assert!(loss(&steps[epochs - 1]) < 0.8 * loss(&steps[0]), "{name}: {} {}", steps[0], steps[epochs - 1]);
        assert!(ndcg(&data, &out.join("model")) >= base, "{name}");
        out
    };
    assert!(!train("projection", &[], 8).join("hidden/vision.parquet").exists());
    let updates = train("updates", &["--train", "lora", "--lora", "r=4,alpha=8,dropout=0.1", "--rate", "0.003"], 6);
    assert!(updates.join("hidden/vision.parquet").exists());
    // The adapter has a copy of its base, and goes where it is moved to.
    let moved = temporary.path().join("moved");
    std::fs::rename(updates.join("adapter"), &moved).unwrap();
    let vectors = |model: &Path| {
        let model = Model::load(model.to_str().unwrap(), "cpu").unwrap();
        model.encoder.encode_queries(&["bread with seeds"]).unwrap().pop().unwrap().vectors.values().to_vec()
    };
    let (of_adapter, merged) = (vectors(&moved), vectors(&updates.join("model")));
    assert!(of_adapter.iter().zip(&merged).all(|(one, other)| (one - other).abs() < 1e-4));
    assert!(vectors(Path::new("builtin")).iter().zip(&merged).any(|(one, other)| (one - other).abs() > 1e-3));
    // What the vision tower made of the pages serves another run.
    let again = temporary.path().join("again");
    std::fs::create_dir(&again).unwrap();
    std::fs::rename(updates.join("hidden"), again.join("hidden")).unwrap();
    let mut command = Command::new(PROGRAM);
    command.args(["train", "--train", "lora", "--lora", "r=2", "--epochs", "1", "--model", "builtin"]);
    let run = Ran::of(command.arg("--data").arg(&data).arg("--out").arg(&again).arg("--pages").arg(samples())).done();
    assert!(run.err.contains("0 pages went through the vision tower, once; 9 were kept"), "{}", run.err);
}

#[test]
fn mined_negatives_answer_nothing_and_score_below_the_positive() {
    let temporary = tempfile::tempdir().unwrap();
    let (data, index) = (data(temporary.path()), temporary.path().join("index"));
    let out = temporary.path().join("mined.parquet");
    cli!("index", samples(), "--index", &index).done();
    let mine = |threshold: &str| {
        cli!("mine", "--index", &index, "--data", &data, "--out", &out, "--threshold", threshold, "--effort", "exact")
            .done();
        read(&out).unwrap()
    };
    let mined = mine("0.9999");
    let from = mined.mined_from.as_ref().unwrap();
    assert_eq!((from.generation.as_str(), from.page_fingerprint.is_some()), ("1", true));
    assert_eq!(mined.questions.len(), 9);
    for (question, asked) in mined.questions.iter().zip(questions().questions) {
        assert_eq!((&question.query, &question.positives), (&asked.query, &asked.positives));
        let pages: HashSet<&PageId> = question.negatives.iter().map(|negative| &negative.page).collect();
        assert!(pages.len() == question.negatives.len() && !pages.contains(&asked.positives[0].page));
        assert!(question.negatives.is_sorted_by(|one, next| one.score >= next.score));
        assert!(question.negatives.iter().all(|negative| negative.origin.as_deref() == Some("index")));
        // Against a search of one's own.
        let run = cli!("search", &index, &question.query, "-k", "9", "--effort", "exact", "--json").done();
        let line = &run.json_lines()[0];
        let score_of = |page: &PageId| {
            let hit = line.hits.iter().find(|hit| hit.doc_id == page.doc_id && hit.page == u64::from(page.page));
            hit.unwrap().score
        };
        let limit = 0.9999 * score_of(&asked.positives[0].page);
        let expected = line.hits.iter().filter(|hit| hit.score <= limit).count();
        let own = usize::from(score_of(&asked.positives[0].page) <= limit);
        assert_eq!(question.negatives.len(), expected - own);
    }
    // Scores of pages are much alike: a strict threshold leaves nothing, a generous one everything.
    assert!(mine("0.01").questions.iter().all(|question| question.negatives.is_empty()));
    let all = mine("100");
    assert!(all.questions.iter().all(|question| question.negatives.len() == 8));

    // A query that nobody labelled keeps all its hits, and one whose page is not in the index gets none.
    let bare = Question { query_id: "bare".into(), query: "anything".into(), ..Question::default() };
    let mut lost = bare.clone();
    lost.query_id = "lost".into();
    lost.positives = vec![PositivePage { page: PageId::new("no \"such\" file.pdf", 1), weight: 1.0 }];
    write(&data, &TrainingData { questions: vec![bare, lost], mined_from: None }).unwrap();
    let run = cli!("mine", "--index", &index, "--data", &data, "--out", &out, "--depth", "5").done();
    assert!(run.err.contains("1 queries whose positives the index lacks"), "{}", run.err);
    let counts: Vec<usize> = read(&out).unwrap().questions.iter().map(|question| question.negatives.len()).collect();
    assert_eq!(counts, [5, 0]);
}

#[test]
fn an_index_is_judged_like_the_pages_it_holds_and_lost_pages_are_named() {
    let temporary = tempfile::tempdir().unwrap();
    let (data, index) = (data(temporary.path()), temporary.path().join("index"));
    cli!("index", samples(), "--index", &index, "--bits", "16").done();
    let of = |run: Ran| serde_json::from_str::<Value>(&run.done().out).unwrap();
    let by_index = of(cli!("eval", "--data", &data, "--index", &index, "--json"));
    let by_pages = of(cli!("eval", "--data", &data, "--pages", samples(), "--model", "builtin", "--json"));
    assert_eq!(by_index["queries"], by_pages["queries"]);
    assert!((by_index["mrr"]["mean"].as_f64().unwrap() - by_pages["mrr"]["mean"].as_f64().unwrap()).abs() < 0.1);

    let mut lost = questions();
    lost.questions[3].positives[0].page = PageId::new("pantry-recipes.pdf", 77);
    write(&data, &lost).unwrap();
    let named = |run: Ran| {
        let error = run.refused(1);
        assert!(error.contains("pantry-recipes.pdf") && error.contains("page 77"), "{error}");
    };
    named(cli!("eval", "--data", &data, "--index", &index));
    named(cli!("eval", "--data", &data, "--pages", samples(), "--model", "builtin"));
    named(Ran::of(&mut train(&data, &temporary.path().join("out"), 1)));
    assert_eq!(cli!("eval", "--data", &data, "--model", "builtin").code, Some(2));
}
