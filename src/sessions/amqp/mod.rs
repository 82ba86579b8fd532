//! The session kind of AMQP 0-9-1: from bytes to methods, and what each method does.

mod consumer_timeout;
mod frames;
mod input;
mod login;
mod methods;
pub(super) mod output;
pub(super) mod pending;
pub(super) mod reply_key;
mod send;
mod unfit;
pub(super) mod wire;
