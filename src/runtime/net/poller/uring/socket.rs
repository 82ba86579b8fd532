//! A client's socket that glommio waits for.
//!
//! Reading the first bytes after a pause goes through glommio's stream: it tries `recv` and, where
//! that took less than the buffer holds, already asks for the next readiness along with whatever
//! else the ring submits. A busy sender is read with a plain `recv` instead, without asking for
//! readiness.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use futures_io::{AsyncRead, AsyncWrite};

use crate::runtime::net::socket::Socket;
use crate::runtime::sys;

/// A connected socket on this thread's executor, and the task that serves it.
pub struct UringSocket {
    stream: RefCell<glommio::net::TcpStream>,
    fd: RawFd,
    /// The last read was large.
    pub busy: Cell<bool>,
    /// The task, while it waits.
    pub task: Cell<Option<Waker>>,
}

impl From<TcpStream> for UringSocket {
    /// Must run on an executor.
    fn from(stream: TcpStream) -> Self {
        let fd = stream.as_raw_fd();
        let stream = RefCell::new(sys::adopt(stream));
        Self { stream, fd, busy: Cell::new(false), task: Cell::new(None) }
    }
}

impl AsRawFd for UringSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.fd
    }
}

impl Socket for UringSocket {}

impl UringSocket {
    /// Has the task look at its client.
    pub fn wake(&self) {
        if let Some(waker) = self.task.take() {
            waker.wake();
        }
    }

    /// Reads what is there, or has the task woken when something is. 0: the end.
    pub fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.stream.borrow_mut()).poll_read(cx, buffer)
    }

    /// Writes what fits, or has the task woken when something does.
    pub fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.stream.borrow_mut()).poll_write(cx, bytes)
    }
}

impl Drop for UringSocket {
    /// A readiness that the ring still waits for would keep the connection alive beyond `close`.
    fn drop(&mut self) {
        sys::shut(self.fd, Shutdown::Both);
    }
}
