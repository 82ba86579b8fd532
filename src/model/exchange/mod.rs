//! An exchange: which of its bindings a message matches.

mod direct;
mod fanout;
mod headers;
mod one_of;
mod stateful;
mod targets;
mod topic;
mod validate;

use std::cell::LazyCell;
use std::collections::BTreeMap;

use amqp::{Basic, Table};

use self::direct::Direct;
use self::fanout::Fanout;
use self::headers::Headers;
use self::one_of::{HashBy, Hashed, Random};
use self::stateful::{SeenLimits, is_stored};
use self::topic::Topic;
use self::validate::{history_length, weight};
use crate::hash::SecretSeed;
use crate::mutant::{self, Mutant};
use crate::topology::spec::{Arguments, Destination, ExchangeKind, ExchangeSpec, Name, clean};

pub(crate) use self::stateful::deduplication_value;
pub use self::stateful::{ExchangeStates, HISTORY_MAX, OwnedMessage, home_of_states};
pub(crate) use self::targets::Target;
pub use self::targets::Targets;
pub use self::validate::{validate_arguments, validate_binding};

/// The argument that names an exchange's alternate exchange.
pub const ALTERNATE_EXCHANGE: &str = "alternate-exchange";

/// A declared exchange and the bindings it is the source of.
#[derive(Debug)]
pub struct Exchange {
    /// What was declared.
    pub spec: ExchangeSpec,
    /// The version of the topology that created it.
    pub version: u64,
    pub(crate) slot: u32,
    /// The exchange that gets messages which no binding matches: of the argument, or else of a
    /// policy.
    pub(crate) alternate: Option<Name>,
    routes: Routes,
    /// How many bindings lead from here to each destination.
    pub(crate) destinations: BTreeMap<Destination, u32>,
    bindings: usize,
}

/// The properties of the message being routed, decoded when an exchange asks for them.
pub(crate) type LazyProperties<'h, F> = LazyCell<Basic<'h>, F>;

/// A binding without its source and destination.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Label {
    pub key: Name,
    pub arguments: Arguments,
}

#[derive(Debug)]
enum Routes {
    /// The default exchange: every queue is bound by its name, which needs no table.
    QueueNames,
    Direct(Direct),
    Fanout(Fanout),
    Topic(Topic),
    Headers(Headers),
    /// The binding keys are weights.
    ConsistentHash(Hashed),
    ModulusHash(Hashed),
    Random(Random),
    /// Keeps its last messages; their number.
    RecentHistory(Fanout, usize),
    /// Takes each value of a header once.
    Deduplication(Fanout, SeenLimits, SecretSeed),
}

impl Exchange {
    pub(crate) fn new(spec: ExchangeSpec, version: u64, slot: u32, seed: SecretSeed) -> Self {
        let routes = match spec.kind {
            ExchangeKind::Direct if spec.name.is_empty() => Routes::QueueNames,
            ExchangeKind::Direct => Routes::Direct(Direct::new(seed)),
            ExchangeKind::Fanout => Routes::Fanout(Fanout::default()),
            ExchangeKind::Topic => Routes::Topic(Topic::new(seed)),
            ExchangeKind::Headers => Routes::Headers(Headers::new(seed)),
            ExchangeKind::ConsistentHash => {
                Routes::ConsistentHash(Hashed::new(HashBy::of(spec.arguments.table())))
            }
            ExchangeKind::ModulusHash => Routes::ModulusHash(Hashed::new(HashBy::Key)),
            ExchangeKind::Random | ExchangeKind::LocalRandom => Routes::Random(Random::default()),
            ExchangeKind::RecentHistory => {
                Routes::RecentHistory(Fanout::default(), history_length(&spec))
            }
            ExchangeKind::Deduplication => {
                Routes::Deduplication(Fanout::default(), validate::seen_limits(&spec), seed)
            }
        };
        let alternate = spec.arguments.table().get(ALTERNATE_EXCHANGE);
        let alternate = alternate.and_then(|name| name.as_str()).and_then(leads_somewhere);
        let destinations = BTreeMap::new();
        Self { spec, version, slot, alternate, routes, destinations, bindings: 0 }
    }

    /// The alternate exchange, of whatever it comes.
    #[must_use]
    pub fn alternate(&self) -> Option<&Name> {
        self.alternate.as_ref()
    }

    /// True if a policy may give it an alternate exchange: not if an argument has done so, and not
    /// the default exchange.
    #[must_use]
    pub fn takes_alternate(&self) -> bool {
        let declared = self.spec.arguments.table().get(ALTERNATE_EXCHANGE);
        declared.is_none() && !self.spec.name.is_empty()
    }

    /// A policy gives it another alternate exchange, or none.
    pub(crate) fn set_alternate(&mut self, alternate: Option<&Name>) {
        let is_kept = alternate.is_none() && mutant::active(Mutant::AlternateKept);
        if self.takes_alternate() && !is_kept {
            self.alternate = alternate.cloned();
        }
    }

    /// How many bindings it is the source of.
    #[must_use]
    pub fn bindings(&self) -> usize {
        self.bindings
    }

    /// How many messages it keeps, if it keeps any.
    pub(crate) fn history_length(&self) -> Option<usize> {
        match self.routes {
            Routes::RecentHistory(_, length) => Some(length),
            _ => None,
        }
    }

    /// Adds a binding that does not exist yet.
    pub(crate) fn add(&mut self, destination: &Destination, label: &Label, target: Target) {
        match &mut self.routes {
            Routes::QueueNames => {}
            Routes::Direct(direct) => direct.add(&label.key, target),
            Routes::Fanout(fanout) => fanout.add(target),
            Routes::Topic(topic) => topic.add(&label.key, target),
            Routes::Headers(headers) => headers.add(&label.arguments, target),
            Routes::ConsistentHash(hashed) => hashed.add(destination, weight(&label.key), target),
            Routes::ModulusHash(hashed) => hashed.add(destination, 1, target),
            Routes::Random(random) => random.add(target),
            Routes::RecentHistory(fanout, _) | Routes::Deduplication(fanout, ..) => {
                fanout.add(target);
            }
        }
        self.bindings += 1;
        if let Some(count) = self.destinations.get_mut(destination) {
            *count += 1;
        } else {
            self.destinations.insert(destination.clone(), 1);
        }
    }

    /// Removes a binding that exists.
    pub(crate) fn remove(&mut self, destination: &Destination, label: &Label, target: Target) {
        match &mut self.routes {
            Routes::QueueNames => {}
            Routes::Direct(direct) => direct.remove(&label.key, target),
            Routes::Fanout(fanout) => fanout.remove(target),
            Routes::Topic(topic) => topic.remove(&label.key, target),
            Routes::Headers(headers) => headers.remove(&label.arguments, target),
            Routes::ConsistentHash(hashed) => {
                hashed.remove(destination, weight(&label.key), target);
            }
            Routes::ModulusHash(hashed) => hashed.remove(destination, 1, target),
            Routes::Random(random) => random.remove(target),
            Routes::RecentHistory(fanout, _) | Routes::Deduplication(fanout, ..) => {
                fanout.remove(target);
            }
        }
        let Some(count) = self.destinations.get_mut(destination) else {
            return;
        };
        *count -= 1;
        self.bindings -= 1;
        if *count == 0 {
            self.destinations.remove(destination);
        }
    }

    /// True if only the first of a message's routing keys counts, or none.
    #[inline]
    pub(crate) fn ignores_further_keys(&self) -> bool {
        !matches!(self.routes, Routes::QueueNames | Routes::Direct(_) | Routes::Topic(_))
    }

    /// Adds the targets of the bindings that match, or goes on with that where it has paused. The
    /// default exchange adds nothing: its targets are looked up by queue name.
    #[inline]
    pub(crate) fn collect<'h, F: FnOnce() -> Basic<'h>>(
        &self,
        key: &str,
        properties: &LazyProperties<'h, F>,
        targets: &mut Targets,
    ) -> Collected {
        let all = match &self.routes {
            Routes::QueueNames => return Collected::ByQueueName,
            Routes::Direct(direct) => direct.collect(key, targets),
            Routes::Fanout(fanout) => fanout.collect(targets),
            Routes::Topic(topic) => topic.collect(key, targets),
            Routes::Headers(patterns) => {
                patterns.collect(properties.headers.unwrap_or(Table::EMPTY), targets)
            }
            Routes::ConsistentHash(hashed) | Routes::ModulusHash(hashed) => {
                hashed.collect(key, properties, targets);
                true
            }
            Routes::Random(random) => {
                random.collect(targets);
                true
            }
            Routes::RecentHistory(fanout, _) => {
                if !targets.goes_on_with_set() && targets.meets_state() && is_stored(properties) {
                    targets.remembering(self.slot);
                }
                fanout.collect(targets)
            }
            Routes::Deduplication(fanout, limits, seed) => {
                let exchange = (self.version, *limits, *seed);
                let is_new = targets.goes_on_with_set()
                    || targets.meets_state() && targets.state.admit(exchange, properties);
                !is_new || fanout.collect(targets)
            }
        };
        if all { Collected::All } else { Collected::Some }
    }
}

/// What an exchange has added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Collected {
    /// All targets.
    All,
    /// Some: the route pauses, and goes on with the same key.
    Some,
    /// The vhost has to look the key up among its queues.
    ByQueueName,
}

/// The alternate exchange of this name. Nothing is bound to the default exchange, so it would lead
/// nowhere.
#[must_use]
pub fn leads_somewhere(alternate: &str) -> Option<Name> {
    Some(clean(alternate)).filter(|name| !name.is_empty())
}
