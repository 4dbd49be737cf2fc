//! Indexing again: what stays, what is replaced, what goes, and what cannot be read.

use std::path::Path;

use super::files::{tiff, tiff_of, write_pages};
use super::support::{Report, SAMPLE_FILES, SAMPLE_PAGES, cli, copied_samples, page_keys, samples};

fn pages_of(index: &Path, document: &str) -> Vec<u32> {
    page_keys(index).into_iter().filter(|(doc_id, _)| doc_id == document).map(|(_, page)| page).collect()
}

#[test]
fn a_second_run_encodes_nothing() {
    let temporary = copied_samples();
    let (docs, index) = (temporary.path().join("docs"), temporary.path().join("index"));
    cli!("index", &docs, "--index", &index).done();
    let again = cli!("index", &docs, "--index", &index).done().report();
    assert_eq!(again, Report { unchanged: SAMPLE_FILES, ..Report::default() });
    assert_eq!(page_keys(&index).len() as u64, SAMPLE_PAGES);
    // Another time stamp is no other content; another name is another document.
    let (old, new) = (docs.join("glow-worm-note.pdf"), docs.join("moved.pdf"));
    std::fs::rename(old, new).unwrap();
    let again = cli!("index", &docs, "--index", &index).done().report();
    assert_eq!(again, Report { encoded: 1, unchanged: SAMPLE_FILES - 1, ..Report::default() });
}

#[test]
fn a_changed_file_replaces_all_its_pages() {
    let temporary = copied_samples();
    let (docs, index) = (temporary.path().join("docs"), temporary.path().join("index"));
    cli!("index", &docs, "--index", &index).done();
    let changed = docs.join("pantry-recipes.pdf");
    let found = |words: &str| {
        let run = cli!("search", &index, words, "--mode", "bm25", "--filter", "doc_id:pantry-recipes.pdf", "--json");
        run.done().hits().len()
    };
    assert_eq!((pages_of(&index, "pantry-recipes.pdf"), found("plum cake"), found("glow-worms")), (vec![1, 2], 1, 0));

    std::fs::copy(samples().join("glow-worm-note.pdf"), &changed).unwrap();
    let report = cli!("index", &docs, "--index", &index).done().report();
    assert_eq!(report, Report { encoded: 1, unchanged: SAMPLE_FILES - 1, ..Report::default() });
    assert_eq!((pages_of(&index, "pantry-recipes.pdf"), found("plum cake"), found("glow-worms")), (vec![1], 0, 1));

    std::fs::copy(samples().join("solar-plant-report.pdf"), &changed).unwrap();
    let report = cli!("index", &docs, "--index", &index).done().report();
    assert_eq!(report.encoded, 2);
    assert_eq!((pages_of(&index, "pantry-recipes.pdf"), found("glow-worms"), found("hailstorm")), (vec![1, 2], 0, 1));
    assert_eq!(page_keys(&index).len() as u64, SAMPLE_PAGES);
    assert_eq!(cli!("index", &docs, "--index", &index).done().report().encoded, 0);
}

#[test]
fn a_vanished_file_stays_until_it_is_pruned() {
    let temporary = copied_samples();
    let (docs, index) = (temporary.path().join("docs"), temporary.path().join("index"));
    cli!("index", &docs, "--index", &index).done();
    std::fs::remove_file(docs.join("tarn-ridge-walk.pdf")).unwrap();
    let report = cli!("index", &docs, "--index", &index).done().report();
    assert_eq!(report, Report { unchanged: SAMPLE_FILES - 1, ..Report::default() });
    assert_eq!(pages_of(&index, "tarn-ridge-walk.pdf"), [1, 2]);
    // A file that is there but cannot be read has not vanished.
    std::fs::write(docs.join("glow-worm-note.pdf"), "damaged").unwrap();
    let report = cli!("index", &docs, "--index", &index, "--prune").done().report();
    assert_eq!(report, Report { unchanged: SAMPLE_FILES - 2, pruned: 1, problems: 1, ..Report::default() });
    assert_eq!(pages_of(&index, "tarn-ridge-walk.pdf"), [0; 0]);
    assert_eq!(pages_of(&index, "glow-worm-note.pdf"), [1]);
    assert_eq!(page_keys(&index).len() as u64, SAMPLE_PAGES - 2);
}

#[test]
fn files_that_cannot_be_read_are_named_and_skipped_or_fail_the_run() {
    let temporary = copied_samples();
    let (docs, index) = (temporary.path().join("docs"), temporary.path().join("index"));
    let encrypted = Path::new(env!("CARGO_MANIFEST_DIR")).join("ingest/tests/data/encrypted.pdf");
    std::fs::copy(encrypted, docs.join("bad-encrypted.pdf")).unwrap();
    std::fs::write(docs.join("bad-text.pdf"), "These are words, not a PDF.").unwrap();
    std::fs::write(docs.join("bad-empty.pdf"), "").unwrap();
    std::fs::write(docs.join("bad-picture.png"), b"\x89PNG\r\n\x1a\n and no more").unwrap();
    let whole = std::fs::read(docs.join("solar-plant-report.pdf")).unwrap();
    std::fs::write(docs.join("bad-truncated.pdf"), &whole[..whole.len() / 3]).unwrap();
    let bad = ["bad-encrypted.pdf", "bad-text.pdf", "bad-empty.pdf", "bad-picture.png", "bad-truncated.pdf"];

    let error = cli!("index", &docs, "--index", &index, "--on-error", "fail").refused(1);
    assert!(bad.iter().any(|name| error.contains(name)), "{error}");

    let run = cli!("index", &docs, "--index", &index, "--on-error", "skip").done();
    for name in bad {
        let lines = run.err.lines().filter(|line| line.contains(name));
        assert_eq!(lines.count(), 1, "{name} is reported once:\n{}", run.err);
    }
    assert_eq!(run.report(), Report { encoded: SAMPLE_PAGES, problems: 5, ..Report::default() });
    assert!(page_keys(&index).iter().all(|(doc_id, _)| !doc_id.starts_with("bad")));

    // Skipping is the default, and the next run does not encode the good ones again.
    let again = cli!("index", &docs, "--index", &index).done().report();
    assert_eq!(again, Report { unchanged: SAMPLE_FILES, problems: 5, ..Report::default() });
    cli!("index", &docs, "--index", &index, "--on-error", "fail").refused(1);
    bad.iter().for_each(|name| std::fs::remove_file(docs.join(name)).unwrap());
    cli!("index", &docs, "--index", &index, "--on-error", "fail").done();
}

#[test]
fn pages_and_documents_are_deleted() {
    let temporary = copied_samples();
    let (docs, index) = (temporary.path().join("docs"), temporary.path().join("index"));
    cli!("index", &docs, "--index", &index).done();
    cli!("delete", &index, "--doc-id", "solar-plant-report.pdf", "--page", "1").done();
    assert_eq!(pages_of(&index, "solar-plant-report.pdf"), [2]);
    let error = cli!("delete", &index, "--doc-id", "solar-plant-report.pdf", "--page", "1").refused(1);
    assert!(error.contains("no page 1"), "{error}");
    cli!("delete", &index, "--doc-id", "pantry-recipes.pdf").done();
    assert_eq!(pages_of(&index, "pantry-recipes.pdf"), [0; 0]);
    let hits = cli!("search", &index, "plum cake", "--json", "-k", "100").done().hits();
    assert_eq!(hits.len() as u64, SAMPLE_PAGES - 3);
    assert!(hits.iter().all(|(doc_id, _)| doc_id != "pantry-recipes.pdf"));
    let error = cli!("delete", &index, "--doc-id", "pantry-recipes.pdf").refused(1);
    assert!(error.contains("pantry-recipes.pdf"), "{error}");
    // A file that is still there comes back, only as far as it was deleted.
    assert_eq!(cli!("index", &docs, "--index", &index).done().report().encoded, 3);
    assert_eq!(page_keys(&index).len() as u64, SAMPLE_PAGES);
}

#[test]
fn another_model_is_refused_before_anything_is_encoded() {
    let temporary = copied_samples();
    let (docs, index) = (temporary.path().join("docs"), temporary.path().join("index"));
    cli!("index", docs.join("pantry-recipes.pdf"), "--index", &index).done();
    let recorded = super::support::inspect(&index)["model"]["page_fingerprint"].as_str().unwrap().to_owned();
    let other = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle/fixtures/plain");
    for error in [
        cli!("index", &docs, "--index", &index, "--model", &other).refused(1),
        cli!("search", &index, "plums", "--model", &other).refused(1),
    ] {
        let fingerprints = error.split(|letter: char| !letter.is_ascii_hexdigit()).filter(|word| word.len() == 64);
        assert_eq!(fingerprints.count(), 2, "{error}");
        assert!(error.contains(&recorded), "{error}");
    }
    assert_eq!(page_keys(&index).len(), 2);
}

#[test]
fn a_page_that_the_model_refuses_is_named_and_its_neighbours_are_kept() {
    let temporary = tempfile::tempdir().unwrap();
    let (scan, index) = (temporary.path().join("scan.tiff"), temporary.path().join("index"));
    // An aspect ratio of 300 is more than the model takes.
    std::fs::write(&scan, tiff_of(&[(56, 56), (3, 900), (56, 84), (84, 56)], 9)).unwrap();
    let run = cli!("index", &scan, "--index", &index).done();
    assert!(run.err.contains("scan.tiff") && run.err.contains("page 2"), "{}", run.err);
    assert_eq!(run.report(), Report { encoded: 3, problems: 1, ..Report::default() });
    assert_eq!(pages_of(&index, "scan.tiff"), [1, 3, 4]);
    let other = temporary.path().join("other");
    let error = cli!("index", &scan, "--index", &other, "--on-error", "fail").refused(1);
    assert!(error.contains("scan.tiff") && error.contains("page 2"), "{error}");
}

#[test]
fn a_model_of_another_dimension_changes_nothing() {
    use colqwen_index::ingest::embeddings::{PageFileOptions, PageRecord};
    let temporary = tempfile::tempdir().unwrap();
    let (file, index) = (temporary.path().join("narrow.parquet"), temporary.path().join("index"));
    let vectors = colqwen_index::PageVectors::new(super::files::Numbers(3).vectors(2, 8));
    write_pages(&file, PageFileOptions::new(8), &[PageRecord::new("a", 1, vectors)]);
    cli!("import", "--embeddings", &file, "--index", &index).done();
    let scan = temporary.path().join("scan.tiff");
    std::fs::write(&scan, tiff(2, 1)).unwrap();
    let error = cli!("index", &scan, "--index", &index, "--model", "builtin").refused(1);
    assert!(error.contains("dim 128") && error.contains("dim 8"), "{error}");
    let inspection = cli!("inspect", &index, "--json").done().out;
    assert!(inspection.contains("\"model\":null") && inspection.contains("\"last_part\":0"), "{inspection}");
}
