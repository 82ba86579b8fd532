//! A connection's task: it reads while the shard lets it, and goes on writing once a full socket
//! takes something again. Everything else about output happens at the end of the turn.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use model::ConnId;

use super::output::Output;
use super::socket::Socket;
use super::turn::{Core, Shared};
use crate::shard::Gate;

/// A read of at least so many octets means that more is on its way: the next attempt needs no
/// notice of readiness.
const BUSY: usize = 4096;

/// One client's connection.
pub struct Connection {
    /// The shard's name for it.
    pub id: ConnId,
    /// The client's end.
    pub peer: SocketAddr,
    /// This end.
    pub local: SocketAddr,
    /// The socket.
    pub socket: RefCell<Socket>,
    /// What is to be written.
    pub output: RefCell<Output>,
    /// The socket took less than there was: the task waits until it takes more.
    pub blocked: Cell<bool>,
    /// What the shard said last.
    pub gate: Cell<Gate>,
    /// Nothing more will be written, and the peer knows.
    pub ended: Cell<bool>,
    /// Octets written so far, to see progress.
    pub written: Cell<u64>,
    /// Why the turn found that the connection cannot go on.
    failed: Cell<Option<End>>,
    /// The last read was large.
    busy: Cell<bool>,
    task: Cell<Option<Waker>>,
}

/// Why a connection's task ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The client closed its end.
    Peer,
    /// The socket failed.
    Error(io::ErrorKind),
    /// The client did not close its end in time.
    Slow,
}

impl Connection {
    /// A connection that the shard knows by that name.
    #[must_use]
    pub fn new(id: ConnId, socket: Socket, peer: SocketAddr, local: SocketAddr) -> Self {
        Self {
            id,
            peer,
            local,
            socket: RefCell::new(socket),
            output: RefCell::default(),
            blocked: Cell::new(false),
            gate: Cell::new(Gate::Open),
            ended: Cell::new(false),
            written: Cell::new(0),
            failed: Cell::new(None),
            busy: Cell::new(false),
            task: Cell::new(None),
        }
    }

    /// Ends the task.
    pub fn fail(&self, end: End) {
        self.failed.set(Some(end));
        self.wake();
    }

    /// Lets the task look at the gate, and whether it is blocked.
    pub fn wake(&self) {
        if let Some(waker) = self.task.take() {
            waker.wake();
        }
    }

    /// The task: runs until the connection is over, then tells the shard.
    pub async fn serve(self: Rc<Self>, shared: Shared) {
        let end = poll_fn(|cx| self.poll(&mut shared.borrow_mut(), cx)).await;
        shared.borrow_mut().closed(&self, end);
    }

    fn poll(&self, core: &mut Core, cx: &mut Context<'_>) -> Poll<End> {
        self.task.set(Some(cx.waker().clone()));
        if let Some(end) = self.failed.get() {
            return Poll::Ready(end);
        }
        if self.blocked.get()
            && let Poll::Ready(Err(error)) = self.poll_write(core, cx)
        {
            return Poll::Ready(End::Error(error.kind()));
        }
        if self.gate.get() == Gate::Paused {
            return Poll::Pending;
        }
        self.poll_read(core, cx)
    }

    fn poll_write(&self, core: &mut Core, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (mut socket, mut output) = (self.socket.borrow_mut(), self.output.borrow_mut());
        while self.blocked.get() {
            let mut wrote = match output.poll_write(&mut socket, cx, &mut core.scratch) {
                Poll::Ready(wrote) => wrote?,
                Poll::Pending => return Poll::Pending,
            };
            core.written(self, wrote.octets);
            if !wrote.all {
                wrote = output.write(&socket, &mut core.scratch)?;
                core.written(self, wrote.octets);
            }
            self.blocked.set(!wrote.all);
        }
        core.unblocked(self.id);
        Poll::Ready(Ok(()))
    }

    /// Reads once, at most a buffer; a busy connection then stands back for the others.
    fn poll_read(&self, core: &mut Core, cx: &mut Context<'_>) -> Poll<End> {
        loop {
            let octets = match self.read(core, cx) {
                Poll::Ready(Ok(0)) => return Poll::Ready(End::Peer),
                Poll::Ready(Ok(octets)) => octets,
                Poll::Ready(Err(error)) => return Poll::Ready(End::Error(error.kind())),
                Poll::Pending => return Poll::Pending,
            };
            self.busy.set(octets >= BUSY);
            if self.gate.get() == Gate::Open {
                core.received(self.id, octets);
            }
            if self.busy.get() {
                core.read_again(self.id);
                return Poll::Pending;
            }
        }
    }

    fn read(&self, core: &mut Core, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut socket = self.socket.borrow_mut();
        if self.busy.replace(false) {
            match socket.read_now(&mut core.buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
        socket.poll_read(cx, &mut core.buffer)
    }
}
