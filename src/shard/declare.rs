//! exchange.declare, queue.declare and bindings: compared with the local copy of the topology, or
//! asked of the coordinator.

use amqp::{Method, Table};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use model::mutant::{self, Mutant};
use model::session::arguments;
use model::session::content::REPLY_TO;
use model::{
    Arguments, Binding, ConnId, Destination, ExchangeKind, ExchangeSpec, Name, Now, QueueId,
    QueueSpec, Refusal, Resource, Vhost,
};

use super::clients::{Reply, Then};
use super::machine::Shard;
use super::message::{QueueRequest, Request};
use super::questions::Call;

/// The flags of queue.declare.
#[derive(Debug, Clone, Copy)]
struct QueueFlags {
    durable: bool,
    exclusive: bool,
    auto_delete: bool,
}

impl Shard {
    pub(super) fn exchange_method(
        &mut self,
        call: Call<'_>,
        method: &Method<'_>,
    ) -> Result<(), Refusal> {
        match *method {
            Method::ExchangeDeclare { exchange, passive: true, nowait, .. } => {
                self.exchange_there(call, exchange, nowait)
            }
            Method::ExchangeDeclare { .. } => self.declare_exchange(call, method),
            Method::ExchangeDelete { exchange, if_unused, nowait, .. } => {
                self.delete_exchange(call, exchange, if_unused, nowait)
            }
            Method::ExchangeBind {
                destination, source, routing_key, nowait, arguments, ..
            } => {
                let to = Destination::Exchange(clean(destination));
                let reply = Reply::ExchangeBindOk.unless(nowait);
                self.bind(call, to, (source, routing_key, arguments), reply)
            }
            Method::ExchangeUnbind {
                destination, source, routing_key, nowait, arguments, ..
            } => {
                let to = Destination::Exchange(clean(destination));
                let reply = Reply::ExchangeUnbindOk.unless(nowait);
                self.unbind(call, to, (source, routing_key, arguments), reply);
                Ok(())
            }
            _ => Err(Refusal::ServersMethod),
        }
    }

    pub(super) fn queue_method(
        &mut self,
        call: Call<'_>,
        method: &Method<'_>,
        now: Now,
    ) -> Result<(), Refusal> {
        match *method {
            // An empty name is looked for as it is, not the queue declared last.
            Method::QueueDeclare { queue, passive: true, .. } => {
                let name = clean(queue);
                let replies = self.declare_replies(call, &name, now);
                replies.unwrap_or_else(|| self.queue_there(call, name, now))
            }
            Method::QueueDeclare { queue, durable, exclusive, auto_delete, arguments, .. } => {
                let flags = QueueFlags { durable, exclusive, auto_delete };
                self.declare_queue(call, queue, flags, arguments, now)
            }
            Method::QueueBind { queue, exchange, routing_key, nowait, arguments, .. } => {
                let name = self.queue_name(call, &clean(queue))?;
                check_bindable(&name)?;
                // An empty name and an empty key both mean the queue declared last (spec 50.20).
                let key =
                    if queue.is_empty() && routing_key.is_empty() { &name } else { routing_key };
                let reply = Reply::QueueBindOk.unless(nowait);
                let to = Destination::Queue(name.clone());
                self.bind(call, to, (exchange, key, arguments), reply)
            }
            Method::QueueUnbind { queue, exchange, routing_key, arguments, .. } => {
                let name = self.queue_name(call, &clean(queue))?;
                check_bindable(&name)?;
                let key =
                    if queue.is_empty() && routing_key.is_empty() { &name } else { routing_key };
                let to = Destination::Queue(name.clone());
                self.unbind(call, to, (exchange, key, arguments), Reply::QueueUnbindOk);
                Ok(())
            }
            Method::QueuePurge { queue, nowait, .. } => self.purge(call, queue, nowait, now),
            Method::QueueDelete { queue, if_unused, if_empty, nowait, .. } => {
                self.delete_queue(call, queue, (if_unused, if_empty), nowait)
            }
            _ => Err(Refusal::ServersMethod),
        }
    }

    /// The vhost of a connection that is open.
    pub(super) fn vhost(&self, id: ConnId) -> Option<(&Name, &Vhost)> {
        let name = &self.clients.conns.get(&id)?.vhost;
        Some((name, self.topology.vhost(name)?))
    }

    pub(super) fn vhost_name(&self, id: ConnId) -> Name {
        self.clients.conns.get(&id).map(|conn| conn.vhost.clone()).unwrap_or_default()
    }

    fn exchange_there(
        &mut self,
        call: Call<'_>,
        exchange: &str,
        nowait: bool,
    ) -> Result<(), Refusal> {
        let vhost = self.vhost_name(call.conn);
        let name = clean(exchange);
        if name.is_empty() {
            return Err(Refusal::DefaultExchange);
        }
        let missing = || Refusal::NotFound(Resource::exchange(&vhost, &name));
        let found = self.vhost(call.conn).and_then(|(_, vhost)| vhost.exchange(&name));
        let version = found.ok_or_else(missing)?.version;
        self.exchange_declared(call, version, nowait);
        Ok(())
    }

    /// Answers a declare of an exchange that this shard knows: at once if all shards do.
    fn exchange_declared(&mut self, call: Call<'_>, version: u64, nowait: bool) {
        if version > self.settled {
            self.ask(call, Request::Sync, Then::Again);
        } else if !nowait {
            self.clients.send(call.conn, call.number, &Method::ExchangeDeclareOk {});
        }
    }

    fn declare_exchange(&mut self, call: Call<'_>, method: &Method<'_>) -> Result<(), Refusal> {
        let Method::ExchangeDeclare {
            exchange,
            kind,
            durable,
            auto_delete,
            internal,
            nowait,
            arguments,
            ..
        } = *method
        else {
            return Ok(());
        };
        let vhost = self.vhost_name(call.conn);
        let name = clean(exchange);
        if name.is_empty() {
            return Err(Refusal::DefaultExchange);
        }
        let resource = Resource::exchange(&vhost, &name);
        let kind = ExchangeKind::from_name(kind)
            .ok_or_else(|| Refusal::UnknownExchangeKind(kind.into()))?;
        let table = arguments;
        let arguments = Arguments::from(table);
        let spec = ExchangeSpec { name, kind, durable, auto_delete, internal, arguments };
        let found = self.vhost(call.conn).and_then(|(_, vhost)| vhost.exchange(&spec.name));
        if let Some(found) = found {
            arguments::same_exchange(&vhost, &spec, &found.spec)?;
            let version = found.version;
            self.exchange_declared(call, version, nowait);
            return Ok(());
        }
        if spec.name.starts_with("amq.") {
            return Err(Refusal::ReservedName(resource));
        }
        arguments::check_exchange(&resource, table)?;
        self.ask(call, Request::DeclareExchange(vhost, spec), Then::Again);
        Ok(())
    }

    /// The name a client means: an empty one is the queue the channel declared last.
    pub(super) fn queue_name(&mut self, call: Call<'_>, name: &str) -> Result<Name, Refusal> {
        if !name.is_empty() {
            return Ok(name.into());
        }
        let channel = self.clients.get(call.conn).and_then(|conn| conn.channel(call.number));
        let last = channel.map(|channel| channel.last_queue.clone()).unwrap_or_default();
        if last.is_empty() { Err(Refusal::NoPreviousQueue) } else { Ok(last) }
    }

    /// A queue by name that the connection may use.
    pub(super) fn usable_queue(
        &self,
        id: ConnId,
        name: &str,
    ) -> Result<(&QueueSpec, u64), Refusal> {
        let Some((vhost_name, vhost)) = self.vhost(id) else {
            return Err(Refusal::NoPreviousQueue);
        };
        let resource = || Resource::queue(vhost_name, name);
        let found = vhost.queue(name).ok_or_else(|| Refusal::NotFound(resource()))?;
        let locked = found.spec.owner.is_some_and(|owner| owner != id);
        if locked && !mutant::active(Mutant::LockIgnored) {
            return Err(Refusal::Locked(resource()));
        }
        Ok((&found.spec, found.version))
    }

    fn queue_there(&mut self, call: Call<'_>, name: Name, now: Now) -> Result<(), Refusal> {
        let (spec, version) = self.usable_queue(call.conn, &name)?;
        let queue = (spec.id, spec.home);
        if version > self.settled {
            self.ask(call, Request::Sync, Then::Again);
        } else {
            self.ask_queue(call, queue, QueueRequest::Count, Then::Declared(name), now);
        }
        Ok(())
    }

    fn declare_queue(
        &mut self,
        call: Call<'_>,
        name: &str,
        flags: QueueFlags,
        arguments: Table<'_>,
        now: Now,
    ) -> Result<(), Refusal> {
        let vhost = self.vhost_name(call.conn);
        let name = clean(name);
        if let Some(replies) = self.declare_replies(call, &name, now) {
            return replies;
        }
        let server_named = name.is_empty();
        let name = if server_named { self.fresh_name("amq.gen-") } else { name };
        let resource = Resource::queue(&vhost, &name);
        if name.starts_with("amq.") && !server_named {
            return Err(Refusal::ReservedName(resource));
        }
        let spec = QueueSpec {
            id: QueueId(0),
            name,
            home: self.me,
            // An exclusive queue goes with its connection, so it never survives a restart.
            durable: flags.durable && !flags.exclusive,
            auto_delete: flags.auto_delete,
            owner: flags.exclusive.then_some(call.conn),
            server_named,
            arguments: arguments.into(),
        };
        let found = self.vhost(call.conn).and_then(|(_, vhost)| vhost.queue(&spec.name));
        if let Some(found) = found {
            arguments::same_queue(&vhost, &spec, &found.spec)?;
            return self.queue_there(call, spec.name, now);
        }
        arguments::check_queue(&resource, spec.arguments.table())?;
        if let Some(conn) = self.clients.get(call.conn) {
            conn.owns |= flags.exclusive;
        }
        let then = if server_named { Then::Declared(spec.name.clone()) } else { Then::Again };
        self.ask(call, Request::DeclareQueue(vhost, spec), then);
        Ok(())
    }

    /// Answers queue.declare.
    pub(super) fn declared(
        &mut self,
        call: Call<'_>,
        name: Name,
        (message_count, consumer_count): (u32, u32),
    ) {
        let nowait =
            matches!(Method::read(call.payload), Ok(Method::QueueDeclare { nowait: true, .. }));
        if !nowait {
            let method = Method::QueueDeclareOk { queue: &name, message_count, consumer_count };
            self.clients.send(call.conn, call.number, &method);
        }
        let channel = self.clients.get(call.conn).and_then(|conn| conn.channel(call.number));
        if let Some(channel) = channel {
            channel.last_queue = name;
        }
    }

    fn bind(
        &mut self,
        call: Call<'_>,
        destination: Destination,
        (source, key, arguments): (&str, &str, Table<'_>),
        reply: Reply,
    ) -> Result<(), Refusal> {
        let vhost = self.vhost_name(call.conn);
        let binding = binding(destination, source, key, arguments);
        self.ask(call, Request::Bind(vhost, binding, call.conn), Then::Reply(reply));
        Ok(())
    }

    fn unbind(
        &mut self,
        call: Call<'_>,
        destination: Destination,
        (source, key, arguments): (&str, &str, Table<'_>),
        reply: Reply,
    ) {
        let vhost = self.vhost_name(call.conn);
        let binding = binding(destination, source, key, arguments);
        self.ask(call, Request::Unbind(vhost, binding, call.conn), Then::Reply(reply));
    }

    /// A name only this server gives out: 16 random octets behind a prefix, as RabbitMQ forms them.
    pub(super) fn fresh_name(&mut self, prefix: &str) -> Name {
        let mut octets = [0; 16];
        self.rng.fill(&mut octets);
        format!("{prefix}{}", URL_SAFE_NO_PAD.encode(octets)).into()
    }
}

fn binding(destination: Destination, source: &str, key: &str, arguments: Table<'_>) -> Binding {
    Binding { source: clean(source), destination, key: key.into(), arguments: arguments.into() }
}

/// A reply consumer has no queue that a binding could lead to.
fn check_bindable(queue: &str) -> Result<(), Refusal> {
    let replies = queue.strip_prefix(REPLY_TO).is_some_and(|rest| rest.starts_with('.'));
    if replies { Err(Refusal::ReplyQueueBinding) } else { Ok(()) }
}

/// RabbitMQ takes line ends out of names that are declared, bound or deleted, so that a log line
/// stays one; not out of those that are only used.
pub(super) fn clean(name: &str) -> Name {
    name.chars().filter(|c| !matches!(c, '\r' | '\n')).collect::<String>().into()
}

#[cfg(test)]
mod tests {
    use model::ShardId;

    use super::*;
    use crate::shard::ShardConfig;

    #[test]
    fn shards_of_one_seed_make_different_names() {
        let mut one = Shard::new(ShardConfig::new(ShardId(0), 2, 7));
        let mut other = Shard::new(ShardConfig::new(ShardId(1), 2, 7));
        let names = [one.fresh_name("amq.gen-"), one.fresh_name("amq.gen-")];
        assert_ne!(names[0], names[1]);
        assert!(!names.contains(&other.fresh_name("amq.gen-")));
        assert_eq!(names[0].len(), "amq.gen-".len() + 22);
    }
}
