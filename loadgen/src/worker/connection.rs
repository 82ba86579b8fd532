//! A connection of a worker: its socket, its channels and how far its close is.

use std::ops::Range;

use crate::system::epoll::Interest;
use crate::worker::socket::ClientSocket;

/// A connection of a worker.
#[derive(Debug)]
pub struct WorkerConnection {
    /// The socket.
    pub socket: ClientSocket,
    /// The index of channel 1 among the worker's channels.
    pub first: usize,
    /// How many channels the connection has.
    pub count: usize,
    /// The channel whose publishes may be half written.
    pub writing: usize,
    /// The socket was full: it is watched for room.
    pub blocked: bool,
    /// The socket is not read, since one of its consumers is full.
    pub reading_paused: bool,
    /// connection.close was sent.
    pub closing: bool,
    /// The connection is closed or lost.
    pub closed: bool,
}

impl WorkerConnection {
    /// An open connection with `count` channels, the first at index `first`.
    #[must_use]
    pub fn new(socket: ClientSocket, first: usize, count: usize) -> Self {
        Self {
            socket,
            first,
            count,
            writing: first,
            blocked: false,
            reading_paused: false,
            closing: false,
            closed: false,
        }
    }

    /// The indices of its channels.
    #[must_use]
    pub fn channels(&self) -> Range<usize> {
        self.first..self.first + self.count
    }

    /// What the socket is watched for.
    #[must_use]
    pub fn interest(&self) -> Interest {
        match (self.blocked, self.reading_paused) {
            (false, false) => Interest::Input,
            (true, false) => Interest::Both,
            (true, true) => Interest::Output,
            (false, true) => Interest::Nothing,
        }
    }
}
