//! The calls that move bytes between a client's socket and memory, the same for every poller.

use std::io::{self, IoSlice};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsRawFd;

use crate::runtime::sys;

/// A connected socket as one poller holds it. Dropping it closes the connection.
///
/// No call here waits: the poller tells when the socket is ready.
pub trait Socket: AsRawFd + From<TcpStream> + 'static {
    /// Receives what is there, at most `buffer`; 0 at the end of the stream.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if nothing is there; else the socket's.
    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        sys::receive(self.as_raw_fd(), buffer)
    }

    /// Sends what the kernel takes of the slices; 0 if it takes nothing now.
    ///
    /// # Errors
    ///
    /// The socket's.
    fn send(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match sys::send(self.as_raw_fd(), slices) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            result => result,
        }
    }

    /// Tells the peer that nothing more will come.
    fn end_writing(&self) {
        sys::shut(self.as_raw_fd(), Shutdown::Write);
    }
}
