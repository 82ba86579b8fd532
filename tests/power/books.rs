//! The judge: what clients were promised and what they saw, over all starts of the broker.
//!
//! A confirm or commit-ok of a strict broker holds after every end. One of a relaxed broker holds
//! if the process dies. If the power fails, only those hold that came before the last time when
//! everything was on stable storage. In both cases messages stay in order, and messages that were
//! settled before that time never come back.

use std::collections::{BTreeMap, BTreeSet};

/// The queues by number. The first three are durable, bound to [`FANOUT`] and never deleted.
pub const QUEUES: [&str; 7] = ["d0", "d1", "d2", "transient", "mortal", "retry", "dead"];
/// The queue that is of the kind that shuffles messages, where the build has it.
pub const SHUFFLED: Option<usize> = if cfg!(feature = "second-kinds") { Some(2) } else { None };
/// How many of them are bound to the fanout exchange.
pub const BOUND: usize = 3;
/// The transient queue: a restart deletes it.
pub const TRANSIENT: usize = 3;
/// The durable queue that is declared and deleted.
pub const MORTAL: usize = 4;
/// The durable queue whose rejected messages go to [`DEAD`].
pub const RETRY: usize = 5;
/// The durable queue that nothing but dead letters enters.
pub const DEAD: usize = 6;
/// A durable exchange.
pub const FANOUT: &str = "all";
/// Stands for all queues of the fanout exchange.
pub const ALL: usize = QUEUES.len();

/// How the broker ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// An orderly stop at rest.
    Clean,
    /// An orderly stop in the middle of work.
    Stopped,
    /// A crash.
    Crash,
}

/// The state of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In a transaction without a sent commit, or one that ended.
    Held,
    /// Sent, not confirmed.
    Sent,
    /// Confirmed, or commit-ok was read.
    Promised,
    /// Confirmed, and later everything was on stable storage.
    Safe,
}

#[derive(Debug)]
struct Message {
    publisher: usize,
    persistent: bool,
    state: State,
    life: usize,
    /// How long it lives in a queue at most, in milliseconds.
    lives_ms: Option<u64>,
    /// When it was confirmed.
    arrived_ms: Option<u64>,
}

/// The last settle of a copy of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Settled {
    No,
    /// The broker may not have read it.
    Sent,
    /// Sent, and everything was at rest afterwards.
    Read,
    /// Sent before an end that may have undone it.
    Stale,
    /// commit-ok was read.
    Committed,
    /// Read or committed, and everything was on stable storage afterwards.
    Final,
}

#[derive(Debug)]
struct Copy {
    seen: bool,
    /// It may count as delivered to a client that did not read it.
    may_be_flagged: bool,
    settled: Settled,
    /// Its queue may have been purged or deleted, so it may be gone.
    excused: bool,
    /// Its queue was certainly deleted.
    doomed: bool,
    /// Its last settle was a rejection, which makes a dead letter.
    rejected: bool,
    /// It is a dead letter of a message that came back and was rejected again: there may be two.
    doubled: bool,
}

impl Copy {
    const NEW: Self = Self {
        seen: false,
        may_be_flagged: false,
        settled: Settled::No,
        excused: false,
        doomed: false,
        rejected: false,
        doubled: false,
    };
}

/// A client reads within this time what it is sent, in milliseconds.
const READ_MS: u64 = 3000;

/// A copy: the message and its queue.
pub type CopyId = (usize, usize);

/// The books of one run: promises and observations.
#[derive(Debug, Default)]
pub struct Books {
    /// The first broken rule.
    pub failure: Option<String>,
    /// Which start of the broker this is.
    pub life: usize,
    /// The wall clock in milliseconds.
    pub now_ms: u64,
    /// Deliveries that were read.
    pub deliveries: usize,
    /// Whether the mortal queue exists. `None`: unknown.
    pub mortal: Option<bool>,
    /// The trace, if it is kept.
    pub trace: Option<Vec<String>>,
    messages: Vec<Message>,
    copies: BTreeMap<CopyId, Copy>,
    /// Per queue, publisher and reader, the last message that was not flagged redelivered.
    order: BTreeMap<(usize, usize, usize), usize>,
    /// The broker is closing connections.
    stopping: bool,
    /// Messages that were read, and so settled, while the broker closed connections.
    late: Vec<CopyId>,
    /// Queues whose purge was not answered.
    purging: Vec<usize>,
    /// What was in the queue that was drained last.
    last_drained: BTreeSet<usize>,
}

impl Books {
    /// Empty books, with or without a trace.
    pub fn new(trace: bool) -> Self {
        Self { mortal: Some(false), trace: trace.then(Vec::new), ..Self::default() }
    }

    /// Keeps a line of the trace.
    pub fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(line());
        }
    }

    /// Notes a broken rule; the first one counts.
    pub fn fail(&mut self, what: impl FnOnce() -> String) {
        if self.failure.is_none() {
            self.failure = Some(format!("life {}: {}", self.life, what()));
        }
    }

    /// How many messages were published.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// A client publishes to a queue, or to [`ALL`]; in a transaction or not.
    pub fn publishes(&mut self, publisher: usize, to: usize, persistent: bool, tx: bool) -> usize {
        let state = if tx { State::Held } else { State::Sent };
        let (life, lives_ms, arrived_ms) = (self.life, None, None);
        self.messages.push(Message { publisher, persistent, state, life, lives_ms, arrived_ms });
        let message = self.messages.len() - 1;
        self.note(|| format!("client {publisher} publishes {message} to {to}, {persistent}, {tx}"));
        let queues = if to == ALL { 0..BOUND } else { to..to + 1 };
        for queue in queues {
            self.copies.insert((message, queue), Copy::NEW);
        }
        message
    }

    /// The message published last lives for so many milliseconds.
    pub fn expires(&mut self, lives_ms: Option<u64>) {
        if let Some(last) = self.messages.last_mut() {
            last.lives_ms = lives_ms;
        }
    }

    /// Whether the message has expired, and a client that was sent it before has read it.
    fn is_dead(&self, message: &Message) -> bool {
        let dead = message.arrived_ms.zip(message.lives_ms);
        dead.is_some_and(|(arrived, lives)| arrived + lives + READ_MS < self.now_ms)
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
        self.messages[message].arrived_ms = Some(self.now_ms);
    }

    /// A copy is acknowledged.
    pub fn settles(&mut self, copy: CopyId) {
        self.note(|| format!("{copy:?} is settled"));
        self.copy(copy).settled = Settled::Sent;
    }

    /// A message of [`RETRY`] is rejected: it leaves a dead letter.
    pub fn rejects(&mut self, copy: CopyId) {
        self.settles(copy);
        self.copy(copy).rejected = true;
        let letter = (copy.0, DEAD);
        let doubled = self.copies.contains_key(&letter);
        // Whether it is there is for [`Self::letters`] to judge.
        let new = Copy { excused: true, ..Copy::NEW };
        self.copies.entry(letter).or_insert(new).doubled = doubled;
    }

    fn copy(&mut self, copy: CopyId) -> &mut Copy {
        self.copies.get_mut(&copy).expect("it was delivered, so it is in the books")
    }

    /// A purge was sent: messages of the queue may be gone, or may come back.
    pub fn purges(&mut self, queue: usize) {
        self.purging.push(queue);
        self.excuse(queue);
    }

    /// purge-ok was read: messages that arrived meanwhile may be gone too.
    pub fn purged(&mut self, queue: usize) {
        let at = self.purging.iter().position(|purging| *purging == queue);
        at.map(|at| self.purging.swap_remove(at));
        self.excuse(queue);
    }

    fn excuse(&mut self, queue: usize) {
        let copies = self.copies.iter_mut().filter(|((_, of), _)| *of == queue);
        copies.for_each(|(_, copy)| copy.excused = true);
    }

    /// A queue was deleted with its messages.
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
        (copy.seen, copy.settled, copy.rejected) = (true, Settled::No, false);
        match auto {
            // Another client may read first what this one has not read yet.
            true if self.stopping => self.late.push((message, queue)),
            true => copy.settled = Settled::Read,
            false => {}
        }
        if SHUFFLED == Some(queue) || queue == DEAD {
            return;
        }
        let last = self.order.entry((reader, queue, publisher)).or_default();
        if !flagged && message < *last {
            let last = *last - 1;
            self.fail(|| format!("message {message} comes behind {last}"));
        } else if !flagged {
            *last = message + 1;
        }
    }

    /// Why a delivery breaks a rule.
    fn wrong(&self, id: CopyId, flagged: bool) -> Option<&'static str> {
        let (Some(message), Some(copy)) = (self.messages.get(id.0), self.copies.get(&id)) else {
            return Some("never published there");
        };
        let old = message.life < self.life;
        match copy.settled {
            _ if message.state == State::Held => Some("not committed"),
            _ if self.is_dead(message) && SHUFFLED != Some(id.1) => Some("it has expired"),
            _ if old && !message.persistent => Some("transient, but outlived a restart"),
            _ if old && id.1 == TRANSIENT => Some("its queue cannot outlive a restart"),
            _ if copy.doomed => Some("its queue was deleted"),
            _ if copy.doubled => None,
            Settled::Committed => Some("its settle was committed"),
            Settled::Final => Some("its settle was on the disk"),
            Settled::Sent | Settled::Read => Some("it was settled, and nothing has taken it back"),
            Settled::Stale if !flagged => Some("it was settled and comes back without a flag"),
            // Another client may read first what this one has not read yet.
            _ if copy.seen && !flagged && !self.stopping => {
                Some("delivered before and not flagged")
            }
            _ if flagged && !copy.seen && !copy.may_be_flagged => {
                Some("flagged, but never delivered")
            }
            _ => None,
        }
    }

    /// Everything is at rest: the broker has read all that clients sent.
    pub fn rest(&mut self) {
        for copy in self.copies.values_mut() {
            if copy.settled == Settled::Sent {
                copy.settled = Settled::Read;
            }
        }
    }

    /// Everything is on stable storage, with all that clients sent before.
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

    /// A client without acknowledgements has read all messages of a queue. Other clients hold those
    /// in `held`.
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

    /// A client without acknowledgements ends: messages that are not `held` by others may have been
    /// sent to it.
    pub fn leaks(&mut self, queue: usize, held: &BTreeSet<CopyId>) {
        self.note(|| format!("{} leaks", QUEUES[queue]));
        let copies = self.copies.iter_mut().filter(|((_, of), _)| *of == queue);
        copies.filter(|(id, _)| !held.contains(id)).for_each(|(_, copy)| copy.excused = true);
    }

    /// A power loss while not everything is on stable storage: confirmed messages may be lost, and
    /// settled ones may come back.
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
            copy.rejected &= copy.settled == Settled::Final;
        }
    }

    /// The broker closes all connections: what it has not read from them is void, and what they
    /// have not read counts as delivered.
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

    /// The messages of a queue at the end, in order, without any other client.
    pub fn drained(&mut self, queue: usize, messages: &[usize]) {
        let mut last: BTreeMap<usize, usize> = BTreeMap::new();
        for &message in messages {
            let before = last.insert(self.messages[message].publisher, message);
            let shuffled = SHUFFLED == Some(queue) || queue == DEAD;
            if let Some(before) = before.filter(|before| *before > message && !shuffled) {
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
        if queue == DEAD {
            self.letters(&there);
        }
        self.last_drained = there;
    }

    /// What was rejected is among the dead letters that are there or were read, or back in its
    /// queue, which was drained before.
    fn letters(&mut self, there: &BTreeSet<usize>) {
        let mut rejected =
            self.copies.iter().filter(|((_, of), copy)| *of == RETRY && copy.rejected);
        let lost = rejected.find(|((message, _), _)| {
            let log = &self.messages[*message];
            let read = self.copies.get(&(*message, DEAD)).is_some_and(|letter| letter.seen);
            let found = read || there.contains(message) || self.last_drained.contains(message);
            log.persistent && is_promised(log) && !found
        });
        if let Some(((message, _), _)) = lost {
            let message = *message;
            self.fail(|| format!("message {message} was rejected and its dead letter is lost"));
        }
    }
}

/// Whether the message must be there, also after a crash. One that may expire need not be.
fn is_promised(message: &Message) -> bool {
    message.lives_ms.is_none() && matches!(message.state, State::Promised | State::Safe)
}
