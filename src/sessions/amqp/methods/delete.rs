//! exchange.delete, queue.delete, queue.purge.

use amqp::Method;
use model::topology::spec::clean;
use model::{Refusal, Resource};

use crate::mesh::control::{QueueRequest, Request};
use crate::sessions::amqp::pending::{MethodStep, PlainReply};
use crate::sessions::amqp::send::MethodCall;
use crate::sessions::broker::BrokerAccess;
use crate::sessions::state::Sessions;

impl Sessions {
    pub(super) fn delete_exchange(
        &mut self,
        call: MethodCall<'_>,
        exchange: &str,
        if_unused: bool,
        nowait: bool,
        broker: &mut impl BrokerAccess,
    ) -> Result<(), Refusal> {
        let name = clean(exchange);
        let Some((vhost, _)) = self.vhost(call.at.conn) else {
            return Ok(());
        };
        if name.is_empty() {
            return Err(Refusal::DefaultExchange);
        }
        if name.starts_with("amq.") {
            return Err(Refusal::SystemExchange(Resource::exchange(vhost, &name)));
        }
        let request = Request::DeleteExchange { vhost: vhost.clone(), name, if_unused };
        let reply = PlainReply::ExchangeDeleteOk.unless(nowait);
        self.ask_for(call, request, MethodStep::Reply(reply), broker);
        Ok(())
    }

    pub(super) fn delete_queue(
        &mut self,
        call: MethodCall<'_>,
        queue: &str,
        (if_unused, if_empty): (bool, bool),
        nowait: bool,
        broker: &mut impl BrokerAccess,
    ) -> Result<(), Refusal> {
        let name = self.queue_name(call, queue)?;
        match self.usable_queue(call.at.conn, &name) {
            Ok(_) => {}
            // Deleting what is not there is no error since RabbitMQ 3.2.
            Err(Refusal::NotFound(_)) => return self.delete_missing(call, nowait),
            Err(refusal) => return Err(refusal),
        }
        let Some((vhost, _)) = self.vhost(call.at.conn) else {
            return Ok(());
        };
        let request = Request::DeleteQueue {
            vhost: vhost.clone(),
            name,
            if_unused,
            if_empty,
            conn: call.at.conn,
        };
        self.ask_for(call, request, MethodStep::Deleted { nowait }, broker);
        Ok(())
    }

    fn delete_missing(&mut self, call: MethodCall<'_>, nowait: bool) -> Result<(), Refusal> {
        if !nowait {
            let method = Method::QueueDeleteOk { message_count: 0 };
            self.connections.reply(call.at, &method);
        }
        Ok(())
    }

    pub(super) fn purge(
        &mut self,
        call: MethodCall<'_>,
        queue: &str,
        nowait: bool,
        broker: &mut impl BrokerAccess,
    ) -> Result<(), Refusal> {
        let name = self.queue_name(call, queue)?;
        let (spec, _) = self.usable_queue(call.at.conn, &name)?;
        let queue = (spec.id, spec.home);
        self.ask_queue_for(call, queue, QueueRequest::Purge, MethodStep::Purged { nowait }, broker);
        Ok(())
    }
}
