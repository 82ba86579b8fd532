//! The report as one HTML file that needs nothing else: pictures, figures and how they were taken.

use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment};
use serde::Serialize;

use super::overview;
use super::plot::{self, Axis, Bar, Series, look};
use super::result::{Compared, Comparison, Outcome, Summary};
use super::scale::{mark, short, span, span_mark, times};
use crate::failure::Failure;
use crate::latency::Percentiles;

const TEMPLATE: &str = include_str!("report.html");

/// What the template is given; pictures are whole SVG elements.
#[derive(Serialize)]
struct Page<'a> {
    comparison: &'a Comparison,
    overview: Vec<String>,
    scenarios: Vec<Card<'a>>,
}

#[derive(Serialize)]
struct Card<'a> {
    #[serde(flatten)]
    compared: &'a Compared,
    unit: &'static str,
    pictures: Vec<String>,
    rows: Vec<Row<'a>>,
    of_pair: Option<String>,
    unsupported: Vec<String>,
    failures: Vec<String>,
}

/// A line of a table; what was not measured is absent.
#[derive(Serialize)]
struct Row<'a> {
    target: &'a str,
    at: Option<String>,
    median: String,
    low: String,
    high: String,
    received: String,
    latency: Option<[String; 4]>,
    confirm: Option<[String; 4]>,
    broker_ns: Option<String>,
    broker_rss: Option<String>,
}

/// Writes the page.
///
/// # Errors
/// The template does not fit the comparison: a fault of loadgen.
pub fn page(comparison: &Comparison) -> Result<String, Failure> {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    let fault = |error: minijinja::Error| {
        Failure::Settings(format!("the report cannot be written, a fault of loadgen: {error:#}"))
    };
    environment.add_template("report", TEMPLATE).map_err(fault)?;
    let template = environment.get_template("report").map_err(fault)?;
    let scenarios = comparison.scenarios.iter().map(|one| card(comparison, one)).collect();
    let page = Page { comparison, overview: overview::charts(comparison), scenarios };
    template.render(Serde(page)).map_err(fault)
}

/// How many times as good a target is as another one: as fast, or as early.
#[must_use]
pub fn ratio(compared: &Compared, one: usize, other: usize) -> Option<f64> {
    let figure = |number: usize| {
        let figure = compared.results.get(number)?.only()?.figure.median;
        (figure > 0.0 && compared.swept.is_none()).then_some(figure)
    };
    let (one, other) = (figure(one)?, figure(other)?);
    Some(if compared.figure.is_latency() { other / one } else { one / other })
}

fn card<'a>(comparison: &Comparison, compared: &'a Compared) -> Card<'a> {
    let pictures = match compared.swept {
        Some(_) => sweep(compared),
        None => [bars(compared), curves(compared)].into_iter().flatten().collect(),
    };
    let (unsupported, failures) = (unsupported(compared), failures(comparison, compared));
    let of_pair = compared.relay_of_pair().map(|share| format!("{:.0} %", 100.0 * share));
    let (unit, rows) = (compared.figure.unit(), rows(compared));
    Card { compared, unit, pictures, rows, of_pair, unsupported, failures }
}

fn bars(one: &Compared) -> Option<String> {
    let mut bars: Vec<Bar> = (0..)
        .zip(&one.results)
        .filter_map(|(number, outcome)| {
            let note = if number == 0 { against(one) } else { String::new() };
            Some(bar(one, outcome.only()?, &outcome.target, note, look(number).colour))
        })
        .collect();
    if let Some(relay) = one.ceiling.as_ref().and_then(Outcome::only) {
        let share = one
            .results
            .first()
            .and_then(Outcome::only)
            .map(|first| 100.0 * first.figure.median / relay.figure.median);
        let note = share
            .map_or(String::new(), |share| format!("{} has {share:.0} %", one.results[0].target));
        bars.push(bar(one, relay, "relay, no broker", note, Bar::NEUTRAL));
    }
    let marks = if one.figure.is_latency() { span_mark } else { mark };
    (!bars.is_empty()).then(|| plot::bars(&bars, one.figure.unit(), marks))
}

/// How many times as good as the second the first is.
fn against(one: &Compared) -> String {
    match (ratio(one, 0, 1), one.results.get(1)) {
        (Some(ratio), Some(second)) => format!("{} {}", times(ratio), second.target),
        _ => String::new(),
    }
}

fn bar(
    compared: &Compared,
    summary: &Summary,
    name: &str,
    note: String,
    colour: &'static str,
) -> Bar {
    let figure = summary.figure;
    let range = (figure.low < figure.high).then_some((figure.low, figure.high));
    let label = compared.figure.show(figure.median);
    let label = if note.is_empty() { label } else { format!("{label} = {note}") };
    Bar { name: name.to_owned(), figure: figure.median, range, label, colour }
}

/// Latency against the share of messages that were faster.
fn curves(one: &Compared) -> Option<String> {
    let outcomes = || one.results.iter().enumerate();
    let series = |name: &str, thin, pick: fn(&Summary) -> Option<Percentiles>| -> Vec<Series> {
        outcomes()
            .filter_map(|(number, outcome)| {
                let points = curve(pick(outcome.only()?)?);
                let name = format!("{}, {name}", outcome.target);
                Some(Series { name, look: look(number), thin, points })
            })
            .collect()
    };
    let mut all = series("end to end", false, |summary| summary.latency_us);
    all.extend(series("to the confirm", true, |summary| summary.confirm_latency_us));
    let marks = [(2.0, "50"), (10.0, "90"), (100.0, "99"), (1e3, "99.9"), (1e4, "99.99")];
    let marks = marks.map(|(at, label)| (at, format!("{label} %"))).to_vec();
    let x_axis = Axis { title: "share of messages that were no later", marks };
    let y_axis = Axis { title: "latency", marks: Vec::new() };
    (!all.is_empty()).then(|| plot::lines(&all, &x_axis, &y_axis))
}

/// A percentile stands where one in so many messages is later.
fn curve(seen: Percentiles) -> Vec<(f64, f64)> {
    let all = [
        (2.0, seen.p50),
        (4.0, seen.p75),
        (20.0, seen.p95),
        (100.0, seen.p99),
        (1e3, seen.p99_9),
        (1e4, seen.p99_99),
    ];
    // What only one message in so many can show, fewer messages do not.
    all.into_iter().filter(|(one_in, _)| seen.count as f64 >= *one_in).collect()
}

/// Latencies against the swept flag.
fn sweep(one: &Compared) -> Vec<String> {
    let confirms = one.results.iter().any(|outcome| {
        let mut summaries = outcome.steps.iter().filter_map(|stage| stage.summary.as_ref());
        summaries.any(|summary| summary.latency_us.is_none())
    });
    let mut all = Vec::new();
    for (number, outcome) in one.results.iter().enumerate() {
        for (name, thin) in [("p99", false), ("p50", true)] {
            let points = outcome.steps.iter().filter_map(|stage| {
                let summary = stage.summary.as_ref()?;
                let seen = if confirms { summary.confirm_latency_us } else { summary.latency_us };
                Some((stage.at?, seen.map(|seen| if thin { seen.p50 } else { seen.p99 })?))
            });
            let name = format!("{}, {name}", outcome.target);
            all.push(Series { name, look: look(number), thin, points: points.collect() });
        }
    }
    let title =
        if one.swept.as_deref() == Some("rate") { "messages/s" } else { "value of the flag" };
    let x_axis = Axis { title, marks: Vec::new() };
    vec![plot::lines(&all, &x_axis, &Axis { title: "latency", marks: Vec::new() })]
}

fn rows(one: &Compared) -> Vec<Row<'_>> {
    let outcomes = one.results.iter().chain(&one.ceiling);
    outcomes
        .flat_map(|outcome| {
            let stages = outcome.steps.iter();
            stages.filter_map(|stage| {
                Some(row(one, &outcome.target, stage.at, stage.summary.as_ref()?))
            })
        })
        .collect()
}

fn row<'a>(one: &Compared, target: &'a str, at: Option<f64>, summary: &Summary) -> Row<'a> {
    let figure = summary.figure;
    let show = |value| one.figure.show(value);
    let latency = |seen: Option<Percentiles>| {
        seen.map(|seen| [seen.p50, seen.p99, seen.p99_9, seen.max].map(span))
    };
    Row {
        target,
        at: at.map(short),
        median: show(figure.median),
        low: show(figure.low),
        high: show(figure.high),
        received: short(summary.received.median),
        latency: latency(summary.latency_us),
        confirm: latency(summary.confirm_latency_us),
        broker_ns: summary.broker_ns.map(short),
        broker_rss: summary.broker_rss.map(|octets| format!("{} B", short(octets))),
    }
}

/// What targets do not do, in their words.
fn unsupported(one: &Compared) -> Vec<String> {
    let sentence = |outcome: &Outcome| {
        let words = outcome.steps.iter().find_map(|stage| stage.unsupported.as_ref())?;
        Some(format!("{}: not supported: {words}", outcome.target))
    };
    one.results.iter().filter_map(sentence).collect()
}

fn failures(comparison: &Comparison, one: &Compared) -> Vec<String> {
    let stages = one
        .results
        .iter()
        .flat_map(|outcome| outcome.steps.iter().map(move |stage| (&outcome.target, stage)));
    stages
        .filter(|(_, stage)| !stage.failures.is_empty())
        .map(|(target, stage)| {
            let (count, rounds) = (stage.failures.len(), comparison.rounds);
            let at = stage.at.map_or(String::new(), |at| format!(" at {}", short(at)));
            let first = stage.failures.first().map_or("", String::as_str);
            format!("{target}{at}: {count} of {rounds} rounds failed: {first}")
        })
        .collect()
}
