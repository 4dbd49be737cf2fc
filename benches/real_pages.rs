//! What pruning loses and what codebooks look like on pages of a model, not made-up ones: an index that `colqwen-index index` made is
//! searched for words of its pages.
//!
//! ```text
//! colqwen-index index PDFs --index DIR
//! cargo bench --bench real_pages -- --index DIR
//! ```
//! Each query is 2 to 4 words of one page, each of 4 to 12 letters and on at most 5 % of the pages, encoded by the model that the index
//! records. Every search runs on one thread; the share of hits is against exact search of the same codes.

mod machine;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use colqwen_index::field::{Effort, PageHit, SearchReport};
use colqwen_index::model::Model;
use colqwen_index::tantivy::{DocAddress, Searcher};
use colqwen_index::train::random::{Purpose, Stream};
use colqwen_index::{LateInteractionQuery, PageIndex, QueryVectors};
use colqwen_index_field::codes_bench::Pages;
use colqwen_index_field::{Knobs, Precision};
use cpu_time::ProcessTime;
use machine::Setting;
use rayon::ThreadPoolBuilder;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Hits per query.
const K: usize = 10;
/// A word that is asked for is on no more than this share of the pages.
const RARE: f64 = 0.05;
/// Queries that are encoded at once.
const AT_ONCE: usize = 32;
/// Pages that the cosine to the nearest centroid is measured on, with a codebook of their own.
const SAMPLE: usize = 200;
/// CPU time that searches are repeated for.
const LEAST: Duration = Duration::from_secs(2);

#[derive(Parser)]
struct Args {
    /// A folder that `colqwen-index index` made.
    #[arg(long)]
    index: PathBuf,
    #[arg(long, default_value_t = 300)]
    queries: usize,
    #[arg(long, value_delimiter = ',', default_values = ["low", "default", "high", "exact"])]
    efforts: Vec<Effort>,
    #[arg(long, default_value_t = 5)]
    seed: u64,
    /// As `Knobs` has it.
    #[arg(long)]
    probes: Option<f32>,
    /// As `Knobs` has it.
    #[arg(long)]
    reach: Option<f32>,
    /// What `cargo bench` adds.
    #[arg(long, hide = true)]
    bench: bool,
}

fn words_of(text: &str) -> BTreeSet<String> {
    let words = text.split(|letter: char| !letter.is_ascii_alphabetic()).map(str::to_ascii_lowercase);
    words.filter(|word| (4..=12).contains(&word.len())).collect()
}

/// Texts of queries about the pages of the index.
fn questions(index: &PageIndex, searcher: &Searcher, args: &Args) -> Result<Vec<String>, Failure> {
    let mut pages: Vec<Vec<String>> = Vec::new();
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for page in index.texts(searcher) {
        let words = words_of(&page?.text.unwrap_or_default());
        words.iter().for_each(|word| *counts.entry(word.clone()).or_default() += 1);
        pages.push(words.into_iter().collect());
    }
    let most = (RARE * pages.len() as f64) as usize;
    pages.iter_mut().for_each(|words| words.retain(|word| counts[word] <= most));
    pages.retain(|words| words.len() >= 4);
    if pages.is_empty() {
        return Err("no page has four rare words in its text layer".into());
    }
    let mut random = Stream::new(args.seed, Purpose::Choice, &[]);
    let question = |_| {
        let words = &pages[random.below(pages.len())];
        let mut chosen = BTreeSet::new();
        let count = 2 + random.below(3);
        while chosen.len() < count {
            chosen.insert(words[random.below(words.len())].as_str());
        }
        chosen.into_iter().collect::<Vec<_>>().join(" ")
    };
    Ok((0..args.queries).map(question).collect())
}

/// The mean CPU time of a query in milliseconds, and what was found.
fn measure(queries: &[LateInteractionQuery], searcher: &Searcher) -> Result<(f64, Vec<SearchReport>), Failure> {
    let round = || queries.iter().map(|query| query.report(searcher)).collect::<Result<Vec<_>, _>>();
    let found = round()?;
    let (start, mut rounds) = (ProcessTime::now(), 0);
    while rounds == 0 || start.elapsed() < LEAST {
        round()?;
        rounds += 1;
    }
    Ok((start.elapsed().as_secs_f64() * 1e3 / (rounds * queries.len()) as f64, found))
}

/// Mean cosine of tokens to their nearest centroid, with a codebook of some pages.
fn cosine(index: &PageIndex, searcher: &Searcher) -> Result<Option<f64>, Failure> {
    let addresses: Vec<DocAddress> =
        index.texts(searcher).map(|page| Ok(page?.address)).collect::<Result<_, colqwen_index::Error>>()?;
    let step = addresses.len().div_ceil(SAMPLE).max(1);
    let mut vectors = Vec::new();
    for address in addresses.into_iter().step_by(step) {
        vectors.extend(index.page_vectors(searcher, address)?.map(|page| page.vectors.values().to_vec()));
    }
    let count = vectors.len();
    let pages = Pages::new(vectors, index.dim(), Precision::Bits8);
    Ok(pages.map(|pages| (0..count).map(|page| f64::from(pages.cosine(page))).sum::<f64>() / count as f64))
}

fn main() -> Result<(), Failure> {
    let args = Args::parse();
    println!("{}", Setting::now());
    let index = PageIndex::open(&args.index)?;
    let searcher = index.searcher();
    let recorded = index.model().ok_or("the index records no model")?;
    let model = Model::load(&recorded.name, "cpu")?;
    let texts = questions(&index, &searcher, &args)?;
    let mut vectors: Vec<QueryVectors> = Vec::new();
    for texts in texts.chunks(AT_ONCE) {
        vectors.extend(model.encoder.encode_queries(&texts.iter().map(String::as_str).collect::<Vec<_>>())?);
    }
    let fields: Vec<_> =
        index.late_interaction().segments(&searcher)?.into_iter().flat_map(|segment| segment.fields).collect();
    let sum = |of: fn(&colqwen_index::field::FieldSummary) -> u64| fields.iter().map(of).sum::<u64>() as f64;
    let (pages, tokens) = (sum(|field| field.pages), sum(|field| field.tokens));
    let books: Vec<_> = fields.iter().flat_map(|field| &field.codebooks).collect();
    let described: u64 = books.iter().map(|book| book.pages).sum();
    let distinct: u64 = books.iter().map(|book| book.page_centroids).sum();
    let sizes: BTreeSet<u64> = books.iter().map(|book| book.centroids).collect();
    println!(
        "{pages} pages x {:.0} tokens; codebooks of {sizes:?} centroids, {:.0} distinct ones a page; cosine of a token to the nearest {:.3}\n",
        tokens / pages,
        distinct as f64 / described.max(1) as f64,
        cosine(&index, &searcher)?.unwrap_or(f64::NAN),
    );
    let mut knobs = Knobs::default();
    knobs.probes = args.probes.unwrap_or(knobs.probes);
    knobs.reach = args.reach.unwrap_or(knobs.reach);
    let query = |effort: Effort, vectors: &QueryVectors| {
        index.late_interaction().query(index.fields().tokens, vectors.clone()).k(K).effort(effort).knobs(knobs)
    };
    let of = |effort: Effort| vectors.iter().map(|vectors| query(effort, vectors)).collect::<Vec<_>>();
    let alone = ThreadPoolBuilder::new().num_threads(1).build()?;
    let (_, exact) = alone.install(|| measure(&of(Effort::Exact), &searcher))?;
    println!("| effort | ms | share of exact's hits | expected_recall | by centroids | by coarse codes | in full |");
    println!("|---|---|---|---|---|---|---|");
    for effort in &args.efforts {
        let (ms, found) = alone.install(|| measure(&of(*effort), &searcher))?;
        let share = |(found, exact): (&SearchReport, &SearchReport)| {
            let has = |hit: &&PageHit| found.hits.iter().any(|own| own.address == hit.address);
            exact.hits.iter().filter(has).count() as f64 / exact.hits.len().max(1) as f64
        };
        let mean = |of: &dyn Fn(&SearchReport) -> f64| found.iter().map(of).sum::<f64>() / found.len() as f64;
        println!(
            "| {effort:?} | {ms:.2} | {:.3} | {:.3} | {:.0} | {:.0} | {:.0} |",
            found.iter().zip(&exact).map(share).sum::<f64>() / found.len() as f64,
            mean(&|report| f64::from(report.expected_recall)),
            mean(&|report| report.work.centroid_pages as f64),
            mean(&|report| report.work.coarse_pages as f64),
            mean(&|report| report.work.full_pages as f64),
        );
    }
    Ok(())
}
