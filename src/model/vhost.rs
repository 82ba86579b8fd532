//! A vhost: its exchanges, its queues and the bindings between them.

use std::cell::LazyCell;
use std::collections::BTreeMap;

use amqp::Table;

use crate::exchange::{Exchange, Label, LazyHeaders, Target, Targets};
use crate::hash::{Map, Seed, Set};
use crate::mutant::{self, Mutant};
use crate::spec::{Arguments, Binding, Destination, ExchangeKind, ExchangeSpec, Name, QueueSpec};

/// The exchanges of every vhost; the first is the default exchange.
const DEFAULTS: [(&str, ExchangeKind); 7] = [
    ("", ExchangeKind::Direct),
    ("amq.direct", ExchangeKind::Direct),
    ("amq.fanout", ExchangeKind::Fanout),
    ("amq.topic", ExchangeKind::Topic),
    ("amq.headers", ExchangeKind::Headers),
    ("amq.match", ExchangeKind::Headers),
    (TRACE, ExchangeKind::Topic),
];
const TRACE: &str = "amq.rabbitmq.trace";

/// A declared queue as every shard knows it; its messages are known at home alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueEntry {
    /// What was declared.
    pub spec: QueueSpec,
    /// The version of the topology that created it.
    pub version: u64,
}

/// A vhost: names in it have nothing to do with the same names in another.
#[derive(Debug)]
pub struct Vhost {
    seed: Seed,
    queues: Map<Name, QueueEntry>,
    /// By slot; `None` waits to be used again.
    exchanges: Vec<Option<Exchange>>,
    slots: Map<Name, u32>,
    free: Vec<u32>,
    /// All bindings by destination and source, so that what is deleted finds its own.
    incoming: Map<Destination, BTreeMap<Name, Set<Label>>>,
}

impl Vhost {
    pub(crate) fn new(version: u64, seed: Seed) -> Self {
        let mut vhost = Self {
            seed,
            queues: Map::with_hasher(seed),
            exchanges: Vec::new(),
            slots: Map::with_hasher(seed),
            free: Vec::new(),
            incoming: Map::with_hasher(seed),
        };
        DEFAULTS.iter().for_each(|&(name, kind)| vhost.add_exchange(version, default(name, kind)));
        vhost
    }

    /// The exchange with this name; the default exchange has the empty one.
    #[inline]
    #[must_use]
    pub fn exchange(&self, name: &str) -> Option<&Exchange> {
        self.slots.get(name).and_then(|&slot| self.at(slot))
    }

    /// The queue with this name.
    #[inline]
    #[must_use]
    pub fn queue(&self, name: &str) -> Option<&QueueEntry> {
        self.queues.get(name)
    }

    /// All exchanges, in no order that means anything: sort what is shown.
    pub fn exchanges(&self) -> impl Iterator<Item = &Exchange> {
        self.exchanges.iter().flatten()
    }

    /// All queues, in no order that means anything: sort what is shown.
    pub fn queues(&self) -> impl Iterator<Item = &QueueEntry> {
        self.queues.values()
    }

    /// Whether this very binding exists.
    #[must_use]
    pub fn has_binding(&self, binding: &Binding) -> bool {
        self.incoming
            .get(&binding.destination)
            .and_then(|sources| sources.get(&binding.source))
            .is_some_and(|labels| labels.contains(&label(binding)))
    }

    /// All bindings but those of the default exchange, in no order that means anything.
    pub fn bindings(&self) -> impl Iterator<Item = Binding> {
        let sources = self.incoming.iter().flat_map(|(destination, sources)| {
            sources.iter().map(move |(source, labels)| (destination, source, labels))
        });
        sources.flat_map(|(destination, source, labels)| {
            labels.iter().map(|label| Binding {
                source: source.clone(),
                destination: destination.clone(),
                key: label.key.clone(),
                arguments: label.arguments.clone(),
            })
        })
    }

    /// How many bindings the exchange is the source of; 0 if there is no such exchange.
    #[must_use]
    pub fn bindings_from(&self, exchange: &str) -> usize {
        self.exchange(exchange).map_or(0, Exchange::bindings)
    }

    /// How many bindings lead to the queue, the default exchange's not counted.
    #[must_use]
    pub fn bindings_to_queue(&self, name: &str) -> usize {
        let sources = self.incoming.get(&Destination::Queue(name.into()));
        sources.map_or(0, |sources| sources.values().map(Set::len).sum())
    }

    /// The exchanges that a binding leads from to the destination, by name.
    pub fn sources_to(&self, destination: &Destination) -> impl Iterator<Item = &str> {
        let sources = self.incoming.get(destination);
        sources.into_iter().flat_map(|sources| sources.keys().map(AsRef::as_ref))
    }

    /// Adds the queues that a message goes to from the exchange to `targets`, each once, however
    /// many of its keys and of the bindings lead there, and in however many circles. Every exchange
    /// on the way that leads nowhere hands the message to its alternate exchange.
    ///
    /// `headers` is asked for the message's headers if an exchange on the way looks at them.
    #[inline]
    pub fn route<'h>(
        &self,
        exchange: &Exchange,
        keys: &[&str],
        headers: impl FnOnce() -> Option<Table<'h>>,
        targets: &mut Targets,
    ) {
        let headers = LazyCell::new(headers);
        targets.found = false;
        self.step(exchange, keys, &headers, targets);
        if exchange.alternate.is_some() || targets.exchange(0).is_some() {
            self.follow(exchange, keys, &headers, targets);
        }
    }

    #[inline]
    fn step<'h, F: FnOnce() -> Option<Table<'h>>>(
        &self,
        exchange: &Exchange,
        keys: &[&str],
        headers: &LazyHeaders<'h, F>,
        targets: &mut Targets,
    ) {
        for key in keys {
            if exchange.collect(key, headers, targets).0
                && let Some(queue) = self.queues.get(*key)
            {
                targets.queue(queue.spec.id, queue.spec.home);
            }
        }
    }

    /// Goes on from the exchanges that were reached, each once.
    #[cold]
    fn follow<'h, F: FnOnce() -> Option<Table<'h>>>(
        &self,
        start: &Exchange,
        keys: &[&str],
        headers: &LazyHeaders<'h, F>,
        targets: &mut Targets,
    ) {
        self.reach_alternate(start, targets);
        let mut nth = 0;
        while let Some(slot) = targets.exchange(nth) {
            nth += 1;
            if slot != start.slot
                && let Some(exchange) = self.at(slot)
            {
                targets.found = false;
                self.step(exchange, keys, headers, targets);
                self.reach_alternate(exchange, targets);
            }
        }
        targets.forget_exchanges();
    }

    /// Reaches the alternate exchange, if there is one, of an exchange that led nowhere. What it
    /// leads to may have been reached before: that counts as somewhere, as in RabbitMQ.
    fn reach_alternate(&self, exchange: &Exchange, targets: &mut Targets) {
        if let Some(name) = &exchange.alternate
            && !targets.found
            && !mutant::active(Mutant::AlternateIgnored)
            && let Some(&slot) = self.slots.get(name)
        {
            targets.exchange_reached(slot);
        }
    }

    pub(crate) fn add_exchange(&mut self, version: u64, spec: ExchangeSpec) {
        if self.slots.contains_key(&spec.name) {
            return;
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.exchanges.push(None);
            // 2^32 exchanges do not fit into memory.
            (self.exchanges.len() - 1) as u32
        });
        self.slots.insert(spec.name.clone(), slot);
        self.exchanges[slot as usize] = Some(Exchange::new(spec, version, slot, self.seed));
    }

    pub(crate) fn remove_exchange(&mut self, name: &str) {
        self.remove_bindings_to(&Destination::Exchange(name.into()));
        let Some(slot) = self.slots.remove(name) else {
            return;
        };
        let Some(exchange) = self.exchanges[slot as usize].take() else {
            return;
        };
        self.free.push(slot);
        for destination in exchange.destinations.keys() {
            self.forget_source(destination, name);
        }
    }

    pub(crate) fn add_queue(&mut self, version: u64, spec: QueueSpec) {
        self.queues.entry(spec.name.clone()).or_insert(QueueEntry { spec, version });
    }

    pub(crate) fn remove_queue(&mut self, name: &str) {
        self.remove_bindings_to(&Destination::Queue(name.into()));
        self.queues.remove(name);
    }

    pub(crate) fn bind(&mut self, binding: Binding) {
        let Some(target) = self.target(&binding.destination) else {
            return;
        };
        let Some(&slot) = self.slots.get(&binding.source) else {
            return;
        };
        let Some(exchange) = &mut self.exchanges[slot as usize] else {
            return;
        };
        let label = label(&binding);
        let sources = self.incoming.entry(binding.destination.clone()).or_default();
        let labels = sources.entry(binding.source).or_insert_with(|| Set::with_hasher(self.seed));
        if labels.contains(&label) {
            return;
        }
        exchange.add(&binding.destination, &label, target);
        labels.insert(label);
    }

    pub(crate) fn unbind(&mut self, binding: &Binding) {
        let Some(sources) = self.incoming.get_mut(&binding.destination) else {
            return;
        };
        let Some(labels) = sources.get_mut(&binding.source) else {
            return;
        };
        let label = label(binding);
        if !labels.remove(&label) {
            return;
        }
        if labels.is_empty() {
            self.forget_source(&binding.destination, &binding.source);
        }
        let Some(target) = self.target(&binding.destination) else {
            return;
        };
        if let Some(exchange) = self.exchange_mut(&binding.source) {
            exchange.remove(&binding.destination, &label, target);
        }
    }

    fn remove_bindings_to(&mut self, destination: &Destination) {
        let Some(target) = self.target(destination) else {
            return;
        };
        let Some(sources) = self.incoming.remove(destination) else {
            return;
        };
        for (source, labels) in sources {
            let Some(exchange) = self.exchange_mut(&source) else {
                continue;
            };
            labels.iter().for_each(|label| exchange.remove(destination, label, target));
        }
    }

    fn forget_source(&mut self, destination: &Destination, source: &str) {
        let Some(sources) = self.incoming.get_mut(destination) else {
            return;
        };
        sources.remove(source);
        if sources.is_empty() {
            self.incoming.remove(destination);
        }
    }

    fn target(&self, destination: &Destination) -> Option<Target> {
        match destination {
            Destination::Queue(name) => {
                let spec = &self.queues.get(name)?.spec;
                Some(Target::Queue(spec.id, spec.home))
            }
            Destination::Exchange(name) => self.slots.get(name).copied().map(Target::Exchange),
        }
    }

    #[inline]
    fn at(&self, slot: u32) -> Option<&Exchange> {
        self.exchanges.get(slot as usize).and_then(Option::as_ref)
    }

    fn exchange_mut(&mut self, name: &str) -> Option<&mut Exchange> {
        let &slot = self.slots.get(name)?;
        self.exchanges[slot as usize].as_mut()
    }
}

fn default(name: &str, kind: ExchangeKind) -> ExchangeSpec {
    ExchangeSpec {
        name: name.into(),
        kind,
        durable: true,
        auto_delete: false,
        internal: name == TRACE,
        arguments: Arguments::default(),
    }
}

fn label(binding: &Binding) -> Label {
    Label { key: binding.key.clone(), arguments: binding.arguments.clone() }
}
