//! Which message went to which queue, and whether what was returned agrees.

use std::collections::BTreeSet;

use super::existence::{Existence, State};
use super::{Facts, Route};
use crate::channel::{key_at, key_text};
use crate::history::{BindingKey, Fate, History};
use crate::names::{alternate, takes};

/// Where every message went.
pub fn routes(h: &History, existence: &Existence) -> Vec<Vec<Route>> {
    let begun = begun(h);
    (0..h.messages.len())
        .map(|message| {
            let reached = reached(h, existence, message);
            let route = |queue| route(h, (existence, &begun), (message, &reached), queue);
            (0..h.queues.len()).map(route).collect()
        })
        .collect()
}

/// Commits of which a message was seen: then all of them are published, also if the client never
/// heard of it.
fn begun(h: &History) -> BTreeSet<usize> {
    h.deliveries.iter().filter_map(|delivery| h.messages[delivery.message].effect).collect()
}

/// An exchange that a message may have come to.
struct Reached {
    exchange: usize,
    /// It certainly did.
    sure: bool,
}

/// The exchanges a message came to: its own, and while it led nowhere the alternate one.
fn reached(h: &History, existence: &Existence, message: usize) -> Vec<Reached> {
    let log = &h.messages[message];
    let mut all = vec![Reached { exchange: log.exchange, sure: true }];
    while let Some(last) = all.last()
        && let Some(next) = alternate(last.exchange)
        && !all.iter().any(|other| other.exchange == next)
    {
        let (surely, perhaps) = leads(h, existence, message, last.exchange, |_| true);
        let there = existence.exchange_states(next, &h.ops[log.op].span);
        if surely || !there.contains(&State::Present(None)) {
            break;
        }
        let sure = last.sure && !perhaps && !there.contains(&State::Absent);
        all.push(Reached { exchange: next, sure });
    }
    all
}

/// Whether the exchange certainly leads the message to one of these queues, and whether it may.
fn leads(
    h: &History,
    existence: &Existence,
    message: usize,
    exchange: usize,
    to: impl Fn(usize) -> bool,
) -> (bool, bool) {
    let log = &h.messages[message];
    let span = &h.ops[log.op].span;
    let also = log.also.map(|(key, _)| key_at(h, message, key));
    let keys: Vec<&str> = std::iter::once(key_text(h, message)).chain(also).collect();
    let fits = |binding: &&BindingKey| {
        let BindingKey { exchange: from, queue, key, matches } = **binding;
        from == exchange
            && to(queue)
            && keys.iter().any(|text| takes(exchange, key, matches, text, log.headers))
    };
    let bound = existence.bindings.keys().filter(fits).map(|key| existence.bound(key, span));
    bound.fold((false, false), |(all, any), (surely, perhaps)| (all | surely, any | perhaps))
}

fn route(
    h: &History,
    (existence, begun): (&Existence, &BTreeSet<usize>),
    (message, reached): (usize, &[Reached]),
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
    if let Some(died) = log.died {
        // It is routed later than it is rejected. What ended before may have been taken back.
        must &= died.delivery.is_none_or(|rejected| !h.deliveries[rejected].limbo);
        may = true;
    }
    if log.exchange == 0 {
        let named = log.key == queue || log.also.is_some_and(|(key, _)| key == queue);
        must &= named;
        may &= named;
    } else if may {
        let (mut all, mut any) = (false, false);
        for Reached { exchange, sure } in reached {
            let (surely, perhaps) = leads(h, existence, message, *exchange, |to| to == queue);
            all |= surely && *sure;
            any |= perhaps;
        }
        must &= all;
        may &= any;
    }
    let committed = effect != log.op && log.died.is_none() && begun.contains(&effect);
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
