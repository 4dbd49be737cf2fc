//! Pages of an index that are copies of others: none of them is a wrong answer where another one is a right one.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use colqwen_index_train::data::PageId;

use super::Pages;
use crate::{Error, PageIndex};

/// Letters and digits of a text layer that is compared; pages with less are told apart by their vectors.
const ENOUGH_TEXT: usize = 40;

/// For each live page of an index the first of those that are near-identical to it, itself included. Near-identical are pages
/// with the same letters and digits in the same order, case and everything between them aside, or, where there is hardly any
/// text, with the same vectors.
pub(crate) fn first_copies(index: &PageIndex) -> Result<BTreeMap<PageId, PageId>, Error> {
    let searcher = index.searcher();
    let mut known: HashMap<blake3::Hash, PageId> = HashMap::new();
    let mut first = BTreeMap::new();
    let mut pages: Vec<_> = index.texts(&searcher).collect::<Result<_, _>>()?;
    pages.sort_by(|one, other| (&one.doc_id, one.page).cmp(&(&other.doc_id, other.page)));
    for page in pages {
        let id = PageId::new(page.doc_id, page.page);
        let text: String =
            page.text.iter().flat_map(|text| text.chars()).filter(|letter| letter.is_alphanumeric()).collect();
        let mut hash = blake3::Hasher::new();
        if text.chars().count() >= ENOUGH_TEXT {
            hash.update(text.to_lowercase().as_bytes());
        } else if let Some(vectors) = index.page_vectors(&searcher, page.address)? {
            vectors.vectors.values().iter().for_each(|value| {
                hash.update(&value.to_le_bytes());
            });
        }
        let representative = known.entry(hash.finalize()).or_insert_with(|| id.clone()).clone();
        first.insert(id, representative);
    }
    Ok(first)
}

/// The copies among the pages of a training, each with the number of its kind: those that were found by how pages look, and, if
/// the pages come from an index, those that it holds.
pub(super) fn copies(found: HashMap<PageId, u64>, pages: Pages<'_>) -> Result<HashMap<PageId, u64>, Error> {
    Ok(match pages {
        Pages::Files(_) => found,
        Pages::Index(index) => joined(found, &kinds(&first_copies(index)?)),
    })
}

/// The pages of each kind that has several.
fn kinds(first: &BTreeMap<PageId, PageId>) -> Vec<Vec<&PageId>> {
    let mut kinds: BTreeMap<&PageId, Vec<&PageId>> = BTreeMap::new();
    first.iter().for_each(|(page, first)| kinds.entry(first).or_default().push(page));
    kinds.into_values().filter(|pages| pages.len() > 1).collect()
}

/// What is a copy by either account, or by both in turn.
fn joined(mut numbers: HashMap<PageId, u64>, kinds: &[Vec<&PageId>]) -> HashMap<PageId, u64> {
    let new = numbers.values().max().map_or(0, |most| most + 1);
    for (pages, new) in kinds.iter().zip(new..) {
        let known: BTreeSet<u64> = pages.iter().filter_map(|page| numbers.get(*page)).copied().collect();
        let number = known.first().copied().unwrap_or(new);
        if known.len() > 1 {
            numbers.values_mut().filter(|other| known.contains(*other)).for_each(|other| *other = number);
        }
        numbers.extend(pages.iter().map(|page| ((*page).clone(), number)));
    }
    numbers
}

#[cfg(test)]
mod tests {
    use colqwen_index_field::{MultiVector, PageVectors, UnitLength};
    use colqwen_index_ingest::embeddings::PageRecord;

    use super::*;
    use crate::PageIndexOptions;

    #[test]
    fn pages_of_the_same_text_or_without_text_of_the_same_vectors_are_copies() {
        let folder = tempfile::tempdir().unwrap();
        let mut index = PageIndex::create(folder.path(), &PageIndexOptions::new(2)).unwrap();
        let mut writer = index.writer().unwrap();
        let text = "The boiler is descaled once a month with vinegar and water.";
        let pages = [
            ("b.pdf", text.to_uppercase(), [1.0, 0.0]),
            ("a.pdf", text.to_owned(), [0.0, 1.0]),
            ("c.pdf", text.replace("month", "year"), [0.0, 1.0]),
            ("blank.pdf", String::new(), [0.6, 0.8]),
            ("white.pdf", "7".to_owned(), [0.6, 0.8]),
            ("black.pdf", String::new(), [0.8, 0.6]),
        ];
        for (doc_id, text, vectors) in pages {
            let vectors = MultiVector::try_new(2, vectors.to_vec(), UnitLength::Require).unwrap();
            let mut record = PageRecord::new(doc_id, 1, PageVectors::new(vectors));
            record.text = Some(text);
            writer.upsert(&record).unwrap();
        }
        index.close(writer).unwrap();
        let first = first_copies(&index).unwrap();
        let of = |doc_id: &str| first[&PageId::new(doc_id, 1)].doc_id.clone();
        assert_eq!(["a.pdf", "b.pdf", "c.pdf"].map(of), ["a.pdf", "a.pdf", "c.pdf"]);
        assert_eq!(["black.pdf", "blank.pdf", "white.pdf"].map(of), ["black.pdf", "blank.pdf", "blank.pdf"]);
        let found = copies(HashMap::new(), Pages::Index(&index)).unwrap();
        assert_eq!(found.len(), 4);
        assert_eq!(found[&PageId::new("a.pdf", 1)], found[&PageId::new("b.pdf", 1)]);
        assert_ne!(found[&PageId::new("a.pdf", 1)], found[&PageId::new("blank.pdf", 1)]);
        assert!(copies(HashMap::new(), Pages::Files(&[])).unwrap().is_empty());
    }

    #[test]
    fn copies_by_look_and_by_text_are_put_together() {
        let [a, b, c, d, e, f] = ["a", "b", "c", "d", "e", "f"].map(|name| PageId::new(name, 1));
        let by_look = [(&a, 0), (&b, 0), (&c, 3), (&d, 3)].map(|(page, kind)| (page.clone(), kind));
        let found = joined(HashMap::from(by_look.clone()), &[vec![&b, &c], vec![&e, &f]]);
        assert!([&b, &c, &d].iter().all(|page| found[*page] == found[&a]), "{found:?}");
        assert!(found[&e] == found[&f] && found[&e] != found[&a], "{found:?}");
        assert_eq!(joined(HashMap::from(by_look.clone()), &[]), HashMap::from(by_look));
    }
}
