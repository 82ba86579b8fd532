//! What a run shows while it runs, and keeps: one entry a second.

use std::io::{IsTerminal, Write};

use serde::Serialize;

use crate::broker::Watch;
use crate::clock::SECOND;
use crate::plan::Plan;
use crate::shared::Sums;

/// One second of a run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Second {
    /// Since the first message was due (s).
    pub at: f64,
    /// Messages sent a second since the entry before.
    pub sent: f64,
    /// Messages received a second.
    pub received: f64,
    /// Messages confirmed a second.
    pub confirmed: f64,
    /// The broker's resident memory (octets), if its process is known.
    pub broker_rss: Option<u64>,
}

/// Keeps the entries and shows them.
#[derive(Debug)]
pub struct Live {
    plan: Plan,
    shown: Shown,
    confirms: bool,
    watch: Option<Watch>,
    last: Sums,
    last_at: u64,
    seconds: Vec<Second>,
}

/// How entries are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    Not,
    /// A line each.
    Lines,
    /// One line that changes.
    OneLine,
}

impl Live {
    /// Shows on the standard error output unless `quiet`; confirms only if there are any.
    #[must_use]
    pub fn new(plan: Plan, quiet: bool, confirms: bool, watch: Option<Watch>) -> Self {
        let shown = match (quiet, std::io::stderr().is_terminal()) {
            (true, _) => Shown::Not,
            (false, true) => Shown::OneLine,
            (false, false) => Shown::Lines,
        };
        let (last, last_at) = (Sums::default(), plan.start);
        Self { plan, shown, confirms, watch, last, last_at, seconds: Vec::new() }
    }

    /// When the next entry is due (ns).
    #[must_use]
    pub fn next(&self) -> u64 {
        self.last_at + SECOND
    }

    /// Makes an entry, if a second is over.
    pub fn look(&mut self, now: u64, sums: Sums) {
        let Some(span) = now.checked_sub(self.last_at).filter(|&span| span >= SECOND) else {
            return;
        };
        let rate =
            |now: u64, before: u64| now.saturating_sub(before) as f64 * SECOND as f64 / span as f64;
        let second = Second {
            at: (now - self.plan.start) as f64 / SECOND as f64,
            sent: rate(sums.sent, self.last.sent),
            received: rate(sums.received, self.last.received),
            confirmed: rate(sums.confirmed, self.last.confirmed),
            broker_rss: self.watch.as_mut().and_then(Watch::look).map(|usage| usage.rss),
        };
        self.show(now, &second);
        self.seconds.push(second);
        (self.last, self.last_at) = (sums, now);
    }

    fn show(&self, now: u64, second: &Second) {
        let Second { at, sent, received, confirmed, .. } = *second;
        let mut text =
            format!("{at:6.1} s{}: sent {sent:.0}/s, received {received:.0}/s", self.of());
        if self.confirms {
            text += &format!(", confirmed {confirmed:.0}/s");
        }
        if now <= self.plan.measure_from {
            text += " (warm-up)";
        }
        let mut stderr = std::io::stderr();
        // There is nobody to tell that the error output is gone.
        let _ = match self.shown {
            Shown::Not => Ok(()),
            Shown::Lines => writeln!(stderr, "{text}"),
            Shown::OneLine => write!(stderr, "\r{text}\x1b[K").and_then(|()| stderr.flush()),
        };
    }

    /// How long the run publishes, if that is known.
    fn of(&self) -> String {
        match self.plan.stop {
            u64::MAX => String::new(),
            stop => format!(" of {:.0}", (stop - self.plan.start) as f64 / SECOND as f64),
        }
    }

    /// All entries, and the watch over the broker.
    #[must_use]
    pub fn end(self) -> (Vec<Second>, Option<Watch>) {
        if self.shown == Shown::OneLine && !self.seconds.is_empty() {
            eprintln!();
        }
        (self.seconds, self.watch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_a_second() {
        let (start, measure_from, stop) = (0, 0, 3 * SECOND);
        let plan = Plan {
            start,
            measure_from,
            stop,
            producers: 1,
            polite: true,
            spin: false,
            gives_back: false,
        };
        let mut live = Live::new(plan, true, false, None);
        let sums = |sent| Sums { sent, ..Sums::default() };
        live.look(SECOND / 2, sums(50));
        live.look(SECOND, sums(100));
        assert_eq!(live.next(), 2 * SECOND);
        live.look(3 * SECOND, sums(500));
        let (seconds, _) = live.end();
        assert_eq!(seconds.iter().map(|second| second.sent).collect::<Vec<_>>(), [100.0, 200.0]);
        assert_eq!(seconds[1].at, 3.0);
    }
}
