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
        ascending(h, *queue, stream).map_err(|why| format!("chan {chan}, queue {queue}: {why}"))?;
    }
    for (queue, drain) in &drains {
        if !kind(*queue).shuffled {
            ascending(h, *queue, drain)
                .and_then(|()| ranked(*queue, drain))
                .map_err(|why| format!("drain of queue {queue}: {why}"))?;
        }
        let place: BTreeMap<usize, usize> =
            drain.iter().enumerate().map(|(place, d)| (d.message, place)).collect();
        for ((_, q), stream) in streams.iter().filter(|((_, q), _)| q == queue) {
            in_place(*queue, &place, stream).map_err(|why| format!("queue {q}: {why}"))?;
        }
    }
    Ok(())
}

/// Messages of one publishing channel and one priority come in the order they were published.
fn ascending(h: &History, queue: usize, stream: &[&DeliveryLog]) -> Result<(), String> {
    let mut last: BTreeMap<(usize, bool, u8), usize> = BTreeMap::new();
    for delivery in stream {
        // Dead letters of what a channel has rejected, and what it publishes, overtake each other.
        let message = &h.messages[delivery.message];
        let priority = kind(queue).priority(delivery.message);
        let publisher = (h.ops[message.op].span.chan, message.died.is_some(), priority);
        match last.insert(publisher, delivery.message) {
            Some(earlier) if earlier > delivery.message => {
                return Err(format!("message {} came after {earlier}", delivery.message));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Nothing is ahead of a message with a higher priority.
fn ranked(queue: usize, drain: &[&DeliveryLog]) -> Result<(), String> {
    let priority = |delivery: &DeliveryLog| kind(queue).priority(delivery.message);
    let mut pairs = drain.windows(2);
    match pairs.find(|pair| priority(pair[0]) < priority(pair[1])) {
        Some(pair) => Err(format!("{} was ahead of {}", pair[0].message, pair[1].message)),
        None => Ok(()),
    }
}

/// What one consumer got first came back to the queue in that order, if its priority is the same.
fn in_place(
    queue: usize,
    place: &BTreeMap<usize, usize>,
    stream: &[&DeliveryLog],
) -> Result<(), String> {
    let mut all: BTreeMap<u8, (usize, usize)> = BTreeMap::new();
    for delivery in stream {
        let Some(&at) = place.get(&delivery.message) else { continue };
        let last = all.insert(kind(queue).priority(delivery.message), (delivery.message, at));
        if let Some((message, earlier)) = last.filter(|(_, earlier)| *earlier > at) {
            let (other, _) = (delivery.message, earlier);
            return Err(format!("message {other} was behind {message} and is now in front"));
        }
    }
    Ok(())
}
