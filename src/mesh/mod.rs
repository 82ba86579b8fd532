//! What crosses cores: packed records and controls in batches, the windows of what is under way to
//! each endpoint, and how far each endpoint is with it; and what threads outside the data path ask
//! and are answered.
//!
//! This room must not know: sessions, queues, rings.

pub mod batch;
pub mod control;
pub(crate) mod enqueue;
pub mod held;
pub mod inspect;
pub(crate) mod peers;
pub(crate) mod progress;
pub mod record;

pub use batch::Batch;
pub use control::Alarms;
