//! Nothing lost, nothing twice, nothing out of nowhere: every message in every queue.

use super::{Facts, Route};
use crate::history::{DeliveryLog, Fate, History, NEVER, Settle, Span, Time, What};
use crate::names::{HOLD_MIN_US, kind};

/// Checks every message in every queue.
pub fn check(h: &History, facts: &Facts) -> Result<(), String> {
    for (&(message, queue), places) in &facts.seen {
        let seen: Vec<&DeliveryLog> = places.iter().map(|place| &h.deliveries[*place]).collect();
        let name = format!("message {message} in queue {queue} ({})", h.queues[queue]);
        if facts.routes[message][queue] == Route::Not {
            return Err(format!("{name} was never routed there"));
        }
        not_early(h, message, &seen).map_err(|why| format!("{name} {why}"))?;
        expired(h, message, queue, &seen).map_err(|why| format!("{name} {why}"))?;
        held(h, message, queue, &seen).map_err(|why| format!("{name} {why}"))?;
        first_and_again(h, queue, &seen).map_err(|why| format!("{name} {why}"))?;
        one_at_a_time(h, &seen).map_err(|why| format!("{name} {why}"))?;
        ghost(h, facts, message, queue, &seen).map_err(|why| format!("{name} {why}"))?;
    }
    for message in 0..h.messages.len() {
        for queue in 0..h.queues.len() {
            if facts.routes[message][queue] == Route::Must && lost(h, facts, message, queue) {
                let name = &h.queues[queue];
                return Err(format!("message {message} is lost in queue {queue} ({name})"));
            }
        }
    }
    Ok(())
}

/// Nobody sees a message before what puts it into its queues was asked for.
fn not_early(h: &History, message: usize, seen: &[&DeliveryLog]) -> Result<(), String> {
    let effect = h.messages[message].effect.map_or(NEVER, |effect| h.ops[effect].span.sent);
    match seen.first() {
        Some(first) if first.at < effect => {
            Err(format!("was seen at {}, before its commit", first.at))
        }
        _ => Ok(()),
    }
}

/// Nobody who asks when a message has expired gets it. Queues of the second kind keep it.
fn expired(h: &History, message: usize, queue: usize, seen: &[&DeliveryLog]) -> Result<(), String> {
    let log = &h.messages[message];
    let lives = log.expiration_ms.into_iter().chain(kind(queue).limits.ttl_ms).min();
    let Some(ms) = lives.filter(|_| !kind(queue).shuffled) else { return Ok(()) };
    let dead_us = log.arrived_us.saturating_add((ms + 1) * 1000);
    match seen.iter().find(|delivery| h.ops[delivery.asked].sent_us > dead_us) {
        Some(late) => Err(format!("lives for {ms} ms and was delivered at {} us", late.at_us)),
        None => Ok(()),
    }
}

/// A queue that holds enqueues delivers none before its time.
fn held(h: &History, message: usize, queue: usize, seen: &[&DeliveryLog]) -> Result<(), String> {
    let effect = h.messages[message].effect.filter(|_| kind(queue).shuffled);
    let Some(sent_us) = effect.map(|effect| h.ops[effect].sent_us) else { return Ok(()) };
    match seen.iter().find(|delivery| delivery.at_us < sent_us + HOLD_MIN_US) {
        Some(early) => Err(format!("was sent at {sent_us} us and seen at {} us", early.at_us)),
        None => Ok(()),
    }
}

/// Not flagged the first time, flagged every other time.
fn first_and_again(h: &History, queue: usize, seen: &[&DeliveryLog]) -> Result<(), String> {
    let fresh = seen.iter().filter(|d| !d.redelivered).count();
    if fresh > 1 {
        return Err(format!("was delivered {fresh} times without the redelivered flag"));
    }
    let Some(first) = seen.first() else { return Ok(()) };
    if first.redelivered && !unseen_delivery(h, queue, first.at) {
        return Err("is flagged as redelivered and was not delivered before".into());
    }
    Ok(())
}

/// Whether a delivery from the queue may have been lost on the way to a client before `time`: its
/// channel ended, or recovered, with deliveries still to be read.
fn unseen_delivery(h: &History, queue: usize, time: Time) -> bool {
    let ended = |chan: usize| h.channels[chan].ending < time;
    h.ops.iter().any(|op| match op.what {
        What::Get { queue: q, no_ack: false } => {
            q == queue && op.span.sent < time && ended(op.span.chan)
        }
        What::Consume { consumer } => {
            let log = &h.consumers[consumer];
            log.queue == queue
                && op.span.sent < time
                && (ended(log.chan) || recovers(h, log.chan, time))
        }
        _ => false,
    })
}

fn recovers(h: &History, chan: usize, time: Time) -> bool {
    h.ops.iter().any(|op| op.what == What::Recover && op.span.chan == chan && op.span.sent < time)
}

/// A message is in one pair of hands at most, and settled is settled.
fn one_at_a_time(h: &History, seen: &[&DeliveryLog]) -> Result<(), String> {
    let held: Vec<&&DeliveryLog> = seen.iter().filter(|d| !d.limbo).collect();
    for pair in held.windows(2) {
        let (before, after) = (pair[0], pair[1]);
        if before.no_ack {
            return Err("was delivered again after it was delivered without acknowledgement".into());
        }
        let ending = h.channels[before.chan].ending;
        match before.settled {
            None if ending >= after.at => {
                return Err(format!(
                    "was delivered on chan {} while chan {} held it",
                    after.chan, before.chan
                ));
            }
            Some((how, op)) => {
                let op = &h.ops[op];
                let sure = op.fate == Fate::Done;
                if sure && how != Settle::Requeue {
                    return Err(format!("was delivered again after {how:?}"));
                }
                if op.span.sent > after.at && ending >= after.at {
                    return Err(format!(
                        "was delivered on chan {} before chan {} gave it back",
                        after.chan, before.chan
                    ));
                }
            }
            None => {}
        }
    }
    Ok(())
}

/// What was in a queue that was deleted does not come out of the next one of its name.
fn ghost(
    h: &History,
    facts: &Facts,
    message: usize,
    queue: usize,
    seen: &[&DeliveryLog],
) -> Result<(), String> {
    let published = h.ops[h.messages[message].op].span;
    for event in &facts.existence.queues[queue] {
        let deleted = event.sure && event.effect == super::existence::State::Absent;
        if !deleted || !published.before(&event.span) || published.done == NEVER {
            continue;
        }
        let after = |d: &&&DeliveryLog| event.span.before(&h.ops[d.asked].span);
        if let Some(ghost) = seen.iter().find(after) {
            return Err(format!(
                "came back at {} after the queue was deleted: {event:?}",
                ghost.at
            ));
        }
    }
    Ok(())
}

/// A message that must be in the queue, or have been taken from it, and is not.
fn lost(h: &History, facts: &Facts, message: usize, queue: usize) -> bool {
    let log = &h.messages[message];
    if log.expiration_ms.is_some() || kind(queue).limits.lose() {
        return false;
    }
    let (published, effect) = (h.ops[log.op].span, h.ops[log.effect.unwrap_or(log.op)].span);
    if facts.existence.deleted_since(queue, &published, h.drained)
        || purged_since(h, queue, &effect)
    {
        return false;
    }
    let none = Vec::new();
    let seen = facts.seen.get(&(message, queue)).unwrap_or(&none);
    let last = seen.iter().map(|place| &h.deliveries[*place]).rfind(|d| !d.limbo);
    let taken = match last {
        Some(delivery) if delivery.no_ack => true,
        // Given back, or held by a channel that ended: it must have come again.
        Some(delivery) => match delivery.settled {
            Some((Settle::Requeue, _)) | None => false,
            Some((_, op)) => h.ops[op].fate != Fate::Dropped,
        },
        None => false,
    };
    // It may have been carried out.
    let taken_in_limbo = seen.iter().map(|place| &h.deliveries[*place]).any(|d| {
        let gone =
            |(how, op): (Settle, usize)| how != Settle::Requeue && h.ops[op].fate != Fate::Dropped;
        d.limbo && d.settled.is_some_and(gone)
    });
    let seen_automatic = seen.iter().any(|place| h.deliveries[*place].no_ack);
    let back = last.map_or(0, |delivery| match delivery.settled {
        Some((_, op)) => h.ops[op].span.sent.min(h.channels[delivery.chan].ending),
        None => h.channels[delivery.chan].ending,
    });
    !taken && !taken_in_limbo && !seen_automatic && !unseen_automatic(h, queue, back)
}

fn purged_since(h: &History, queue: usize, span: &Span) -> bool {
    h.ops.iter().any(|op| {
        op.what == (What::Purge { queue })
            && !matches!(op.fate, Fate::Refused(_) | Fate::Dropped)
            && !op.span.before(span)
    })
}

/// Whether the queue had, after `back`, a consumer without acknowledgement whose channel ended with
/// deliveries on the way.
fn unseen_automatic(h: &History, queue: usize, back: Time) -> bool {
    let over = |chan: usize| h.channels[chan].ending != NEVER && h.channels[chan].ended >= back;
    h.ops.iter().any(|op| match op.what {
        What::Get { queue: q, no_ack: true } => {
            q == queue && over(op.span.chan) && op.counts.is_none()
        }
        What::Consume { consumer } => {
            let log = &h.consumers[consumer];
            let last = h.deliveries.last();
            let drain = last.is_some_and(|last| last.drained && last.chan == log.chan);
            // One that was cancelled in order has got all that was sent to it.
            let cancelled = log.ended <= h.channels[log.chan].ending;
            log.queue == queue && log.no_ack && over(log.chan) && !drain && !cancelled
        }
        _ => false,
    })
}
