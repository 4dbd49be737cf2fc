//! A library of pages full of words, and a ranking that is half right.

use std::collections::HashMap;

use colqwen_index_train::data::PageId;
use colqwen_index_train::random::{Purpose, Stream};

/// What holding all words is worth against the standard deviation of chance: the best ten of 500 pages by chance alone begin
/// at about 2.1, so that answers and other pages are mixed.
const WORTH: f64 = 2.3;

/// Pages by the words they hold.
pub struct Library {
    pages: Vec<(PageId, Vec<usize>)>,
    /// Queries of one or two words, each of which at least one page answers.
    pub queries: Vec<String>,
    /// The first pages for each query.
    first: HashMap<String, Vec<PageId>>,
}

impl Library {
    pub fn new(pages: usize, words: usize, queries: usize, seed: u64) -> Self {
        let mut stream = Stream::new(seed, Purpose::Weights, &[]);
        let page = |at: usize, stream: &mut Stream| {
            let held = (0..30).map(|_| stream.below(words)).collect();
            (PageId::new(format!("{}.pdf", at / 20), (at % 20) as u32 + 1), held)
        };
        let pages: Vec<(PageId, Vec<usize>)> = (0..pages).map(|at| page(at, &mut stream)).collect();
        let mut asked = std::collections::BTreeSet::new();
        let mut found = Vec::new();
        while found.len() < queries {
            let held = &pages[stream.below(pages.len())].1;
            let count = 1 + stream.below(2);
            let words: Vec<usize> = (0..count).map(|_| held[stream.below(held.len())]).collect();
            let query = words.iter().map(|word| format!("w{word}")).collect::<Vec<_>>().join(" ");
            if asked.insert(query.clone()) {
                found.push(query);
            }
        }
        let mut library = Self { pages, queries: found, first: HashMap::new() };
        library.first = library.queries.iter().map(|query| (query.clone(), library.rank(query))).collect();
        library
    }

    /// Whether a page holds all words of a query.
    pub fn is_relevant(&self, query: &str, page: &PageId) -> bool {
        let place = self.pages.binary_search_by_key(&number(page), |(page, _)| number(page));
        place.is_ok_and(|place| holds(&self.pages[place].1, query))
    }

    /// The first thirty pages for one of its queries, best first.
    pub fn first(&self, query: &str) -> Vec<PageId> {
        self.first[query].clone()
    }

    /// By words held, and by chance, which outweighs them now and then.
    fn rank(&self, query: &str) -> Vec<PageId> {
        let key = query.bytes().fold(7u64, |key, byte| key.wrapping_mul(31).wrapping_add(u64::from(byte)));
        let mut stream = Stream::new(key, Purpose::Order, &[]);
        let score = |(page, held): &(PageId, Vec<usize>)| {
            (WORTH * f64::from(u8::from(holds(held, query))) + stream.normal(), page.clone())
        };
        let mut scored: Vec<(f64, PageId)> = self.pages.iter().map(score).collect();
        scored.sort_by(|one, other| other.0.total_cmp(&one.0));
        scored.into_iter().map(|(_, page)| page).take(30).collect()
    }
}

fn number(page: &PageId) -> u32 {
    page.doc_id.trim_end_matches(".pdf").parse::<u32>().map_or(u32::MAX, |document| document * 100 + page.page)
}

fn holds(held: &[usize], query: &str) -> bool {
    query.split(' ').all(|word| word[1..].parse().is_ok_and(|word| held.contains(&word)))
}
