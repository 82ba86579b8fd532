//! The clients of one shard: their sockets, their output and how they end.
//!
//! What a poller has to do about a client is in two lists that it empties after each turn: new
//! clients, and those whose gate, output or end changed.

use std::collections::VecDeque;
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use bytes::Bytes;
use model::{ConnId, Map, Now};

use crate::config::StageKind;
use crate::runtime::net::client_socket::{ClientRc, ClientSocket, End};
use crate::runtime::net::folded::Folded;
use crate::runtime::net::newcomers::Newcomers;
use crate::runtime::net::output::{Scratch, Wrote};
use crate::runtime::net::socket::Socket;
use crate::runtime::net::stages::{Facts, Stages};
use crate::sessions::ConnInfo;
use crate::shard::{Gate, Shard};

/// Microseconds a client has to close its end after the broker closed its own.
const CLOSING_US: u64 = 3_000_000;

/// What is the same for all clients of a shard.
#[derive(Debug, Clone, Default)]
pub struct ClientRules {
    /// The transport stages that each passes.
    pub stages: Vec<StageKind>,
    /// Milliseconds for them; `u64::MAX`: no limit.
    pub stages_ms: u64,
    /// Sockets without a login.
    pub newcomers: usize,
}

/// All clients of one shard.
#[derive(Debug)]
pub struct Clients<S> {
    rules: ClientRules,
    /// Those whose session is open. Their names are the shard's own counting, so the seed of the
    /// hash does not matter.
    open: Map<ConnId, ClientRc<S>>,
    newcomers: Newcomers<S>,
    arrivals: u64,
    /// Sockets, open and in stages.
    sockets: usize,
    added: Vec<ClientRc<S>>,
    changed: Vec<ClientRc<S>>,
    /// Connections whose socket takes output again.
    unblocked: Vec<ConnId>,
    /// Connections to be closed: when, and how much was written by then.
    closing: VecDeque<(u64, ConnId, u64)>,
    scratch: Scratch,
    displaced: Folded,
}

impl<S: Socket> Clients<S> {
    /// None yet.
    #[must_use]
    pub fn new(rules: ClientRules) -> Self {
        Self {
            newcomers: Newcomers::new(rules.newcomers),
            rules,
            open: Map::default(),
            arrivals: 0,
            sockets: 0,
            added: Vec::new(),
            changed: Vec::new(),
            unblocked: Vec::new(),
            closing: VecDeque::new(),
            scratch: Scratch::default(),
            displaced: Folded::default(),
        }
    }

    /// Whether there is no socket.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sockets == 0
    }

    /// Takes the clients that the poller has not seen yet.
    #[must_use]
    pub fn take_added(&mut self) -> Vec<ClientRc<S>> {
        std::mem::take(&mut self.added)
    }

    /// Takes the clients at which the poller is to look again.
    #[must_use]
    pub fn take_changed(&mut self) -> Vec<ClientRc<S>> {
        std::mem::take(&mut self.changed)
    }

    // From arrival to the session.

    /// A client connected.
    pub fn arrived(
        &mut self,
        stream: TcpStream,
        (peer, local): (SocketAddr, SocketAddr),
        shard: &mut Shard,
        now: Now,
    ) {
        tracing::info!("accepting AMQP connection {peer} -> {local}");
        self.arrivals += 1;
        self.sockets += 1;
        let stages = Stages::new(&self.rules.stages);
        let client = ClientSocket::new(stream, self.arrivals, (peer, local), stages);
        let client = ClientRc::new(client);
        self.added.push(ClientRc::clone(&client));
        if let Some(oldest) = self.newcomers.add(&client) {
            self.displace(&oldest);
        }
        if client.stages.borrow().are_done() {
            self.open(&client, shard, now);
        } else {
            let us = self.rules.stages_ms.saturating_mul(1000);
            self.newcomers.stage(&client, now.monotonic_us.saturating_add(us));
        }
    }

    fn displace(&mut self, oldest: &ClientRc<S>) {
        self.fail(oldest, End::Displaced);
        if let Some(sockets) = self.displaced.count(Instant::now()) {
            tracing::warn!(
                "{sockets} sockets without a login were closed, the oldest first: there may be {} \
                 on this shard, see `ulimit -n`",
                self.rules.newcomers,
            );
        }
    }

    fn open(&mut self, client: &ClientRc<S>, shard: &mut Shard, now: Now) -> ConnId {
        let info = ConnInfo { peer: client.peer.get(), local: client.local };
        let id = shard.opened(info, now);
        client.id.set(Some(id));
        self.open.insert(id, ClientRc::clone(client));
        id
    }

    /// Bytes arrived for a client whose transport stages are not done.
    #[cold]
    pub fn staged(&mut self, client: &ClientRc<S>, chunk: &Bytes, shard: &mut Shard, now: Now) {
        let mut facts = Facts { peer: client.peer.get() };
        let result = client.stages.borrow_mut().receive(chunk, &mut facts);
        match result {
            Ok(None) => {}
            Ok(Some(rest)) => {
                client.peer.set(facts.peer);
                self.newcomers.staged(client);
                let id = self.open(client, shard, now);
                if !rest.is_empty() {
                    shard.receive(id, &rest, now);
                }
            }
            Err(why) => self.fail(client, End::StageError(why)),
        }
    }

    // The end.

    /// Has the poller end the connection.
    pub fn fail(&mut self, client: &ClientRc<S>, end: End) {
        client.fail(end);
        self.changed.push(ClientRc::clone(client));
    }

    /// The connection is over: the poller does not know it any more.
    pub fn closed(&mut self, client: &ClientRc<S>, end: End, shard: &mut Shard, now: Now) {
        self.sockets -= 1;
        self.newcomers.remove(client.arrival);
        let id = client.id.get();
        let in_order = id.is_some_and(|id| shard.closed_in_order(id));
        client.log_end(end, in_order, id.and_then(|id| shard.why_closed(id)));
        if let Some(id) = id {
            self.open.remove(&id);
            shard.closed(id, now);
        }
    }

    /// The broker stops: nobody new gets as far as the session.
    pub fn stop(&mut self) {
        for client in self.newcomers.take_staged() {
            self.fail(&client, End::Stopping);
        }
    }

    /// When there is something to do even if nothing happens until then.
    #[must_use]
    pub fn deadline_us(&self) -> Option<u64> {
        let closing = self.closing.front().map(|entry| entry.0);
        self.newcomers.deadline_us().into_iter().chain(closing).min()
    }

    /// Ends those whose time is over. A client that still takes output gets more of it.
    pub fn end_the_slow(&mut self, now: Now) {
        while let Some(client) = self.newcomers.overdue(now.monotonic_us) {
            self.fail(&client, End::StageTimeout);
        }
        while self.closing.front().is_some_and(|entry| entry.0 <= now.monotonic_us) {
            let Some((_, id, before)) = self.closing.pop_front() else {
                return;
            };
            let Some(client) = self.open.get(&id).map(ClientRc::clone) else {
                continue;
            };
            let written = client.written.get();
            if client.ended.get() || written == before {
                self.fail(&client, End::Slow);
            } else {
                self.closing.push_back((now.monotonic_us + CLOSING_US, id, written));
            }
        }
    }

    // Output.

    /// Writes what is new for each client, and looks at its gate. Whether something left.
    pub fn write_dirty(&mut self, shard: &mut Shard, now: Now) -> bool {
        let mut wrote = false;
        while let Some(id) = self.unblocked.pop().or_else(|| shard.next_dirty()) {
            if let Some(client) = self.open.get(&id).map(ClientRc::clone) {
                wrote |= self.write(id, &client, shard, now);
            }
        }
        wrote
    }

    fn write(&mut self, id: ConnId, client: &ClientRc<S>, shard: &mut Shard, now: Now) -> bool {
        self.look_at(id, client, shard, now);
        if client.blocked.get() {
            return false; // The outbox stays where the shard sees its length.
        }
        let mut output = client.output.borrow_mut();
        if let Some(outbox) = shard.outbox(id).filter(|outbox| !outbox.is_empty()) {
            output.take(outbox);
        }
        if output.is_empty() {
            client.end_writing();
            return false;
        }
        match output.write(&client.socket, &mut self.scratch) {
            Ok(wrote) => {
                client.written.set(client.written.get() + wrote.bytes as u64);
                shard.written(id, wrote.bytes, now);
                if wrote.all {
                    client.end_writing();
                } else {
                    client.blocked.set(true);
                    self.changed.push(ClientRc::clone(client));
                }
                wrote.bytes > 0
            }
            Err(error) => {
                self.fail(client, End::Error(error.kind()));
                false
            }
        }
    }

    /// Sees what changed of a client beside its output.
    fn look_at(&mut self, id: ConnId, client: &ClientRc<S>, shard: &Shard, now: Now) {
        if !client.logged_in.get() && shard.logged_in(id) {
            client.logged_in.set(true);
            self.newcomers.remove(client.arrival);
        }
        let gate = shard.gate(id);
        if client.gate.replace(gate) == gate {
            return;
        }
        self.changed.push(ClientRc::clone(client));
        if gate == Gate::Closing {
            let deadline = now.monotonic_us + CLOSING_US;
            self.closing.push_back((deadline, id, client.written.get()));
        }
    }

    /// Room for the slices of one write, for a poller that writes.
    pub fn scratch(&mut self) -> &mut Scratch {
        &mut self.scratch
    }

    /// A poller wrote for a client that was blocked.
    pub fn wrote(&mut self, client: &ClientRc<S>, wrote: Wrote, shard: &mut Shard, now: Now) {
        let Some(id) = client.id.get() else { return };
        if wrote.bytes > 0 {
            client.written.set(client.written.get() + wrote.bytes as u64);
            shard.written(id, wrote.bytes, now);
        }
        if wrote.all {
            client.blocked.set(false);
            self.unblocked.push(id);
        }
    }
}
