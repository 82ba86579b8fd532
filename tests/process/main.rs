//! The real broker as a process, under what a system may refuse it.
//!
//! [`broker`] starts it, [`launch`] takes rights away before it begins, [`client`] is a client that
//! blocks. Tests: [`docker`] without io_uring, [`sockets`] with few open files, [`stages`] with a
//! transport stage.

#![allow(clippy::expect_used, reason = "a test that cannot go on says so by panicking")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

mod broker;
mod client;
#[cfg(target_arch = "x86_64")]
mod docker;
mod launch;
mod sockets;
#[cfg(feature = "second-kinds")]
mod stages;
