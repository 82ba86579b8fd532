//! Channels that do not settle a delivery in time are closed; their end requeues it.

use model::Refusal;
use model::queue::Overdue;

use crate::sessions::broker::BrokerAccess;
use crate::sessions::state::Sessions;

impl Sessions {
    /// Closes the channel, unless it has settled the delivery meanwhile: then the settle is on its
    /// way to the home shard. One whose settle waits for a commit counts as settled.
    pub(crate) fn close_overdue(&mut self, overdue: Overdue, broker: &mut impl BrokerAccess) {
        let Overdue { conn, channel, queue, number, timeout_ms } = overdue;
        let Some((at, found)) = self.connections.channel_by_id(conn, channel) else { return };
        if found.unacked.has(queue, number) {
            let refusal = Refusal::DeliveryTimeout { channel: at, timeout_ms };
            self.fail_channel(conn, at, &refusal.fault((0, 0)), broker);
        }
    }
}
