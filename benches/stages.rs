//! Each stage of a build and of a search by itself: CPU time per call on one thread, with confidence intervals and a
//! comparison with the run before (criterion).
//!
//! ```text
//! cargo bench --no-default-features --bench stages [-- WORDS THAT A NAME MUST CONTAIN]
//! ```
//! Kernels are measured on 700 made-up tokens and 20 query tokens; all else on 1,024 documents x 230 tokens. How near the
//! kernels come to the machine's peak is told by `kernels`.

mod collection;
mod engine;
mod machine;

use std::hint::black_box;
use std::time::Duration;

use collection::{Collection, Shape};
use colqwen_index::field::{Effort, Precision};
use colqwen_index_field::codes_bench::Pages;
use colqwen_index_field::kernel_bench::{Case, Kernel, decoders, machines};
use cpu_time::ProcessTime;
use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{Criterion, SamplingMode, Throughput};
use engine::{Engine, Failure, Only};
use machine::Setting;

const DIM: usize = 128;
const PAGE_TOKENS: usize = 700;
const QUERY_TOKENS: usize = 20;
/// Pages that a codebook is trained on.
const TRAINING_PAGES: usize = 256;
const PRECISIONS: [Precision; 3] = [Precision::Bits2, Precision::Bits4, Precision::Bits8];

/// CPU time of this process, which other programs disturb less than the clock on the wall.
struct CpuTime;

impl Measurement for CpuTime {
    type Intermediate = ProcessTime;
    type Value = Duration;

    fn start(&self) -> ProcessTime {
        ProcessTime::now()
    }

    fn end(&self, start: ProcessTime) -> Duration {
        start.elapsed()
    }

    fn add(&self, one: &Duration, two: &Duration) -> Duration {
        *one + *two
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        value.as_nanos() as f64
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}

/// The kernels as searches take them on this machine.
fn kernels(criterion: &mut Criterion<CpuTime>) {
    let mut group = criterion.benchmark_group("kernel");
    group.throughput(Throughput::Elements(PAGE_TOKENS as u64));
    let mut case = Case::new(DIM, QUERY_TOKENS, PAGE_TOKENS);
    let kernels = [
        ("MaxSim of coarse levels", Kernel::RaiseBest { refined: false, rows: true }),
        ("MaxSim of levels", Kernel::RaiseBest { refined: true, rows: true }),
        ("scores of centroids", Kernel::FillRows),
        ("nearest centroid", Kernel::Nearest),
    ];
    if let Some(machine) = machines().first() {
        for (name, kernel) in kernels {
            group.bench_function(name, |bencher| bencher.iter(|| case.run(kernel, machine)));
        }
    }
    group.bench_function("MaxSim of f16", |bencher| bencher.iter(|| case.max_sim()));
    let decoders = decoders();
    for bits in [2, 4, 8] {
        group.bench_function(format!("levels of {bits} bits"), |bencher| {
            bencher.iter(|| case.decode(bits, &decoders[0]))
        });
    }
    group.finish();
}

/// What a build does to pages.
fn build(criterion: &mut Criterion<CpuTime>, pages: &[Pages]) {
    let mut group = criterion.benchmark_group("build");
    let Some(deepest) = pages.last() else { return };
    let name = format!("train {} centroids on {TRAINING_PAGES} pages", deepest.centroids());
    group.sampling_mode(SamplingMode::Flat).sample_size(10);
    group.bench_function(name, |bencher| bencher.iter(|| deepest.train()));
    group.sampling_mode(SamplingMode::Auto).sample_size(50);
    group.bench_function("assign the tokens of a page", |bencher| bencher.iter(|| deepest.assign(0)));
    for (pages, precision) in pages.iter().zip(PRECISIONS) {
        let name = format!("encode a page in {} bits, assignment included", precision.bits());
        group.bench_function(name, |bencher| bencher.iter(|| pages.encode(0)));
    }
    group.bench_function("encode a page directly", |bencher| bencher.iter(|| deepest.encode_direct(0)));
    group.finish();
}

/// What a search does to a query and to single pages.
fn pages(criterion: &mut Criterion<CpuTime>, pages: &[Pages], query: &[f32]) {
    let mut group = criterion.benchmark_group("page");
    let Some(deepest) = pages.last() else { return };
    let name = format!("compare a query with {} centroids", deepest.centroids());
    group.bench_function(name, |bencher| bencher.iter(|| deepest.compare(query)));
    let mut compared = deepest.compare(query);
    let mut rows = deepest.byte_rows(&compared);
    // Page after page, as in a search: each is new to the first-level cache.
    let mut turn = (0..TRAINING_PAGES).cycle();
    let mut next = move || turn.next().unwrap_or(0);
    group.bench_function("score by centroids", |bencher| {
        bencher.iter(|| deepest.centroid_score(&mut rows, next()));
    });
    group.bench_function("score by coarse codes", |bencher| {
        bencher.iter(|| deepest.coarse_score(&mut compared, next()));
    });
    for (pages, precision) in pages.iter().zip(PRECISIONS) {
        let mut compared = pages.compare(query);
        group.bench_function(format!("score by {} bits", precision.bits()), |bencher| {
            bencher.iter(|| pages.full_score(&mut compared, next()));
        });
    }
    group.finish();
}

/// Whole searches, one query after the other.
fn searches(criterion: &mut Criterion<CpuTime>, engine: &Engine) -> Result<(), Failure> {
    let efforts = [
        ("low", Effort::LOW),
        ("default", Effort::default()),
        ("high", Effort::HIGH),
        ("1", Effort::Share(1.0)),
        ("exact", Effort::Exact),
    ];
    println!("mean work of a search: entries of lists, pages by centroids, by coarse codes, in full, tokens");
    for (name, effort) in efforts {
        let mut work = colqwen_index::field::SearchWork::default();
        for query in 0..engine.queries() {
            work.add(&engine.search(query, effort, Only::All)?.work);
        }
        let mean = |sum: u64| sum / engine.queries() as u64;
        let pages = [work.postings, work.centroid_pages, work.coarse_pages, work.full_pages, work.tokens].map(mean);
        println!("  effort {name}: {pages:?}");
    }
    let mut group = criterion.benchmark_group("search");
    for (among, only) in [("all documents", Only::All), ("1 % of them", Only::Bucket)] {
        // Among few pages all efforts come to the same.
        let efforts = if let Only::All = only { &efforts[..] } else { &efforts[1..2] };
        for (name, effort) in efforts {
            let mut queries = (0..engine.queries()).cycle();
            group.bench_function(format!("{among}, effort {name}"), |bencher| {
                bencher.iter(|| queries.next().map(|query| engine.search(black_box(query), *effort, only)));
            });
        }
    }
    group.finish();
    Ok(())
}

fn run() -> Result<(), Failure> {
    println!("{}", Setting::now());
    let collection = Collection::new(Shape::new("text", 1024, 230));
    println!("{}", collection.shape);
    let mut criterion = Criterion::default()
        .with_measurement(CpuTime)
        .sample_size(50)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    kernels(&mut criterion);

    let document = |number| collection.document(number).iter().map(|value| value.to_f32()).collect();
    let vectors: Vec<Vec<f32>> = (0..TRAINING_PAGES).map(document).collect();
    let coded = |precision| Pages::new(vectors.clone(), DIM, precision);
    let coded: Vec<Pages> = PRECISIONS.into_iter().filter_map(coded).collect();
    build(&mut criterion, &coded);
    pages(&mut criterion, &coded, &collection.queries()[0]);

    let folder = tempfile::tempdir()?;
    let (engine, built) = Engine::build(&collection, Precision::Bits8, None, folder.path())?;
    println!("8 bits: {built}");
    searches(&mut criterion, &engine)?;
    criterion.final_summary();
    Ok(())
}

fn main() -> Result<(), Failure> {
    rayon::ThreadPoolBuilder::new().num_threads(1).build()?.install(run)
}
