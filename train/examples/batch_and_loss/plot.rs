//! The comparison as a picture: loss and held-out nDCG@5 against steps, a column for each loss, a colour for each batch.

use anyhow::{Result, anyhow};
use colqwen_index_train::watch::StepRecord;
use plotters::backend::SVGBackend;
use plotters::chart::{ChartBuilder, SeriesLabelPosition};
use plotters::coord::Shift;
use plotters::coord::combinators::IntoLogRange;
use plotters::drawing::{DrawingArea, DrawingAreaErrorKind, IntoDrawingArea};
use plotters::element::PathElement;
use plotters::series::{DashedLineSeries, LineSeries};
use plotters::style::{BLACK, Color, HSLColor, TRANSPARENT, WHITE};

use crate::cell::{Event, Line};
use crate::setup::Loss;
use crate::table::{steps, trainings};

const SIZE: (u32, u32) = (1000, 760);
const TITLE: (&str, u32) = ("sans-serif", 17);
const TEXT: (&str, u32) = ("sans-serif", 13);
/// Points of a loss's curve per doubling of the steps: each is a mean over the steps between.
const PER_DOUBLING: f64 = 6.0;

/// One training's curve, and the level that it has without learning.
struct Curve {
    batch: usize,
    points: Points,
    level: f64,
}

type Points = Vec<(f64, f64)>;

/// The text of an SVG file.
pub fn svg(lines: &[Line]) -> Result<String> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        root.fill(&WHITE).map_err(|error| anyhow!("{error}"))?;
        let areas = root.split_evenly((2, 2));
        for (column, loss) in [Loss::Pairwise, Loss::InfoNce].into_iter().enumerate() {
            let title = match loss {
                Loss::Pairwise => "pairwise: loss (dashed: ln 2)",
                Loss::InfoNce => "InfoNCE: loss (dashed: ln B)",
            };
            panel(&areas[column], title, &curves(lines, loss, losses), true)?;
            let title = format!("{}: held-out nDCG@5", loss.name());
            panel(&areas[2 + column], &title, &curves(lines, loss, rankings), false)?;
        }
        root.present().map_err(|error| anyhow!("{error}"))?;
    }
    Ok(svg)
}

fn curves(lines: &[Line], loss: Loss, of: fn(&[Line]) -> Points) -> Vec<Curve> {
    let curve = |(_, batch, lines): (Loss, usize, &[Line])| Curve { batch, points: of(lines), level: level(lines) };
    trainings(lines).filter(|(one, ..)| *one == loss).map(curve).collect()
}

/// The mean loss without learning: a little below `ln B` where pages of a batch happen to answer each other's queries.
fn level(lines: &[Line]) -> f64 {
    let steps = steps(lines);
    steps.iter().map(|step| step.no_learning).sum::<f64>() / steps.len().max(1) as f64
}

/// Means of the loss over runs of steps that grow as the steps do.
fn losses(lines: &[Line]) -> Points {
    let steps = steps(lines);
    let run = |step: u64| ((step + 1) as f64).log2() * PER_DOUBLING;
    let runs = steps.chunk_by(|one, other| run(one.step) as u64 == run(other.step) as u64);
    let middle = |steps: &[&StepRecord]| {
        let mean = |of: fn(&StepRecord) -> f64| steps.iter().map(|step| of(step)).sum::<f64>() / steps.len() as f64;
        (mean(|step| (step.step + 1) as f64), mean(|step| step.loss))
    };
    runs.map(middle).collect()
}

/// Those before the first step stand at step 1.
fn rankings(lines: &[Line]) -> Points {
    let ranking = |line: &Line| match &line.event {
        Event::HeldOut { steps, ndcg_5 } => Some(((*steps).max(1) as f64, *ndcg_5)),
        _ => None,
    };
    lines.iter().filter_map(ranking).collect()
}

fn panel(area: &DrawingArea<SVGBackend<'_>, Shift>, title: &str, curves: &[Curve], losses: bool) -> Result<()> {
    let failed = |error: DrawingAreaErrorKind<std::io::Error>| anyhow!("{error}");
    let points = || curves.iter().flat_map(|curve| &curve.points);
    let last = points().map(|point| point.0).fold(2.0, f64::max);
    let values = points().map(|point| point.1).chain(curves.iter().map(|curve| curve.level));
    let highest = if losses { 1.1 * values.fold(0.0, f64::max) } else { 1.0 };
    let mut chart = ChartBuilder::on(area)
        .caption(title, TITLE)
        .margin(10)
        .x_label_area_size(36)
        .y_label_area_size(44)
        .build_cartesian_2d((1.0..last).log_scale(), 0.0..highest)
        .map_err(failed)?;
    let mut mesh = chart.configure_mesh();
    mesh.light_line_style(TRANSPARENT)
        .label_style(TEXT)
        .x_desc("steps")
        .x_label_formatter(&|step| format!("{step:.0}"));
    mesh.draw().map_err(failed)?;
    for (at, curve) in curves.iter().enumerate() {
        let style = HSLColor(at as f64 * 0.22, 0.8, 0.4).stroke_width(2);
        if losses {
            let level = [(1.0, curve.level), (last, curve.level)];
            chart.draw_series(DashedLineSeries::new(level, 4, 4, style.stroke_width(1))).map_err(failed)?;
        }
        chart
            .draw_series(LineSeries::new(curve.points.iter().copied(), style).point_size(if losses { 0 } else { 3 }))
            .map_err(failed)?
            .label(format!("batch {}", curve.batch))
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
    }
    let corner = if losses { SeriesLabelPosition::LowerLeft } else { SeriesLabelPosition::UpperLeft };
    let mut labels = chart.configure_series_labels();
    labels.position(corner).label_font(TEXT).background_style(WHITE.mix(0.8)).border_style(BLACK.mix(0.2));
    labels.draw().map_err(failed)
}
