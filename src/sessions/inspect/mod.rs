//! Lists of connections, channels and consumers in chunks, and the end of a connection that an
//! operator wants. All lists are in the order of ids, which only grow.

pub(super) mod exchange_counts;

use std::ops::Bound::{Excluded, Included, Unbounded};

use amqp::Code;
use model::mutant::{self, Mutant};
use model::session::channel::State;
use model::session::{Channel, ChannelConsumer};
use model::topology::spec::clean;
use model::{ChannelId, ConnId, ConsumerId, Fault, Name, Refusal, RequestId, Resource};

use crate::mesh::inspect::{
    ChannelCursor, ChannelRow, ConnectionCounters, ConnectionRow, ConnectionState, ConsumerCursor,
    ConsumerRow, ExchangeRow, ExchangeRowCursor, ListChunk, Page, RowsOf, ShardCounts, chunk_of,
};
use crate::sessions::broker::{BrokerAccess, QueueAt};
use crate::sessions::connection::{Connection, pause};
use crate::sessions::life::Phase;
use crate::sessions::state::Sessions;

/// A channel and its number.
type Numbered<'a> = (u16, &'a Channel);
/// A connection, and a channel of it if it is not looked at for itself.
type ChannelStep<'a> = (ConnId, Option<Numbered<'a>>);
/// The same with a consumer if the channel is not looked at for itself.
type ConsumerStep<'a> = (ConnId, Option<Numbered<'a>>, Option<(ConsumerId, &'a ChannelConsumer)>);

impl Sessions {
    /// Adds what is known here to the counts of the shard.
    pub fn count(&self, counts: &mut ShardCounts) {
        let connections = self.len() as u64;
        counts.connections = connections;
        counts.connections_opened = self.opened;
        counts.connections_closed = self.opened - connections;
    }

    /// The connections by id.
    pub fn list_connections(&self, page: &Page<ConnId>) -> ListChunk<ConnectionRow, ConnId> {
        let first = page.behind.map_or(Unbounded, Excluded);
        let connections = self.connections.order.range((first, Unbounded));
        let walk = RowsOf {
            row: |id: &&ConnId| Some(row_of(**id, self.connections.conns.get(id)?)),
            cursor: |id: &&ConnId| **id,
            bytes: |row: &ConnectionRow| row.user.len() + row.vhost.len() + row.mechanism.len(),
        };
        chunk_of(page.most, connections, walk)
    }

    /// The open channels by connection and id.
    pub fn list_channels(
        &self,
        page: &Page<ChannelCursor>,
    ) -> ListChunk<ChannelRow, ChannelCursor> {
        let walk = RowsOf {
            row: |(conn, channel): &ChannelStep<'_>| channel_row(*conn, (*channel)?),
            cursor: |(conn, channel): &ChannelStep<'_>| cursor_of(*conn, *channel),
            bytes: |_: &ChannelRow| 0,
        };
        chunk_of(page.most, self.channel_steps(page.behind), walk)
    }

    /// The consumers by channel and id.
    pub fn list_consumers(
        &self,
        page: &Page<ConsumerCursor>,
    ) -> ListChunk<ConsumerRow, ConsumerCursor> {
        let behind = page.behind;
        let before = behind.map(|behind| before(behind.channel));
        let steps = self.channel_steps(before).flat_map(move |(conn, channel)| {
            let here = behind.filter(|behind| behind.channel == cursor_of(conn, channel));
            let last = here.map_or(ConsumerId(0), |here| here.consumer);
            let channels = channel.into_iter();
            let consumers = channels.flat_map(move |(_, channel)| channel.consumers.behind(last));
            let own = here.is_none().then_some((conn, channel, None));
            own.into_iter().chain(consumers.map(move |one| (conn, channel, Some(one))))
        });
        let walk = RowsOf {
            row: |(conn, channel, consumer): &ConsumerStep<'_>| {
                consumer_row(*conn, (*channel)?, (*consumer)?)
            },
            cursor: |(conn, channel, consumer): &ConsumerStep<'_>| ConsumerCursor {
                channel: cursor_of(*conn, *channel),
                consumer: consumer.map_or(ConsumerId(0), |(id, _)| id),
            },
            bytes: |row: &ConsumerRow| row.tag.len(),
        };
        chunk_of(page.most, steps, walk)
    }

    /// What was published from here, by exchange.
    pub fn list_exchanges(
        &self,
        page: &Page<ExchangeRowCursor>,
    ) -> ListChunk<ExchangeRow, ExchangeRowCursor> {
        self.exchange_counts.list(page)
    }

    /// Each connection, then its channels, behind one of them.
    fn channel_steps(
        &self,
        behind: Option<ChannelCursor>,
    ) -> impl Iterator<Item = ChannelStep<'_>> {
        let first = behind.map_or(Unbounded, |behind| Included(behind.conn));
        let connections = self.connections.order.range((first, Unbounded));
        connections.flat_map(move |id| {
            let here = behind.filter(|behind| behind.conn == *id);
            let conn = self.connections.conns.get(id).map(Box::as_ref);
            let last = here.map_or(ChannelId(0), |here| here.channel);
            let channels = conn.into_iter().flat_map(move |conn| conn.channels.behind(last));
            let own = here.is_none().then_some((*id, None));
            own.into_iter().chain(channels.map(move |channel| (*id, Some(channel))))
        })
    }

    /// Closes a connection because an operator wants it; false if it is not here. RabbitMQ answers
    /// before it closes too.
    pub fn close_by_operator(
        &mut self,
        id: ConnId,
        reason: &str,
        broker: &mut impl BrokerAccess,
    ) -> bool {
        let Some(conn) = self.connections.get(id) else { return false };
        let told = conn.running && !mutant::active(Mutant::ClosedWithoutReason);
        if told && conn.life.phase == Phase::Alive {
            let fault = Fault::new(Code::ConnectionForced, &clean(reason), (0, 0));
            self.fail(id, 0, &fault, broker);
        } else if conn.life.phase == Phase::Alive {
            // As in RabbitMQ, a client in its handshake is not told.
            conn.life.why = Some(clean(reason));
            self.leave(id);
        }
        true
    }

    /// A queue by names, for somebody who owns none.
    pub fn queue_for_operator(&self, vhost: &Name, name: &Name) -> Result<QueueAt, Refusal> {
        let resource = || Resource::queue(vhost, name);
        let found = self.topology.vhost(vhost).and_then(|place| place.queue(name));
        let spec = &found.ok_or_else(|| Refusal::NotFound(resource()))?.spec;
        if spec.owner.is_some() {
            return Err(Refusal::Locked(resource()));
        }
        Ok((spec.id, spec.home))
    }

    /// The id of a request that no channel waits for.
    pub fn fresh_request(&mut self) -> RequestId {
        self.ids.fresh()
    }
}

fn cursor_of(conn: ConnId, channel: Option<Numbered<'_>>) -> ChannelCursor {
    ChannelCursor { conn, channel: channel.map_or(ChannelId(0), |(_, channel)| channel.id) }
}

/// The cursor in front of a channel: its own consumers may not be through.
fn before(ChannelCursor { conn, channel }: ChannelCursor) -> ChannelCursor {
    ChannelCursor { conn, channel: ChannelId(channel.0.saturating_sub(1)) }
}

fn row_of(id: ConnId, conn: &Connection) -> ConnectionRow {
    let agreed = conn.kind.negotiated();
    ConnectionRow {
        id,
        peer: conn.info.peer,
        local: conn.info.local,
        user: conn.user.clone(),
        vhost: conn.vhost.clone(),
        state: state_of(conn),
        opened_ms: conn.life.opened_ms,
        mechanism: conn.kind.mechanism().into(),
        channel_max: agreed.channel_max,
        frame_max: agreed.frame_max,
        heartbeat_s: agreed.heartbeat_s,
        channels: conn.channels.len() as u64,
        counters: ConnectionCounters {
            received_bytes: conn.received_bytes,
            received_frames: conn.received_frames,
            sent_bytes: conn.output.written(),
            sent_frames: conn.output.outbox.frames(),
        },
    }
}

fn state_of(conn: &Connection) -> ConnectionState {
    match conn.life.phase {
        Phase::Alive if !conn.running => ConnectionState::Starting,
        Phase::Alive if conn.paused & pause::ALARM != 0 => ConnectionState::Blocked,
        Phase::Alive if conn.paused != 0 => ConnectionState::Flow,
        Phase::Alive => ConnectionState::Running,
        _ => ConnectionState::Closing,
    }
}

fn channel_row(conn: ConnId, (number, channel): Numbered<'_>) -> Option<ChannelRow> {
    if channel.state != State::Open {
        return None;
    }
    let replies = u64::from(channel.replies.is_some());
    Some(ChannelRow {
        conn,
        id: channel.id,
        number,
        prefetch: channel.prefetch,
        // At most a u16 was asked for.
        limit: channel.limit.as_ref().map_or(0, |limit| limit.most() as u16),
        confirms: channel.confirms.is_some(),
        transactional: channel.tx.is_some(),
        consumers: (channel.consumers.len() as u64).saturating_sub(replies),
        unacknowledged: (channel.unacked.len() + channel.settling) as u64,
        unconfirmed: channel.confirms.as_ref().map_or(0, |confirms| confirms.unconfirmed()),
        uncommitted: channel.tx.as_ref().map_or(0, |tx| tx.publishes() as u64),
        counters: channel.counters(),
    })
}

fn consumer_row(
    conn: ConnId,
    (number, channel): Numbered<'_>,
    (id, consumer): (ConsumerId, &ChannelConsumer),
) -> Option<ConsumerRow> {
    if channel.state != State::Open || consumer.queue.is_direct_reply() {
        return None;
    }
    Some(ConsumerRow {
        conn,
        channel: channel.id,
        number,
        id,
        tag: consumer.tag.clone(),
        queue: consumer.queue,
        home: consumer.home,
        no_ack: consumer.no_ack,
        exclusive: consumer.exclusive,
        prefetch: consumer.prefetch,
        priority: consumer.priority,
    })
}
