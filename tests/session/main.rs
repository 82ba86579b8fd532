//! Misbehaving clients against a whole pure broker. Whatever they send, every shard goes on, every
//! client is answered or closed, and nothing is left of them.

#![allow(clippy::unwrap_used, missing_docs)]

mod access;
mod broken;
mod closing;
mod deduplication;
mod exchange_policies;
mod exchanges;
mod fanout;
mod histories;
mod limits;
#[cfg(feature = "second-kinds")]
mod line;
mod logins;
mod memory;
mod methods;
mod own_limits;
mod parking;
mod receiving;
mod replies;
#[path = "../rig/mod.rs"]
mod rig;
mod timeouts;
mod transactions;
mod turns;
