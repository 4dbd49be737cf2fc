use colqwen_index_field::Fingerprint;
use colqwen_index_ingest::colqwen2::HiddenStates;
use half::f16;

use super::*;
use crate::trainer::Source;

const BACKBONE: Fingerprint = Fingerprint::from_bytes([7; 32]);

fn states(width: usize, tokens: usize, seed: usize) -> HiddenStates {
    let value = |at: usize| f16::from_f32(((at * 31 + seed * 7) % 100) as f32 / 10.0 - 5.0);
    HiddenStates::new(width, (0..width * tokens).map(value).collect()).unwrap()
}

#[test]
fn pages_come_back_as_they_went_in_whatever_the_memory() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pages.parquet");
    let mut writer = HiddenWriter::create(&path, Kind::Pages, 1024, BACKBONE).unwrap();
    // 24 pages of 300 to 346 tokens are more than one row group.
    let page = |at: usize| Key::Page(PageId::new(format!("{}.pdf", at % 3), at as u32 + 1));
    let tokens = |at: usize| 300 + 2 * at;
    for at in 0..24 {
        let hash = [at as u8; 4];
        writer.write(&page(at), (at > 0).then_some(hash.as_slice()), states(1024, tokens(at), at)).unwrap();
    }
    let error = writer.write(&page(3), None, states(1024, 1, 0)).unwrap_err().to_string();
    assert!(error.contains("again"), "{error}");
    assert!(writer.write(&Key::Query("a".into()), None, states(1024, 1, 0)).is_err());
    assert!(writer.write(&page(30), None, states(8, 1, 0)).unwrap_err().to_string().contains("8, not 1024"));
    assert_eq!(writer.finish().unwrap(), 24);

    for memory in [0, 9 << 20, usize::MAX] {
        let cache = HiddenCache::open(&path, memory).unwrap();
        assert_eq!((cache.len(), cache.width(), cache.kind(), cache.backbone()), (24, 1024, Kind::Pages, BACKBONE));
        for at in (0..24).rev().chain(0..24) {
            assert_eq!(*cache.get(&page(at)).unwrap().unwrap(), states(1024, tokens(at), at));
        }
        assert_eq!(cache.content_hash(&page(5)), Some([5; 4].as_slice()));
        assert_eq!(cache.content_hash(&page(0)), None);
        assert!(cache.get(&page(99)).unwrap().is_none() && !cache.has(&page(99)) && cache.has(&page(0)));
    }
}

#[test]
fn a_source_joins_caches_of_one_backbone_and_knows_copies() {
    let folder = tempfile::tempdir().unwrap();
    let [pages, queries] = ["pages", "queries"].map(|name| folder.path().join(name));
    let page = |number: u32| PageId::new("a.pdf", number);
    let mut writer = HiddenWriter::create(&pages, Kind::Pages, 4, BACKBONE).unwrap();
    for (number, seed) in [(1, 5), (2, 6), (3, 5)] {
        writer.write(&Key::Page(page(number)), None, states(4, 3, seed)).unwrap();
    }
    writer.finish().unwrap();
    let mut writer = HiddenWriter::create(&queries, Kind::Queries, 4, BACKBONE).unwrap();
    writer.write(&Key::Query("one".into()), None, states(4, 2, 1)).unwrap();
    writer.finish().unwrap();

    let open = |path: &std::path::Path| HiddenCache::open(path, 0).unwrap();
    let source = HiddenSource::new(open(&queries), open(&pages), BACKBONE).unwrap();
    let copies = source.copies().unwrap();
    assert_eq!(copies.len(), 2);
    assert_eq!(copies[&page(1)], copies[&page(3)]);
    assert_eq!(*source.page(&page(2)).unwrap(), states(4, 3, 6));
    assert_eq!(source.query("one").unwrap().tokens(), 2);
    let error = source.page(&page(9)).unwrap_err().to_string();
    assert!(error.contains("\"a.pdf\" page 9") && error.contains("pages"), "{error}");
    assert!(HiddenSource::new(open(&pages), open(&queries), BACKBONE).is_err());
    let other = Fingerprint::from_bytes([8; 32]);
    assert!(HiddenSource::new(open(&queries), open(&pages), other).unwrap_err().to_string().contains("07070707"));
}

#[test]
fn queries_are_found_by_their_text_and_other_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queries.parquet");
    let mut writer = HiddenWriter::create(&path, Kind::Queries, 4, BACKBONE).unwrap();
    let query = |text: &str| Key::Query(text.to_owned());
    writer.write(&query("two"), None, states(4, 2, 1)).unwrap();
    writer.write(&query("one"), None, states(4, 3, 2)).unwrap();
    assert!(!path.exists());
    writer.finish().unwrap();
    let cache = HiddenCache::open(&path, 0).unwrap();
    assert_eq!(cache.keys_as_stored(), [&query("two"), &query("one")]);
    assert_eq!(cache.get(&query("one")).unwrap().unwrap().tokens(), 3);

    let refusal = || HiddenCache::open(&path, 0).unwrap_err().to_string();
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    assert!(refusal().contains("queries.parquet"));
    crate::data::write(&path, &crate::data::TrainingData::default()).unwrap();
    assert!(refusal().contains("hidden_version"), "{}", refusal());
}
