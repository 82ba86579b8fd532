//! Sockets: accepting clients, reading and writing for the shard, whichever poller waits.

pub(super) mod accept;
pub(super) mod client_socket;
pub(super) mod clients;
mod folded;
pub(super) mod inbox;
mod newcomers;
pub(super) mod output;
pub(super) mod poller;
pub(super) mod socket;
pub(super) mod socket_caps;
mod stages;
