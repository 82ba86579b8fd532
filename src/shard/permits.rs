//! basic.qos with global: the limit that the consumers of a channel share, whichever shards their
//! queues live on. See `model::session::limit`.
//!
//! The method is answered when every home involved knows: from then on each message needs a permit,
//! and what was sent before has been numbered here.

use amqp::Method;
use model::mutant::{self, Mutant};
use model::session::Candidate;
use model::session::channel::Limiting;
use model::{Ask, ChannelId, ConnId, QueueId, ShardId};

use super::clients::Then;
use super::machine::Shard;
use super::message::Control;
use super::questions::Call;

impl Shard {
    /// Limits what the channel's consumers are sent together to `most` unsettled messages; 0: no
    /// limit.
    pub(super) fn limit(&mut self, call: Call<'_>, most: u16) {
        let channel = self.clients.get(call.conn).and_then(|conn| conn.channel(call.number));
        let Some(channel) = channel else { return };
        match &mut channel.limit {
            // Lower at once, higher when every home has answered.
            Some(limit) => limit.set(limit.most().min(u32::from(most))),
            None if most > 0 => channel.limit = Some(Box::default()),
            None => return self.limited(call.conn, call.number, most),
        }
        let mut homes = channel.homes.clone();
        let all = homes.len();
        homes.retain(|home| *home != self.me);
        for home in &homes {
            let limit = Control::Limit(call.conn, call.channel, most > 0);
            self.peers.get(*home).out.control(limit);
        }
        if homes.len() < all {
            self.limit_here(call.channel, most > 0);
        }
        if homes.is_empty() || mutant::active(Mutant::LimitedTooEarly) {
            return self.limited(call.conn, call.number, most);
        }
        let ticket = self.wait(call, Then::Limited);
        let channel = self.clients.get(call.conn).and_then(|conn| conn.channel(call.number));
        if let Some(channel) = channel {
            channel.limiting = Some(Limiting { ticket, homes: homes.len(), most });
        }
    }

    /// A home limits the channel's consumers, or no more.
    pub(super) fn limit_applied(&mut self, id: ConnId, channel: ChannelId) {
        let Some((number, channel)) =
            self.clients.get(id).and_then(|conn| conn.channel_by_id(channel))
        else {
            return;
        };
        let Some(limiting) = &mut channel.limiting else { return };
        limiting.homes = limiting.homes.saturating_sub(1);
        if limiting.homes > 0 {
            return;
        }
        let Limiting { ticket, most, .. } = *limiting;
        channel.limiting = None;
        if self.clients.answered(ticket).is_some() {
            self.limited(id, number, most);
        }
    }

    /// All homes know of the limit: it is what was asked for.
    fn limited(&mut self, id: ConnId, number: u16, most: u16) {
        let channel = self.clients.get(id).and_then(|conn| conn.channel(number));
        let Some(channel) = channel else { return };
        match &mut channel.limit {
            Some(limit) if most > 0 => limit.set(u32::from(most)),
            limit => *limit = None,
        }
        self.clients.send(id, number, &Method::BasicQosOk {});
        self.permit(id, number);
    }

    /// Gives permits to those who wait, as far as the channel's limit allows.
    pub(super) fn permit(&mut self, id: ConnId, number: u16) {
        loop {
            let channel = self.clients.get(id).and_then(|conn| conn.channel(number));
            let Some(channel) = channel else { return };
            let Some(next) = channel.next_permitted() else { return };
            let channel = channel.id;
            let Candidate { home, queue, consumer, slot, count } = next;
            let permit = Ask { conn: id, channel, consumer, slot, count };
            if home == self.me {
                let unused = self.permitted_here(queue, permit);
                self.take_back(id, channel, unused);
            } else {
                self.peers.get(home).out.permit(queue, permit);
            }
        }
    }

    /// A home had no use for permits: others may get them.
    pub(super) fn permits_back(&mut self, id: ConnId, channel: ChannelId, count: u32) {
        if let Some(number) = self.take_back(id, channel, count) {
            self.permit(id, number);
        }
    }

    fn take_back(&mut self, id: ConnId, channel: ChannelId, count: u32) -> Option<u16> {
        let (number, channel) = self.clients.get(id)?.channel_by_id(channel)?;
        channel.limit.as_mut()?.returned(count);
        Some(number)
    }

    /// A home asks for permits; it is answered in any case.
    #[cold]
    pub(super) fn asked(&mut self, home: ShardId, queue: QueueId, ask: Ask) {
        let count = self.clients.permits(home, queue, ask);
        self.peers.get(home).out.permit(queue, Ask { count, ..ask });
    }

    /// Home: a channel's answer.
    #[cold]
    pub(super) fn permitted(&mut self, from: ShardId, queue: QueueId, permit: Ask) {
        let unused = self.permitted_here(queue, permit);
        if unused > 0 {
            self.peers.get(from).out.unused(permit.conn, permit.channel, unused);
        }
    }

    /// Home: permits came for a consumer of a queue here; how many are of no use.
    pub(super) fn permitted_here(&mut self, queue: QueueId, permit: Ask) -> u32 {
        let Ask { consumer, slot, count, .. } = permit;
        let used =
            self.with_queue(queue, |queue, door| queue.permitted(slot, consumer, count, door));
        used.unwrap_or(count)
    }

    /// Home: the channel's consumers share a limit from now on, or no more.
    pub(super) fn limit_here(&mut self, channel: ChannelId, limited: bool) {
        for queue in self.home.channels.get(&channel).cloned().unwrap_or_default() {
            self.with_queue(queue, |queue, door| queue.limit(channel, limited, door));
        }
    }
}
