//! Messages that are half received: what they hold is counted, and beyond a cap only the oldest
//! goes on being read, so that there is always one that can be finished.

use model::ConnId;
use model::mutant::{self, Mutant};
use model::session::channel::State;

use super::conn::pause;
use super::machine::Shard;

impl Shard {
    /// Counts what a connection's half-received messages hold, after a chunk.
    pub(super) fn count_receiving(&mut self, id: ConnId) {
        let Some(conn) =
            self.clients.get(id).filter(|conn| !conn.halves.is_empty() && !conn.let_go)
        else {
            return;
        };
        for number in std::mem::take(&mut conn.halves) {
            self.count_half(id, number);
        }
        // One that holds nothing any more has nothing to wait for, and nobody would wake it.
        let holds = self.receiving.values().any(|(conn, _)| *conn == id);
        let oldest = self.receiving.first_key_value().map(|(_, (conn, _))| *conn);
        if holds
            && self.receiving_octets > self.receiving_max
            && (oldest.is_some_and(|oldest| oldest != id) || mutant::active(Mutant::OldestStopped))
            && let Some(conn) = self.clients.get(id)
        {
            conn.paused |= pause::DRAFTS;
            self.clients.touch(id);
        }
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
        let (order, pinned) = (channel.draft_order, channel.draft.pinned());
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
        self.unpause(owner, pause::DRAFTS);
        let all = self.receiving_octets <= self.receiving_max;
        let how_many = if all { self.receiving.len() } else { 1 };
        let waiting: Vec<ConnId> =
            self.receiving.values().take(how_many).map(|(conn, _)| *conn).collect();
        for conn in waiting {
            self.unpause(conn, pause::DRAFTS);
        }
    }
}
