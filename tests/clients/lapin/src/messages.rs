//! What happens to messages.

use futures_lite::future::or;
use lapin::options::*;
use lapin::types::{AMQPValue, DecimalValue, FieldArray, FieldTable, ShortString};
use lapin::{BasicProperties, ExchangeKind, Result};

use crate::rig::{Rig, consume, name, next, put, ready, send, soon, take, told};

pub async fn topology(rig: &Rig) -> Result<()> {
    let channel = rig.confirming().await?;
    let (logs, further, queue) = (name("logs"), name("further"), name("queue"));
    let none = FieldTable::default;
    let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
    channel.exchange_declare(logs.clone(), ExchangeKind::Topic, durable, none()).await?;
    let own = ExchangeDeclareOptions { auto_delete: true, ..Default::default() };
    channel.exchange_declare(further.clone(), ExchangeKind::Fanout, own, none()).await?;
    let durable = QueueDeclareOptions { durable: true, ..Default::default() };
    let declared = channel.queue_declare(queue.clone(), durable, none()).await?;
    assert_eq!((declared.message_count(), declared.consumer_count()), (0, 0));
    let (bind, key) = (QueueBindOptions::default(), ShortString::from("kern.*"));
    channel.queue_bind(queue.clone(), further.clone(), "".into(), bind, none()).await?;
    let bind = ExchangeBindOptions::default();
    channel.exchange_bind(further.clone(), logs.clone(), key.clone(), bind, none()).await?;
    let mut got = consume(&channel, &queue).await?;
    for key in ["kern.info", "cron.info", "kern.crit"] {
        put(&channel, logs.as_str(), &key.into(), key.as_bytes(), Default::default()).await?;
    }
    let first = next(&mut got).await?;
    assert_eq!((first.exchange, first.routing_key.as_str()), (logs.clone(), "kern.info"));
    assert_eq!(next(&mut got).await?.data, b"kern.crit");
    let unbind = ExchangeUnbindOptions::default();
    channel.exchange_unbind(further.clone(), logs.clone(), key, unbind, none()).await?;
    channel.queue_unbind(queue.clone(), further, "".into(), none()).await?;
    assert_eq!(channel.queue_delete(queue, QueueDeleteOptions::default()).await?, 0);
    channel.exchange_delete(logs, ExchangeDeleteOptions::default()).await
}

pub async fn confirms(rig: &Rig) -> Result<()> {
    let (channel, queue) = (rig.confirming().await?, rig.filled(0).await?);
    let mut sent = Vec::new();
    for number in 0..100_u32 {
        let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
        let body = number.to_string();
        let key = queue.clone();
        sent.push(
            channel.basic_publish("".into(), key, options, body.as_bytes(), properties).await?,
        );
    }
    for confirm in sent {
        assert!(soon(confirm).await?.is_ack());
    }
    assert_eq!(ready(&channel, &queue).await?, 100);
    assert_eq!(channel.queue_purge(queue, QueuePurgeOptions::default()).await?, 100);
    Ok(())
}

pub async fn returns(rig: &Rig) -> Result<()> {
    let channel = rig.confirming().await?;
    let options = BasicPublishOptions { mandatory: true, ..Default::default() };
    let nowhere = name("nowhere");
    let sent = channel.basic_publish("".into(), nowhere, options, b"lost", Default::default());
    let returned = soon(sent.await?).await?.take_message().expect("a returned message");
    assert_eq!((returned.reply_code, returned.reply_text.as_str()), (312, "NO_ROUTE"));
    assert_eq!(returned.delivery.data, b"lost");
    Ok(())
}

pub async fn acks(rig: &Rig) -> Result<()> {
    let (channel, queue) = (rig.channel().await?, rig.filled(5).await?);
    let mut consumer = consume(&channel, &queue).await?;
    let mut got = Vec::new();
    while got.len() < 5 {
        got.push(next(&mut consumer).await?);
    }
    got[1].acker.ack(BasicAckOptions { multiple: true }).await?;
    got[2].acker.reject(BasicRejectOptions { requeue: false }).await?;
    got[4].acker.nack(BasicNackOptions { multiple: true, requeue: true }).await?;
    for body in [b"3", b"4"] {
        let again = next(&mut consumer).await?;
        assert_eq!((again.redelivered, &again.data[..]), (true, &body[..]));
    }
    channel.basic_recover(BasicRecoverOptions { requeue: true }).await?;
    next(&mut consumer).await?;
    next(&mut consumer).await?.acker.ack(BasicAckOptions { multiple: true }).await?;
    channel.basic_cancel(consumer.tag(), BasicCancelOptions::default()).await?;
    assert_eq!(ready(&channel, &queue).await?, 0);
    Ok(())
}

pub async fn prefetch(rig: &Rig, global: bool) -> Result<()> {
    let (channel, queue) = (rig.channel().await?, rig.filled(10).await?);
    channel.basic_qos(3, BasicQosOptions { global }).await?;
    let mut first = consume(&channel, &queue).await?;
    if !global {
        for _ in 0..2 {
            next(&mut first).await?;
        }
        let third = next(&mut first).await?;
        assert_eq!(ready(&channel, &queue).await?, 7);
        third.acker.ack(BasicAckOptions::default()).await?;
        next(&mut first).await?;
        assert_eq!(ready(&channel, &queue).await?, 6);
        return Ok(());
    }
    let mut second = consume(&channel, &queue).await?;
    let mut last = None;
    for _ in 0..3 {
        last = Some(or(next(&mut first), next(&mut second)).await?);
    }
    assert_eq!(ready(&channel, &queue).await?, 7);
    last.expect("a message").acker.ack(BasicAckOptions::default()).await?;
    or(next(&mut first), next(&mut second)).await?;
    assert_eq!(ready(&channel, &queue).await?, 6);
    Ok(())
}

pub async fn get(rig: &Rig) -> Result<()> {
    let (channel, queue) = (rig.channel().await?, rig.filled(2).await?);
    let options = BasicGetOptions::default();
    let message = channel.basic_get(queue.clone(), options).await?.expect("a message");
    assert_eq!((message.message_count, message.redelivered), (1, false));
    message.acker.nack(BasicNackOptions { multiple: false, requeue: true }).await?;
    let message = channel.basic_get(queue.clone(), options).await?.expect("a message");
    assert_eq!((message.redelivered, &message.data[..]), (true, &b"0"[..]));
    message.acker.ack(BasicAckOptions::default()).await?;
    assert_eq!(take(&channel, &queue).await?.expect("a message").data, b"1");
    assert!(take(&channel, &queue).await?.is_none());
    Ok(())
}

pub async fn large(rig: &Rig) -> Result<()> {
    let (channel, queue) = (rig.confirming().await?, rig.filled(0).await?);
    for bytes in [1_536_000, 0, 131_064, 131_065] {
        let body: Vec<u8> = (0..bytes).map(|at| (at % 251) as u8).collect();
        send(&channel, &queue, &body).await?;
        assert!(take(&channel, &queue).await?.expect("a message").data == body);
    }
    Ok(())
}

fn table() -> FieldTable {
    let mut inner = FieldTable::default();
    inner.insert("deep".into(), AMQPValue::LongInt(1));
    let list = vec![AMQPValue::LongInt(1), AMQPValue::LongString("two".into()), AMQPValue::Void];
    let mut table = FieldTable::default();
    for (key, value) in [
        ("text", AMQPValue::LongString("grün".into())),
        ("bytes", AMQPValue::ByteArray(vec![0, 255].into())),
        ("true", AMQPValue::Boolean(true)),
        ("i8", AMQPValue::ShortShortInt(-8)),
        ("u8", AMQPValue::ShortShortUInt(200)),
        ("i16", AMQPValue::ShortInt(-300)),
        ("u16", AMQPValue::ShortUInt(60_000)),
        ("i32", AMQPValue::LongInt(-70_000)),
        ("u32", AMQPValue::LongUInt(4_000_000_000)),
        ("i64", AMQPValue::LongLongInt(1 << 60)),
        ("float", AMQPValue::Float(0.5)),
        ("double", AMQPValue::Double(2.5)),
        ("decimal", AMQPValue::DecimalValue(DecimalValue { scale: 2, value: 314 })),
        ("time", AMQPValue::Timestamp(1_577_934_245)),
        ("none", AMQPValue::Void),
        ("list", AMQPValue::FieldArray(FieldArray::from(list))),
        ("table", AMQPValue::FieldTable(inner)),
    ] {
        table.insert(key.into(), value);
    }
    table
}

pub async fn headers(rig: &Rig) -> Result<()> {
    let (channel, queue) = (rig.confirming().await?, rig.filled(0).await?);
    let properties = BasicProperties::default()
        .with_content_type("text/plain".into())
        .with_content_encoding("utf-8".into())
        .with_headers(table())
        .with_delivery_mode(2)
        .with_priority(3)
        .with_correlation_id("c".into())
        .with_reply_to("r".into())
        .with_message_id("m".into())
        .with_timestamp(1_577_934_245)
        .with_type("t".into())
        .with_user_id(told("AMQP_USER").as_str().into())
        .with_app_id("a".into())
        .with_cluster_id("k".into());
    put(&channel, "", &queue, b"x", properties.clone()).await?;
    assert_eq!(take(&channel, &queue).await?.expect("a message").properties, properties);
    Ok(())
}

pub async fn expiration(rig: &Rig) -> Result<()> {
    let (channel, queue) = (rig.confirming().await?, rig.filled(0).await?);
    let of = |ms: &str| BasicProperties::default().with_expiration(ms.into());
    put(&channel, "", &queue, b"kept", of("60000")).await?;
    assert_eq!(take(&channel, &queue).await?.expect("a message").properties, of("60000"));
    put(&channel, "", &queue, b"gone", of("0")).await?;
    assert_eq!(ready(&channel, &queue).await?, 0);
    Ok(())
}

pub async fn tx(rig: &Rig) -> Result<()> {
    let (channel, outside) = (rig.channel().await?, rig.channel().await?);
    let queue = rig.filled(1).await?;
    channel.tx_select().await?;
    let message = channel.basic_get(queue.clone(), Default::default()).await?.expect("a message");
    send(&channel, &queue, b"committed").await?;
    message.acker.ack(BasicAckOptions::default()).await?;
    assert_eq!(ready(&outside, &queue).await?, 0);
    channel.tx_commit().await?;
    assert_eq!(take(&outside, &queue).await?.expect("a message").data, b"committed");
    send(&channel, &queue, b"rolled back").await?;
    channel.tx_rollback().await?;
    channel.tx_commit().await?;
    assert_eq!(ready(&outside, &queue).await?, 0);
    Ok(())
}

pub async fn reply_to(rig: &Rig) -> Result<()> {
    let (channel, queue) = (rig.channel().await?, rig.filled(0).await?);
    let (direct, options) = (ShortString::from("amq.rabbitmq.reply-to"), FieldTable::default());
    let no_ack = BasicConsumeOptions { no_ack: true, ..Default::default() };
    let mut answers = channel.basic_consume(direct.clone(), "".into(), no_ack, options).await?;
    let properties = BasicProperties::default().with_reply_to(direct);
    put(&channel, "", &queue, b"question", properties).await?;
    let asked = take(&channel, &queue).await?.expect("the question");
    let server = Rig::connect(30).await?;
    let to = asked.properties.reply_to().clone().expect("an address");
    send(&server.confirming().await?, &to, b"answer").await?;
    assert_eq!(next(&mut answers).await?.data, b"answer");
    server.connection.close(200, "".into()).await
}
