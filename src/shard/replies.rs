//! Direct reply-to: a client consumes from `amq.rabbitmq.reply-to`, names the same in the reply-to
//! of its requests, and is answered without a queue of its own in the topology.
//!
//! A reply consumer has a queue that only its own shard knows, there as long as the consumer is.
//! What leads to it is its name, which replaces the client's `amq.rabbitmq.reply-to`: the queue's
//! id and a keyed hash of id and vhost. All shards share the key, so each finds the home of a queue
//! it has never heard of, and nobody can make a name up.

use amqp::Method;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use model::session::content::REPLY_TO;
use model::session::{ChannelConsumer, ReplyConsumer};
use model::{
    Arguments, ChannelId, ConnId, ConsumerId, ConsumerSpec, Message, Name, Now, QueueId, QueueSpec,
    Refusal, Resource, ShardId, Targets,
};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::clients::{Then, Waiting};
use super::home::cost;
use super::machine::Shard;
use super::message::{QueueAnswer, QueueRequest};
use super::publish::Publisher;
use super::questions::Call;

/// Octets of replies that wait for a consumer whose socket does not take them; what comes beyond is
/// dropped. RabbitMQ would drop too, or run out of memory, depending on the protocol: a reply is
/// sent at most once.
const WAITING_MAX: usize = 16 * 1024 * 1024;

const ID_LEN: usize = 8;
/// 128 bits of the hash.
const PROOF_LEN: usize = 16;

/// What names of reply consumers are proved with: the same on all shards, and no one else's.
#[derive(Clone, Copy)]
pub struct ReplyKey([u8; 32]);

impl ReplyKey {
    /// A key of random octets; take them from the operating system, or from a simulation's dice.
    #[must_use]
    pub fn new(random: [u8; 32]) -> Self {
        Self(random)
    }

    /// A key that follows from a seed, for brokers that nobody attacks.
    #[must_use]
    pub fn from_seed(seed: u64) -> Self {
        Self(Sha256::digest(seed.to_be_bytes()).into())
    }

    fn name(&self, vhost: &str, queue: QueueId) -> Name {
        let mut octets = queue.0.to_be_bytes().to_vec();
        octets.extend(self.proof(vhost, queue));
        format!("{REPLY_TO}.{}", URL_SAFE_NO_PAD.encode(octets)).into()
    }

    /// The queue that a name leads to; `None` for a name that is not one of ours.
    fn queue(&self, vhost: &str, name: &str) -> Option<QueueId> {
        let encoded = name.strip_prefix(REPLY_TO)?.strip_prefix('.')?;
        let mut octets = [0; ID_LEN + PROOF_LEN];
        let len = URL_SAFE_NO_PAD.decode_slice(encoded, &mut octets).ok()?;
        let (id, proof) = octets.split_first_chunk::<ID_LEN>()?;
        let queue = QueueId(u64::from_be_bytes(*id));
        let proved: bool = proof.ct_eq(&self.proof(vhost, queue)).into();
        (len == octets.len() && proved).then_some(queue)
    }

    fn proof(&self, vhost: &str, queue: QueueId) -> [u8; PROOF_LEN] {
        let hash = Sha256::new_with_prefix(self.0);
        let hash = hash.chain_update(queue.0.to_be_bytes()).chain_update(vhost).finalize();
        let mut proof = [0; PROOF_LEN];
        // Half of the hash: what is not told keeps anyone from going on with the rest.
        proof.iter_mut().zip(hash).for_each(|(octet, hashed)| *octet = hashed);
        proof
    }
}

impl std::fmt::Debug for ReplyKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ReplyKey")
    }
}

/// A basic.consume from `amq.rabbitmq.reply-to`.
#[derive(Debug, Clone, Copy)]
pub(super) struct ReplyConsume<'a> {
    pub tag: &'a str,
    pub no_ack: bool,
    pub nowait: bool,
}

impl Shard {
    /// Whether the queue is a reply consumer's: the others' ids come from the coordinator.
    pub(super) fn is_reply_queue(&self, queue: QueueId) -> bool {
        queue.origin() != ShardId::OF_QUEUES
    }

    pub(super) fn consume_replies(
        &mut self,
        call: Call<'_>,
        consume: ReplyConsume<'_>,
    ) -> Result<(), Refusal> {
        let Some((vhost, _)) = self.vhost(call.conn) else { return Ok(()) };
        let vhost = vhost.clone();
        let fresh = self.fresh_name("amq.ctag-");
        let (consumer, queue): (ConsumerId, QueueId) = (self.ids.fresh(), self.ids.fresh());
        let me = self.me;
        let Some(conn) = self.clients.get(call.conn) else { return Ok(()) };
        let Some(channel) = conn.channel(call.number) else { return Ok(()) };
        if !consume.no_ack {
            return Err(Refusal::ReplyConsumerAcknowledges);
        }
        if channel.replies.is_some() {
            return Err(Refusal::SecondReplyConsumer);
        }
        let tag = if consume.tag.is_empty() { fresh } else { consume.tag.into() };
        if channel.consumer_by_tag(&tag).is_some() {
            return Err(Refusal::ConsumerTagInUse(tag));
        }
        let name = self.reply_key.name(&vhost, queue);
        channel.replies = Some(ReplyConsumer { consumer, queue, name: name.clone() });
        channel.involve(me);
        channel.consumers.push((consumer, ChannelConsumer { tag: tag.clone(), queue, home: me }));
        if !conn.links.contains(&me) {
            conn.links.push(me);
        }
        self.home.create(vhost, reply_queue(queue, me, name));
        self.add_consumer(queue, reply_consumer(consumer, call));
        if !consume.nowait {
            let method = Method::BasicConsumeOk { consumer_tag: &tag };
            self.clients.send(call.conn, call.number, &method);
        }
        Ok(())
    }

    /// Ends the channel's reply consumer, if it is the one with this tag.
    pub(super) fn cancel_replies(&mut self, call: Call<'_>, tag: &str) {
        let channel = self.clients.get(call.conn).and_then(|conn| conn.channel(call.number));
        let Some(channel) = channel else { return };
        let Some((consumer, _)) = channel.consumer_by_tag(tag) else { return };
        if let Some(gone) = channel.replies.take_if(|replies| replies.consumer == consumer) {
            channel.remove_consumer(consumer);
            self.drop_queue(gone.queue);
        }
    }

    /// queue.declare of `amq.rabbitmq.reply-to`, or of what it was replaced by: passive in any
    /// case. `None`: it is another name.
    pub(super) fn declare_replies(
        &mut self,
        call: Call<'_>,
        name: &Name,
        now: Now,
    ) -> Option<Result<(), Refusal>> {
        if !name.starts_with(REPLY_TO) {
            return None;
        }
        let (vhost, _) = self.vhost(call.conn)?;
        let vhost = vhost.clone();
        if **name == *REPLY_TO {
            self.declared(call, name.clone(), REPLY_COUNTS);
            return Some(Ok(()));
        }
        let Some(queue) = self.reply_key.queue(&vhost, name) else {
            return Some(Err(Refusal::NotFound(Resource::queue(&vhost, name))));
        };
        let then = Then::RepliesDeclared(name.clone());
        self.ask_queue(call, (queue, queue.origin()), QueueRequest::Count, then, now);
        Some(Ok(()))
    }

    /// The home has said whether the reply consumer is there.
    pub(super) fn replies_declared(
        &mut self,
        waiting: &Waiting,
        name: Name,
        answer: &QueueAnswer,
        now: Now,
    ) {
        if matches!(answer, QueueAnswer::Counts(..)) {
            return self.declared(waiting.call(), name, REPLY_COUNTS);
        }
        let vhost = self.vhost_name(waiting.conn);
        self.refuse(waiting, &Refusal::NotFound(Resource::queue(&vhost, &name)), now);
    }

    /// Adds the reply consumers that routing keys of the default exchange name.
    pub(super) fn reply_targets(&self, vhost: &str, keys: &[&str], targets: &mut Targets) {
        for key in keys.iter().filter(|key| key.starts_with(REPLY_TO)) {
            if let Some(queue) = self.reply_key.queue(vhost, key) {
                targets.queue(queue, queue.origin());
            }
        }
    }

    /// A reply enters; beyond the bound it is dropped, unless nothing waits.
    #[cold]
    pub(super) fn push_reply(&mut self, id: QueueId, message: Message<'_>) {
        self.with_queue(id, |queue, door| {
            if queue.ready() == 0 || queue.pinned() < WAITING_MAX {
                queue.push(message, door);
            }
        });
    }

    /// Sends a mandatory reply, which comes back if its consumer is gone; 1 if its confirm waits.
    /// `None`: the consumer is here, and the reply not sent.
    #[cold]
    pub(super) fn mandatory_reply(
        &mut self,
        publisher: Publisher,
        (queue, home): (QueueId, ShardId),
        message: Message<'_>,
    ) -> Option<u16> {
        if home != self.me {
            let (conn, channel) = (publisher.id, publisher.channel);
            self.peers.get(home).out.mandatory(queue, (conn, channel), message);
            return Some(self.sent(publisher, home, cost(message), message.persistent()));
        }
        if self.home.queues.contains_key(&queue) {
            return None;
        }
        self.give_back(publisher, message);
        Some(0)
    }

    /// A mandatory message from another shard for a reply consumer of this one.
    pub(super) fn mandatory_arrived(
        &mut self,
        from: ShardId,
        queue: QueueId,
        publisher: (ConnId, ChannelId),
        message: Message<'_>,
    ) {
        let peer = self.peers.get(from);
        peer.progress.applied(cost(message));
        if message.persistent() {
            // It is not logged, but its confirm may wait behind what is.
            peer.progress.urgent();
        }
        if self.home.queues.contains_key(&queue) {
            self.push(queue, message);
        } else {
            peer.out.returned(publisher, message);
        }
    }
}

/// A reply consumer takes everything at once: RabbitMQ tells no message and one consumer.
const REPLY_COUNTS: (u32, u32) = (0, 1);

fn reply_queue(id: QueueId, home: ShardId, name: Name) -> QueueSpec {
    QueueSpec {
        id,
        name,
        home,
        durable: false,
        auto_delete: false,
        owner: None,
        server_named: true,
        arguments: Arguments::default(),
    }
}

fn reply_consumer(id: ConsumerId, call: Call<'_>) -> ConsumerSpec {
    let Call { conn, channel, .. } = call;
    ConsumerSpec {
        id,
        conn,
        channel,
        no_ack: true,
        prefetch: 0,
        limited: false,
        exclusive: false,
        priority: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_good_in_its_vhost_and_unchanged() {
        let (key, other) = (ReplyKey::new([7; 32]), ReplyKey::new([8; 32]));
        let queue = QueueId(1 << 48 | 5);
        let name = key.name("/", queue);
        assert_eq!(name.len(), REPLY_TO.len() + 1 + 32);
        assert_eq!(key.queue("/", &name), Some(queue));
        assert_eq!(key.queue("v", &name), None);
        assert_eq!(other.queue("/", &name), None);
        assert_ne!(key.name("/", QueueId(6)), name);
        let start = REPLY_TO.len() + 1;
        for at in start..name.len() {
            let mut octets = name.as_bytes().to_vec();
            octets[at] = if octets[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(key.queue("/", std::str::from_utf8(&octets).unwrap()), None, "{at}");
            assert_eq!(key.queue("/", &name[..at]), None, "cut at {at}");
        }
        for wrong in [&*format!("{name}A"), REPLY_TO, "amq.rabbitmq.reply-to.", "", "q"] {
            assert_eq!(key.queue("/", wrong), None, "{wrong}");
        }
        assert_eq!(format!("{key:?}"), "ReplyKey");
    }
}
