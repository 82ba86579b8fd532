//! The headers exchange: a message goes where the arguments of a binding match its headers.
//!
//! An argument is a condition, and equal ones of all bindings are one. A message is compared with
//! the conditions once: what holds becomes a set of bits. A binding is a set of bits too, so it
//! compares 64 arguments in one step. Bindings with equal arguments are one pattern.

pub(super) mod canonical;
mod conditions;
#[cfg(test)]
mod match_test;
mod pattern;
mod x_match;

use std::collections::BTreeMap;

use amqp::Table;

use self::conditions::Conditions;
use self::pattern::Pattern;
use self::x_match::Mode;
use super::targets::{Target, TargetSet, Targets};
use crate::hash::{SecretSeed, UntrustedMap};
use crate::topology::spec::Arguments;

pub(super) use self::conditions::Met;
pub(super) use self::x_match::validate;

/// The bindings of a headers exchange.
#[derive(Debug)]
pub(super) struct Headers {
    conditions: Conditions,
    /// In the order in which their arguments were first bound.
    patterns: BTreeMap<u64, (Pattern, TargetSet)>,
    /// Where a pattern is in `patterns`.
    places: UntrustedMap<Arguments, u64>,
    next: u64,
    /// Patterns that were added or removed so far: conditions may have other numbers then.
    changes: u64,
}

impl Headers {
    pub fn new(seed: SecretSeed) -> Self {
        Self {
            conditions: Conditions::new(seed),
            patterns: BTreeMap::new(),
            places: UntrustedMap::with_hasher(seed),
            next: 0,
            changes: 0,
        }
    }

    pub fn add(&mut self, arguments: &Arguments, target: Target) {
        let found = self.places.get(arguments).and_then(|place| self.patterns.get_mut(place));
        if let Some((_, targets)) = found {
            return targets.add(target);
        }
        let table = arguments.table();
        let mode = Mode::of(table);
        let ids = mode.fields(table).map(|(key, value)| self.conditions.acquire(key, value));
        let pattern = Pattern::new(mode.any, ids.collect());
        let mut targets = TargetSet::default();
        targets.add(target);
        self.patterns.insert(self.next, (pattern, targets));
        self.places.insert(arguments.clone(), self.next);
        self.next += 1;
        self.changes += 1;
    }

    pub fn remove(&mut self, arguments: &Arguments, target: Target) {
        let Some(place) = self.places.get(arguments) else {
            return;
        };
        let Some((_, targets)) = self.patterns.get_mut(place) else {
            return;
        };
        targets.remove(target);
        if targets.is_empty() {
            self.patterns.remove(place);
            self.places.remove(arguments);
            self.changes += 1;
            let table = arguments.table();
            let fields = Mode::of(table).fields(table);
            fields.for_each(|(key, value)| self.conditions.release(key, value));
        }
    }

    /// Adds the targets of all patterns that the headers meet, or goes on with that; false if the
    /// route pauses.
    pub fn collect(&self, headers: Table<'_>, targets: &mut Targets) -> bool {
        let mut met = targets.headers.take().unwrap_or_default();
        let inside = targets.cursor.inside.take();
        if inside.is_none() || met.changes != self.changes {
            met.changes = self.changes;
            targets.count_work(self.conditions.compare(headers, &mut met));
        }
        let paused = self.match_from(inside.unwrap_or(0), &met, targets);
        targets.headers = Some(met);
        targets.cursor.inside = paused;
        paused.is_none()
    }

    /// Adds the targets of the patterns from one on; the one that the route pauses at.
    fn match_from(&self, first: u64, met: &Met, targets: &mut Targets) -> Option<u64> {
        let mut pauses = false;
        for (place, (pattern, set)) in self.patterns.range(first..) {
            if pauses {
                return Some(*place);
            }
            if *place != first {
                // The one whose targets were being added is gone.
                targets.cursor.left = None;
            }
            let (matches, steps) = pattern.matches(met);
            targets.count_work(steps);
            if matches && !set.collect(targets) {
                return Some(*place);
            }
            pauses = targets.is_spent();
        }
        None
    }
}
