//! A client's socket: tries at once, and waits by glommio where it has to.
//!
//! The only file that knows how octets reach the kernel. Reading the first octets after a pause
//! goes through glommio's stream: it tries `recv` and, where that took less than the buffer holds,
//! already asks for the next readiness along with whatever else the ring submits. A busy sender is
//! read with a plain `recv` instead ([`Socket::read_now`]), without asking for readiness.

use std::io::{self, IoSlice};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_io::{AsyncRead, AsyncWrite};

use super::sys;

/// A connected socket on this thread's executor. Closed by being dropped.
#[derive(Debug)]
pub struct Socket {
    stream: glommio::net::TcpStream,
}

impl Socket {
    /// Takes the stream over. Must run on an executor.
    #[must_use]
    pub fn new(stream: TcpStream) -> Self {
        Self { stream: sys::glommio_stream(stream) }
    }

    /// Reads what is there, or has the task woken when something is. 0: the end.
    pub fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }

    /// Reads what is there; `WouldBlock` if nothing is. 0: the end.
    ///
    /// # Errors
    ///
    /// The socket's.
    pub fn read_now(&self, buffer: &mut [u8]) -> io::Result<usize> {
        sys::receive(self.stream.as_raw_fd(), buffer)
    }

    /// Writes what fits, or has the task woken when something does.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, octets)
    }

    /// Writes what fits of the slices; 0 if nothing does.
    ///
    /// # Errors
    ///
    /// The socket's.
    pub fn write_now(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match sys::send(self.stream.as_raw_fd(), slices) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            result => result,
        }
    }

    /// Tells the peer that nothing more will come.
    pub fn end_writing(&self) {
        sys::shut(self.stream.as_raw_fd(), Shutdown::Write);
    }
}

impl Drop for Socket {
    /// A readiness that the ring still waits for would keep the connection alive beyond `close`.
    fn drop(&mut self) {
        sys::shut(self.stream.as_raw_fd(), Shutdown::Both);
    }
}
