//! What happens to channels and connections.

use std::time::Duration;

use futures_lite::StreamExt;
use lapin::options::*;
use lapin::types::{FieldTable, ShortString};
use lapin::{Connection, ConnectionProperties, ErrorKind, Event, Result};

use crate::rig::{Rig, consume, name, put, ready, soon, take, url};

/// The channel was closed with this code; the connection goes on.
async fn closed<T>(rig: &Rig, code: u16, outcome: Result<T>) -> Result<()> {
    let error = outcome.err().unwrap_or_else(|| panic!("not refused with {code}"));
    match error.kind() {
        ErrorKind::ProtocolError(refused) => assert_eq!(refused.get_id(), code, "{refused}"),
        other => panic!("{other:?}"),
    }
    rig.channel().await?.close(200, "".into()).await
}

pub async fn errors(rig: &Rig) -> Result<()> {
    let queue = name("owned");
    let own = QueueDeclareOptions { exclusive: true, ..Default::default() };
    let other = QueueDeclareOptions { exclusive: true, auto_delete: true, ..own };
    rig.channel().await?.queue_declare(queue.clone(), own, FieldTable::default()).await?;
    closed(rig, 404, ready(&rig.channel().await?, &name("no")).await).await?;
    let channel = rig.channel().await?;
    let differs = channel.queue_declare(queue.clone(), other, FieldTable::default()).await;
    closed(rig, 406, differs).await?;
    let channel = rig.confirming().await?;
    let nowhere = put(&channel, name("no").as_str(), &queue, b"", Default::default()).await;
    closed(rig, 404, nowhere).await?;
    let channel = rig.channel().await?;
    let system = channel.exchange_delete("amq.topic".into(), Default::default()).await;
    closed(rig, 403, system).await?;
    let stranger = Rig::connect(30).await?;
    closed(&stranger, 405, take(&stranger.channel().await?, &queue).await).await?;
    stranger.connection.close(200, "".into()).await?;
    let refused = Connection::connect(&url("no", 30), ConnectionProperties::default()).await;
    assert!(refused.is_err_and(|error| error.to_string().contains("ACCESS_REFUSED")));
    Ok(())
}

pub async fn cancel_notify(rig: &Rig) -> Result<()> {
    let (channel, queue) = (rig.channel().await?, name("doomed"));
    channel.queue_declare(queue.clone(), Default::default(), FieldTable::default()).await?;
    let mut consumer = consume(&channel, &queue).await?;
    rig.channel().await?.queue_delete(queue, QueueDeleteOptions::default()).await?;
    assert!(soon(consumer.next()).await.is_none());
    channel.close(200, "".into()).await
}

pub async fn heartbeat(rig: &Rig) -> Result<()> {
    assert_eq!(rig.connection.configuration().heartbeat(), 1);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(rig.connection.status().connected());
    rig.channel().await?.close(200, "".into()).await
}

pub async fn blocked(rig: &Rig) -> Result<()> {
    let (channel, queue) = (rig.confirming().await?, rig.filled(0).await?);
    let mut events = rig.connection.events_listener();
    let options = BasicPublishOptions::default();
    let sent = channel.basic_publish("".into(), queue, options, b"held up", Default::default());
    let confirm = sent.await?;
    let Some(Event::ConnectionBlocked(reason)) = soon(told(&mut events)).await else {
        panic!("something else than blocked");
    };
    println!("blocked: {reason}");
    assert!(matches!(soon(told(&mut events)).await, Some(Event::ConnectionUnblocked)));
    assert!(soon(confirm).await?.is_ack());
    Ok(())
}

async fn told(events: &mut (impl StreamExt<Item = Event> + Unpin)) -> Option<Event> {
    loop {
        match events.next().await {
            Some(Event::Connected) => {}
            other => return other,
        }
    }
}

/// Nothing but lapin's own recovery: it declares and consumes again by itself.
pub async fn reconnect(rig: &Rig) -> Result<()> {
    let (channel, queue) = (rig.channel().await?, name("queue"));
    declare(&channel, &queue).await?;
    let mut consumer = consume(&channel, &queue).await?;
    println!("ready");
    while let Some(delivery) = consumer.next().await {
        let delivery = match delivery {
            Ok(delivery) => delivery,
            Err(error) => {
                channel.wait_for_recovery(error).await?;
                continue;
            }
        };
        println!("got {}", String::from_utf8_lossy(&delivery.data));
        delivery.acker.ack(BasicAckOptions::default()).await?;
        if delivery.data == b"after" {
            return Ok(());
        }
    }
    panic!("the consumer has ended");
}

async fn declare(channel: &lapin::Channel, queue: &ShortString) -> Result<()> {
    let options = QueueDeclareOptions::default();
    channel.queue_declare(queue.clone(), options, FieldTable::default()).await.map(drop)
}
