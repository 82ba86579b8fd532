//! basic.consume, basic.cancel, basic.get, basic.qos.

use amqp::Method;
use model::refusal::excess::Excess;
use model::session::content::REPLY_TO;
use model::session::{ChannelConsumer, arguments};
use model::topology::spec::clean;
use model::{ConsumerId, ConsumerSpec, Refusal, Resource};

use crate::mesh::control::QueueRequest;
use crate::sessions::amqp::methods::direct_reply::ReplyConsume;
use crate::sessions::amqp::pending::MethodStep;
use crate::sessions::amqp::send::MethodCall;
use crate::sessions::broker::BrokerAccess;
use crate::sessions::connections::ChannelRef;
use crate::sessions::state::Sessions;

impl Sessions {
    pub(super) fn qos(
        &mut self,
        call: MethodCall<'_>,
        method: &Method<'_>,
        broker: &mut impl BrokerAccess,
    ) -> Result<(), Refusal> {
        let Method::BasicQos { prefetch_size, prefetch_count, global } = *method else {
            return Ok(());
        };
        if prefetch_size != 0 {
            let text = format!("prefetch_size!=0 ({prefetch_size})");
            return Err(Refusal::NotImplemented(text));
        }
        if global {
            self.limit(call, prefetch_count, broker);
            return Ok(());
        }
        let channel = self.connections.present(call.at);
        if let Some(channel) = channel {
            channel.prefetch = prefetch_count;
        }
        // RabbitMQ's: a limit for each consumer takes the place of one that they share.
        self.limit(call, 0, broker);
        Ok(())
    }

    pub(super) fn consume(
        &mut self,
        call: MethodCall<'_>,
        method: &Method<'_>,
        broker: &mut impl BrokerAccess,
    ) -> Result<(), Refusal> {
        let Method::BasicConsume {
            queue, consumer_tag, no_ack, exclusive, nowait, arguments, ..
        } = *method
        else {
            return Ok(());
        };
        arguments::check_size(arguments)?;
        if *clean(queue) == *REPLY_TO {
            let consume = ReplyConsume { tag: consumer_tag, no_ack, nowait };
            return self.consume_replies(call, consume, broker);
        }
        let name = self.queue_name(call, queue)?;
        self.check_room(call, consumer_tag)?;
        let (spec, _) = self.usable_queue(call.at.conn, &name)?;
        let (queue, home) = (spec.id, spec.home);
        let Some((vhost, _)) = self.vhost(call.at.conn) else {
            return Ok(());
        };
        let asked = arguments::check_consumer(&Resource::queue(vhost, &name), arguments)?;
        let tag = match consumer_tag {
            "" => self.fresh_name("amq.ctag-"),
            tag => tag.into(),
        };
        let id: ConsumerId = self.ids.fresh();
        let Some(conn) = self.connections.get(call.at.conn) else {
            return Ok(());
        };
        conn.life.involve(home);
        let properties_max = conn.kind.properties_max();
        let Some(channel) = conn.channels.get(call.at.number) else { return Ok(()) };
        channel.involve(home);
        let known = ChannelConsumer {
            tag: tag.clone(),
            queue,
            home,
            no_ack,
            exclusive,
            prefetch: channel.prefetch,
            priority: asked.priority,
        };
        channel.consumers.add(id, known);
        let consumer = ConsumerSpec {
            id,
            conn: call.at.conn,
            channel: call.at.channel,
            no_ack,
            prefetch: channel.prefetch,
            exclusive,
            priority: asked.priority,
            limited: channel.limit.is_some() && !no_ack,
            timeout_ms: asked.timeout_ms,
            properties_max,
        };
        let then = MethodStep::Consuming { consumer: id, tag, nowait };
        self.ask_queue_for(call, (queue, home), QueueRequest::Consume(consumer), then, broker);
        Ok(())
    }

    /// Whether the channel may have one more consumer, of this tag: asked before its queue is
    /// looked for, as in RabbitMQ.
    fn check_room(&mut self, call: MethodCall<'_>, tag: &str) -> Result<(), Refusal> {
        let most = self.limits.consumer_max;
        let channel = self.connections.present(call.at);
        match channel {
            Some(channel) if channel.consumers.len() >= most => {
                Err(Refusal::Excess(Excess::Consumers(most)))
            }
            Some(channel) if channel.consumers.by_tag(tag).is_some() => {
                Err(Refusal::ConsumerTagInUse(tag.into()))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn cancel(
        &mut self,
        call: MethodCall<'_>,
        tag: &str,
        nowait: bool,
        broker: &mut impl BrokerAccess,
    ) {
        // What was its own is gone; what is left is the answer to a cancel of nothing.
        self.cancel_replies(call, tag, broker);
        let channel = self.connections.present(call.at);
        let found = channel.and_then(|channel| {
            let (id, consumer) = channel.consumers.by_tag(tag)?;
            Some((id, consumer.queue, consumer.home))
        });
        match found {
            Some((consumer, queue, home)) => {
                let then = MethodStep::Cancelled { consumer, nowait };
                self.ask_queue_for(
                    call,
                    (queue, home),
                    QueueRequest::Cancel(consumer),
                    then,
                    broker,
                );
            }
            None if nowait => {}
            // Cancelling what does not exist is no error.
            None => {
                let method = Method::BasicCancelOk { consumer_tag: tag };
                self.connections.reply(call.at, &method);
            }
        }
    }

    /// The home sends nothing more for the consumer.
    pub(super) fn cancelled(&mut self, call: MethodCall<'_>, consumer: ConsumerId, nowait: bool) {
        let channel = self.connections.present(call.at);
        let gone = channel.and_then(|channel| channel.remove_consumer(consumer));
        if nowait {
            return;
        }
        // The queue may have been deleted meanwhile, and the consumer with it.
        let tag = match (gone, Method::read(call.payload)) {
            (Some(gone), _) => gone.tag,
            (None, Ok(Method::BasicCancel { consumer_tag, .. })) => consumer_tag.into(),
            _ => return,
        };
        let method = Method::BasicCancelOk { consumer_tag: &tag };
        self.connections.reply(call.at, &method);
    }

    pub(super) fn get(
        &mut self,
        call: MethodCall<'_>,
        queue: &str,
        no_ack: bool,
        broker: &mut impl BrokerAccess,
    ) -> Result<(), Refusal> {
        let name = self.queue_name(call, queue)?;
        let (spec, _) = self.usable_queue(call.at.conn, &name)?;
        let queue = (spec.id, spec.home);
        let ChannelRef { conn: id, number, channel } = call.at;
        let Some(conn) = self.connections.get(id) else { return Ok(()) };
        let properties_max = conn.kind.properties_max();
        if let Some(channel) = conn.channels.get(number) {
            channel.involve(queue.1);
        }
        let request = QueueRequest::Get { conn: id, channel, no_ack, properties_max };
        self.ask_queue_for(call, queue, request, MethodStep::Got, broker);
        Ok(())
    }
}
