//! The small trained checkpoint of the repository: it reads printed words.

use std::path::Path;

use super::support::{cli, samples};

#[test]
fn pages_are_found_by_their_images_alone() {
    let temporary = tempfile::tempdir().unwrap();
    let index = temporary.path().join("index");
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("ingest/small");
    let run = cli!("index", samples(), "--index", &index, "--model", &model).done();
    assert!(!run.err.contains("random weights"), "{}", run.err);
    for (query, doc_id) in [
        ("chickpea stew lemon", "pantry-recipes.pdf"),
        ("glow worms", "glow-worm-note.pdf"),
        ("inverter availability", "solar-plant-report.pdf"),
    ] {
        // Late mode asks the vectors only, and these come from the picture of the page.
        let run = cli!("search", &index, query, "-k", "1", "--mode", "late", "--effort", "exact", "--json").done();
        assert_eq!(run.json_lines()[0].hits[0].doc_id, doc_id, "{query}");
    }
}
