//! Rings between every pair of threads that exchange batches: the shards and the coordinator.
//!
//! ```text
//!  a ── batches ──────────────▶ b      bounded; order is first in, first out
//!  a ◀───────── emptied batches b      so that buffers are freed and reused where they were made
//! ```
//!
//! A ring takes whole batches, so its cost is per turn, not per message. If it is full, the batch
//! stays with its sender and grows; the receiver wakes the sender once there is room.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use rtrb::{Consumer, Producer, RingBuffer};

use crate::runtime::wakeup::Wakeup;

/// Batches in one ring. A sender adds a few in a turn: one in each of its rounds.
const RING: usize = 64;

/// One end of every ring of a thread.
#[derive(Debug)]
pub struct Endpoint<T> {
    wakeup: Arc<Wakeup>,
    /// Indexed by the peer's number; `None` for the endpoint itself.
    peers: Vec<Option<PeerRings<T>>>,
}

/// The rings between an endpoint and one peer, seen from the endpoint.
#[derive(Debug)]
struct PeerRings<T> {
    peer: Arc<Wakeup>,
    out: Producer<T>,
    emptied: Consumer<T>,
    inbound: Consumer<T>,
    give_back: Producer<T>,
    /// This endpoint waits for room in `out`. The peer reads it after it took a batch.
    out_waits: Arc<AtomicBool>,
    /// The peer waits for room in `inbound`.
    peer_waits: Arc<AtomicBool>,
    /// A batch was sent and the peer has not been woken since.
    sent: bool,
    /// A batch was taken and `peer_waits` has not been read since.
    taken: bool,
    /// The last batch did not fit into the ring.
    refused: bool,
}

/// Makes endpoints, each connected with every other.
///
/// # Errors
///
/// The system's: no descriptors.
pub fn mesh<T: Default>(endpoints: usize) -> io::Result<Vec<Endpoint<T>>> {
    let mut all = (0..endpoints)
        .map(|_| Ok(Endpoint { wakeup: Arc::new(Wakeup::new()?), peers: Vec::new() }))
        .collect::<io::Result<Vec<_>>>()?;
    for a in 0..endpoints {
        for b in 0..a {
            let (ours, theirs) = connect(&all[a].wakeup, &all[b].wakeup);
            // Both ends list their peers in ascending order, with a gap for themselves.
            all[a].peers.push(Some(ours));
            all[b].peers.push(Some(theirs));
        }
        all[a].peers.push(None);
    }
    Ok(all)
}

fn connect<T>(a: &Arc<Wakeup>, b: &Arc<Wakeup>) -> (PeerRings<T>, PeerRings<T>) {
    let [(ab, b_in), (ba, a_in)] = [RingBuffer::new(RING), RingBuffer::new(RING)];
    let [(a_back, b_emptied), (b_back, a_emptied)] = [RingBuffer::new(RING), RingBuffer::new(RING)];
    let [a_waits, b_waits] = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
    let link =
        |peer: &Arc<Wakeup>, out, emptied, inbound, give_back, out_waits, peer_waits| PeerRings {
            peer: Arc::clone(peer),
            out,
            emptied,
            inbound,
            give_back,
            out_waits,
            peer_waits,
            sent: false,
            taken: false,
            refused: false,
        };
    let (a_too, b_too) = (Arc::clone(&a_waits), Arc::clone(&b_waits));
    let ours = link(b, ab, a_emptied, a_in, a_back, a_waits, b_waits);
    (ours, link(a, ba, b_emptied, b_in, b_back, b_too, a_too))
}

impl<T: Default> Endpoint<T> {
    /// The thread's wake-up, for threads that leave work elsewhere than in a ring.
    #[must_use]
    pub fn wakeup(&self) -> &Arc<Wakeup> {
        &self.wakeup
    }

    /// The numbers of all endpoints, its own included.
    #[must_use]
    pub fn numbers(&self) -> std::ops::Range<usize> {
        0..self.peers.len()
    }

    /// Sends the batch and leaves an empty one in its place. `false`: the ring is full, the batch
    /// stays, and the endpoint is woken when there is room.
    pub fn send(&mut self, to: usize, batch: &mut T) -> bool {
        let Some(link) = self.peers.get_mut(to).and_then(Option::as_mut) else {
            return false;
        };
        if link.is_full() {
            link.refused = true;
            return false;
        }
        link.refused = false;
        link.sent = true;
        let spare = link.emptied.pop().unwrap_or_default();
        let full = std::mem::replace(batch, spare);
        let pushed = link.out.push(full);
        debug_assert!(pushed.is_ok(), "only this end fills the ring, and it had room");
        true
    }

    /// The next batch from that peer.
    pub fn take(&mut self, from: usize) -> Option<T> {
        let link = self.peers.get_mut(from)?.as_mut()?;
        let batch = link.inbound.pop().ok();
        link.taken |= batch.is_some();
        batch
    }

    /// Returns an emptied batch to the peer it came from.
    pub fn give_back(&mut self, from: usize, batch: T) {
        if let Some(Some(link)) = self.peers.get_mut(from) {
            // A full ring means that the sender has enough spares: the batch is freed here.
            drop(link.give_back.push(batch));
        }
    }

    /// Wakes peers that got a batch or wait for room. To be called once a turn, after the last
    /// [`send`](Self::send).
    pub fn wake_peers(&mut self) {
        let mut peers = self.peers.iter_mut().flatten();
        if !peers.any(|peer| peer.sent || peer.taken) {
            return;
        }
        fence(Ordering::SeqCst);
        self.peers.iter_mut().flatten().for_each(PeerRings::wake_after_fence);
    }

    /// Announces that the thread is about to sleep. `false`: there is work, and it must not sleep.
    #[must_use]
    pub fn may_sleep(&self) -> bool {
        self.wakeup.announce_sleep();
        let busy = self.peers.iter().flatten().any(PeerRings::has_work);
        if busy {
            self.wakeup.awake();
        }
        !busy
    }

    /// The thread is awake.
    pub fn awake(&self) {
        self.wakeup.awake();
    }
}

impl<T> PeerRings<T> {
    /// Whether there is no room. If so, the peer will wake this endpoint when there is.
    fn is_full(&self) -> bool {
        if !self.out.is_full() {
            return false;
        }
        self.out_waits.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        self.out.is_full()
    }

    fn wake_after_fence(&mut self) {
        let waits = self.taken
            && self.peer_waits.load(Ordering::Relaxed)
            && self.peer_waits.swap(false, Ordering::Relaxed);
        if self.sent || waits {
            self.peer.wake_after_fence();
        }
        (self.sent, self.taken) = (false, false);
    }

    /// A batch arrived, or there is room for the one that did not fit.
    fn has_work(&self) -> bool {
        !self.inbound.is_empty() || (self.refused && !self.out.is_full())
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use crate::runtime::rings::*;

    fn sleep(end: &Endpoint<Vec<u64>>) {
        if end.may_sleep() {
            end.wakeup.wait().unwrap();
        }
        end.awake();
    }

    fn send_all(mut end: Endpoint<Vec<u64>>, to: usize, items: u64, batch_max: u64) {
        let mut batch = Vec::new();
        let mut next = 0;
        while next < items || !batch.is_empty() {
            let more = (items - next).min(1 + next % batch_max);
            batch.extend(next..next + more);
            next += more;
            let sent = end.send(to, &mut batch);
            end.wake_peers();
            if !sent {
                sleep(&end);
            }
        }
    }

    fn take_all(mut end: Endpoint<Vec<u64>>, from: usize, items: u64) {
        let mut next = 0;
        while next < items {
            while let Some(mut batch) = end.take(from) {
                for item in batch.drain(..) {
                    assert_eq!(item, next);
                    next += 1;
                }
                end.give_back(from, batch);
            }
            end.wake_peers();
            if next < items {
                sleep(&end);
            }
        }
    }

    fn pump(items: u64, batch_max: u64) {
        let mut ends = mesh(2).unwrap();
        let (b, a) = (ends.pop().unwrap(), ends.pop().unwrap());
        let sender = thread::spawn(move || send_all(a, 1, items, batch_max));
        take_all(b, 0, items);
        sender.join().unwrap();
    }

    #[test]
    fn a_million_items_arrive_in_order_and_no_wake_up_is_lost() {
        pump(1_000_000, 64);
    }

    #[test]
    fn nor_is_one_lost_when_every_item_is_a_batch() {
        pump(300_000, 1);
    }

    #[test]
    fn nor_in_ping_pong() {
        let mut ends = mesh(2).unwrap();
        let (b, a) = (ends.pop().unwrap(), ends.pop().unwrap());
        let bounce = |mut end: Endpoint<Vec<u64>>, peer: usize, first: bool| {
            let mut batch = vec![0];
            for round in 0..20_000 {
                if first || round > 0 {
                    assert!(end.send(peer, &mut batch));
                    end.wake_peers();
                }
                batch = loop {
                    match end.take(peer) {
                        Some(batch) => break batch,
                        None => sleep(&end),
                    }
                };
            }
            // The second one answers the last ball.
            end.send(peer, &mut batch);
            end.wake_peers();
        };
        let other = thread::spawn(move || bounce(b, 0, false));
        bounce(a, 1, true);
        other.join().unwrap();
    }

    #[test]
    fn every_endpoint_reaches_every_other() {
        let mut ends = mesh::<Vec<u64>>(4).unwrap();
        for (from, end) in (0..).zip(&mut ends) {
            assert_eq!(end.numbers(), 0..4);
            for to in 0..4 {
                assert_eq!(end.send(to, &mut vec![from]), from != to as u64);
            }
        }
        for (to, end) in ends.iter_mut().enumerate() {
            for from in 0..4 {
                let expected = (from != to).then(|| vec![from as u64]);
                assert_eq!(end.take(from), expected);
                assert_eq!(end.take(from), None);
            }
        }
    }

    #[test]
    fn emptied_batches_come_back() {
        let mut ends = mesh::<Vec<u64>>(2).unwrap();
        let mut batch = vec![7; 100];
        let buffer = batch.as_ptr();
        assert!(ends[0].send(1, &mut batch));
        let mut taken = ends[1].take(0).unwrap();
        taken.clear();
        ends[1].give_back(0, taken);
        assert!(ends[0].send(1, &mut batch));
        assert_eq!(batch.as_ptr(), buffer);
    }

    #[test]
    fn a_full_ring_refuses_until_there_is_room() {
        let mut ends = mesh::<Vec<u64>>(2).unwrap();
        for item in 0..RING as u64 {
            assert!(ends[0].send(1, &mut vec![item]));
        }
        let mut left = vec![99];
        assert!(!ends[0].send(1, &mut left));
        assert_eq!(left, [99]);
        assert!(ends[0].may_sleep());
        assert_eq!(ends[1].take(0), Some(vec![0]));
        ends[1].wake_peers();
        ends[0].wakeup.wait().unwrap();
        assert!(!ends[0].may_sleep());
        assert!(ends[0].send(1, &mut left));
    }
}
