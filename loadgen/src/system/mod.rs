//! What the operating system offers: clock, epoll, threads, signals, process statistics. And the
//! errors of loadgen.

pub mod clock;
pub mod epoll;
pub mod error;
pub mod interrupt;
pub mod process_usage;
pub mod threads;
