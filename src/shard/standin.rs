//! A stand-in for the pure shard: it sends back what it receives, so that the shell can be tried.

use std::collections::{HashMap, VecDeque};
use std::io::IoSlice;
use std::net::SocketAddr;

use bytes::Bytes;
use model::time::Now;
use model::{ConnId, ShardId};

/// Limits of the protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Channels per connection.
    pub channel_max: u16,
    /// Octets per frame.
    pub frame_max: u32,
    /// Seconds between heartbeats.
    pub heartbeat_s: u16,
    /// Milliseconds for the handshake.
    pub handshake_timeout_ms: u64,
    /// Octets per message.
    pub max_message_size: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            channel_max: 2047,
            frame_max: 131_072,
            heartbeat_s: 60,
            handshake_timeout_ms: 10_000,
            max_message_size: 134_217_728,
        }
    }
}

/// What a shard is started with.
#[derive(Debug, Clone)]
pub struct ShardConfig {
    /// Its number.
    pub id: ShardId,
    /// How many there are.
    pub shards: u16,
    /// For hashing.
    pub seed: u64,
    /// Limits of the protocol.
    pub limits: Limits,
}

/// What a coordinator is started with.
#[derive(Debug, Clone)]
pub struct CoordinatorConfig {
    /// How many shards there are.
    pub shards: u16,
    /// For hashing.
    pub seed: u64,
    /// The first user.
    pub default_user: String,
    /// The first user's password.
    pub default_pass: String,
    /// The first vhost.
    pub default_vhost: String,
    /// Users who may log in from this host only.
    pub loopback_users: Vec<String>,
    /// Octets.
    pub memory_limit: u64,
}

/// The two ends of a connection.
#[derive(Debug, Clone, Copy)]
pub struct ConnInfo {
    /// The client.
    pub peer: SocketAddr,
    /// The listener.
    pub local: SocketAddr,
}

/// What the shell is to do with a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// Read.
    Open,
    /// Do not read.
    Paused,
    /// Drain and close.
    Closing,
}

/// Output of a connection.
#[derive(Debug, Default)]
pub struct Outbox(Vec<u8>);

impl Outbox {
    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    /// Octets.
    pub fn len(&self) -> usize {
        self.0.len()
    }
    /// Moves everything to the end of `other`.
    pub fn drain_into(&mut self, other: &mut Self) {
        if other.0.is_empty() {
            std::mem::swap(&mut self.0, &mut other.0);
        } else {
            other.0.append(&mut self.0);
        }
    }
    /// The octets from `from` on.
    pub fn slices<'a>(&'a self, from: usize, slices: &mut Vec<IoSlice<'a>>) {
        slices.push(IoSlice::new(&self.0[from..]));
    }
    /// Empties it.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

/// What crosses cores.
#[derive(Debug, Default)]
pub struct Batch(Vec<u8>);

impl Batch {
    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    /// Octets.
    pub fn octets(&self) -> usize {
        self.0.len()
    }
}

#[derive(Debug, Default)]
struct Echo {
    outbox: Outbox,
    gate: Option<Gate>,
}

/// Sends back what it receives; `quit` closes, `big` answers with 16 MiB, `bell` goes by the mesh.
#[derive(Debug)]
pub struct Shard {
    config: ShardConfig,
    next: u64,
    conns: HashMap<ConnId, Echo>,
    dirty: VecDeque<ConnId>,
    out: Vec<Batch>,
}

impl Shard {
    /// An empty shard.
    pub fn new(config: ShardConfig) -> Self {
        let out = (0..=config.shards).map(|_| Batch::default()).collect();
        Self {
            config,
            next: 0,
            conns: HashMap::new(),
            dirty: VecDeque::new(),
            out,
        }
    }
    /// A connection came.
    pub fn opened(&mut self, _info: ConnInfo, _now: Now) -> ConnId {
        self.next += 1;
        self.conns.insert(ConnId(self.next), Echo::default());
        ConnId(self.next)
    }
    /// Octets came.
    pub fn receive(&mut self, conn: ConnId, chunk: &Bytes, _now: Now) {
        let Some(echo) = self.conns.get_mut(&conn) else {
            return;
        };
        if chunk.starts_with(b"bell") {
            for batch in &mut self.out {
                batch.0.extend_from_slice(chunk);
            }
        }
        if chunk.starts_with(b"big") {
            echo.outbox.0.resize(16 << 20, b'x');
        }
        if chunk.starts_with(b"quit") {
            echo.gate = Some(Gate::Closing);
        }
        echo.outbox.0.extend_from_slice(chunk);
        self.dirty.push_back(conn);
    }
    /// Octets left.
    pub fn written(&mut self, _conn: ConnId, _octets: usize, _now: Now) {}
    /// A connection went.
    pub fn closed(&mut self, conn: ConnId, _now: Now) {
        self.conns.remove(&conn);
    }
    /// A batch came.
    pub fn mesh(&mut self, from: ShardId, batch: &mut Batch, _now: Now) {
        tracing::info!(
            "shard {} has {} octets from {}",
            self.config.id.0,
            batch.octets(),
            from.0
        );
        batch.0.clear();
    }
    /// Time went by.
    pub fn tick(&mut self, _now: Now) {}
    /// When to tick.
    pub fn next_deadline_us(&self) -> Option<u64> {
        None
    }
    /// A turn ends.
    pub fn end_turn(&mut self, _now: Now) {}
    /// What is to go there.
    pub fn outbound(&mut self, to: ShardId) -> &mut Batch {
        &mut self.out[to.index()]
    }
    /// The next connection with output.
    pub fn next_dirty(&mut self) -> Option<ConnId> {
        self.dirty.pop_front()
    }
    /// Its output.
    pub fn outbox(&mut self, conn: ConnId) -> Option<&mut Outbox> {
        self.conns.get_mut(&conn).map(|echo| &mut echo.outbox)
    }
    /// Its gate.
    pub fn gate(&self, conn: ConnId) -> Gate {
        self.conns
            .get(&conn)
            .and_then(|echo| echo.gate)
            .unwrap_or(Gate::Open)
    }
    /// Closes all.
    pub fn shutdown(&mut self, _now: Now) {
        for (id, echo) in &mut self.conns {
            echo.gate = Some(Gate::Closing);
            echo.outbox.0.extend_from_slice(b"bye\n");
            self.dirty.push_back(*id);
        }
    }
    /// How many.
    pub fn connections(&self) -> usize {
        self.conns.len()
    }
}

/// Sends back what it gets.
#[derive(Debug)]
pub struct Coordinator {
    out: Vec<Batch>,
}

impl Coordinator {
    /// An empty one.
    pub fn new(config: CoordinatorConfig) -> Self {
        Self {
            out: (0..=config.shards).map(|_| Batch::default()).collect(),
        }
    }
    /// A batch came.
    pub fn mesh(&mut self, from: ShardId, batch: &mut Batch, _now: Now) {
        self.out[from.index()].0.append(&mut batch.0);
    }
    /// What is to go there.
    pub fn outbound(&mut self, to: ShardId) -> &mut Batch {
        &mut self.out[to.index()]
    }
}
