//! When nothing moves: every command is answered, the lists of all parts agree with each other, and
//! channels have counted what their clients saw.

use std::collections::BTreeSet;

use model::session::ChannelCounters;
use ringtail::mesh::inspect::{ChannelRow, Page, QueueRow, ShardAnswer, ShardRequest};

use crate::client::{Manner, Stage};
use crate::history::{Fate, Settle, What};
use crate::inspect::walk::Behind;
use crate::names::{EXCHANGES, FIRST_DECLARED};
use crate::world::World;

impl World {
    /// Judges what is listed when nothing moves.
    pub fn check_lists(&mut self) {
        if let Some(op) = self.inspector.commands.values().next().copied() {
            let what = self.h.ops[op].what.clone();
            return self.h.fail(|| format!("op {op} of an operator waits for ever: {what:?}"));
        }
        let queues = self.check_queues();
        let channels = self.check_connections();
        self.check_sums(&queues, &channels);
        self.check_channels(&channels);
        self.check_exchanges();
    }

    fn check_queues(&mut self) -> Vec<QueueRow> {
        let known = self.whole(&Behind::Known(None));
        let mut rows = Vec::new();
        for shard in 0..self.shards() {
            let page = ShardRequest::Queues(Page::behind(None));
            let ShardAnswer::Queues(chunk) = self.list_of(shard, page) else { panic!() };
            rows.extend(chunk.items);
        }
        let here: BTreeSet<_> = rows.iter().map(|row| format!("{:?}", row.id)).collect();
        if known != here || here.len() != rows.len() {
            self.h.fail(|| format!("shards have the queues {here:?}, known are {known:?}"));
        }
        rows
    }

    fn check_connections(&mut self) -> Vec<ChannelRow> {
        let mut rows = Vec::new();
        for shard in 0..self.shards() {
            let listed = self.whole(&Behind::Conn(shard, None));
            let here = self.links.iter().filter(|link| link.alive && link.shard == shard);
            let here: BTreeSet<_> = here.map(|link| format!("{:?}", link.conn)).collect();
            if listed != here {
                self.h.fail(|| format!("shard {shard} lists {listed:?}, it has {here:?}"));
            }
            let page = ShardRequest::Channels(Page::behind(None));
            let ShardAnswer::Channels(chunk) = self.list_of(shard, page) else { panic!() };
            rows.extend(chunk.items);
        }
        rows
    }

    /// What queues have given channels is there.
    fn check_sums(&mut self, queues: &[QueueRow], channels: &[ChannelRow]) {
        let given = queues.iter().map(|row| (row.snapshot.unacknowledged, row.snapshot.consumers));
        let given = given.fold((0, 0), |sum, row| (sum.0 + row.0, sum.1 + row.1));
        let held = channels.iter().map(|row| (row.unacknowledged, row.consumers));
        let held = held.fold((0, 0), |sum, row| (sum.0 + row.0, sum.1 + row.1));
        let mut listed = 0;
        for shard in 0..self.shards() {
            listed += self.whole(&Behind::Consumer(shard, None)).len() as u64;
        }
        // What a channel has of a queue that is deleted is its own until it settles it.
        if given.0 > held.0 || given.1 != held.1 || listed != held.1 {
            self.h.fail(|| {
                format!("queues gave {given:?} messages and consumers, channels have {held:?}")
            });
        }
    }

    /// Channels of clients that read everything have counted what these saw.
    fn check_channels(&mut self, rows: &[ChannelRow]) {
        for link in self.links.iter().filter(|link| link.alive) {
            let client = &link.client;
            if client.stage != Stage::Open || client.manner != Manner::Reads || client.offended {
                continue;
            }
            let open = client.channels.iter().filter(|channel| channel.open);
            for channel in open.filter(|channel| channel.closing.is_none()) {
                let row = |row: &&ChannelRow| row.conn == link.conn && row.number == channel.number;
                let (number, conn) = (channel.number, client.conn);
                let Some(row) = rows.iter().find(row) else {
                    return self
                        .h
                        .fail(|| format!("channel {number} of conn {conn} is not listed"));
                };
                let Some(log) = channel.log else { continue };
                let seen = self.seen_by(log, row);
                if row.counters != seen {
                    let counted = row.counters;
                    return self.h.fail(|| {
                        format!("channel {number} of conn {conn} counted {counted:?}, not {seen:?}")
                    });
                }
            }
        }
    }

    /// What a client saw on a channel; what it cannot know is as in `row`.
    fn seen_by(&self, log: usize, row: &ChannelRow) -> ChannelCounters {
        let h = &self.h;
        let published = |message: &&crate::history::MessageLog| {
            let done = |op: usize| h.ops[op].fate == Fate::Done;
            let own = h.ops[message.op].span.chan == log && message.died.is_none();
            own && message.effect.is_some_and(done)
        };
        let publish = h.messages.iter().filter(published).count() as u64;
        let unroutable = h.messages.iter().filter(published).filter(|m| m.returned.is_some());
        let deliveries = || h.deliveries.iter().filter(|delivery| delivery.chan == log);
        let of = |get: bool, no_ack: bool| {
            let got = |asked: usize| matches!(h.ops[asked].what, What::Get { .. });
            let like = |d: &&crate::history::DeliveryLog| got(d.asked) == get && d.no_ack == no_ack;
            deliveries().filter(like).count() as u64
        };
        let empty = |op: &&crate::history::Op| {
            op.span.chan == log && matches!(op.what, What::Get { .. }) && op.delivery.is_none()
        };
        let acked =
            |d: &&crate::history::DeliveryLog| d.settled.is_some_and(|(how, _)| how == Settle::Ack);
        // In a transaction what goes to no queue is counted at once.
        let publish = if row.transactional { row.counters.publish } else { publish };
        ChannelCounters {
            publish,
            return_unroutable: unroutable.count() as u64,
            deliver: of(false, false),
            deliver_no_ack: of(false, true),
            get: of(true, false),
            get_no_ack: of(true, true),
            get_empty: h.ops.iter().filter(empty).count() as u64,
            redeliver: deliveries().filter(|d| d.redelivered).count() as u64,
            // Those of a transaction wait for its commit.
            ack: if row.transactional {
                row.counters.ack
            } else {
                deliveries().filter(acked).count() as u64
            },
            ..row.counters
        }
    }

    /// Exchanges that nobody deletes have counted what clients know to have published.
    fn check_exchanges(&mut self) {
        let mut counted = [0; FIRST_DECLARED];
        for shard in 0..self.shards() {
            let page = ShardRequest::Exchanges(Page::behind(None));
            let ShardAnswer::Exchanges(chunk) = self.list_of(shard, page) else { panic!() };
            for row in chunk.items {
                let at = EXCHANGES.iter().position(|(name, _)| **name == *row.name);
                if let Some(count) = at.and_then(|at| counted.get_mut(at)) {
                    *count += row.counters.publish_in;
                }
            }
        }
        for (exchange, count) in counted.into_iter().enumerate() {
            let to = || {
                let messages = self.h.messages.iter().filter(|m| m.died.is_none());
                messages.filter(move |m| m.exchange == exchange)
            };
            let done = |op: usize| self.h.ops[op].fate == Fate::Done;
            let least = to().filter(|m| m.effect.is_some_and(done)).count() as u64;
            let most = to().count() as u64;
            if count < least || count > most {
                let name = EXCHANGES[exchange].0;
                return self.h.fail(|| {
                    format!("'{name}' counted {count} messages, {least} to {most} were published")
                });
            }
        }
    }
}
