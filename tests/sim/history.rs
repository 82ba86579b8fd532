//! What clients saw, in the order they saw it: the only input of the reference model.
//!
//! Every method a client sends is an [`Op`] with a [`Span`]: when it was sent, and when the client
//! knew that it was carried out. Two operations whose spans overlap, and that are not ordered by
//! their channel, may have been carried out in either order; the checks allow both.

use std::collections::{BTreeMap, BTreeSet};

use crate::names::kind;

/// The number of an event of the run; every event has its own.
pub type Time = u64;
/// Not yet.
pub const NEVER: Time = Time::MAX;
/// Stands for "no channel" in a [`Span`].
pub const NO_CHANNEL: usize = usize::MAX;

/// When an operation was sent, and when it was known to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The channel it was sent on, by its place in [`History::channels`].
    pub chan: usize,
    /// Its place among the methods of that channel.
    pub seq: u32,
    /// The client began to send it.
    pub sent: Time,
    /// The client knew that it was done.
    pub done: Time,
}

impl Span {
    /// Something that was so from the start.
    pub const START: Span = Span { chan: NO_CHANNEL, seq: 0, sent: 0, done: 0 };

    /// Whether this was certainly done before `other` began.
    pub fn before(&self, other: &Span) -> bool {
        let same = self.chan == other.chan && self.chan != NO_CHANNEL;
        if same { self.seq < other.seq } else { self.done < other.sent }
    }
}

/// What became of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Not known yet.
    Pending,
    /// Carried out.
    Done,
    /// Refused with this reply code.
    Refused(u16),
    /// Behind a refused one on its channel: certainly not carried out.
    Dropped,
    /// The channel or connection ended first.
    Unknown,
}

/// How a delivery is settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settle {
    /// basic.ack
    Ack,
    /// basic.nack or basic.reject without requeue
    Drop,
    /// basic.nack or basic.reject with requeue, or basic.recover
    Requeue,
}

/// The operation itself; queues, exchanges, messages and consumers by their place in the history.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum What {
    Open,
    Close,
    /// For each later consumer; lifts the limit that they share.
    Qos(u16),
    /// A limit that all consumers of the channel share; 0: none.
    Limit(u16),
    ConfirmSelect,
    TxSelect,
    TxCommit,
    TxRollback,
    /// `mismatch`: with another durability than the queue has.
    DeclareQueue {
        queue: usize,
        passive: bool,
        exclusive: bool,
        mismatch: bool,
    },
    DeclareServerNamed,
    DeleteQueue {
        queue: usize,
        if_unused: bool,
        if_empty: bool,
    },
    Purge {
        queue: usize,
    },
    Bind(BindingKey),
    Unbind(BindingKey),
    DeclareExchange {
        exchange: usize,
        passive: bool,
    },
    DeleteExchange {
        exchange: usize,
    },
    Consume {
        consumer: usize,
    },
    Cancel {
        consumer: usize,
    },
    Get {
        queue: usize,
        no_ack: bool,
    },
    Publish {
        message: usize,
    },
    Settle {
        tag: u64,
        multiple: bool,
        how: Settle,
    },
    Recover,
}

/// What makes a binding the same binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub struct BindingKey {
    pub exchange: usize,
    pub queue: usize,
    /// Place in [`crate::names::KEYS`].
    pub key: usize,
    /// Place in [`crate::names::MATCHES`].
    pub matches: usize,
}

/// A method a client sent.
#[derive(Debug, Clone)]
pub struct Op {
    /// When.
    pub span: Span,
    /// When it was sent, in microseconds of the virtual time.
    pub sent_us: u64,
    /// The connection.
    pub conn: usize,
    /// What.
    pub what: What,
    /// Without a reply, by its nature or by no-wait.
    pub silent: bool,
    /// What became of it.
    pub fate: Fate,
    /// The counts in the reply: messages, consumers.
    pub counts: Option<(u32, u32)>,
    /// What basic.get was answered with; `None` as well when it was empty.
    pub delivery: Option<usize>,
}

/// A connection.
#[derive(Debug, Clone)]
pub struct ConnLog {
    /// The end began: close sent, or the socket closed.
    pub ending: Time,
    /// The end was complete: close-ok seen, or the network quiet afterwards.
    pub ended: Time,
}

/// One opening of a channel.
#[derive(Debug, Clone)]
pub struct ChannelLog {
    /// The connection.
    pub conn: usize,
    /// The earliest moment at which the channel may have ended.
    pub ending: Time,
    /// It had certainly ended.
    pub ended: Time,
    /// Operations not known to be done, in order.
    pub loose: Vec<usize>,
    /// The number of the next method.
    pub seq: u32,
}

/// A consumer.
#[derive(Debug, Clone)]
pub struct ConsumerLog {
    /// Its queue.
    pub queue: usize,
    /// Its channel.
    pub chan: usize,
    /// The operation that asked for it.
    pub op: usize,
    /// Deliveries are acknowledged by being sent.
    pub no_ack: bool,
    /// At most so many unacknowledged; 0: no limit.
    pub prefetch: u16,
    /// Those of a higher one are served first.
    pub priority: i8,
    /// The earliest moment at which it may have gone, its channel's end aside.
    pub ending: Time,
    /// It had certainly gone.
    pub ended: Time,
    /// The server cancelled it.
    pub cancelled: bool,
}

/// A published message.
#[derive(Debug, Clone)]
pub struct MessageLog {
    /// The exchange it went to.
    pub exchange: usize,
    /// Place in [`crate::names::KEYS`], or for the default exchange the queue.
    pub key: usize,
    /// Another key, like that one, in CC or, where nobody is to see it, in BCC.
    pub also: Option<(usize, bool)>,
    /// Which headers it had.
    pub headers: u8,
    /// Bytes of body.
    pub size: usize,
    /// Wants to come back if no queue takes it.
    pub mandatory: bool,
    /// Delivery mode 2.
    pub persistent: bool,
    /// The publish.
    pub op: usize,
    /// What put it into its queues: the publish, or its commit. `None`: nothing did.
    pub effect: Option<usize>,
    /// Came back.
    pub returned: Option<Time>,
    /// It has certainly arrived in its queues: confirmed, or the network was quiet.
    pub arrived: Time,
    /// The virtual time of that in microseconds.
    pub arrived_us: u64,
    /// Confirmed by the broker, or committed.
    pub confirmed: bool,
    /// How long it lives at most, in milliseconds.
    pub expiration_ms: Option<u64>,
    /// Refused by the broker.
    pub refused: bool,
    /// It is the dead letter of another message.
    pub died: Option<Died>,
}

/// The death of a message, which made another one: its dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Died {
    /// The message that was published.
    pub root: usize,
    /// How often it has died.
    pub times: usize,
    /// The delivery that was rejected; `None`: it died by itself.
    pub delivery: Option<usize>,
    /// Why it died, as its letter tells.
    pub reason: &'static str,
}

/// A message that reached a client.
#[derive(Debug, Clone)]
pub struct DeliveryLog {
    /// Which message.
    pub message: usize,
    /// From which queue.
    pub queue: usize,
    /// On which channel.
    pub chan: usize,
    /// The consume or the get that asked for it.
    pub asked: usize,
    /// When it was read.
    pub at: Time,
    /// The same in microseconds of the virtual time.
    pub at_us: u64,
    /// Its flag.
    pub redelivered: bool,
    /// Acknowledged by being sent.
    pub no_ack: bool,
    /// The operation that settled it.
    pub settled: Option<(Settle, usize)>,
    /// Read when the channel may have been over, or inside a recover: it may have been requeued
    /// before it was read.
    pub limbo: bool,
    /// Read in the drain at the end.
    pub drained: bool,
}

/// All of it.
#[derive(Debug, Default)]
pub struct History {
    /// The number of the present event.
    pub time: Time,
    /// The virtual time in microseconds.
    pub now_us: u64,
    /// All operations in the order they were sent.
    pub ops: Vec<Op>,
    /// All connections.
    pub conns: Vec<ConnLog>,
    /// All openings of channels.
    pub channels: Vec<ChannelLog>,
    /// All consumers.
    pub consumers: Vec<ConsumerLog>,
    /// All messages.
    pub messages: Vec<MessageLog>,
    /// All deliveries.
    pub deliveries: Vec<DeliveryLog>,
    /// Queue names: the fixed ones, then what the server named.
    pub queues: Vec<String>,
    /// The last dead letter of a message that has died so often, by both.
    pub letters: BTreeMap<(usize, usize), usize>,
    /// Who owns a server-named queue.
    pub server_named: BTreeMap<usize, usize>,
    /// Connections that stopped reading, and when.
    pub deaf: BTreeMap<usize, Time>,
    /// When the drain was over: what is deleted later is lost to nobody.
    pub drained: Time,
    /// When the network was quiet.
    pub quiets: Vec<Time>,
    /// When consumers waited, since what they held took too much memory.
    pub held_back: BTreeSet<Time>,
    /// Jumps of the virtual time: microseconds, and the first event behind each.
    pub jumps: Vec<(u64, Time)>,
    /// The first rule that was seen broken.
    pub failure: Option<String>,
    /// What happened, in words, if asked for.
    pub trace: Option<Vec<String>>,
}

impl History {
    /// The next event.
    pub fn step(&mut self) -> Time {
        self.time += 1;
        self.time
    }

    /// Notes that a rule is broken.
    pub fn fail(&mut self, why: impl FnOnce() -> String) {
        if self.failure.is_none() {
            let text = format!("{} (event {})", why(), self.time);
            self.note(|| format!("BROKEN: {text}"));
            self.failure = Some(text);
        }
    }

    /// Adds a line to the trace, if there is one.
    pub fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>6} {}", self.time, line()));
        }
    }

    /// A client sends a method.
    pub fn sent(&mut self, chan: usize, what: What, silent: bool) -> usize {
        let sent = self.step();
        let log = &mut self.channels[chan];
        log.seq += 1;
        let span = Span { chan, seq: log.seq, sent, done: NEVER };
        let (op, conn) = (self.ops.len(), log.conn);
        log.loose.push(op);
        self.note(|| format!("conn {conn} chan {chan} sends {what:?} (op {op})"));
        let fate = Fate::Pending;
        let (sent_us, counts, delivery) = (self.now_us, None, None);
        self.ops.push(Op { span, sent_us, conn, what, silent, fate, counts, delivery });
        op
    }

    /// A delivery is settled by this operation. If it is rejected, its queue may have a place for
    /// dead letters: then the letter is a message of its own.
    pub fn settled(&mut self, delivery: usize, how: Settle, op: usize) {
        let log = &mut self.deliveries[delivery];
        log.settled = Some((how, op));
        let Some(key) = kind(log.queue).dead_letters.filter(|_| how == Settle::Drop) else {
            return;
        };
        let (of, rejected) = (log.message, (Some(delivery), "rejected"));
        self.letter(of, key, op, rejected);
    }

    /// A message dies by itself, as far as the queue that it was published to is concerned: its
    /// letter is a message of its own.
    pub fn dies(&mut self, message: usize, key: usize, reason: &'static str) -> usize {
        self.letter(message, key, self.messages[message].op, (None, reason))
    }

    /// The letter of a message goes to a queue; because of a delivery that was rejected, or of
    /// none.
    fn letter(
        &mut self,
        of: usize,
        key: usize,
        op: usize,
        (delivery, reason): (Option<usize>, &'static str),
    ) -> usize {
        let message = self.messages[of].clone();
        let (root, times) = message.died.map_or((of, 0), |died| (died.root, died.times));
        let died = Some(Died { root, times: times + 1, delivery, reason });
        // If there is an earlier one, its rejection was lost: the message came again.
        self.letters.insert((root, times + 1), self.messages.len());
        self.messages.push(MessageLog {
            exchange: 0,
            key,
            also: None,
            mandatory: false,
            op,
            effect: Some(op),
            returned: None,
            arrived: NEVER,
            arrived_us: u64::MAX,
            confirmed: false,
            expiration_ms: None,
            died,
            ..message
        });
        self.messages.len() - 1
    }

    /// The message whose bytes a message has.
    pub fn root(&self, message: usize) -> usize {
        self.messages[message].died.map_or(message, |died| died.root)
    }

    /// The reply to `op` was read: it and all before it on its channel are done.
    pub fn replied(&mut self, op: usize) {
        let now = self.time;
        let chan = self.ops[op].span.chan;
        let mut loose = std::mem::take(&mut self.channels[chan].loose);
        loose.retain(|&earlier| {
            if earlier <= op && self.ops[earlier].span.done == NEVER {
                self.ops[earlier].span.done = now;
                self.ops[earlier].fate = Fate::Done;
            }
            earlier > op
        });
        self.channels[chan].loose = loose;
    }

    /// The first operation of the channel that is not known to be done and that others wait for:
    /// the end of the connection may have overtaken what is behind it.
    pub fn first_barrier(&self, chan: usize) -> usize {
        let waits = |op: &&usize| {
            !matches!(self.ops[**op].what, What::Publish { .. } | What::Settle { .. })
        };
        self.channels[chan].loose.iter().find(waits).copied().unwrap_or(usize::MAX)
    }

    /// The channel is over. Operations before `first` were carried out, those behind `last` were
    /// not, the others may have been. `ending` is the earliest moment the end may have begun.
    pub fn channel_over(&mut self, chan: usize, first: usize, last: usize, ending: Time) {
        let now = self.time;
        let mut ending = ending;
        for op in std::mem::take(&mut self.channels[chan].loose) {
            let entry = &mut self.ops[op];
            if entry.span.done != NEVER {
                continue;
            }
            if op < first {
                (entry.fate, entry.span.done) = (Fate::Done, now);
            } else if op > last {
                (entry.fate, entry.span.done) = (Fate::Dropped, now);
            } else {
                entry.fate = Fate::Unknown;
                // It may have been refused, and the channel closed, without the client seeing it.
                ending = ending.min(entry.span.sent);
            }
        }
        self.channels[chan].ending = self.channels[chan].ending.min(ending);
        for delivery in self.deliveries.iter_mut().filter(|d| d.chan == chan && d.at > ending) {
            delivery.limbo = true;
        }
    }

    /// Consumers wait now, since what they hold takes too much memory.
    pub fn hold_back(&mut self) {
        self.held_back.insert(self.time);
    }

    /// Whether consumers waited for that between two moments.
    pub fn held_back(&self, from: Time, to: Time) -> bool {
        self.held_back.range(from..=to).next().is_some()
    }

    /// Nothing moves any more: whatever was under way has happened.
    pub fn quiet(&mut self) {
        let now = self.step();
        self.quiets.push(now);
        self.note(|| "quiet".into());
        let deaf = |conn: usize| self.deaf.contains_key(&conn) && self.conns[conn].ending == NEVER;
        for op in self.ops.iter_mut().filter(|op| op.span.done == NEVER && !deaf(op.conn)) {
            op.span.done = now;
            if op.fate == Fate::Pending {
                op.fate = Fate::Done;
            }
        }
        for chan in &mut self.channels {
            if !deaf(chan.conn) {
                chan.loose.clear();
            }
            chan.ended = ended(chan.ending, chan.ended, now);
        }
        for conn in &mut self.conns {
            conn.ended = ended(conn.ending, conn.ended, now);
        }
        for consumer in &mut self.consumers {
            consumer.ended = ended(consumer.ending, consumer.ended, now);
        }
        for message in self.messages.iter_mut().filter(|m| m.arrived == NEVER) {
            let done = |op: usize| self.ops[op].span.done != NEVER;
            if message.effect.is_some_and(done) {
                (message.arrived, message.arrived_us) = (now, self.now_us);
            }
        }
    }

    /// commit-ok: the messages of the transaction are in their queues.
    pub fn committed(&mut self, op: usize) -> Vec<usize> {
        let now = self.time;
        // A dead letter arrives when it arrives.
        let ours = self.messages.iter_mut().filter(|message| message.effect == Some(op));
        let ours = ours.filter(|message| message.died.is_none());
        ours.map(|message| {
            message.confirmed = true;
            if message.arrived == NEVER {
                (message.arrived, message.arrived_us) = (now, self.now_us);
            }
            if message.exchange == 0 { message.key } else { 0 }
        })
        .collect()
    }

    /// The virtual time has reached this many microseconds.
    pub fn passed(&mut self, now_us: u64) {
        /// Shorter steps need not be remembered.
        const JUMP_US: u64 = 5_000;
        let last = self.jumps.last().map_or(0, |(last, _)| *last);
        if now_us >= last + JUMP_US {
            self.jumps.push((now_us, self.time + 1));
        }
        self.now_us = now_us;
    }

    /// No event before this one came at or after this many microseconds.
    pub fn first_after(&self, us: u64) -> Time {
        let at = self.jumps.partition_point(|(reached, _)| *reached < us);
        // What came behind the jump before may have come so late.
        at.checked_sub(1).map_or(0, |before| self.jumps[before].1)
    }

    /// The first quiet moment at or after `time`.
    pub fn quiet_after(&self, time: Time) -> Time {
        let at = self.quiets.partition_point(|quiet| *quiet < time);
        self.quiets.get(at).copied().unwrap_or(NEVER)
    }

    /// When the consumer may have begun to end, its channel's end included.
    pub fn consumer_ending(&self, consumer: usize) -> Time {
        let log = &self.consumers[consumer];
        log.ending.min(self.channels[log.chan].ending)
    }

    /// When the consumer had certainly ended.
    pub fn consumer_ended(&self, consumer: usize) -> Time {
        let log = &self.consumers[consumer];
        log.ended.min(self.channels[log.chan].ended)
    }
}

fn ended(ending: Time, ended: Time, now: Time) -> Time {
    if ending == NEVER { NEVER } else { ended.min(now) }
}

/// Class and method of an operation.
pub fn id(what: &What) -> (u16, u16) {
    match what {
        What::Open => (20, 10),
        What::Close => (20, 40),
        What::Qos(_) | What::Limit(_) => (60, 10),
        What::ConfirmSelect => (85, 10),
        What::TxSelect => (90, 10),
        What::TxCommit => (90, 20),
        What::TxRollback => (90, 30),
        What::DeclareQueue { .. } | What::DeclareServerNamed => (50, 10),
        What::DeleteQueue { .. } => (50, 40),
        What::Purge { .. } => (50, 30),
        What::Bind(_) => (50, 20),
        What::Unbind(_) => (50, 50),
        What::DeclareExchange { .. } => (40, 10),
        What::DeleteExchange { .. } => (40, 20),
        What::Consume { .. } => (60, 20),
        What::Cancel { .. } => (60, 30),
        What::Get { .. } => (60, 70),
        What::Publish { .. } => (60, 40),
        What::Settle { multiple: false, how: Settle::Ack, .. } => (60, 80),
        What::Settle { multiple: true, how: Settle::Ack, .. } => (60, 80),
        What::Settle { .. } => (60, 120),
        What::Recover => (60, 110),
    }
}
