//! A queue that passes on what it rejects and what expires in it.

use lapin::message::Delivery;
use lapin::options::*;
use lapin::types::{AMQPValue, FieldArray, FieldTable, ShortString};
use lapin::{BasicProperties, Result};

use crate::rig::{Rig, consume, name, next, put, send};

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

pub async fn dead_letters(rig: &Rig) -> Result<()> {
    let (channel, dead, waiting) = (rig.confirming().await?, rig.filled(0).await?, name("waiting"));
    let mut arguments = FieldTable::default();
    arguments.insert("x-message-ttl".into(), AMQPValue::LongInt(60_000));
    arguments.insert("x-dead-letter-exchange".into(), text(""));
    arguments.insert("x-dead-letter-routing-key".into(), text(dead.as_str()));
    let own = QueueDeclareOptions { exclusive: true, ..Default::default() };
    channel.queue_declare(waiting.clone(), own, arguments).await?;
    let mut got = consume(&channel, &dead).await?;
    send(&channel, &waiting, b"rejected").await?;
    let message = channel.basic_get(waiting.clone(), Default::default()).await?.expect("a message");
    message.acker.reject(BasicRejectOptions { requeue: false }).await?;
    died(&next(&mut got).await?, "rejected", &waiting, None);
    let soon = BasicProperties::default().with_expiration("20".into());
    put(&channel, "", &waiting, b"expired", soon).await?;
    died(&next(&mut got).await?, "expired", &waiting, Some("20"));
    Ok(())
}

/// A dead letter tells why, where from, and the expiration that it had.
fn died(message: &Delivery, reason: &str, queue: &ShortString, expiration: Option<&str>) {
    assert_eq!(message.data, reason.as_bytes());
    assert_eq!(*message.properties.expiration(), None);
    let headers = message.properties.headers().as_ref().expect("headers").inner();
    assert_eq!(headers["x-first-death-reason"], text(reason));
    let AMQPValue::FieldArray(deaths) = &headers["x-death"] else { panic!("{headers:?}") };
    let [AMQPValue::FieldTable(death)] = deaths.as_slice() else { panic!("{deaths:?}") };
    let mut expected = FieldTable::default();
    let time = death.inner()["time"].clone();
    assert!(matches!(time, AMQPValue::Timestamp(_)), "{time:?}");
    expected.insert("time".into(), time);
    expected.insert("count".into(), AMQPValue::LongLongInt(1));
    expected.insert("reason".into(), text(reason));
    expected.insert("queue".into(), text(queue.as_str()));
    expected.insert("exchange".into(), text(""));
    let keys = FieldArray::from(vec![text(queue.as_str())]);
    expected.insert("routing-keys".into(), AMQPValue::FieldArray(keys));
    if let Some(expiration) = expiration {
        expected.insert("original-expiration".into(), text(expiration));
    }
    assert_eq!(*death, expected);
}
