//! What a run found, as a table or as one JSON object.

use std::fmt::{self, Display, Formatter};

use serde::Serialize;

use crate::account::Account;
use crate::broker::Broker;
use crate::cli::MessageArgs;
use crate::failure::Failure;
use crate::figures::{Churn, Cpu, Flow};
use crate::interrupt;
use crate::latency::{Latency, Percentiles};
use crate::ledger::Measured;
use crate::live::Second;
use crate::pair::Beside;
use crate::plan::{Outcome, Plan};
use crate::synced::Synced;

/// The outcomes of all workers together.
#[derive(Debug)]
pub struct Tally {
    /// Who got what.
    pub account: Account,
    /// Messages of this run that are left in the queues.
    pub left: u64,
    plan: Plan,
    latency: Latency,
    confirm_latency: Latency,
    received: Measured,
    sent: Measured,
    written: u64,
    expected: u64,
    nowhere: u64,
    dropped: u64,
    requeued: u64,
    idle_lost: u64,
    unsent: u64,
    returned: u64,
    confirmed: u64,
    nacked: u64,
    unconfirmed: u64,
    unanswered: u64,
    generator_cpu: u64,
    /// Messages that waited in the queues when a run without producers began.
    pub filled: Option<u64>,
    /// The queues may discard messages, so that none of them can be told for missing.
    pub may_discard: bool,
    /// The run broke off: what is missing may have been under way.
    pub broken: Option<String>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// CPU time of the relay's thread (ns), if there was a relay.
    pub relay_cpu: Option<u64>,
    /// What the broker used, if its process is known.
    pub broker: Option<Broker>,
    /// One entry for each second.
    pub seconds: Vec<Second>,
}

impl Tally {
    /// Adds the outcomes up.
    #[must_use]
    pub fn new(outcomes: Vec<Outcome>, plan: Plan) -> Self {
        let mut tally = Self {
            account: Account::default(),
            left: 0,
            plan,
            latency: Latency::new(),
            confirm_latency: Latency::new(),
            received: Measured::default(),
            sent: Measured::default(),
            written: 0,
            expected: 0,
            nowhere: 0,
            dropped: 0,
            requeued: 0,
            idle_lost: 0,
            filled: None,
            may_discard: false,
            broken: None,
            signal: None,
            unsent: 0,
            returned: 0,
            confirmed: 0,
            nacked: 0,
            unconfirmed: 0,
            unanswered: 0,
            generator_cpu: 0,
            relay_cpu: None,
            broker: None,
            seconds: Vec::new(),
        };
        for outcome in outcomes {
            tally.add(outcome);
        }
        tally.account.settle(tally.requeued);
        tally
    }

    fn add(&mut self, outcome: Outcome) {
        self.account.add(outcome.account);
        self.latency.add(outcome.latency);
        self.confirm_latency.add(outcome.confirm_latency);
        self.received.merge(outcome.received);
        self.sent.merge(outcome.sent);
        self.written += outcome.written;
        self.expected += outcome.expected;
        self.nowhere += outcome.nowhere;
        self.dropped += outcome.dropped;
        self.requeued += outcome.requeued;
        self.idle_lost += outcome.idle_lost;
        self.unsent += outcome.unsent;
        self.returned += outcome.returned;
        self.confirmed += outcome.confirmed;
        self.nacked += outcome.nacked;
        self.unconfirmed += outcome.unconfirmed;
        self.unanswered += outcome.unanswered;
        self.generator_cpu += outcome.cpu;
    }

    /// How the run ended; if early, only what was seen until then is here.
    pub fn ended(&mut self, ended: Result<(), Failure>) {
        let failure = ended.err();
        self.broken = failure.as_ref().map(ToString::to_string);
        self.signal = match failure {
            Some(Failure::Interrupted(signal)) => Some(signal),
            _ => None,
        };
    }

    /// Messages sent or received, whichever are more.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.written.max(self.account.received())
    }

    /// Deliveries to expect: of messages sent, or of what waited before.
    #[must_use]
    pub fn expected(&self) -> u64 {
        self.filled.unwrap_or(self.expected)
    }

    /// Deliveries expected that are nowhere. A run without producers or backlog cannot know, nor
    /// can one whose queues may discard.
    #[must_use]
    pub fn missing(&self) -> u64 {
        if self.may_discard { 0 } else { self.gone() }
    }

    fn gone(&self) -> u64 {
        let waiting = self.left - self.left_again();
        let found = self.account.received() + self.returned + self.nacked + waiting;
        self.expected().saturating_sub(found)
    }

    /// Messages left in the queues that a consumer had received and given back.
    fn left_again(&self) -> u64 {
        self.requeued.saturating_sub(self.account.again).min(self.left)
    }
}

/// Where every message of the whole run, warm-up included, has gone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Books {
    /// Messages written wholly.
    pub sent: u64,
    /// Deliveries to expect of them: one for each queue a message goes to.
    pub expected: u64,
    /// Messages that no queue was bound for.
    pub unroutable: u64,
    /// Different messages received, counted for each queue.
    pub received: u64,
    /// Came back, counted as the deliveries they were to be.
    pub returned: u64,
    /// Refused by the broker, counted in the same way.
    pub nacked: u64,
    /// In the queues at the end.
    pub left_in_queue: u64,
    /// Of these: received before and given back.
    pub left_again: u64,
    /// Expected, and nowhere.
    pub missing: u64,
    /// Expected, and nowhere, of queues whose arguments let them discard messages: expired or
    /// pushed out, and lost ones cannot be told from them.
    pub discarded: u64,
    /// Of the received: refused for good by a consumer.
    pub dropped: u64,
    /// Given back by a consumer, each time counted.
    pub requeued: u64,
    pub confirmed: u64,
    pub unconfirmed: u64,
    pub unsent: u64,
    pub duplicates: u64,
    pub redelivered: u64,
    pub out_of_order: u64,
    pub foreign: u64,
}

/// Latencies with all their values.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Histograms {
    /// From end to end, or of the operations of a churn.
    pub latency: Latency,
    /// To the confirm.
    pub confirm: Latency,
}

/// What a run found.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Report {
    /// `run` or `ceiling`.
    pub command: &'static str,
    /// Why the run broke off, if it did: then only what was seen until then is here.
    pub broken: Option<String>,
    /// The signal that ended it.
    #[serde(skip)]
    pub signal: Option<i32>,
    /// Octets of body, on average.
    pub size: f64,
    /// Messages a second each producer was to send.
    pub rate: Option<f64>,
    /// Sent after the warm-up.
    pub sent: Flow,
    /// Received after the warm-up.
    pub received: Flow,
    /// From the time a message was due to its receipt, in microseconds.
    pub latency_us: Option<Percentiles>,
    /// From the time a message was due to its confirm, in microseconds.
    pub confirm_latency_us: Option<Percentiles>,
    /// Where every message has gone.
    pub account: Books,
    /// Whether every consumer got the messages of each producer in order.
    pub order_kept: bool,
    /// CPU time, over the whole run.
    pub cpu: Cpu,
    /// The relay beside a bare pair of sockets, if it ran as fast as it could.
    pub beside: Option<Beside>,
    /// What the broker used, if its process is known.
    pub broker: Option<Broker>,
    /// What came of `loadgen churn`.
    pub churn: Option<Churn>,
    /// What came of `loadgen ceiling --sync`.
    pub synced: Option<Synced>,
    /// One entry for each second, warm-up included.
    pub seconds: Vec<Second>,
    /// Latencies as they were recorded.
    #[serde(skip)]
    pub histograms: Histograms,
    /// What else is to be known.
    pub notes: Vec<String>,
}

impl Report {
    /// Draws the tally up.
    #[must_use]
    pub fn new(command: &'static str, message: &MessageArgs, mut tally: Tally) -> Self {
        let (account, size, notes) = (books(&tally), message.size.mean(), notes(&tally));
        Self {
            command,
            broken: tally.broken.take(),
            signal: tally.signal,
            size,
            rate: message.rate,
            sent: Flow::new(tally.sent, tally.plan.measure_from, size),
            received: Flow::new(tally.received, tally.plan.measure_from, size),
            latency_us: tally.latency.percentiles(),
            confirm_latency_us: tally.confirm_latency.percentiles(),
            histograms: Histograms {
                latency: tally.latency.clone(),
                confirm: tally.confirm_latency.clone(),
            },
            account,
            order_kept: account.out_of_order == 0,
            cpu: Cpu::new(tally.messages(), tally.generator_cpu, tally.relay_cpu),
            beside: None,
            broker: tally.broker,
            churn: None,
            synced: None,
            seconds: std::mem::take(&mut tally.seconds),
            notes,
        }
    }
}

impl Report {
    /// Of a churn: its operations in place of messages.
    #[must_use]
    pub fn of_churn(churn: Churn, mut latency: Latency, broker: Option<Broker>) -> Self {
        let latency_us = latency.percentiles();
        let histograms = Histograms { latency, ..Histograms::default() };
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

    /// Of a disk: its syncs in place of messages.
    #[must_use]
    pub fn of_disk(message: &MessageArgs, synced: Synced, mut latency: Latency) -> Self {
        let mut report = Self {
            command: "ceiling",
            size: message.size.mean(),
            latency_us: latency.percentiles(),
            synced: Some(synced),
            histograms: Histograms { latency, ..Histograms::default() },
            order_kept: true,
            ..Self::default()
        };
        report.interrupted();
        report
    }

    /// What it shows was seen until a signal came, if one did.
    pub fn interrupted(&mut self) {
        if let Err(failure @ Failure::Interrupted(signal)) = interrupt::check() {
            (self.signal, self.broken) = (Some(signal), Some(failure.to_string()));
        }
    }

    /// Itself, if the run did not break off and no message is missing.
    ///
    /// # Errors
    /// Why it broke off, or how many are.
    pub fn complete(self) -> Result<Self, Failure> {
        if let Some(signal) = self.signal {
            return Err(Failure::Interrupted(signal));
        }
        if let Some(reason) = self.broken {
            return Err(Failure::Broken(reason));
        }
        match self.account.missing {
            0 => Ok(self),
            missing => Err(Failure::Missing(missing)),
        }
    }
}

fn books(tally: &Tally) -> Books {
    Books {
        sent: tally.written,
        expected: tally.expected(),
        unroutable: tally.nowhere,
        left_again: tally.left_again(),
        dropped: tally.dropped,
        requeued: tally.requeued,
        received: tally.account.received(),
        returned: tally.returned,
        nacked: tally.nacked,
        left_in_queue: tally.left,
        missing: tally.missing(),
        discarded: tally.gone() - tally.missing(),
        confirmed: tally.confirmed,
        unconfirmed: tally.unconfirmed,
        unsent: tally.unsent,
        duplicates: tally.account.duplicates,
        redelivered: tally.account.redelivered,
        out_of_order: tally.account.out_of_order,
        foreign: tally.account.foreign,
    }
}

fn notes(tally: &Tally) -> Vec<String> {
    let mut notes = Vec::new();
    if tally.unsent > 0 {
        notes.push(format!(
            "{} messages were due but could not be sent in time: the latencies lack them; lower \
             --rate or widen --confirm",
            tally.unsent
        ));
    }
    if tally.broken.is_some() && tally.missing() > 0 {
        notes.push("what is missing was under way or in a queue when the run broke off".to_owned());
    }
    if tally.idle_lost > 0 {
        notes.push(format!("{} idle connections were ended by the broker", tally.idle_lost));
    }
    if tally.unanswered > 0 && tally.broken.is_none() {
        notes.push(format!("{} connections were not closed in time", tally.unanswered));
    }
    notes
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some(reason) = &self.broken {
            writeln!(f, "\nBROKEN OFF: {reason}\nwhat was seen until then:")?;
        }
        if let Some(churn) = &self.churn {
            let Churn { operations, seconds, rate } = churn;
            writeln!(f, "\n{operations} operations in {seconds:.2} s, {rate:.0} a second")?;
            write_heads(f)?;
            write_latency(f, "operation", self.latency_us)?;
            return self.broker.as_ref().map_or(Ok(()), |broker| broker.fmt(f));
        }
        if let Some(synced) = &self.synced {
            synced.fmt(f)?;
            write_heads(f)?;
            return write_latency(f, "sync", self.latency_us);
        }
        writeln!(f, "\n            messages      seconds   messages/s         MB/s")?;
        for (name, flow) in [("sent", self.sent), ("received", self.received)] {
            let Flow { messages, seconds, rate, megabytes } = flow;
            writeln!(f, "{name:<8}{messages:>12}{seconds:>13.2}{rate:>13.0}{megabytes:>13.2}")?;
        }
        if self.latency_us.is_some() || self.confirm_latency_us.is_some() {
            write_heads(f)?;
        }
        write_latency(f, "end to end", self.latency_us)?;
        write_latency(f, "confirm", self.confirm_latency_us)?;
        self.account.fmt(f)?;
        self.cpu.fmt(f)?;
        if let Some(beside) = &self.beside {
            beside.fmt(f)?;
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

impl Display for Books {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f)?;
        let Books { sent, expected, received, returned, nacked, missing, .. } = self;
        let (waiting, again) = (self.left_in_queue - self.left_again, self.left_again);
        if *sent == 0 && *expected > 0 {
            writeln!(
                f,
                "{expected} waited = {received} received + {waiting} left in queue + {missing} \
                 missing"
            )?;
        } else if *sent == 0 {
            writeln!(f, "{received} received, {waiting} left in queue")?;
        } else {
            let copies = match expected == sent {
                true => String::new(),
                false => format!(" for {expected} deliveries ({} unroutable)", self.unroutable),
            };
            writeln!(
                f,
                "{sent} sent{copies} = {received} received + {returned} returned + {nacked} \
                 nacked + {waiting} left in queue + {missing} missing"
            )?;
        }
        if self.discarded > 0 {
            writeln!(
                f,
                "{} of the sent were discarded by their queues, as their arguments allow; lost \
                 ones would be among them",
                self.discarded
            )?;
        }
        if self.dropped + self.requeued > 0 {
            writeln!(
                f,
                "of the received: {} refused for good, {again} given back and left in queue \
                 ({} times given back)",
                self.dropped, self.requeued
            )?;
        }
        if self.confirmed + self.unconfirmed > 0 {
            writeln!(f, "{} confirmed, {} without a confirm", self.confirmed, self.unconfirmed)?;
        }
        let order = match self.out_of_order {
            0 => "order of each producer kept".to_owned(),
            late => format!("{late} messages out of order"),
        };
        writeln!(
            f,
            "{order}, {} duplicates, {} redelivered, {} not of this run",
            self.duplicates, self.redelivered, self.foreign
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::{Receiver, Stamp};
    use crate::clock::{MILLISECOND, SECOND};

    fn plan() -> Plan {
        let (start, measure_from, stop) = (0, SECOND, 3 * SECOND);
        Plan {
            start,
            measure_from,
            stop,
            producers: 1,
            polite: true,
            spin: false,
            gives_back: false,
        }
    }

    fn tally() -> Tally {
        let mut tally = Tally::new(Vec::new(), plan());
        tally.account = Account::new(1, 0);
        for sequence in [0, 2, 1] {
            let stamp = Stamp { intended: 5, producer: 0, sequence };
            let order = vec![if sequence == 1 { 3 } else { 0 }];
            tally.account.take(Some(stamp), false, &mut Receiver { book: 0, order });
        }
        tally.expected = 10;
        (tally.written, tally.returned, tally.nacked, tally.left) = (10, 1, 1, 2);
        tally.sent = Measured { count: 10, last: 3 * SECOND };
        tally.latency.record(MILLISECOND);
        tally
    }

    #[test]
    fn every_message_is_accounted_for() {
        let books = books(&tally());
        assert_eq!((books.received, books.missing, books.out_of_order), (3, 3, 1));
        let text = books.to_string();
        let line = "10 sent = 3 received + 1 returned + 1 nacked + 2 left in queue + 3 missing";
        assert!(text.contains(line), "{text}");
    }
}
