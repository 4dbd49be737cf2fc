//! From PDFs to hits.

use super::support::{
    SAMPLE_FILES, SAMPLE_PAGES, cli, copied_samples, copy_samples, file_names, page_keys, samples, tiny,
};

#[test]
fn phrases_of_the_samples_are_found_on_their_pages() {
    let temporary = tempfile::tempdir().unwrap();
    let index = temporary.path().join("index");
    let made = cli!("index", samples(), "--index", &index).done().report();
    assert_eq!((made.encoded, made.resumed, made.problems), (SAMPLE_PAGES, 0, 0));
    for (phrase, document, page) in [
        ("cloudberries ripen on the bog", "tarn-ridge-walk.pdf", 2),
        ("hail broke 214 modules", "solar-plant-report.pdf", 2),
        ("30 grams of citric acid in a litre", "espresso-machine-manual.pdf", 2),
        ("plum cake from a tin", "pantry-recipes.pdf", 2),
        ("female glow-worms do not fly", "glow-worm-note.pdf", 1),
    ] {
        let hits = |mode: &str| cli!("search", &index, phrase, "--mode", mode, "-k", "3", "--json").done().hits();
        let (words, both) = (hits("bm25"), hits("hybrid"));
        assert_eq!(words[0], (document.to_owned(), page), "{phrase}");
        // Whatever the images say, what the words find stays in sight.
        assert!(both.len() <= 3 && both.contains(&words[0]), "{phrase}: {both:?}");
    }
    assert_eq!(
        cli!("search", &index, "anything", "-k", "100", "--json").done().hits().len(),
        9,
        "late ranks all pages"
    );
    assert_eq!(cli!("search", &index, "anything", "-k", "0", "--json").done().hits(), []);
    assert_eq!(cli!("search", &index, "!?", "--mode", "bm25", "--json").done().hits(), [], "no words, no hits");
    // What looks like query syntax is words.
    let hits = cli!("search", &index, "cloudberries AND (NOT doc_id:\"x", "--mode", "bm25", "--json").done().hits();
    assert_eq!(hits[0].0, "tarn-ridge-walk.pdf");
}

#[test]
fn a_filter_limits_every_mode() {
    let temporary = tempfile::tempdir().unwrap();
    let index = temporary.path().join("index");
    cli!("index", samples(), "--index", &index).done();
    let solar = |page| ("solar-plant-report.pdf".to_owned(), page);
    for mode in ["late", "hybrid", "bm25"] {
        let search = |filter: &str| {
            let run = cli!("search", &index, "the lamp and the chart", "--mode", mode, "--filter", filter, "--json");
            let mut hits = run.done().hits();
            hits.sort();
            hits
        };
        assert_eq!(search("doc_id:solar-plant-report.pdf"), [solar(1), solar(2)], "{mode}");
        assert_eq!(search("doc_id:\"solar-plant-report.pdf\" AND page:[2 TO 9]"), [solar(2)], "{mode}");
        assert_eq!(search("doc_id:solar-plant-report.pdf page:1"), [solar(1)], "clauses are joined by AND");
        assert_eq!(search("doc_id:nobody.pdf"), [], "{mode}");
    }
    let error = cli!("search", &index, "lamp", "--filter", "nofield:1", "--json").refused(1);
    assert!(error.contains("nofield"), "{error}");
}

#[test]
fn a_filter_does_not_change_the_scores() {
    let temporary = tempfile::tempdir().unwrap();
    let index = temporary.path().join("index");
    cli!("index", samples(), "--index", &index).done();
    for mode in ["late", "bm25"] {
        let hits = |filter: &str| {
            let run = cli!("search", &index, "lamp", "--mode", mode, "--filter", filter, "--json").done();
            run.json_lines().remove(0).hits
        };
        let (all, some) = (hits("*"), hits("doc_id:glow-worm-note.pdf"));
        assert_eq!(some.len(), 1);
        assert!(all.len() > 1 && all.contains(&some[0]), "{mode}: {some:?} in {all:?}");
    }
}

#[test]
fn documents_are_called_by_their_path_below_the_argument() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path().join("shelf");
    std::fs::create_dir_all(folder.join("deep/er")).unwrap();
    std::fs::create_dir_all(folder.join(".hidden")).unwrap();
    let sample = |name: &str| samples().join(name);
    let copy = |from: &str, to: &str| std::fs::copy(sample(from), folder.join(to)).unwrap();
    copy("glow-worm-note.pdf", "deep/er/note.pdf");
    copy("pantry-recipes.pdf", "Rezepte für zwei.PDF");
    copy("glow-worm-note.pdf", ".hidden/no.pdf");
    std::fs::write(folder.join("readme.txt"), "not a page").unwrap();
    // A file argument is taken whatever its ending.
    let file = temporary.path().join("tarn-walk.document");
    std::fs::copy(sample("tarn-ridge-walk.pdf"), &file).unwrap();
    let index = temporary.path().join("index");
    cli!("index", &folder, &file, "--index", &index).done();
    let page = |document: &str, page| (document.to_owned(), page);
    assert_eq!(
        page_keys(&index),
        [
            page("Rezepte für zwei.PDF", 1),
            page("Rezepte für zwei.PDF", 2),
            page("deep/er/note.pdf", 1),
            page("tarn-walk.document", 1),
            page("tarn-walk.document", 2)
        ]
    );
    let filter = "doc_id:\"deep/er/note.pdf\"";
    assert_eq!(
        cli!("search", &index, "lamp", "--filter", filter, "--json").done().hits(),
        [("deep/er/note.pdf".to_owned(), 1)]
    );
    // The same documents from the folder above have other names.
    let again = cli!("index", folder.join("deep"), "--index", &index).done().report();
    assert_eq!(again.encoded, 1);
    assert!(page_keys(&index).contains(&page("er/note.pdf", 1)));
}

#[test]
fn arguments_that_collide_are_an_error_naming_both() {
    let temporary = copied_samples();
    let (docs, other, index) =
        (temporary.path().join("docs"), temporary.path().join("other"), temporary.path().join("index"));
    std::fs::create_dir(&other).unwrap();
    std::fs::copy(docs.join("glow-worm-note.pdf"), other.join("pantry-recipes.pdf")).unwrap();
    for second in [other.clone(), other.join("pantry-recipes.pdf")] {
        let error = cli!("index", &docs, second, "--index", &index).refused(1);
        assert!(error.contains(docs.join("pantry-recipes.pdf").to_str().unwrap()), "{error}");
        assert!(error.contains(other.join("pantry-recipes.pdf").to_str().unwrap()), "{error}");
    }
    // The same file twice does not collide.
    let report = cli!("index", &docs, docs.join("pantry-recipes.pdf"), "--index", &index).done().report();
    assert_eq!(report.encoded, SAMPLE_PAGES);
}

#[test]
fn embeddings_are_kept_where_they_were_asked_for() {
    let temporary = copied_samples();
    let path = |name: &str| temporary.path().join(name);
    // A model that takes no time: all pages fall into one part, on a busy machine, too.
    let (docs, model) = (path("docs"), tiny());
    cli!("index", &docs, "--index", path("one"), "--model", &model).done();
    assert_eq!(file_names(&path("one/embeddings")), ["00000001.parquet"]);
    cli!("index", &docs, "--index", path("two"), "--embeddings", path("parts"), "--model", &model).done();
    assert_eq!(file_names(&path("parts")), ["00000001.parquet"]);
    assert_eq!(file_names(&path("two/embeddings")), [""; 0]);
    cli!("index", &docs, "--index", path("three"), "--no-embeddings", "--model", &model).done();
    assert_eq!(file_names(&path("three/embeddings")), [""; 0]);
    cli!("index", &docs, "--index", path("four"), "--no-embeddings", "--embeddings", path("parts")).refused(2);
    for index in ["two", "three"] {
        assert_eq!(page_keys(&path(index)), page_keys(&path("one")), "{index}");
        assert_eq!(cli!("index", &docs, "--index", path(index)).done().report().unchanged, SAMPLE_FILES);
    }
    // A part is an ordinary page file.
    cli!("import", "--embeddings", path("parts/00000001.parquet"), "--index", path("five")).done();
    assert_eq!(page_keys(&path("five")), page_keys(&path("one")));
}

#[test]
fn files_of_the_samples_and_of_a_copy_are_the_same_pages() {
    let temporary = tempfile::tempdir().unwrap();
    let (docs, index) = (temporary.path().join("docs"), temporary.path().join("index"));
    std::fs::create_dir(&docs).unwrap();
    copy_samples(&docs, "a-");
    copy_samples(&docs, "b-");
    // Codes of fewer bits depend on what else is in a segment.
    cli!("index", &docs, "--index", &index, "--bits", "16").done();
    let pages = super::support::pages(&index);
    let (a, b) = pages.split_at(pages.len() / 2);
    for (a, b) in a.iter().zip(b) {
        assert_eq!((&a.doc_id[2..], a.page), (&b.doc_id[2..], b.page));
        assert_eq!((&a.text, &a.content_hash), (&b.text, &b.content_hash));
        assert_eq!(a.vectors, b.vectors, "the batch a page is in makes no difference");
        let source = docs.join(&a.doc_id).canonicalize().unwrap();
        assert_eq!(a.source.as_deref(), source.to_str(), "where to render it again");
        assert!(a.vectors.layout.is_some());
    }
}
