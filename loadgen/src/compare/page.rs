//! The report as one self-contained HTML file: pictures, figures and how they were measured.

use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment};
use serde::Serialize;

use super::overview;
use super::plot::{self, Axis, Bar, Series, style};
use super::result::{Comparison, RoundsSummary, ScenarioResult, TargetResult, ratio};
use super::scale::{mark, short, span, span_mark, times};
use crate::measure::latency::Percentiles;
use crate::system::error::LoadgenError;

const TEMPLATE: &str = include_str!("report.html");

/// The data of the template; pictures are SVG elements.
#[derive(Serialize)]
struct ReportPage<'a> {
    comparison: &'a Comparison,
    overview: Vec<String>,
    scenarios: Vec<ScenarioCard<'a>>,
}

#[derive(Serialize)]
struct ScenarioCard<'a> {
    #[serde(flatten)]
    compared: &'a ScenarioResult,
    unit: &'static str,
    pictures: Vec<String>,
    rows: Vec<FigureRow<'a>>,
    relay_share: Option<String>,
    unsupported: Vec<String>,
    failures: Vec<String>,
}

/// A row of a table; figures that were not measured are absent.
#[derive(Serialize)]
struct FigureRow<'a> {
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

/// Renders the page.
///
/// # Errors
/// The template does not match the data, which is a bug in loadgen.
pub fn page(comparison: &Comparison) -> Result<String, LoadgenError> {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    let fault = |error: minijinja::Error| {
        LoadgenError::Settings(format!(
            "cannot render the report; this is a bug in loadgen: {error:#}"
        ))
    };
    environment.add_template("report", TEMPLATE).map_err(fault)?;
    let template = environment.get_template("report").map_err(fault)?;
    let scenarios = comparison.scenarios.iter().map(|one| card(comparison, one)).collect();
    let page = ReportPage { comparison, overview: overview::charts(comparison), scenarios };
    template.render(Serde(page)).map_err(fault)
}

fn card<'a>(comparison: &Comparison, compared: &'a ScenarioResult) -> ScenarioCard<'a> {
    let pictures = match compared.swept {
        Some(_) => sweep(compared),
        None => [bars(compared), curves(compared)].into_iter().flatten().collect(),
    };
    let (unsupported, failures) = (unsupported(compared), failures(comparison, compared));
    let relay_share =
        compared.relay_share_of_baseline().map(|share| format!("{:.0} %", 100.0 * share));
    let (unit, rows) = (compared.figure.unit(), rows(compared));
    ScenarioCard { compared, unit, pictures, rows, relay_share, unsupported, failures }
}

fn bars(one: &ScenarioResult) -> Option<String> {
    let mut bars: Vec<Bar> = (0..)
        .zip(&one.results)
        .filter_map(|(number, outcome)| {
            let note = if number == 0 { against(one) } else { String::new() };
            Some(bar(one, outcome.only()?, &outcome.target, note, style(number).colour))
        })
        .collect();
    if let Some(relay) = one.ceiling.as_ref().and_then(TargetResult::only) {
        let share = one
            .results
            .first()
            .and_then(TargetResult::only)
            .map(|first| 100.0 * first.figure.median / relay.figure.median);
        let note = share
            .map_or(String::new(), |share| format!("{} has {share:.0} %", one.results[0].target));
        bars.push(bar(one, relay, "relay, no broker", note, Bar::NEUTRAL));
    }
    let marks = if one.figure.is_latency() { span_mark } else { mark };
    (!bars.is_empty()).then(|| plot::bars(&bars, one.figure.unit(), marks))
}

/// How many times better the first target is than the second.
fn against(one: &ScenarioResult) -> String {
    match (ratio(one, 0, 1), one.results.get(1)) {
        (Some(ratio), Some(second)) => format!("{} {}", times(ratio), second.target),
        _ => String::new(),
    }
}

fn bar(
    compared: &ScenarioResult,
    summary: &RoundsSummary,
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

/// Latency over the share of faster messages.
fn curves(one: &ScenarioResult) -> Option<String> {
    let outcomes = || one.results.iter().enumerate();
    let series =
        |name: &str, thin, pick: fn(&RoundsSummary) -> Option<Percentiles>| -> Vec<Series> {
            outcomes()
                .filter_map(|(number, outcome)| {
                    let points = curve(pick(outcome.only()?)?);
                    let name = format!("{}, {name}", outcome.target);
                    Some(Series { name, style: style(number), thin, points })
                })
                .collect()
        };
    let mut all = series("end to end", false, |summary| summary.latency_us);
    all.extend(series("confirm", true, |summary| summary.confirm_latency_us));
    let marks = [(2.0, "50"), (10.0, "90"), (100.0, "99"), (1e3, "99.9"), (1e4, "99.99")];
    let marks = marks.map(|(at, label)| (at, format!("{label} %"))).to_vec();
    let x_axis = Axis { title: "share of messages with at most this latency", marks };
    let y_axis = Axis { title: "latency", marks: Vec::new() };
    (!all.is_empty()).then(|| plot::lines(&all, &x_axis, &y_axis))
}

/// A percentile is drawn at the number of messages of which one is slower.
fn curve(seen: Percentiles) -> Vec<(f64, f64)> {
    let all = [
        (2.0, seen.p50),
        (4.0, seen.p75),
        (20.0, seen.p95),
        (100.0, seen.p99),
        (1e3, seen.p99_9),
        (1e4, seen.p99_99),
    ];
    // A percentile of one in N messages needs at least N messages.
    all.into_iter().filter(|(one_in, _)| seen.count as f64 >= *one_in).collect()
}

/// Latency over the value of the swept flag.
fn sweep(one: &ScenarioResult) -> Vec<String> {
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
            all.push(Series { name, style: style(number), thin, points: points.collect() });
        }
    }
    let title =
        if one.swept.as_deref() == Some("rate") { "messages/s" } else { "value of the flag" };
    let x_axis = Axis { title, marks: Vec::new() };
    vec![plot::lines(&all, &x_axis, &Axis { title: "latency", marks: Vec::new() })]
}

fn rows(one: &ScenarioResult) -> Vec<FigureRow<'_>> {
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

fn row<'a>(
    one: &ScenarioResult,
    target: &'a str,
    at: Option<f64>,
    summary: &RoundsSummary,
) -> FigureRow<'a> {
    let figure = summary.figure;
    let show = |value| one.figure.show(value);
    let latency = |seen: Option<Percentiles>| {
        seen.map(|seen| [seen.p50, seen.p99, seen.p99_9, seen.max].map(span))
    };
    FigureRow {
        target,
        at: at.map(short),
        median: show(figure.median),
        low: show(figure.low),
        high: show(figure.high),
        received: short(summary.received.median),
        latency: latency(summary.latency_us),
        confirm: latency(summary.confirm_latency_us),
        broker_ns: summary.broker_ns.map(short),
        broker_rss: summary.broker_rss.map(|bytes| format!("{} B", short(bytes))),
    }
}

/// Why targets do not support the scenario, in the broker's words.
fn unsupported(one: &ScenarioResult) -> Vec<String> {
    let sentence = |outcome: &TargetResult| {
        let words = outcome.steps.iter().find_map(|stage| stage.unsupported.as_ref())?;
        Some(format!("{}: not supported: {words}", outcome.target))
    };
    one.results.iter().filter_map(sentence).collect()
}

fn failures(comparison: &Comparison, one: &ScenarioResult) -> Vec<String> {
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
