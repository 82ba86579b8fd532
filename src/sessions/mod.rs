//! The connections of a shard: their state, input, output, timers and requests, and below that the
//! session kinds: [`amqp`] has everything that names a method of AMQP 0-9-1. A connection's first
//! byte chooses its kind; with the feature `second-kinds` there is a line protocol beside AMQP.
//!
//! ```text
//!   receive, written, closed, tick                    answers, deliveries, confirms
//!            |                                                     |
//!            v                                                     v
//!   +-----------------+     +---------+     +---------+     +-------------+
//!   | kind: amqp      |---->| routing |     | closing |     | connections |
//!   | input > methods |     +---------+     +---------+     +-------------+
//!   +-----------------+          |               |                 |
//!            |                   v               v                 v
//!            +--------> BrokerAccess: publish, settle, ask ...         output
//! ```
//!
//! This room must not know: queues, the store, sockets, clocks, and where a queue is. What leaves
//! goes to a [`BrokerAccess`], which the shard implements.

mod access;
mod amqp;
mod broker;
mod channels;
mod closing;
mod connection;
mod connections;
mod inspect;
mod kind;
mod life;
#[cfg(feature = "second-kinds")]
mod line;
mod output;
mod partial_messages;
mod requests;
mod routing;
mod state;
mod timers;

pub use amqp::reply_key::ReplyKey;
pub(crate) use broker::{BrokerAccess, Published, QueueAt, RelayRoute};
pub(crate) use connection::pause;
pub use connection::{ConnInfo, PARKED_MARK};
pub(crate) use connections::{Connections, Publisher};
pub(crate) use life::Phase;
pub use output::OUTPUT_MARK;
pub(crate) use routing::relays::Unpublished;
pub(crate) use state::{Sessions, SessionsConfig};
