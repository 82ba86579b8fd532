//! A vhost: its exchanges, its queues and the bindings between them.

use std::cell::LazyCell;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::ops::Bound::{Excluded, Included, Unbounded};

use amqp::Basic;

use crate::exchange::{
    Collected, Exchange, ExchangeStates, Label, LazyProperties, Target, Targets,
};
use crate::hash::{SecretSeed, UntrustedMap};
use crate::message::Message;
use crate::mutant::{self, Mutant};
use crate::topology::spec::{
    Arguments, Binding, Destination, ExchangeKind, ExchangeSpec, Name, QueueSpec, clean,
    has_line_end,
};
use crate::topology::weight;

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

/// A declared queue as every shard knows it. Only its home shard knows its messages.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct QueueEntry {
    /// What was declared.
    pub spec: QueueSpec,
    /// The version of the topology that created it.
    pub version: u64,
}

/// A vhost: a name space of exchanges and queues.
#[derive(Debug)]
pub struct Vhost {
    seed: SecretSeed,
    queues: UntrustedMap<Name, QueueEntry>,
    /// By slot; `None`: the slot is free.
    exchanges: Vec<Option<Exchange>>,
    slots: UntrustedMap<Name, u32>,
    free: Vec<u32>,
    /// All bindings by destination and source: when either is deleted, its bindings are found.
    incoming: BTreeMap<Destination, BTreeMap<Name, BTreeSet<Label>>>,
    /// Bytes of memory that all of it holds, nearly.
    bytes: usize,
    /// How many of the exchanges are stateful.
    stateful: usize,
}

impl Vhost {
    pub(crate) fn new(version: u64, seed: SecretSeed) -> Self {
        let mut vhost = Self {
            seed,
            queues: UntrustedMap::with_hasher(seed),
            exchanges: Vec::new(),
            slots: UntrustedMap::with_hasher(seed),
            free: Vec::new(),
            incoming: BTreeMap::new(),
            bytes: 0,
            stateful: 0,
        };
        DEFAULTS.iter().for_each(|&(name, kind)| vhost.add_exchange(version, default(name, kind)));
        vhost
    }

    /// Bytes of memory that all of it holds, nearly.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether any of its exchanges is stateful.
    #[inline]
    #[must_use]
    pub fn has_states(&self) -> bool {
        self.stateful > 0
    }

    /// Lets the exchanges that a message came to on its route remember it.
    pub fn remember(&self, targets: &Targets, message: Message<'_>, states: &mut ExchangeStates) {
        let reached = targets.slots_remembering().iter();
        reached
            .filter_map(|slot| self.at(*slot))
            .for_each(|exchange| states.remember(exchange, message));
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

    /// All exchanges in arbitrary order: sort what is shown.
    pub fn exchanges(&self) -> impl Iterator<Item = &Exchange> {
        self.exchanges.iter().flatten()
    }

    /// All queues in arbitrary order: sort what is shown.
    pub fn queues(&self) -> impl Iterator<Item = &QueueEntry> {
        self.queues.values()
    }

    /// True if exactly this binding exists.
    #[must_use]
    pub fn has_binding(&self, binding: &Binding) -> bool {
        self.incoming
            .get(&binding.destination)
            .and_then(|sources| sources.get(&binding.source))
            .is_some_and(|labels| labels.contains(&label(binding)))
    }

    /// The exchanges in the order of their slots, from one on.
    pub fn exchanges_from(&self, slot: u32) -> impl Iterator<Item = (u32, &Exchange)> {
        self.exchange_slots_from(slot).filter_map(|(slot, exchange)| Some((slot, exchange?)))
    }

    /// The slots from one on with their exchanges. `None`: the slot is free.
    pub fn exchange_slots_from(&self, slot: u32) -> impl Iterator<Item = (u32, Option<&Exchange>)> {
        let exchanges = self.exchanges.iter().skip(slot as usize);
        (slot..).zip(exchanges).map(|(slot, exchange)| (slot, exchange.as_ref()))
    }

    /// All bindings but those of the default exchange.
    pub fn bindings(&self) -> impl Iterator<Item = Binding> {
        self.bindings_behind(None)
    }

    /// The bindings by destination, source, key and arguments, behind one that need not exist; not
    /// those of the default exchange.
    pub fn bindings_behind(&self, binding: Option<&Binding>) -> impl Iterator<Item = Binding> {
        let first = binding.map_or(Unbounded, |binding| Included(&binding.destination));
        let destinations = self.incoming.range((first, Unbounded));
        destinations.flat_map(move |(destination, sources)| {
            let binding = binding.filter(|binding| binding.destination == *destination);
            bindings_to(destination, sources, binding)
        })
    }

    /// At most so many bindings to a queue, or to and from an exchange.
    #[must_use]
    pub fn some_bindings(&self, of: &Destination, most: usize) -> Vec<Binding> {
        let to = self.incoming.get(of).into_iter();
        let to = to.flat_map(|sources| bindings_to(of, sources, None));
        let exchange = match of {
            Destination::Exchange(name) => self.exchange(name),
            Destination::Queue(_) => None,
        };
        let from = exchange.into_iter().flat_map(|exchange| self.bindings_of(exchange));
        // One to itself is among the first.
        to.chain(from.filter(|binding| binding.destination != *of)).take(most).collect()
    }

    /// The bindings that an exchange is the source of, by destination.
    fn bindings_of(&self, exchange: &Exchange) -> impl Iterator<Item = Binding> {
        exchange.destinations.keys().flat_map(move |destination| {
            let sources = self.incoming.get(destination);
            let labels = sources.and_then(|sources| sources.get(&exchange.spec.name));
            labels.into_iter().flatten().map(move |label| Binding {
                source: exchange.spec.name.clone(),
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
        sources.map_or(0, |sources| sources.values().map(BTreeSet::len).sum())
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
    /// `properties` is asked for the message's properties if an exchange on the way looks at them.
    ///
    /// False if the route has paused ([`Targets::may_work`]): called again with the same targets it
    /// goes on. What becomes of the topology meanwhile may count or not.
    #[inline]
    pub fn route<'h>(
        &self,
        exchange: &Exchange,
        keys: &[&str],
        properties: impl FnOnce() -> Basic<'h>,
        targets: &mut Targets,
    ) -> bool {
        let properties = LazyCell::new(properties);
        let goes_on = targets.cursor.paused;
        if !goes_on {
            targets.found = false;
        } else if exchange.version > targets.version {
            // It has the name of one that is gone, which leads nowhere else.
            targets.end_route();
            return true;
        }
        if targets.cursor.nth.is_none() && !self.step(exchange, keys, &properties, targets) {
            targets.cursor.paused = true;
            return false;
        }
        if goes_on || exchange.alternate.is_some() || targets.exchange(0).is_some() {
            return self.follow(exchange, keys, &properties, targets);
        }
        true
    }

    /// Asks one exchange, from the cursor on; false if the route pauses behind a key, or inside of
    /// the exchange.
    #[inline]
    fn step<'h, F: FnOnce() -> Basic<'h>>(
        &self,
        exchange: &Exchange,
        keys: &[&str],
        properties: &LazyProperties<'h, F>,
        targets: &mut Targets,
    ) -> bool {
        let asked =
            if exchange.ignores_further_keys() { keys.get(..1).unwrap_or_default() } else { keys };
        let mut at = std::mem::take(&mut targets.cursor.key);
        while let Some(key) = asked.get(at) {
            targets.count_work(1);
            match exchange.collect(key, properties, targets) {
                Collected::All => targets.cursor.leave_exchange(),
                Collected::Some => {
                    targets.cursor.key = at;
                    return false;
                }
                Collected::ByQueueName => {
                    if let Some(queue) = self.queues.get(*key).or_else(|| self.meant(key)) {
                        targets.queue(queue.spec.id, queue.spec.home);
                    }
                }
            }
            at += 1;
            if at < asked.len() && targets.is_spent() {
                targets.cursor.key = at;
                return false;
            }
        }
        true
    }

    /// The queue that a key means which is no queue's name as it stands.
    #[cold]
    fn meant(&self, key: &str) -> Option<&QueueEntry> {
        if has_line_end(key) { self.queues.get(&clean(key)) } else { None }
    }

    /// Routes through the exchanges that were reached, each once; false if the route pauses.
    #[cold]
    fn follow<'h, F: FnOnce() -> Basic<'h>>(
        &self,
        start: &Exchange,
        keys: &[&str],
        properties: &LazyProperties<'h, F>,
        targets: &mut Targets,
    ) -> bool {
        let mut nth = targets.cursor.nth.take().unwrap_or_else(|| {
            self.reach_alternate(start, targets);
            0
        });
        while let Some(slot) = targets.exchange(nth) {
            // One that is younger than the route has the slot of one that is gone.
            let known = |exchange: &&Exchange| exchange.version <= targets.version;
            let reached = self.at(slot).filter(known);
            if let Some(exchange) = reached.filter(|_| slot != start.slot) {
                let pauses = targets.is_spent();
                if targets.cursor.is_at_start() && !pauses {
                    targets.found = false;
                }
                if pauses || !self.step(exchange, keys, properties, targets) {
                    (targets.cursor.paused, targets.cursor.nth) = (true, Some(nth));
                    return false;
                }
                self.reach_alternate(exchange, targets);
            } else {
                // One that is gone: what it was asked before counts.
                targets.cursor.leave_exchange();
                targets.cursor.key = 0;
            }
            nth += 1;
        }
        targets.end_route();
        true
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
        self.stateful += usize::from(spec.kind.is_stateful());
        self.bytes += weight::of_exchange(&spec);
        self.exchanges[slot as usize] = Some(Exchange::new(spec, version, slot, self.seed));
    }

    /// Policies give these exchanges other alternate exchanges.
    pub(crate) fn set_alternates(&mut self, alternates: &[(Name, Option<Name>)]) {
        for (name, alternate) in alternates {
            if let Some(exchange) = self.exchange_mut(name) {
                exchange.set_alternate(alternate.as_ref());
            }
        }
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
        self.stateful -= usize::from(exchange.spec.kind.is_stateful());
        self.bytes -= weight::of_exchange(&exchange.spec);
        for destination in exchange.destinations.keys() {
            self.forget_source(destination, name);
        }
    }

    pub(crate) fn add_queue(&mut self, version: u64, spec: QueueSpec) {
        if !self.queues.contains_key(&spec.name) {
            self.bytes += weight::of_queue(&spec);
            self.queues.insert(spec.name.clone(), QueueEntry { spec, version });
        }
    }

    pub(crate) fn remove_queue(&mut self, name: &str) {
        self.remove_bindings_to(&Destination::Queue(name.into()));
        let removed = self.queues.remove(name);
        self.bytes -= removed.map_or(0, |queue| weight::of_queue(&queue.spec));
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
        let labels = sources.entry(binding.source).or_default();
        if labels.contains(&label) {
            return;
        }
        self.bytes += weight::of_binding(&binding.destination, &exchange.spec.name, &label);
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
        self.bytes -= weight::of_binding(&binding.destination, &binding.source, &label);
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
            self.bytes -= weight::of_bindings(destination, &source, &labels);
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
        let labels = sources.remove(source).unwrap_or_default();
        self.bytes -= weight::of_bindings(destination, source, &labels);
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

/// The bindings to a destination by source, key and arguments, behind one of them.
fn bindings_to(
    destination: &Destination,
    sources: &BTreeMap<Name, BTreeSet<Label>>,
    behind: Option<&Binding>,
) -> impl Iterator<Item = Binding> {
    let first = behind.map_or(Unbounded, |behind| Included(&behind.source));
    let sources = sources.range::<Name, _>((first, Unbounded));
    sources.flat_map(move |(source, labels)| {
        let behind = behind.filter(|behind| behind.source == *source).map(label);
        let labels = labels.range((behind.map_or(Unbounded, Excluded), Unbounded));
        labels.map(move |label| Binding {
            source: source.clone(),
            destination: destination.clone(),
            key: label.key.clone(),
            arguments: label.arguments.clone(),
        })
    })
}

/// The values of hash maps in the order of their keys, which follow from the values.
impl Hash for Vhost {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        let mut queues: Vec<_> = self.queues.values().collect();
        queues.sort_unstable_by_key(|queue| &queue.spec.name);
        let exchanges = self.exchanges_from(0);
        let exchanges: Vec<_> = exchanges
            .map(|(slot, exchange)| (slot, &exchange.spec, exchange.version, &exchange.alternate))
            .collect();
        (queues, exchanges, &self.incoming).hash(hasher);
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
