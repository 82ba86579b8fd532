//! basic.qos with global: the limit that the consumers of a channel share, whichever shards their
//! queues live on. See `model::session::limit`.
//!
//! The method is answered when every home involved knows: from then on each message needs a permit,
//! and earlier deliveries have arrived at the channel and count.

use amqp::Method;
use model::mutant::{self, Mutant};
use model::session::Candidate;
use model::session::channel::Limiting;
use model::{Ask, ChannelId, ConnId};

use crate::sessions::amqp::pending::MethodStep;
use crate::sessions::amqp::send::MethodCall;
use crate::sessions::broker::BrokerAccess;
use crate::sessions::connections::ChannelRef;
use crate::sessions::state::Sessions;

impl Sessions {
    /// Limits what the channel's consumers are sent together to `most` unsettled messages; 0: no
    /// limit.
    pub(super) fn limit(
        &mut self,
        call: MethodCall<'_>,
        most: u16,
        broker: &mut impl BrokerAccess,
    ) {
        let Some(channel) = self.connections.present(call.at) else { return };
        match &mut channel.limit {
            // Lower at once, higher when every home has answered.
            Some(limit) => limit.set(limit.most().min(u32::from(most))),
            None if most > 0 => channel.limit = Some(Box::default()),
            None => return self.limited(call.at, most, broker),
        }
        let homes = channel.homes.clone();
        let (of, mut away) = ((call.at.conn, call.at.channel), 0);
        for home in homes {
            let done = broker.limit(&mut self.connections, home, of, most > 0);
            away += usize::from(!done);
        }
        if away == 0 || mutant::active(Mutant::LimitedTooEarly) {
            return self.limited(call.at, most, broker);
        }
        let ticket = self.wait(call.at, call.then(MethodStep::Limited));
        if let Some(channel) = self.connections.present(call.at) {
            channel.limiting = Some(Limiting { ticket, homes: away, most });
        }
    }

    /// A home limits the channel's consumers, or no more.
    pub(crate) fn limit_applied(
        &mut self,
        id: ConnId,
        channel: ChannelId,
        broker: &mut impl BrokerAccess,
    ) {
        let Some((number, found)) = self.connections.channel_by_id(id, channel) else { return };
        let Some(limiting) = &mut found.limiting else { return };
        limiting.homes = limiting.homes.saturating_sub(1);
        if limiting.homes > 0 {
            return;
        }
        let Limiting { ticket, most, .. } = *limiting;
        found.limiting = None;
        if self.connections.answered(ticket).is_some() {
            self.limited(ChannelRef { conn: id, number, channel }, most, broker);
        }
    }

    /// All homes know of the limit: it is what was asked for.
    fn limited(&mut self, at: ChannelRef, most: u16, broker: &mut impl BrokerAccess) {
        let Some(channel) = self.connections.present(at) else { return };
        match &mut channel.limit {
            Some(limit) if most > 0 => limit.set(u32::from(most)),
            limit => *limit = None,
        }
        self.connections.reply(at, &Method::BasicQosOk {});
        self.permit(at.conn, at.number, broker);
    }

    /// Gives permits to those who wait, as far as the channel's limit allows.
    pub(super) fn permit(&mut self, id: ConnId, number: u16, broker: &mut impl BrokerAccess) {
        loop {
            let Some(channel) = self.connections.channel(id, number) else { return };
            let Some(next) = channel.next_permitted() else { return };
            let channel = channel.id;
            let Candidate { home, queue, consumer, slot, count } = next;
            let permit = Ask { conn: id, channel, consumer, slot, count };
            let unused = broker.permit(&mut self.connections, (queue, home), permit);
            self.connections.take_back(id, channel, unused);
        }
    }

    /// A home had no use for permits: others may get them.
    pub(crate) fn permits_back(
        &mut self,
        id: ConnId,
        channel: ChannelId,
        count: u32,
        broker: &mut impl BrokerAccess,
    ) {
        if let Some(number) = self.connections.take_back(id, channel, count) {
            self.permit(id, number, broker);
        }
    }
}
