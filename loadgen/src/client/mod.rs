//! An AMQP 0-9-1 client: URI, handshake, blocking calls, receive buffer.

pub mod connection;
pub mod handshake;
pub mod methods;
pub mod receive_buffer;
pub mod uri;
