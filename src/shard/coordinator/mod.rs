//! The coordinator: what is decided once for all shards. It turns the questions of shards into
//! numbered changes of the topology that every shard applies in the same order, and answers when
//! all have. A pure machine: [`Coordinator::control`] in, [`Coordinator::take_records`] and then
//! [`Coordinator::take_outbound`] out.
//!
//! An answer promises what every shard knows, and what is durable of it: it waits for the latest
//! version decided when it was made, even if the question itself changed nothing. Logins and the
//! opening of vhosts and channels promise nothing of the topology and wait for nothing.
//!
//! ```text
//!  declare   Ask → Create → home → Created → Apply → all shards → Applied → Settled, Answer
//!  delete    Ask → Freeze → home → Frozen  → Apply → all shards → Applied → Settled, Drop, Answer
//!  others    Ask                           → Apply → all shards → Applied → Settled, Answer
//! ```

mod alarm;
mod directory;
mod endpoint;
mod exchanges;
mod limits;
mod queues;
mod records;
mod room;
mod users;
mod versions;

use model::spec::Name;
use model::topology::{Change, Topology, Vhost};
use model::{ConnId, Now, QueueId, Refusal, Seed, ShardId, Ticket};

use self::alarm::Alarm;
use self::directory::Directory;
pub use self::limits::NodeLimits;
use self::limits::Usage;
use self::room::Room;
use self::users::Users;
use self::versions::{Then, Versions};
use super::batch::Batch;
use super::message::{Answer, Control, Request};
use crate::store::meta::{Fact, MetaState};

/// What the coordinator has to know at the start.
#[derive(Debug, Clone)]
pub struct CoordinatorConfig {
    /// How many shards there are; the coordinator's own endpoint is numbered behind the last.
    pub shards: u16,
    /// Randomness, for hash maps and for the salts of passwords.
    pub seed: u64,
    /// The user there is at the first start.
    pub default_user: String,
    /// Its password.
    pub default_pass: String,
    /// The vhost there is at the first start.
    pub default_vhost: String,
    /// Users that may log in from this host only.
    pub loopback_users: Vec<String>,
    /// More octets of pinned memory than this raise the alarm.
    pub memory_limit: u64,
    /// Where queues go.
    pub place: Place,
}

/// Where queues go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Place {
    /// An exclusive or server-named queue lives with its connection, another where the fewest are.
    #[default]
    Balanced,
    /// Never on the shard that declares it, so that tests see every hop cross.
    Cross,
}

/// Decides what all shards have to agree on.
#[derive(Debug)]
pub struct Coordinator {
    topology: Topology,
    versions: Versions,
    directory: Directory,
    users: Users,
    alarm: Alarm,
    usage: Usage,
    /// What is to be durable before `out` is sent.
    records: Vec<Fact>,
    out: Vec<(ShardId, Control)>,
    room: Room,
    /// The version of the youngest vhost.
    vhosts: u64,
    /// What is to go to each shard, filled from `out`.
    batches: Vec<Batch>,
}

/// Who waits for the answer to a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Asker {
    shard: ShardId,
    ticket: Ticket,
}

/// What becomes of a question for now: the answer, or `None` when it comes later.
type Outcome = Option<Answer>;

impl Coordinator {
    /// A coordinator with one vhost and one user. The changes that make the vhost are in the
    /// outbox already.
    #[must_use]
    pub fn new(config: CoordinatorConfig) -> Self {
        Self::recovered(config, &MetaState::default())
    }

    /// A coordinator of nothing, for which only queues below `queues_below` were made so far.
    fn empty(config: CoordinatorConfig, queues_below: QueueId) -> Self {
        let seed = Seed::new(config.seed);
        Self {
            topology: Topology::new(seed),
            versions: Versions::new(config.shards),
            directory: Directory::new(&config, seed, queues_below),
            users: Users::new(config.seed, config.loopback_users),
            alarm: Alarm::new(config.shards, config.memory_limit),
            usage: Usage::new(seed),
            records: Vec::new(),
            out: Vec::new(),
            room: Room::default(),
            vhosts: 0,
            batches: (0..=config.shards).map(|_| Batch::default()).collect(),
        }
    }

    /// Takes what a shard sent. Items that are not for a coordinator are without effect.
    pub fn control(&mut self, from: ShardId, control: Control, _now: Now) {
        match control {
            Control::Ask(ticket, request) => {
                self.ask(Asker { shard: from, ticket }, request);
            }
            Control::Applied(version) => self.applied(from, version),
            Control::Created(queue) => self.queue_created(queue),
            Control::Frozen(queue, result) => self.queue_frozen(queue, result),
            Control::Unused(queue) => self.queue_unused(queue),
            Control::Memory(octets) => {
                if let Some(alarms) = self.alarm.memory(from, octets) {
                    self.tell_alarms(alarms);
                }
            }
            Control::ConnectionLeft(conn) => self.usage.connection_left(conn),
            Control::ChannelLeft(channel) => self.usage.channel_left(channel),
            other => debug_assert!(false, "not for a coordinator: {other:?}"),
        }
    }

    /// The coordinator's own copy: everything decided, applied elsewhere or not.
    #[must_use]
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// Whether no question, change or deletion is under way.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.versions.is_settled() && self.directory.is_idle()
    }

    fn obey(&mut self, asker: Asker, request: Request) {
        let outcome = match request {
            Request::Login { user, password, loopback } => {
                let answer = self.users.login(&user, &password, loopback);
                return self.answer_aside(asker, answer);
            }
            Request::OpenVhost { conn, user, vhost } => {
                let answer = self.open_vhost(conn, &user, &vhost);
                return self.answer_opened(asker, answer);
            }
            Request::OpenChannel(channel) => {
                let answer = self.usage.channel_opened(channel);
                return self.answer_aside(asker, answer);
            }
            Request::Sync => Some(Answer::Done),
            Request::AwaitDeleted(queue) => self.await_deleted(asker, queue),
            Request::ConnectionGone(conn) => self.connection_gone(asker, conn),
            Request::DeclareQueue(vhost, spec) => self.declare_queue(asker, vhost, spec),
            Request::DeleteQueue { vhost, name, if_unused, if_empty, conn } => {
                let delete = queues::Delete { vhost, name, if_unused, if_empty, conn };
                self.delete_queue(asker, delete)
            }
            Request::DeclareExchange(vhost, spec) => Some(self.declare_exchange(vhost, spec)),
            Request::DeleteExchange { vhost, name, if_unused } => {
                Some(self.delete_exchange(&vhost, &name, if_unused))
            }
            Request::Bind(vhost, binding, conn) => Some(self.bind(vhost, binding, conn)),
            Request::Unbind(vhost, binding, conn) => Some(self.unbind(vhost, binding, conn)),
        };
        if let Some(answer) = outcome {
            self.answer(asker, answer);
        }
    }

    fn open_vhost(&mut self, conn: ConnId, user: &str, vhost: &str) -> Answer {
        if let Some(excess) = self.usage.connection_is_over(conn) {
            refused(Refusal::Excess(excess))
        } else if self.topology.vhost(vhost).is_none() {
            Answer::NoVhost
        } else if self.users.may_open(user) {
            self.usage.connection_opened(conn);
            Answer::Done
        } else {
            Answer::VhostRefused
        }
    }

    /// A vhost that every shard knows may be opened whatever else is being changed.
    fn answer_opened(&mut self, asker: Asker, answer: Answer) {
        if self.versions.settled() >= self.vhosts {
            self.answer_aside(asker, answer);
        } else {
            self.answer(asker, answer);
        }
    }

    /// The vhost a request names.
    fn vhost(&self, name: &str) -> Result<&Vhost, Answer> {
        self.topology.vhost(name).ok_or(Answer::NoVhost)
    }

    fn announce(&mut self, change: Change) {
        let version = self.versions.decide();
        if matches!(change, Change::VhostCreated(_)) {
            self.vhosts = version;
        }
        self.topology.apply(version, &change);
        self.broadcast(&Control::Apply(version, change));
    }

    /// Answers when every shard has applied what is decided so far: also what changed nothing may
    /// promise only what every shard knows.
    fn answer(&mut self, asker: Asker, answer: Answer) {
        self.when_settled(Then::Answer(asker, answer));
    }

    fn when_settled(&mut self, then: Then) {
        if let Some(then) = self.versions.wait(then) {
            self.settled(then);
        }
    }

    fn applied(&mut self, from: ShardId, version: u64) {
        let Some(settled) = self.versions.applied(from, version) else {
            return;
        };
        self.broadcast(&Control::Settled(settled));
        while let Some(then) = self.versions.next_settled() {
            self.settled(then);
        }
    }

    fn settled(&mut self, then: Then) {
        match then {
            Then::Answer(asker, answer) => {
                self.send(asker.shard, Control::Answer(asker.ticket, answer));
            }
            Then::Forget(queue) => self.queue_gone(queue),
        }
    }

    fn broadcast(&mut self, control: &Control) {
        for shard in self.versions.shards() {
            self.send(shard, control.clone());
        }
    }

    fn send(&mut self, to: ShardId, control: Control) {
        self.out.push((to, control));
    }
}

fn refused(refusal: Refusal) -> Answer {
    Answer::Refused(refusal)
}

/// A name in a vhost.
type Path = (Name, Name);

#[cfg(test)]
mod records_test;
#[cfg(test)]
mod replica;
#[cfg(test)]
mod script_test;
#[cfg(test)]
mod seeded_test;
