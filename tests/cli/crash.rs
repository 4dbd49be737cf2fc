//! Killed and interrupted runs, and what the next one makes of what they left.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::thread::sleep;
use std::time::Duration;

use colqwen_index::ingest::embeddings::PageReader;

use super::files::{Numbers, tiff};
use super::support::{
    Ran, Report, SAMPLE_FILES, SAMPLE_PAGES, assert_same, cli, copied_samples, copy_samples, inspect, page_keys, pages,
    parts, quick, samples, signal, start_index, tiny, wait_until, writes_part,
};

const KILLS: u64 = 10;
/// Pages of the small pictures: several commits of 256 pages each.
const SMALL_PAGES: u32 = 700;

/// How often the sample PDFs are there.
const COPIES: u64 = 2;

/// A temporary folder whose `docs` holds about 720 pages, 18 of them of PDFs.
fn many_pages() -> (tempfile::TempDir, u64) {
    let temporary = tempfile::tempdir().unwrap();
    let docs = temporary.path().join("docs");
    std::fs::create_dir(&docs).unwrap();
    ["a-", "z-"].iter().for_each(|prefix| copy_samples(&docs, prefix));
    std::fs::write(docs.join("m-1.tiff"), tiff(SMALL_PAGES / 2, 1)).unwrap();
    std::fs::write(docs.join("m-2.tiff"), tiff(SMALL_PAGES / 2, 2)).unwrap();
    (temporary, COPIES * SAMPLE_PAGES + u64::from(SMALL_PAGES))
}

/// Document and page of everything in the finished parts.
fn pages_in_parts(index: &Path) -> Vec<(String, u32)> {
    let read = |part: PathBuf| PageReader::open(part).unwrap().map(Result::unwrap);
    parts(index).into_iter().flat_map(read).map(|page| (page.doc_id, page.page)).collect()
}

fn kill(mut run: Child) {
    // It may have ended by itself.
    let _ = run.kill();
    run.wait().unwrap();
}

#[test]
fn killed_at_any_moment_the_index_opens_and_the_next_run_goes_on() {
    let (temporary, all) = many_pages();
    let (docs, index) = (temporary.path().join("docs"), temporary.path().join("index"));
    let mut numbers = Numbers(1);
    let mut before = 0;
    for attempt in 0..KILLS {
        let done = parts(&index).len();
        let mut run = start_index(&docs, &index);
        let part = |more: usize| move |index: &Path| parts(index).len() >= done + more;
        let wait: Box<dyn Fn(&Path) -> bool> = match attempt {
            0 => Box::new(|index| index.join("generations").exists()),
            1 => Box::new(|index| index.join("current").exists()),
            2 | 5 => Box::new(writes_part),
            3 | 6 => Box::new(part(1)),
            _ => Box::new(|_| true),
        };
        wait_until(&mut run, || wait(&index));
        sleep(Duration::from_millis(numbers.next() % [1, 40, 300][attempt as usize % 3]));
        kill(run);

        if !index.join("current").exists() {
            let error = cli!("search", &index, "lamp", "--mode", "bm25").refused(1);
            assert!(error.contains("no page index"), "{error}");
            continue;
        }
        let stored = page_keys(&index);
        assert_eq!(inspect(&index)["pages"], stored.len() as u64);
        assert!(stored.len() as u64 >= before, "attempt {attempt}: a commit was lost");
        before = stored.len() as u64;
        let kept = pages_in_parts(&index);
        let unique: BTreeSet<&(String, u32)> = kept.iter().collect();
        assert_eq!(unique.len(), kept.len(), "attempt {attempt}: a page was encoded twice");
        assert!(stored.iter().all(|page| unique.contains(page)), "a page is kept before it is committed");
        cli!("search", &index, "lamp", "--mode", "bm25", "--json").done();
    }
    let kept = pages_in_parts(&index).len() as u64;
    let last = cli!("index", &docs, "--index", &index).done().report();
    assert_eq!((last.encoded, last.problems), (all - kept, 0), "no page that is in a part is encoded again");
    assert_eq!(last.resumed, kept - before, "what no commit includes is taken from the parts");
    assert_eq!(page_keys(&index).len() as u64, all);
    assert_eq!(inspect(&index)["documents"], COPIES * SAMPLE_FILES + 2);
    assert!(!writes_part(&index), "what killed runs left is swept up");
    let again = cli!("index", &docs, "--index", &index).done().report();
    assert_eq!(again, Report { unchanged: COPIES * SAMPLE_FILES + 2, ..Report::default() });
    let hits = cli!("search", &index, "cloudberries", "--mode", "bm25", "--json").done().hits();
    assert_eq!(hits.len() as u64, COPIES);
}

#[test]
fn a_killed_replacement_shows_all_old_pages_or_all_new_ones() {
    let temporary = tempfile::tempdir().unwrap();
    let (docs, index) = (temporary.path().join("docs"), temporary.path().join("index"));
    std::fs::create_dir(&docs).unwrap();
    let file = docs.join("book.tiff");
    // The second edition has fewer pages and the third more than a commit takes.
    let editions = [(40, 1), (20, 2), (300, 3), (30, 4)];
    std::fs::write(&file, tiff(editions[0].0, editions[0].1)).unwrap();
    cli!("index", &docs, "--index", &index, "--model", quick()).done();
    let mut numbers = Numbers(2);
    for (old, new) in editions.iter().zip(&editions[1..]) {
        let old_hash = pages(&index)[0].content_hash.clone();
        std::fs::write(&file, tiff(new.0, new.1)).unwrap();
        for attempt in 0..4 {
            let done = parts(&index).len();
            let mut run = start_index(&docs, &index);
            wait_until(&mut run, || match attempt {
                0 => writes_part(&index),
                // The first part of a long edition is finished, and the next one begun.
                1 => parts(&index).len() > done && writes_part(&index),
                2 => parts(&index).len() > done,
                _ => true,
            });
            sleep(Duration::from_millis(numbers.next() % [10, 10, 3, 200][attempt]));
            kill(run);
            let seen = pages(&index);
            let hashes: BTreeSet<_> = seen.iter().map(|page| page.content_hash.clone()).collect();
            assert_eq!(hashes.len(), 1, "old and new pages are mixed");
            let expected = if seen[0].content_hash == old_hash { old.0 } else { new.0 };
            let numbers: Vec<u32> = seen.iter().map(|page| page.page).collect();
            assert_eq!(numbers, (1..=expected).collect::<Vec<_>>());
        }
        cli!("index", &docs, "--index", &index).done();
        let seen = pages(&index);
        assert!(seen.iter().all(|page| page.content_hash != old_hash));
        assert_eq!(page_keys(&index).len() as u32, new.0);
        assert_eq!(cli!("index", &docs, "--index", &index).done().report().unchanged, 1);
    }
}

/// Indexes with the model that takes no time and without loss: codes of fewer bits depend on what else is in a segment.
fn index(docs: PathBuf, index: PathBuf) -> Ran {
    cli!("index", docs, "--index", index, "--model", tiny(), "--bits", "16")
}

#[test]
fn parts_that_are_not_in_the_index_are_imported() {
    let temporary = copied_samples();
    let path = |name: &str| temporary.path().join(name);
    index(path("docs"), path("one")).done();
    std::fs::create_dir_all(path("two/embeddings")).unwrap();
    std::fs::copy(&parts(&path("one"))[0], path("two/embeddings/00000001.parquet")).unwrap();
    std::fs::write(path("two/embeddings/.00000002.parquet.tmp-1-0"), "half a part").unwrap();
    let run = index(path("docs"), path("two")).done();
    assert_eq!(run.report(), Report { resumed: SAMPLE_PAGES, unchanged: SAMPLE_FILES, ..Report::default() });
    assert_same(&path("two"), &path("one"));
    assert_eq!(super::support::file_names(&path("two/embeddings")), ["00000001.parquet"]);
    let again = index(path("docs"), path("two")).done().report();
    assert_eq!(again, Report { unchanged: SAMPLE_FILES, ..Report::default() });
}

#[test]
fn of_two_contents_in_the_parts_the_later_one_counts() {
    let temporary = copied_samples();
    let path = |name: &str| temporary.path().join(name);
    let changed = path("docs/pantry-recipes.pdf");
    index(path("docs"), path("one")).done();
    std::fs::copy(samples().join("glow-worm-note.pdf"), &changed).unwrap();
    index(path("docs"), path("one")).done();
    assert_eq!(parts(&path("one")).len(), 2);
    std::fs::create_dir_all(path("two/embeddings")).unwrap();
    for (number, part) in (1..).zip(parts(&path("one"))) {
        std::fs::copy(part, path(&format!("two/embeddings/{number:08}.parquet"))).unwrap();
    }
    // Another folder is indexed, so that only the parts say what the changed file holds.
    std::fs::create_dir(path("other")).unwrap();
    std::fs::copy(samples().join("glow-worm-note.pdf"), path("other/glow-worm-note.pdf")).unwrap();
    let report = index(path("other"), path("two")).done().report();
    assert_eq!((report.encoded, report.unchanged), (0, 1));
    assert_same(&path("two"), &path("one"));
}

#[test]
fn an_interrupted_run_ends_with_1_and_the_next_one_goes_on() {
    let (temporary, all) = many_pages();
    let (docs, index) = (temporary.path().join("docs"), temporary.path().join("index"));
    let mut run = start_index(&docs, &index);
    assert!(wait_until(&mut run, || writes_part(&index)));
    let ended = interrupt(run);
    assert_eq!(ended.code, Some(1), "{}", ended.err);
    assert!(ended.err.contains("error: interrupted"), "{}", ended.err);
    let stored = page_keys(&index).len() as u64;
    assert!(stored > 0 && stored < all, "finished pages are committed, and {stored} are not all");
    let next = cli!("index", &docs, "--index", &index).done().report();
    assert_eq!((next.encoded, next.resumed), (all - stored, 0));
    assert_eq!(page_keys(&index).len() as u64, all);
}

#[test]
fn an_interrupted_replacement_is_finished_by_the_next_run() {
    let temporary = tempfile::tempdir().unwrap();
    let (docs, index) = (temporary.path().join("docs"), temporary.path().join("index"));
    std::fs::create_dir(&docs).unwrap();
    std::fs::write(docs.join("book.tiff"), tiff(20, 1)).unwrap();
    cli!("index", &docs, "--index", &index, "--model", quick()).done();
    let old = pages(&index);
    std::fs::write(docs.join("book.tiff"), tiff(400, 2)).unwrap();
    std::fs::write(docs.join("new.tiff"), tiff(3, 3)).unwrap();

    let mut run = start_index(&docs, &index);
    assert!(wait_until(&mut run, || writes_part(&index)));
    assert_eq!(interrupt(run).code, Some(1));
    assert!(pages(&index) == old, "a part of the new content is not shown");
    let kept = pages_in_parts(&index).len() as u64 - 20;
    assert!(kept > 0, "but kept");

    // A run over other files leaves it as it is.
    let report = cli!("index", docs.join("new.tiff"), "--index", &index).done().report();
    assert_eq!((report.encoded, report.resumed), (3, 0));
    assert!(pages(&index).starts_with(&old));
    let report = cli!("index", &docs, "--index", &index).done().report();
    assert_eq!(report.encoded + report.resumed, 400);
    assert_eq!(page_keys(&index).len(), 403);
    assert!(pages(&index).iter().all(|page| page.content_hash != old[0].content_hash));
}

#[test]
fn what_an_interrupted_replacement_finished_is_not_encoded_again() {
    let temporary = tempfile::tempdir().unwrap();
    let (docs, index) = (temporary.path().join("docs"), temporary.path().join("index"));
    std::fs::create_dir(&docs).unwrap();
    std::fs::write(docs.join("book.tiff"), tiff(20, 1)).unwrap();
    cli!("index", &docs, "--index", &index, "--model", quick()).done();
    std::fs::write(docs.join("book.tiff"), tiff(400, 2)).unwrap();
    let mut run = start_index(&docs, &index);
    assert!(wait_until(&mut run, || writes_part(&index)));
    assert_eq!(interrupt(run).code, Some(1));
    let kept = pages_in_parts(&index).len() as u64 - 20;
    let report = cli!("index", &docs, "--index", &index).done().report();
    assert_eq!((report.encoded, report.resumed), (400 - kept, kept));
    assert!(kept > 0);
    assert_eq!(page_keys(&index).len(), 400);
}

/// Ctrl-C.
fn interrupt(run: Child) -> Ran {
    signal(&run, "-INT");
    Ran::from(run.wait_with_output().unwrap())
}
