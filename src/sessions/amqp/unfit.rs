//! Messages that cannot be sent to a client, since their headers are larger than one frame.

use amqp::frame::{HEADER_FIXED, OVERHEAD};
use model::Refusal;
use model::queue::{Unfit, Way};

use crate::sessions::broker::BrokerAccess;
use crate::sessions::state::Sessions;

impl Sessions {
    /// Closes a channel that cannot be sent a message, which stays where it is. Sent in a frame
    /// larger than the negotiated one it would cost the client its connection.
    pub(crate) fn close_unfit(&mut self, unfit: Unfit, broker: &mut impl BrokerAccess) {
        let Some(conn) = self.connections.get(unfit.conn) else { return };
        let Some(frame_max) = conn.kind.amqp().map(|wire| wire.frame_max()) else { return };
        let Some((number, _)) = conn.channels.by_id(unfit.channel) else { return };
        let method = match unfit.way {
            Way::Deliver => (0, 0),
            Way::Get => (60, 70),
            Way::Return => (60, 40),
        };
        let size = unfit.properties + HEADER_FIXED + OVERHEAD;
        let refusal = Refusal::HeaderTooLarge { size, frame_max };
        self.fail_channel(unfit.conn, number, &refusal.fault(method), broker);
    }
}
