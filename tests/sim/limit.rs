//! The limit that the consumers of a channel share, as its client sees it.

use crate::channel::{Channel, Unacked};
use crate::history::History;

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
        let held = self.unacked.values().filter(counts).count();
        let limit = usize::from(self.limit);
        if held > limit {
            let log = self.log.unwrap_or_default();
            h.fail(|| format!("chan {log} holds {held}, the limit of its consumers is {limit}"));
        }
    }
}
