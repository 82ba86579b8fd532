//! exchange.declare, queue.declare and bindings: compared with the local copy of the topology, or
//! asked of the coordinator.

use amqp::{Method, Table};
use model::session::arguments;
use model::topology::spec::clean;
use model::{Arguments, ExchangeKind, ExchangeSpec, Name, QueueId, QueueSpec, Refusal, Resource};

use crate::mesh::control::{QueueRequest, Request};
use crate::sessions::amqp::pending::MethodStep;
use crate::sessions::amqp::send::MethodCall;
use crate::sessions::broker::BrokerAccess;
use crate::sessions::state::Sessions;

/// The flags of queue.declare.
#[derive(Debug, Clone, Copy)]
struct QueueFlags {
    durable: bool,
    exclusive: bool,
    auto_delete: bool,
}

impl Sessions {
    pub(super) fn exchange_method(
        &mut self,
        call: MethodCall<'_>,
        method: &Method<'_>,
        broker: &mut impl BrokerAccess,
    ) -> Result<(), Refusal> {
        match *method {
            Method::ExchangeDeclare { exchange, passive: true, nowait, .. } => {
                self.exchange_there(call, exchange, nowait, broker)
            }
            Method::ExchangeDeclare { .. } => self.declare_exchange(call, method, broker),
            Method::ExchangeDelete { exchange, if_unused, nowait, .. } => {
                self.delete_exchange(call, exchange, if_unused, nowait, broker)
            }
            Method::ExchangeBind { .. } | Method::ExchangeUnbind { .. } => {
                self.exchange_binding(call, method, broker)
            }
            _ => Err(Refusal::ServersMethod),
        }
    }

    pub(super) fn queue_method(
        &mut self,
        call: MethodCall<'_>,
        method: &Method<'_>,
        broker: &mut impl BrokerAccess,
    ) -> Result<(), Refusal> {
        match *method {
            // An empty name is looked for as it is, not the queue declared last.
            Method::QueueDeclare { queue, passive: true, .. } => {
                let name = clean(queue);
                let replies = self.declare_replies(call, &name, broker);
                replies.unwrap_or_else(|| self.queue_there(call, name, broker))
            }
            Method::QueueDeclare { queue, durable, exclusive, auto_delete, arguments, .. } => {
                let flags = QueueFlags { durable, exclusive, auto_delete };
                self.declare_queue(call, queue, flags, arguments, broker)
            }
            Method::QueueBind { .. } | Method::QueueUnbind { .. } => {
                self.queue_binding(call, method, broker)
            }
            Method::QueuePurge { queue, nowait, .. } => self.purge(call, queue, nowait, broker),
            Method::QueueDelete { queue, if_unused, if_empty, nowait, .. } => {
                self.delete_queue(call, queue, (if_unused, if_empty), nowait, broker)
            }
            _ => Err(Refusal::ServersMethod),
        }
    }

    fn exchange_there(
        &mut self,
        call: MethodCall<'_>,
        exchange: &str,
        nowait: bool,
        broker: &mut impl BrokerAccess,
    ) -> Result<(), Refusal> {
        let vhost = self.vhost_name(call.at.conn);
        let name = clean(exchange);
        if name.is_empty() {
            return Err(Refusal::DefaultExchange);
        }
        let missing = || Refusal::NotFound(Resource::exchange(&vhost, &name));
        let found = self.vhost(call.at.conn).and_then(|(_, vhost)| vhost.exchange(&name));
        let version = found.ok_or_else(missing)?.version;
        self.exchange_declared(call, version, nowait, broker);
        Ok(())
    }

    /// Answers a declare of an exchange that this shard knows: at once if all shards do.
    fn exchange_declared(
        &mut self,
        call: MethodCall<'_>,
        version: u64,
        nowait: bool,
        broker: &mut impl BrokerAccess,
    ) {
        if version > self.settled {
            self.ask_for(call, Request::Sync, MethodStep::Again, broker);
        } else if !nowait {
            self.connections.reply(call.at, &Method::ExchangeDeclareOk {});
        }
    }

    fn declare_exchange(
        &mut self,
        call: MethodCall<'_>,
        method: &Method<'_>,
        broker: &mut impl BrokerAccess,
    ) -> Result<(), Refusal> {
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
        arguments::check_size(arguments)?;
        let vhost = self.vhost_name(call.at.conn);
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
        let found = self.vhost(call.at.conn).and_then(|(_, vhost)| vhost.exchange(&spec.name));
        if let Some(found) = found {
            arguments::same_exchange(&vhost, &spec, &found.spec)?;
            let version = found.version;
            self.exchange_declared(call, version, nowait, broker);
            return Ok(());
        }
        if spec.name.starts_with("amq.") {
            return Err(Refusal::ReservedName(resource));
        }
        arguments::check_exchange(kind, &resource, table)?;
        self.ask_for(call, Request::DeclareExchange(vhost, spec), MethodStep::Again, broker);
        Ok(())
    }

    /// The name a client means: an empty one is the queue the channel declared last.
    pub(super) fn queue_name(&mut self, call: MethodCall<'_>, name: &str) -> Result<Name, Refusal> {
        let name = clean(name);
        if !name.is_empty() {
            return Ok(name);
        }
        let channel = self.connections.present(call.at);
        let last = channel.map(|channel| channel.last_queue.clone()).unwrap_or_default();
        if last.is_empty() { Err(Refusal::NoPreviousQueue) } else { Ok(last) }
    }

    fn queue_there(
        &mut self,
        call: MethodCall<'_>,
        name: Name,
        broker: &mut impl BrokerAccess,
    ) -> Result<(), Refusal> {
        let (spec, version) = self.usable_queue(call.at.conn, &name)?;
        let queue = (spec.id, spec.home);
        if version > self.settled {
            self.ask_for(call, Request::Sync, MethodStep::Again, broker);
        } else {
            self.ask_queue_for(
                call,
                queue,
                QueueRequest::Count,
                MethodStep::Declared(name),
                broker,
            );
        }
        Ok(())
    }

    fn declare_queue(
        &mut self,
        call: MethodCall<'_>,
        name: &str,
        flags: QueueFlags,
        arguments: Table<'_>,
        broker: &mut impl BrokerAccess,
    ) -> Result<(), Refusal> {
        arguments::check_size(arguments)?;
        let vhost = self.vhost_name(call.at.conn);
        let name = clean(name);
        if let Some(replies) = self.declare_replies(call, &name, broker) {
            return replies;
        }
        let server_named = name.is_empty();
        let name = if server_named { self.given_name(call) } else { name };
        let resource = Resource::queue(&vhost, &name);
        if name.starts_with("amq.") && !server_named {
            return Err(Refusal::ReservedName(resource));
        }
        let spec = QueueSpec {
            id: QueueId(0),
            name,
            // The coordinator chooses another unless the queue is exclusive or server-named.
            home: call.at.conn.origin(),
            // An exclusive queue goes with its connection, so it never survives a restart.
            durable: flags.durable && !flags.exclusive,
            auto_delete: flags.auto_delete,
            owner: flags.exclusive.then_some(call.at.conn),
            server_named,
            arguments: arguments.into(),
        };
        let found = self.vhost(call.at.conn).and_then(|(_, vhost)| vhost.queue(&spec.name));
        if let Some(found) = found {
            arguments::same_queue(&vhost, &spec, &found.spec)?;
            return self.queue_there(call, spec.name, broker);
        }
        arguments::check_queue(&resource, spec.arguments.table())?;
        if let Some(conn) = self.connections.get(call.at.conn) {
            conn.life.owns_queues |= flags.exclusive;
        }
        let then =
            if server_named { MethodStep::Declared(spec.name.clone()) } else { MethodStep::Again };
        self.ask_for(call, Request::DeclareQueue(vhost, spec), then, broker);
        Ok(())
    }

    fn given_name(&mut self, call: MethodCall<'_>) -> Name {
        let channel = self.connections.present(call.at);
        let given = channel.and_then(|channel| channel.given_name.take());
        given.unwrap_or_else(|| self.fresh_name("amq.gen-"))
    }

    /// Answers queue.declare.
    pub(super) fn declared(
        &mut self,
        call: MethodCall<'_>,
        name: Name,
        (message_count, consumer_count): (u32, u32),
    ) {
        let nowait =
            matches!(Method::read(call.payload), Ok(Method::QueueDeclare { nowait: true, .. }));
        if !nowait {
            let method = Method::QueueDeclareOk { queue: &name, message_count, consumer_count };
            self.connections.reply(call.at, &method);
        }
        let channel = self.connections.present(call.at);
        if let Some(channel) = channel {
            channel.last_queue = name;
        }
    }
}
