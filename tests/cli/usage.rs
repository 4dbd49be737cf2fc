//! Help, exit codes, and what goes to stdout and what to stderr.

use super::support::{cli, copied_samples, keys, samples, tiny};

const COMMANDS: [&str; 8] = ["index", "search", "import", "export", "encode", "inspect", "optimize", "delete"];

#[test]
fn help_reads_like_documentation_with_an_example() {
    let overview = cli!("--help").done();
    assert!(overview.out.contains("Exit codes: 0 done, 1 failed, 2 wrong usage"), "{}", overview.out);
    for command in COMMANDS {
        let help = cli!(command, "--help").done();
        assert_eq!(help.err, "", "{command}");
        let (_, example) = help.out.split_once("Example").unwrap_or_else(|| panic!("{command}: {}", help.out));
        assert!(example.contains(&format!("colqwen-index {command} ")), "{command}: {example}");
        assert!(overview.out.contains(&format!("\n  {command} ")), "the overview names {command}");
    }
}

#[test]
fn wrong_usage_ends_with_2() {
    let none = tempfile::tempdir().unwrap();
    let (none, samples) = (none.path().join("none"), samples());
    cli!().refused(2);
    cli!("index", "--index", &none).refused(2);
    cli!("index", &samples).refused(2);
    cli!("search", &none).refused(2);
    cli!("search", &none, "words", "--queries", "f.parquet").refused(2);
    cli!("search", &none, "words", "--effort", "1.5").refused(2);
    cli!("search", &none, "words", "--mode", "psychic").refused(2);
    cli!("search", &none, "words", "--threads", "0").refused(2);
    cli!("search", &none, "words", "--stats", "f.json").refused(2);
    cli!("encode", "--model", "builtin", "--out", "f.parquet").refused(2);
    cli!("encode", "--text", "a", "--model", "builtin", "--out", "f.parquet", "--dtype", "f8").refused(2);
    cli!("dance").refused(2);
}

#[test]
fn bits_that_do_not_exist_are_refused_before_anything_is_made() {
    let temporary = tempfile::tempdir().unwrap();
    let index = temporary.path().join("index");
    let error = cli!("index", samples(), "--index", &index, "--bits", "7").refused(2);
    assert!(error.contains("16, 8, 4 or 2") && error.contains('7'), "{error}");
    assert!(!index.exists());
}

#[test]
fn a_missing_index_file_or_model_fails_with_1_and_its_name() {
    let temporary = tempfile::tempdir().unwrap();
    let none = temporary.path().join("no-such-index");
    let named = |error: String, name: &str| assert!(error.contains(name), "{error}");
    named(cli!("search", &none, "words").refused(1), "no-such-index");
    named(cli!("inspect", &none).refused(1), "no-such-index");
    named(cli!("delete", &none, "--doc-id", "a.pdf").refused(1), "no-such-index");
    named(cli!("export", "--index", &none, "--embeddings", "f.parquet").refused(1), "no-such-index");
    let missing = temporary.path().join("missing.parquet");
    named(cli!("import", "--index", &none, "--embeddings", &missing).refused(1), "missing.parquet");
    named(cli!("index", temporary.path().join("missing.pdf"), "--index", &none).refused(1), "missing.pdf");
    let model = temporary.path().join("no-such-model");
    let out = temporary.path().join("out.parquet");
    named(cli!("encode", "--text", "a", "--model", &model, "--out", &out).refused(1), "no-such-model");
    assert!(!out.exists());
}

#[test]
fn nothing_to_index_leaves_no_index_behind() {
    let temporary = tempfile::tempdir().unwrap();
    let (docs, index) = (temporary.path().join("docs"), temporary.path().join("index"));
    std::fs::create_dir(&docs).unwrap();
    std::fs::write(docs.join("notes.txt"), "no page").unwrap();
    let error = cli!("index", &docs, "--index", &index).refused(1);
    assert!(error.contains("no PDF or page image"), "{error}");
    cli!("index", temporary.path().join("missing"), "--index", &index).refused(1);
    let error = cli!("search", &index, "words", "--mode", "bm25").refused(1);
    assert!(error.contains("holds no page index"), "{error}");
}

#[test]
fn results_go_to_stdout_and_remarks_to_stderr_unless_quiet() {
    let temporary = copied_samples();
    let (docs, index) = (temporary.path().join("docs"), temporary.path().join("index"));
    let made = cli!("index", &docs, "--index", &index).done();
    assert_eq!(made.out, "");
    assert!(made.err.contains("9 pages encoded") && !made.err.contains("note:"), "{}", made.err);
    let again = cli!("index", &docs, "--index", &index, "--quiet").done();
    assert_eq!((again.out.as_str(), again.err.as_str()), ("", ""));

    let found = cli!("search", &index, "chickpeas", "--mode", "hybrid", "--json").done();
    assert_eq!(found.err, "");
    let quiet = cli!("--quiet", "search", &index, "chickpeas", "--mode", "hybrid", "--json").done();
    assert_eq!((quiet.out, quiet.err.as_str()), (found.out, ""));
    let words = cli!("search", &index, "chickpeas", "--mode", "bm25").done();
    assert_eq!(words.err, "", "bm25 needs no model");
    assert!(words.out.contains("pantry-recipes.pdf") && words.out.contains("cooked chickpeas"), "{}", words.out);
    let nothing = cli!("search", &index, "xylophone", "--mode", "bm25").done();
    assert_eq!(nothing.out, "no page found\n");

    let deleted = cli!("delete", &index, "--doc-id", "pantry-recipes.pdf", "-q").done();
    assert_eq!((deleted.out.as_str(), deleted.err.as_str()), ("", ""));
    let error = cli!("delete", &index, "--doc-id", "pantry-recipes.pdf", "-q").refused(1);
    assert!(error.contains("pantry-recipes.pdf"), "errors are told even so: {error}");
}

#[test]
fn a_model_that_was_never_trained_is_called_so_and_leaves_ranking_to_the_words() {
    let temporary = copied_samples();
    let (docs, index) = (temporary.path().join("docs"), temporary.path().join("index"));
    let made = cli!("index", &docs, "--index", &index, "--model", tiny()).done();
    assert!(made.err.contains("never trained"), "{}", made.err);
    for (words, document) in [("chickpeas", "pantry-recipes.pdf"), ("glow-worms", "glow-worm-note.pdf")] {
        let found = cli!("search", &index, words, "--mode", "hybrid", "--json").done();
        assert!(found.err.contains("never trained") && !found.out.contains("never trained"), "{}", found.err);
        assert_eq!(found.hits()[0].0, document);
    }
    let quiet = cli!("search", &index, "chickpeas", "--mode", "hybrid", "--json", "--quiet").done();
    assert_eq!(quiet.err, "");
}

#[test]
fn inspect_tells_pages_models_and_bytes() {
    let temporary = copied_samples();
    let index = temporary.path().join("index");
    cli!("index", temporary.path().join("docs"), "--index", &index).done();
    let inspection = super::support::inspect(&index);
    assert_eq!((&inspection["pages"], &inspection["documents"]), (&9.into(), &5.into()));
    assert_eq!((&inspection["dim"], &inspection["verified"]), (&128.into(), &true.into()));
    assert_eq!(inspection["model"]["name"], "builtin");
    let fields: Vec<_> =
        inspection["segments"].as_array().unwrap().iter().map(|segment| &segment["fields"][0]).collect();
    let sum = |key: &str| fields.iter().map(|field| field[key].as_u64().unwrap()).sum::<u64>();
    assert_eq!(sum("pages"), 9);
    assert!(sum("vector_bytes") >= sum("tokens") * 130 && sum("vector_bytes") < sum("tokens") * 134, "{inspection}");
    for field in &fields {
        assert_eq!(
            keys(field),
            [
                "bits",
                "codebooks",
                "dim",
                "direct_pages",
                "field",
                "keeps_f16",
                "models",
                "pages",
                "tokens",
                "vector_bytes"
            ]
        );
        assert_eq!(field["models"][0], inspection["model"]["page_fingerprint"]);
    }
    let text = cli!("inspect", &index, "--verify").done().out;
    assert!(text.contains("9 pages of 5 documents") && text.contains("all checksums match"), "{text}");
}

#[test]
fn verify_finds_a_flipped_bit() {
    let temporary = copied_samples();
    let index = temporary.path().join("index");
    cli!("index", temporary.path().join("docs"), "--index", &index).done();
    let generation = index.join("generations/000001");
    let vectors = super::support::file_names(&generation).into_iter().find(|name| name.ends_with(".late")).unwrap();
    let path = generation.join(&vectors);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let error = cli!("inspect", &index, "--verify").refused(1);
    assert!(error.contains(vectors.trim_end_matches(".late")) && error.contains("checksum"), "{error}");
}
