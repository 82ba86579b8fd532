//! The actions of a client: each queues one method, or a publish, on a channel.

use amqp::{Method, Table, TableWriter, Value};
use fastrand::Rng;

use crate::client::{Client, properties};
use crate::history::{ConsumerLog, Fate, History, MessageLog, NEVER, Settle, What};
use crate::names::{
    EXCHANGES, KEYS, NO_QUEUE, NOWHERE, PLAIN_KEYS, QUEUES, RETRY, SIZES, body, kind,
};
use crate::plan::{Action, Plan, one_of};

/// A client, one of its channels, and what an action needs.
pub struct Actor<'a> {
    /// The client.
    pub client: &'a mut Client,
    /// The slot of its channel.
    pub at: usize,
    /// What was seen so far.
    pub h: &'a mut History,
    /// The dice.
    pub rng: &'a mut Rng,
    /// The run's choices.
    pub plan: &'a Plan,
    /// A queue to use next, if there is one.
    pub hint: Option<usize>,
}

impl Actor<'_> {
    /// Acts, if the state of the channel allows it.
    pub fn act(&mut self, action: Action) {
        let channel = &self.client.channels[self.at];
        if !channel.open || channel.closing.is_some() {
            if channel.free() {
                self.client.open_channel(self.at, self.h);
            }
            return;
        }
        match action {
            Action::Publish => self.publish(),
            Action::Consume => self.consume(),
            Action::Settle => self.settle(),
            Action::Get => self.get(),
            Action::DeclareQueue => self.declare_queue(false),
            Action::Probe => self.declare_queue(true),
            Action::DeclareServerNamed => self.declare_server_named(),
            Action::Bind => self.bind(),
            Action::Unbind => self.unbind(),
            Action::Cancel => self.cancel(),
            Action::Purge => self.purge(),
            Action::DeleteQueue => self.delete_queue(),
            Action::DeclareExchange => self.declare_exchange(),
            Action::DeleteExchange => self.delete_exchange(),
            Action::Confirm => self.confirm(),
            Action::Transact => self.transact(),
            Action::Qos => self.qos(),
            Action::Limit => self.limit(),
            Action::Recover => self.recover(),
            Action::CloseChannel => self.close_channel(),
            Action::Offend => self.offend(),
            Action::OffendConnection => self.offend_connection(),
            Action::CloseConnection | Action::Vanish | Action::GoDeaf => {}
        }
    }

    /// A queue: mostly one that exists, so that most operations succeed.
    fn queue(&mut self) -> usize {
        if let Some(hint) = self.hint.take() {
            return hint;
        }
        match self.rng.usize(..20) {
            0 if self.h.queues.len() > QUEUES.len() => {
                self.rng.usize(QUEUES.len()..self.h.queues.len())
            }
            _ => self.rng.usize(..NO_QUEUE),
        }
    }

    /// A queue that a client of this connection may use without an error, as far as it knows.
    pub(super) fn usable_queue(&mut self) -> usize {
        for _ in 0..4 {
            let queue = self.queue();
            let risky = kind(queue).exclusive || kind(queue).mortal || kind(queue).auto_delete;
            let live = self.h.ops.iter().rev().take(60).any(|op| {
                matches!(op.what, What::DeclareQueue { queue: q, passive: false, .. } if q == queue)
                    && (!kind(queue).exclusive || op.conn == self.client.conn)
            });
            if live || (!risky && queue < QUEUES.len()) || self.rng.u8(..30) == 0 {
                return queue;
            }
        }
        self.rng.usize(..3)
    }

    /// Sends a method; unless `silent`, its reply is awaited.
    pub fn ask(&mut self, what: What, method: &Method<'_>, silent: bool) -> usize {
        if silent {
            self.client.tell(self.at, what, method, self.h)
        } else {
            self.client.ask(self.at, what, method, self.h)
        }
    }

    fn declare_queue(&mut self, passive: bool) {
        let queue = self.queue();
        let there = self.h.ops.iter().any(|op| {
            matches!(op.what, What::DeclareQueue { queue: q, passive: false, mismatch: false, .. }
                if q == queue && op.fate == Fate::Done)
        });
        let mismatch = there && !passive && queue < 2 && self.rng.u8(..10) == 0;
        self.declare(queue, passive, mismatch);
    }

    /// Declares a queue, perhaps passively.
    pub fn declare(&mut self, queue: usize, passive: bool, mismatch: bool) -> usize {
        let (name, kind) = (self.h.queues[queue].clone(), kind(queue));
        // A server-made name may only be declared passively.
        let passive = passive || queue >= QUEUES.len();
        let nowait = !passive && !mismatch && self.rng.u8(..6) == 0;
        let table = kind.limits.add_to(kind.arguments());
        let method = Method::QueueDeclare {
            ticket: 0,
            queue: &name,
            passive,
            durable: kind.durable != mismatch,
            exclusive: kind.exclusive,
            auto_delete: kind.auto_delete,
            nowait,
            arguments: table.table(),
        };
        let exclusive = kind.exclusive;
        self.ask(What::DeclareQueue { queue, passive, exclusive, mismatch }, &method, nowait)
    }

    /// Declares a queue that the server names, unless there are many.
    pub fn declare_server_named(&mut self) {
        let method = Method::QueueDeclare {
            ticket: 0,
            queue: "",
            passive: false,
            durable: false,
            exclusive: true,
            auto_delete: false,
            nowait: false,
            arguments: Table::EMPTY,
        };
        if self.h.queues.len() < QUEUES.len() + 4 {
            self.ask(What::DeclareServerNamed, &method, false);
        }
    }

    fn delete_queue(&mut self) {
        let queue = self.queue();
        if kind(queue).mortal || kind(queue).auto_delete {
            let (if_unused, if_empty) = (self.rng.u8(..4) == 0, self.rng.u8(..4) == 0);
            self.delete(queue, if_unused, if_empty);
        }
    }

    /// Deletes a queue.
    pub fn delete(&mut self, queue: usize, if_unused: bool, if_empty: bool) {
        let name = self.h.queues[queue].clone();
        let nowait = !if_unused && !if_empty && self.rng.u8(..6) == 0;
        let method = Method::QueueDelete { ticket: 0, queue: &name, if_unused, if_empty, nowait };
        self.ask(What::DeleteQueue { queue, if_unused, if_empty }, &method, nowait);
    }

    fn purge(&mut self) {
        let queue = self.usable_queue();
        if kind(queue).purged {
            let nowait = self.rng.u8(..6) == 0;
            self.purge_of(queue, nowait);
        }
    }

    /// Purges a queue.
    pub fn purge_of(&mut self, queue: usize, nowait: bool) {
        let name = self.h.queues[queue].clone();
        let method = Method::QueuePurge { ticket: 0, queue: &name, nowait };
        self.ask(What::Purge { queue }, &method, nowait);
    }

    fn publish(&mut self) {
        let direct = self.hint.is_some() || self.rng.bool();
        let (exchange, key) = if direct {
            (0, takes_publishes(self.queue()))
        } else if self.rng.u8(..60) == 0 {
            (NOWHERE, 0)
        } else {
            (self.known_exchange(), self.rng.usize(..PLAIN_KEYS))
        };
        let size = SIZES[self.rng.usize(..self.plan.sizes)];
        let also = (self.rng.u8(..6) == 0).then(|| {
            let other = match exchange {
                0 => takes_publishes(self.queue()),
                _ => self.rng.usize(..PLAIN_KEYS),
            };
            (other, self.rng.bool())
        });
        let dead_letters =
            exchange == 0 && (key == RETRY || also.is_some_and(|(other, _)| other == RETRY));
        let expires = self.plan.expirations && !dead_letters && self.rng.u8(..4) == 0;
        let expiration = expires.then(|| self.rng.u64(..8));
        self.publish_with(exchange, (key, also), size, expiration);
    }

    /// Publishes a message that may expire.
    pub fn publish_with(
        &mut self,
        exchange: usize,
        (key, also): (usize, Option<(usize, bool)>),
        size: usize,
        expiration_ms: Option<u64>,
    ) {
        let (mandatory, persistent) = (self.rng.u8(..4) == 0, self.rng.bool());
        let headers = if EXCHANGES[exchange].1 == "headers" { self.rng.u8(..4) } else { 0 };
        let message = self.h.messages.len();
        let key_text: String = if exchange == 0 { &self.h.queues[key] } else { KEYS[key] }.into();
        let method = Method::BasicPublish {
            ticket: 0,
            exchange: EXCHANGES[exchange].0,
            routing_key: &key_text,
            mandatory,
            immediate: false,
        };
        let op = self.client.tell(self.at, What::Publish { message }, &method, self.h);
        self.h.messages.push(MessageLog {
            exchange,
            key,
            also,
            headers,
            size,
            mandatory,
            persistent,
            op,
            effect: self.client.channels[self.at].tx.is_none().then_some(op),
            returned: None,
            arrived: NEVER,
            arrived_us: u64::MAX,
            expiration_ms,
            refused: false,
            confirmed: false,
            died: None,
        });
        self.client.channels[self.at].published(message);
        let properties = properties(self.h, message, true);
        self.client.content(self.at, &properties, body(message, size));
    }

    fn consume(&mut self) {
        let queue = self.usable_queue();
        let no_ack = self.rng.u8(..3) == 0;
        let priority = *one_of(self.rng, &[0, 0, 0, -3, 2, 5]);
        if self.client.channels[self.at].consumers.len() < 3 {
            self.consume_with(queue, no_ack, priority);
        }
    }

    /// Starts a consumer of no special priority.
    pub fn consume_from(&mut self, queue: usize, no_ack: bool) -> usize {
        self.consume_with(queue, no_ack, 0)
    }

    /// Starts a consumer.
    pub fn consume_with(&mut self, queue: usize, no_ack: bool, priority: i8) -> usize {
        let consumer = self.h.consumers.len();
        let nowait = self.rng.u8(..6) == 0;
        let named = nowait || self.rng.u8(..4) != 0;
        let tag = if named { format!("c-{consumer}") } else { String::new() };
        let prefetch = self.client.channels[self.at].prefetch;
        let name = self.h.queues[queue].clone();
        let table = TableWriter::new();
        let ranked = priority != 0 || self.rng.u8(..4) == 0;
        let table = if ranked { table.with("x-priority", Value::Byte(priority)) } else { table };
        let method = Method::BasicConsume {
            ticket: 0,
            queue: &name,
            consumer_tag: &tag,
            no_local: false,
            no_ack,
            exclusive: false,
            nowait,
            arguments: table.table(),
        };
        let op = self.ask(What::Consume { consumer }, &method, nowait);
        let chan = self.client.channels[self.at].log.unwrap_or_default();
        let (ending, ended, cancelled) = (NEVER, NEVER, false);
        self.h.consumers.push(ConsumerLog {
            queue,
            chan,
            op,
            no_ack,
            prefetch,
            priority,
            ending,
            ended,
            cancelled,
        });
        self.client.channels[self.at].consuming(&tag, consumer, nowait);
        consumer
    }

    fn cancel(&mut self) {
        let channel = &self.client.channels[self.at];
        let live: Vec<(String, usize)> = channel
            .consumers
            .iter()
            .filter(|(_, live)| self.h.consumers[live.consumer].ending == NEVER)
            .map(|(tag, live)| (tag.clone(), live.consumer))
            .collect();
        if live.is_empty() {
            return;
        }
        let (tag, consumer) = one_of(self.rng, &live).clone();
        let nowait = self.rng.u8(..4) == 0;
        let method = Method::BasicCancel { consumer_tag: &tag, nowait };
        let op = self.ask(What::Cancel { consumer }, &method, nowait);
        self.client.channels[self.at].cancelling(&tag, op, nowait, self.h);
    }

    /// Cancels every consumer of the channel, and waits for the replies.
    pub fn cancel_all(&mut self) {
        let channel = &self.client.channels[self.at];
        if !channel.open || channel.closing.is_some() {
            return;
        }
        let live: Vec<(String, usize)> =
            channel.consumers.iter().map(|(tag, live)| (tag.clone(), live.consumer)).collect();
        for (tag, consumer) in live {
            let method = Method::BasicCancel { consumer_tag: &tag, nowait: false };
            let op = self.ask(What::Cancel { consumer }, &method, false);
            self.client.channels[self.at].cancelling(&tag, op, false, self.h);
        }
    }

    fn get(&mut self) {
        let queue = self.usable_queue();
        let no_ack = self.rng.u8(..3) == 0;
        self.get_from(queue, no_ack);
    }

    /// Asks for one message.
    pub fn get_from(&mut self, queue: usize, no_ack: bool) -> usize {
        let name = self.h.queues[queue].clone();
        let method = Method::BasicGet { ticket: 0, queue: &name, no_ack };
        self.ask(What::Get { queue, no_ack }, &method, false)
    }

    fn settle(&mut self) {
        let channel = &self.client.channels[self.at];
        let tags: Vec<u64> = channel.unacked.keys().copied().collect();
        if tags.is_empty() || channel.recovering {
            return;
        }
        let multiple = self.rng.u8(..4) == 0;
        let tag = if self.rng.bool() { tags[0] } else { *one_of(self.rng, &tags) };
        // Tag 0 settles deliveries under way too, so it is used only when there are none.
        let alone = channel.consumers.is_empty() && channel.waiting.is_empty();
        let all = alone && multiple && self.rng.u8(..6) == 0;
        let (sent, tag) = if all { (0, tags[tags.len() - 1]) } else { (tag, tag) };
        let how = *one_of(self.rng, &[Settle::Ack, Settle::Ack, Settle::Requeue, Settle::Drop]);
        let requeue = how == Settle::Requeue;
        let method = match how {
            Settle::Ack => Method::BasicAck { delivery_tag: sent, multiple },
            _ if !multiple && self.rng.bool() => {
                Method::BasicReject { delivery_tag: sent, requeue }
            }
            _ => Method::BasicNack { delivery_tag: sent, multiple, requeue },
        };
        let what = What::Settle { tag, multiple, how };
        let op = self.client.tell(self.at, what, &method, self.h);
        self.client.channels[self.at].settle(tag, multiple, how, op, self.h);
    }

    fn recover(&mut self) {
        if self.client.channels[self.at].recovering {
            return;
        }
        self.client.channels[self.at].recovering = true;
        self.ask(What::Recover, &Method::BasicRecover { requeue: true }, false);
    }

    /// Turns confirms on.
    pub fn confirm(&mut self) {
        let channel = &self.client.channels[self.at];
        if channel.confirms.is_none() && channel.tx.is_none() {
            let nowait = self.rng.u8(..4) == 0;
            self.ask(What::ConfirmSelect, &Method::ConfirmSelect { nowait }, nowait);
            self.client.channels[self.at].confirms = Some(Default::default());
        }
    }

    fn qos(&mut self) {
        let prefetch = *one_of(self.rng, &[0, 1, 3, 10]);
        self.qos_of(prefetch);
    }

    /// Sets the prefetch of later consumers.
    pub fn qos_of(&mut self, prefetch_count: u16) {
        let channel = &mut self.client.channels[self.at];
        channel.prefetch = prefetch_count;
        (channel.limit, channel.limiting) = (0, channel.limiting + 1);
        let method = Method::BasicQos { prefetch_size: 0, prefetch_count, global: false };
        self.ask(What::Qos(prefetch_count), &method, false);
    }
    /// Acknowledges every delivery of the channel that was read.
    pub fn ack_all(&mut self) {
        self.ack_first(usize::MAX);
    }

    /// Acknowledges the first of the deliveries that were read, at most so many.
    pub fn ack_first(&mut self, count: usize) {
        if let Some(last) = count.checked_sub(1) {
            self.settle_up_to(last, Settle::Ack);
        }
    }

    /// Requeues every delivery of the channel that was read.
    pub fn requeue_all(&mut self) {
        self.settle_up_to(usize::MAX, Settle::Requeue);
    }

    /// Settles every delivery of the channel that was read, up to the one at this place.
    pub fn settle_up_to(&mut self, last: usize, how: Settle) {
        let unacked = &self.client.channels[self.at].unacked;
        let last = last.min(unacked.len().saturating_sub(1));
        let Some(&tag) = unacked.keys().nth(last) else { return };
        let method = match how {
            Settle::Ack => Method::BasicAck { delivery_tag: tag, multiple: true },
            _ => Method::BasicNack {
                delivery_tag: tag,
                multiple: true,
                requeue: how == Settle::Requeue,
            },
        };
        let op =
            self.client.tell(self.at, What::Settle { tag, multiple: true, how }, &method, self.h);
        self.client.channels[self.at].settle(tag, true, how, op, self.h);
    }

    /// Closes the channel.
    pub fn close_channel(&mut self) {
        let method =
            Method::ChannelClose { reply_code: 200, reply_text: "", class_id: 0, method_id: 0 };
        // Not in the list of due replies: close-ok is handled apart.
        self.client.tell(self.at, What::Close, &method, self.h);
        let now = self.h.time;
        let channel = &mut self.client.channels[self.at];
        channel.ending(self.h, now);
        channel.closing = Some(now);
    }

    /// Provokes an error that closes the channel: later methods must have no effect.
    fn offend(&mut self) {
        match self.rng.u8(..3) {
            0 => {
                self.get_from(NO_QUEUE, false);
            }
            1 => self.publish_to(NOWHERE, 0, 16),
            _ => {
                let tag = 1_000_000 + self.rng.u64(..1000);
                let method = Method::BasicAck { delivery_tag: tag, multiple: false };
                let what = What::Settle { tag, multiple: false, how: Settle::Ack };
                self.client.tell(self.at, what, &method, self.h);
            }
        }
        if self.rng.bool() {
            self.publish_to(0, 0, 16);
        }
    }

    /// Provokes an error that closes the connection: uses a consumer tag twice.
    fn offend_connection(&mut self) {
        let channel = &self.client.channels[self.at];
        // One that is certainly there: a consume that is refused ends no more than its channel.
        let live = channel.consumers.iter().find(|(_, live)| {
            let log = &self.h.consumers[live.consumer];
            log.ending == NEVER && self.h.ops[log.op].fate == Fate::Done
        });
        let Some((tag, live)) = live else { return };
        let (tag, queue) = (tag.clone(), self.h.consumers[live.consumer].queue);
        if self.rng.u8(..3) != 0 || kind(queue).mortal || kind(queue).auto_delete {
            return;
        }
        let name = self.h.queues[queue].clone();
        let method = Method::BasicConsume {
            ticket: 0,
            queue: &name,
            consumer_tag: &tag,
            no_local: false,
            no_ack: false,
            exclusive: false,
            nowait: false,
            arguments: Table::EMPTY,
        };
        self.client.offended = true;
        self.client.method(self.at, &method);
        // From now on the server may end the connection, even if the client never reads the close.
        let now = self.h.step();
        self.h.conns[self.client.conn].ending = self.h.conns[self.client.conn].ending.min(now);
        self.client.channels.iter_mut().for_each(|channel| channel.ending(self.h, now));
    }
}

/// The queue, or another one if nothing but dead letters enters it.
pub(super) fn takes_publishes(queue: usize) -> usize {
    if kind(queue).only_dead_letters { RETRY } else { queue }
}
