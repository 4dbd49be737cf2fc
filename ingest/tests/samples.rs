//! The project's sample PDFs: their text, word for word, and their pictures.

#![cfg(feature = "encode")]

use std::path::PathBuf;

use colqwen_index_ingest::page::{Document, PixelBudget};

const SAMPLES: [(&str, &str); 5] = [
    ("espresso-machine-manual.pdf", include_str!("data/text/espresso-machine-manual.txt")),
    ("glow-worm-note.pdf", include_str!("data/text/glow-worm-note.txt")),
    ("pantry-recipes.pdf", include_str!("data/text/pantry-recipes.txt")),
    ("solar-plant-report.pdf", include_str!("data/text/solar-plant-report.txt")),
    ("tarn-ridge-walk.pdf", include_str!("data/text/tarn-ridge-walk.txt")),
];

fn sample(name: &str) -> Document {
    Document::open(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples/data").join(name)).unwrap()
}

#[test]
fn text_is_read_word_for_word() {
    for (name, expected) in SAMPLES {
        let document = sample(name);
        let mut text = String::new();
        for page in document.reader().pages(PixelBudget::default()) {
            let page = page.unwrap();
            assert!(page.warnings.is_empty(), "{name}: {:?}", page.warnings);
            text.push_str(&format!("--- page {}\n{}\n", page.number, page.text.unwrap().text()));
        }
        assert_eq!(text, expected, "{name}");
    }
}

#[test]
fn two_columns_are_read_one_after_the_other() {
    let layer = sample("glow-worm-note.pdf").page(1, &PixelBudget::default()).unwrap().text.unwrap();
    let place = |word: &str| {
        let index = layer.words.iter().position(|w| w.text == word).unwrap_or_else(|| panic!("no {word}"));
        (index, layer.words[index].bbox)
    };
    let (introduction, left) = place("Introduction");
    let (results, below) = place("Results");
    let (acknowledgements, right) = place("Acknowledgements");
    assert!(introduction < results && results < acknowledgements);
    assert!(left.x1 < 0.5 && below.x1 < 0.5 && right.x0 > 0.5);
    assert!(below.y0 > right.y0, "the left column is read to its end first");
    let broken: Vec<&str> =
        layer.words.iter().filter(|word| word.continuation.is_some()).map(|word| word.text.as_str()).collect();
    assert_eq!(broken, ["animals", "percent", "experiment", "unmown"]);
}

#[test]
fn every_word_stands_on_ink() {
    for (name, _) in SAMPLES {
        let document = sample(name);
        for page in document.reader().pages(PixelBudget::default()) {
            let page = page.unwrap();
            let (width, height) = page.image.dimensions();
            for word in page.text.unwrap().words {
                let at = |fraction: f32, size: u32| ((fraction * size as f32) as u32).min(size - 1);
                let (x0, x1) = (at(word.bbox.x0, width), at(word.bbox.x1, width));
                let (y0, y1) = (at(word.bbox.y0, height), at(word.bbox.y1, height));
                let paper = page.image.get_pixel(x0, y0);
                let ink = (y0..=y1).any(|y| (x0..=x1).any(|x| page.image.get_pixel(x, y) != paper));
                assert!(ink, "{name} page {}: nothing is drawn at {word:?}", page.number);
            }
        }
    }
}
