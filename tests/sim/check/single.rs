//! A queue that serves one consumer at a time serves them one after the other, in order.

use super::Facts;
use crate::history::{DeliveryLog, Fate, History, What};
use crate::names::kind;

/// Checks every delivery from such a queue to a consumer.
pub fn check(h: &History, _: &Facts) -> Result<(), String> {
    for delivery in h.deliveries.iter().filter(|d| kind(d.queue).single && !d.limbo) {
        let What::Consume { consumer } = h.ops[delivery.asked].what else { continue };
        let rivals = (0..h.consumers.len())
            .filter(|other| *other != consumer && h.consumers[*other].queue == delivery.queue);
        for other in rivals {
            if precedes(h, other, consumer, delivery) {
                let DeliveryLog { message, at, .. } = delivery;
                return Err(format!(
                    "message {message} went to consumer {consumer} at {at}, but {other} is to be \
                     served before it"
                ));
            }
        }
    }
    Ok(())
}

/// Whether `other` was certainly there when the consumer came, was not to be served behind it, and
/// was still there when the consumer got the message.
fn precedes(h: &History, other: usize, consumer: usize, delivery: &DeliveryLog) -> bool {
    let (first, second) = (&h.consumers[other], &h.consumers[consumer]);
    let (begun, came) = (&h.ops[first.op], &h.ops[second.op]);
    let known = begun.fate == Fate::Done && begun.span.before(&came.span);
    // One that the server cancelled may have been gone before the client heard of it.
    let stays = h.consumer_ending(other) > delivery.at && !may_be_cancelled(h, other);
    known && stays && first.priority >= second.priority
}

/// Whether the queue may have been deleted.
fn may_be_cancelled(h: &History, consumer: usize) -> bool {
    let log = &h.consumers[consumer];
    log.cancelled || kind(log.queue).mortal
}
