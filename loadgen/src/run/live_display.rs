//! Progress of a run: one entry per second, kept for the report and shown on standard error.

use crate::report::figures::SecondFigures;
use std::io::{IsTerminal, Write};

use crate::system::clock::SECOND;
use crate::system::process_usage::UsageMonitor;
use crate::worker::plan::RunPlan;
use crate::worker::run_state::CounterTotals;

/// Keeps the entries and shows them.
#[derive(Debug)]
pub struct LiveDisplay {
    plan: RunPlan,
    shown: DisplayMode,
    confirms: bool,
    monitor: Option<UsageMonitor>,
    last: CounterTotals,
    last_at: u64,
    seconds: Vec<SecondFigures>,
}

/// How entries are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DisplayMode {
    Not,
    /// One line per entry.
    Lines,
    /// One line that is overwritten.
    OneLine,
}

impl LiveDisplay {
    /// Shows entries on standard error unless `quiet`; confirm rates only if `confirms`.
    #[must_use]
    pub fn new(plan: RunPlan, quiet: bool, confirms: bool, monitor: Option<UsageMonitor>) -> Self {
        let shown = match (quiet, std::io::stderr().is_terminal()) {
            (true, _) => DisplayMode::Not,
            (false, true) => DisplayMode::OneLine,
            (false, false) => DisplayMode::Lines,
        };
        let (last, last_at) = (CounterTotals::default(), plan.start);
        Self { plan, shown, confirms, monitor, last, last_at, seconds: Vec::new() }
    }

    /// When the next entry is due (ns).
    #[must_use]
    pub fn next(&self) -> u64 {
        self.last_at + SECOND
    }

    /// Makes an entry if a second has passed.
    pub fn update(&mut self, now: u64, totals: CounterTotals) {
        let Some(span) = now.checked_sub(self.last_at).filter(|&span| span >= SECOND) else {
            return;
        };
        let rate =
            |now: u64, before: u64| now.saturating_sub(before) as f64 * SECOND as f64 / span as f64;
        let second = SecondFigures {
            at: (now - self.plan.start) as f64 / SECOND as f64,
            sent: rate(totals.sent, self.last.sent),
            received: rate(totals.received, self.last.received),
            confirmed: rate(totals.confirmed, self.last.confirmed),
            broker_rss: self.monitor.as_mut().and_then(UsageMonitor::sample).map(|usage| usage.rss),
        };
        self.show(now, &second);
        self.seconds.push(second);
        (self.last, self.last_at) = (totals, now);
    }

    fn show(&self, now: u64, second: &SecondFigures) {
        let SecondFigures { at, sent, received, confirmed, .. } = *second;
        let mut text =
            format!("{at:6.1} s{}: sent {sent:.0}/s, received {received:.0}/s", self.of());
        if self.confirms {
            text += &format!(", confirmed {confirmed:.0}/s");
        }
        if now <= self.plan.measure_from {
            text += " (warm-up)";
        }
        let mut stderr = std::io::stderr();
        // Progress that cannot be shown is no reason to end the run.
        let _ = match self.shown {
            DisplayMode::Not => Ok(()),
            DisplayMode::Lines => writeln!(stderr, "{text}"),
            DisplayMode::OneLine => write!(stderr, "\r{text}\x1b[K").and_then(|()| stderr.flush()),
        };
    }

    /// How long the run publishes, if that is known.
    fn of(&self) -> String {
        match self.plan.stop {
            u64::MAX => String::new(),
            stop => format!(" of {:.0}", (stop - self.plan.start) as f64 / SECOND as f64),
        }
    }

    /// All entries, and the monitor of the broker.
    #[must_use]
    pub fn end(self) -> (Vec<SecondFigures>, Option<UsageMonitor>) {
        if self.shown == DisplayMode::OneLine && !self.seconds.is_empty() {
            eprintln!();
        }
        (self.seconds, self.monitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_entry_per_second() {
        let (start, measure_from, stop) = (0, 0, 3 * SECOND);
        let plan = RunPlan {
            start,
            measure_from,
            stop,
            producers: 1,
            peer_is_broker: true,
            spin: false,
            requeues: false,
        };
        let mut display = LiveDisplay::new(plan, true, false, None);
        let totals = |sent| CounterTotals { sent, ..CounterTotals::default() };
        display.update(SECOND / 2, totals(50));
        display.update(SECOND, totals(100));
        assert_eq!(display.next(), 2 * SECOND);
        display.update(3 * SECOND, totals(500));
        let (seconds, _) = display.end();
        assert_eq!(seconds.iter().map(|second| second.sent).collect::<Vec<_>>(), [100.0, 200.0]);
        assert_eq!(seconds[1].at, 3.0);
    }
}
