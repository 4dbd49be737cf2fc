//! What the program's own model finds by the images of pages, without a word of their text layer.

use colqwen_index::ingest::builtin;
use colqwen_index::page_index::RecordedModel;
use colqwen_index::{PageIndex, PageIndexOptions};

use super::support::{cli, samples, tiny};

/// Words of one page each, and the page.
const QUERIES: [(&str, &str, u64); 6] = [
    ("how do I descale the boiler", "espresso-machine-manual.pdf", 2),
    ("30 grams of citric acid in a litre", "espresso-machine-manual.pdf", 2),
    ("female glow-worms do not fly", "glow-worm-note.pdf", 1),
    ("chickpea stew lemon", "pantry-recipes.pdf", 1),
    ("plum cake from a tin", "pantry-recipes.pdf", 2),
    ("inverter availability", "solar-plant-report.pdf", 2),
];

#[test]
fn the_page_with_the_words_comes_first() {
    let temporary = tempfile::tempdir().unwrap();
    let index = temporary.path().join("index");
    let made = cli!("index", samples(), "--index", &index).done();
    assert!(!made.err.contains("note:"), "{}", made.err);
    for effort in ["default", "exact"] {
        for (query, doc_id, page) in QUERIES {
            let run = cli!("search", &index, query, "--mode", "late", "--effort", effort, "--json").done();
            assert_eq!(run.err, "");
            assert_eq!(run.hits()[0], (doc_id.to_owned(), page), "{query} at effort {effort}");
        }
    }
    // Words that stand on no page are at home nowhere: no page stands out as the right ones do above.
    let spread = |query: &str| {
        let run = cli!("search", &index, query, "--effort", "exact", "--json").done();
        let hits = run.json_lines().remove(0).hits;
        (hits[0].score - hits[8].score) / hits[0].score
    };
    assert!(spread("female glow-worms do not fly") > spread("quartz zebra jukebox"));
}

#[test]
fn pages_of_another_versions_builtin_model_are_refused() {
    let temporary = tempfile::tempdir().unwrap();
    let index = temporary.path().join("index");
    // What a version of the program recorded whose model of this name was another.
    let other = colqwen_index::model::Model::load(tiny().to_str().unwrap(), "cpu").unwrap().encoder;
    let mut options = PageIndexOptions::new(other.dim());
    options.model = Some(RecordedModel {
        name: builtin::NAME.to_owned(),
        page_fingerprint: other.page_fingerprint(),
        query_format: other.query_format().to_owned(),
    });
    drop(PageIndex::create(&index, &options).unwrap());
    for error in [cli!("search", &index, "lamp").refused(1), cli!("index", samples(), "--index", &index).refused(1)] {
        assert!(error.contains(&other.page_fingerprint().to_string()), "{error}");
        assert!(error.contains("another version of this program"), "{error}");
    }
    assert_eq!(cli!("search", &index, "lamp", "--mode", "bm25", "--json").done().hits(), [], "words need no model");
}
