//! What a run found, as a table or as one JSON object.

use crate::measure::hgrm::LatencyHistograms;
use crate::report::message_account::MessageAccount;
use crate::report::run_totals::RunTotals;
use std::fmt::{self, Display, Formatter};

use serde::Serialize;

use crate::cli::message::MessageArgs;
use crate::measure::latency::{LatencyRecorder, Percentiles};
use crate::report::baselines::FsyncFigures;
use crate::report::baselines::RelayEfficiency;
use crate::report::figures::SecondFigures;
use crate::report::figures::{ChurnFigures, CpuPerMessage, Throughput};
use crate::system::error::LoadgenError;
use crate::system::interrupt;
use crate::system::process_usage::BrokerUsage;

/// What a run found.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct LoadReport {
    /// `run`, `ceiling` or `churn`.
    pub command: &'static str,
    /// Why the run was cut short, if it was: then the report covers only the time until then.
    pub broken: Option<String>,
    /// The signal that ended the run.
    #[serde(skip)]
    pub signal: Option<i32>,
    /// The mean body size in bytes.
    pub size: f64,
    /// The rate of each producer (messages per second).
    pub rate: Option<f64>,
    /// Messages sent after the warm-up.
    pub sent: Throughput,
    /// Messages received after the warm-up.
    pub received: Throughput,
    /// From the intended send time to the receipt, in microseconds.
    pub latency_us: Option<Percentiles>,
    /// From the intended send time to the confirm, in microseconds.
    pub confirm_latency_us: Option<Percentiles>,
    /// What became of every message.
    pub account: MessageAccount,
    /// True if every consumer received the messages of each producer in order.
    pub order_kept: bool,
    /// CPU time over the whole run.
    pub cpu: CpuPerMessage,
    /// The relay compared with the socket baseline, if it ran without a limit.
    #[serde(rename = "beside")]
    pub relay_efficiency: Option<RelayEfficiency>,
    /// What the broker used, if its process is known.
    pub broker: Option<BrokerUsage>,
    /// The figures of `loadgen churn`.
    pub churn: Option<ChurnFigures>,
    /// The figures of `loadgen ceiling --sync`.
    #[serde(rename = "synced")]
    pub fsync: Option<FsyncFigures>,
    /// One entry per second, warm-up included.
    pub seconds: Vec<SecondFigures>,
    /// All recorded latencies.
    #[serde(skip)]
    pub histograms: LatencyHistograms,
    /// Remarks for the reader.
    pub notes: Vec<String>,
}

impl LoadReport {
    /// The report of a run or a ceiling.
    #[must_use]
    pub fn new(command: &'static str, message: &MessageArgs, totals: RunTotals) -> Self {
        let (account, size, notes) =
            (MessageAccount::new(&totals), message.size.mean(), notes(&totals));
        let cpu = CpuPerMessage::new(totals.messages(), totals.workers.cpu, totals.relay_cpu);
        let (measure_from, mut workers) = (totals.measure_from, totals.workers);
        Self {
            command,
            broken: totals.broken,
            signal: totals.signal,
            size,
            rate: message.rate,
            sent: Throughput::new(workers.sent, measure_from, size),
            received: Throughput::new(workers.received, measure_from, size),
            latency_us: workers.latency.percentiles(),
            confirm_latency_us: workers.confirm_latency.percentiles(),
            histograms: LatencyHistograms {
                latency: workers.latency,
                confirm: workers.confirm_latency,
            },
            account,
            order_kept: account.out_of_order == 0,
            cpu,
            relay_efficiency: None,
            broker: totals.broker,
            churn: None,
            fsync: None,
            seconds: totals.seconds,
            notes,
        }
    }
}

impl LoadReport {
    /// The report of a churn run: operations instead of messages.
    #[must_use]
    pub fn of_churn(
        churn: ChurnFigures,
        mut latency: LatencyRecorder,
        broker: Option<BrokerUsage>,
    ) -> Self {
        let latency_us = latency.percentiles();
        let histograms = LatencyHistograms { latency, ..LatencyHistograms::default() };
        let order_kept = true;
        let churn = Some(churn);
        Self {
            command: "churn",
            latency_us,
            broker,
            churn,
            histograms,
            order_kept,
            ..Self::default()
        }
    }

    /// The report of an fsync baseline: syncs instead of messages.
    #[must_use]
    pub fn of_disk(
        message: &MessageArgs,
        fsync: FsyncFigures,
        mut latency: LatencyRecorder,
    ) -> Self {
        let mut report = Self {
            command: "ceiling",
            size: message.size.mean(),
            latency_us: latency.percentiles(),
            fsync: Some(fsync),
            histograms: LatencyHistograms { latency, ..LatencyHistograms::default() },
            order_kept: true,
            ..Self::default()
        };
        report.mark_interrupted();
        report
    }

    /// Marks the report as cut short if a signal was received.
    pub fn mark_interrupted(&mut self) {
        if let Err(failure @ LoadgenError::Interrupted(signal)) = interrupt::check() {
            (self.signal, self.broken) = (Some(signal), Some(failure.to_string()));
        }
    }

    /// Returns the report if the run was not cut short and no message is missing.
    ///
    /// # Errors
    /// Why it was cut short, or how many messages are missing.
    pub fn complete(self) -> Result<Self, LoadgenError> {
        if let Some(signal) = self.signal {
            return Err(LoadgenError::Interrupted(signal));
        }
        if let Some(reason) = self.broken {
            return Err(LoadgenError::Broken(reason));
        }
        match self.account.missing {
            0 => Ok(self),
            missing => Err(LoadgenError::Missing(missing)),
        }
    }
}

fn notes(totals: &RunTotals) -> Vec<String> {
    let mut notes = Vec::new();
    if totals.workers.unsent > 0 {
        notes.push(format!(
            "{} messages were due but not sent in time, so the latencies do not include \
             them; lower --rate or raise --confirm",
            totals.workers.unsent
        ));
    }
    if totals.broken.is_some() && totals.missing() > 0 {
        notes.push(
            "missing messages were in flight or in a queue when the run was cut short".to_owned(),
        );
    }
    if totals.workers.idle_lost > 0 {
        notes.push(format!(
            "{} idle connections were ended by the broker",
            totals.workers.idle_lost
        ));
    }
    if totals.workers.unanswered > 0 && totals.broken.is_none() {
        notes.push(format!("{} connections were not closed in time", totals.workers.unanswered));
    }
    notes
}

impl Display for LoadReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some(reason) = &self.broken {
            writeln!(f, "\nCUT SHORT: {reason}\nresults until then:")?;
        }
        if let Some(churn) = &self.churn {
            let ChurnFigures { operations, seconds, rate } = churn;
            writeln!(f, "\n{operations} operations in {seconds:.2} s, {rate:.0} per second")?;
            write_heads(f)?;
            write_latency(f, "operation", self.latency_us)?;
            return self.broker.as_ref().map_or(Ok(()), |broker| broker.fmt(f));
        }
        if let Some(fsync) = &self.fsync {
            fsync.fmt(f)?;
            write_heads(f)?;
            return write_latency(f, "sync", self.latency_us);
        }
        writeln!(f, "\n            messages      seconds   messages/s         MB/s")?;
        for (name, flow) in [("sent", self.sent), ("received", self.received)] {
            let Throughput { messages, seconds, rate, megabytes } = flow;
            writeln!(f, "{name:<8}{messages:>12}{seconds:>13.2}{rate:>13.0}{megabytes:>13.2}")?;
        }
        if self.latency_us.is_some() || self.confirm_latency_us.is_some() {
            write_heads(f)?;
        }
        write_latency(f, "end to end", self.latency_us)?;
        write_latency(f, "confirm", self.confirm_latency_us)?;
        self.account.fmt(f)?;
        self.cpu.fmt(f)?;
        if let Some(relay_efficiency) = &self.relay_efficiency {
            relay_efficiency.fmt(f)?;
        }
        if let Some(broker) = &self.broker {
            broker.fmt(f)?;
        }
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        Ok(())
    }
}

fn write_heads(f: &mut Formatter<'_>) -> fmt::Result {
    write!(f, "\n{:<12}", "µs")?;
    for name in ["min", "p50", "p75", "p95", "p99", "p99.9", "p99.99", "max"] {
        write!(f, "{name:>11}")?;
    }
    writeln!(f)
}

fn write_latency(f: &mut Formatter<'_>, name: &str, seen: Option<Percentiles>) -> fmt::Result {
    let Some(seen) = seen else { return Ok(()) };
    write!(f, "{name:<12}")?;
    let Percentiles { min, p50, p75, p95, p99, p99_9, p99_99, max, .. } = seen;
    for value in [min, p50, p75, p95, p99, p99_9, p99_99, max] {
        write!(f, "{value:>11.1}")?;
    }
    writeln!(f)
}
