//! if-unused, the number of consumers, and consumers of queues that went away.

use super::Facts;
use super::existence::State;
use crate::history::{Fate, History, NEVER, Span, What};

/// Checks every reply that depends on consumers.
pub fn check(h: &History, facts: &Facts) -> Result<(), String> {
    for (place, op) in h.ops.iter().enumerate() {
        match (&op.what, op.fate, op.counts) {
            (What::DeleteQueue { queue, if_unused, if_empty }, fate, _) => {
                let (least, most) = consumers(h, facts, *queue, &op.span);
                if *if_unused && fate == Fate::Done && least > 0 && !op.silent {
                    return Err(format!("op {place} deleted a queue with {least} consumers"));
                }
                let only_unused = *if_unused && !*if_empty;
                if only_unused && fate == Fate::Refused(406) && most == 0 {
                    return Err(format!("op {place} was refused, but there was no consumer"));
                }
            }
            (What::DeclareQueue { queue, .. }, Fate::Done, Some((_, told))) => {
                let (least, most) = consumers(h, facts, *queue, &op.span);
                if (told as usize) < least || told as usize > most {
                    return Err(format!(
                        "op {place} told of {told} consumers, not {least} to {most}"
                    ));
                }
            }
            _ => {}
        }
    }
    cancelled(h, facts)
}

/// At least and at most so many consumers the queue had.
fn consumers(h: &History, facts: &Facts, queue: usize, at: &Span) -> (usize, usize) {
    let of_queue = || (0..h.consumers.len()).filter(|c| h.consumers[*c].queue == queue);
    let sure = |consumer: &usize| {
        let log = &h.consumers[*consumer];
        let op = &h.ops[log.op];
        let begun = op.fate == Fate::Done && op.span.before(at);
        let stays = h.consumer_ending(*consumer) > at.done.min(h.time);
        begun && stays && !deletable(facts, queue, &op.span, at)
    };
    let may = |consumer: &usize| {
        let op = &h.ops[h.consumers[*consumer].op];
        let real = !matches!(op.fate, Fate::Refused(_) | Fate::Dropped);
        real && !at.before(&op.span) && h.consumer_ended(*consumer) > at.sent
    };
    (of_queue().filter(sure).count(), of_queue().filter(may).count())
}

/// Whether something else may have deleted the queue between a consume and `at`.
fn deletable(facts: &Facts, queue: usize, consume: &Span, at: &Span) -> bool {
    facts.existence.queues[queue].iter().any(|event| {
        let here = event.span != *at && event.span != Span::START;
        here && event.effect == State::Absent
            && !event.span.before(consume)
            && !at.before(&event.span)
    })
}

/// The server cancels only consumers of queues that may be gone.
fn cancelled(h: &History, facts: &Facts) -> Result<(), String> {
    for (place, consumer) in h.consumers.iter().enumerate().filter(|(_, c)| c.cancelled) {
        let op = &h.ops[consumer.op];
        if !facts.existence.deleted_since(consumer.queue, &op.span, NEVER) {
            return Err(format!("consumer {place} was cancelled, its queue was not deleted"));
        }
    }
    Ok(())
}
