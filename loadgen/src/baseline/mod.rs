//! `loadgen ceiling`: what this machine carries without a broker.

pub mod ceiling;
pub mod endpoints;
pub mod fsync_baseline;
pub mod relay;
pub mod socket_baseline;
