//! A model of two parts: pages by one, queries by one that was trained for them.

use std::path::{Path, PathBuf};

use colqwen_index::field::QueryVectors;
use colqwen_index::ingest::colqwen2::{ColQwen2, LoadOptions};
use colqwen_index::ingest::encoder::Encoder;
use colqwen_index::ingest::two_parts::TwoParts;
use colqwen_index::model::Model;
use colqwen_index::page_index::KeepGenerations;
use colqwen_index::train::encode::Encode;
use colqwen_index::train::network::{Lora, Network, NetworkOptions, Trained};
use colqwen_index::{Origin, PageIndex};

use super::reencoding::other_model;
use super::support::{cli, copied_samples, pages};

/// A low-rank update of the builtin model that changes what it makes of queries, as peft saves it.
fn query_adapter(folder: &Path) -> PathBuf {
    let (dir, model) = (folder.join("adapter"), ColQwen2::builtin().unwrap());
    let lora = Lora { rank: 2, alpha: 2.0, dropout: 0.0, ..Lora::default() };
    let network = Network::new(&model, Trained::Lora(lora), NetworkOptions::default()).unwrap();
    for parameter in network.parameters() {
        parameter.var.set(&(parameter.var.as_tensor() + 0.02).unwrap().detach()).unwrap();
    }
    network.save_adapter(&model, "nowhere", &dir).unwrap();
    dir
}

fn encode(encoder: &dyn Encoder) -> QueryVectors {
    encoder.encode_queries(&["solar power"]).unwrap().pop().unwrap()
}

#[test]
fn pages_are_of_the_one_part_and_queries_of_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let base = ColQwen2::builtin().unwrap();
    for (name, query) in [("of-adapter", query_adapter(folder.path())), ("of-checkpoint", other_model(folder.path()))] {
        let dir = folder.path().join(name);
        TwoParts::write(&base, &query, &dir).unwrap();
        assert!(TwoParts::is_folder(&dir) && !TwoParts::is_folder(&query));
        let model = Model::load(dir.to_str().unwrap(), "cpu").unwrap();
        let encoder = &*model.encoder;
        assert_eq!(encoder.page_fingerprint(), base.page_fingerprint());
        assert_eq!(encoder.serves_pages_of(), base.page_fingerprint());
        assert_ne!(encoder.query_fingerprint(), base.query_fingerprint());
        let vectors = encode(encoder);
        assert_eq!(vectors.origin, Origin::Model(base.page_fingerprint()));
        let (one, other) = (vectors.vectors.values().to_vec(), encode(&base).vectors.values().to_vec());
        assert_eq!(one.len(), other.len(), "queries are put together in the same way");
        assert!(one.iter().zip(&other).any(|(one, other)| (one - other).abs() > 0.01));
        let (page, query) = (dir.join("page"), dir.join("query"));
        let load = |dir: &Path| ColQwen2::load(dir, &LoadOptions::default());
        assert_eq!(load(&page).unwrap().page_fingerprint(), base.page_fingerprint());
        assert_eq!(encode(&load(&query).unwrap()).vectors.values(), one);
        assert!(TwoParts::write(&base, &query, &dir).unwrap_err().to_string().contains("exists"));
    }
}

#[test]
fn errors_name_the_part() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("model");
    TwoParts::write(&ColQwen2::builtin().unwrap(), &query_adapter(folder.path()), &dir).unwrap();
    let load = || Model::load(dir.to_str().unwrap(), "cpu").err().unwrap().to_string();
    let settings = dir.join("query/colqwen_index.json");
    let right = std::fs::read_to_string(&settings).unwrap();
    std::fs::write(&settings, "{}").unwrap();
    let refused = load();
    assert!(refused.contains("part query/") && refused.contains("serves_pages_of"), "{refused}");
    std::fs::write(&settings, right).unwrap();
    std::fs::rename(dir.join("page/config.json"), dir.join("page/other.json")).unwrap();
    let refused = load();
    assert!(refused.contains("part page/") && refused.contains("config.json"), "{refused}");
    std::fs::rename(dir.join("page/other.json"), dir.join("page/config.json")).unwrap();
    std::fs::rename(dir.join("query"), dir.join("elsewhere")).unwrap();
    assert!(load().contains("part query/"));
    std::fs::rename(dir.join("elsewhere"), dir.join("query")).unwrap();
    let refused = cli!("train", "--data", "x", "--pages", "y", "--model", &dir, "--out", folder.path().join("out"));
    assert_ne!(refused.code, Some(0));
}

#[test]
fn an_index_takes_a_model_of_two_parts_for_its_pages() {
    let temporary = copied_samples();
    let path = |name: &str| temporary.path().join(name);
    let (docs, index, dir) = (path("docs"), path("index"), path("model"));
    cli!("index", &docs, "--index", &index, "--model", "builtin").done();
    let stored = pages(&index);
    TwoParts::write(&ColQwen2::builtin().unwrap(), &query_adapter(temporary.path()), &dir).unwrap();
    let search = |model: Option<&Path>| {
        let mut arguments =
            vec!["search".into(), index.clone().into_os_string(), "solar power".into(), "--json".into()];
        arguments.extend(model.into_iter().flat_map(|model| ["--model".into(), model.as_os_str().to_owned()]));
        let run = std::process::Command::new(super::support::PROGRAM).args(arguments).output().unwrap();
        super::support::Ran::from(run).done().out
    };
    let (of_page, of_query) = (search(None), search(Some(&dir)));
    assert_ne!(of_page, of_query);

    let model = Model::load(dir.to_str().unwrap(), "cpu").unwrap();
    let mut open = PageIndex::open(&index).unwrap();
    open.publish_model(model.recorded(), KeepGenerations::default()).unwrap();
    drop(open);
    assert!(pages(&index) == stored, "no vector of the index changes");
    assert_eq!(search(None), of_query, "queries are encoded by the published model");
    let report = cli!("index", &docs, "--index", &index).done().report();
    assert_eq!((report.encoded, report.unchanged), (0, 5), "its pages are the same");
    cli!("rollback", &index).done();
    assert_eq!(search(None), of_page);
}
