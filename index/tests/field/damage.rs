//! Damaged and unknown segment files are refused by name; nothing panics.

use std::path::{Path, PathBuf};

use colqwen_index_field::{EXTENSION, LateInteraction, LateInteractionOptions, PageVectors, Precision};
use tantivy::directory::MmapDirectory;
use tantivy::index::IndexSettings;
use tantivy::merge_policy::NoMergePolicy;
use tantivy::schema::Schema;
use tantivy::{Index, IndexWriter, TantivyDocument};

use crate::oracle::{Pair, Random};

/// The vector files of a folder, the smallest first.
fn vector_files(folder: &Path) -> Vec<PathBuf> {
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = paths.filter(|path| path.extension().is_some_and(|ending| ending == EXTENSION)).collect();
    files.sort_by_key(|path| path.metadata().unwrap().len());
    files
}

/// The id of the segment that a vector file is of.
fn segment_of(file: &Path) -> &str {
    file.file_stem().unwrap().to_str().unwrap()
}

/// A committed index in a folder, and the path of its only vector file.
fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let mut pair = Pair::create(MmapDirectory::open(folder.path()).unwrap(), IndexSettings::default());
    pair.add(0..12);
    pair.commit();
    pair.merge();
    pair.writer().garbage_collect_files().wait().unwrap();
    drop(pair);
    let file = vector_files(folder.path()).remove(0);
    (folder, file)
}

fn open_error(folder: &Path) -> Option<String> {
    LateInteraction::new().open(MmapDirectory::open(folder).unwrap()).err().map(|error| error.to_string())
}

#[test]
fn an_unknown_version_is_refused_with_both_versions() {
    let (folder, file) = folder();
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[8] = 99;
    std::fs::write(&file, bytes).unwrap();
    let error = open_error(folder.path()).unwrap();
    assert!(error.contains("version 99") && error.contains("version 1"), "{error}");
}

#[test]
fn damage_to_head_table_and_tail_is_found_at_opening() {
    let (folder, file) = folder();
    let intact = std::fs::read(&file).unwrap();
    // Tantivy's own footer stands behind our tail; its length is the u32 before the last one.
    let segment = segment_of(&file);
    for at in [0, 5] {
        let mut bytes = intact.clone();
        bytes[at] ^= 0xFF;
        std::fs::write(&file, &bytes).unwrap();
        let error = open_error(folder.path()).unwrap();
        assert!(error.contains(segment), "{error}");
    }
    let magic = intact.windows(8).rposition(|window| window == b"CQWLATE\0").unwrap();
    for back in 1..200 {
        let mut bytes = intact.clone();
        bytes[magic + 8 - back] ^= 0x55;
        std::fs::write(&file, &bytes).unwrap();
        // Only the pages' own checksum may differ unnoticed here; `verify` compares it.
        let handle = LateInteraction::new();
        match handle.open(MmapDirectory::open(folder.path()).unwrap()) {
            Err(error) => assert!(error.to_string().contains(segment), "{error}"),
            Ok(index) => assert!(handle.verify(&handle.reader(&index).unwrap().searcher()).is_err(), "byte -{back}"),
        }
    }
}

#[test]
fn damage_to_the_vectors_is_found_by_verify() {
    let (folder, file) = folder();
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[100] ^= 0xFF;
    std::fs::write(&file, &bytes).unwrap();
    let handle = LateInteraction::new();
    let index = handle.open(MmapDirectory::open(folder.path()).unwrap()).unwrap();
    let error = handle.verify(&handle.reader(&index).unwrap().searcher()).unwrap_err().to_string();
    assert!(error.contains("damaged"), "{error}");
}

const TOKENS: usize = 64;

fn writer(index: &Index) -> IndexWriter {
    let writer: IndexWriter = index.writer_with_num_threads(1, 40_000_000).unwrap();
    writer.set_merge_policy(Box::new(NoMergePolicy));
    writer
}

/// An index with a segment for each count of pages, each in 8 bits without a codebook, and f16 beside.
fn direct_codes(dim: usize, segments: &[usize]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut schema = Schema::builder();
    let options = LateInteractionOptions::new(dim).with_precision(Precision::Bits8).with_f16_kept(true);
    let field = options.add_to(&mut schema, "tokens");
    let handle = LateInteraction::new();
    let directory = MmapDirectory::open(folder.path()).unwrap();
    let index = handle.create(directory, schema.build(), IndexSettings::default()).unwrap();
    let (mut writer, mut random) = (writer(&index), Random::new(2));
    for pages in segments {
        for _ in 0..*pages {
            let mut document = TantivyDocument::new();
            handle.add(&mut document, field, &PageVectors::new(random.vectors(dim, TOKENS))).unwrap();
            writer.add_document(document).unwrap();
        }
        writer.commit().unwrap();
    }
    folder
}

#[test]
fn a_damaged_value_ends_the_merge_and_not_the_index() {
    let (dim, pages) = (4, 150);
    let folder = direct_codes(dim, &[pages, pages]);
    let file = vector_files(folder.path()).remove(0);
    let mut bytes = std::fs::read(&file).unwrap();
    // Behind head, scales and levels stand the first page's f16 values; the sixth becomes infinite.
    let at = 16 + TOKENS * (2 + dim) + 2 * 5;
    bytes[at..at + 2].copy_from_slice(&[0x00, 0x7C]);
    std::fs::write(&file, bytes).unwrap();
    let handle = LateInteraction::new();
    let index = handle.open(MmapDirectory::open(folder.path()).unwrap()).unwrap();
    let mut writer = writer(&index);
    let error = writer.merge(&index.searchable_segment_ids().unwrap()).wait().unwrap_err().to_string();
    assert!(error.contains(segment_of(&file)), "{error}");
    assert!(error.contains("document 0, token 1 has inf at position 1, expected a finite value"), "{error}");
    drop((writer, index));
    let handle = LateInteraction::new();
    let index = handle.open(MmapDirectory::open(folder.path()).unwrap()).unwrap();
    assert_eq!(handle.reader(&index).unwrap().searcher().num_docs(), 2 * pages as u64);
}

#[test]
fn the_file_of_another_segment_is_refused() {
    let folder = direct_codes(4, &[2, 5]);
    let files = vector_files(folder.path());
    let (small, large) = (std::fs::read(&files[0]).unwrap(), std::fs::read(&files[1]).unwrap());
    std::fs::write(&files[0], large).unwrap();
    std::fs::write(&files[1], small).unwrap();
    let error = open_error(folder.path()).unwrap();
    assert!(error.contains(segment_of(&files[0])), "{error}");
    assert!(error.contains("\"tokens\": expected vectors of documents below 2, received those of 4"), "{error}");
}

#[test]
fn the_file_of_another_index_is_refused() {
    let folder = direct_codes(4, &[2]);
    let file = vector_files(folder.path()).remove(0);
    let wider = direct_codes(8, &[2]);
    std::fs::copy(vector_files(wider.path()).remove(0), &file).unwrap();
    let error = open_error(folder.path()).unwrap();
    assert!(
        error.contains(segment_of(&file)) && error.contains("expects (dim, precision, f16 kept) (4, Bits8, true)"),
        "{error}"
    );
    let (_other, other) = self::folder();
    std::fs::copy(other, &file).unwrap();
    let error = open_error(folder.path()).unwrap();
    assert!(error.contains("\"tokens\" that the schema does not have"), "{error}");
}
