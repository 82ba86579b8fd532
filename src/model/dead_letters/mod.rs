//! Dead letters: what a message becomes when it dies in a queue that has a dead-letter exchange.
//!
//! The copy has the names of its new publish, other headers, and no expiration; everything else
//! stays as it was. Nothing here trusts the headers: a publisher may have set `x-death` itself.

mod deaths;
#[cfg(test)]
mod deaths_test;

use amqp::{Properties, Table, Value};

use crate::message::{Draft, Message};
use crate::mutant::{self, Mutant};
use crate::queue::Death;
use crate::time::Now;
use crate::topology::spec::Name;

pub use deaths::{DEATHS_BYTES_MAX, DEATHS_MAX};

/// Most bytes of encoded properties that a default connection can be sent in one frame: 128 KiB
/// without the frame's 8 bytes and the 12 in front of the properties.
const PROPERTIES_MAX: usize = 128 * 1024 - 8 - 12;

/// Where the messages that die in a queue go.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DeadLetterTarget {
    /// `x-dead-letter-exchange`; it need not exist.
    pub exchange: Name,
    /// `x-dead-letter-routing-key`. `None`: the message keeps its routing keys.
    pub key: Option<Name>,
}

/// A message that died.
#[derive(Debug, Clone, Copy)]
pub struct DeadMessage<'a> {
    /// As it was in its queue.
    pub message: Message<'a>,
    /// The queue's name.
    pub queue: &'a str,
    /// Why it died.
    pub death: Death,
    /// Where it goes.
    pub target: &'a DeadLetterTarget,
}

impl DeadMessage<'_> {
    /// Writes the dead letter into `draft`, where [`Draft::message`] finds it. Returns the routing
    /// keys in its header CC, which count beside that of the message.
    pub fn write(&self, now: Now, draft: &mut Draft) -> Vec<Name> {
        let Self { message, target, .. } = self;
        let old = message.properties().basic();
        let headers = old.headers.unwrap_or_default();
        let event = deaths::Event {
            queue: self.queue,
            reason: reason(self.death),
            exchange: message.exchange(),
            key: message.routing_key(),
            cc: cc(headers),
            expiration: old.expiration,
            time: now.wall_ms / 1000,
        };
        let key_set = target.key.is_some() && !mutant::active(Mutant::DeadLetterKeepsKeys);
        let properties = self.properties(headers, &event, key_set);
        let new_key = target.key.as_deref().filter(|_| key_set);
        draft.copy_of(message, &target.exchange, new_key.unwrap_or(event.key), &properties);
        if key_set { Vec::new() } else { event.cc.iter().map(|key| Name::from(*key)).collect() }
    }

    /// The new properties. What would fit into no frame of a consumer has only this death in its
    /// history, and if even that is too much, the history that it had.
    fn properties(&self, headers: Table<'_>, event: &deaths::Event<'_>, key_set: bool) -> Vec<u8> {
        let taken: &[&str] = if key_set { &["CC", "BCC"] } else { &["BCC"] };
        let kept = headers.without_any(taken);
        for history in [deaths::History::All, deaths::History::ThisOne] {
            let headers = deaths::headers(kept.table(), event, history);
            let properties = self.with_headers(headers.table());
            if properties.len() <= PROPERTIES_MAX {
                return properties;
            }
        }
        self.with_headers(kept.table())
    }

    fn with_headers(&self, headers: Table<'_>) -> Vec<u8> {
        let (old, mut new) = (self.message.properties(), Vec::new());
        if mutant::active(Mutant::DeadLetterExpires) {
            let by = amqp::properties::Basic { headers: Some(headers), ..Default::default() };
            let _ = old.replaced(&by, &mut new);
            return new;
        }
        // Parsed properties can be walked once more.
        let written = old.unexpiring_with(headers, &mut new);
        debug_assert!(written.is_ok(), "a message has malformed properties");
        new
    }
}

/// Names of queues that a dead letter must not enter: it was in them before, and in the whole
/// circle since then nobody has rejected it. RabbitMQ drops it without a word, too.
pub fn circular(letter: Properties<'_>, death: Death) -> Vec<&str> {
    if death == Death::Rejected || mutant::active(Mutant::CycleUndetected) {
        return Vec::new();
    }
    deaths::unrejected_queues(letter.basic().headers.unwrap_or_default())
}

/// RabbitMQ's name for a reason.
fn reason(death: Death) -> &'static str {
    match death {
        Death::Rejected => deaths::REJECTED,
        Death::Expired => "expired",
        Death::MaxLength => "maxlen",
    }
}

/// The routing keys in the header CC of a message.
#[must_use]
pub fn copies_to(properties: Properties<'_>) -> Vec<Name> {
    let headers = properties.basic().headers.unwrap_or_default();
    cc(headers).into_iter().map(Name::from).collect()
}

/// The routing keys in the header CC.
fn cc(headers: Table<'_>) -> Vec<&str> {
    match headers.get("CC") {
        Some(Value::Array(keys)) => keys.iter().filter_map(|key| key.as_str()).collect(),
        _ => Vec::new(),
    }
}
