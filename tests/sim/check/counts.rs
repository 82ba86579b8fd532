//! What is ready is found: get-empty, the counts in replies, purge, if-empty, and consumers that
//! had room when nothing moved.

use super::{Facts, Route};
use crate::history::{DeliveryLog, Fate, History, NEVER, Settle, Span, Time, What};
use crate::names::kind;

/// Checks every reply that counts messages, and every quiet moment.
pub fn check(h: &History, facts: &Facts) -> Result<(), String> {
    for (place, op) in h.ops.iter().enumerate().filter(|(_, op)| op.fate == Fate::Done) {
        let (queue, got) = match op.what {
            What::Get { queue, .. } if op.counts.is_some() => (queue, op.delivery),
            What::DeclareQueue { queue, mismatch: false, .. } if op.counts.is_some() => {
                (queue, None)
            }
            What::DeleteQueue { queue, if_empty: true, .. } if op.counts.is_some() => (queue, None),
            What::Purge { queue } => {
                purged(h, facts, queue, op.span).map_err(|why| format!("op {place}: {why}"))?;
                continue;
            }
            _ => continue,
        };
        let ready = ready(h, facts, queue, &op.span, got).count();
        let told = op.counts.map_or(0, |(messages, _)| messages as usize);
        let most = most(h, facts, queue, &op.span);
        let if_empty = matches!(op.what, What::DeleteQueue { .. });
        if told < ready || told > most || (if_empty && told > 0) {
            return Err(format!(
                "op {place} found {told} messages, {ready} to {most} were ready: {:?}",
                op.what
            ));
        }
    }
    for quiet in &h.quiets {
        starving(h, facts, *quiet)?;
    }
    Ok(())
}

/// At most so many messages may be in the queue.
fn most(h: &History, facts: &Facts, queue: usize, at: &Span) -> usize {
    let routed = |message: &usize| facts.routes[*message][queue] != Route::Not;
    let sent = |message: &usize| {
        h.messages[*message].effect.is_some_and(|effect| !at.before(&h.ops[effect].span))
    };
    (0..h.messages.len()).filter(routed).filter(sent).count()
}

/// When the message had certainly arrived in the queue, as seen by `at`. A shuffled queue holds it
/// for a while, and a dead letter is on its way, so what the same channel does next may come too
/// early.
fn arrived(h: &History, message: usize, queue: usize, at: &Span) -> bool {
    let log = &h.messages[message];
    let Some(effect) = log.effect.map(|effect| h.ops[effect].span) else { return false };
    let at_once = !kind(queue).shuffled && log.died.is_none();
    let behind = effect.chan == at.chan && effect.seq < at.seq && at_once;
    log.arrived < at.sent || behind
}

/// Messages that were certainly ready while `at` was carried out.
fn ready<'a>(
    h: &'a History,
    facts: &'a Facts,
    queue: usize,
    at: &'a Span,
    got: Option<usize>,
) -> impl Iterator<Item = usize> + 'a {
    let got = got.map(|delivery| h.deliveries[delivery].message);
    (0..h.messages.len()).filter(move |message| {
        Some(*message) != got
            && facts.routes[*message][queue] == Route::Must
            && waits(h, facts, *message, queue, at)
    })
}

/// Whether the message certainly waited in the queue the whole time: it came, or came back, before,
/// and the next client that got it asked only later.
fn waits(h: &History, facts: &Facts, message: usize, queue: usize, at: &Span) -> bool {
    let Some(seen) = facts.seen.get(&(message, queue)) else { return false };
    let seen: Vec<&DeliveryLog> = seen.iter().map(|place| &h.deliveries[*place]).collect();
    let later = |d: &DeliveryLog| at.before(&h.ops[d.asked].span);
    let Some(next) = seen.iter().position(|d| later(d)) else { return false };
    if next == 0 {
        return !seen[0].redelivered && arrived(h, message, queue, at);
    }
    let before = seen[next - 1];
    if before.limbo || seen[next..].iter().any(|d| d.limbo) {
        return false;
    }
    let Some(free) = released(h, before, at) else { return false };
    !others(h, queue, free, at, before.chan)
}

/// Since when the message was certainly back in the queue, if it was before `at`.
fn released(h: &History, delivery: &DeliveryLog, at: &Span) -> Option<Time> {
    if let Some((how, op)) = delivery.settled {
        let op = &h.ops[op];
        // Who hears of a commit finds what it gave back from anywhere.
        let seen = op.span.chan == at.chan || op.what == What::TxCommit;
        let done = op.fate == Fate::Done && how == Settle::Requeue && seen;
        return (done && op.span.before(at)).then_some(op.span.sent);
    }
    let channel = &h.channels[delivery.chan];
    (channel.ending != NEVER && channel.ended < at.sent).then_some(channel.ending)
}

/// Whether anybody else may have taken from the queue in the meantime.
fn others(h: &History, queue: usize, since: Time, at: &Span, former: usize) -> bool {
    h.ops.iter().any(|op| {
        let ended = match op.what {
            What::Get { queue: q, .. } if q == queue => op.span.done,
            What::Consume { consumer } if h.consumers[consumer].queue == queue => {
                h.consumer_ended(consumer)
            }
            _ => return false,
        };
        let gone = op.span.chan == former && h.channels[former].ended < at.sent;
        op.span != *at && !gone && op.span.sent < at.done && ended > since
    })
}

/// What was ready before a purge is not there after it.
fn purged(h: &History, facts: &Facts, queue: usize, at: Span) -> Result<(), String> {
    match ready(h, facts, queue, &at, None).next() {
        Some(message) => Err(format!("message {message} survived a purge")),
        None => Ok(()),
    }
}

/// At a quiet moment no message waits for a consumer that has room.
fn starving(h: &History, facts: &Facts, quiet: Time) -> Result<(), String> {
    for consumer in 0..h.consumers.len() {
        let log = &h.consumers[consumer];
        let begun = h.ops[log.op].span.done < quiet && h.ops[log.op].fate == Fate::Done;
        let over = h.consumer_ending(consumer) < quiet || h.consumer_ended(consumer) < quiet;
        let deaf = facts.deaf_before(h, log.chan, quiet);
        if !begun || over || deaf || log.cancelled {
            continue;
        }
        let held = h
            .deliveries
            .iter()
            .filter(|d| d.asked == log.op && d.at < quiet && !d.no_ack && holds(h, d, quiet));
        // Then even a consumer that holds nothing is sent no large message.
        let held_back = !log.no_ack && h.held_back(quiet, quiet);
        let full = log.prefetch != 0 && held.count() >= usize::from(log.prefetch);
        if held_back || full {
            continue;
        }
        let limit = limit_at(h, log.chan, quiet);
        if !log.no_ack && limit != 0 && held_on(h, log.chan, quiet) >= usize::from(limit) {
            continue;
        }
        if let Some(message) = idle_message(h, facts, log.queue, quiet) {
            return Err(format!(
                "message {message} waits at {quiet}, consumer {consumer} has room"
            ));
        }
    }
    Ok(())
}

/// The limit that the consumers of a channel share at a quiet moment; 0: none.
pub(super) fn limit_at(h: &History, chan: usize, quiet: Time) -> u16 {
    let limits = h.ops.iter().filter(|op| op.span.chan == chan && op.span.sent < quiet);
    let mut limits = limits.filter_map(|op| match op.what {
        What::Limit(limit) => Some(limit),
        What::Qos(_) => Some(0),
        _ => None,
    });
    limits.next_back().unwrap_or(0)
}

/// Deliveries of a channel that are not settled at a quiet moment.
fn held_on(h: &History, chan: usize, quiet: Time) -> usize {
    let held = |d: &&DeliveryLog| d.chan == chan && d.at < quiet && !d.no_ack;
    h.deliveries.iter().filter(held).filter(|d| holds(h, d, quiet)).count()
}

pub(super) fn holds(h: &History, delivery: &DeliveryLog, time: Time) -> bool {
    let settled = delivery.settled.is_some_and(|(_, op)| h.ops[op].span.sent < time);
    !settled && h.channels[delivery.chan].ending > time
}

/// A message that had arrived, nobody held, and that was delivered later.
fn idle_message(h: &History, facts: &Facts, queue: usize, quiet: Time) -> Option<usize> {
    (0..h.messages.len()).find(|message| {
        let there =
            facts.routes[*message][queue] == Route::Must && h.messages[*message].arrived <= quiet;
        let seen = facts.seen.get(&(*message, queue));
        there
            && seen.is_some_and(|seen| {
                let seen = || seen.iter().map(|place| &h.deliveries[*place]);
                let held = seen().any(|d| d.at < quiet && holds(h, d, quiet));
                !held && seen().any(|d| d.at > quiet && !d.redelivered)
            })
    })
}

impl Facts {
    /// Whether the channel's client had stopped reading.
    pub(super) fn deaf_before(&self, h: &History, chan: usize, time: Time) -> bool {
        h.deaf.get(&h.channels[chan].conn).is_some_and(|since| *since < time)
    }
}
