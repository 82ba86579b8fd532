//! Messages that are half received: what they hold is counted, and beyond a cap only the oldest
//! goes on being read, so that there is always one that can be finished. One that does not go on
//! while others wait for it is given up.

use amqp::Code;
use model::mutant::{self, Mutant};
use model::session::channel::State;
use model::{ConnId, Fault, Now};

use super::conn::{Conn, pause};
use super::machine::Shard;

/// While others wait the oldest has to bring [`LEAST`] octets, or its end, in each such time.
const TURN_US: u64 = 10_000_000;
/// So it holds the others up for at most five and a half minutes, at 128 MiB.
const LEAST: usize = 4 * 1024 * 1024;

/// The oldest half-received message while memory for them is short.
#[derive(Debug, Clone, Copy)]
pub(super) struct Turn {
    order: u64,
    /// What it held when the turn began.
    octets: usize,
    pub until_us: u64,
}

impl Shard {
    /// Looks how the oldest gets on, at the end of a turn.
    #[inline]
    pub(super) fn watch_receiving(&mut self, now: Now) {
        if self.receiving_octets <= self.receiving_max {
            self.receiving_turn = None;
            return;
        }
        let Some((&order, &(_, octets))) = self.receiving.first_key_value() else {
            return;
        };
        let goes_on = |turn: &Turn| turn.order != order || octets >= turn.octets + LEAST;
        if self.receiving_turn.as_ref().is_none_or(goes_on) {
            let until_us = now.monotonic_us + TURN_US;
            self.receiving_turn = Some(Turn { order, octets, until_us });
        }
    }

    /// Gives the oldest up if it had its time and did not use it.
    pub(super) fn end_receiving_turn(&mut self, now: Now) {
        let Some(turn) = self.receiving_turn.filter(|turn| turn.until_us <= now.monotonic_us)
        else {
            return;
        };
        self.receiving_turn = None;
        if let Some(&(owner, _)) = self.receiving.get(&turn.order)
            && let Some(number) = self.unused_turn(owner, turn.order)
        {
            let text = "message was not finished while others were waiting for memory";
            let fault = Fault::new(Code::ContentTooLarge, text, (60, 40));
            self.fail(owner, number, &fault, now);
        }
        self.watch_receiving(now);
    }

    /// The channel that keeps the others waiting, if it does and the broker lets it go on.
    fn unused_turn(&mut self, owner: ConnId, order: u64) -> Option<u16> {
        let waits = |conn: &ConnId| {
            self.clients.conns.get(conn).is_some_and(|conn| conn.paused & pause::DRAFTS != 0)
        };
        if !self.receiving.values().any(|(conn, _)| waits(conn)) {
            return None;
        }
        if self.clients.get(owner)?.paused & (pause::ALARM | pause::WINDOW) != 0 {
            return None;
        }
        self.receiver(owner, order)
    }

    /// Counts what a connection's half-received messages hold, after a chunk.
    pub(super) fn count_receiving(&mut self, id: ConnId, now: Now) {
        let Some(conn) =
            self.clients.get(id).filter(|conn| !conn.halves.is_empty() && !conn.let_go)
        else {
            return;
        };
        for number in std::mem::take(&mut conn.halves) {
            self.count_half(id, number);
        }
        if self.receiving_octets <= self.receiving_max {
            return;
        }
        let oldest = self.receiving.first_key_value().map(|(_, (conn, _))| *conn);
        if oldest == Some(id) && !mutant::active(Mutant::OldestStopped) {
            self.give_up_youngest(id, now);
        } else if self.receiving.values().any(|(conn, _)| *conn == id)
            // One that holds nothing any more has nothing to wait for, and nobody would wake it.
            && let Some(conn) = self.clients.get(id)
        {
            conn.paused |= pause::DRAFTS;
            self.receiving_waits = true;
            self.clients.touch(id);
        }
    }

    /// Beside the oldest message a connection may send others on its other channels: those that it
    /// began last are given up once all of them together hold too much for one connection.
    fn give_up_youngest(&mut self, id: ConnId, now: Now) {
        let own = self.receiving.iter().filter(|(_, (conn, _))| *conn == id);
        let mut own: Vec<(u64, usize)> =
            own.map(|(order, (_, octets))| (*order, *octets)).collect();
        let mut octets: usize = own.iter().map(|(_, octets)| octets).sum();
        while own.len() > 1
            && octets > self.receiving_own_max
            && let Some((order, freed)) = own.pop()
        {
            octets -= freed;
            if let Some(number) = self.receiver(id, order) {
                let text = "too much is half received on the channels of the connection";
                let fault = Fault::new(Code::ContentTooLarge, text, (60, 40));
                self.fail(id, number, &fault, now);
            }
        }
    }

    /// The channel that receives a message.
    fn receiver(&mut self, id: ConnId, order: u64) -> Option<u16> {
        let conn = self.clients.get(id)?;
        let is_it = |conn: &mut Conn, number| {
            conn.channel(number).is_some_and(|channel| channel.draft_order == order)
        };
        conn.numbers().into_iter().find(|number| is_it(conn, *number))
    }

    fn count_half(&mut self, id: ConnId, number: u16) {
        let next = self.receiving_next;
        let Some(channel) = self.clients.get(id).and_then(|conn| conn.channel(number)) else {
            return;
        };
        // One that was completed, or given up, by the rest of the chunk holds nothing.
        if channel.assembler == amqp::Assembler::Idle || channel.state != State::Open {
            return;
        }
        if channel.draft_order == 0 {
            channel.draft_order = next;
            self.receiving_next += 1;
        }
        let (order, pinned) = (channel.draft_order, channel.half());
        let entry = self.receiving.entry(order).or_insert((id, 0));
        self.receiving_octets += pinned - entry.1;
        entry.1 = pinned;
    }

    /// A message is whole, or given up: others may go on.
    pub(super) fn received(&mut self, order: u64) {
        let Some((owner, octets)) = self.receiving.remove(&order) else {
            return;
        };
        self.receiving_octets -= octets;
        if !self.receiving_waits {
            return;
        }
        self.unpause(owner, pause::DRAFTS);
        let all = self.receiving_octets <= self.receiving_max;
        self.receiving_waits = !all;
        let how_many = if all { self.receiving.len() } else { 1 };
        let waiting: Vec<ConnId> =
            self.receiving.values().take(how_many).map(|(conn, _)| *conn).collect();
        for conn in waiting {
            self.unpause(conn, pause::DRAFTS);
        }
    }
}
