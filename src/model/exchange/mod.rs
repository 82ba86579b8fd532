//! An exchange: which of its bindings a message matches.

mod direct;
mod fanout;
mod headers;
mod targets;
mod topic;

use std::cell::LazyCell;

use amqp::Table;

use self::direct::Direct;
use self::fanout::Fanout;
use self::headers::Headers;
use self::topic::Topic;
use crate::hash::{SecretSeed, UntrustedMap};
use crate::mutant::{self, Mutant};
use crate::refusal::Refusal;
use crate::topology::spec::{Arguments, Destination, ExchangeKind, ExchangeSpec, Name, clean};

pub use self::targets::Targets;
pub(crate) use self::targets::{RouteCursor, Target};

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
    pub(crate) destinations: UntrustedMap<Destination, u32>,
    bindings: usize,
}

/// The headers of the message being routed, looked up when an exchange asks for them.
pub(crate) type LazyHeaders<'h, F> = LazyCell<Option<Table<'h>>, F>;

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
}

/// Checks the arguments of a binding to an exchange of this kind.
///
/// # Errors
/// [`Refusal::InvalidXMatch`] for a headers exchange and an x-match that does not exist.
pub fn validate_binding(kind: ExchangeKind, arguments: &Arguments) -> Result<(), Refusal> {
    match kind {
        ExchangeKind::Headers => headers::validate(arguments),
        ExchangeKind::Direct | ExchangeKind::Fanout | ExchangeKind::Topic => Ok(()),
    }
}

impl Exchange {
    pub(crate) fn new(spec: ExchangeSpec, version: u64, slot: u32, seed: SecretSeed) -> Self {
        let routes = match spec.kind {
            ExchangeKind::Direct if spec.name.is_empty() => Routes::QueueNames,
            ExchangeKind::Direct => Routes::Direct(Direct::new(seed)),
            ExchangeKind::Fanout => Routes::Fanout(Fanout::default()),
            ExchangeKind::Topic => Routes::Topic(Topic::new(seed)),
            ExchangeKind::Headers => Routes::Headers(Headers::new(seed)),
        };
        let alternate = spec.arguments.table().get(ALTERNATE_EXCHANGE);
        let alternate = alternate.and_then(|name| name.as_str()).and_then(leads_somewhere);
        let destinations = UntrustedMap::with_hasher(seed);
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

    /// Adds a binding that does not exist yet.
    pub(crate) fn add(&mut self, destination: &Destination, label: &Label, target: Target) {
        match &mut self.routes {
            Routes::QueueNames => {}
            Routes::Direct(direct) => direct.add(&label.key, target),
            Routes::Fanout(fanout) => fanout.add(target),
            Routes::Topic(topic) => topic.add(&label.key, target),
            Routes::Headers(headers) => headers.add(&label.arguments, target),
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

    /// True if all routing keys of a message lead to the same targets.
    #[inline]
    pub(crate) fn ignores_keys(&self) -> bool {
        matches!(self.routes, Routes::Fanout(_) | Routes::Headers(_))
    }

    /// Adds the targets of the bindings that match. The default exchange adds nothing: its targets
    /// are looked up by queue name.
    #[inline]
    pub(crate) fn collect<'h, F: FnOnce() -> Option<Table<'h>>>(
        &self,
        key: &str,
        headers: &LazyHeaders<'h, F>,
        targets: &mut Targets,
    ) -> ByQueueName {
        match &self.routes {
            Routes::QueueNames => return ByQueueName(true),
            Routes::Direct(direct) => direct.collect(key, targets),
            Routes::Fanout(fanout) => fanout.collect(targets),
            Routes::Topic(topic) => topic.collect(key, targets),
            Routes::Headers(patterns) => {
                patterns.collect(headers.unwrap_or(Table::EMPTY), targets);
            }
        }
        ByQueueName(false)
    }
}

/// The alternate exchange of this name. Nothing is bound to the default exchange, so it would lead
/// nowhere.
#[must_use]
pub fn leads_somewhere(alternate: &str) -> Option<Name> {
    Some(clean(alternate)).filter(|name| !name.is_empty())
}

/// True if the vhost has to look the key up among its queues.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ByQueueName(pub bool);
