//! Somebody beside the clients: lists are walked a chunk at a time between all other steps, and an
//! operator purges and deletes queues and closes connections. Commands are judged like methods of a
//! client that owns nothing; what lists say is judged by [`walk`] and, at rest, by [`rest`].

mod rest;
mod walk;

use std::collections::BTreeMap;

use model::{ConnId, Refusal};
use ringtail::mesh::inspect::{
    CoordinatorAnswer, CoordinatorRequest, InspectId, ShardAnswer, ShardRequest,
};

use crate::client::{Manner, Stage};
use crate::history::{ChannelLog, ConnLog, Fate, NEVER, What};
use crate::inspect::walk::Walk;
use crate::names::{NO_QUEUE, QUEUES, kind};
use crate::run::MORTAL;
use crate::world::World;

/// What an operator says.
pub const REASON: &str = "an operator wants it";

/// What was asked and is not answered, and how far the walks are.
#[derive(Default)]
pub struct Inspector {
    next: u64,
    /// The operations of commands by question.
    commands: BTreeMap<InspectId, usize>,
    walks: Vec<Walk>,
}

impl World {
    /// One question or command.
    pub fn inspect(&mut self) {
        match self.rng.u8(..16) {
            0..=11 => self.walk_on(),
            12 | 13 => self.purge_by_operator(),
            14 => self.delete_by_operator(),
            _ if self.rng.u8(..4) == 0 => self.close_by_operator(),
            _ => {}
        }
    }

    fn fresh_question(&mut self) -> InspectId {
        self.inspector.next += 1;
        InspectId(self.inspector.next)
    }

    /// Notes a command as the method of a channel that does nothing else.
    fn command(&mut self, what: What) -> InspectId {
        let h = &mut self.h;
        h.conns.push(ConnLog { ending: NEVER, ended: NEVER });
        let conn = h.conns.len() - 1;
        let (ending, ended, loose, seq) = (NEVER, NEVER, Vec::new(), 0);
        h.channels.push(ChannelLog { conn, ending, ended, loose, seq });
        let op = h.sent(h.channels.len() - 1, what, false);
        let id = self.fresh_question();
        self.inspector.commands.insert(id, op);
        id
    }

    fn purge_by_operator(&mut self) {
        let queue = self.rng.usize(..self.h.queues.len());
        if !kind(queue).purged && !kind(queue).exclusive && queue != NO_QUEUE {
            return;
        }
        let shard = self.rng.usize(..self.shards());
        self.purge_at(shard, queue);
    }

    /// An operator purges a queue; the shard is the one that is asked.
    fn purge_at(&mut self, shard: usize, queue: usize) {
        let id = self.command(What::Purge { queue });
        let name = self.h.queues[queue].as_str().into();
        self.ask_shard(shard, id, ShardRequest::PurgeQueue { vhost: "/".into(), name });
    }

    /// An operator purges a queue while it is being deleted: he is answered when it is gone.
    pub fn purge_past_deletion(&mut self) {
        let one = self.connect(1, 0);
        self.quiet();
        self.begin_deletion(one);
        self.rush(one);
        for _ in 0..10 {
            let shard = self.rng.usize(..self.shards());
            self.purge_at(shard, MORTAL);
            self.jostle(one);
        }
        self.quiet();
    }

    fn delete_by_operator(&mut self) {
        let queue = self.rng.usize(..self.h.queues.len());
        let kind = kind(queue);
        if !kind.mortal && !kind.auto_delete && !kind.exclusive {
            return;
        }
        let (if_unused, if_empty) = (self.rng.u8(..4) == 0, self.rng.u8(..4) == 0);
        let id = self.command(What::DeleteQueue { queue, if_unused, if_empty });
        let (vhost, name) = ("/".into(), self.h.queues[queue].as_str().into());
        let request = CoordinatorRequest::DeleteQueue { vhost, name, if_unused, if_empty };
        self.broker.coordinator.inspect(id, request, self.now);
        self.broker.moved = true;
        self.take_coordinator_answers();
    }

    fn close_by_operator(&mut self) {
        let at = self.rng.usize(..self.links.len());
        let link = &mut self.links[at];
        let client = &mut link.client;
        let reads = client.stage == Stage::Open && client.manner == Manner::Reads;
        if !link.alive || !reads || client.offended {
            return;
        }
        (client.offended, client.forced) = (true, true);
        let (conn, shard, now) = (link.conn, link.shard, self.h.step());
        self.h.note(|| format!("an operator closes conn {}", client.conn));
        // From now on the server may end the connection, whenever the client reads that.
        let log = &mut self.h.conns[client.conn];
        log.ending = log.ending.min(now);
        client.channels.iter_mut().for_each(|channel| channel.ending(&mut self.h, now));
        self.close_connection(shard, conn, ShardAnswer::Closing);
        let nobody = ConnId(conn.0 + (1 << 40));
        self.close_connection(shard, nobody, ShardAnswer::NoConnection);
    }

    /// Closes a connection and expects an answer at once.
    fn close_connection(&mut self, shard: usize, conn: ConnId, expected: ShardAnswer) {
        let id = self.fresh_question();
        let request = ShardRequest::CloseConnection { conn, reason: REASON.into() };
        self.broker.shards[shard].inspect(id, request, self.now);
        let answer = self.broker.shards[shard].next_inspected();
        if answer != Some((id, expected)) {
            self.h.fail(|| format!("an operator's close was answered with {answer:?}"));
        }
        self.end_turn(shard);
    }

    fn ask_shard(&mut self, shard: usize, id: InspectId, request: ShardRequest) {
        self.broker.shards[shard].inspect(id, request, self.now);
        self.end_turn(shard);
    }

    /// Takes what a shard has answered by the end of its turn.
    pub fn take_shard_answers(&mut self, shard: usize) {
        while let Some((id, answer)) = self.broker.shards[shard].next_inspected() {
            self.broker.moved = true;
            match answer {
                ShardAnswer::Purged(messages) => self.carried_out(id, messages),
                ShardAnswer::Refused(refusal) => self.refused(id, &refusal),
                other => self.h.fail(|| format!("a purge was answered with {other:?}")),
            }
        }
    }

    /// Takes what the coordinator has answered by the end of its turn.
    pub fn take_coordinator_answers(&mut self) {
        while let Some((id, answer)) = self.broker.coordinator.next_inspected() {
            self.broker.moved = true;
            match answer {
                CoordinatorAnswer::Deleted(messages) => {
                    self.carried_out(id, messages);
                    // Another client finds at once that it is gone.
                    let at = self.rng.usize(..self.links.len());
                    let mortal = QUEUES.iter().position(|queue| queue.mortal);
                    self.links[at].client.hot.extend(mortal);
                }
                CoordinatorAnswer::Refused(refusal) => self.refused(id, &refusal),
                other => self.h.fail(|| format!("a delete was answered with {other:?}")),
            }
        }
    }

    /// The command's operation, which is answered now.
    fn answered(&mut self, id: InspectId) -> Option<usize> {
        self.h.step();
        let op = self.inspector.commands.remove(&id);
        if op.is_none() {
            self.h.fail(|| format!("{id:?} is answered and was not asked"));
        }
        op
    }

    fn carried_out(&mut self, id: InspectId, messages: u32) {
        let Some(op) = self.answered(id) else { return };
        self.h.note(|| format!("op {op} is carried out, {messages} messages"));
        self.h.replied(op);
        self.h.ops[op].counts = Some((messages, 0));
    }

    fn refused(&mut self, id: InspectId, refusal: &Refusal) {
        let Some(op) = self.answered(id) else { return };
        let code = refusal.fault((50, 40)).code.number();
        // A client is told that it deleted nothing.
        if code == 404 && matches!(self.h.ops[op].what, What::DeleteQueue { .. }) {
            self.h.replied(op);
            self.h.ops[op].counts = Some((0, 0));
            return;
        }
        self.h.note(|| format!("op {op} is refused with {code}"));
        let log = &mut self.h.ops[op];
        (log.fate, log.span.done) = (Fate::Refused(code), self.h.time);
        let chan = log.span.chan;
        self.h.channels[chan].loose.clear();
    }
}
