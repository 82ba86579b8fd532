//! A hash exchange: each destination has a lot for every message, drawn from a hash of both, and
//! the best lot wins (weighted rendezvous hashing).
//!
//! A destination that joins takes only messages that it wins, from all others alike, and one that
//! leaves loses only its own: nothing else moves. The lots depend on names and weights alone, so
//! the order of the bindings, a restart, and a queue that is declared again change nothing.
//! RabbitMQ numbers buckets in the order of the bindings, so that there more keys move.
//!
//! A draw costs about a nanosecond for each destination: lots of equal weights are compared as
//! numbers, and only the best of each weight needs a logarithm.

use std::collections::BTreeMap;

use amqp::Basic;

use super::by::HashBy;
use super::stable::{StableHash, mix};
use crate::exchange::LazyProperties;
use crate::exchange::targets::{Target, Targets};
use crate::hash::{Map, Seed};
use crate::mutant::{self, Mutant};
use crate::topology::spec::Destination;

/// Draws in a step of routing.
const DRAWS_PER_STEP: usize = 16;

/// The bindings of a hash exchange.
#[derive(Debug)]
pub(in crate::exchange) struct Hashed {
    by: HashBy,
    members: Map<Target, Member>,
    /// By weight: the destinations of that weight, with the hashes of their names.
    groups: BTreeMap<u64, Vec<(u64, Target)>>,
}

/// Where a destination is in the groups.
#[derive(Debug, Clone, Copy)]
struct Member {
    /// The sum of its bindings' weights.
    weight: u64,
    at: usize,
}

impl Hashed {
    pub fn new(by: HashBy) -> Self {
        // The keys are numbers of this broker, so the seed protects nothing.
        Self { by, members: Map::with_hasher(Seed::default()), groups: BTreeMap::new() }
    }

    /// Adds a binding of this weight.
    pub fn add(&mut self, destination: &Destination, weight: u32, target: Target) {
        let before = self.take(target);
        self.put(destination, before + u64::from(weight), target);
    }

    /// Removes a binding of this weight. The destination leaves with its last binding.
    pub fn remove(&mut self, destination: &Destination, weight: u32, target: Target) {
        let before = self.take(target);
        let weight = before.saturating_sub(weight.into());
        if weight > 0 {
            self.put(destination, weight, target);
        }
    }

    /// Removes a destination; its weight.
    fn take(&mut self, target: Target) -> u64 {
        let Some(Member { weight, at }) = self.members.remove(&target) else { return 0 };
        let Some(group) = self.groups.get_mut(&weight) else { return 0 };
        group.swap_remove(at);
        if let Some((_, moved)) = group.get(at) {
            self.members.insert(*moved, Member { weight, at });
        }
        if group.is_empty() {
            self.groups.remove(&weight);
        }
        weight
    }

    fn put(&mut self, destination: &Destination, weight: u64, target: Target) {
        let group = self.groups.entry(weight).or_default();
        self.members.insert(target, Member { weight, at: group.len() });
        group.push((name_hash(destination), target));
    }

    pub fn collect<'h, F: FnOnce() -> Basic<'h>>(
        &self,
        key: &str,
        properties: &LazyProperties<'h, F>,
        targets: &mut Targets,
    ) {
        let hash = self.by.hash(key, properties);
        let mut best: Option<(f64, Target)> = None;
        for (weight, group) in &self.groups {
            targets.count_work(1 + group.len() / DRAWS_PER_STEP);
            let Some((lot, target)) = best_lot(group, hash) else { continue };
            let time = waiting_time(lot, *weight);
            if best.is_none_or(|(other, _)| time < other) {
                best = Some((time, target));
            }
        }
        if let Some((_, target)) = best {
            targets.push(target);
        }
    }
}

/// The highest lot for a message among destinations of one weight.
fn best_lot(group: &[(u64, Target)], hash: u64) -> Option<(u64, Target)> {
    if mutant::active(Mutant::HashByPlace) {
        let place = hash % group.len().max(1) as u64;
        return group.get(place as usize).map(|member| (hash, member.1));
    }
    group.iter().map(|(name, target)| (mix(name ^ hash), *target)).max_by_key(|(lot, _)| *lot)
}

/// The time until the first event of a process of this rate, if the lot is its chance: of several,
/// each is the first with a chance in proportion to its rate.
fn waiting_time(lot: u64, rate: u64) -> f64 {
    const BITS: u32 = f64::MANTISSA_DIGITS;
    let chance = ((lot >> (u64::BITS - BITS)) as f64 + 0.5) / (1_u64 << BITS) as f64;
    -chance.ln() / rate as f64
}

fn name_hash(destination: &Destination) -> u64 {
    let (kind, name) = match destination {
        Destination::Queue(name) => (0, name),
        Destination::Exchange(name) => (1, name),
    };
    let mut hash = StableHash::default();
    hash.number(kind);
    hash.bytes(name.as_bytes());
    hash.finish()
}
