//! What a training begins with, what it saves besides the model, and settings: that they arrive, or are refused in time.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use colqwen_index::ingest::colqwen2::{ColQwen2, LoadOptions};
use colqwen_index::model::Model;
use colqwen_index::train::data::{NegativePage, PageId, write};
use serde_json::{Value, json};

use super::support::{PROGRAM, Ran, cli, copy_samples, file_names, samples, tiny};
use super::training::{data, questions, steps};

/// `train` on the sample files, without a model.
fn bare(data: &Path, out: &Path) -> Command {
    let mut command = Command::new(PROGRAM);
    command.arg("train").arg("--data").arg(data).arg("--out").arg(out).arg("--pages").arg(samples());
    command
}

/// The same, for two steps.
fn train(data: &Path, out: &Path) -> Command {
    let mut command = bare(data, out);
    command.args(["--temperature", "0.05", "--rate", "0.003", "--epochs", "2"]);
    command
}

/// The tiny checkpoint as a plain Qwen2-VL: without projection, and without what this program writes.
fn plain(folder: &Path) -> PathBuf {
    let dir = folder.join("plain");
    std::fs::create_dir(&dir).unwrap();
    for name in ["config.json", "preprocessor_config.json", "tokenizer.json"] {
        std::fs::copy(tiny().join(name), dir.join(name)).unwrap();
    }
    let (file, device) = ("model.safetensors", candle_core::Device::Cpu);
    let mut tensors = candle_core::safetensors::load(tiny().join(file), &device).unwrap();
    tensors.retain(|name, _| !name.starts_with("custom_text_proj"));
    candle_core::safetensors::save(&tensors, dir.join(file)).unwrap();
    dir
}

/// What a model makes of a query.
fn vectors(model: &Path) -> Vec<f32> {
    let model = Model::load(model.to_str().unwrap(), "cpu").unwrap();
    model.encoder.encode_queries(&["solar power"]).unwrap().pop().unwrap().vectors.values().to_vec()
}

#[track_caller]
fn assert_near(one: &[f32], other: &[f32]) {
    assert_eq!(one.len(), other.len());
    assert!(one.iter().zip(other).all(|(one, other)| (one - other).abs() < 1e-4), "the vectors differ");
}

fn adapter_config(out: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(out.join("adapter/adapter_config.json")).unwrap()).unwrap()
}

#[test]
fn a_checkpoint_without_projection_gets_one_from_the_seed() {
    let temporary = tempfile::tempdir().unwrap();
    let (data, plain) = (data(temporary.path()), plain(temporary.path()));
    let begin = |name: &str, more: &[&str]| {
        let out = temporary.path().join(name);
        (Ran::of(train(&data, &out).arg("--model").arg(&plain).args(more)), out)
    };
    let (run, out) = begin("none", &[]);
    assert!(run.refused(1).contains("custom_text_proj"));
    assert!(!out.exists());

    let weights = |folder: PathBuf| std::fs::read(folder.join("model.safetensors")).unwrap();
    let (run, out) = begin("one", &["--new-projection", "--seed", "3"]);
    assert!(run.done().err.contains("the model has no projection"));
    let (base, trained) = (weights(out.join("base")), weights(out.join("model")));
    assert_ne!(vectors(&out.join("base")), vectors(&out.join("model")));
    // Later runs begin with the base that is there, and the same one.
    std::fs::remove_dir_all(out.join("model")).unwrap();
    begin("one", &["--new-projection", "--seed", "3", "--resume"]).0.done();
    assert!(weights(out.join("base")) == base && weights(out.join("model")) == trained, "it is another run");
    std::fs::remove_dir_all(out.join("model")).unwrap();
    begin("one", &["--new-projection", "--seed", "4"]).0.done();
    assert!(weights(out.join("base")) == base, "the base was made anew");

    let lora = ["--train", "lora", "--lora", "r=4", "--new-projection", "--seed"];
    let (same, other) = (begin("same", &[&lora[..], &["3"]].concat()), begin("other", &[&lora[..], &["5"]].concat()));
    same.0.done();
    other.0.done();
    assert!(weights(same.1.join("base")) == base && weights(other.1.join("base")) != base);
    let named = same.1.join("base").canonicalize().unwrap();
    assert_eq!(adapter_config(&same.1)["base_model_name_or_path"], json!(named));
    assert_near(&vectors(&same.1.join("adapter")), &vectors(&same.1.join("model")));

    // Where there is a projection, updates do not replace it.
    let mut refused = train(&data, &temporary.path().join("refused"));
    let refused = Ran::of(refused.arg("--model").arg(tiny()).args(lora).arg("3")).refused(2);
    assert!(refused.contains("--new-projection") && !temporary.path().join("refused").exists(), "{refused}");
}

#[test]
fn an_adapter_has_the_targets_asked_for_and_finds_its_base_from_anywhere() {
    let temporary = tempfile::tempdir().unwrap();
    let (data, out) = (data(temporary.path()), temporary.path().join("out"));
    let mut command = train(&data, &out);
    command.args(["--train", "lora", "--lora", "r=2,alpha=8,targets=q_proj+mlp.up_proj"]);
    // A relative path, which means nothing to who reads the adapter.
    command.current_dir(tiny().parent().unwrap()).arg("--model").arg("tiny");
    Ran::of(&mut command).done();
    let config = adapter_config(&out);
    assert_eq!(config["target_modules"], json!(["q_proj", "mlp.up_proj"]));
    assert_eq!(config["base_model_name_or_path"], json!(tiny().canonicalize().unwrap()));
    let updates = out.join("adapter/adapter_model.safetensors");
    let updates = candle_core::safetensors::load(updates, &candle_core::Device::Cpu).unwrap();
    assert_eq!(updates.len(), 2 * 2 * 2, "two matrices for each of two targets in each of two layers");
    assert!(updates.keys().all(|name| name.contains(".q_proj.") || name.contains(".mlp.up_proj.")));
    let trained = vectors(&out.join("model"));
    assert_near(&vectors(&out.join("adapter")), &trained);
    assert!(vectors(&tiny()).iter().zip(&trained).any(|(one, other)| (one - other).abs() > 1e-3), "nothing was learnt");
}

#[test]
fn settings_out_of_range_are_refused_before_anything_is_computed() {
    let temporary = tempfile::tempdir().unwrap();
    let (data, out) = (data(temporary.path()), temporary.path().join("out"));
    let lora = |settings| vec!["--train", "lora", "--lora", settings];
    let (most, beyond) = (u64::MAX.to_string(), "99999999999999999999999");
    for (code, more, words) in [
        (2, vec!["--temperature", "0"], "temperature"),
        (2, vec!["--temperature", "nan"], "temperature"),
        (2, vec!["--dropout", "2"], "--dropout"),
        (2, vec!["--dropout", "nan"], "--dropout"),
        (2, vec!["--filter", "0"], "threshold of suspect negatives"),
        (2, vec!["--smooth-max", "0"], "tau of the smooth maximum"),
        (2, vec!["--in-batch-weight", "1.5"], "weight of the in-batch loss"),
        (2, vec!["--mini-batch", "0"], "mini-batch"),
        (2, vec!["--epochs", "0"], "epochs"),
        (2, vec!["--epochs", beyond], "--epochs"),
        (1, vec!["--epochs", &most, "--batch", "2"], "epochs: expected less than 2^64 steps in all"),
        (1, lora("r=65"), "received 65, where language_model.layers."),
        (1, lora("r=999999999999,targets=q_proj"), "q_proj has 128 inputs and 128 outputs"),
        (1, lora("r=0"), "rank of the updates"),
        (1, lora("dropout=2"), "dropout"),
        (1, lora("targets=w_proj"), "w_proj"),
        (2, lora("targets=q_proj+"), "targets"),
    ] {
        let mut command = bare(&data, &out);
        let error = Ran::of(command.arg("--model").arg(tiny()).args(&more)).refused(code);
        assert!(error.contains(words), "{more:?}: {error}");
        assert!(!out.exists(), "{more:?} left something behind");
    }
}

#[test]
fn more_stored_negatives_than_pages_are_all_of_them() {
    let temporary = tempfile::tempdir().unwrap();
    let (data, index) = (data(temporary.path()), temporary.path().join("index"));
    cli!("index", samples(), "--index", &index, "--model", tiny()).done();
    let mut command = Command::new(PROGRAM);
    command.args(["train", "--side", "query", "--batch", "4", "--epochs", "1", "--model"]).arg(tiny());
    command.arg("--data").arg(data).arg("--index").arg(index).arg("--out").arg(temporary.path().join("out"));
    Ran::of(command.args(["--constant-negatives", &usize::MAX.to_string()])).done();
    let most = steps(&temporary.path().join("out")).iter().map(|step| step["pages"].as_u64().unwrap()).max();
    assert!((5..=9).contains(&most.unwrap()), "{most:?}");
}

#[test]
fn mined_negatives_and_suspects_are_used_as_asked() {
    let temporary = tempfile::tempdir().unwrap();
    let (path, mut mined) = (temporary.path().join("mined.parquet"), questions());
    // For each query the page of the next one.
    let pages: Vec<PageId> = mined.questions.iter().map(|question| question.positives[0].page.clone()).collect();
    for (row, question) in mined.questions.iter_mut().enumerate() {
        let page = pages[(row + 1) % pages.len()].clone();
        question.negatives = vec![NegativePage { page, score: None, origin: None }];
    }
    write(&path, &mined).unwrap();
    let first = |name: &str, more: &[&str]| {
        let out = temporary.path().join(name);
        Ran::of(train(&path, &out).arg("--model").arg(tiny()).args(more)).done();
        let step = steps(&out)[0].clone();
        (step["no_learning"].as_f64().unwrap(), step["suspects"].as_f64().unwrap())
    };
    // Of nine pages one is right and one mined.
    let (two, eight) = (2f64.ln(), 8f64.ln());
    let near = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-6, "{found}, expected {expected}");
    let (by_default, none) = first("default", &[]);
    near(by_default, 0.5 * two + 0.5 * eight);
    assert_eq!(none, 0.0);
    near(first("weight", &["--in-batch-weight", "0.25"]).0, 0.75 * two + 0.25 * eight);
    near(first("candidates", &["--mined", "candidates"]).0, 9f64.ln());
    // Untrained vectors are much alike: nearly all pages score above half of the right one.
    let (_, suspects) = first("filter", &["--filter", "0.5"]);
    assert!(suspects > 0.5, "{suspects}");

    // One page that is no query's answer, mined for the first of eight.
    let page = mined.questions.pop().unwrap().positives[0].page.clone();
    mined.questions.iter_mut().for_each(|question| question.negatives.clear());
    mined.questions[0].negatives = vec![NegativePage { page, score: None, origin: None }];
    write(&path, &mined).unwrap();
    near(first("own", &[]).0, 0.5 * two + 0.5 * eight);
    near(first("shared", &["--share-negatives"]).0, 0.5 * two + 0.5 * (eight + 7.0 * 9f64.ln()) / 8.0);
}

#[test]
fn scores_of_a_training_are_smooth_maxima_where_these_are_asked_for() {
    let temporary = tempfile::tempdir().unwrap();
    let data = data(temporary.path());
    let losses = |name: &str, more: &[&str]| {
        let out = temporary.path().join(name);
        Ran::of(train(&data, &out).arg("--model").arg(tiny()).args(more)).done();
        steps(&out).iter().map(|step| step["loss"].as_f64().unwrap()).collect::<Vec<_>>()
    };
    let (hard, soft) = (losses("hard", &[]), losses("soft", &["--smooth-max", "0.1"]));
    assert!((hard[0] - soft[0]).abs() > 1e-3, "{hard:?} {soft:?}");
    assert!(soft[1] < soft[0], "nothing was learnt: {soft:?}");
    // Towards 0 it is the maximum.
    let near = losses("near", &["--smooth-max", "0.000001"]);
    assert!((hard[0] - near[0]).abs() < 1e-3, "{hard:?} {near:?}");
    let mut other = train(&data, &temporary.path().join("soft"));
    std::fs::remove_dir_all(temporary.path().join("soft/model")).unwrap();
    assert!(Ran::of(other.arg("--model").arg(tiny()).arg("--resume")).refused(1).contains("similarity"));
}

#[test]
fn another_model_is_judged_by_the_files_of_an_index() {
    let temporary = tempfile::tempdir().unwrap();
    let path = |name: &str| temporary.path().join(name);
    let (data, files, index, kept) = (data(temporary.path()), path("files"), path("index"), path("kept"));
    std::fs::create_dir(&files).unwrap();
    copy_samples(&files, "");
    cli!("index", &files, "--index", &index, "--model", tiny()).done();
    cli!("index", &files, "--index", &kept, "--model", tiny(), "--keep-hidden").done();
    // Its projection transposed: a model that ranks otherwise.
    let (model, new, queries) =
        (ColQwen2::load(&tiny(), &LoadOptions::default()).unwrap(), path("new"), path("queries"));
    let (weight, bias) = model.projection().unwrap();
    model.save_with_projection(&new, &weight.t().unwrap().contiguous().unwrap(), &bias).unwrap();
    let judged = |run: Ran| serde_json::from_str::<Value>(&run.done().out).unwrap();
    let of_files = judged(cli!("eval", "--data", &data, "--pages", &files, "--model", &new, "--json"));
    let own = judged(cli!("eval", "--data", &data, "--index", &index, "--json"));
    assert_ne!(of_files["mrr"], own["mrr"]);

    let before = file_names(&index.join("generations"));
    let run = cli!("eval", "--data", &data, "--index", &index, "--model", &new, "--json");
    assert!(run.err.contains("pages of another model"), "{}", run.err);
    assert_eq!(judged(run), of_files);
    assert_eq!(file_names(&index.join("generations")), before);
    // Its own model still searches the stored vectors.
    let run = cli!("eval", "--data", &data, "--index", &index, "--model", tiny(), "--json");
    assert!(!run.err.contains("pages of another model"), "{}", run.err);
    assert_eq!(judged(run)["mrr"], own["mrr"]);

    // Queries that are for the pages of one model mean nothing on those of another.
    let learnt = HashMap::from([("custom_text_proj.weight".to_owned(), (weight * -1.0).unwrap())]);
    model.save_for_queries(&queries, &learnt).unwrap();
    cli!("index", &files, "--index", path("of-new"), "--model", &new).done();
    let refused = cli!("eval", "--data", &data, "--index", path("of-new"), "--model", &queries).refused(1);
    assert!(refused.contains("serves pages of"), "{refused}");

    std::fs::remove_file(files.join("glow-worm-note.pdf")).unwrap();
    let refused = cli!("eval", "--data", &data, "--index", &index, "--model", &new).refused(1);
    assert!(refused.contains("glow-worm-note.pdf") && refused.contains("page 1"), "{refused}");
    let skipped =
        judged(cli!("eval", "--data", &data, "--index", &index, "--model", &new, "--on-error", "skip", "--json"));
    assert_eq!((&skipped["pages_lost"], &skipped["queries"]), (&1.into(), &8.into()));
    // Kept states need no file.
    std::fs::remove_dir_all(&files).unwrap();
    let projected = judged(cli!("eval", "--data", &data, "--index", &kept, "--model", &new, "--json"));
    assert_eq!((&projected["pages_lost"], &projected["queries"]), (&0.into(), &9.into()));
}
