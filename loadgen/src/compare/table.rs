//! A comparison as text for the terminal.

use std::fmt::Write;

use super::result::{Comparison, ScenarioResult, StepResult, TargetResult, ratio};
use super::scale::{short, times};

/// One line for each target of a scenario.
#[must_use]
pub fn scenario(compared: &ScenarioResult) -> String {
    let mut text = String::new();
    for outcome in compared.results.iter().chain(&compared.ceiling) {
        for stage in &outcome.steps {
            let at = stage.at.map_or(String::new(), |at| format!("@ {}", short(at)));
            let _ = match &stage.summary {
                Some(summary) => {
                    let figure = summary.figure;
                    let [median, low, high] = [figure.median, figure.low, figure.high]
                        .map(|value| compared.figure.show(value));
                    let unit = compared.figure.unit();
                    writeln!(
                        text,
                        "  {:<12}{at:<10}{median:>9} {unit}  ({low} to {high})",
                        outcome.target
                    )
                }
                None => writeln!(text, "  {:<12}{at:<10}  {}", outcome.target, absence(stage)),
            };
        }
    }
    text
}

/// Why there is no figure.
fn absence(stage: &StepResult) -> String {
    match &stage.unsupported {
        Some(sentence) => format!("not supported: {sentence}"),
        None if stage.failures.is_empty() => "not run".to_owned(),
        None => "failed".to_owned(),
    }
}

/// One line for each scenario, one block for each swept one, and the reasons of targets that do not
/// support a scenario.
#[must_use]
pub fn table(comparison: &Comparison) -> String {
    let mut text = format!("\n{}\n{}\n\n", comparison.machine, comparison.date);
    let wide = comparison.scenarios.iter().map(|one| one.name.len()).max().unwrap_or(0);
    let _ = write!(text, "{:wide$}", "");
    for target in &comparison.targets {
        let _ = write!(text, "{:>12}", target.name);
    }
    let _ = writeln!(text, "{:>10}{:>10}", "times", "of relay");
    for one in &comparison.scenarios {
        if one.swept.is_some() {
            let _ = write!(text, "{}\n{}", one.name, scenario(one));
        } else {
            let _ = writeln!(text, "{}", row(one, wide));
        }
    }
    for sentence in comparison.scenarios.iter().flat_map(unsupported) {
        let _ = writeln!(text, "{sentence}");
    }
    let _ = write!(text, "{}", relay(comparison));
    if let Some(ended) = &comparison.ended {
        let _ = writeln!(text, "{ended}: these are the rounds finished until then");
    }
    text
}

/// The relay's throughput as a share of the socket baseline.
fn relay(comparison: &Comparison) -> String {
    let share = |one: &ScenarioResult| {
        let share = 100.0 * one.relay_share_of_baseline()?;
        Some(format!("{} {share:.0} %", one.name))
    };
    let shares: Vec<String> = comparison.scenarios.iter().filter_map(share).collect();
    match shares.as_slice() {
        [] => String::new(),
        shares => {
            format!("relay throughput as a share of the socket baseline: {}\n", shares.join(", "))
        }
    }
}

fn unsupported(one: &ScenarioResult) -> impl Iterator<Item = String> {
    let refused = |outcome: &TargetResult| {
        let sentence = outcome.steps.iter().find_map(|stage| stage.unsupported.clone())?;
        Some(format!("{}: not supported by {}: {sentence}", one.name, outcome.target))
    };
    one.results.iter().filter_map(refused)
}

fn row(one: &ScenarioResult, wide: usize) -> String {
    let mut text = format!("{:wide$}", one.name);
    for outcome in &one.results {
        let figure = match (outcome.only(), outcome.steps.first()) {
            (Some(only), _) => one.figure.show(only.figure.median),
            (None, Some(StepResult { unsupported: Some(_), .. })) => "unsupported".to_owned(),
            (None, Some(stage)) => absence(stage),
            (None, None) => "not run".to_owned(),
        };
        let _ = write!(text, "{figure:>12}");
    }
    let ratio = ratio(one, 0, 1).map_or(String::new(), times);
    let _ = write!(text, "{ratio:>10}{:>10}  {}", share(one), one.figure.unit());
    text
}

fn share(one: &ScenarioResult) -> String {
    let relay = one.ceiling.as_ref().and_then(TargetResult::only);
    let first = one.results.first().and_then(TargetResult::only);
    match (first, relay) {
        (Some(first), Some(relay)) if relay.figure.median > 0.0 => {
            format!("{:.0} %", 100.0 * first.figure.median / relay.figure.median)
        }
        _ => String::new(),
    }
}
