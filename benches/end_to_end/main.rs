//! Effort against recall, time, bytes and build, on data made here, with exact answers; with `--peer`, next-plaid on the same
//! data in the same run.
//!
//! ```text
//! cargo bench --bench end_to_end -- --peer
//! cargo bench --bench end_to_end -- --shape notes:5000x100 --blank 0.2 --bits 4
//! ```
//! Searches run on one thread, CPU time per query; builds on all cores, CPU seconds. Recall@10 is against exact MaxSim of the
//! f16 vectors.

mod engine;
mod peer;
mod shape;

use std::collections::HashSet;
use std::error::Error;
use std::path::PathBuf;

use clap::Parser;
use colqwen_index::field::{Effort, Precision, SearchReport};
use comfy_table::Table;
use engine::{Engine, Only};
use shape::{Collection, Shape};

/// Hits per query.
const K: usize = 10;

/// Effort against recall, time, bytes and build, beside a peer.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Run next-plaid beside us (built from benches/peers/next-plaid; needs the package registry once).
    #[arg(long)]
    peer: bool,
    /// Another shape instead of the three of the README.
    #[arg(long, value_name = "NAME:DOCUMENTSxTOKENS[-TOKENS]", value_parser = parse_shape)]
    shape: Vec<Shape>,
    /// Only those of the README's shapes: text, pages, large.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Bits per value.
    #[arg(long, value_delimiter = ',', default_value = "8,4,2")]
    bits: Vec<u32>,
    /// Efforts: 0 to 1, low, default, high, exact.
    #[arg(long, value_delimiter = ',', default_value = "0.1,low,default,high,1,exact")]
    efforts: Vec<Effort>,
    /// The share of blank paper on pages of --shape.
    #[arg(long)]
    blank: Option<f64>,
    /// Distinct meanings in the data of --shape; 0 for none shared.
    #[arg(long)]
    centres: Option<usize>,
    /// Values per token of --shape.
    #[arg(long)]
    dim: Option<usize>,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where indexes are built; a temporary folder unless given.
    #[arg(long)]
    folder: Option<PathBuf>,
    /// What `cargo bench` adds.
    #[arg(long, hide = true)]
    bench: bool,
}

fn parse_shape(text: &str) -> Result<Shape, String> {
    let wrong = || format!("{text:?} is not NAME:DOCUMENTSxTOKENS or NAME:DOCUMENTSxLEAST-MOST, say notes:5000x100");
    let (name, sizes) = text.split_once(':').ok_or_else(wrong)?;
    let (documents, tokens) = sizes.split_once('x').ok_or_else(wrong)?;
    let (least, most) = tokens.split_once('-').unwrap_or((tokens, tokens));
    let number = |text: &str| text.parse::<usize>().ok().filter(|number| *number > 0).ok_or_else(wrong);
    let (least, most) = (number(least)?, number(most)?);
    if least > most {
        return Err(wrong());
    }
    Ok(Shape { tokens: (least, most), ..Shape::new(name, number(documents)?, most) })
}

fn readme_shapes() -> Vec<Shape> {
    vec![
        Shape::new("text", 1024, 230),
        Shape { blank: 0.4, ..Shape::new("pages", 2000, 700) },
        Shape::new("large", 10_000, 300),
    ]
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let mut shapes = args.shape.clone();
    if shapes.is_empty() {
        shapes = readme_shapes();
        shapes.retain(|shape| args.only.is_empty() || args.only.contains(&shape.name));
    }
    for shape in &mut shapes {
        shape.seed = args.seed;
        shape.blank = args.blank.unwrap_or(shape.blank);
        shape.centres = args.centres.unwrap_or(shape.centres);
        shape.dim = args.dim.unwrap_or(shape.dim);
    }
    let temporary = tempfile::tempdir()?;
    let folder = args.folder.clone().unwrap_or_else(|| temporary.path().to_owned());
    println!("{}", processor());
    for shape in shapes {
        run(&args, shape, &folder.join("bench"))?;
    }
    Ok(())
}

fn run(args: &Args, shape: Shape, folder: &std::path::Path) -> Result<(), Box<dyn Error>> {
    let Shape { name, documents, tokens: (least, most), dim, centres, blank, .. } = &shape;
    println!("\n{name}: {documents} documents x {least}-{most} tokens x {dim}, {centres} centres, {blank} blank");
    if folder.exists() {
        return Err(format!("{} is in the way: give another --folder", folder.display()).into());
    }
    let collection = Collection::new(shape);
    let exact = Engine::build(&collection, Precision::F16, &folder.join("f16"))?;
    let truth = Answers::exact(&exact, &collection)?;
    drop(exact);
    std::fs::remove_dir_all(folder.join("f16"))?;
    let mut table = Table::new();
    table.load_style(comfy_table::presets::ASCII_MARKDOWN);
    table.set_header([
        "engine",
        "effort",
        "recall@10",
        "of exact",
        "expected",
        "proven",
        "CPU ms",
        "filter 1 % ms",
        "its recall",
        "tokens",
        "bytes/token",
        "build CPU s",
        "segments",
    ]);
    for bits in &args.bits {
        let engine = Engine::build(&collection, Precision::from_bits(*bits)?, &folder.join(bits.to_string()))?;
        let own = numbers(&engine, &engine.search(Effort::Exact, Only::All, K)?)?;
        for effort in &args.efforts {
            let found = engine.search(*effort, Only::All, K)?;
            let hits = numbers(&engine, &found)?;
            let in_bucket = numbers(&engine, &engine.search(*effort, Only::Bucket, K)?)?;
            let mean = |value: &dyn Fn(&SearchReport) -> f64| found.iter().map(value).sum::<f64>() / found.len() as f64;
            table.add_row([
                format!("{bits} bit"),
                format!("{effort:?}").replace("Share", ""),
                format!("{:.3}", recall(&hits, &truth.all)),
                format!("{:.3}", recall(&hits, &own)),
                format!("{:.3}", mean(&|report| f64::from(report.expected_recall))),
                format!("{:.2}", mean(&|report| report.proven as f64)),
                format!("{:.2}", engine.cpu_ms(*effort, Only::All, K)?),
                format!("{:.2}", engine.cpu_ms(*effort, Only::Bucket, K)?),
                format!("{:.3}", recall(&in_bucket, &truth.bucket)),
                format!("{:.0}", mean(&|report| report.work.tokens as f64)),
                format!("{:.1}", engine.bytes_per_token),
                format!("{:.1}", engine.build_seconds),
                engine.segments.to_string(),
            ]);
        }
        drop(engine);
        std::fs::remove_dir_all(folder.join(bits.to_string()))?;
    }
    if args.peer {
        for row in peer::run(&collection, &truth.all, &folder.join("peer"))? {
            table.add_row(row);
        }
    }
    println!("{table}");
    std::fs::remove_dir_all(folder)?;
    Ok(())
}

/// The true hits of each query.
struct Answers {
    all: Vec<Vec<usize>>,
    bucket: Vec<Vec<usize>>,
}

impl Answers {
    /// By exact search of f16 vectors; the first query is checked against the textbook loop.
    fn exact(engine: &Engine, collection: &Collection) -> Result<Self, Box<dyn Error>> {
        let all = numbers(engine, &engine.search(Effort::Exact, Only::All, K)?)?;
        let bucket = numbers(engine, &engine.search(Effort::Exact, Only::Bucket, K)?)?;
        let textbook = textbook(collection);
        if all.first() != Some(&textbook) {
            return Err(format!("exact search found {:?}, the textbook loop {textbook:?}", all.first()).into());
        }
        Ok(Self { all, bucket })
    }
}

/// The hits of the first query by the definition of MaxSim.
fn textbook(collection: &Collection) -> Vec<usize> {
    let dim = collection.shape.dim;
    let query = &collection.queries[0];
    let dot = |token: &[f32], other: &[half::f16]| token.iter().zip(other).map(|(a, b)| a * b.to_f32()).sum::<f32>();
    let best =
        |token: &[f32], page: &[half::f16]| page.chunks(dim).map(|other| dot(token, other)).fold(f32::MIN, f32::max);
    let score = |page: &Vec<half::f16>| query.chunks(dim).map(|token| best(token, page)).sum::<f32>();
    let mut scores: Vec<(f32, usize)> = collection.documents.iter().map(score).zip(0..).collect();
    scores.sort_by(|one, two| two.0.total_cmp(&one.0).then(one.1.cmp(&two.1)));
    scores.into_iter().take(K).map(|(_, number)| number).collect()
}

fn numbers(engine: &Engine, found: &[SearchReport]) -> Result<Vec<Vec<usize>>, Box<dyn Error>> {
    found.iter().map(|report| engine.numbers(report)).collect()
}

/// The share of the true hits that were found.
fn recall(found: &[Vec<usize>], truth: &[Vec<usize>]) -> f64 {
    let wanted: usize = truth.iter().map(Vec::len).sum();
    let hits = |(found, truth): (&Vec<usize>, &Vec<usize>)| {
        let truth: HashSet<_> = truth.iter().collect();
        found.iter().filter(|number| truth.contains(number)).count()
    };
    found.iter().zip(truth).map(hits).sum::<usize>() as f64 / wanted.max(1) as f64
}

/// What the figures were measured on.
fn processor() -> String {
    let read = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = read.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{} (family {}, model {}), {cores} cores", field("model name"), field("cpu family"), field("model\t"))
}
