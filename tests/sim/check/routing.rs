//! Which message went to which queue, and whether what was returned agrees.

use std::collections::BTreeSet;

use super::existence::{Existence, State};
use super::{Facts, Route};
use crate::channel::key_text;
use crate::history::{Fate, History};
use crate::names::takes;

/// Where every message went.
pub fn routes(h: &History, existence: &Existence) -> Vec<Vec<Route>> {
    let begun = begun(h);
    let route = |message, queue| route(h, (existence, &begun), message, queue);
    (0..h.messages.len())
        .map(|message| (0..h.queues.len()).map(|queue| route(message, queue)).collect())
        .collect()
}

/// Commits of which a message was seen: then all of them are published, also if the client never
/// heard of it.
fn begun(h: &History) -> BTreeSet<usize> {
    h.deliveries.iter().filter_map(|delivery| h.messages[delivery.message].effect).collect()
}

fn route(
    h: &History,
    (existence, begun): (&Existence, &BTreeSet<usize>),
    message: usize,
    queue: usize,
) -> Route {
    let log = &h.messages[message];
    let op = &h.ops[log.op];
    // Rolled back, or never committed.
    let Some(effect) = log.effect else { return Route::Not };
    let never = |fate: Fate| matches!(fate, Fate::Dropped | Fate::Refused(_));
    if never(op.fate) || never(h.ops[effect].fate) {
        return Route::Not;
    }
    let present = existence.queue_states(queue, &op.span);
    let exists = |state: &State| *state != State::Absent;
    let (mut must, mut may) = (present.iter().all(exists), present.iter().any(exists));
    if log.exchange == 0 {
        must &= log.key == queue;
        may &= log.key == queue;
    } else if may {
        let key = key_text(h, message);
        let (mut all, mut any) = (false, false);
        for binding in existence.bindings.keys() {
            let fits = binding.exchange == log.exchange
                && binding.queue == queue
                && takes(log.exchange, binding.key, binding.matches, key, log.headers);
            if fits {
                let (surely, perhaps) = existence.bound(binding, &op.span);
                all |= surely;
                any |= perhaps;
            }
        }
        must &= all;
        may &= any;
    }
    let committed = effect != log.op && begun.contains(&effect);
    let done = op.fate == Fate::Done && (committed || h.ops[effect].fate == Fate::Done);
    match (must && done, may) {
        (true, _) => Route::Must,
        (false, true) => Route::May,
        (false, false) => Route::Not,
    }
}

/// A mandatory message comes back if, and only if, no queue takes it.
pub fn check(h: &History, facts: &Facts) -> Result<(), String> {
    for (place, message) in h.messages.iter().enumerate() {
        let routes = &facts.routes[place];
        if message.returned.is_some() && routes.contains(&Route::Must) {
            return Err(format!("message {place} was returned, but a queue takes it"));
        }
        let unroutable = routes.iter().all(|route| *route == Route::Not);
        let due = message.mandatory && message.confirmed && unroutable;
        if due && message.returned.is_none() {
            return Err(format!("message {place} is unroutable and was not returned"));
        }
    }
    Ok(())
}
