//! Two writers at once.

use super::files::tiff;
use super::support::{Ran, cli, page_keys, quick, signal, start_index, wait_until, writes_part};

const PAGES: u32 = 300;

#[test]
fn a_second_writer_is_refused_and_the_first_is_not_disturbed() {
    let temporary = tempfile::tempdir().unwrap();
    let (docs, index) = (temporary.path().join("docs"), temporary.path().join("index"));
    std::fs::create_dir(&docs).unwrap();
    std::fs::write(docs.join("long.tiff"), tiff(PAGES, 9)).unwrap();
    let pages = page_file(&temporary);
    let mut first = start_index(&docs, &index);
    assert!(wait_until(&mut first, || writes_part(&index)), "the first run takes a while");
    // It holds still while the others try.
    signal(&first, "-STOP");

    for second in [
        cli!("index", &docs, "--index", &index, "--model", quick()),
        cli!("index", &docs, "--index", &index, "--model", quick(), "--prune", "--no-embeddings"),
        cli!("import", "--embeddings", &pages, "--index", &index),
    ] {
        let error = second.refused(1);
        assert!(error.contains("being written to"), "{error}");
        assert!(error.contains(index.to_str().unwrap()), "{error}");
    }
    // Reading goes on meanwhile.
    cli!("search", &index, "words", "--mode", "bm25", "--json").done();
    cli!("inspect", &index).done();

    signal(&first, "-CONT");
    let first = Ran::from(first.wait_with_output().unwrap()).done();
    assert_eq!(first.report().encoded, u64::from(PAGES));
    assert_eq!(page_keys(&index).len() as u32, PAGES);
    assert_eq!(cli!("index", &docs, "--index", &index).done().report().unchanged, 1);
}

/// A page file of the same model.
fn page_file(temporary: &tempfile::TempDir) -> std::path::PathBuf {
    let file = temporary.path().join("pages.parquet");
    let picture = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle/fixtures/page0.png");
    cli!("encode", "--image", picture, "--model", quick(), "--out", &file).done();
    file
}
