//! Which rights a method needs, in RabbitMQ's order. What is not known of them is asked of the
//! coordinator; the method waits for the answer and is done over. A user who may do everything is
//! never asked about.

use amqp::{Method, Table};
use model::access::state::UserInVhost;
use model::access::{Access, Right};
use model::exchange::ALTERNATE_EXCHANGE;
use model::mutant::{self, Mutant};
use model::session::content::REPLY_TO;
use model::topology::spec::clean;
use model::{ExchangeKind, Name, Refusal};

use crate::mesh::control::Request;
use crate::sessions::amqp::pending::MethodStep;
use crate::sessions::amqp::send::MethodCall;
use crate::sessions::broker::BrokerAccess;
use crate::sessions::connections::ChannelRef;
use crate::sessions::state::Sessions;

const DEAD_LETTER_EXCHANGE: &str = "x-dead-letter-exchange";

/// What is known of the rights that a method needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RightsVerdict {
    /// It may be executed.
    Granted,
    /// The coordinator was asked.
    Asked,
}

impl Sessions {
    /// Checks the rights that a method needs.
    pub(super) fn check_rights(
        &mut self,
        call: MethodCall<'_>,
        method: &Method<'_>,
        broker: &mut impl BrokerAccess,
    ) -> Result<RightsVerdict, Refusal> {
        let Some(conn) = self.connections.get(call.at.conn) else {
            return Ok(RightsVerdict::Granted);
        };
        if conn.access.is_unrestricted() || mutant::active(Mutant::MethodsUnchecked) {
            return Ok(RightsVerdict::Granted);
        }
        let wanted = self.wanted(call, method);
        let Some(conn) = self.connections.get(call.at.conn) else {
            return Ok(RightsVerdict::Granted);
        };
        let unknown = conn.missing_rights(&wanted)?;
        if unknown.is_empty() {
            return Ok(RightsVerdict::Granted);
        }
        let of = UserInVhost { user: conn.user.clone(), vhost: conn.vhost.clone() };
        self.ask_for(call, Request::Permit(of, unknown), MethodStep::Permitted, broker);
        Ok(RightsVerdict::Asked)
    }

    /// Asks for the rights that a publish needs; its message waits in the channel's draft.
    #[cold]
    pub(in crate::sessions) fn ask_publish_rights(
        &mut self,
        at: ChannelRef,
        unknown: Vec<Access>,
        broker: &mut impl BrokerAccess,
    ) {
        let Self { connections, scratch, .. } = self;
        let Some(conn) = connections.get(at.conn) else { return };
        let of = UserInVhost { user: conn.user.clone(), vhost: conn.vhost.clone() };
        let Some(channel) = conn.channels.get(at.number) else { return };
        std::mem::swap(&mut channel.draft, scratch);
        let call = MethodCall { at, payload: &[] };
        self.ask_for(call, Request::Permit(of, unknown), MethodStep::PublishPermitted, broker);
    }

    /// The rights of the publish in the channel's draft are known.
    #[cold]
    pub(super) fn publish_permitted(&mut self, at: ChannelRef, broker: &mut impl BrokerAccess) {
        let Self { connections, scratch, .. } = self;
        let Some(channel) = connections.present(at) else { return };
        std::mem::swap(&mut channel.draft, scratch);
        self.publish(at.conn, at.number, broker);
    }

    /// The rights that a method needs; none where it fails before they are looked at.
    fn wanted(&mut self, call: MethodCall<'_>, method: &Method<'_>) -> Vec<Access> {
        match *method {
            Method::ExchangeDeclare { exchange, kind, passive: false, arguments, .. } => {
                self.exchange_declare(call, exchange, kind, arguments)
            }
            Method::ExchangeDelete { exchange, .. } => match &*clean(exchange) {
                name if name.is_empty() || name.starts_with("amq.") => Vec::new(),
                name => vec![Access::exchange(Right::Configure, name)],
            },
            Method::ExchangeBind { destination, source, routing_key, .. }
            | Method::ExchangeUnbind { destination, source, routing_key, .. } => {
                let destination = clean(destination);
                if destination.is_empty() {
                    return Vec::new();
                }
                let write = Access::exchange(Right::Write, &destination);
                self.binding(call, write, source, routing_key)
            }
            Method::QueueDeclare { queue, passive: false, arguments, .. } => {
                self.queue_declare(call, queue, arguments)
            }
            Method::QueueBind { queue, exchange, routing_key, .. }
            | Method::QueueUnbind { queue, exchange, routing_key, .. } => {
                let Ok(name) = self.queue_name(call, queue) else { return Vec::new() };
                let key =
                    if queue.is_empty() && routing_key.is_empty() { &name } else { routing_key };
                self.binding(call, Access::queue(Right::Write, &name), exchange, key)
            }
            Method::QueueDelete { queue, .. } => self.of_queue(call, Right::Configure, queue),
            Method::QueuePurge { queue, .. } | Method::BasicGet { queue, .. } => {
                self.of_queue(call, Right::Read, queue)
            }
            Method::BasicConsume { queue, consumer_tag, .. } => {
                let channel = self.connections.present(call.at);
                let taken = channel.is_some_and(|c| c.consumers.by_tag(consumer_tag).is_some());
                if taken { Vec::new() } else { self.of_queue(call, Right::Read, queue) }
            }
            _ => Vec::new(),
        }
    }

    fn of_queue(&mut self, call: MethodCall<'_>, right: Right, queue: &str) -> Vec<Access> {
        let Ok(name) = self.queue_name(call, queue) else { return Vec::new() };
        if name.starts_with(REPLY_TO) { Vec::new() } else { vec![Access::queue(right, &name)] }
    }

    fn exchange_declare(
        &self,
        call: MethodCall<'_>,
        exchange: &str,
        kind: &str,
        arguments: Table<'_>,
    ) -> Vec<Access> {
        let name = clean(exchange);
        if name.is_empty() || ExchangeKind::from_name(kind).is_none() {
            return Vec::new();
        }
        let mut wanted = vec![Access::exchange(Right::Configure, &name)];
        let found = self.vhost(call.at.conn).and_then(|(_, vhost)| vhost.exchange(&name));
        if found.is_none()
            && !name.starts_with("amq.")
            && let Some(alternate) = text(arguments, ALTERNATE_EXCHANGE)
        {
            wanted.push(Access::exchange(Right::Read, &name));
            wanted.push(Access::exchange(Right::Write, alternate));
        }
        wanted
    }

    fn queue_declare(
        &mut self,
        call: MethodCall<'_>,
        queue: &str,
        arguments: Table<'_>,
    ) -> Vec<Access> {
        let name = clean(queue);
        if name.starts_with("amq.") {
            return Vec::new();
        }
        let name = if name.is_empty() { self.pinned_name(call) } else { name };
        let mut wanted = vec![Access::queue(Right::Configure, &name)];
        let found = self.vhost(call.at.conn).and_then(|(_, vhost)| vhost.queue(&name));
        if found.is_none()
            && let Some(exchange) = text(arguments, DEAD_LETTER_EXCHANGE)
        {
            wanted.push(Access::queue(Right::Read, &name));
            wanted.push(Access::exchange(Right::Write, exchange));
        }
        wanted
    }

    /// The name that the server gives the queue: the same when the declare is done over.
    fn pinned_name(&mut self, call: MethodCall<'_>) -> Name {
        let fresh = self.fresh_name("amq.gen-");
        let Some(channel) = self.connections.present(call.at) else { return fresh };
        channel.given_name.get_or_insert(fresh).clone()
    }

    fn binding(&self, call: MethodCall<'_>, write: Access, source: &str, key: &str) -> Vec<Access> {
        let source = clean(source);
        if source.is_empty() {
            return Vec::new();
        }
        let mut wanted = vec![write, Access::exchange(Right::Read, &source)];
        let found = self.vhost(call.at.conn).and_then(|(_, vhost)| vhost.exchange(&source));
        if found.is_some_and(|exchange| exchange.spec.kind == ExchangeKind::Topic) {
            wanted.push(Access::topic(Right::Read, &source, key));
        }
        wanted
    }
}

fn text<'a>(arguments: Table<'a>, key: &str) -> Option<&'a str> {
    arguments.get(key).and_then(|value| value.as_str())
}
