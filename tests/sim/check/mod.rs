//! The reference model: judges a finished history. Every check says only what must be so in every
//! order of events that the history allows.

mod counts;
mod delivery;
mod existence;
mod order;
mod rank;
mod routing;
mod single;
mod usage;

use crate::history::{History, Span};
use existence::{Event, Existence};

/// What the checks share: what existed when, and which message went where.
pub struct Facts {
    existence: Existence,
    /// By message, then queue.
    routes: Vec<Vec<Route>>,
    /// Deliveries by message and queue, in the order they were read.
    seen: std::collections::BTreeMap<(usize, usize), Vec<usize>>,
}

/// Whether a message went to a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// Certainly.
    Must,
    /// In some of the orders that are possible.
    May,
    /// Certainly not.
    Not,
}

/// A rule, and how it was broken.
type Check = fn(&History, &Facts) -> Result<(), String>;

/// Checks everything that needs the whole history.
pub fn all(h: &mut History) {
    let existence = Existence::new(h);
    let routes = routing::routes(h, &existence);
    let mut facts = Facts { existence, routes, seen: Default::default() };
    for (place, delivery) in h.deliveries.iter().enumerate() {
        facts.seen.entry((delivery.message, delivery.queue)).or_default().push(place);
    }
    let checks: [Check; 8] = [
        existence::check,
        routing::check,
        delivery::check,
        order::check,
        counts::check,
        usage::check,
        rank::check,
        single::check,
    ];
    for check in checks {
        if let Err(why) = check(h, &facts) {
            return h.fail(|| why);
        }
    }
}

/// Events that may have been the last before `at`, among those of one object.
fn last_before<'e, E>(events: &'e [Event<E>], at: &Span) -> Vec<&'e Event<E>> {
    let possible = |event: &&Event<E>| event.span != *at && !at.before(&event.span);
    let shadowed = |event: &&Event<E>| {
        events
            .iter()
            .any(|later| later.sure && event.span.before(&later.span) && later.span.before(at))
    };
    events.iter().filter(possible).filter(|event| !shadowed(event)).collect()
}
