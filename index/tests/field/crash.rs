//! The process is aborted at every step of commits, deletes and a merge; the index reopens at the last commit.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use colqwen_index_field::LateInteraction;
use tantivy::directory::MmapDirectory;
use tantivy::index::IndexSettings;

use crate::oracle::{Page, Pair, schema};
use crate::ranged::RangedDirectory;

const FOLDER: &str = "LATE_CRASH_FOLDER";
const STEP: &str = "LATE_CRASH_STEP";

/// Three commits and a merge; calls back after each with the state that a crash from here on must show.
fn live(pair: &mut Pair, mut done: impl FnMut(&Pair)) {
    done(pair);
    pair.add(0..12);
    pair.commit();
    done(pair);
    pair.add(12..20);
    pair.delete([3, 4]);
    pair.commit();
    done(pair);
    pair.upsert([5, 6]);
    pair.commit();
    done(pair);
    pair.merge();
    pair.writer().garbage_collect_files().wait().unwrap();
    done(pair);
}

/// Runs only as a child process of the test below.
#[test]
fn child() {
    let (Ok(folder), Ok(step)) = (std::env::var(FOLDER), std::env::var(STEP)) else { return };
    let folder = Path::new(&folder);
    let directory = RangedDirectory::aborting_at(folder, step.parse().unwrap());
    let mut pair = Pair::create(directory, IndexSettings::default());
    let mut commits = 0;
    live(&mut pair, |_| {
        commits += 1;
        std::fs::write(folder.join("commits"), commits.to_string()).unwrap();
    });
}

#[test]
fn an_abort_at_any_step_leaves_the_last_commit() {
    let mut states: Vec<BTreeMap<u64, Page>> = Vec::new();
    let mut pair = Pair::create(tantivy::directory::RamDirectory::create(), IndexSettings::default());
    live(&mut pair, |pair| states.push(pair.committed.clone()));

    let (mut step, mut crashes) = (1u64, 0);
    loop {
        let folder = tempfile::tempdir().unwrap();
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["crash::child", "--exact", "--nocapture"])
            .env(FOLDER, folder.path())
            .env(STEP, step.to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        if child.success() {
            break;
        }
        crashes += 1;
        check(folder.path(), &states, step);
        // Every step at first, then with growing gaps, to bound the time of the test.
        step += 1 + step / 40;
    }
    assert!(crashes > 30, "only {crashes} steps were tried");
}

fn check(folder: &Path, states: &[BTreeMap<u64, Page>], step: u64) {
    let finished = std::fs::read_to_string(folder.join("commits")).map_or(0, |text| text.parse().unwrap());
    let handle = LateInteraction::new();
    let index = match handle.open(MmapDirectory::open(folder).unwrap()) {
        Ok(index) => index,
        // Before the first state was reached there may be no index yet.
        Err(_) if finished == 0 => return,
        Err(error) => panic!("step {step}: {error}"),
    };
    let searcher = handle.reader(&index).unwrap().searcher();
    handle.verify(&searcher).unwrap();
    let fields = schema().1;
    // The commit that was under way may have reached the disk.
    let possible = &states[finished.max(1) - 1..(finished + 1).min(states.len())];
    let matches = |state: &BTreeMap<u64, Page>| {
        let mut found = BTreeMap::new();
        for (segment, reader) in (0..).zip(searcher.segment_readers()) {
            for doc in reader.doc_ids_alive() {
                let address = tantivy::DocAddress::new(segment, doc);
                let page = handle.page(&searcher, fields.tokens, address).unwrap();
                found.insert(crate::oracle::id_of(&searcher, fields, address), page.map(|page| page.vectors));
            }
        }
        found.len() == state.len()
            && found.iter().zip(state).all(|((id, vectors), (expected_id, expected))| {
                let close = match (vectors, &expected.tokens) {
                    (Some(found), Some(expected)) => {
                        found.values().len() == expected.values().len()
                            && found.values().iter().zip(expected.values()).all(|(a, b)| (a - b).abs() < 1e-3)
                    }
                    (None, None) => true,
                    _ => false,
                };
                id == expected_id && close
            })
    };
    assert!(possible.iter().any(matches), "step {step}: neither the last commit nor the one under way");
    // And it can be written to again.
    drop(index.writer_with_num_threads::<tantivy::TantivyDocument>(1, 15_000_000).unwrap());
}
