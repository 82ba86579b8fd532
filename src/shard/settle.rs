//! ack, nack and reject: from tags of a channel to numbers of its queues' homes.

use amqp::Method;
use model::mutant::{self, Mutant};
use model::queue::Settle;
use model::session::{Channel, Outstanding};
use model::{ChannelId, Refusal, ShardId};

use super::home::{self, Settlement};
use super::machine::Shard;
use super::questions::Call;

impl Shard {
    pub(super) fn settle(
        &mut self,
        call: Call<'_>,
        tag: u64,
        multiple: bool,
        how: Settle,
    ) -> Result<(), Refusal> {
        let channel = self.clients.get(call.conn).and_then(|conn| conn.channel(call.number));
        let Some(channel) = channel else {
            return Ok(());
        };
        if channel.tx.is_some() && !mutant::active(Mutant::TxSettlesAtOnce) {
            return self.hold_settles(call, tag, multiple, how);
        }
        let limited = channel.limit.is_some();
        if multiple {
            for last in take_up_to(channel, tag)? {
                self.settle_at_home(last, call.channel, true, how);
            }
        } else {
            let one = channel.unacked.remove(tag).ok_or(Refusal::UnknownDeliveryTag(tag))?;
            self.settle_at_home(one, call.channel, false, how);
        }
        if limited && !mutant::active(Mutant::LimitNotReturned) {
            self.permit(call.conn, call.number);
        }
        Ok(())
    }

    /// Puts everything a channel has not settled back; it may come again, to any consumer.
    pub(super) fn recover(
        &mut self,
        call: Call<'_>,
        requeue: bool,
        reply: Option<Method<'_>>,
    ) -> Result<(), Refusal> {
        if !requeue {
            return Err(Refusal::NotImplemented("requeue=false".into()));
        }
        if let Some(method) = reply {
            self.clients.send(call.conn, call.number, &method);
        }
        let channel = self.clients.get(call.conn).and_then(|conn| conn.channel(call.number));
        let Some(channel) = channel else { return Ok(()) };
        if channel.tx.is_none() {
            return self.settle(call, 0, true, Settle::Requeue);
        }
        // One by one: among them are deliveries whose settles wait for a commit.
        let mut rest = std::mem::take(&mut channel.unacked);
        while let Some((_, one)) = rest.pop_up_to(u64::MAX) {
            self.settle_at_home(one, call.channel, false, Settle::Requeue);
        }
        self.permit(call.conn, call.number);
        Ok(())
    }

    pub(super) fn settle_at_home(
        &mut self,
        last: Outstanding,
        channel: ChannelId,
        up_to: bool,
        how: Settle,
    ) {
        let Outstanding { queue, home, number } = last;
        self.pass_settle(home, Settlement { queue, channel, number, up_to, how });
    }

    fn pass_settle(&mut self, home: ShardId, what: Settlement) {
        let Settlement { queue, channel, number, up_to, how } = what;
        if home == self.me {
            self.settle_here(what);
        } else {
            self.peers.get(home).out.settle(queue, channel, number, up_to, how);
        }
    }

    /// Applies a settle to a queue of this shard; one that is gone ignores it.
    pub(super) fn settle_here(&mut self, what: Settlement) {
        self.with_queue(what.queue, |queue, door| home::settle(queue, door, what));
    }
}

/// Takes all deliveries up to a tag off a channel: the last of each queue. Tag 0 means all.
fn take_up_to(channel: &mut Channel, tag: u64) -> Result<Vec<Outstanding>, Refusal> {
    if tag != 0 && channel.unacked.get_mut(tag).is_none() {
        return Err(Refusal::UnknownDeliveryTag(tag));
    }
    let up_to = if tag == 0 { u64::MAX } else { tag };
    let mut last: Vec<Outstanding> = Vec::new();
    while let Some((_, one)) = channel.unacked.pop_up_to(up_to) {
        match last.last_mut() {
            Some(before) if before.queue == one.queue => *before = one,
            _ => last.push(one),
        }
    }
    // Newest first, then a stable sort: the first of each queue is its last.
    last.reverse();
    last.sort_by_key(|one| one.queue);
    last.dedup_by_key(|one| one.queue);
    Ok(last)
}

#[cfg(test)]
mod tests {
    use model::QueueId;

    use super::*;

    #[test]
    fn the_last_of_each_queue_is_taken() {
        let mut channel = Channel::new(ChannelId(1));
        for (queue, number) in [(1, 1), (2, 1), (1, 2), (1, 3), (3, 9), (2, 2), (1, 4)] {
            channel.deliver(QueueId(queue), ShardId(0), number);
        }
        let refused = take_up_to(&mut channel, 8);
        assert_eq!(refused, Err(Refusal::UnknownDeliveryTag(8)));
        let taken = take_up_to(&mut channel, 6)
            .map(|last| last.iter().map(|one| (one.queue.0, one.number)).collect::<Vec<_>>());
        assert_eq!(taken, Ok(vec![(1, 3), (2, 2), (3, 9)]));
        assert_eq!(take_up_to(&mut channel, 0).map(|last| last.len()), Ok(1));
        assert_eq!(take_up_to(&mut channel, 0).map(|last| last.len()), Ok(0));
    }
}
