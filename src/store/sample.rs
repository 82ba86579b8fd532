//! Messages for tests.

use amqp::Properties;
use bytes::Bytes;
use model::{Draft, Message};

/// A message that owns its bytes.
#[derive(Debug)]
pub struct Sample(Vec<u8>, Option<model::Body>);

impl Sample {
    pub fn message(&self) -> Message<'_> {
        Message::new(&self.0, self.1.as_ref())
    }
}

/// A message with that routing key and a body of so many bytes.
pub fn sample(key: &str, size: usize, persistent: bool) -> Sample {
    let mut draft = Draft::default();
    draft.begin("", key);
    let mode = if persistent { 2 } else { 1 };
    draft.header(Properties::EMPTY, mode, 0, size as u32);
    let body = Bytes::from((0..size).map(|n| n as u8).collect::<Vec<u8>>());
    draft.body(&body, &body);
    let message = draft.message();
    Sample(message.record().to_vec(), message.large_body().cloned())
}
