//! Charts as SVG, 380 units wide, which is the width of a phone's screen.
//!
//! The colours are those of Okabe and Ito, which people with colour blindness can tell apart. In
//! black and white the dashes, marks and names do.

use std::fmt::Write;

use minijinja::HtmlEscape;

use super::scale::{Scale, mark, span_mark};

/// The width of a chart.
pub const WIDTH: f64 = 380.0;
const LEFT: f64 = 52.0;
/// The right edge of the drawing area.
pub const RIGHT: f64 = 362.0;
/// The colour of text.
pub const INK: &str = "#1a1a1a";
/// The colour of secondary text.
pub const FAINT: &str = "#767676";
/// The colour of grid lines.
pub const LINE: &str = "#d9d9d9";

/// The style of one series, the same in the whole report.
#[derive(Debug, Clone, Copy)]
pub struct SeriesStyle {
    /// The colour of bars, lines and marks.
    pub colour: &'static str,
    dash: &'static str,
    mark: &'static str,
}

const STYLES: [SeriesStyle; 6] = [
    SeriesStyle { colour: "#0072b2", dash: "", mark: "circle" },
    SeriesStyle { colour: "#e69f00", dash: "7 3", mark: "square" },
    SeriesStyle { colour: "#009e73", dash: "2 3", mark: "diamond" },
    SeriesStyle { colour: "#cc79a7", dash: "9 3 2 3", mark: "circle" },
    SeriesStyle { colour: "#56b4e9", dash: "4 4", mark: "square" },
    SeriesStyle { colour: "#d55e00", dash: "1 2", mark: "diamond" },
];
const NEUTRAL: &str = "#a6a6a6";

/// The style of target `number`; after six they repeat.
#[must_use]
pub fn style(number: usize) -> SeriesStyle {
    STYLES[number % STYLES.len()]
}

/// A bar of a bar chart.
#[derive(Debug)]
pub struct Bar {
    /// The name at the left.
    pub name: String,
    /// The length.
    pub figure: f64,
    /// The whisker from minimum to maximum, if there is more than one value.
    pub range: Option<(f64, f64)>,
    /// The figure as text.
    pub label: String,
    /// The colour; grey for the relay.
    pub colour: &'static str,
}

impl Bar {
    /// The relay's colour.
    pub const NEUTRAL: &'static str = NEUTRAL;
}

/// A horizontal bar chart; `mark` formats the marks of the axis.
#[must_use]
pub fn bars(bars: &[Bar], unit: &str, mark: fn(f64) -> String) -> String {
    const ROW: f64 = 34.0;
    let bottom = 6.0 + ROW * bars.len() as f64;
    let highest = bars.iter().map(|bar| bar.range.map_or(bar.figure, |(_, high)| high));
    let scale = Scale::linear(highest.fold(0.0, f64::max), 8.0, RIGHT);
    let mut svg = open((WIDTH, bottom + 34.0), unit);
    for at in scale.marks() {
        let x = scale.at(at);
        line(&mut svg, (x, 4.0), (x, bottom), LINE, 1.0);
        text(&mut svg, (x, bottom + 14.0), &mark(at), "middle", FAINT, "");
    }
    for (number, bar) in bars.iter().enumerate() {
        draw_bar(&mut svg, bar, &scale, 6.0 + ROW * number as f64);
    }
    text(&mut svg, (RIGHT, bottom + 29.0), unit, "end", FAINT, "");
    svg + "</svg>"
}

fn draw_bar(svg: &mut String, bar: &Bar, scale: &Scale, top: f64) {
    text(svg, (8.0, top + 10.0), &bar.name, "start", INK, "600");
    text(svg, (RIGHT, top + 10.0), &bar.label, "end", INK, "");
    let (x, width) = (scale.at(0.0), (scale.at(bar.figure) - scale.at(0.0)).max(1.0));
    let colour = bar.colour;
    let y = top + 15.0;
    let _ = write!(
        svg,
        r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="12" rx="2" fill="{colour}"/>"#
    );
    if let Some((low, high)) = bar.range {
        let (from, to, middle) = (scale.at(low), scale.at(high), y + 6.0);
        line(svg, (from, middle), (to, middle), INK, 1.5);
        for end in [from, to] {
            line(svg, (end, middle - 4.0), (end, middle + 4.0), INK, 1.5);
        }
    }
}

/// A line of a line chart.
#[derive(Debug)]
pub struct Series {
    /// The name in the legend.
    pub name: String,
    /// The style.
    pub style: SeriesStyle,
    /// Drawn thin, as a second line of the same style.
    pub thin: bool,
    /// The points, sorted by x.
    pub points: Vec<(f64, f64)>,
}

/// An axis of a line chart.
#[derive(Debug)]
pub struct Axis {
    /// What it shows, with the unit.
    pub title: &'static str,
    /// The marks with their labels; empty for powers of ten.
    pub marks: Vec<(f64, String)>,
}

/// A line chart with two logarithmic axes; y is in microseconds.
#[must_use]
pub fn lines(series: &[Series], x_axis: &Axis, y_axis: &Axis) -> String {
    const TOP: f64 = 24.0;
    const BOTTOM: f64 = 222.0;
    let points = || series.iter().flat_map(|series| &series.points);
    let (xs, ys) = (|| points().map(|point| point.0), || points().map(|point| point.1));
    let x_scale = match (x_axis.marks.first(), x_axis.marks.last()) {
        (Some(first), Some(last)) => Scale::between(first.0, last.0, LEFT, RIGHT),
        _ => Scale::log(least(xs()), xs().fold(0.0, f64::max), LEFT, RIGHT),
    };
    let y_scale = Scale::log(least(ys()), ys().fold(0.0, f64::max), BOTTOM, TOP);
    let height = BOTTOM + 40.0 + 16.0 * series.len() as f64;
    let mut svg = open((WIDTH, height), y_axis.title);
    text(&mut svg, (4.0, 9.0), y_axis.title, "start", FAINT, "");
    for at in y_scale.marks() {
        let y = y_scale.at(at);
        line(&mut svg, (LEFT, y), (RIGHT, y), LINE, 1.0);
        text(&mut svg, (LEFT - 6.0, y + 4.0), &span_mark(at), "end", FAINT, "");
    }
    let powers = || x_scale.marks().into_iter().map(|at| (at, mark(at))).collect();
    let marks = if x_axis.marks.is_empty() { powers() } else { x_axis.marks.clone() };
    for (at, label) in marks {
        let x = x_scale.at(at);
        line(&mut svg, (x, TOP), (x, BOTTOM), LINE, 1.0);
        let anchor = if x > RIGHT - 1.0 { "end" } else { "middle" };
        let x = if x > RIGHT - 1.0 { WIDTH - 2.0 } else { x };
        text(&mut svg, (x, BOTTOM + 16.0), &label, anchor, FAINT, "");
    }
    text(&mut svg, (RIGHT, BOTTOM + 31.0), x_axis.title, "end", FAINT, "");
    for (number, series) in series.iter().enumerate() {
        draw_series(&mut svg, series, &x_scale, &y_scale);
        draw_legend(&mut svg, series, BOTTOM + 44.0 + 16.0 * number as f64);
    }
    svg + "</svg>"
}

fn least(figures: impl Iterator<Item = f64>) -> f64 {
    let least = figures.filter(|figure| *figure > 0.0).fold(f64::INFINITY, f64::min);
    if least.is_finite() { least } else { 1.0 }
}

fn draw_series(svg: &mut String, series: &Series, x_scale: &Scale, y_scale: &Scale) {
    let places: Vec<(f64, f64)> =
        series.points.iter().map(|(x, y)| (x_scale.at(*x), y_scale.at(*y))).collect();
    let path: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let SeriesStyle { colour, dash, .. } = series.style;
    let width = if series.thin { 1.0 } else { 2.0 };
    let path = path.join(" ");
    let stroke = format!(r#"stroke="{colour}" stroke-width="{width}""#);
    let _ = write!(
        svg,
        r#"<polyline points="{path}" fill="none" {stroke} stroke-dasharray="{dash}"/>"#
    );
    for place in places {
        draw_mark(svg, series, place);
    }
}

fn draw_mark(svg: &mut String, series: &Series, (x, y): (f64, f64)) {
    let colour = series.style.colour;
    let fill = if series.thin { "#fff" } else { colour };
    let style = format!(r#"fill="{fill}" stroke="{colour}" stroke-width="1.5""#);
    let _ = match series.style.mark {
        "square" => {
            let (left, top) = (x - 3.0, y - 3.0);
            write!(svg, r#"<rect x="{left:.1}" y="{top:.1}" width="6" height="6" {style}/>"#)
        }
        "diamond" => write!(svg, r#"<path d="M{x:.1} {y:.1}m-4 0l4 -4l4 4l-4 4z" {style}/>"#),
        _ => write!(svg, r#"<circle cx="{x:.1}" cy="{y:.1}" r="3" {style}/>"#),
    };
}

fn draw_legend(svg: &mut String, series: &Series, y: f64) {
    let SeriesStyle { colour, dash, .. } = series.style;
    let width = if series.thin { 1.0 } else { 2.0 };
    let stroke = format!(r#"stroke="{colour}" stroke-width="{width}""#);
    let _ = write!(svg, r#"<path d="M{LEFT} {y}h34" {stroke} stroke-dasharray="{dash}"/>"#);
    draw_mark(svg, series, (LEFT + 17.0, y));
    text(svg, (LEFT + 42.0, y + 4.0), &series.name, "start", INK, "");
}

/// Opens an SVG element with this width and height.
#[must_use]
pub fn open((width, height): (f64, f64), title: &str) -> String {
    let title = HtmlEscape(title);
    format!(
        concat!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img""#,
            r#" font-family="system-ui, sans-serif" font-size="11"><title>{title}</title>"#
        ),
        width = width,
        height = height,
        title = title
    )
}

/// Draws a straight line.
pub fn line(svg: &mut String, from: (f64, f64), to: (f64, f64), colour: &str, width: f64) {
    let ((x1, y1), (x2, y2)) = (from, to);
    let _ = write!(
        svg,
        r#"<path d="M{x1:.1} {y1:.1}L{x2:.1} {y2:.1}" stroke="{colour}" stroke-width="{width}"/>"#
    );
}

/// Writes text; `anchor` is SVG's text-anchor: start, middle or end.
pub fn text(
    svg: &mut String,
    at: (f64, f64),
    words: &str,
    anchor: &str,
    colour: &str,
    weight: &str,
) {
    let ((x, y), words) = (at, HtmlEscape(words));
    let weight = if weight.is_empty() { "400" } else { weight };
    let _ = write!(
        svg,
        concat!(
            r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}" fill="{colour}""#,
            r#" font-weight="{weight}">{words}</text>"#
        ),
        x = x,
        y = y,
        anchor = anchor,
        colour = colour,
        weight = weight,
        words = words
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_has_its_name_figure_and_unit() {
        let bar = Bar {
            name: "a<b".to_owned(),
            figure: 3_860_000.0,
            range: Some((3.5e6, 4e6)),
            label: "3.86 M = 52.3×".to_owned(),
            colour: style(0).colour,
        };
        let svg = bars(&[bar], "messages", mark);
        for part in ["a&lt;b", "3.86 M = 52.3×", ">messages<", "#0072b2", "</svg>"] {
            assert!(svg.contains(part), "{part} in {svg}");
        }
    }

    #[test]
    fn lines_go_through_their_points() {
        let one = Series {
            name: "one".to_owned(),
            style: style(1),
            thin: false,
            points: vec![(10.0, 100.0), (100.0, 1000.0)],
        };
        let axis = |title| Axis { title, marks: Vec::new() };
        let svg = lines(&[one], &axis("messages/s"), &axis("latency"));
        assert!(svg.contains(r#"points="52.0,222.0 362.0,24.0""#), "{svg}");
        assert!(lines(&[], &axis("x"), &axis("y")).ends_with("</svg>"));
    }
}
