//! A connection, and the small things that every scenario does with it.

use std::time::Duration;

use futures_lite::StreamExt;
use lapin::message::{BasicGetMessage, Delivery};
use lapin::options::*;
use lapin::types::{FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer, Result};

/// What one scenario works with.
pub struct Rig {
    /// Its connection.
    pub connection: Connection,
}

/// The value of an environment variable that must be there.
pub fn told(key: &str) -> String {
    std::env::var(key).unwrap_or_else(|_| panic!("{key} is not set"))
}

/// A name that only this run of this program uses.
pub fn name(suffix: &str) -> ShortString {
    format!("{}{suffix}", told("AMQP_PREFIX")).as_str().into()
}

/// The broker's address, for this user.
pub fn url(user: &str, heartbeat_s: u16) -> String {
    let (host, port, password) = (told("AMQP_HOST"), told("AMQP_PORT"), told("AMQP_PASSWORD"));
    format!("amqp://{user}:{password}@{host}:{port}/%2f?heartbeat={heartbeat_s}")
}

/// Waits, but not for ever.
pub async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), what).await.expect("waited too long")
}

/// The next message of a consumer.
pub async fn next(consumer: &mut Consumer) -> Result<Delivery> {
    soon(consumer.next()).await.expect("the consumer has ended")
}

/// A message of a body alone.
pub async fn send(channel: &Channel, queue: &ShortString, body: &[u8]) -> Result<()> {
    let properties = BasicProperties::default();
    put(channel, "", queue, body, properties).await
}

/// A message, confirmed where the channel has confirms.
pub async fn put(
    channel: &Channel,
    exchange: &str,
    key: &ShortString,
    body: &[u8],
    properties: BasicProperties,
) -> Result<()> {
    let options = BasicPublishOptions::default();
    let sent = channel.basic_publish(exchange.into(), key.clone(), options, body, properties);
    assert!(!sent.await?.await?.is_nack());
    Ok(())
}

/// Takes a message for good.
pub async fn take(channel: &Channel, queue: &ShortString) -> Result<Option<BasicGetMessage>> {
    channel.basic_get(queue.clone(), BasicGetOptions { no_ack: true }).await
}

/// Ready messages, by passive declaration.
pub async fn ready(channel: &Channel, queue: &ShortString) -> Result<u32> {
    let passive = QueueDeclareOptions { passive: true, ..Default::default() };
    let declared = channel.queue_declare(queue.clone(), passive, FieldTable::default()).await?;
    Ok(declared.message_count())
}

/// A consumer whose messages wait to be acknowledged.
pub async fn consume(channel: &Channel, queue: &ShortString) -> Result<Consumer> {
    let options = BasicConsumeOptions::default();
    channel.basic_consume(queue.clone(), "".into(), options, FieldTable::default()).await
}

impl Rig {
    /// Connects; lapin is told to come back by itself.
    pub async fn connect(heartbeat_s: u16) -> Result<Self> {
        let properties = ConnectionProperties::default().enable_auto_recover();
        let url = url(&told("AMQP_USER"), heartbeat_s);
        Ok(Self { connection: Connection::connect(&url, properties).await? })
    }

    /// A new channel.
    pub async fn channel(&self) -> Result<Channel> {
        self.connection.create_channel().await
    }

    /// A new channel with confirms.
    pub async fn confirming(&self) -> Result<Channel> {
        let channel = self.channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(channel)
    }

    /// A queue of this connection that holds messages 0, 1, 2 ...
    pub async fn filled(&self, count: u32) -> Result<ShortString> {
        let channel = self.confirming().await?;
        let own = QueueDeclareOptions { exclusive: true, ..Default::default() };
        let queue = channel.queue_declare("".into(), own, FieldTable::default()).await?;
        for number in 0..count {
            send(&channel, queue.name(), number.to_string().as_bytes()).await?;
        }
        channel.close(200, "".into()).await?;
        Ok(queue.name().clone())
    }
}
