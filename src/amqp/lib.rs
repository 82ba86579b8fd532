//! The wire format of AMQP 0-9-1, read and written without an allocation per frame.
//!
//! From the ground up: [`octets`] (integers, strings, packed bits), [`table`] (field tables, kept
//! encoded), [`methods`] (one table of all methods), [`properties`] (content headers, kept
//! encoded), [`frame`] (bytes to frames at any read boundary), [`assembler`] (frames to commands)
//! and [`reply`] (reply codes). Everything borrows from the receive buffer.
//!
//! Absent by design: sockets, clocks, threads, and any notion of a broker. The load generator and
//! the broker share this crate and nothing else.

pub mod assembler;
pub mod frame;
pub mod methods;
pub mod octets;
pub mod properties;
pub mod reply;
pub mod table;

pub use assembler::{Assembler, Step};
pub use frame::{Frame, Parser};
pub use methods::Method;
pub use octets::{Reader, WireError, Writer};
pub use properties::{Basic, Properties};
pub use reply::Code;
pub use table::{Array, ArrayWriter, Table, TableWriter, Value};

#[cfg(test)]
mod checks;

/// The header a client opens with: `AMQP`, 0, 0, 9, 1 (spec 4.2.2).
pub const PROTOCOL_HEADER: [u8; 8] = *b"AMQP\x00\x00\x09\x01";
