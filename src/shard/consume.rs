//! basic.consume, basic.cancel, basic.get, basic.qos.

use amqp::Method;
use model::excess::Excess;
use model::session::content::REPLY_TO;
use model::session::{ChannelConsumer, arguments};
use model::{ConsumerId, ConsumerSpec, Now, Refusal, Resource};

use super::clients::{Then, Waiting};
use super::machine::Shard;
use super::message::QueueRequest;
use super::questions::Call;
use super::replies::ReplyConsume;

impl Shard {
    pub(super) fn qos(&mut self, call: Call<'_>, method: &Method<'_>) -> Result<(), Refusal> {
        let Method::BasicQos { prefetch_size, prefetch_count, global } = *method else {
            return Ok(());
        };
        if prefetch_size != 0 {
            let text = format!("prefetch_size!=0 ({prefetch_size})");
            return Err(Refusal::NotImplemented(text));
        }
        if global {
            self.limit(call, prefetch_count);
            return Ok(());
        }
        let channel = self.clients.get(call.conn).and_then(|conn| conn.channel(call.number));
        if let Some(channel) = channel {
            channel.prefetch = prefetch_count;
        }
        // RabbitMQ's: a limit for each consumer takes the place of one that they share.
        self.limit(call, 0);
        Ok(())
    }

    pub(super) fn consume(
        &mut self,
        call: Call<'_>,
        method: &Method<'_>,
        now: Now,
    ) -> Result<(), Refusal> {
        let Method::BasicConsume {
            queue, consumer_tag, no_ack, exclusive, nowait, arguments, ..
        } = *method
        else {
            return Ok(());
        };
        if queue == REPLY_TO {
            let consume = ReplyConsume { tag: consumer_tag, no_ack, nowait };
            return self.consume_replies(call, consume);
        }
        let name = self.queue_name(call, queue)?;
        self.check_room(call, consumer_tag)?;
        let (spec, _) = self.usable_queue(call.conn, &name)?;
        let (queue, home) = (spec.id, spec.home);
        let Some((vhost, _)) = self.vhost(call.conn) else {
            return Ok(());
        };
        let priority = arguments::check_consumer(&Resource::queue(vhost, &name), arguments)?;
        let tag = match consumer_tag {
            "" => self.fresh_name("amq.ctag-"),
            tag => tag.into(),
        };
        let id: ConsumerId = self.ids.fresh();
        let Some(conn) = self.clients.get(call.conn) else {
            return Ok(());
        };
        if !conn.links.contains(&home) {
            conn.links.push(home);
        }
        let Some(channel) = conn.channel(call.number) else {
            return Ok(());
        };
        channel.involve(home);
        channel.consumers.push((id, ChannelConsumer { tag: tag.clone(), queue, home }));
        let consumer = ConsumerSpec {
            id,
            conn: call.conn,
            channel: call.channel,
            no_ack,
            prefetch: channel.prefetch,
            exclusive,
            priority,
            limited: channel.limit.is_some() && !no_ack,
        };
        let then = Then::Consuming { consumer: id, tag, nowait };
        self.ask_queue(call, (queue, home), QueueRequest::Consume(consumer), then, now);
        Ok(())
    }

    /// Whether the channel may have one more consumer, of this tag: asked before its queue is
    /// looked for, as in RabbitMQ.
    fn check_room(&mut self, call: Call<'_>, tag: &str) -> Result<(), Refusal> {
        let most = self.limits.consumer_max;
        let channel = self.clients.get(call.conn).and_then(|conn| conn.channel(call.number));
        match channel {
            Some(channel) if channel.consumers.len() >= most => {
                Err(Refusal::Excess(Excess::Consumers(most)))
            }
            Some(channel) if channel.consumer_by_tag(tag).is_some() => {
                Err(Refusal::ConsumerTagInUse(tag.into()))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn cancel(&mut self, call: Call<'_>, tag: &str, nowait: bool, now: Now) {
        // What was its own is gone; what is left is the answer to a cancel of nothing.
        self.cancel_replies(call, tag);
        let channel = self.clients.get(call.conn).and_then(|conn| conn.channel(call.number));
        let found = channel.and_then(|channel| {
            let (id, consumer) = channel.consumer_by_tag(tag)?;
            Some((id, consumer.queue, consumer.home))
        });
        match found {
            Some((consumer, queue, home)) => {
                let then = Then::Cancelled { consumer, nowait };
                self.ask_queue(call, (queue, home), QueueRequest::Cancel(consumer), then, now);
            }
            None if nowait => {}
            // Cancelling what does not exist is no error.
            None => {
                let method = Method::BasicCancelOk { consumer_tag: tag };
                self.clients.send(call.conn, call.number, &method);
            }
        }
    }

    /// The home sends nothing more for the consumer.
    pub(super) fn cancelled(&mut self, waiting: &Waiting, consumer: ConsumerId, nowait: bool) {
        let channel = self.clients.get(waiting.conn).and_then(|conn| conn.channel(waiting.number));
        let gone = channel.and_then(|channel| channel.remove_consumer(consumer));
        if nowait {
            return;
        }
        // The queue may have been deleted meanwhile, and the consumer with it.
        let tag = match (gone, Method::read(&waiting.method)) {
            (Some(gone), _) => gone.tag,
            (None, Ok(Method::BasicCancel { consumer_tag, .. })) => consumer_tag.into(),
            _ => return,
        };
        let method = Method::BasicCancelOk { consumer_tag: &tag };
        self.clients.send(waiting.conn, waiting.number, &method);
    }

    pub(super) fn get(
        &mut self,
        call: Call<'_>,
        queue: &str,
        no_ack: bool,
        now: Now,
    ) -> Result<(), Refusal> {
        let name = self.queue_name(call, queue)?;
        let (spec, _) = self.usable_queue(call.conn, &name)?;
        let queue = (spec.id, spec.home);
        let channel = self.clients.get(call.conn).and_then(|conn| conn.channel(call.number));
        if let Some(channel) = channel {
            channel.involve(queue.1);
        }
        let request = QueueRequest::Get { conn: call.conn, channel: call.channel, no_ack };
        self.ask_queue(call, queue, request, Then::Got, now);
        Ok(())
    }
}
