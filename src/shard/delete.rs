//! exchange.delete, queue.delete, queue.purge.

use amqp::Method;
use model::{Now, Refusal, Resource};

use super::clients::{Reply, Then};
use super::declare::clean;
use super::machine::Shard;
use super::message::{QueueRequest, Request};
use super::questions::Call;

impl Shard {
    pub(super) fn delete_exchange(
        &mut self,
        call: Call<'_>,
        exchange: &str,
        if_unused: bool,
        nowait: bool,
    ) -> Result<(), Refusal> {
        let name = clean(exchange);
        let Some((vhost, _)) = self.vhost(call.conn) else {
            return Ok(());
        };
        if name.is_empty() {
            return Err(Refusal::DefaultExchange);
        }
        if name.starts_with("amq.") {
            return Err(Refusal::SystemExchange(Resource::exchange(vhost, &name)));
        }
        let request = Request::DeleteExchange { vhost: vhost.clone(), name, if_unused };
        let reply = Reply::ExchangeDeleteOk.unless(nowait);
        self.ask(call, request, Then::Reply(reply));
        Ok(())
    }

    pub(super) fn delete_queue(
        &mut self,
        call: Call<'_>,
        queue: &str,
        (if_unused, if_empty): (bool, bool),
        nowait: bool,
    ) -> Result<(), Refusal> {
        let name = self.queue_name(call, &clean(queue))?;
        match self.usable_queue(call.conn, &name) {
            Ok(_) => {}
            // Deleting what is not there is no error since RabbitMQ 3.2.
            Err(Refusal::NotFound(_)) => return self.delete_missing(call, nowait),
            Err(refusal) => return Err(refusal),
        }
        let Some((vhost, _)) = self.vhost(call.conn) else {
            return Ok(());
        };
        let request = Request::DeleteQueue {
            vhost: vhost.clone(),
            name,
            if_unused,
            if_empty,
            conn: call.conn,
        };
        self.ask(call, request, Then::Deleted { nowait });
        Ok(())
    }

    fn delete_missing(&mut self, call: Call<'_>, nowait: bool) -> Result<(), Refusal> {
        if !nowait {
            let method = Method::QueueDeleteOk { message_count: 0 };
            self.clients.send(call.conn, call.number, &method);
        }
        Ok(())
    }

    pub(super) fn purge(
        &mut self,
        call: Call<'_>,
        queue: &str,
        nowait: bool,
        now: Now,
    ) -> Result<(), Refusal> {
        let name = self.queue_name(call, queue)?;
        let (spec, _) = self.usable_queue(call.conn, &name)?;
        let queue = (spec.id, spec.home);
        self.ask_queue(call, queue, QueueRequest::Purge, Then::Purged { nowait }, now);
        Ok(())
    }
}
