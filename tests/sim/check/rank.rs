//! Who has a lower priority gets nothing while a higher one of the same queue certainly has room.

use super::Facts;
use super::counts::{holds, limit_at};
use crate::history::{DeliveryLog, Fate, History, NEVER, Time, What};
use crate::names::kind;

/// Bytes that a connection may be sent between two quiet moments without a want of flow credit.
const CREDIT: usize = 100_000;

/// What happened between two quiet moments: in between anything may have come in any order.
struct Window {
    from: Time,
    to: Time,
}

impl Window {
    fn holds(&self, delivery: &DeliveryLog) -> bool {
        (self.from..self.to).contains(&delivery.at)
    }
}

/// Checks every delivery to a consumer.
pub fn check(h: &History, facts: &Facts) -> Result<(), String> {
    if h.consumers.iter().all(|consumer| consumer.priority == 0) {
        return Ok(());
    }
    for pair in h.quiets.windows(2) {
        let window = Window { from: pair[0], to: pair[1] };
        for delivery in h.deliveries.iter().filter(|d| window.holds(d) && !d.limbo) {
            let What::Consume { consumer } = h.ops[delivery.asked].what else { continue };
            let log = &h.consumers[consumer];
            if kind(log.queue).single {
                continue;
            }
            let higher = |other: &usize| {
                let other = &h.consumers[*other];
                other.queue == log.queue && other.priority > log.priority
            };
            let mut idle = (0..h.consumers.len()).filter(higher);
            if let Some(idle) = idle.find(|other| has_room(h, facts, *other, &window)) {
                let DeliveryLog { message, at, .. } = delivery;
                return Err(format!(
                    "message {message} went to consumer {consumer} at {at}, but {idle} is of a \
                     higher priority and has room"
                ));
            }
        }
    }
    Ok(())
}

/// Whether the consumer could certainly have been sent a message at every moment of the window.
fn has_room(h: &History, facts: &Facts, consumer: usize, window: &Window) -> bool {
    let log = &h.consumers[consumer];
    let op = &h.ops[log.op];
    let begun = op.fate == Fate::Done && op.span.done < window.from;
    let stays = h.consumer_ending(consumer) > window.to && !log.cancelled;
    let conn = h.channels[log.chan].conn;
    let reads = h.conns[conn].ending > window.to && !facts.deaf_before(h, log.chan, NEVER);
    let limited =
        !log.no_ack && (limited(h, log.chan, window) || h.held_back(window.from, window.to));
    if !begun || !stays || !reads || limited || !credit(h, conn, window) {
        return false;
    }
    let held = |d: &&DeliveryLog| d.asked == log.op && !d.no_ack && came(h, d, window);
    let held = h.deliveries.iter().filter(held).count();
    log.prefetch == 0 || held < usize::from(log.prefetch)
}

/// Whether a limit that the channel's consumers share may have held it back: it was reached, or
/// changed, or others had the permits.
fn limited(h: &History, chan: usize, window: &Window) -> bool {
    let ops = || h.ops.iter().filter(|op| op.span.chan == chan && op.span.sent < window.to);
    if !ops().any(|op| matches!(op.what, What::Limit(limit) if limit > 0)) {
        return false;
    }
    let taken = |op: &crate::history::Op| match op.what {
        What::Limit(_) | What::Qos(_) => op.span.sent > window.from,
        What::Get { .. } => op.span.done > window.from,
        _ => false,
    };
    let held = |d: &&DeliveryLog| d.chan == chan && !d.no_ack && came(h, d, window);
    let limit = limit_at(h, chan, window.from);
    let alone = h.consumers.iter().filter(|other| other.chan == chan).count() == 1;
    let reached = limit > 0 && h.deliveries.iter().filter(held).count() >= usize::from(limit);
    !alone || reached || ops().any(taken)
}

/// Whether a delivery may have been outstanding at some moment of the window.
fn came(h: &History, delivery: &DeliveryLog, window: &Window) -> bool {
    window.holds(delivery) || (delivery.at < window.from && holds(h, delivery, window.from))
}

/// Whether the connection was sent so little that its flow credit lasted.
fn credit(h: &History, conn: usize, window: &Window) -> bool {
    let sent = h.deliveries.iter().filter(|d| window.holds(d) && h.channels[d.chan].conn == conn);
    let bytes: usize = sent.map(|d| h.messages[d.message].size + 500).sum();
    bytes < CREDIT
}
