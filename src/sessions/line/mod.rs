//! A line protocol, which proves that sessions are not shaped like AMQP alone; in tests only.
//!
//! | line | what it does | answer |
//! |---|---|---|
//! | `PUB queue text` | publishes to the default exchange | none |
//! | `SUB queue` | consumes without acknowledgements | `OK`, then `MSG queue text` |
//! | `QUIT` | closes the connection | `BYE` |
//!
//! Anything else, and whatever is refused, is answered with `ERR` and the reason, and the
//! connection is closed. A connection is in the vhost `/` as `guest`.

mod commands;
pub(super) mod wire;
