//! Clients that do what they should not, against a whole pure broker: whatever comes, every shard
//! goes on, every client is answered or let go, and nothing stays.

#![allow(clippy::unwrap_used, missing_docs)]

mod broken;
mod closing;
mod fanout;
mod methods;
mod parking;
mod receiving;
mod replies;
mod rig;
mod transactions;
