//! What the shell knows of one client: its socket, the output that waits, and its state.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;

use model::ConnId;

use crate::runtime::net::output::Output;
use crate::runtime::net::socket::Socket;
use crate::runtime::net::stages::Stages;
use crate::shard::Gate;

/// A client's socket on the thread of its shard. `S` is what the thread's poller makes of it.
#[derive(Debug)]
pub struct ClientSocket<S> {
    /// The socket itself.
    pub socket: S,
    /// Its place in the order of arrival on this shard.
    pub arrival: u64,
    /// This end.
    pub local: SocketAddr,
    /// The client's end. A transport stage may correct it until the session is opened.
    pub peer: Cell<SocketAddr>,
    /// The shard's name for it; `None` while its transport stages are not done.
    pub id: Cell<Option<ConnId>>,
    /// The client has logged in and opened its vhost.
    pub logged_in: Cell<bool>,
    /// The transport stages that its input passes before the session is opened.
    pub stages: RefCell<Stages>,
    /// Bytes to be written.
    pub output: RefCell<Output>,
    /// The kernel took less than was offered: the poller waits until it takes more.
    pub blocked: Cell<bool>,
    /// What the shard said last.
    pub gate: Cell<Gate>,
    /// Nothing more will be written, and the peer was told.
    pub ended: Cell<bool>,
    /// Bytes written so far.
    pub written: Cell<u64>,
    /// Why the connection cannot go on; the poller then ends it.
    failed: Cell<Option<End>>,
}

/// A client's socket, shared by its shard's thread and the poller.
pub type ClientRc<S> = Rc<ClientSocket<S>>;

/// Why a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The client closed its end.
    Peer,
    /// The socket failed.
    Error(io::ErrorKind),
    /// The client did not close its end in time.
    Slow,
    /// It had not logged in, and newer ones needed its place.
    Displaced,
    /// Its transport stages were not done in time.
    StageTimeout,
    /// A transport stage cannot read what it sent.
    StageError(&'static str),
    /// The broker stops, and its transport stages were not done.
    Stopping,
}

impl<S: Socket> ClientSocket<S> {
    /// A client that just connected.
    #[must_use]
    pub fn new(
        stream: TcpStream,
        arrival: u64,
        (peer, local): (SocketAddr, SocketAddr),
        stages: Stages,
    ) -> Self {
        Self {
            socket: stream.into(),
            arrival,
            local,
            peer: Cell::new(peer),
            id: Cell::new(None),
            logged_in: Cell::new(false),
            stages: RefCell::new(stages),
            output: RefCell::default(),
            blocked: Cell::new(false),
            gate: Cell::new(Gate::Open),
            ended: Cell::new(false),
            written: Cell::new(0),
            failed: Cell::new(None),
        }
    }

    /// Has the poller end the connection. The first reason counts.
    pub fn fail(&self, end: End) {
        self.failed.set(self.failed.get().or(Some(end)));
    }

    /// Why the connection is to be ended, if it is.
    #[must_use]
    pub fn failed(&self) -> Option<End> {
        self.failed.get()
    }

    /// Whether the socket is to be read.
    #[must_use]
    pub fn reads(&self) -> bool {
        self.gate.get() != Gate::Paused
    }

    /// On a connection that closes, once nothing is left to write: tells the peer.
    pub fn end_writing(&self) {
        if self.gate.get() == Gate::Closing && !self.ended.replace(true) {
            self.socket.end_writing();
        }
    }

    /// Writes the line of the log about the end of the connection. `why` is the broker's reason;
    /// `in_order` says that the session was closed before the socket.
    pub fn log_end(&self, end: End, in_order: bool, why: Option<&str>) {
        let (peer, local) = (self.peer.get(), self.local);
        if let Some(why) = why {
            let why = printable(why);
            return tracing::error!("closing AMQP connection {peer} -> {local}: {why}");
        }
        match (in_order || self.gate.get() == Gate::Closing, end) {
            // Told by a warning that stands for many.
            (_, End::Displaced) => {
                tracing::debug!("closing AMQP connection {peer} -> {local}: no login yet");
            }
            (_, End::StageTimeout) => {
                tracing::warn!("closing AMQP connection {peer} -> {local}: handshake_timeout");
            }
            (_, End::StageError(why)) => {
                tracing::warn!("closing AMQP connection {peer} -> {local}: {why}");
            }
            (true, End::Slow) => {
                tracing::info!(
                    "closing AMQP connection {peer} -> {local}: the client kept its end open"
                );
            }
            (true, _) | (_, End::Stopping) => {
                tracing::info!("closing AMQP connection {peer} -> {local}");
            }
            (_, End::Error(why)) => {
                tracing::warn!("closing AMQP connection {peer} -> {local}: {why}");
            }
            _ => tracing::warn!(
                "closing AMQP connection {peer} -> {local}: client unexpectedly closed TCP \
                 connection"
            ),
        }
    }
}

/// The text with everything escaped that a client could forge a line of the log with.
fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\'' | '"' | '\\' => printable.push(letter),
            other => printable.extend(other.escape_debug()),
        }
    }
    printable
}
