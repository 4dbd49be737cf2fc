//! A picture of a training.

use std::ops::Range;

use plotters::backend::SVGBackend;
use plotters::chart::ChartBuilder;
use plotters::drawing::{DrawingArea, DrawingAreaErrorKind, IntoDrawingArea};
use plotters::element::PathElement;
use plotters::series::LineSeries;
use plotters::style::{BLACK, BLUE, Color, GREEN, RED, RGBColor, WHITE};

use super::StepRecord;
use crate::Error;

const WIDTH: u32 = 900;
const PANEL: u32 = 260;
const GREY: RGBColor = RGBColor(120, 120, 120);

/// One line of a panel.
struct Line<'a> {
    name: &'static str,
    colour: RGBColor,
    of: &'a dyn Fn(&StepRecord) -> f64,
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

/// Loss (beside its value without learning), accuracy and margin, variances, and the gradient's norm against steps, as the
/// text of an SVG file.
///
/// # Errors
/// There are no steps.
pub fn plot(title: &str, steps: &[StepRecord]) -> Result<String, Error> {
    if steps.is_empty() {
        return Err(Error::shape("steps to plot", "at least one", 0));
    }
    let mut svg = String::new();
    draw(&mut svg, title, steps).map_err(|error| Error::Plot { problem: error.to_string() })?;
    Ok(svg)
}

fn draw(svg: &mut String, title: &str, steps: &[StepRecord]) -> Result<(), DrawingAreaErrorKind<std::io::Error>> {
    let line = |name, colour, of| Line { name, colour, of };
    let panels: [(&str, Vec<Line<'_>>); 4] = [
        (
            title,
            vec![line("loss", BLUE, &|step| step.loss), line("loss without learning", RED, &|step| step.no_learning)],
        ),
        (
            "ranking within the batch",
            vec![
                line("accuracy", BLUE, &|step| step.accuracy),
                line("accuracy of chance", RED, &|step| step.chance),
                line("margin", GREEN, &|step| step.margin),
            ],
        ),
        (
            "variance",
            vec![
                line("of page tokens", BLUE, &|step| step.token_variance),
                line("of pages' means", GREEN, &|step| step.page_variance),
            ],
        ),
        ("gradient", vec![line("norm before clipping", GREY, &|step| step.gradient_norm)]),
    ];
    let root = SVGBackend::with_string(svg, (WIDTH, PANEL * panels.len() as u32)).into_drawing_area();
    root.fill(&WHITE)?;
    for (area, (title, lines)) in root.split_evenly((panels.len(), 1)).iter().zip(&panels) {
        panel(area, title, lines, steps)?;
    }
    root.present()
}

fn panel(
    area: &Area<'_>,
    title: &str,
    lines: &[Line<'_>],
    steps: &[StepRecord],
) -> Result<(), DrawingAreaErrorKind<std::io::Error>> {
    let first = steps.first().map_or(0, |step| step.step);
    let last = steps.last().map_or(0, |step| step.step).max(first + 1);
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 16))
        .margin(8)
        .x_label_area_size(28)
        .y_label_area_size(56)
        .build_cartesian_2d(first as f64..last as f64, heights(lines, steps))?;
    chart.configure_mesh().light_line_style(WHITE).x_desc("step").draw()?;
    for line in lines {
        let points = steps.iter().map(|step| (step.step as f64, (line.of)(step)));
        let colour = line.colour;
        chart
            .draw_series(LineSeries::new(points.filter(|(_, value)| value.is_finite()), colour))?
            .label(line.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour));
    }
    chart.configure_series_labels().background_style(WHITE.mix(0.8)).border_style(BLACK.mix(0.3)).draw()
}

/// From 0, or the lowest value, to a little above the highest.
fn heights(lines: &[Line<'_>], steps: &[StepRecord]) -> Range<f64> {
    let values = lines.iter().flat_map(|line| steps.iter().map(|step| (line.of)(step)));
    let (low, high) = values
        .filter(|value| value.is_finite())
        .fold((0.0f64, 0.0f64), |(low, high), value| (low.min(value), high.max(value)));
    low..if high > low { high + 0.05 * (high - low) } else { low + 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_series_is_drawn() {
        let step = |step: u64| StepRecord {
            step,
            epoch: 0,
            queries: 2,
            pages: 2,
            loss: 1.0 / (step + 1) as f64,
            no_learning: 0.7,
            margin: -0.1,
            accuracy: 0.5,
            chance: 0.5,
            token_variance: 0.2,
            page_variance: 0.1,
            gradient_norm: f64::INFINITY,
            learning_rate: 0.1,
            suspects: 0.0,
        };
        let svg = plot("a <title>", &(0..30).map(step).collect::<Vec<_>>()).unwrap();
        for text in ["a &lt;title&gt;", "loss without learning", "margin", "norm before clipping", "polyline"] {
            assert!(svg.contains(text), "{text} is missing in {svg}");
        }
        assert!(plot("one step", &[step(7)]).is_ok());
        assert!(plot("none", &[]).is_err());
    }
}
