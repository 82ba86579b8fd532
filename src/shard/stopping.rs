//! The end of the broker: clients are told, and when nobody is left the store is told what has been
//! delivered, so that the next start knows it exactly.

use amqp::Code;
use model::{ConnId, Fault, Now, QueueId, ShardId};

use super::conn::Phase;
use super::machine::Shard;
use super::message::Control;

/// How far the end of the broker is on one shard.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stopping {
    asked: bool,
    /// The others know that no connection is left here.
    told: bool,
    /// Shards that have said so themselves.
    left: u16,
    /// The store was told.
    done: bool,
}

impl Shard {
    /// Closes every connection because the broker goes down. When those of all shards are gone and
    /// [`Shard::store_idle`], nothing is left to be done.
    pub fn shutdown(&mut self, now: Now) {
        self.stopping.asked = true;
        let text = "broker forced connection closure with reason 'shutdown'";
        let fault = Fault::new(Code::ConnectionForced, text, (0, 0));
        let mut ids: Vec<ConnId> = self.clients.conns.keys().copied().collect();
        ids.sort_unstable();
        for id in ids {
            match self.clients.get(id) {
                Some(conn) if conn.handshake.running() => self.fail(id, 0, &fault, now),
                Some(conn) => {
                    conn.phase = Phase::Leaving;
                    self.clients.touch(id);
                }
                None => {}
            }
        }
    }

    /// A shard has no connection left: what its clients did is all here.
    pub(super) fn peer_left(&mut self) {
        self.stopping.left += 1;
    }

    /// Goes on with the end of the broker, if it has begun.
    pub(super) fn stop(&mut self) {
        if !self.stopping.asked || self.stopping.done || !self.clients.conns.is_empty() {
            return;
        }
        let others = self.peers.shards() - 1;
        if !self.stopping.told {
            self.stopping.told = true;
            for peer in (0..=others).map(ShardId).filter(|peer| *peer != self.me) {
                self.peers.get(peer).out.control(Control::Left);
            }
        }
        if self.stopping.left == others {
            self.stopping.done = true;
            self.stop_store();
        }
    }

    fn stop_store(&mut self) {
        let mut ids: Vec<QueueId> = self.home.queues.keys().copied().collect();
        ids.sort_unstable();
        let queues = ids.into_iter().filter_map(|id| Some((id, self.home.queues.get(&id)?)));
        let delivered =
            queues.flat_map(|(id, kept)| kept.queue.delivered().map(move |seq| (id, seq)));
        self.store.stop(delivered);
    }

    /// Whether nothing waits for the disk. When the broker goes down, nothing ever will then: the
    /// clients of all shards are gone.
    #[must_use]
    pub fn store_idle(&self) -> bool {
        self.store.is_idle() && self.stopping.asked == self.stopping.done
    }
}
