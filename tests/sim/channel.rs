//! One channel as its client sees it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use amqp::{Assembler, Method};

use crate::client::message_of;
use crate::commits::Tx;
use crate::history::{DeliveryLog, Fate, History, NEVER, Settle, Time, What, id};
use crate::names::{EXCHANGES, body};

/// What a content belongs to.
#[derive(Debug, Clone)]
pub enum Kind {
    /// basic.deliver to this consumer.
    Deliver { consumer: usize, tag: u64, redelivered: bool },
    /// basic.get-ok to this get.
    Got { op: usize, tag: u64, redelivered: bool, left: u32 },
    /// basic.return.
    Return,
}

/// A content being received.
#[derive(Debug)]
pub struct Incoming {
    kind: Kind,
    exchange: String,
    key: String,
    message: usize,
    body: Vec<u8>,
}

/// A consumer as its channel sees it.
#[derive(Debug, Clone, Copy)]
pub struct Live {
    /// Its place in the history.
    pub consumer: usize,
    /// consume-ok was read, or was not requested.
    begun: bool,
    /// A cancel without reply; it has ended the consumer once a later method is answered.
    ends_with: Option<usize>,
}

/// A delivery to be settled.
#[derive(Debug, Clone, Copy)]
pub struct Unacked {
    /// Its place in the history.
    pub delivery: usize,
    /// Its consumer; `None` for a basic.get.
    pub consumer: Option<usize>,
}

/// Publisher confirms of a channel.
#[derive(Debug, Default)]
pub struct Confirms {
    next: u64,
    pub open: BTreeMap<u64, usize>,
}

/// A channel number and what is open on it.
#[derive(Debug, Default)]
pub struct Channel {
    /// The number on the wire.
    pub number: u16,
    /// The present opening, by its place in the history.
    pub log: Option<usize>,
    /// Methods may be sent.
    pub open: bool,
    /// channel.close was sent and not answered.
    pub closing: Option<Time>,
    /// Frames to commands.
    pub assembler: Assembler,
    /// Operations whose replies are due, in order.
    pub waiting: VecDeque<usize>,
    /// The content being received.
    pub incoming: Option<Incoming>,
    /// Deliveries to settle, by tag.
    pub unacked: BTreeMap<u64, Unacked>,
    /// Consumers by tag.
    pub consumers: BTreeMap<String, Live>,
    /// Consumers that asked for a tag made by the server, in order.
    pub nameless: VecDeque<usize>,
    /// In confirm mode.
    pub confirms: Option<Confirms>,
    /// In tx mode.
    pub tx: Option<Tx>,
    /// The prefetch of later consumers.
    pub prefetch: u16,
    /// The limit of all consumers together; 0: none.
    pub limit: u16,
    /// Changes of the limit that were not answered.
    pub limiting: usize,
    /// A basic.recover is under way.
    pub recovering: bool,
    ended_tags: BTreeSet<String>,
    last_tag: u64,
}

impl Channel {
    /// A channel number without an open channel.
    pub fn new(number: u16) -> Self {
        Self { number, ..Self::default() }
    }

    /// Whether it may be opened.
    pub fn free(&self) -> bool {
        !self.open && self.closing.is_none()
    }

    /// A reply or confirm that the server has not sent yet.
    pub fn owed(&self) -> Option<String> {
        if let Some(op) = self.waiting.front() {
            return Some(format!("the reply to op {op} on channel {}", self.number));
        }
        let open = self.confirms.as_ref().and_then(|confirms| confirms.open.iter().next());
        let text = |(tag, message)| format!("the confirm {tag} of message {message}");
        open.map(text).or_else(|| self.closing.map(|_| "channel.close-ok".into()))
    }

    /// A publish was sent.
    pub fn published(&mut self, message: usize) {
        if let Some(confirms) = &mut self.confirms {
            confirms.next += 1;
            confirms.open.insert(confirms.next, message);
        }
        if let Some(tx) = &mut self.tx {
            tx.messages.push(message);
        }
    }

    /// A consume was sent.
    pub fn consuming(&mut self, tag: &str, consumer: usize, silent: bool) {
        if tag.is_empty() {
            self.nameless.push_back(consumer);
        } else {
            let live = Live { consumer, begun: silent, ends_with: None };
            self.consumers.insert(tag.into(), live);
        }
    }

    /// A cancel was sent.
    pub fn cancelling(&mut self, tag: &str, op: usize, silent: bool, h: &mut History) {
        if let Some(live) = self.consumers.get_mut(tag) {
            let log = &mut h.consumers[live.consumer];
            log.ending = log.ending.min(h.ops[op].span.sent);
            live.ends_with = silent.then_some(op);
        }
    }

    /// The client closes the channel: what arrives from now on is ignored.
    pub fn ending(&mut self, h: &mut History, now: Time) {
        if let Some(log) = self.log.filter(|_| self.open) {
            h.channels[log].ending = h.channels[log].ending.min(now);
        }
    }

    /// The channel has ended; the fate of unanswered operations from `first` on is unknown.
    pub fn over(&mut self, h: &mut History, first: usize, ending: Time) {
        if let Some(log) = self.log.filter(|_| self.open || self.closing.is_some()) {
            h.channel_over(log, first, usize::MAX, ending);
        }
        *self = Self { log: self.log, ..Self::new(self.number) };
    }

    /// The server closed the channel: one of the operations under way must be the cause.
    pub fn closed_by_server(&mut self, cause: (u16, u16, u16), text: &str, h: &mut History) {
        let Some(log) = self.log.filter(|_| self.open || self.closing.is_some()) else {
            return h.fail(|| format!("a channel never opened was closed: {text}"));
        };
        let (code, class, method) = cause;
        h.note(|| format!("chan {log} reads channel.close {code} {text}"));
        if (code, class, method) == (406, 0, 0) {
            return self.closed_as_late(log, text, h);
        }
        let loose = h.channels[log].loose.iter().copied();
        let blamed: Vec<usize> = loose
            .filter(|op| id(&h.ops[*op].what) == (class, method) && blames(h, *op, text))
            .collect();
        let (Some(&first), Some(&last)) = (blamed.first(), blamed.last()) else {
            return h.fail(|| format!("chan {log} was closed without a cause: {code} {text}"));
        };
        let ending = h.ops[first].span.sent;
        h.channel_over(log, first, last, ending);
        if first == last {
            h.ops[first].fate = Fate::Refused(code);
            h.ops[first].span.done = h.time;
        }
        self.closed();
    }

    /// Nothing is open any more. A close of the client that crossed the server's is still answered.
    pub fn closed(&mut self) {
        let closing = self.closing;
        *self = Self { log: self.log, closing, ..Self::new(self.number) };
    }

    /// A method other than channel.close arrived.
    pub fn method(&mut self, method: Method<'_>, h: &mut History, hot: &mut Vec<usize>) {
        if let Method::ChannelCloseOk {} = method {
            return self.close_ok(h);
        }
        if self.closing.is_some() {
            return;
        }
        if !self.open {
            return h.fail(|| format!("{} on a channel that is closed", method.name()));
        }
        match method {
            Method::BasicDeliver {
                consumer_tag,
                delivery_tag,
                redelivered,
                exchange,
                routing_key,
            } => {
                let Some(consumer) = self.receiver(consumer_tag, h) else { return };
                let kind = Kind::Deliver { consumer, tag: delivery_tag, redelivered };
                self.incoming = Some(Incoming::new(kind, exchange, routing_key));
            }
            Method::BasicGetOk {
                delivery_tag,
                redelivered,
                exchange,
                routing_key,
                message_count,
            } => {
                let Some(op) = self.answered(h, (60, 70)) else { return };
                let (tag, left) = (delivery_tag, message_count);
                let kind = Kind::Got { op, tag, redelivered, left };
                self.incoming = Some(Incoming::new(kind, exchange, routing_key));
            }
            Method::BasicReturn { exchange, routing_key, .. } => {
                self.incoming = Some(Incoming::new(Kind::Return, exchange, routing_key));
            }
            Method::BasicAck { delivery_tag, multiple } => {
                self.confirmed(delivery_tag, multiple, h, hot)
            }
            Method::BasicNack { delivery_tag, multiple, .. } => {
                self.refused(delivery_tag, multiple, h);
            }
            Method::BasicCancel { consumer_tag, .. } => self.cancelled(consumer_tag, h),
            other => self.reply(other, h, hot),
        }
    }

    fn close_ok(&mut self, h: &mut History) {
        let (Some(log), Some(sent)) = (self.log, self.closing) else {
            return h.fail(|| "channel.close-ok without a close".into());
        };
        h.note(|| format!("chan {log} reads channel.close-ok"));
        if self.open {
            // Everything before the close was carried out before close-ok.
            h.channel_over(log, usize::MAX, usize::MAX, sent);
            h.channels[log].ended = h.time;
        }
        *self = Self { log: self.log, ..Self::new(self.number) };
    }

    /// The consumer a delivery is for.
    fn receiver(&mut self, tag: &str, h: &mut History) -> Option<usize> {
        match self.consumers.get(tag) {
            Some(live) if live.begun => Some(live.consumer),
            Some(_) => {
                h.fail(|| format!("delivery to {tag} before its consume-ok"));
                None
            }
            None => {
                let what = if self.ended_tags.contains(tag) { "cancelled" } else { "unknown" };
                h.fail(|| format!("delivery to the {what} consumer {tag}"));
                None
            }
        }
    }

    /// The operation that is answered now; it must be this method.
    fn answered(&mut self, h: &mut History, method: (u16, u16)) -> Option<usize> {
        let front = self.waiting.front().copied();
        let Some(op) = front.filter(|op| id(&h.ops[*op].what) == method) else {
            let due = front.map(|op| h.ops[op].what.clone());
            h.fail(|| format!("a reply to {method:?}, but due is {due:?}"));
            return None;
        };
        self.waiting.pop_front();
        h.note(|| format!("op {op} is answered"));
        h.replied(op);
        let ended =
            self.consumers.iter().filter(|(_, live)| live.ends_with.is_some_and(|c| c < op));
        for tag in ended.map(|(tag, _)| tag.clone()).collect::<Vec<_>>() {
            self.end_consumer(&tag, h);
        }
        Some(op)
    }

    fn end_consumer(&mut self, tag: &str, h: &mut History) {
        if let Some(live) = self.consumers.remove(tag) {
            h.consumers[live.consumer].ended = h.time;
            self.ended_tags.insert(tag.into());
        }
    }

    fn cancelled(&mut self, tag: &str, h: &mut History) {
        let Some(live) = self.consumers.get(tag).copied() else {
            return h.fail(|| format!("basic.cancel for the unknown consumer {tag}"));
        };
        h.note(|| format!("consumer {} is cancelled by the server", live.consumer));
        h.consumers[live.consumer].cancelled = true;
        self.end_consumer(tag, h);
    }

    fn reply(&mut self, method: Method<'_>, h: &mut History, hot: &mut Vec<usize>) {
        let (class, number) = method.id();
        // A reply's number follows its method's, but for exchange.unbind-ok and get-empty.
        let asked = if (class, number) == (60, 72) { 70 } else { number - 1 };
        let Some(op) = self.answered(h, (class, asked)) else { return };
        match (method, h.ops[op].what.clone()) {
            (Method::QueueDeclareOk { queue, message_count, consumer_count }, what) => {
                h.ops[op].counts = Some((message_count, consumer_count));
                self.declared(op, queue, what, h, hot);
            }
            (Method::QueueDeleteOk { message_count }, What::DeleteQueue { queue, .. })
            | (Method::QueuePurgeOk { message_count }, What::Purge { queue }) => {
                h.ops[op].counts = Some((message_count, 0));
                hot.push(queue);
            }
            (Method::BasicGetEmpty { .. }, _) => h.ops[op].counts = Some((0, 0)),
            (Method::BasicConsumeOk { consumer_tag }, What::Consume { consumer }) => {
                self.begun(consumer_tag, consumer, h);
            }
            (Method::BasicCancelOk { consumer_tag }, _) => self.end_consumer(consumer_tag, h),
            (Method::TxCommitOk {}, _) => hot.extend(h.committed(op)),
            (Method::BasicRecoverOk {}, _) => self.recovered(op, h),
            (Method::BasicQosOk {}, _) => self.limiting -= 1,
            (Method::QueueBindOk {}, What::Bind(key)) => hot.push(key.queue),
            _ => {}
        }
    }

    fn declared(
        &mut self,
        op: usize,
        name: &str,
        what: What,
        h: &mut History,
        hot: &mut Vec<usize>,
    ) {
        if let What::DeclareServerNamed = what {
            if h.queues.iter().any(|other| other == name) || !name.starts_with("amq.gen-") {
                return h.fail(|| format!("the server made the name {name}"));
            }
            h.queues.push(name.into());
            let queue = h.queues.len() - 1;
            h.server_named.insert(queue, h.ops[op].conn);
            h.ops[op].what =
                What::DeclareQueue { queue, passive: false, exclusive: true, mismatch: false };
        } else if let What::DeclareQueue { queue, .. } = what {
            if h.queues[queue] != name {
                return h.fail(|| format!("queue {queue} was declared, {name} answered"));
            }
            hot.push(queue);
        }
    }

    fn begun(&mut self, tag: &str, consumer: usize, h: &mut History) {
        if self.nameless.front() == Some(&consumer) && !self.consumers.contains_key(tag) {
            self.nameless.pop_front();
            self.consuming(tag, consumer, true);
            return;
        }
        match self.consumers.get_mut(tag).filter(|live| live.consumer == consumer) {
            Some(live) => live.begun = true,
            None => h.fail(|| format!("consume-ok with the tag {tag}")),
        }
    }

    /// basic.recover requeues everything that was read before its reply.
    fn recovered(&mut self, op: usize, h: &mut History) {
        self.recovering = false;
        let sent = h.ops[op].span.sent;
        for unacked in std::mem::take(&mut self.unacked).into_values() {
            let delivery = &mut h.deliveries[unacked.delivery];
            delivery.settled = Some((Settle::Requeue, op));
            delivery.limbo |= delivery.at > sent;
        }
    }

    /// Publishes are confirmed.
    pub fn confirmed(&mut self, tag: u64, multiple: bool, h: &mut History, hot: &mut Vec<usize>) {
        let Some(confirms) = &mut self.confirms else {
            return h.fail(|| format!("confirm {tag} outside confirm mode"));
        };
        let first = if multiple { 0 } else { tag };
        let tags: Vec<u64> = confirms.open.range(first..=tag).map(|(tag, _)| *tag).collect();
        if tags.last() != Some(&tag) {
            return h.fail(|| format!("confirm of {tag}, which is not outstanding"));
        }
        for tag in tags {
            let Some(message) = confirms.open.remove(&tag) else { continue };
            h.note(|| format!("message {message} is confirmed"));
            let log = &mut h.messages[message];
            log.confirmed = true;
            if log.arrived == NEVER {
                (log.arrived, log.arrived_us) = (h.time, h.now_us);
            }
            if log.exchange == 0 {
                hot.push(log.key);
            }
            let op = &mut h.ops[log.op];
            if op.span.done == NEVER {
                (op.span.done, op.fate) = (h.time, Fate::Done);
            }
        }
    }

    /// The header of a content.
    pub fn header(&mut self, size: u64, properties: &[u8], h: &mut History, hot: &mut Vec<usize>) {
        let Some(incoming) = &mut self.incoming else { return };
        let Some(message) = message_of(h, properties) else {
            return h.fail(|| "a content whose properties nobody sent".into());
        };
        incoming.message = message;
        if h.messages[message].size as u64 != size {
            return h.fail(|| format!("message {message} arrives with {size} bytes"));
        }
        if size == 0 {
            self.complete(h, hot);
        }
    }

    /// A piece of the body.
    pub fn body(&mut self, piece: &[u8], complete: bool, h: &mut History, hot: &mut Vec<usize>) {
        let Some(incoming) = &mut self.incoming else { return };
        incoming.body.extend_from_slice(piece);
        if complete {
            self.complete(h, hot);
        }
    }

    fn complete(&mut self, h: &mut History, hot: &mut Vec<usize>) {
        let Some(incoming) = self.incoming.take() else { return };
        let message = incoming.message;
        let log = &h.messages[message];
        let key = key_text(h, message);
        let envelope = EXCHANGES[log.exchange].0 == incoming.exchange && key == incoming.key;
        if !envelope || body(h.root(message), log.size) != incoming.body {
            return h.fail(|| format!("message {message} arrived changed"));
        }
        match incoming.kind {
            Kind::Return => self.returned(message, h),
            Kind::Deliver { consumer, tag, redelivered } => {
                let log = &h.consumers[consumer];
                let (queue, no_ack, asked) = (log.queue, log.no_ack, log.op);
                let d = self.delivery(message, queue, asked, redelivered, no_ack, h);
                self.arrived(d, tag, Some(consumer), h);
                self.check_prefetch(consumer, h);
                self.check_limit(consumer, h);
            }
            Kind::Got { op, tag, redelivered, left } => {
                let What::Get { queue, no_ack } = h.ops[op].what else { return };
                let d = self.delivery(message, queue, op, redelivered, no_ack, h);
                h.ops[op].counts = Some((left, 0));
                h.ops[op].delivery = Some(h.deliveries.len());
                self.arrived(d, tag, None, h);
                hot.push(queue);
            }
        }
    }

    fn delivery(
        &self,
        message: usize,
        queue: usize,
        asked: usize,
        redelivered: bool,
        no_ack: bool,
        h: &History,
    ) -> DeliveryLog {
        let chan = self.log.unwrap_or_default();
        let (at, at_us) = (h.time, h.now_us);
        let limbo = at > h.channels[chan].ending;
        let (settled, drained) = (None, false);
        DeliveryLog {
            message,
            queue,
            chan,
            asked,
            at,
            at_us,
            redelivered,
            no_ack,
            settled,
            limbo,
            drained,
        }
    }

    fn arrived(&mut self, log: DeliveryLog, tag: u64, consumer: Option<usize>, h: &mut History) {
        h.note(|| format!("tag {tag} on chan {}: {log:?}", log.chan));
        self.last_tag += 1;
        if tag != self.last_tag {
            let due = self.last_tag;
            return h.fail(|| format!("delivery tag {tag}, but {due} is due"));
        }
        if !log.no_ack {
            self.unacked.insert(tag, Unacked { delivery: h.deliveries.len(), consumer });
        }
        h.deliveries.push(log);
    }

    fn check_prefetch(&self, consumer: usize, h: &mut History) {
        let prefetch = usize::from(h.consumers[consumer].prefetch);
        if prefetch == 0 || h.consumers[consumer].no_ack || self.recovering {
            return;
        }
        // A delivery with an uncommitted settle still counts.
        let settled = self.tx.iter().flat_map(|tx| tx.settles.iter().map(|(_, held, _)| held));
        let all = self.unacked.values().chain(settled);
        let held = all.filter(|unacked| unacked.consumer == Some(consumer)).count();
        if held > prefetch {
            h.fail(|| format!("consumer {consumer} holds {held}, its prefetch is {prefetch}"));
        }
    }

    fn returned(&mut self, message: usize, h: &mut History) {
        let log = &h.messages[message];
        let own = Some(h.ops[log.op].span.chan) == self.log;
        let early = log.effect.is_none();
        if !log.mandatory || !own || early || log.returned.is_some() || log.confirmed {
            let log = log.clone();
            return h.fail(|| format!("message {message} was returned: {log:?}"));
        }
        h.messages[message].returned = Some(h.time);
    }

    /// Settles deliveries that were read; the caller sends the method.
    pub fn settle(&mut self, tag: u64, multiple: bool, how: Settle, op: usize, h: &mut History) {
        let first = if multiple { 0 } else { tag };
        let tags: Vec<u64> = self.unacked.range(first..=tag).map(|(tag, _)| *tag).collect();
        for tag in tags {
            let Some(unacked) = self.unacked.remove(&tag) else { continue };
            if let Some(tx) = &mut self.tx {
                tx.settles.push((tag, unacked, how));
            } else {
                h.settled(unacked.delivery, how, op);
            }
        }
    }
}

impl Incoming {
    fn new(kind: Kind, exchange: &str, key: &str) -> Self {
        let (exchange, key) = (exchange.into(), key.into());
        Self { kind, exchange, key, message: 0, body: Vec::new() }
    }
}

/// The routing key a message was published with.
pub fn key_text(h: &History, message: usize) -> &str {
    key_at(h, message, h.messages[message].key)
}

/// A key of a message, by its place in the list that the message's keys are from.
pub fn key_at(h: &History, message: usize, key: usize) -> &str {
    if h.messages[message].exchange == 0 { &h.queues[key] } else { crate::names::KEYS[key] }
}

/// Whether a reply text may be about this operation: it names what the operation names.
fn blames(h: &History, op: usize, text: &str) -> bool {
    let names = |name: &str| text.contains(&format!("'{name}'"));
    let queue = |queue: usize| names(&h.queues[queue]);
    let exchange = |exchange: usize| names(EXCHANGES[exchange].0);
    match &h.ops[op].what {
        What::DeclareQueue { queue: q, .. }
        | What::DeleteQueue { queue: q, .. }
        | What::Purge { queue: q }
        | What::Get { queue: q, .. } => queue(*q),
        What::Bind(key) | What::Unbind(key) => queue(key.queue) || exchange(key.exchange),
        What::DeclareExchange { exchange: e, .. } | What::DeleteExchange { exchange: e } => {
            exchange(*e)
        }
        What::Consume { consumer } => queue(h.consumers[*consumer].queue),
        What::Publish { message } => exchange(h.messages[*message].exchange),
        What::Settle { tag, .. } => text.ends_with(&format!("unknown delivery tag {tag}")),
        _ => false,
    }
}
