//! Growth as a picture: time and recall over documents, a line for each effort.

use std::ops::Range;
use std::path::Path;

use plotters::coord::Shift;
use plotters::coord::combinators::BindKeyPoints;
use plotters::coord::ranged1d::{AsRangedCoord, Ranged, ValueFormatter};
use plotters::prelude::*;

use crate::engine::Failure;
use crate::growth::{Growth, Point};

/// Pixels.
const SIZE: (u32, u32) = (800, 900);
const TITLE: (&str, u32) = ("sans-serif", 18);
const TEXT: (&str, u32) = ("sans-serif", 14);
/// Recall is shown from here, or from what was reached.
const LEAST_RECALL: f64 = 0.9;

/// The line that grows as the documents do.
const EVEN: &str = "in proportion to documents";

/// A named line.
struct Line {
    name: String,
    style: ShapeStyle,
    /// The radius of points; 0 for none.
    dots: u32,
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
    let mut sizes: Vec<f64> = points().map(|point| point.0).collect();
    sizes.sort_by(f64::total_cmp);
    sizes.dedup();
    let documents = || range(sizes.iter().copied(), 1.1).log_scale().with_key_points(sizes.clone());
    let times = range(points().map(|point| point.1), 1.2);
    let times = times.clone().log_scale().with_key_points(round_numbers(&times));
    panel(&upper, "CPU milliseconds per query, one thread", (documents(), times), &lines, true, |point| point.1)?;
    let least = points().map(|point| point.2).fold(LEAST_RECALL, f64::min);
    // What is even stands for times alone.
    let lines: Vec<Line> = lines.into_iter().filter(|line| line.name != EVEN).collect();
    panel(&lower, "recall@10 against exact MaxSim of f16", (documents(), least..1.0), &lines, false, |point| point.2)?;
    root.present()?;
    Ok(())
}

/// Draws the lines over documents, `value` of each point upwards.
fn panel<X, Y>(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    title: &str,
    (documents, values): (X, Y),
    lines: &[Line],
    names: bool,
    value: fn(&Place) -> f64,
) -> Result<(), Failure>
where
    X: AsRangedCoord<Value = f64>,
    X::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
    Y: AsRangedCoord<Value = f64>,
    Y::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    let mut chart = ChartBuilder::on(area)
        .caption(title, TITLE)
        .margin(16)
        .x_label_area_size(44)
        .y_label_area_size(60)
        .build_cartesian_2d(documents, values)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .label_style(TEXT)
        .x_desc("documents")
        .x_label_formatter(&|documents| format!("{documents:.0}"))
        .draw()?;
    for line in lines {
        let points = line.points.iter().map(|point| (point.0, value(point)));
        let style = line.style;
        chart
            .draw_series(LineSeries::new(points, style).point_size(line.dots))?
            .label(&line.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], style));
    }
    if names {
        let mut labels = chart.configure_series_labels();
        labels.position(SeriesLabelPosition::UpperLeft).label_font(TEXT).background_style(WHITE.mix(0.8));
        labels.border_style(BLACK.mix(0.2)).draw()?;
    }
    Ok(())
}

/// One line for each precision and effort, and for each precision a thick one for the cheapest way to the recall.
fn lines(growth: &Growth) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for point in &growth.points {
        let name = format!("{} bits, effort {}", point.bits, point.effort);
        let style = colour(lines.len()).stroke_width(2);
        line(&mut lines, name, style).points.push(place(point));
    }
    for point in growth.reached.iter().filter_map(|reached| reached.point.as_ref()) {
        let name = format!("{} bits, cheapest with enough recall", point.bits);
        line(&mut lines, name, BLACK.stroke_width(4)).points.push(place(point));
    }
    let mut reached = growth.reached.iter().filter_map(|reached| reached.point.as_ref()).map(place);
    if let Some((documents, time, recall)) = reached.next() {
        let last = reached.next_back().map_or(documents, |last| last.0);
        let points = vec![(documents, time, recall), (last, time * last / documents, recall)];
        lines.push(Line { name: EVEN.to_owned(), style: BLACK.mix(0.3).stroke_width(1), dots: 0, points });
    }
    lines
}

/// The line of that name, added if new.
fn line(lines: &mut Vec<Line>, name: String, style: ShapeStyle) -> &mut Line {
    let at = lines.iter().position(|line| line.name == name).unwrap_or_else(|| {
        lines.push(Line { name, style, dots: 3, points: Vec::new() });
        lines.len() - 1
    });
    &mut lines[at]
}

/// Neighbours far apart in hue, all dark enough for white paper.
fn colour(line: usize) -> HSLColor {
    HSLColor(line as f64 * 0.38 % 1.0, 0.8, 0.4)
}

fn place(point: &Point) -> Place {
    (point.documents as f64, point.cpu_ms, point.recall10)
}

/// Those of 1, 2 and 5 times a power of ten.
fn round_numbers(range: &Range<f64>) -> Vec<f64> {
    let powers = (-6..9).map(|power| 10f64.powi(power));
    powers.flat_map(|power| [power, 2.0 * power, 5.0 * power]).filter(|number| range.contains(number)).collect()
}

/// From the least to the most, with some room.
fn range(values: impl Iterator<Item = f64>, room: f64) -> Range<f64> {
    let (least, most) = values.fold((f64::MAX, f64::MIN), |(least, most), value| (least.min(value), most.max(value)));
    least / room..most * room
}
