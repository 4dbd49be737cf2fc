//! Effort against recall, time, bytes and build, on data made here, with exact answers; with `--peer`, next-plaid on the same
//! data in the same run. With `--growth`, time over the size of the collection.
//!
//! ```text
//! cargo bench --no-default-features --bench end_to_end -- --peer
//! cargo bench --no-default-features --bench end_to_end -- --shape notes:5000x5-1200 --dim 96,320 --bits 4
//! cargo bench --no-default-features --bench end_to_end -- --growth --plot growth.svg
//! ```
//! Searches run on one thread, CPU time per query; builds on all cores, CPU seconds. Recall@10 is against exact MaxSim of the
//! f16 vectors.

mod answers;
mod clock;
#[path = "../collection/mod.rs"]
mod collection;
#[path = "../engine/mod.rs"]
mod engine;
mod growth;
#[path = "../machine/mod.rs"]
mod machine;
mod peer;
mod plot;
mod table;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use clap::Parser;
use clock::Clock;
use collection::Shape;
use colqwen_index::field::Effort;
use engine::Failure;
use growth::Growth;
use machine::Setting;
use serde::Serialize;
use table::ShapeTable;

/// Effort against recall, time, bytes and build, beside a peer.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Run next-plaid beside us (built from benches/peers/next-plaid; needs the package registry once).
    #[arg(long, conflicts_with = "growth")]
    peer: bool,
    /// Another shape instead of the three of the README.
    #[arg(long, value_name = "NAME:DOCUMENTSxTOKENS[-TOKENS]", conflicts_with = "growth")]
    shape: Vec<Shape>,
    /// Only those of the README's shapes: text, pages, large.
    #[arg(long, value_delimiter = ',', conflicts_with_all = ["growth", "shape"])]
    only: Vec<String>,
    /// One collection of 230 tokens a document at these sizes instead of shapes.
    #[arg(long, value_name = "DOCUMENTS", value_delimiter = ',', num_args = 0..=1,
        default_missing_values = growth::SIZES)]
    growth: Option<Vec<NonZeroUsize>>,
    /// Draw the growth to this SVG file.
    #[arg(long, value_name = "FILE", requires = "growth")]
    plot: Option<PathBuf>,
    /// Bits per value [default: 8,4,2; of a growth 8].
    #[arg(long, value_delimiter = ',')]
    bits: Option<Vec<u32>>,
    /// Efforts: 0 to 1, low, default, high, exact.
    #[arg(long, value_delimiter = ',')]
    efforts: Option<Vec<Effort>>,
    /// The share of blank paper on pages; of several, each is a shape of its own, as with centres and dim.
    #[arg(long, value_delimiter = ',')]
    blank: Vec<f64>,
    /// Distinct meanings in the data; 0 for none shared.
    #[arg(long, value_delimiter = ',')]
    centres: Vec<usize>,
    /// Values per token.
    #[arg(long, value_delimiter = ',')]
    dim: Vec<NonZeroUsize>,
    /// How many queries [default: 60; of a growth 200].
    #[arg(long)]
    queries: Option<NonZeroUsize>,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Commit after so many documents each time, not once at the end.
    #[arg(long, value_name = "DOCUMENTS")]
    commit_every: Option<NonZeroUsize>,
    /// Where indexes are built; a temporary folder unless given.
    #[arg(long)]
    folder: Option<PathBuf>,
    /// Write all figures to this file for programs.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// What `cargo bench` adds.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Args {
    /// The shapes of the tables.
    fn shapes(&self) -> Vec<Shape> {
        if !self.shape.is_empty() {
            return self.varied(&self.shape);
        }
        let mut shapes = vec![
            Shape::new("text", 1024, 230),
            Shape { blank: 0.4, ..Shape::new("pages", 2000, 700) },
            Shape::new("large", 10_000, 300),
        ];
        shapes.retain(|shape| self.only.is_empty() || self.only.contains(&shape.name));
        self.varied(&shapes)
    }

    /// Each of `shapes` with each of the values asked for.
    fn varied(&self, shapes: &[Shape]) -> Vec<Shape> {
        let queries = |shape: &Shape| self.queries.map_or(shape.queries, NonZeroUsize::get);
        let shape = |shape| Shape { seed: self.seed, queries: queries(shape), ..shape.clone() };
        let mut shapes: Vec<Shape> = shapes.iter().map(shape).collect();
        let dims: Vec<usize> = self.dim.iter().map(|dim| dim.get()).collect();
        vary(&mut shapes, &dims, |shape, dim| shape.dim = dim);
        vary(&mut shapes, &self.blank, |shape, blank| shape.blank = blank);
        vary(&mut shapes, &self.centres, |shape, centres| shape.centres = centres);
        shapes
    }
}

/// Makes each shape one for each value, or leaves it as it is where there are none.
fn vary<T: Copy>(shapes: &mut Vec<Shape>, values: &[T], set: impl Fn(&mut Shape, T)) {
    if values.is_empty() {
        return;
    }
    let with = |shape: Shape, value: T| {
        let mut shape = shape;
        set(&mut shape, value);
        shape
    };
    *shapes = shapes.iter().flat_map(|shape| values.iter().map(|value| with(shape.clone(), *value))).collect();
}

/// Everything that was measured.
#[derive(Serialize)]
struct Figures {
    setting: Setting,
    tables: Vec<ShapeTable>,
    growth: Vec<Growth>,
}

impl Figures {
    fn measure(&mut self, args: &Args, folder: &Path) -> Result<(), Failure> {
        let clock = Clock::new()?;
        let Some(sizes) = &args.growth else {
            for shape in args.shapes() {
                println!("\n{shape}\n");
                let table = ShapeTable::measure(args, shape, &clock, folder)?;
                println!("{}", table.markdown());
                self.tables.push(table);
            }
            return Ok(());
        };
        let mut sizes: Vec<usize> = sizes.iter().map(|size| size.get()).collect();
        sizes.sort_unstable();
        let most = sizes.last().copied().unwrap_or(0);
        let shapes = args.varied(&[Shape { queries: growth::QUERIES, ..Shape::new("growth", most, 230) }]);
        if args.plot.is_some() && shapes.len() > 1 {
            return Err("--plot draws one growth: expected one --dim, --blank and --centres".into());
        }
        for shape in shapes {
            println!("\n{shape}\n");
            let growth = Growth::measure(args, &shape, &sizes, &clock, folder)?;
            println!("{}\n\n{}", growth.markdown(), growth.reached_markdown());
            if let Some(file) = &args.plot {
                plot::draw(&growth, file)?;
            }
            self.growth.push(growth);
        }
        Ok(())
    }
}

fn main() -> Result<(), Failure> {
    let args = Args::parse();
    if args.blank.iter().any(|blank| !(0.0..=1.0).contains(blank)) {
        return Err(format!("--blank {:?}: expected shares from 0 to 1", args.blank).into());
    }
    let mut figures = Figures { setting: Setting::now(), tables: Vec::new(), growth: Vec::new() };
    println!("{}", figures.setting);
    // A folder of its own, removed at the end however that comes about.
    let folder = match &args.folder {
        Some(folder) => tempfile::tempdir_in(folder)?,
        None => tempfile::tempdir()?,
    };
    figures.measure(&args, folder.path())?;
    if let Some(file) = &args.json {
        std::fs::write(file, serde_json::to_vec_pretty(&figures)?)?;
    }
    Ok(())
}
