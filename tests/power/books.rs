//! What clients were promised and what they saw, over all starts of the broker, and what a broker
//! may not do after that.
//!
//! A confirm and commit-ok hold whatever happens if they mean stable storage. Where they mean that
//! the system has it (a relaxed broker), they hold if the process dies; if the power goes, only
//! those hold in front of the last time that everything was on the disk. What is there is in order,
//! and what was settled in front of that time never comes back, in either case.

use std::collections::{BTreeMap, BTreeSet};

/// The queues by number. The first three are durable, bound to [`FANOUT`] and never deleted.
pub const QUEUES: [&str; 5] = ["d0", "d1", "d2", "transient", "mortal"];
/// How many of them are bound to the fanout exchange.
pub const BOUND: usize = 3;
/// The queue that goes with a restart.
pub const TRANSIENT: usize = 3;
/// The durable queue that is declared and deleted.
pub const MORTAL: usize = 4;
/// A durable exchange.
pub const FANOUT: &str = "all";
/// Where a message goes that is published to the fanout exchange.
pub const ALL: usize = QUEUES.len();

/// How the broker ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// As it was asked to, with everything at rest before.
    Clean,
    /// As it was asked to, in the middle of things.
    Stopped,
    /// It died.
    Crash,
}

/// How far a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In a transaction whose commit was not sent, or that is over.
    Held,
    /// On its way.
    Sent,
    /// Confirmed, or commit-ok was read.
    Promised,
    /// And everything was on stable storage afterwards.
    Safe,
}

#[derive(Debug)]
struct Message {
    publisher: usize,
    persistent: bool,
    state: State,
    life: usize,
}

/// What a client did with a copy of a message last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Settled {
    No,
    /// The broker may not have read it.
    Sent,
    /// Sent, and everything was at rest afterwards.
    Read,
    /// Sent before an end that may have taken it back.
    Stale,
    /// commit-ok was read.
    Committed,
    /// Read or committed, and everything was on stable storage afterwards.
    Final,
}

#[derive(Debug)]
struct Copy {
    seen: bool,
    /// It may have been delivered to a client that did not read it, or counts so.
    may_be_flagged: bool,
    settled: Settled,
    /// Its queue was purged or is gone: it may be gone too.
    excused: bool,
    /// Its queue is gone for certain.
    doomed: bool,
}

/// A copy: the message and its queue.
pub type CopyId = (usize, usize);

/// The books of one run.
#[derive(Debug, Default)]
pub struct Books {
    /// The first rule that was seen broken.
    pub failure: Option<String>,
    /// Which start of the broker this is.
    pub life: usize,
    /// Deliveries that were read.
    pub deliveries: usize,
    /// Whether the mortal queue is there. `None`: it is not known.
    pub mortal: Option<bool>,
    /// What happened, if it is kept.
    pub trace: Option<Vec<String>>,
    messages: Vec<Message>,
    copies: BTreeMap<CopyId, Copy>,
    /// The last message that a reader got of a queue and publisher and that was not flagged.
    order: BTreeMap<(usize, usize, usize), usize>,
    /// The broker closes connections.
    stopping: bool,
    /// What was read, and settled by that, while the broker closed connections.
    late: Vec<CopyId>,
    /// Queues whose purge was not answered.
    purging: Vec<usize>,
}

impl Books {
    /// Books with nothing in them; a trace is kept or not.
    pub fn new(trace: bool) -> Self {
        Self { mortal: Some(false), trace: trace.then(Vec::new), ..Self::default() }
    }

    /// Keeps a line of the trace.
    pub fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(line());
        }
    }

    /// A rule was seen broken; the first one counts.
    pub fn fail(&mut self, what: impl FnOnce() -> String) {
        if self.failure.is_none() {
            self.failure = Some(format!("life {}: {}", self.life, what()));
        }
    }

    /// So many messages were published.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// A client publishes to a queue, or to [`ALL`]; in a transaction or not.
    pub fn publishes(&mut self, publisher: usize, to: usize, persistent: bool, tx: bool) -> usize {
        let state = if tx { State::Held } else { State::Sent };
        self.messages.push(Message { publisher, persistent, state, life: self.life });
        let message = self.messages.len() - 1;
        self.note(|| format!("client {publisher} publishes {message} to {to}, {persistent}, {tx}"));
        let queues = if to == ALL { 0..BOUND } else { to..to + 1 };
        for queue in queues {
            let copy = Copy {
                seen: false,
                may_be_flagged: false,
                settled: Settled::No,
                excused: false,
                doomed: false,
            };
            self.copies.insert((message, queue), copy);
        }
        message
    }

    /// A commit was sent with these publishes and settles.
    pub fn commits(&mut self, messages: &[usize], settles: &[CopyId]) {
        self.note(|| format!("commit of {messages:?}, settles {settles:?}"));
        messages.iter().for_each(|message| self.messages[*message].state = State::Sent);
        settles.iter().for_each(|copy| self.settles(*copy));
    }

    /// commit-ok was read.
    pub fn committed(&mut self, messages: &[usize], settles: &[CopyId]) {
        self.note(|| format!("commit-ok of {messages:?}, settles {settles:?}"));
        messages.iter().for_each(|message| self.confirmed(*message));
        for copy in settles {
            self.copy(*copy).settled = Settled::Committed;
        }
    }

    /// A message was confirmed.
    pub fn confirmed(&mut self, message: usize) {
        self.note(|| format!("{message} is promised"));
        self.messages[message].state = State::Promised;
    }

    /// A copy is acknowledged.
    pub fn settles(&mut self, copy: CopyId) {
        self.note(|| format!("{copy:?} is settled"));
        self.copy(copy).settled = Settled::Sent;
    }

    fn copy(&mut self, copy: CopyId) -> &mut Copy {
        self.copies.get_mut(&copy).expect("it was delivered, so it is in the books")
    }

    /// A purge of a queue was sent: what is in it may be gone, but may come back.
    pub fn purges(&mut self, queue: usize) {
        self.purging.push(queue);
        self.excuse(queue);
    }

    /// purge-ok was read: what came in between may be gone too.
    pub fn purged(&mut self, queue: usize) {
        let at = self.purging.iter().position(|purging| *purging == queue);
        at.map(|at| self.purging.swap_remove(at));
        self.excuse(queue);
    }

    fn excuse(&mut self, queue: usize) {
        let copies = self.copies.iter_mut().filter(|((_, of), _)| *of == queue);
        copies.for_each(|(_, copy)| copy.excused = true);
    }

    /// A queue is gone for good, with what was in it.
    pub fn deleted(&mut self, queue: usize) {
        let copies = self.copies.iter_mut().filter(|((_, of), _)| *of == queue);
        copies.for_each(|(_, copy)| (copy.excused, copy.doomed) = (true, true));
    }

    /// A client read a message. With `auto` that settles it: the broker has sent it.
    pub fn delivered(
        &mut self,
        reader: usize,
        (message, queue): CopyId,
        flagged: bool,
        auto: bool,
    ) {
        self.deliveries += 1;
        self.note(|| format!("client {reader} reads {message} of {queue}, flagged: {flagged}"));
        if let Some(wrong) = self.wrong((message, queue), flagged) {
            return self.fail(|| format!("message {message} of {}: {wrong}", QUEUES[queue]));
        }
        let publisher = self.messages[message].publisher;
        let copy = self.copies.get_mut(&(message, queue)).expect("it was looked up just now");
        (copy.seen, copy.settled) = (true, Settled::No);
        match auto {
            // What one client has not read may be read by another first.
            true if self.stopping => self.late.push((message, queue)),
            true => copy.settled = Settled::Read,
            false => {}
        }
        let last = self.order.entry((reader, queue, publisher)).or_default();
        if !flagged && message < *last {
            let last = *last - 1;
            self.fail(|| format!("message {message} comes behind {last}"));
        } else if !flagged {
            *last = message + 1;
        }
    }

    /// Why a delivery may not be.
    fn wrong(&self, id: CopyId, flagged: bool) -> Option<&'static str> {
        let (Some(message), Some(copy)) = (self.messages.get(id.0), self.copies.get(&id)) else {
            return Some("never published there");
        };
        let old = message.life < self.life;
        match copy.settled {
            _ if message.state == State::Held => Some("not committed"),
            _ if old && !message.persistent => Some("transient, but outlived a restart"),
            _ if old && id.1 == TRANSIENT => Some("its queue cannot outlive a restart"),
            _ if copy.doomed => Some("its queue was deleted"),
            Settled::Committed => Some("its settle was committed"),
            Settled::Final => Some("its settle was on the disk"),
            Settled::Sent | Settled::Read => Some("it was settled, and nothing has taken it back"),
            Settled::Stale if !flagged => Some("it was settled and comes back without a flag"),
            // What one client has not read may be read by another first.
            _ if copy.seen && !flagged && !self.stopping => {
                Some("delivered before and not flagged")
            }
            _ if flagged && !copy.seen && !copy.may_be_flagged => {
                Some("flagged, but never delivered")
            }
            _ => None,
        }
    }

    /// Everything is at rest: what clients sent has been read.
    pub fn rest(&mut self) {
        for copy in self.copies.values_mut() {
            if copy.settled == Settled::Sent {
                copy.settled = Settled::Read;
            }
        }
    }

    /// All that the broker knows is on stable storage, and it has read what it was sent before.
    pub fn on_disk(&mut self) {
        self.note(|| "everything is on the disk".to_owned());
        self.settle_late();
        for message in &mut self.messages {
            if message.state == State::Promised {
                message.state = State::Safe;
            }
        }
        for copy in self.copies.values_mut() {
            if matches!(copy.settled, Settled::Read | Settled::Committed) {
                copy.settled = Settled::Final;
            }
        }
    }

    fn settle_late(&mut self) {
        for copy in std::mem::take(&mut self.late) {
            self.copy(copy).settled = Settled::Read;
        }
    }

    /// A client that takes all there is of a queue has read all that it was sent. What is `held` is
    /// with others.
    pub fn taken(&mut self, queue: usize, held: &BTreeSet<CopyId>) {
        let mut copies = self.copies.iter().filter(|((_, of), _)| *of == queue);
        let left = copies.find(|(id, copy)| {
            let message = &self.messages[id.0];
            let there = message.life == self.life || message.persistent;
            let due = copy.settled == Settled::No && !copy.excused && !held.contains(id);
            due && there && is_promised(message)
        });
        if let Some(((message, _), _)) = left {
            let message = *message;
            self.fail(|| format!("message {message} is kept from a consumer of {}", QUEUES[queue]));
        }
    }

    /// A client goes that takes without settling: what was not `held` by others may have been sent
    /// to it.
    pub fn leaks(&mut self, queue: usize, held: &BTreeSet<CopyId>) {
        self.note(|| format!("{} leaks", QUEUES[queue]));
        let copies = self.copies.iter_mut().filter(|((_, of), _)| *of == queue);
        copies.filter(|(id, _)| !held.contains(id)).for_each(|(_, copy)| copy.excused = true);
    }

    /// The power goes while not all that was promised is on stable storage: it may be lost, and
    /// what was settled may come back.
    pub fn loses_power(&mut self) {
        self.note(|| "what is not on the disk may be lost".to_owned());
        for message in &mut self.messages {
            if message.state == State::Promised {
                message.state = State::Sent;
            }
        }
        for copy in self.copies.values_mut() {
            if copy.settled == Settled::Committed {
                copy.settled = Settled::Stale;
            }
        }
    }

    /// The broker closes all connections: what it has not read of them is taken back, and what they
    /// have not read was delivered.
    pub fn stops(&mut self, at_rest: bool) {
        self.stopping = true;
        for copy in self.copies.values_mut() {
            copy.may_be_flagged |= !at_rest;
            if copy.settled == Settled::Sent {
                copy.settled = Settled::Stale;
            }
        }
    }

    /// Whether the broker has begun to close connections.
    pub fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// The broker has ended.
    pub fn ended(&mut self, end: End) {
        self.stopping = false;
        self.settle_late();
        for queue in std::mem::take(&mut self.purging) {
            self.excuse(queue);
        }
        self.life += 1;
        self.note(|| format!("the end: {end:?}"));
        for copy in self.copies.values_mut() {
            copy.settled = match (copy.settled, end) {
                (Settled::Sent, _) | (Settled::Read, End::Crash) => Settled::Stale,
                (settled, _) => settled,
            };
            copy.may_be_flagged |= end != End::Clean;
        }
    }

    /// What the queue held in the end, in order, with everybody else gone.
    pub fn drained(&mut self, queue: usize, messages: &[usize]) {
        let mut last: BTreeMap<usize, usize> = BTreeMap::new();
        for &message in messages {
            let before = last.insert(self.messages[message].publisher, message);
            if let Some(before) = before.filter(|before| *before > message) {
                let name = QUEUES[queue];
                self.fail(|| format!("{name} has message {message} behind {before}"));
            }
        }
        let there: BTreeSet<usize> = messages.iter().copied().collect();
        let copies = self.copies.iter().filter(|((_, of), _)| *of == queue);
        let due = copies.filter(|(_, copy)| copy.settled == Settled::No && !copy.excused);
        let mut due = due.map(|((message, _), _)| *message).filter(|message| {
            let message = &self.messages[*message];
            message.persistent && is_promised(message)
        });
        let lost = due.find(|message| !there.contains(message));
        if let Some(message) = lost.filter(|_| queue != TRANSIENT) {
            self.fail(|| format!("message {message} was promised and is not in {}", QUEUES[queue]));
        }
    }
}

fn is_promised(message: &Message) -> bool {
    matches!(message.state, State::Promised | State::Safe)
}
