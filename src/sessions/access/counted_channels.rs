//! Channels that count at the coordinator: those of users whose channels are limited, or all if the
//! node's are.

use model::Name;
use model::mutant::{self, Mutant};

use crate::mesh::control::Request;
use crate::sessions::broker::BrokerAccess;
use crate::sessions::connection::Connection;
use crate::sessions::life::Phase;
use crate::sessions::state::Sessions;

impl Connection {
    /// Lets a new channel count; what the coordinator is to be asked before it is open, if it has
    /// to be.
    pub fn count_channel(&mut self, number: u16) -> Option<Request> {
        if !self.counts_channels {
            return None;
        }
        let channel = self.channels.get(number)?;
        channel.counts = true;
        Some(Request::OpenChannel { channel: channel.id, user: self.user.clone() })
    }
}

impl Sessions {
    /// The channels of a user count from now on: also those that are open. What counts already does
    /// so until it is closed.
    pub(super) fn count_channels(
        &mut self,
        user: &Name,
        count: bool,
        broker: &mut impl BrokerAccess,
    ) {
        let of_node = self.limits.counts_channels;
        for conn in self.connections.conns.values_mut() {
            if !conn.running || conn.user != *user || conn.life.phase != Phase::Alive {
                continue;
            }
            conn.counts_channels = count || of_node;
            let mut open = Vec::new();
            if count && !mutant::active(Mutant::OpenChannelsUntold) {
                conn.channels.count_open(&mut open);
            }
            if !open.is_empty() {
                broker.channels_open(user.clone(), open);
            }
        }
    }
}
