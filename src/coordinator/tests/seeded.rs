//! Several simulated shards and their clients against one coordinator, every ring delayed as a seed
//! says. Checked: each question has one answer, no sooner than what it promises is true on all
//! shards; identities are never used twice; changes fit the topology they are applied to; the
//! records so far lead to what is durable of the topology; at the end nothing is left over, and a
//! restart finds what is durable. A second copy of the coordinator has the same state after each
//! step.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use model::topology::spec::{
    Arguments, Binding, Destination, ExchangeKind, ExchangeSpec, Name, QueueSpec,
};
use model::topology::{Change, Topology};
use model::{ConnId, Entropy, Now, QueueId, Refusal, RequestId, Resource, ShardId};

use crate::coordinator::CoordinatorConfig;
use crate::coordinator::tests::copies::Copies;
use crate::coordinator::tests::replica::Replica;
use crate::mesh::control::{Answer, Control, Request};

const QUEUES: [&str; 4] = ["q", "r", "s", "t"];
const EXCHANGES: [&str; 4] = ["a", "b", "c", "amq.fanout"];

/// A queue at home.
struct Held {
    spec: QueueSpec,
    frozen: bool,
}

struct Shard {
    topology: Topology,
    /// Applied, but not said so yet.
    unsaid: bool,
    held: BTreeMap<QueueId, Held>,
    /// Every queue this shard has heard of, by name.
    heard: BTreeSet<(Name, QueueId)>,
    /// Every exchange that was the source of a binding, by name and version.
    sources: BTreeSet<(Name, u64)>,
    /// The version this shard knows to be applied everywhere.
    settled: u64,
    inbound: VecDeque<Control>,
    outbound: VecDeque<Control>,
}

/// A question that waits for its answer.
struct Question {
    request: Request,
    /// Once the coordinator has read it: the version decided by then, and the youngest queue.
    read: Option<(u64, QueueId)>,
}

struct World {
    random: fastrand::Rng,
    coordinator: Copies,
    replica: Replica,
    shards: Vec<Shard>,
    questions: BTreeMap<RequestId, Question>,
    conns: Vec<(ConnId, usize)>,
    gone: BTreeSet<ConnId>,
    youngest: QueueId,
    next: u64,
    /// The disk has no room for what is decided.
    full: bool,
}

impl Shard {
    fn new(seed: u64) -> Self {
        Self {
            topology: Topology::new(Entropy::from_seed(seed).map_seed()),
            unsaid: false,
            held: BTreeMap::new(),
            heard: BTreeSet::new(),
            sources: BTreeSet::new(),
            settled: 0,
            inbound: VecDeque::new(),
            outbound: VecDeque::new(),
        }
    }

    fn queue(&self, name: &str) -> Option<&QueueSpec> {
        self.topology.vhost("/")?.queue(name).map(|queue| &queue.spec)
    }

    fn queues(&self) -> impl Iterator<Item = &QueueSpec> {
        let vhost = self.topology.vhost("/").into_iter();
        vhost.flat_map(|vhost| vhost.queues().map(|queue| &queue.spec))
    }

    fn apply(&mut self, version: u64, change: &Change) {
        assert_eq!(version, self.topology.version() + 1, "a version was left out");
        match change {
            Change::QueueCreated(_, spec) => {
                assert!(self.queue(&spec.name).is_none(), "{change:?} of what exists");
                self.heard.insert((spec.name.clone(), spec.id));
            }
            Change::QueueDeleted(_, name) => assert!(self.queue(name).is_some(), "{change:?}"),
            Change::ExchangeDeleted(_, name) => {
                assert!(self.topology.vhost("/").unwrap().exchange(name).is_some(), "{change:?}");
            }
            Change::Bound(_, binding) => assert!(!self.has_binding(binding), "{change:?}"),
            Change::Unbound(_, binding) => assert!(self.has_binding(binding), "{change:?}"),
            Change::VhostCreated(_) | Change::ExchangeCreated(..) => {}
            Change::VhostDeleted(_)
            | Change::UserDeleted(_)
            | Change::RightsChanged(..)
            | Change::ChannelsCounted(..)
            | Change::AlternatesChanged(..) => {
                panic!("{change:?} without an administrator");
            }
        }
        self.topology.apply(version, change);
        if let Change::Bound(_, binding) = change {
            assert!(self.has_binding(binding), "{change:?} without effect");
            let vhost = self.topology.vhost("/").unwrap();
            let version = vhost.exchange(&binding.source).unwrap().version;
            self.sources.insert((binding.source.clone(), version));
        }
        self.unsaid = true;
    }

    fn has_binding(&self, binding: &Binding) -> bool {
        self.topology.vhost("/").unwrap().has_binding(binding)
    }

    /// An exchange that had bindings, has none and should have gone with the last.
    fn forgotten_exchange(&self) -> Option<&Name> {
        let mut exchanges = self.topology.vhost("/")?.exchanges();
        let forgotten = exchanges.find(|exchange| {
            let had_some = self.sources.contains(&(exchange.spec.name.clone(), exchange.version));
            exchange.spec.auto_delete && had_some && exchange.bindings() == 0
        });
        forgotten.map(|exchange| &exchange.spec.name)
    }

    fn freeze(&mut self, queue: QueueId, refuse: bool) -> Result<u32, Refusal> {
        let held = self.held.get_mut(&queue).expect("a freeze of what the home does not hold");
        if refuse && !held.frozen {
            return Err(Refusal::InUse(Resource::queue("/", &held.spec.name)));
        }
        held.frozen = true;
        Ok(held.spec.id.0 as u32)
    }

    fn drop_queue(&mut self, queue: QueueId) {
        assert!(self.held.remove(&queue).is_some_and(|held| held.frozen), "dropped too soon");
    }
}

fn config(shards: u16, seed: u64) -> CoordinatorConfig {
    CoordinatorConfig {
        memory_limit: 1_000_000_000,
        removed_at_once: 1 + seed as usize % 3,
        ..CoordinatorConfig::new(shards, Entropy::from_seed(seed))
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let shards = random.u16(1..5);
        Self {
            coordinator: Copies::new(&config(shards, seed)),
            replica: Replica::default(),
            shards: (0..shards).map(|shard| Shard::new(shard.into())).collect(),
            random,
            questions: BTreeMap::new(),
            conns: Vec::new(),
            gone: BTreeSet::new(),
            youngest: QueueId(0),
            next: 0,
            full: false,
        }
    }

    fn pick(&mut self, names: [&str; 4]) -> Name {
        names[self.random.usize(0..4)].into()
    }

    fn step(&mut self) {
        let shard = self.random.usize(0..self.shards.len());
        match self.random.u8(0..201) {
            200 => self.room(!self.full),
            0..20 => self.client(),
            20..30 => self.home(shard),
            30..70 => self.say_applied(shard),
            70..140 => self.coordinator_reads(shard),
            _ => self.shard_reads(shard),
        }
    }

    /// The disk becomes full, or has room again.
    fn room(&mut self, full: bool) {
        self.full = full;
        self.coordinator.disk_is_full(full, Now::default());
        self.coordinator_speaks();
    }

    fn client(&mut self) {
        if self.conns.len() < 4 {
            self.next += 1;
            self.conns.push((ConnId(self.next), self.random.usize(0..self.shards.len())));
        }
        let (conn, shard) = self.conns[self.random.usize(0..self.conns.len())];
        let request = match self.random.u8(0..24) {
            0 => {
                self.conns.retain(|other| other.0 != conn);
                Request::ConnectionGone(conn)
            }
            1..7 => self.declare(conn),
            7..11 => Request::DeleteQueue {
                vhost: "/".into(),
                name: self.pick(QUEUES),
                if_unused: self.random.bool(),
                if_empty: self.random.bool(),
                conn,
            },
            11..14 => Request::DeclareExchange("/".into(), self.exchange()),
            14 => Request::DeleteExchange {
                vhost: "/".into(),
                name: self.pick(EXCHANGES),
                if_unused: self.random.bool(),
            },
            15..20 => Request::Bind("/".into(), self.binding(), conn),
            20..22 => Request::Unbind("/".into(), self.binding(), conn),
            22 => Request::Sync,
            _ => match self.shards[shard].held.values().find(|held| held.frozen) {
                Some(held) => Request::AwaitDeleted(held.spec.id),
                None => return,
            },
        };
        self.ask(shard, request);
    }

    fn ask(&mut self, shard: usize, request: Request) {
        self.next += 1;
        let ticket = RequestId(self.next);
        self.shards[shard].outbound.push_back(Control::Ask(ticket, request.clone()));
        self.questions.insert(ticket, Question { request, read: None });
    }

    fn declare(&mut self, conn: ConnId) -> Request {
        let spec = QueueSpec {
            id: QueueId(0),
            name: self.pick(QUEUES),
            home: ShardId(0),
            durable: self.random.bool(),
            auto_delete: false,
            owner: self.random.bool().then_some(conn),
            server_named: false,
            arguments: Arguments::default(),
        };
        Request::DeclareQueue("/".into(), spec)
    }

    fn exchange(&mut self) -> ExchangeSpec {
        ExchangeSpec {
            name: self.pick(EXCHANGES),
            kind: ExchangeKind::Fanout,
            durable: self.random.bool(),
            auto_delete: self.random.u8(0..3) > 0,
            internal: false,
            arguments: Arguments::default(),
        }
    }

    fn binding(&mut self) -> Binding {
        let destination = match self.random.u8(0..3) {
            0 => Destination::Exchange(self.pick(EXCHANGES)),
            _ => Destination::Queue(self.pick(QUEUES)),
        };
        let arguments = Arguments::default();
        Binding { source: self.pick(EXCHANGES), destination, key: "".into(), arguments }
    }

    /// The last consumer of a queue goes, and the home freezes it.
    fn home(&mut self, shard: usize) {
        let shard = &mut self.shards[shard];
        let mut living: Vec<_> = shard.held.values_mut().filter(|held| !held.frozen).collect();
        if !living.is_empty() {
            let at = self.random.usize(..living.len());
            let held = &mut living[at];
            held.frozen = true;
            shard.outbound.push_back(Control::Unused(held.spec.id));
        }
    }

    fn say_applied(&mut self, shard: usize) {
        let shard = &mut self.shards[shard];
        if std::mem::take(&mut shard.unsaid) {
            shard.outbound.push_back(Control::Applied(shard.topology.version()));
        }
    }

    fn coordinator_reads(&mut self, from: usize) {
        let Some(control) = self.shards[from].outbound.pop_front() else {
            return;
        };
        let ticket = match &control {
            Control::Ask(ticket, _) => Some(*ticket),
            _ => None,
        };
        self.coordinator.control(ShardId(from as u16), control, Now::default());
        let records = self.coordinator.take_records();
        self.replica.follow_removal(&records, &self.coordinator.original);
        let sent = self.coordinator.take_outbound();
        if let Some(question) = ticket.and_then(|ticket| self.questions.get_mut(&ticket)) {
            question.read = Some((self.coordinator.topology().version(), self.youngest));
        }
        for (to, control) in sent {
            self.check_sent(&control);
            self.shards[to.index()].inbound.push_back(control);
        }
    }

    /// What holds at the moment the coordinator sends.
    fn check_sent(&mut self, control: &Control) {
        match control {
            Control::Create(_, spec) => {
                assert!(spec.id > self.youngest, "an identity was used again");
                assert!(spec.id < self.replica.0.queues_below, "an identity is not reserved");
                assert!(!spec.owner.is_some_and(|owner| self.gone.contains(&owner)));
                self.youngest = spec.id;
            }
            Control::Answer(ticket, answer) => {
                let question = self.questions.remove(ticket).expect("answered twice");
                self.check_answer(&question, answer);
            }
            Control::Drop(queue) => {
                let known = |shard: &Shard| shard.queues().any(|spec| spec.id == *queue);
                assert!(!self.shards.iter().any(known), "dropped while a shard knows it");
            }
            Control::Settled(version) => {
                let applied = |shard: &Shard| shard.topology.version() >= *version;
                assert!(self.shards.iter().all(applied), "settled too soon");
            }
            _ => {}
        }
    }

    fn check_answer(&mut self, question: &Question, answer: &Answer) {
        let (version, youngest) = question.read.unwrap_or((0, QueueId(0)));
        let everywhere = |check: &dyn Fn(&Shard) -> bool| self.shards.iter().all(check);
        let request = &question.request;
        // While the disk is full, the end of a connection without queues waits for no change.
        let is_free = self.full && matches!(request, Request::ConnectionGone(_));
        let is_known = everywhere(&|shard| shard.topology.version() >= version);
        assert!(is_free || is_known, "{request:?} too soon");
        match (request, answer) {
            (Request::DeclareQueue(_, spec), Answer::Done) => {
                let heard =
                    |id| everywhere(&|shard| shard.heard.contains(&(spec.name.clone(), id)));
                let first = &self.shards[0].heard;
                let mut ids = first.iter().filter(|(name, _)| *name == spec.name);
                assert!(ids.any(|(_, id)| heard(*id)), "{request:?} not made everywhere");
            }
            (Request::DeleteQueue { name, .. }, Answer::Deleted(_)) => {
                let newer = |shard: &Shard| shard.queue(name).is_none_or(|spec| spec.id > youngest);
                assert!(everywhere(&newer), "{request:?} not done everywhere");
            }
            (Request::AwaitDeleted(id), Answer::Done) => {
                assert!(everywhere(&|shard| shard.queues().all(|spec| spec.id != *id)));
            }
            (Request::ConnectionGone(conn), Answer::Done) => {
                let gone = |shard: &Shard| shard.queues().all(|spec| spec.owner != Some(*conn));
                assert!(everywhere(&gone), "{request:?} left a queue");
                self.gone.insert(*conn);
            }
            (_, Answer::Done | Answer::Refused(_)) => {}
            other => panic!("{other:?}"),
        }
    }

    fn shard_reads(&mut self, to: usize) {
        let refuse = self.random.bool();
        let shard = &mut self.shards[to];
        match shard.inbound.pop_front() {
            Some(Control::Apply(version, change)) => shard.apply(version, &change),
            Some(Control::Create(_, spec)) => {
                assert_eq!(spec.home.index(), to);
                shard.outbound.push_back(Control::Created(spec.id));
                shard.held.insert(spec.id, Held { spec, frozen: false });
            }
            Some(Control::Freeze { queue, if_unused, if_empty }) => {
                let result = shard.freeze(queue, refuse && (if_unused || if_empty));
                shard.outbound.push_back(Control::Frozen(queue, result));
            }
            Some(Control::Drop(queue)) => shard.drop_queue(queue),
            Some(Control::Settled(version)) => {
                assert!(version > shard.settled && version <= shard.topology.version());
                shard.settled = version;
            }
            Some(Control::Answer(..)) | None => {}
            Some(other) => panic!("{other:?}"),
        }
    }

    /// Lets all that is under way come to its end.
    fn finish(&mut self) {
        let busy =
            |shard: &Shard| shard.unsaid || !shard.inbound.is_empty() || !shard.outbound.is_empty();
        self.room(false);
        while self.shards.iter().any(busy) {
            for shard in 0..self.shards.len() {
                self.shard_reads(shard);
                self.say_applied(shard);
                self.coordinator_reads(shard);
            }
        }
    }

    /// What was sent before any shard spoke.
    fn coordinator_speaks(&mut self) {
        let records = self.coordinator.take_records();
        self.replica.follow_removal(&records, &self.coordinator.original);
        let sent = self.coordinator.take_outbound();
        for (to, control) in sent {
            self.check_sent(&control);
            self.shards[to.index()].inbound.push_back(control);
        }
    }

    fn check_end(&mut self) {
        let open: Vec<_> = self.questions.values().map(|question| &question.request).collect();
        assert!(open.is_empty(), "never answered: {open:?}");
        assert!(self.coordinator.original.is_idle());
        let version = self.coordinator.topology().version();
        let held: BTreeSet<_> = self.shards.iter().flat_map(|shard| shard.held.keys()).collect();
        for shard in &self.shards {
            assert_eq!((shard.topology.version(), shard.settled), (version, version));
            assert!(shard.held.values().all(|held| !held.frozen), "frozen for nothing");
            assert_eq!(shard.forgotten_exchange(), None);
            let known: BTreeSet<_> = shard.queues().map(|spec| &spec.id).collect();
            assert_eq!(known, held);
        }
    }
}

fn run(seed: u64) {
    let mut world = World::new(seed);
    world.coordinator_speaks();
    for _ in 0..4000 {
        world.step();
    }
    world.finish();
    world.check_end();
    for (conn, shard) in std::mem::take(&mut world.conns) {
        world.ask(shard, Request::ConnectionGone(conn));
    }
    world.finish();
    world.check_end();
    assert!(world.shards.iter().all(|shard| shard.queues().all(|spec| spec.owner.is_none())));
    world.replica.restart(config(world.random.u16(1..5), seed));
}

#[test]
fn every_interleaving_answers_each_question_once_and_in_time() {
    for seed in 0..100 {
        // A panic names no seed; this line, shown with it, does.
        println!("seed {seed}");
        run(seed);
    }
}
