//! How time grows with the collection at a recall that must not fall.
//!
//! The indexes of all sizes are built first, each through a writer of its own, and searched in turns, so that other programs
//! and changing clocks meet small and large ones alike.

use std::path::Path;

use colqwen_index::field::{Effort, Precision, SearchReport};
use comfy_table::Table;
use serde::Serialize;

use crate::Args;
use crate::answers::{Answers, mean, numbers, recall};
use crate::clock::Clock;
use crate::collection::{Collection, Shape};
use crate::engine::{Built, Engine, Failure, Only};
use crate::table::{effort_name, markdown};

/// Documents, unless others are asked for.
pub const SIZES: [&str; 6] = ["1000", "2000", "5000", "10000", "20000", "50000"];
/// The recall that the cheapest effort must reach.
const RECALL: f64 = 0.97;
/// Efforts that are tried for it unless others are asked for.
const EFFORTS: [f32; 8] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8];
/// Queries, unless another number is asked for: with fewer the cheapest effort is a matter of luck.
pub const QUERIES: usize = 200;
/// Rounds of all queries at each size and effort, of which the median counts; another goes before that brings the files
/// into memory.
const TURNS: usize = 5;

/// One collection at several sizes.
#[derive(Serialize)]
pub struct Growth {
    /// At the largest size.
    shape: Shape,
    pub points: Vec<Point>,
    /// For each size and precision the cheapest of its points that reaches the recall, where one does.
    pub reached: Vec<Reached>,
}

/// One size at one precision and effort.
#[derive(Clone, Serialize)]
pub struct Point {
    pub documents: usize,
    pub bits: u32,
    pub effort: String,
    segments: usize,
    pub recall10: f64,
    pub cpu_ms: f64,
    /// The time in units of that of the smallest collection at the same precision and effort.
    times: f64,
    tokens: f64,
    bytes_per_token: f64,
    build_cpu_s: f64,
}

/// The cheapest way to the recall.
#[derive(Serialize)]
pub struct Reached {
    pub documents: usize,
    pub bits: u32,
    pub point: Option<Point>,
    /// The time in units of that of the smallest collection, where both reach the recall.
    times: Option<f64>,
}

/// An index that waits for its turns.
struct Size {
    collection: Collection,
    bits: u32,
    engine: Engine,
    built: Built,
    truth: Answers,
}

impl Growth {
    /// Builds indexes of `sizes` documents of `shape` in `folder` and searches them.
    pub fn measure(args: &Args, shape: &Shape, sizes: &[usize], clock: &Clock, folder: &Path) -> Result<Self, Failure> {
        let mut built = Vec::new();
        for documents in sizes {
            built.extend(build(args, Shape { documents: *documents, ..shape.clone() }, folder)?);
        }
        let efforts = args.efforts.clone().unwrap_or(EFFORTS.map(Effort::Share).to_vec());
        let mut points: Vec<Point> = Vec::new();
        for ((size, effort), (cpu_ms, found)) in pairs(&built, &efforts).zip(turns(&built, &efforts, clock)?) {
            let effort = effort_name(effort);
            let first = points.iter().find(|point| point.bits == size.bits && point.effort == effort);
            points.push(Point {
                documents: size.collection.shape.documents,
                bits: size.bits,
                segments: size.built.segments,
                recall10: recall(&numbers(&size.engine, &found)?, &size.truth.all),
                cpu_ms,
                times: cpu_ms / first.map_or(cpu_ms, |first| first.cpu_ms),
                tokens: mean(&found, |report| report.work.tokens as f64),
                bytes_per_token: size.built.bytes_per_token,
                build_cpu_s: size.built.seconds,
                effort,
            });
        }
        let shape = Shape { documents: sizes.last().copied().unwrap_or(0), ..shape.clone() };
        let sizes = built.iter().map(|size| (size.collection.shape.documents, size.bits));
        Ok(Self { shape, reached: reached(&points, sizes), points })
    }

    /// All points as Markdown.
    pub fn markdown(&self) -> Table {
        let mut table = markdown(&[
            "documents",
            "bits",
            "segments",
            "effort",
            "recall@10",
            "CPU ms",
            "times first",
            "tokens",
            "bytes/token",
            "build CPU s",
        ]);
        for point in &self.points {
            table.add_row([
                point.documents.to_string(),
                point.bits.to_string(),
                point.segments.to_string(),
                point.effort.clone(),
                format!("{:.3}", point.recall10),
                format!("{:.2}", point.cpu_ms),
                format!("{:.2}", point.times),
                format!("{:.0}", point.tokens),
                format!("{:.1}", point.bytes_per_token),
                format!("{:.1}", point.build_cpu_s),
            ]);
        }
        table
    }

    /// The cheapest ways to the recall as Markdown.
    pub fn reached_markdown(&self) -> Table {
        let cheapest = format!("cheapest with recall@10 >= {RECALL}");
        let mut table = markdown(&["documents", "bits", "segments", &cheapest, "recall@10", "CPU ms", "times first"]);
        for reached in &self.reached {
            let of = |figure: fn(&Point) -> String| reached.point.as_ref().map_or("-".to_owned(), figure);
            table.add_row([
                reached.documents.to_string(),
                reached.bits.to_string(),
                of(|point| point.segments.to_string()),
                reached.point.as_ref().map_or("none of these efforts".to_owned(), |point| point.effort.clone()),
                of(|point| format!("{:.3}", point.recall10)),
                of(|point| format!("{:.2}", point.cpu_ms)),
                reached.times.map_or("-".to_owned(), |times| format!("{times:.2}")),
            ]);
        }
        table
    }
}

/// One index for each precision.
fn build(args: &Args, shape: Shape, folder: &Path) -> Result<Vec<Size>, Failure> {
    let documents = shape.documents;
    let truth = Answers::exact(&Collection::new(shape.clone()), &folder.join("f16"))?;
    let size = |bits: &u32| {
        let collection = Collection::new(shape.clone());
        let folder = folder.join(format!("{documents}-{bits}"));
        let (engine, built) = Engine::build(&collection, Precision::from_bits(*bits)?, args.commit_every, &folder)?;
        eprintln!("{documents} documents, {bits} bits: {built}");
        Ok(Size { collection, bits: *bits, engine, built, truth: truth.clone() })
    };
    args.bits.as_deref().unwrap_or(&[8]).iter().map(size).collect()
}

/// Each size at each effort.
fn pairs<'a>(sizes: &'a [Size], efforts: &'a [Effort]) -> impl Iterator<Item = (&'a Size, Effort)> {
    sizes.iter().flat_map(move |size| efforts.iter().map(move |effort| (size, *effort)))
}

/// For each size at each effort the median CPU milliseconds of one query, and what was found.
fn turns(sizes: &[Size], efforts: &[Effort], clock: &Clock) -> Result<Vec<(f64, Vec<SearchReport>)>, Failure> {
    let round = |(size, effort): (&Size, Effort)| clock.round(&size.engine, effort, Only::All);
    let found: Vec<_> = pairs(sizes, efforts).map(round).collect::<Result<_, _>>()?;
    let mut taken = vec![Vec::with_capacity(TURNS); found.len()];
    for _ in 0..TURNS {
        for (taken, pair) in taken.iter_mut().zip(pairs(sizes, efforts)) {
            taken.push(round(pair)?.0);
        }
    }
    let median = |mut taken: Vec<f64>| {
        taken.sort_by(f64::total_cmp);
        taken[TURNS / 2]
    };
    Ok(taken.into_iter().map(median).zip(found.into_iter().map(|(_, found)| found)).collect())
}

/// The cheapest point of each size and precision that reaches the recall.
fn reached(points: &[Point], sizes: impl Iterator<Item = (usize, u32)>) -> Vec<Reached> {
    let mut all: Vec<Reached> = Vec::new();
    for (documents, bits) in sizes {
        let here = points.iter().filter(|point| (point.documents, point.bits) == (documents, bits));
        let enough = here.filter(|point| point.recall10 >= RECALL);
        let point = enough.min_by(|one, two| one.cpu_ms.total_cmp(&two.cpu_ms)).cloned();
        let first = match all.iter().find(|reached| reached.bits == bits) {
            Some(first) => first.point.as_ref(),
            None => point.as_ref(),
        };
        let times = point.as_ref().zip(first).map(|(point, first)| point.cpu_ms / first.cpu_ms);
        all.push(Reached { documents, bits, times, point });
    }
    all
}
