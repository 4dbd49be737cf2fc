//! Growth as a picture: time and recall over documents, a line for each effort.

use std::ops::Range;
use std::path::Path;

use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, Ranged, ValueFormatter};
use plotters::prelude::*;

use crate::engine::Failure;
use crate::growth::{Growth, Point};

/// Pixels.
const SIZE: (u32, u32) = (800, 900);
/// Recall is shown from here, or from what was reached.
const LEAST_RECALL: f64 = 0.9;

/// The line that grows as the documents do.
const EVEN: &str = "in proportion to documents";

/// A named line.
struct Line {
    name: String,
    style: ShapeStyle,
    points: Vec<Place>,
}

/// Documents, CPU milliseconds, recall.
type Place = (f64, f64, f64);

/// Writes `growth` to `file` as SVG.
pub fn draw(growth: &Growth, file: &Path) -> Result<(), Failure> {
    let lines = lines(growth);
    let points = || lines.iter().flat_map(|line| &line.points);
    let root = SVGBackend::new(file, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let (upper, lower) = root.split_vertically(SIZE.1 * 3 / 5);
    let documents = range(points().map(|point| point.0), 1.1);
    let times = range(points().map(|point| point.1), 1.2).log_scale();
    panel(&upper, "CPU milliseconds per query, one thread", (documents.clone(), times), &lines, true, |point| point.1)?;
    let least = points().map(|point| point.2).fold(LEAST_RECALL, f64::min);
    // What is even stands for times alone.
    let lines: Vec<Line> = lines.into_iter().filter(|line| line.name != EVEN).collect();
    panel(&lower, "recall@10 against exact MaxSim of f16", (documents, least..1.0), &lines, false, |point| point.2)?;
    root.present()?;
    Ok(())
}

/// Draws the lines over documents, `value` of each point upwards.
fn panel<Y>(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    title: &str,
    (documents, values): (Range<f64>, Y),
    lines: &[Line],
    names: bool,
    value: fn(&Place) -> f64,
) -> Result<(), Failure>
where
    Y: AsRangedCoord<Value = f64>,
    Y::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 18))
        .margin(16)
        .x_label_area_size(44)
        .y_label_area_size(60)
        .build_cartesian_2d(documents.log_scale(), values)?;
    chart.configure_mesh().light_line_style(TRANSPARENT).x_desc("documents").draw()?;
    for line in lines {
        let points = line.points.iter().map(|point| (point.0, value(point)));
        let style = line.style;
        chart
            .draw_series(LineSeries::new(points, style).point_size(3))?
            .label(&line.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], style));
    }
    if names {
        let mut labels = chart.configure_series_labels();
        labels.position(SeriesLabelPosition::UpperLeft).background_style(WHITE).border_style(BLACK.mix(0.2)).draw()?;
    }
    Ok(())
}

/// One line for each precision and effort, and a thick one for the cheapest way to the recall.
fn lines(growth: &Growth) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for point in &growth.points {
        let name = format!("{} bits, effort {}", point.bits, point.effort);
        let line = lines.iter().position(|line| line.name == name).unwrap_or_else(|| {
            lines.push(Line { name, style: colour(lines.len()).stroke_width(2), points: Vec::new() });
            lines.len() - 1
        });
        lines[line].points.push(place(point));
    }
    let reached: Vec<_> = growth.reached.iter().filter_map(|reached| reached.point.as_ref()).map(place).collect();
    if let Some((documents, time, recall)) = reached.first().copied() {
        let last = reached[reached.len() - 1].0;
        let even = vec![(documents, time, recall), (last, time * last / documents, recall)];
        lines.push(Line {
            name: "cheapest with enough recall".to_owned(),
            style: BLACK.stroke_width(4),
            points: reached,
        });
        lines.push(Line { name: EVEN.to_owned(), style: BLACK.mix(0.3).stroke_width(1), points: even });
    }
    lines
}

/// Neighbours far apart in hue, all dark enough for white paper.
fn colour(line: usize) -> HSLColor {
    HSLColor(line as f64 * 0.38 % 1.0, 0.8, 0.4)
}

fn place(point: &Point) -> Place {
    (point.documents as f64, point.cpu_ms, point.recall10)
}

/// From the least to the most, with some room.
fn range(values: impl Iterator<Item = f64>, room: f64) -> Range<f64> {
    let (least, most) = values.fold((f64::MAX, f64::MIN), |(least, most), value| (least.min(value), most.max(value)));
    least / room..most * room
}
