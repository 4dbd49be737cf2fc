//! `train-from-clicks` night after night: runs that are killed, logs that grow, pages that go.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::clicks::{Users, samples_index, served, train, train_for, write_log, write_log_of};
use super::support::{PROGRAM, Ran, cli, samples, signal, start, wait_until};

fn object(run: &Ran) -> Value {
    serde_json::from_str(run.out.lines().last().unwrap()).unwrap()
}

#[test]
fn a_killed_run_is_gone_on_with_though_the_log_has_grown() {
    let temporary = tempfile::tempdir().unwrap();
    let index = samples_index(temporary.path());
    let log = temporary.path().join("clicks.jsonl");
    write_log(&log, &index, Users::Mean);
    let before = served(&index);
    let steps = index.join("runs/000001/train/steps.jsonl");
    let mut arguments =
        vec!["train-from-clicks", "--index", index.to_str().unwrap(), "--clicks", log.to_str().unwrap()];
    arguments.extend(["--batch", "32", "--epochs", "12", "--rate", "0.004", "--seed", "1", "--json"]);
    let mut program = start(&arguments);
    let lines = || fs::read_to_string(&steps).map_or(0, |text| text.lines().count());
    assert!(wait_until(&mut program, || lines() >= 25), "it ended before it could be killed");
    // Nobody else trains meanwhile.
    let second = train(&index, &log, &[]);
    assert!(second.code == Some(1) && second.err.contains("another train-from-clicks"), "{second:?}");
    signal(&program, "-KILL");
    program.wait().unwrap();
    assert_eq!(served(&index), before);
    let view = "{\"v\":1,\"kind\":\"view\",\"impression\":\"i1\",\"depth\":3}\n";
    fs::OpenOptions::new().append(true).open(&log).unwrap().write_all(view.as_bytes()).unwrap();
    let run = train(&index, &log, &[]).done();
    let end = object(&run);
    assert_eq!((end["decision"].as_str(), end["run"].as_u64()), (Some("published"), Some(1)), "{end}");
    assert!(!index.join("runs/000002").exists());
    // What the training needed to go on from is gone, what tells of it is not.
    assert!(steps.exists() && !steps.with_file_name("training.state").exists());
    // A kill after the model came into use, before the run said so.
    let folder = index.join("runs/000001");
    fs::rename(folder.join("run.jsonl"), folder.join("publishing.jsonl")).unwrap();
    let serving = served(&index);
    // What the log has gained is for the next night.
    fs::write(&log, fs::read_to_string(&log).unwrap().strip_suffix(view).unwrap()).unwrap();
    let completed = object(&train(&index, &log, &[]).done());
    assert_eq!(
        (&completed["decision"], &completed["run"], &completed["generation"]),
        (&end["decision"], &1.into(), &2.into())
    );
    assert!(folder.join("run.jsonl").exists() && !folder.join("publishing.jsonl").exists());
    assert_eq!(served(&index), serving);
    assert_eq!(train(&index, &log, &[]).code, Some(3));
}

#[test]
fn killed_in_any_part_it_serves_as_before_and_the_next_run_completes() {
    let temporary = tempfile::tempdir().unwrap();
    let index = temporary.path().join("index");
    cli!("index", samples(), "--index", &index, "--bits", "16", "--keep-hidden").done();
    let log = temporary.path().join("clicks.jsonl");
    write_log(&log, &index, Users::Mean);
    let before = served(&index);
    let serves = |files: &[(std::path::PathBuf, Vec<u8>)]| {
        // A generation that is being built lies beside the one that serves.
        before.iter().all(|file| files.contains(file))
    };
    for part in ["mining negatives", "training", "encoding pages anew", "comparing", "publishing"] {
        let mut command = Command::new(PROGRAM);
        command.args(["train-from-clicks", "--index"]).arg(&index).arg("--clicks").arg(&log);
        command.args(["--mode", "projection", "--batch", "32", "--epochs", "30", "--rate", "0.01", "--seed", "1"]);
        let mut program = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let mut said = BufReader::new(program.stderr.take().unwrap()).lines().map_while(Result::ok);
        assert!(said.any(|line| line.starts_with(part)), "it ended before {part}");
        signal(&program, "-KILL");
        program.wait().unwrap();
        let files = served(&index);
        let swapped = !serves(&files);
        assert!(part == "publishing" || !swapped, "killed in {part}");
        cli!("search", &index, "solar power", "--json").done();
    }
    let run = train_for(&index, &log, ["0.01", "30"], &["--mode", "projection"]).done();
    let end = object(&run);
    assert_eq!((end["decision"].as_str(), end["run"].as_u64()), (Some("published"), Some(1)), "{end}");
    assert_eq!(end["generation"], 2);
}

#[test]
fn a_night_goes_on_from_the_one_before_without_pages_that_are_gone() {
    let temporary = tempfile::tempdir().unwrap();
    let index = samples_index(temporary.path());
    let [first, second] = ["first.jsonl", "second.jsonl"].map(|name| temporary.path().join(name));
    write_log(&first, &index, Users::Mean);
    let night = object(&train(&index, &first, &[]).done());
    assert_eq!(night["decision"], "published");
    write_log_of(&second, &index, Users::Mean, (200, 1));
    // Some of the questions of the first night, and of the second, mean its pages.
    cli!("delete", &index, "--doc-id", "pantry-recipes.pdf").done();
    let missing = temporary.path().join("missing/report.html");
    let failed = train(&index, &second, &["--report", missing.to_str().unwrap()]);
    assert!(failed.code == Some(1) && failed.err.contains("report.html"), "{failed:?}");
    assert!(!index.join("runs/000002").exists(), "it failed before anything was done");
    let logs = Path::new(&second);
    let mut command = Command::new(PROGRAM);
    command.args(["train-from-clicks", "--index"]).arg(&index).arg("--clicks").args([first.as_path(), logs]);
    command.args(["--batch", "32", "--epochs", "12", "--rate", "0.004", "--seed", "1", "--json"]);
    let run = Ran::of(&mut command);
    assert!(matches!(run.code, Some(0 | 3)), "{run:?}");
    let night = object(&run);
    let metrics = &night["metrics"];
    assert!(metrics["replayed_queries"].as_u64().unwrap() > 0, "{metrics:#}");
    let files = metrics["files"].as_array().unwrap();
    assert!(files[0]["records"] == 0 && files[1]["records"].as_u64().unwrap() > 900, "{metrics:#}");
    let deleted = metrics["visits"]["deleted_pages"].as_array().unwrap();
    assert!(deleted.iter().any(|page| page[0].as_str().unwrap().contains("pantry-recipes")), "{deleted:?}");
    let report = fs::read_to_string(night["report"].as_str().unwrap()).unwrap();
    assert!(report.contains("deleted") && report.contains("pantry-recipes"));
    // Gone back from, the second night's clicks are new again.
    if run.code == Some(0) {
        cli!("rollback", &index).done();
        let again = object(&train(&index, &second, &["--dry-run"]));
        assert!(again["metrics"]["files"][0]["records"].as_u64().unwrap() > 900, "{again:#}");
    }
}
