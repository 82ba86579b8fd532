//! For tests: what a crash right now would leave, beside what ought to be left.

use std::collections::BTreeMap;

use amqp::Reader;
use model::topology::spec::{Binding, Destination};
use model::topology::{Change, Topology, Vhost};
use model::{Name, QueueSpec, ShardId};

use crate::coordinator::{Coordinator, CoordinatorConfig};
use crate::store::meta::{Fact, MetaState, VhostState};

/// All records of a coordinator so far, replayed from their bytes.
#[derive(Default)]
pub(in crate::coordinator) struct Replica(pub MetaState);

impl Replica {
    /// Takes in what a coordinator has recorded since the last call, which has to lead to what is
    /// durable of its topology. Returns how many facts it took.
    pub fn follow(&mut self, records: &[Fact], topology: &Topology) -> usize {
        let count = self.take(records);
        assert_eq!(self.0.vhosts, durable(topology));
        count
    }

    /// The same of one that may be removing something in pieces: until that is done, more is
    /// durable.
    pub fn follow_removal(&mut self, records: &[Fact], coordinator: &Coordinator) -> usize {
        if coordinator.is_removing() {
            return self.take(records);
        }
        self.follow(records, coordinator.topology())
    }

    fn take(&mut self, records: &[Fact]) -> usize {
        let mut bytes = Vec::new();
        records.iter().for_each(|fact| fact.write(&mut bytes));
        let mut from = Reader::new(&bytes);
        for record in records {
            let fact = Fact::read(&mut from).unwrap();
            assert_eq!(fact, *record);
            self.0.apply(&fact);
        }
        assert!(from.is_empty());
        records.len()
    }

    /// A coordinator of so many shards after a restart has what is durable, and records nothing.
    pub fn restart(&self, config: CoordinatorConfig) -> Coordinator {
        let shards = config.shards;
        let mut coordinator = Coordinator::recovered(config, &self.0);
        assert_eq!(durable(coordinator.topology()), self.0.vhosts);
        assert_eq!(coordinator.take_records(), []);
        let mut load = vec![0; usize::from(shards)];
        for (vhost, spec) in coordinator.durable_queues() {
            load[spec.home.index()] += 1;
            let vhost = coordinator.topology().vhost(&vhost).unwrap();
            assert_eq!(vhost.queue(&spec.name).unwrap().spec, spec);
        }
        assert!(load.iter().max().unwrap() - load.iter().min().unwrap() <= 1, "{load:?}");
        coordinator
    }
}

fn durable(topology: &Topology) -> BTreeMap<Name, VhostState> {
    let mut state = MetaState::default();
    for (name, vhost) in topology.vhosts() {
        state.apply(&Fact::Changed(Change::VhostCreated(name.into())));
        let changes = durable_changes(name, vhost);
        changes.into_iter().map(Fact::Changed).for_each(|fact| state.apply(&fact));
    }
    state.vhosts
}

fn durable_changes(name: &str, vhost: &Vhost) -> Vec<Change> {
    let is_standard = |name: &str| name.is_empty() || name.starts_with("amq.");
    let exchanges = vhost.exchanges().map(|exchange| &exchange.spec);
    let exchanges = exchanges.filter(|spec| spec.durable && !is_standard(&spec.name));
    let queues = vhost.queues().map(|queue| &queue.spec);
    let queues = queues.filter(|spec| spec.durable && spec.owner.is_none());
    let queues = queues.map(|spec| QueueSpec { home: ShardId(0), ..spec.clone() });
    let bindings = vhost.bindings().filter(|binding| joins_durable(vhost, binding));
    let exchanges = exchanges.map(|spec| Change::ExchangeCreated(name.into(), spec.clone()));
    let queues = queues.map(|spec| Change::QueueCreated(name.into(), spec));
    let bindings = bindings.map(|binding| Change::Bound(name.into(), binding));
    exchanges.chain(queues).chain(bindings).collect()
}

fn joins_durable(vhost: &Vhost, binding: &Binding) -> bool {
    let exchange = |name: &str| vhost.exchange(name).unwrap().spec.durable;
    let to = match &binding.destination {
        Destination::Exchange(name) => exchange(name),
        Destination::Queue(name) => {
            let spec = &vhost.queue(name).unwrap().spec;
            spec.durable && spec.owner.is_none()
        }
    };
    to && exchange(&binding.source)
}
