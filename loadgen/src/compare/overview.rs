//! All scenarios in one picture: how many times better the first target is than the second. The
//! axis is logarithmic, so that factors of 2 and of 100 are both visible.

use std::fmt::Write;

use super::plot::{self, FAINT, INK, LINE, RIGHT, WIDTH, line, style, text};
use super::result::{Comparison, ScenarioResult, TargetResult, ratio};
use super::scale::{Scale, mark, times};

const LEFT: f64 = 12.0;
/// Where the bars end; the figures are to the right.
const BARS: f64 = 232.0;
const ROW: f64 = 34.0;
/// The height below the bars, for the marks and the title of the axis.
const FOOT: f64 = 34.0;
/// The height above the charts of [`picture`], for the heading.
const HEAD: f64 = 74.0;

/// A scenario with results of both targets.
struct Ratio<'a> {
    title: &'a str,
    ratio: f64,
    figures: String,
}

fn ratios(comparison: &Comparison) -> Vec<Ratio<'_>> {
    let one = |compared| {
        let figures = [figure(compared, 0)?, figure(compared, 1)?].join(" : ");
        Some(Ratio { title: &compared.title, ratio: ratio(compared, 0, 1)?, figures })
    };
    comparison.scenarios.iter().filter_map(one).collect()
}

fn figure(compared: &ScenarioResult, number: usize) -> Option<String> {
    let summary = compared.results.get(number).and_then(TargetResult::only)?;
    Some(compared.figure.show(summary.figure.median))
}

/// From 1, or the smallest ratio, to the greatest.
fn scale(ratios: &[Ratio<'_>]) -> Scale {
    let all = || ratios.iter().map(|one| one.ratio);
    Scale::log(all().fold(1.0, f64::min), all().fold(1.0, f64::max), LEFT, BARS)
}

/// The charts for the HTML page: the scenarios in two halves, side by side if there is room.
#[must_use]
pub fn charts(comparison: &Comparison) -> Vec<String> {
    let (ratios, unit) = (ratios(comparison), unit(comparison));
    let scale = scale(&ratios);
    let chart = |part: &[Ratio<'_>]| {
        let inner = chart(part, &scale, &unit);
        plot::open((WIDTH, height(part.len())), &unit) + &inner + "</svg>"
    };
    ratios.chunks(ratios.len().div_ceil(2).max(1)).map(chart).collect()
}

/// The charts with a heading as one picture. `None` if no scenario has results of two targets.
#[must_use]
pub fn picture(comparison: &Comparison) -> Option<String> {
    let ratios = ratios(comparison);
    let (scale, unit) = (scale(&ratios), unit(comparison));
    let rows = ratios.len().div_ceil(2);
    let whole = (2.0 * WIDTH, HEAD + height(rows));
    let mut svg = plot::open(whole, &unit);
    let (width, height) = whole;
    let _ = write!(svg, r##"<rect width="{width}" height="{height}" fill="#fff"/>"##);
    head(&mut svg, comparison)?;
    for (number, part) in ratios.chunks(rows.max(1)).enumerate() {
        let (x, chart) = (WIDTH * number as f64, chart(part, &scale, &unit));
        let _ = write!(svg, r#"<g transform="translate({x} {HEAD})">{chart}</g>"#);
    }
    (!ratios.is_empty()).then(|| svg + "</svg>")
}

fn head(svg: &mut String, comparison: &Comparison) -> Option<()> {
    let (first, second) = (comparison.targets.first()?, comparison.targets.get(1)?);
    let title = format!("{} against {}, scenario by scenario", first.name, second.name);
    let _ = write!(svg, r#"<g font-size="17">"#);
    text(svg, (LEFT, 24.0), &title, "start", INK, "600");
    *svg += "</g>";
    let rounds = comparison.rounds;
    let what = format!(
        "{} and {}; medians of {rounds} alternating rounds; rates and p99 latencies, those of the \
         first target first",
        first.product, second.product
    );
    text(svg, (LEFT, 44.0), &what, "start", FAINT, "");
    let place = format!("{} · {}", comparison.machine, comparison.date);
    text(svg, (LEFT, 60.0), &place, "start", FAINT, "");
    Some(())
}

fn unit(comparison: &Comparison) -> String {
    let name = |number: usize| comparison.targets.get(number).map_or("", |one| &one.name);
    format!("how many times better {} is than {}", name(0), name(1))
}

fn height(rows: usize) -> f64 {
    6.0 + ROW * rows as f64 + FOOT
}

fn chart(ratios: &[Ratio<'_>], scale: &Scale, unit: &str) -> String {
    let mut svg = String::new();
    let bottom = height(ratios.len()) - FOOT;
    for at in scale.marks() {
        let x = scale.at(at);
        line(&mut svg, (x, 4.0), (x, bottom), if at == 1.0 { FAINT } else { LINE }, 1.0);
        text(&mut svg, (x, bottom + 14.0), &format!("{}×", mark(at)), "middle", FAINT, "");
    }
    for (number, one) in ratios.iter().enumerate() {
        row(&mut svg, one, scale, 6.0 + ROW * number as f64);
    }
    text(&mut svg, (RIGHT, bottom + 29.0), unit, "end", FAINT, "");
    svg
}

fn row(svg: &mut String, one: &Ratio<'_>, scale: &Scale, top: f64) {
    let first = style(0).colour;
    text(svg, (LEFT, top + 10.0), one.title, "start", INK, "600");
    text(svg, (RIGHT, top + 10.0), &times(one.ratio), "end", INK, "600");
    text(svg, (RIGHT, top + 25.0), &one.figures, "end", FAINT, "");
    let (even, end, y) = (scale.at(1.0), scale.at(one.ratio), top + 15.0);
    let (x, width) = (even.min(end), (end - even).abs().max(1.0));
    // A bar below 1 has the colour of the second target.
    let colour = if one.ratio < 1.0 { style(1).colour } else { first };
    let _ = write!(
        svg,
        r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="12" rx="2" fill="{colour}"/>"#
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(ratio: f64) -> String {
        let one = Ratio { title: "Slow & fast", ratio, figures: "2 k : 1 k".to_owned() };
        let scale = Scale::log(0.1, 100.0, LEFT, BARS);
        chart(&[one], &scale, "times")
    }

    #[test]
    fn a_bar_starts_at_ratio_one() {
        // Three decades on a length of 220: the first ends at 85.3, the second at 158.7.
        let ahead = drawn(10.0);
        for part in [r#"x="85.3" y="21.0" width="73.3""#, "Slow &amp; fast", "2 k : 1 k", ">10.0×<"]
        {
            assert!(ahead.contains(part), "{part} in {ahead}");
        }
        let behind = drawn(0.1);
        assert!(behind.contains(r#"x="12.0" y="21.0" width="73.3""#), "{behind}");
        assert!(behind.contains(style(1).colour) && !ahead.contains(style(1).colour));
    }
}
