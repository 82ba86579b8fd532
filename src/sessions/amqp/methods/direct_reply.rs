//! Direct reply-to: a client consumes from `amq.rabbitmq.reply-to`, names the same in the reply-to
//! of its requests, and is answered without a queue of its own in the topology.
//!
//! A reply consumer has a queue that only its own shard knows, there as long as the consumer is.
//! What leads to it is its name, a routing key of the default exchange: see
//! [`reply_key`](crate::sessions::amqp::reply_key).

use amqp::Method;
use model::session::content::REPLY_TO;
use model::session::{ChannelConsumer, ReplyConsumer};
use model::{ConsumerId, ConsumerSpec, Name, QueueId, Refusal, Resource};

use crate::mesh::control::{QueueAnswer, QueueRequest};
use crate::sessions::amqp::pending::{MethodStep, PendingMethod};
use crate::sessions::amqp::send::MethodCall;
use crate::sessions::broker::BrokerAccess;
use crate::sessions::connections::ChannelRef;
use crate::sessions::state::Sessions;

/// A basic.consume from `amq.rabbitmq.reply-to`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReplyConsume<'a> {
    pub tag: &'a str,
    pub no_ack: bool,
    pub nowait: bool,
}

impl Sessions {
    pub(super) fn consume_replies(
        &mut self,
        call: MethodCall<'_>,
        consume: ReplyConsume<'_>,
        broker: &mut impl BrokerAccess,
    ) -> Result<(), Refusal> {
        let Some((vhost, _)) = self.vhost(call.at.conn) else { return Ok(()) };
        let vhost = vhost.clone();
        let fresh = self.fresh_name("amq.ctag-");
        let (consumer, queue): (ConsumerId, QueueId) = (self.ids.fresh(), self.ids.fresh());
        // A reply consumer's queue is on its connection's shard.
        let home = call.at.conn.origin();
        let Some(conn) = self.connections.get(call.at.conn) else { return Ok(()) };
        let Some(channel) = conn.channels.get(call.at.number) else { return Ok(()) };
        if !consume.no_ack {
            return Err(Refusal::ReplyConsumerAcknowledges);
        }
        if channel.replies.is_some() {
            return Err(Refusal::SecondReplyConsumer);
        }
        let tag = if consume.tag.is_empty() { fresh } else { consume.tag.into() };
        if channel.consumers.by_tag(&tag).is_some() {
            return Err(Refusal::ConsumerTagInUse(tag));
        }
        let name = self.reply_key.name(&vhost, queue);
        channel.replies = Some(ReplyConsumer { consumer, queue, name: name.clone() });
        channel.involve(home);
        channel.consumers.add(consumer, ChannelConsumer::plain(tag.clone(), (queue, home)));
        conn.life.involve(home);
        let consumer = reply_consumer(consumer, call, conn.kind.properties_max());
        broker.add_reply_consumer(&mut self.connections, queue, (vhost, name), consumer);
        if !consume.nowait {
            let method = Method::BasicConsumeOk { consumer_tag: &tag };
            self.connections.reply(call.at, &method);
        }
        Ok(())
    }

    /// Ends the channel's reply consumer, if it is the one with this tag.
    pub(super) fn cancel_replies(
        &mut self,
        call: MethodCall<'_>,
        tag: &str,
        broker: &mut impl BrokerAccess,
    ) {
        let channel = self.connections.present(call.at);
        let Some(channel) = channel else { return };
        let Some((consumer, _)) = channel.consumers.by_tag(tag) else { return };
        if let Some(gone) = channel.replies.take_if(|replies| replies.consumer == consumer) {
            channel.remove_consumer(consumer);
            broker.remove_reply_consumer(&mut self.connections, gone.queue);
        }
    }

    /// queue.declare of `amq.rabbitmq.reply-to`, or of what it was replaced by: passive in any
    /// case. `None`: it is another name.
    pub(super) fn declare_replies(
        &mut self,
        call: MethodCall<'_>,
        name: &Name,
        broker: &mut impl BrokerAccess,
    ) -> Option<Result<(), Refusal>> {
        if !name.starts_with(REPLY_TO) {
            return None;
        }
        let (vhost, _) = self.vhost(call.at.conn)?;
        let vhost = vhost.clone();
        if **name == *REPLY_TO {
            self.declared(call, name.clone(), REPLY_COUNTS);
            return Some(Ok(()));
        }
        let Some(queue) = self.reply_key.queue(&vhost, name) else {
            return Some(Err(Refusal::NotFound(Resource::queue(&vhost, name))));
        };
        let then = MethodStep::RepliesDeclared(name.clone());
        self.ask_queue_for(call, (queue, queue.origin()), QueueRequest::Count, then, broker);
        Some(Ok(()))
    }

    /// The home has said whether the reply consumer is there.
    pub(super) fn replies_declared(
        &mut self,
        at: ChannelRef,
        method: &PendingMethod,
        name: Name,
        answer: &QueueAnswer,
        broker: &mut impl BrokerAccess,
    ) {
        if matches!(answer, QueueAnswer::Counts(..)) {
            let call = MethodCall { at, payload: &method.payload };
            return self.declared(call, name, REPLY_COUNTS);
        }
        let vhost = self.vhost_name(at.conn);
        let refusal = Refusal::NotFound(Resource::queue(&vhost, &name));
        self.refuse(at, method, &refusal, broker);
    }
}

/// A reply consumer takes everything at once: RabbitMQ tells no message and one consumer.
const REPLY_COUNTS: (u32, u32) = (0, 1);

fn reply_consumer(id: ConsumerId, call: MethodCall<'_>, properties_max: usize) -> ConsumerSpec {
    let ChannelRef { conn, channel, .. } = call.at;
    ConsumerSpec {
        id,
        conn,
        channel,
        no_ack: true,
        prefetch: 0,
        limited: false,
        timeout_ms: None,
        exclusive: false,
        priority: 0,
        properties_max,
    }
}
