//! Bytes of memory that one copy of a topology holds, nearly: names, arguments, and what maps and
//! the allocator take around them.

use std::collections::BTreeSet;

use crate::exchange::Label;
use crate::topology::spec::{Destination, ExchangeSpec, QueueSpec};

/// What an entry takes without its names and arguments, as measured with 100,000 of each.
const QUEUE: usize = 320;
const EXCHANGE: usize = 640;
const BINDING: usize = 480;

/// A queue: its name is a key too.
pub(super) fn of_queue(spec: &QueueSpec) -> usize {
    QUEUE + 2 * spec.name.len() + spec.arguments.len()
}

/// An exchange: its name is a key too.
pub(super) fn of_exchange(spec: &ExchangeSpec) -> usize {
    EXCHANGE + 2 * spec.name.len() + spec.arguments.len()
}

/// A binding. It is found by its destination, and by its source for routing. Headers exchanges keep
/// its arguments once more, in the form in which they are compared; the mean of both.
pub(super) fn of_binding(destination: &Destination, source: &str, label: &Label) -> usize {
    let (Destination::Queue(name) | Destination::Exchange(name)) = destination;
    let names = name.len() + source.len() + 2 * label.key.len();
    BINDING + names + label.arguments.len() * 3 / 2
}

/// All bindings from a source to a destination.
pub(super) fn of_bindings(
    destination: &Destination,
    source: &str,
    labels: &BTreeSet<Label>,
) -> usize {
    labels.iter().map(|label| of_binding(destination, source, label)).sum()
}
