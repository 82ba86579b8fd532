//! The results of a comparison: every run, and the medians over the rounds.

use serde::{Deserialize, Serialize};

use super::scale::{short, span};
use super::scenario::ScenarioFigure;
use crate::measure::latency::Percentiles;
use crate::report::load_report::LoadReport;

/// A whole comparison, as written to JSON.
#[derive(Debug, Deserialize, Serialize)]
pub struct Comparison {
    /// When it started, UTC.
    pub date: String,
    /// Processor, memory and kernel.
    pub machine: String,
    /// The version of loadgen.
    pub loadgen: String,
    /// How often each run was repeated.
    pub rounds: usize,
    /// What ended the comparison early, if anything did: then rounds or scenarios are missing.
    pub ended: Option<String>,
    /// The targets; the first is compared with the others.
    pub targets: Vec<TargetInfo>,
    /// The results of the scenarios.
    pub scenarios: Vec<ScenarioResult>,
}

/// A broker with its product name.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct TargetInfo {
    /// The name on the command line.
    pub name: String,
    /// Host and port.
    pub address: String,
    /// Product and version, from its server-properties.
    pub product: String,
}

/// One scenario with the results of all targets.
#[derive(Debug, Deserialize, Serialize)]
pub struct ScenarioResult {
    /// The name of the scenario.
    pub name: String,
    /// Its title.
    pub title: String,
    /// What it measures.
    pub about: String,
    /// The figure that is compared.
    pub figure: ScenarioFigure,
    /// The command of loadgen and its flags without the swept one.
    pub flags: String,
    /// The swept flag.
    pub swept: Option<String>,
    /// The results in the order of the targets.
    pub results: Vec<TargetResult>,
    /// The results of the relay, if it ran.
    pub ceiling: Option<TargetResult>,
}

/// The results of one target in one scenario.
#[derive(Debug, Default, Deserialize, Serialize)]
pub struct TargetResult {
    /// The name of the target.
    pub target: String,
    /// One for each value of the swept flag, else one.
    pub steps: Vec<StepResult>,
}

/// All rounds of one run.
#[derive(Debug, Default, Deserialize, Serialize)]
pub struct StepResult {
    /// The value of the swept flag.
    pub at: Option<f64>,
    /// The medians over the rounds.
    pub summary: Option<RoundsSummary>,
    /// Why the broker does not support the scenario, in its words. Then nothing was run.
    pub unsupported: Option<String>,
    /// The errors of failed rounds.
    pub failures: Vec<String>,
    /// The report of each round. They are written to JSON, but not read back.
    #[serde(skip_deserializing)]
    pub runs: Vec<LoadReport>,
}

/// Medians over the rounds.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct RoundsSummary {
    /// The figure of the scenario.
    pub figure: Spread,
    /// Messages received per second.
    pub received: Spread,
    /// End-to-end latency (µs), the median of each percentile.
    pub latency_us: Option<Percentiles>,
    /// Confirm latency (µs), the median of each percentile.
    pub confirm_latency_us: Option<Percentiles>,
    /// The relay's throughput divided by that of the socket baseline.
    #[serde(rename = "of_pair")]
    pub relay_share: Option<f64>,
    /// The broker's CPU time per message (ns).
    pub broker_ns: Option<f64>,
    /// The broker's greatest resident memory (bytes).
    pub broker_rss: Option<f64>,
}

/// A median with minimum and maximum.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize)]
pub struct Spread {
    /// The median; of an even number the mean of the middle two.
    pub median: f64,
    /// The minimum.
    pub low: f64,
    /// The maximum.
    pub high: f64,
}

impl ScenarioFigure {
    /// The unit, with what is measured.
    #[must_use]
    pub fn unit(self) -> &'static str {
        match self {
            ScenarioFigure::Received => "messages/s received",
            ScenarioFigure::Sent => "messages/s sent",
            ScenarioFigure::Latency => "p99 end-to-end latency",
            ScenarioFigure::ConfirmLatency => "p99 confirm latency",
            ScenarioFigure::Operations => "operations/s",
        }
    }

    /// The figure as text, without the unit of a rate.
    #[must_use]
    pub fn show(self, figure: f64) -> String {
        if self.is_latency() { span(figure) } else { short(figure) }
    }

    /// True for latencies, where less is better.
    #[must_use]
    pub fn is_latency(self) -> bool {
        matches!(self, ScenarioFigure::Latency | ScenarioFigure::ConfirmLatency)
    }

    fn of(self, report: &LoadReport) -> Option<f64> {
        match self {
            ScenarioFigure::Received => Some(report.received.rate),
            ScenarioFigure::Sent => Some(report.sent.rate),
            ScenarioFigure::Latency => report.latency_us.map(|seen| seen.p99),
            ScenarioFigure::ConfirmLatency => report.confirm_latency_us.map(|seen| seen.p99),
            ScenarioFigure::Operations => report.churn.as_ref().map(|churn| churn.rate),
        }
    }
}

impl Spread {
    /// The spread of finite figures; `None` if there are none.
    #[must_use]
    pub fn of(mut figures: Vec<f64>) -> Option<Self> {
        figures.sort_by(f64::total_cmp);
        let (low, high) = (*figures.first()?, *figures.last()?);
        let (below, above) =
            (figures.get((figures.len() - 1) / 2)?, figures.get(figures.len() / 2)?);
        Some(Self { median: (below + above) / 2.0, low, high })
    }

    fn median_of(figures: impl Iterator<Item = Option<f64>>) -> Option<f64> {
        Self::of(figures.flatten().collect()).map(|spread| spread.median)
    }
}

impl StepResult {
    fn has_rounds(&self) -> bool {
        self.unsupported.is_some() || !self.runs.is_empty() || !self.failures.is_empty()
    }

    /// Summarizes the rounds.
    pub fn conclude(&mut self, figure: ScenarioFigure) {
        let runs = &self.runs;
        let figures = runs.iter().filter_map(|run| figure.of(run)).collect();
        let received = runs.iter().map(|run| run.received.rate).collect();
        self.summary =
            Spread::of(figures).zip(Spread::of(received)).map(|(figure, received)| RoundsSummary {
                figure,
                received,
                latency_us: medians(runs.iter().filter_map(|run| run.latency_us)),
                confirm_latency_us: medians(runs.iter().filter_map(|run| run.confirm_latency_us)),
                relay_share: Spread::median_of(
                    runs.iter().map(|run| run.relay_efficiency.map(|one| one.share)),
                ),
                broker_ns: Spread::median_of(
                    runs.iter().map(|run| run.broker.map(|broker| broker.cpu_ns_per_message)),
                ),
                broker_rss: Spread::median_of(
                    runs.iter().map(|run| run.broker.map(|broker| broker.rss_max as f64)),
                ),
            });
    }
}

impl ScenarioResult {
    /// True if any target finished a round, successfully or not.
    #[must_use]
    pub fn has_rounds(&self) -> bool {
        let stages = self.results.iter().chain(&self.ceiling).flat_map(|outcome| &outcome.steps);
        stages.into_iter().any(StepResult::has_rounds)
    }
}

impl ScenarioResult {
    /// The relay's throughput divided by that of the socket baseline on the same cores, if it ran.
    #[must_use]
    pub fn relay_share_of_baseline(&self) -> Option<f64> {
        self.ceiling.as_ref().and_then(TargetResult::only)?.relay_share
    }
}

impl TargetResult {
    /// The summary of a scenario without a swept flag.
    #[must_use]
    pub fn only(&self) -> Option<&RoundsSummary> {
        self.steps.first().and_then(|stage| stage.summary.as_ref())
    }
}

/// How many times better one target is than another: higher rate or lower latency.
#[must_use]
pub fn ratio(compared: &ScenarioResult, one: usize, other: usize) -> Option<f64> {
    let figure = |number: usize| {
        let figure = compared.results.get(number)?.only()?.figure.median;
        (figure > 0.0 && compared.swept.is_none()).then_some(figure)
    };
    let (one, other) = (figure(one)?, figure(other)?);
    Some(if compared.figure.is_latency() { other / one } else { one / other })
}

/// The median of each percentile over the rounds.
fn medians(rounds: impl Iterator<Item = Percentiles>) -> Option<Percentiles> {
    let rounds: Vec<Percentiles> = rounds.collect();
    let of = |pick: fn(&Percentiles) -> f64| {
        Spread::of(rounds.iter().map(pick).collect()).map(|spread| spread.median)
    };
    Some(Percentiles {
        count: rounds.iter().map(|seen| seen.count).sum(),
        min: of(|seen| seen.min)?,
        p50: of(|seen| seen.p50)?,
        p75: of(|seen| seen.p75)?,
        p95: of(|seen| seen.p95)?,
        p99: of(|seen| seen.p99)?,
        p99_9: of(|seen| seen.p99_9)?,
        p99_99: of(|seen| seen.p99_99)?,
        max: of(|seen| seen.max)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_has_median_minimum_and_maximum() {
        assert_eq!(Spread::of(vec![]), None);
        let one = Spread::of(vec![4.0]);
        assert_eq!(one, Some(Spread { median: 4.0, low: 4.0, high: 4.0 }));
        let three = Spread::of(vec![9.0, 1.0, 4.0]);
        assert_eq!(three, Some(Spread { median: 4.0, low: 1.0, high: 9.0 }));
        let four = Spread::of(vec![9.0, 1.0, 4.0, 5.0]);
        assert_eq!(four, Some(Spread { median: 4.5, low: 1.0, high: 9.0 }));
    }
}
