//! The machine: takes what shards and the shell say, gives every request to the part that decides
//! it, and hands out what is to be recorded and sent.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

use model::access::Rights;
use model::access::command::Credential;
use model::access::credentials::CredentialValidator;
use model::access::defaults::VhostDefaults;
use model::access::limits::{UserLimit, VhostLimit};
use model::access::state::UserInVhost;
use model::mutant::{self, Mutant};
use model::topology::spec::Name;
use model::topology::{Change, Topology};
use model::{ConnId, Entropy, Now, QueueId, QueueSpec, Secret, ShardId};

use crate::coordinator::admin::Administration;
use crate::coordinator::admin::limits::of_queues;
use crate::coordinator::admin::policies::Policies;
use crate::coordinator::admin::windows::Telling;
use crate::coordinator::alarm::AlarmState;
use crate::coordinator::decisions::Decisions;
use crate::coordinator::directory::{Directory, QueueCommand, QueueDelete, QueuePlacement};
use crate::coordinator::disk_full::{Admission, DiskFull};
use crate::coordinator::inspect::answers::OutsideAnswers;
use crate::coordinator::limits::NodeLimits;
use crate::coordinator::login_pace::LoginPace;
use crate::coordinator::open_counts::OpenCounts;
use crate::coordinator::queues::QueueLifeCycle;
use crate::coordinator::removals::{REMOVED_AT_ONCE, Removals};
use crate::coordinator::versions::Requester;
use crate::coordinator::{durable, exchanges};
use crate::mesh::batch::Batch;
use crate::mesh::control::{Alarms, Answer, Control, LoginAttempt, Request};
use crate::mesh::record::MeshRecord;
use crate::store::meta::{Fact, MetaState};

/// What the coordinator has to know at the start.
#[derive(Debug, Clone)]
pub struct CoordinatorConfig {
    /// How many shards there are; the coordinator's own endpoint is numbered behind the last.
    pub shards: u16,
    /// Randomness for hash maps.
    pub entropy: Entropy,
    /// The salt of the first user's password.
    pub salt: [u8; 4],
    /// The user that exists at the first start.
    pub default_user: String,
    /// Its password.
    pub default_pass: Secret,
    /// The vhost that exists at the first start.
    pub default_vhost: String,
    /// Users that may log in from this host only.
    pub loopback_users: Vec<String>,
    /// More bytes of pinned memory than this raise the alarm.
    pub memory_limit: u64,
    /// On which shards queues are created.
    pub placement: QueuePlacement,
    /// How many connections, channels, queues and exchanges there may be.
    pub limits: NodeLimits,
    /// Bindings and exchanges that go before every shard has applied that. Not 0.
    pub removed_at_once: usize,
    /// What new vhosts get.
    pub vhost_defaults: VhostDefaults,
    /// What passwords in clear have to be.
    pub validator: CredentialValidator,
}

impl CoordinatorConfig {
    /// The defaults for so many shards, without any limit.
    #[must_use]
    pub fn new(shards: u16, entropy: Entropy) -> Self {
        Self {
            shards,
            entropy,
            salt: entropy.generator(ShardId(shards)).bytes(),
            default_user: "guest".to_owned(),
            default_pass: "guest".into(),
            default_vhost: "/".to_owned(),
            loopback_users: Vec::new(),
            memory_limit: u64::MAX,
            placement: QueuePlacement::default(),
            limits: NodeLimits::default(),
            removed_at_once: REMOVED_AT_ONCE,
            vhost_defaults: VhostDefaults::default(),
            validator: CredentialValidator::default(),
        }
    }
}

/// Decides what all shards have to agree on.
#[derive(Debug)]
pub struct Coordinator {
    pub(super) decisions: Decisions,
    pub(super) queues: QueueLifeCycle,
    pub(super) admin: Administration,
    login_pace: LoginPace,
    alarm: AlarmState,
    open: OpenCounts,
    limits: NodeLimits,
    disk_full: DiskFull,
    /// What is to go to each endpoint, filled by [`Self::outbound`].
    batches: Vec<Batch>,
    pub(super) outside: OutsideAnswers,
}

impl Coordinator {
    /// A coordinator with one vhost and one user. The change that creates the vhost is in the
    /// outbox already.
    #[must_use]
    pub fn new(config: CoordinatorConfig) -> Self {
        Self::recovered(config, &MetaState::default())
    }

    /// A coordinator that goes on from what outlived a restart. Every queue gets a new home, since
    /// the number of shards may have changed. The homes have to know the
    /// [`durable_queues`](Self::durable_queues) before they are sent anything. The changes that
    /// make the topology are in the outbox.
    ///
    /// If nothing was ever recorded, it is as [`Self::new`].
    #[must_use]
    pub fn recovered(config: CoordinatorConfig, state: &MetaState) -> Self {
        let mut coordinator = Self::empty(&config, state);
        if state.is_empty() {
            coordinator.create_first(&config);
        } else if !state.access.in_force {
            coordinator.admin.adopt_unrestricted(&mut coordinator.decisions, state);
        }
        for (name, vhost) in &state.vhosts {
            vhost.changes(name).for_each(|change| coordinator.recover(change));
            coordinator.queues.resolve_all(&mut coordinator.decisions, name);
        }
        coordinator
    }

    /// A coordinator without vhosts.
    fn empty(config: &CoordinatorConfig, state: &MetaState) -> Self {
        let shards = config.shards;
        let directory = Directory::new(shards, config.placement, state.queues_below);
        let queues = QueueLifeCycle {
            directory,
            limits: config.limits,
            vhost_limits: of_queues(&state.access),
            policies: Policies::recovered(&state.access),
            going: BTreeMap::new(),
            leaving: BTreeMap::new(),
            removals: Removals::new(config.removed_at_once),
            telling: Telling::default(),
        };
        let given = (config.vhost_defaults.clone(), config.validator.clone());
        let loopback = config.loopback_users.clone();
        Self {
            decisions: Decisions::new(Topology::new(config.entropy.map_seed()), shards),
            queues,
            admin: Administration::recovered(loopback, given, state),
            login_pace: LoginPace::default(),
            alarm: AlarmState::new(shards, config.memory_limit),
            open: OpenCounts::default(),
            limits: config.limits,
            disk_full: DiskFull::default(),
            batches: (0..=shards).map(|_| Batch::default()).collect(),
            outside: OutsideAnswers::new(ShardId(shards)),
        }
    }

    fn create_first(&mut self, config: &CoordinatorConfig) {
        let credential = Credential::Password(config.default_pass.clone(), config.salt);
        let user = (config.default_user.as_str().into(), credential);
        let vhost = config.default_vhost.as_str().into();
        let parts = (&mut self.decisions, &mut self.queues);
        self.admin.create_first(parts, user, &vhost);
    }

    fn recover(&mut self, change: Change) {
        let change = match change {
            Change::QueueCreated(vhost, spec) => {
                let spec = self.queues.directory.adopt(vhost.clone(), spec);
                Change::QueueCreated(vhost, spec)
            }
            other => other,
        };
        self.decisions.announce(change);
    }

    /// The queues that outlive a restart, with their vhosts and homes, by id.
    #[must_use]
    pub fn durable_queues(&self) -> Vec<(Name, QueueSpec)> {
        let ready = self.queues.directory.ready_from(QueueId::default());
        let durable = ready.filter(|(_, spec)| durable::is_durable(spec));
        durable.map(|(vhost, spec)| (vhost.clone(), spec.clone())).collect()
    }

    /// A batch arrived from a shard; it is left empty.
    pub fn mesh(&mut self, from: ShardId, batch: &mut Batch, now: Now) {
        let mut at = 0;
        while let Some(record) = batch.next(&mut at) {
            // Nothing else is ever sent here.
            if let MeshRecord::Control(control) = record {
                self.control(from, control, now);
            }
        }
        batch.clear();
    }

    /// Takes what a shard sent. Items that are not for a coordinator have no effect.
    pub fn control(&mut self, from: ShardId, control: Control, now: Now) {
        let (queues, decisions) = (&mut self.queues, &mut self.decisions);
        match control {
            Control::Ask(request_id, request) => {
                self.ask(Requester { shard: from, request: request_id }, request, now);
            }
            Control::Applied(version) => self.applied(from, version),
            Control::Created(queue) => queues.created(decisions, queue),
            Control::Frozen(queue, result) => queues.frozen(decisions, queue, result),
            Control::Unused(queue) => queues.unused(decisions, queue),
            Control::Reconfigured(_) => queues.reconfigured(decisions),
            Control::Memory(bytes) => {
                let alarms = self.alarm.memory(from, bytes);
                self.send_alarms(alarms);
            }
            Control::ConnectionLeft(conn) => self.open.connection_left(conn),
            Control::ChannelLeft(channel) => self.open.channel_left(channel),
            Control::ChannelsOpen(user, channels) => {
                channels.into_iter().for_each(|channel| self.open.channel_is_open(channel, &user));
            }
            other => debug_assert!(false, "not for a coordinator: {other:?}"),
        }
        self.count_memory();
    }

    /// Counts what the coordinator holds itself: its copy of the topology, the directory's of what
    /// was declared, and what is durable of both.
    fn count_memory(&mut self) {
        const COPIES: u64 = 3;
        let copies = if mutant::active(Mutant::CopiesUncounted) { 0 } else { COPIES };
        let bytes = copies * self.decisions.topology().bytes() as u64;
        let own = ShardId(self.decisions.shards());
        let alarms = self.alarm.memory(own, bytes);
        self.send_alarms(alarms);
    }

    /// The process has so many bytes in memory beyond what it has when it is idle.
    pub fn process_memory(&mut self, bytes: u64) {
        let alarms = self.alarm.process(bytes);
        self.send_alarms(alarms);
    }

    /// Bytes of memory that all shards and the coordinator count.
    #[must_use]
    pub fn counted_memory(&self) -> u64 {
        self.alarm.counted()
    }

    /// Too little of the disk is free (`true`), or enough.
    pub fn disk_is_low(&mut self, is_low: bool) {
        let alarms = self.alarm.disk(is_low);
        self.send_alarms(alarms);
    }

    /// Alarms do not wait for anything that is decided.
    fn send_alarms(&mut self, alarms: Option<Alarms>) {
        if let Some(alarms) = alarms {
            self.decisions.broadcast_now(&Control::Alarm(alarms));
        }
    }

    /// The alarms that are raised.
    #[must_use]
    pub fn alarms(&self) -> Alarms {
        self.alarm.raised()
    }

    /// What [`Self::take_records`] returned finds no room on the disk (`true`). Nothing that
    /// depends on it is sent until this is called with `false`, which says that it is durable.
    /// Then the requests that waited are executed, and there may be more records.
    pub fn disk_is_full(&mut self, is_full: bool, now: Now) {
        for (requester, request) in self.disk_full.set(is_full) {
            self.execute(requester, request, now);
        }
    }

    /// Facts to be made durable, all or none of them, before what [`Self::take_outbound`] returns
    /// is sent. So an answer promises the disk too, and no shard has seen what a crash could take
    /// back. If there is no room for them, [`Self::disk_is_full`] has to be told.
    pub fn take_records(&mut self) -> Vec<Fact> {
        self.decisions.take_records()
    }

    /// What is to be sent, in order. While the disk is full: what does not depend on records.
    pub fn take_outbound(&mut self) -> Vec<(ShardId, Control)> {
        let mut outbound = self.decisions.take_outbound(!self.disk_full.is_full());
        self.outside.take_from(&mut outbound);
        outbound
    }

    /// What is to go to a shard; see [`Self::take_outbound`].
    pub fn outbound(&mut self, to: ShardId) -> &mut Batch {
        self.send_outbound();
        self.batch(to)
    }

    /// Puts what is to be sent into the batches.
    pub fn send_outbound(&mut self) {
        for (shard, control) in self.take_outbound() {
            self.batches[shard.index()].control(control);
        }
    }

    /// Puts what does not depend on records into the batches.
    pub fn send_independent(&mut self) {
        for (shard, control) in self.decisions.take_outbound(false) {
            self.batches[shard.index()].control(control);
        }
    }

    /// The batch that goes to a shard.
    pub fn batch(&mut self, to: ShardId) -> &mut Batch {
        &mut self.batches[to.index()]
    }

    /// The coordinator's own copy: everything decided, applied elsewhere or not.
    #[must_use]
    pub fn topology(&self) -> &Topology {
        self.decisions.topology()
    }

    /// True if bindings are being removed with something that goes. They are durable until it has
    /// gone.
    #[must_use]
    pub fn is_removing(&self) -> bool {
        !self.queues.removals.is_empty()
    }

    /// True if no request, change or deletion is under way.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.decisions.is_settled() && self.queues.is_idle()
    }

    /// Executes a request, unless it has to wait for room on the disk.
    pub(super) fn ask(&mut self, requester: Requester, request: Request, now: Now) {
        let directory = &self.queues.directory;
        let owns_queues = |conn| directory.is_owner(conn);
        match self.disk_full.admit(requester, request, owns_queues) {
            Admission::Execute(request) => self.execute(requester, request, now),
            Admission::Waits => {}
            Admission::Answer(answer) => self.decisions.answer_now(requester, answer),
        }
    }

    fn execute(&mut self, requester: Requester, request: Request, now: Now) {
        let (queues, decisions) = (&mut self.queues, &mut self.decisions);
        let result = match request {
            Request::Login(login) => return self.log_in(requester, &login, now),
            Request::OpenVhost { conn, user, vhost } => {
                return self.open_vhost(requester, conn, UserInVhost { user, vhost });
            }
            Request::Permit(of, wanted) => {
                let permitted = self.admin.permit(&of, wanted);
                return decisions.answer_now(requester, Answer::Permitted(permitted));
            }
            Request::Admin(command) => {
                return self.admin.obey((decisions, queues), requester, *command);
            }
            Request::OpenChannel { channel, user } => {
                let of_user = self.admin.limits.user(&user, UserLimit::Channels);
                let opened = self.open.channel_opened(&self.limits, of_user, (channel, &user));
                let answer = opened.map_or_else(Answer::from, |()| Answer::Done);
                return decisions.answer_now(requester, answer);
            }
            Request::AwaitDeleted(queue) => {
                return queues.await_deleted(decisions, requester, queue);
            }
            Request::ConnectionGone(conn) => {
                return queues.connection_gone(decisions, requester, conn);
            }
            Request::DeclareQueue(vhost, spec) => {
                return queues.execute(decisions, requester, QueueCommand::Declare(vhost, spec));
            }
            Request::DeleteQueue { vhost, name, if_unused, if_empty, conn } => {
                let delete = QueueDelete { vhost, name, if_unused, if_empty, conn };
                return queues.execute(decisions, requester, QueueCommand::Delete(delete));
            }
            Request::Sync => Ok(Answer::Done),
            Request::DeclareExchange(vhost, spec) => {
                exchanges::declare(decisions, (&self.limits, &queues.policies), vhost, spec)
            }
            Request::DeleteExchange { vhost, name, if_unused } => {
                let (of, both) = ((&*vhost, &*name), (decisions, queues));
                return match exchanges::delete(both, requester, of, if_unused) {
                    Ok(()) => {}
                    Err(refused) => self.decisions.answer(requester, refused),
                };
            }
            Request::Bind(vhost, binding, conn) => {
                exchanges::bind(decisions, &self.limits, vhost, binding, conn)
            }
            Request::Unbind(vhost, binding, conn) => {
                let both = (decisions, queues);
                return match exchanges::unbind(both, requester, (vhost, binding), conn) {
                    Ok(()) => {}
                    Err(refused) => self.decisions.answer(requester, refused),
                };
            }
        };
        decisions.answer(requester, result.unwrap_or_else(|refused| refused));
    }

    fn log_in(&mut self, requester: Requester, login: &LoginAttempt, now: Now) {
        let LoginAttempt { user, password, from } = login;
        let answer = match self.login_pace.wait_us(*from, now) {
            Some(wait_us) => Answer::LoginTooEarly { wait_us },
            None => match self.admin.users.log_in(user, password.expose(), *from) {
                Ok(()) => Answer::LoggedIn,
                Err(why) => {
                    Answer::LoginRefused { why, wait_us: self.login_pace.failed(*from, now) }
                }
            },
        };
        self.decisions.answer_now(requester, answer);
    }

    fn open_vhost(&mut self, requester: Requester, conn: ConnId, of: UserInVhost) {
        let answer = match self.may_open(conn, &of) {
            Ok(rights) => {
                let counts_channels = self.admin.counts_channels(&of.user);
                self.open.connection_opened(conn, of);
                Answer::Opened { rights, counts_channels }
            }
            Err(refused) => refused,
        };
        self.decisions.answer_opened(requester, answer);
    }

    /// Asks for everything in the same order as RabbitMQ.
    fn may_open(&self, conn: ConnId, of: &UserInVhost) -> Result<Rights, Answer> {
        self.open.check_connection(&self.limits, conn)?;
        self.decisions.vhost(&of.vhost)?;
        let limits = &self.admin.limits;
        let of_vhost = limits.vhost(&of.vhost, VhostLimit::Connections);
        let of_user = limits.user(&of.user, UserLimit::Connections);
        self.open.check_own(conn, of, (of_vhost, of_user))?;
        self.admin.rights(of).ok_or(Answer::VhostRefused)
    }

    fn applied(&mut self, from: ShardId, version: u64) {
        self.decisions.applied(from, version);
        while let Some(queue) = self.decisions.next_applied() {
            self.queues.forgotten(&mut self.decisions, queue);
        }
        self.queues.go_on_removing(&mut self.decisions);
    }
}

/// Everything that decides what the machine does next; not what waits to be sent or taken.
impl Hash for Coordinator {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        let Self {
            decisions,
            queues,
            admin,
            login_pace,
            alarm,
            open,
            limits,
            disk_full,
            batches: _,
            outside: _,
        } = self;
        (decisions, queues, admin, login_pace).hash(hasher);
        (alarm, open, limits, disk_full).hash(hasher);
    }
}
