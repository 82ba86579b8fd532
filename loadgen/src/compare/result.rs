//! What a comparison found: every run, and what the runs say together.

use serde::{Deserialize, Serialize};

use super::scale::{short, span};
use super::scenario::Figure;
use crate::latency::Percentiles;
use crate::report::Report;

/// The whole of it; this is the JSON.
#[derive(Debug, Deserialize, Serialize)]
pub struct Comparison {
    /// When it was begun, UTC.
    pub date: String,
    /// Processor, memory and kernel.
    pub machine: String,
    /// The generator's version.
    pub loadgen: String,
    /// How often each run was made.
    pub rounds: usize,
    /// What ended it early, if something did: rounds are fewer and scenarios lack then.
    pub ended: Option<String>,
    /// Who was compared; the first is what the others are compared with.
    pub targets: Vec<TargetInfo>,
    /// What was run.
    pub scenarios: Vec<Compared>,
}

/// A broker as it named itself.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct TargetInfo {
    /// The name given to it.
    pub name: String,
    /// Host and port.
    pub address: String,
    /// Product and version, from its server-properties.
    pub product: String,
}

/// One scenario with the results of all targets.
#[derive(Debug, Deserialize, Serialize)]
pub struct Compared {
    /// The scenario's name.
    pub name: String,
    /// A line for people.
    pub title: String,
    /// What it shows.
    pub about: String,
    /// What it is judged by.
    pub figure: Figure,
    /// The command of loadgen and its flags, the swept one left out.
    pub flags: String,
    /// The flag that was swept.
    pub swept: Option<String>,
    /// In the order of the targets.
    pub results: Vec<Outcome>,
    /// The relay's, if it ran.
    pub ceiling: Option<Outcome>,
}

/// What one target did in one scenario.
#[derive(Debug, Default, Deserialize, Serialize)]
pub struct Outcome {
    /// Its name.
    pub target: String,
    /// One for each value of the swept flag, else one.
    pub steps: Vec<Stage>,
}

/// All rounds of one run.
#[derive(Debug, Default, Deserialize, Serialize)]
pub struct Stage {
    /// The value of the swept flag.
    pub at: Option<f64>,
    /// What the rounds say together.
    pub summary: Option<Summary>,
    /// The broker's words, if it does not do what the scenario asks for; then nothing was run.
    pub unsupported: Option<String>,
    /// What went wrong, round by round.
    pub failures: Vec<String>,
    /// Each round; what is read back has only the summary.
    #[serde(skip_deserializing)]
    pub runs: Vec<Report>,
}

/// Medians over the rounds.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct Summary {
    /// Of the scenario's figure.
    pub figure: Spread,
    /// Messages received a second.
    pub received: Spread,
    /// From end to end (µs), each percentile's median.
    pub latency_us: Option<Percentiles>,
    /// Until the confirm (µs), each percentile's median.
    pub confirm_latency_us: Option<Percentiles>,
    /// The relay's part of what a bare pair of sockets carries.
    pub of_pair: Option<f64>,
    /// Nanoseconds of the broker's CPU for one message.
    pub broker_ns: Option<f64>,
    /// The broker's resident memory at its highest (octets).
    pub broker_rss: Option<f64>,
}

/// A median with the least and the greatest.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize)]
pub struct Spread {
    /// The middle one; of an even number the mean of the two.
    pub median: f64,
    /// The least.
    pub low: f64,
    /// The greatest.
    pub high: f64,
}

impl Figure {
    /// What it is counted in.
    #[must_use]
    pub fn unit(self) -> &'static str {
        match self {
            Figure::Received => "messages/s received",
            Figure::Sent => "messages/s sent",
            Figure::Latency => "p99 end to end",
            Figure::ConfirmLatency => "p99 to the confirm",
            Figure::Operations => "operations/s",
        }
    }

    /// A figure as people read it, without the unit of a rate.
    #[must_use]
    pub fn show(self, figure: f64) -> String {
        if self.is_latency() { span(figure) } else { short(figure) }
    }

    /// Whether less is better.
    #[must_use]
    pub fn is_latency(self) -> bool {
        matches!(self, Figure::Latency | Figure::ConfirmLatency)
    }

    fn of(self, report: &Report) -> Option<f64> {
        match self {
            Figure::Received => Some(report.received.rate),
            Figure::Sent => Some(report.sent.rate),
            Figure::Latency => report.latency_us.map(|seen| seen.p99),
            Figure::ConfirmLatency => report.confirm_latency_us.map(|seen| seen.p99),
            Figure::Operations => report.churn.as_ref().map(|churn| churn.rate),
        }
    }
}

impl Spread {
    /// Of figures that are all finite; `None` if there are none.
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

impl Stage {
    fn has_rounds(&self) -> bool {
        self.unsupported.is_some() || !self.runs.is_empty() || !self.failures.is_empty()
    }

    /// Draws the rounds together.
    pub fn conclude(&mut self, figure: Figure) {
        let runs = &self.runs;
        let figures = runs.iter().filter_map(|run| figure.of(run)).collect();
        let received = runs.iter().map(|run| run.received.rate).collect();
        self.summary =
            Spread::of(figures).zip(Spread::of(received)).map(|(figure, received)| Summary {
                figure,
                received,
                latency_us: medians(runs.iter().filter_map(|run| run.latency_us)),
                confirm_latency_us: medians(runs.iter().filter_map(|run| run.confirm_latency_us)),
                of_pair: Spread::median_of(
                    runs.iter().map(|run| run.beside.map(|beside| beside.share)),
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

impl Compared {
    /// Whether any round of any target came to its end, well or not.
    #[must_use]
    pub fn has_rounds(&self) -> bool {
        let stages = self.results.iter().chain(&self.ceiling).flat_map(|outcome| &outcome.steps);
        stages.into_iter().any(Stage::has_rounds)
    }
}

impl Compared {
    /// The relay's part of what a bare pair of sockets carries on the same cores, if it ran.
    #[must_use]
    pub fn relay_of_pair(&self) -> Option<f64> {
        self.ceiling.as_ref().and_then(Outcome::only)?.of_pair
    }
}

impl Outcome {
    /// Of a scenario that is not swept.
    #[must_use]
    pub fn only(&self) -> Option<&Summary> {
        self.steps.first().and_then(|stage| stage.summary.as_ref())
    }
}

/// Each percentile's median over the rounds.
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
    fn the_middle_and_the_ends() {
        assert_eq!(Spread::of(vec![]), None);
        let one = Spread::of(vec![4.0]);
        assert_eq!(one, Some(Spread { median: 4.0, low: 4.0, high: 4.0 }));
        let three = Spread::of(vec![9.0, 1.0, 4.0]);
        assert_eq!(three, Some(Spread { median: 4.0, low: 1.0, high: 9.0 }));
        let four = Spread::of(vec![9.0, 1.0, 4.0, 5.0]);
        assert_eq!(four, Some(Spread { median: 4.5, low: 1.0, high: 9.0 }));
    }
}
