//! The limit that the consumers of a channel share, as its client sees it.

use amqp::Method;

use crate::actions::Actor;
use crate::channel::{Channel, Unacked};
use crate::history::{History, What};
use crate::plan::one_of;

impl Actor<'_> {
    /// Limits all consumers of the channel together, or lifts the limit.
    pub fn limit(&mut self) {
        let limit = *one_of(self.rng, &[0, 1, 1, 2, 5]);
        self.limit_to(limit);
    }

    /// Limits all consumers of the channel together.
    pub fn limit_to(&mut self, prefetch_count: u16) {
        let channel = &mut self.client.channels[self.at];
        (channel.limit, channel.limiting) = (prefetch_count, channel.limiting + 1);
        let method = Method::BasicQos { prefetch_size: 0, prefetch_count, global: true };
        self.ask(What::Limit(prefetch_count), &method, false);
    }
}

impl Channel {
    /// A message came to a consumer: once the limit is answered, the channel held less before.
    pub fn check_limit(&self, consumer: usize, h: &mut History) {
        let known = self.limit > 0 && self.limiting == 0 && !self.recovering;
        if !known || h.consumers[consumer].no_ack {
            return;
        }
        // A basic.get is not held back: it may come while permits are under way, which were given
        // before it. None are where nothing moves.
        let quiet = h.quiets.last().copied().unwrap_or(0);
        let counts = |u: &&Unacked| u.consumer.is_some() || h.deliveries[u.delivery].at < quiet;
        // What is settled in a transaction counts until its commit.
        let in_transaction = self.tx.iter().flat_map(|tx| &tx.settles).map(|(_, held, _)| held);
        let held = self.unacked.values().chain(in_transaction).filter(counts).count();
        let limit = usize::from(self.limit);
        if held > limit {
            let log = self.log.unwrap_or_default();
            h.fail(|| format!("chan {log} holds {held}, the limit of its consumers is {limit}"));
        }
    }
}
