//! exchange.bind, queue.bind and unbind; the coordinator decides.

use amqp::{Method, Table};
use model::session::arguments;
use model::session::content::REPLY_TO;
use model::topology::spec::clean;
use model::{Binding, Destination, Refusal};

use crate::mesh::control::Request;
use crate::sessions::amqp::pending::{MethodStep, PlainReply};
use crate::sessions::amqp::send::MethodCall;
use crate::sessions::broker::BrokerAccess;
use crate::sessions::state::Sessions;

impl Sessions {
    pub(super) fn exchange_binding(
        &mut self,
        call: MethodCall<'_>,
        method: &Method<'_>,
        broker: &mut impl BrokerAccess,
    ) -> Result<(), Refusal> {
        match *method {
            Method::ExchangeBind {
                destination, source, routing_key, nowait, arguments, ..
            } => {
                let to = Destination::Exchange(clean(destination));
                let reply = PlainReply::ExchangeBindOk.unless(nowait);
                let binding = binding(to, source, routing_key, arguments)?;
                self.bind(call, binding, reply, broker);
            }
            Method::ExchangeUnbind {
                destination, source, routing_key, nowait, arguments, ..
            } => {
                let to = Destination::Exchange(clean(destination));
                let reply = PlainReply::ExchangeUnbindOk.unless(nowait);
                let binding = binding(to, source, routing_key, arguments)?;
                self.unbind(call, binding, reply, broker);
            }
            _ => return Err(Refusal::ServersMethod),
        }
        Ok(())
    }

    pub(super) fn queue_binding(
        &mut self,
        call: MethodCall<'_>,
        method: &Method<'_>,
        broker: &mut impl BrokerAccess,
    ) -> Result<(), Refusal> {
        match *method {
            Method::QueueBind { queue, exchange, routing_key, nowait, arguments, .. } => {
                let binding =
                    self.queue_binding_of(call, queue, (exchange, routing_key, arguments))?;
                let reply = PlainReply::QueueBindOk.unless(nowait);
                self.bind(call, binding, reply, broker);
            }
            Method::QueueUnbind { queue, exchange, routing_key, arguments, .. } => {
                let binding =
                    self.queue_binding_of(call, queue, (exchange, routing_key, arguments))?;
                self.unbind(call, binding, PlainReply::QueueUnbindOk, broker);
            }
            _ => return Err(Refusal::ServersMethod),
        }
        Ok(())
    }

    fn queue_binding_of(
        &mut self,
        call: MethodCall<'_>,
        queue: &str,
        (exchange, key, arguments): (&str, &str, Table<'_>),
    ) -> Result<Binding, Refusal> {
        let name = self.queue_name(call, queue)?;
        check_bindable(&name)?;
        // An empty name and an empty key both mean the queue declared last (spec 50.20).
        let key = if queue.is_empty() && key.is_empty() { &name } else { key };
        binding(Destination::Queue(name.clone()), exchange, key, arguments)
    }

    fn bind(
        &mut self,
        call: MethodCall<'_>,
        binding: Binding,
        reply: PlainReply,
        broker: &mut impl BrokerAccess,
    ) {
        let request = Request::Bind(self.vhost_name(call.at.conn), binding, call.at.conn);
        self.ask_for(call, request, MethodStep::Reply(reply), broker);
    }

    fn unbind(
        &mut self,
        call: MethodCall<'_>,
        binding: Binding,
        reply: PlainReply,
        broker: &mut impl BrokerAccess,
    ) {
        let request = Request::Unbind(self.vhost_name(call.at.conn), binding, call.at.conn);
        self.ask_for(call, request, MethodStep::Reply(reply), broker);
    }
}

fn binding(
    destination: Destination,
    source: &str,
    key: &str,
    table: Table<'_>,
) -> Result<Binding, Refusal> {
    arguments::check_size(table)?;
    let (source, arguments) = (clean(source), table.into());
    Ok(Binding { source, destination, key: key.into(), arguments })
}

/// A reply consumer has no queue that a binding could lead to.
fn check_bindable(queue: &str) -> Result<(), Refusal> {
    let replies = queue.strip_prefix(REPLY_TO).is_some_and(|rest| rest.starts_with('.'));
    if replies { Err(Refusal::ReplyQueueBinding) } else { Ok(()) }
}
