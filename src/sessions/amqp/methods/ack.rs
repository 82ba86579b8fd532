//! ack, nack and reject: translate delivery tags into the numbers that the home shards
//! use.

use amqp::Method;
use model::mutant::{self, Mutant};
use model::queue::Settle;
use model::session::{Outstanding, Settles};
use model::{ChannelId, Refusal};

use crate::mesh::enqueue::Settlement;
use crate::sessions::amqp::send::MethodCall;
use crate::sessions::broker::BrokerAccess;
use crate::sessions::connections::{ChannelRef, Unfinished};
use crate::sessions::state::Sessions;

/// Tags of deliveries that are taken off a channel for one unit of work.
const TAGS: usize = 8;

impl Sessions {
    pub(super) fn settle(
        &mut self,
        call: MethodCall<'_>,
        tag: u64,
        multiple: bool,
        how: Settle,
        broker: &mut impl BrokerAccess,
    ) -> Result<(), Refusal> {
        let channel = self.connections.present(call.at);
        let Some(channel) = channel else { return Ok(()) };
        if channel.tx.is_some() && !mutant::active(Mutant::TxSettlesAtOnce) {
            return self.hold_settles(call, tag, multiple, how);
        }
        if multiple {
            let all = tag == 0;
            if !all && !channel.unacked.contains(tag) {
                return Err(Refusal::UnknownDeliveryTag(tag));
            }
            let up_to = if all { channel.last_tag } else { tag };
            self.go_on_settling(call.at, Settles::new(up_to, how), broker);
            return Ok(());
        }
        let limited = channel.limit.is_some();
        let one = channel.unacked.remove(tag).ok_or(Refusal::UnknownDeliveryTag(tag))?;
        channel.count_acks(how, 1);
        self.settle_at_home(one, call.at.channel, false, how, broker);
        if limited {
            self.settled(call.at, broker);
        }
        Ok(())
    }

    /// The channel's consumers may have room again, if they share a limit.
    fn settled(&mut self, at: ChannelRef, broker: &mut impl BrokerAccess) {
        if !mutant::active(Mutant::LimitNotReturned) {
            self.permit(at.conn, at.number, broker);
        }
    }

    /// Settles many deliveries of a channel. What is more than the turn's work waits, and the
    /// connection is not read meanwhile.
    pub(in crate::sessions) fn go_on_settling(
        &mut self,
        at: ChannelRef,
        mut settles: Settles,
        broker: &mut impl BrokerAccess,
    ) {
        let Some(channel) = self.connections.present(at) else { return };
        if settles.is_one_by_one() {
            self.settle_one_by_one(at, &mut settles, broker);
            return self.settled_or_later(at, settles, broker);
        }
        let uncut = mutant::active(Mutant::TagsUncut);
        let most = if uncut { usize::MAX } else { broker.work().left() as usize * TAGS };
        let taken = settles.take(channel, most);
        channel.count_acks(settles.how(), taken);
        // A tag is far less than a unit; less than one of all of them is not counted.
        broker.work().spend((taken / TAGS) as u32);
        while (!broker.work().is_spent() || uncut)
            && let Some(last) = settles.next_queue()
        {
            broker.work().spend(1);
            self.settle_at_home(last, at.channel, true, settles.how(), broker);
        }
        self.settled_or_later(at, settles, broker);
    }

    fn settled_or_later(
        &mut self,
        at: ChannelRef,
        settles: Settles,
        broker: &mut impl BrokerAccess,
    ) {
        if !settles.is_done() {
            return self.settle_later(at, settles);
        }
        let limited = self.connections.present(at).is_some_and(|channel| channel.limit.is_some());
        if limited {
            self.settled(at, broker);
        }
    }

    #[cold]
    fn settle_later(&mut self, at: ChannelRef, settles: Settles) {
        if let Some(channel) = self.connections.present(at) {
            channel.settles = Some(Box::new(settles));
        }
        self.connections.go_on_later(Unfinished::Settles(at));
    }

    /// Puts everything a channel has not settled back; it may come again, to any consumer.
    pub(super) fn recover(
        &mut self,
        call: MethodCall<'_>,
        requeue: bool,
        reply: Option<Method<'_>>,
        broker: &mut impl BrokerAccess,
    ) -> Result<(), Refusal> {
        if !requeue {
            return Err(Refusal::NotImplemented("requeue=false".into()));
        }
        if let Some(method) = reply {
            self.connections.reply(call.at, &method);
        }
        let channel = self.connections.present(call.at);
        let Some(channel) = channel else { return Ok(()) };
        if channel.tx.is_none() {
            return self.settle(call, 0, true, Settle::Requeue, broker);
        }
        // Among them are deliveries whose settles wait for a commit.
        let settles = Settles::one_by_one(channel.last_tag, Settle::Requeue);
        self.go_on_settling(call.at, settles, broker);
        Ok(())
    }

    /// Settles deliveries of a channel each by itself, as many as the turn's work allows.
    fn settle_one_by_one(
        &mut self,
        at: ChannelRef,
        settles: &mut Settles,
        broker: &mut impl BrokerAccess,
    ) {
        while !broker.work().is_spent() || mutant::active(Mutant::SinglesUncut) {
            let Some(channel) = self.connections.present(at) else { return };
            let Some(one) = settles.take_one(channel) else { return };
            broker.work().spend(1);
            self.settle_at_home(one, at.channel, false, settles.how(), broker);
        }
    }

    pub(super) fn settle_at_home(
        &mut self,
        last: Outstanding,
        channel: ChannelId,
        up_to: bool,
        how: Settle,
        broker: &mut impl BrokerAccess,
    ) {
        let Outstanding { queue, home, number } = last;
        let what = Settlement { queue, channel, number, up_to, how };
        broker.settle(&mut self.connections, home, what);
    }
}
