//! A channel's publishes keep their order in every queue that does not shuffle them, and requeued
//! messages keep their place.

use std::collections::BTreeMap;

use super::Facts;
use crate::history::{DeliveryLog, History};
use crate::names::kind;

/// Checks first deliveries while the broker lived, and everything in the drain.
pub fn check(h: &History, _: &Facts) -> Result<(), String> {
    let mut streams: BTreeMap<(usize, usize), Vec<&DeliveryLog>> = BTreeMap::new();
    let mut drains: BTreeMap<usize, Vec<&DeliveryLog>> = BTreeMap::new();
    for delivery in &h.deliveries {
        if !delivery.redelivered && !delivery.limbo {
            streams.entry((delivery.chan, delivery.queue)).or_default().push(delivery);
        }
        if delivery.drained {
            drains.entry(delivery.queue).or_default().push(delivery);
        }
    }
    for ((chan, queue), stream) in &streams {
        if kind(*queue).shuffled {
            continue;
        }
        ascending(h, stream).map_err(|why| format!("chan {chan}, queue {queue}: {why}"))?;
    }
    for (queue, drain) in &drains {
        if !kind(*queue).shuffled {
            ascending(h, drain).map_err(|why| format!("drain of queue {queue}: {why}"))?;
        }
        let place: BTreeMap<usize, usize> =
            drain.iter().enumerate().map(|(place, d)| (d.message, place)).collect();
        for ((_, q), stream) in streams.iter().filter(|((_, q), _)| q == queue) {
            in_place(&place, stream).map_err(|why| format!("queue {q}: {why}"))?;
        }
    }
    Ok(())
}

/// Messages of one publishing channel come in the order they were published.
fn ascending(h: &History, stream: &[&DeliveryLog]) -> Result<(), String> {
    let mut last: BTreeMap<(usize, bool), usize> = BTreeMap::new();
    for delivery in stream {
        // Dead letters of what a channel has rejected, and what it publishes, overtake each other.
        let message = &h.messages[delivery.message];
        let publisher = (h.ops[message.op].span.chan, message.died.is_some());
        match last.insert(publisher, delivery.message) {
            Some(earlier) if earlier > delivery.message => {
                return Err(format!("message {} came after {earlier}", delivery.message));
            }
            _ => {}
        }
    }
    Ok(())
}

/// What one consumer got first came back to the queue in that order.
fn in_place(place: &BTreeMap<usize, usize>, stream: &[&DeliveryLog]) -> Result<(), String> {
    let mut last: Option<(usize, usize)> = None;
    for delivery in stream {
        let Some(&at) = place.get(&delivery.message) else { continue };
        if let Some((message, earlier)) = last.filter(|(_, earlier)| *earlier > at) {
            let (other, _) = (delivery.message, earlier);
            return Err(format!("message {other} was behind {message} and is now in front"));
        }
        last = Some((delivery.message, at));
    }
    Ok(())
}
