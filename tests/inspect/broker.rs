//! A broker in this process, and whole lists of it.

use std::fs::Permissions;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use model::{ConnId, QueueId};
use ringtail::config::{Config, IoMode};
use ringtail::mesh::inspect::{
    ChannelRow, ConnectionRow, ConsumerRow, CoordinatorAnswer, CoordinatorRequest,
    ExchangeCounters, ListChunk, Page, QueueRow, ShardAnswer, ShardRequest,
};
use ringtail::runtime::inspect::Inspector;
use ringtail::runtime::{Embedded, start};
use tempfile::TempDir;

/// Longer than anything here takes.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// How many shards there are.
pub const SHARDS: u16 = 2;

/// A running broker. It stops when this is dropped.
pub struct Broker {
    embedded: Embedded,
    _data: TempDir,
}

impl Broker {
    /// Starts one that has its queues on all shards.
    pub fn start() -> Self {
        let private = Permissions::from_mode(0o700);
        let data = tempfile::Builder::new().permissions(private).tempdir().unwrap();
        let config = Config {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
            data_dir: data.path().to_owned(),
            shards: Some(SHARDS),
            // Many brokers of one machine may be slow.
            handshake_timeout_ms: u64::MAX,
            // With io_uring a broker that has stopped closes descriptors late.
            io: IoMode::Epoll,
            ..Config::default()
        };
        let embedded = start(&config).expect("a broker starts");
        Self { embedded, _data: data }
    }

    pub fn address(&self) -> SocketAddr {
        self.embedded.addresses()[0]
    }

    pub fn inspector(&self) -> &Inspector {
        self.embedded.inspector()
    }

    pub fn shard(&self, shard: usize, request: ShardRequest) -> ShardAnswer {
        self.inspector().ask_shard(shard, request, PATIENCE).unwrap()
    }

    pub fn coordinator(&self, request: CoordinatorRequest) -> CoordinatorAnswer {
        self.inspector().ask_coordinator(request, PATIENCE).unwrap()
    }

    pub fn queues(&self) -> Vec<QueueRow> {
        self.shards(ShardRequest::Queues, |answer| match answer {
            ShardAnswer::Queues(chunk) => Some(chunk),
            _ => None,
        })
    }

    pub fn queue(&self, name: &str) -> QueueRow {
        let mut rows = self.queues().into_iter().filter(|row| *row.name == *name);
        let row = rows.next().unwrap();
        assert!(rows.next().is_none());
        row
    }

    pub fn connections(&self) -> Vec<ConnectionRow> {
        self.shards(ShardRequest::Connections, |answer| match answer {
            ShardAnswer::Connections(chunk) => Some(chunk),
            _ => None,
        })
    }

    pub fn channels(&self) -> Vec<ChannelRow> {
        self.shards(ShardRequest::Channels, |answer| match answer {
            ShardAnswer::Channels(chunk) => Some(chunk),
            _ => None,
        })
    }

    pub fn consumers(&self) -> Vec<ConsumerRow> {
        self.shards(ShardRequest::Consumers, |answer| match answer {
            ShardAnswer::Consumers(chunk) => Some(chunk),
            _ => None,
        })
    }

    /// What all shards counted of an exchange of the vhost `/`.
    pub fn exchange(&self, name: &str) -> ExchangeCounters {
        let rows = self.shards(ShardRequest::Exchanges, |answer| match answer {
            ShardAnswer::Exchanges(chunk) => Some(chunk),
            _ => None,
        });
        let mut sum = ExchangeCounters::default();
        for row in rows.iter().filter(|row| *row.vhost == *"/" && *row.name == *name) {
            sum.publish_in += row.counters.publish_in;
            sum.publish_out += row.counters.publish_out;
        }
        sum
    }

    /// A whole list of each shard.
    fn shards<T, C: Clone>(
        &self,
        request: impl Fn(Page<C>) -> ShardRequest,
        chunk: impl Fn(ShardAnswer) -> Option<ListChunk<T, C>>,
    ) -> Vec<T> {
        let of = |shard| walk(|page| chunk(self.shard(shard, request(page))).unwrap());
        (0..self.inspector().shards()).flat_map(of).collect()
    }

    /// The connection of a client, by the client's end of the socket.
    pub fn connection(&self, peer: SocketAddr) -> ConnectionRow {
        let mut rows = self.connections().into_iter().filter(|row| row.peer == peer);
        rows.next().unwrap()
    }

    pub fn close(&self, conn: ConnId, reason: &str) -> ShardAnswer {
        let request = ShardRequest::CloseConnection { conn, reason: reason.into() };
        self.shard(conn.origin().index(), request)
    }

    pub fn purge(&self, shard: usize, name: &str) -> ShardAnswer {
        let request = ShardRequest::PurgeQueue { vhost: "/".into(), name: name.into() };
        self.shard(shard, request)
    }

    pub fn delete(&self, name: &str, if_unused: bool, if_empty: bool) -> CoordinatorAnswer {
        let (vhost, name) = ("/".into(), name.into());
        self.coordinator(CoordinatorRequest::DeleteQueue { vhost, name, if_unused, if_empty })
    }

    /// The ids of the queues that the coordinator knows, and those that the shards have.
    pub fn queue_ids(&self) -> [Vec<QueueId>; 2] {
        let known = walk(|page| match self.coordinator(CoordinatorRequest::Queues(page)) {
            CoordinatorAnswer::Queues(chunk) => chunk,
            other => panic!("{other:?}"),
        });
        let mut here: Vec<_> = self.queues().iter().map(|row| row.id).collect();
        here.sort_unstable();
        [known.iter().map(|listing| listing.spec.id).collect(), here]
    }
}

/// All rows of a list.
pub fn walk<T, C: Clone>(mut ask: impl FnMut(Page<C>) -> ListChunk<T, C>) -> Vec<T> {
    let (mut rows, mut behind) = (Vec::new(), None);
    loop {
        let chunk = ask(Page::behind(behind));
        rows.extend(chunk.items);
        behind = chunk.next;
        if behind.is_none() {
            return rows;
        }
    }
}
