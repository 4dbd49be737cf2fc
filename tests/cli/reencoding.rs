//! `reencode`, `generations`, `rollback` and `search --log`, and runs that are killed.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use colqwen_index::ingest::colqwen2::ColQwen2;
use colqwen_index::train::clicks::log::{ReadOptions, read};
use serde_json::Value;
use tempfile::TempDir;

use super::files::tiff;
use super::support::{
    PROGRAM, SAMPLE_PAGES, cli, copied_samples, file_names, inspect, pages, samples, signal, wait_until,
};

/// A model of the same form as the builtin one, whose vectors point the other way.
pub fn other_model(folder: &Path) -> PathBuf {
    let dir = folder.join("other-model");
    let model = ColQwen2::builtin().unwrap();
    let (weight, bias) = model.projection().unwrap();
    model.save_with_projection(&dir, &(weight * -1.0).unwrap(), &(bias * -1.0).unwrap()).unwrap();
    dir
}

/// What `search` prints, by vectors, by words and by both.
fn answers(index: &Path) -> Vec<String> {
    let modes = ["late", "bm25", "hybrid"];
    modes.map(|mode| cli!("search", index, "solar power", "--mode", mode, "--json").done().out).to_vec()
}

fn generations(index: &Path) -> Vec<Value> {
    let listed = cli!("generations", index, "--json").done().out;
    listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn drafts(index: &Path) -> usize {
    file_names(&index.join("generations")).iter().filter(|name| name.ends_with(".building")).count()
}

#[test]
fn another_model_is_published_and_gone_back_from() {
    let temporary = copied_samples();
    let path = |name: &str| temporary.path().join(name);
    let (docs, index, model) = (path("docs"), path("index"), other_model(temporary.path()));
    cli!("index", &docs, "--index", &index, "--model", "builtin").done();
    let (before, old) = (answers(&index), pages(&index));
    cli!("reencode", &index, "--model", &model).done();
    let listed = generations(&index);
    let shown: Vec<_> = listed.iter().map(|one| (one["generation"].as_u64(), one["current"].as_bool())).collect();
    assert_eq!(shown, [(Some(1), Some(false)), (Some(2), Some(true))]);
    for one in &listed {
        assert_eq!(one["pages"].as_u64(), Some(SAMPLE_PAGES));
        assert!(one["created"].as_str().unwrap().ends_with('Z') && one["bytes"].as_u64().unwrap() > 1000);
    }
    assert_ne!(listed[0]["fingerprint"], listed[1]["fingerprint"]);
    assert_eq!(listed[1]["model"].as_str().unwrap(), model.canonicalize().unwrap().to_str().unwrap());
    let table = cli!("generations", &index).done().out;
    assert!(table.contains("in use") && table.contains("other-model"), "{table}");

    // As if it had been indexed with that model.
    cli!("index", &docs, "--index", path("scratch"), "--model", &model).done();
    let (new, scratch) = (pages(&index), pages(&path("scratch")));
    assert_eq!(new.len(), old.len());
    for ((new, scratch), old) in new.iter().zip(&scratch).zip(&old) {
        assert_eq!((&new.text, &new.content_hash, &new.source), (&old.text, &old.content_hash, &old.source));
        assert!(new.vectors.origin == scratch.vectors.origin && new.vectors.origin != old.vectors.origin);
        let far = |one: &[f32], other: &[f32]| one.iter().zip(other).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        let (new, scratch, old) =
            (new.vectors.vectors.values(), scratch.vectors.vectors.values(), old.vectors.vectors.values());
        assert!(far(new, scratch) < 0.02, "the vectors are those of a new index");
        assert!(far(new, old) > 0.2);
    }
    assert_eq!(answers(&index)[1], before[1], "words are found as before");
    assert_eq!(file_names(&index.join("generations/000002/embeddings")), ["00000001.parquet"]);

    // What is indexed afterwards is of the published model, and its embeddings are kept with it.
    let extra = path("extra");
    std::fs::create_dir(&extra).unwrap();
    std::fs::copy(samples().join("glow-worm-note.pdf"), extra.join("again.pdf")).unwrap();
    let report = cli!("index", &extra, "--index", &index).done().report();
    assert_eq!((report.encoded, report.resumed), (1, 0));
    assert_eq!(file_names(&index.join("generations/000002/embeddings")).len(), 2);
    assert_eq!(inspect(&index)["pages"].as_u64(), Some(SAMPLE_PAGES + 1));
    assert_eq!(cli!("index", &docs, "--index", &index).done().report().encoded, 0, "nothing is encoded again");
    cli!("optimize", &index).done();

    let back = cli!("rollback", &index).done();
    assert!(back.err.contains("generation 1") && back.err.contains("again.pdf page 1"), "{}", back.err);
    assert_eq!(answers(&index), before, "the old generation answers byte for byte as before");
    assert_eq!(cli!("index", &extra, "--index", &index, "--model", "builtin").done().report().encoded, 1);
    cli!("rollback", &index, "--to", "2").done();
    assert!(cli!("rollback", &index, "--to", "2").refused(1).contains("in use"));
    cli!("reencode", &index, "--model", "builtin").done();
    assert!(cli!("rollback", &index, "--to", "1").refused(1).contains("no generation 1"));
    assert!(!index.join("embeddings").exists(), "embeddings go with their generation");
    cli!("rollback", &index).done();
    assert_eq!(generations(&index)[0]["current"], true);
}

#[test]
fn kept_hidden_states_are_projected_where_files_are_gone() {
    let temporary = copied_samples();
    let path = |name: &str| temporary.path().join(name);
    let (docs, index, model) = (path("docs"), path("index"), other_model(temporary.path()));
    cli!("index", &docs, "--index", &index, "--keep-hidden", "--bits", "16").done();
    cli!("index", &docs, "--index", path("scratch"), "--model", &model, "--bits", "16").done();
    // One page came without its states: it alone is rendered.
    let extra = path("extra");
    std::fs::create_dir(&extra).unwrap();
    std::fs::copy(samples().join("glow-worm-note.pdf"), extra.join("again.pdf")).unwrap();
    for index in [&index, &path("scratch")] {
        cli!("index", &extra, "--index", index).done();
    }
    std::fs::rename(&docs, path("away")).unwrap();
    cli!("reencode", &index, "--model", &model).done();
    let (new, scratch) = (pages(&index), pages(&path("scratch")));
    assert_eq!(new.len() as u64, SAMPLE_PAGES + 1);
    for (new, scratch) in new.iter().zip(&scratch) {
        assert_eq!(
            (&new.doc_id, new.page, &new.vectors.layout),
            (&scratch.doc_id, scratch.page, &scratch.vectors.layout)
        );
        assert_eq!(new.vectors.origin, scratch.vectors.origin);
        let values = [new, scratch].map(|page| page.vectors.vectors.values());
        let far = values[0].iter().zip(values[1]).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(
            values[0].len() == values[1].len() && far < 2e-3,
            "{}: {far}, states and vectors are of half precision",
            new.doc_id
        );
    }
    // Another backbone's states are not taken.
    let refused = cli!("reencode", &index, "--model", super::support::tiny()).refused(1);
    assert!(refused.contains("nothing was published"), "{refused}");
}

#[test]
fn pages_whose_files_are_gone_are_named() {
    let temporary = copied_samples();
    let (docs, index) = (temporary.path().join("docs"), temporary.path().join("index"));
    let model = other_model(temporary.path());
    cli!("index", &docs, "--index", &index).done();
    let before = answers(&index);
    std::fs::remove_file(docs.join("pantry-recipes.pdf")).unwrap();
    let refused = cli!("reencode", &index, "--model", &model).refused(1);
    assert!(refused.contains("pantry-recipes.pdf") && refused.contains("nothing was published"), "{refused}");
    assert_eq!(answers(&index), before);
    let done = cli!("reencode", &index, "--model", &model, "--leave-out").done();
    assert!(done.err.contains("left out: pantry-recipes.pdf page 1"), "{}", done.err);
    assert!(pages(&index).iter().all(|page| page.doc_id != "pantry-recipes.pdf"));
}

fn start(index: &Path, model: &Path) -> Child {
    let mut command = Command::new(PROGRAM);
    command.arg("reencode").arg(index).arg("--model").arg(model);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// An index of small pages, several parts of them.
fn many_pages() -> (TempDir, PathBuf) {
    let temporary = copied_samples();
    let (docs, index) = (temporary.path().join("docs"), temporary.path().join("index"));
    std::fs::write(docs.join("m.tiff"), tiff(600, 1)).unwrap();
    cli!("index", &docs, "--index", &index).done();
    (temporary, index)
}

#[test]
fn killed_at_any_moment_the_old_generation_answers_and_the_next_run_completes() {
    let (temporary, index) = many_pages();
    let model = other_model(temporary.path());
    let before = answers(&index);
    let draft = index.join("generations/000002.building");
    let has = |name: &'static str| {
        let path = draft.join(name);
        Box::new(move || path.exists()) as Box<dyn Fn() -> bool>
    };
    let writes =
        |draft: PathBuf| move || file_names(&draft.join("embeddings")).iter().any(|name| name.contains("tmp-"));
    let moments: Vec<Box<dyn Fn() -> bool>> = vec![
        has("plan.json"),
        Box::new(writes(draft.clone())),
        has("embeddings/00000001.parquet"),
        has("embeddings/00000002.parquet"),
        has("meta.json"),
        has("merged.json"),
        has("unpublished"),
    ];
    // A draft that was complete has the name of a generation already.
    let finished = || {
        let folders = [draft.join("embeddings"), index.join("generations/000002/embeddings")];
        let names = folders.iter().flat_map(|folder| file_names(folder));
        names.filter(|name| name.ends_with(".parquet")).count()
    };
    let (mut published, mut kills) = (false, 0);
    for moment in moments {
        let parts = finished();
        let mut run = start(&index, &model);
        if wait_until(&mut run, moment) {
            signal(&run, "-KILL");
            kills += 1;
        }
        run.wait().unwrap();
        published = generations(&index).len() > 1;
        if published {
            break;
        }
        assert_eq!(answers(&index), before);
        assert!(finished() >= parts, "finished parts are kept");
    }
    if !published {
        cli!("reencode", &index, "--model", &model).done();
    }
    assert!(kills >= 4, "{kills} runs were killed");
    assert_eq!(drafts(&index), 0);
    assert_eq!(generations(&index)[1]["current"], true);
    let scratch = temporary.path().join("scratch");
    cli!("index", temporary.path().join("docs"), "--index", &scratch, "--model", &model).done();
    let (one, other) = (pages(&index), pages(&scratch));
    let origins = |pages: &[colqwen_index::ingest::embeddings::PageRecord]| -> Vec<_> {
        pages.iter().map(|page| (page.doc_id.clone(), page.page, page.vectors.origin)).collect()
    };
    assert_eq!(origins(&one), origins(&other));
    cli!("rollback", &index).done();
    assert_eq!(answers(&index), before);
}

#[test]
fn killed_between_name_and_pointer_nothing_is_encoded_again() {
    let temporary = copied_samples();
    let path = |name: &str| temporary.path().join(name);
    let model = other_model(temporary.path());
    cli!("index", path("docs"), "--index", path("index")).done();
    let pointer = path("index/current");
    let before = (answers(&path("index")), std::fs::read(&pointer).unwrap());
    cli!("reencode", path("index"), "--model", &model).done();
    let done = pages(&path("index"));
    // As it is when the program dies after the rename: `current` is not replaced, the marks are there.
    std::fs::write(&pointer, &before.1).unwrap();
    let folder = path("index/generations/000002");
    std::fs::write(folder.join("unpublished"), "").unwrap();
    std::fs::write(folder.join("merged.json"), "[]").unwrap();
    let embeddings = std::fs::read(folder.join("embeddings/00000001.parquet")).unwrap();
    let plan = &generations(&path("index"))[0];
    assert_eq!((plan["generation"].as_u64(), plan["current"].as_bool()), (Some(1), Some(true)));
    assert_eq!(answers(&path("index")), before.0);
    let recorded: Value = serde_json::from_slice(&std::fs::read(folder.join("generation.json")).unwrap()).unwrap();
    std::fs::write(folder.join("plan.json"), recorded["index"]["model"].to_string()).unwrap();
    // Without the files nothing could be encoded again.
    std::fs::rename(path("docs"), path("hidden")).unwrap();
    cli!("reencode", path("index"), "--model", &model).done();
    assert!(pages(&path("index")) == done);
    assert_eq!(std::fs::read(folder.join("embeddings/00000001.parquet")).unwrap(), embeddings);
    std::fs::rename(path("hidden"), path("docs")).unwrap();
    cli!("index", path("docs"), "--index", path("scratch"), "--model", &model).done();
    assert_eq!(pages(&path("scratch")).len(), done.len());
}

#[test]
fn a_search_is_logged_with_what_it_showed() {
    let temporary = copied_samples();
    let path = |name: &str| temporary.path().join(name);
    cli!("index", path("docs"), "--index", path("index")).done();
    let log = path("clicks.jsonl");
    std::fs::write(&log, "{\"v\":1,\"ki").unwrap();
    let search = |mode: &str| {
        let run = cli!(
            "search",
            path("index"),
            "solar power",
            "-k",
            "3",
            "--mode",
            mode,
            "--log",
            &log,
            "--session",
            "s7",
            "--json"
        );
        serde_json::from_str::<Value>(&run.done().out).unwrap()
    };
    let answers = [search("late"), search("bm25")];
    let table = cli!("search", path("index"), "solar", "--mode", "bm25", "--log", &log).done().out;
    let text = std::fs::read_to_string(&log).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 4);
    let lines: Vec<Value> = lines[1..].iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (line, answer) in lines.iter().zip(&answers) {
        assert_eq!(line["id"], answer["impression"]);
        assert_eq!((&line["v"], &line["kind"], &line["session"]), (&1.into(), &"impression".into(), &"s7".into()));
        assert_eq!((&line["query"], &line["generation"]), (&"solar power".into(), &1.into()));
        for (rank, (shown, hit)) in
            (1..).zip(line["shown"].as_array().unwrap().iter().zip(answer["hits"].as_array().unwrap()))
        {
            assert_eq!(
                (&shown["doc_id"], &shown["page"], &shown["rank"]),
                (&hit["doc_id"], &hit["page"], &rank.into())
            );
        }
    }
    assert_eq!(lines[0]["query_fingerprint"].as_str().unwrap().len(), 64);
    assert!(lines[1].get("query_fingerprint").is_none());
    assert!(table.contains(&format!("impression {}", lines[2]["id"].as_str().unwrap())), "{table}");
    // What training reads: all but the line that was cut off, the last with a session of its own.
    let read = read(&[log], &[], &ReadOptions { bad_share: 0.5 }).unwrap();
    assert_eq!((read.files[0].bad, read.files[0].records), (1, 3), "{:?}", read.files[0].first_bad);
    assert_ne!(lines[2]["session"], lines[1]["session"]);
    assert!(cli!("search", path("index"), "x", "--session", "s").refused(2).contains("--log"));
}
