//! Restricted users whose rights change while they work, moved by dice: every answer has to fit the
//! rights at some moment between its question and itself, and what was answered to the
//! administrator is in force for everybody.

use amqp::frame::write_header;
use amqp::{Method, Properties, Table};
use fastrand::Rng;
use model::access::command::{AdminAnswer, AdminCommand, Credential};
use model::access::{PermissionPatterns, TopicPatterns, VhostSettings};

use crate::rig::{self, Client, Rig};

const USER: &str = "anna";
const SEEDS: u64 = 24;
const STEPS: usize = 1500;

/// What a user may be given: patterns of configure, write and read, and the objects of [`NAMES`]
/// that each matches.
const GRANTS: [([&str; 3], [&[&str]; 3]); 4] = [
    ([".*"; 3], [&NAMES; 3]),
    (["^a", "^a", "^a"], [&["a", "amq.topic", "amq.default", "amq.gen-"]; 3]),
    (
        ["^c?$", "^(a|b|amq\\.topic)$", "^(?!amq\\.)(b|a$)"],
        [&["c"], &["a", "b", "amq.topic"], &["a", "b"]],
    ),
    ([""; 3], [&[]; 3]),
];
const NAMES: [&str; 6] = ["a", "b", "c", "amq.topic", "amq.default", "amq.gen-"];
/// The only routing key that topic permissions allow.
const KEY: &str = "k1";

/// The rights in force, or that may be.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Rights {
    /// `None`: the user does not exist.
    grant: Option<usize>,
    topics: bool,
}

/// What a method needs: a right, by its place in a grant, and an object; or a routing key.
#[derive(Debug, Clone, Copy)]
enum Need {
    Object(usize, &'static str),
    Key(&'static str),
}

impl Need {
    fn is_met(self, rights: Rights) -> bool {
        match (self, rights.grant) {
            (_, None) => false,
            (Need::Object(right, name), Some(grant)) => GRANTS[grant].1[right].contains(&name),
            (Need::Key(key), _) => !rights.topics || key == KEY,
        }
    }
}

/// What a client waits for.
#[derive(Debug)]
struct Waiting {
    needs: Vec<Need>,
    answer: &'static str,
    /// The oldest rights that may be in force.
    since: usize,
}

struct Worker {
    client: Client,
    waiting: Option<Waiting>,
    /// It has an open channel.
    open: bool,
}

struct World {
    rng: Rng,
    broker: Rig,
    workers: Vec<Worker>,
    /// All rights that were ever asked for, the newest last.
    rights: Vec<Rights>,
    /// Those that are in force for sure; newer ones may be.
    settled: usize,
    /// Commands that are asked for next, and what they lead to.
    commands: Vec<(AdminCommand, Rights)>,
    asked: bool,
}

fn publish(exchange: &str, routing_key: &str) -> Vec<u8> {
    let (ticket, mandatory, immediate) = (0, false, false);
    let method = Method::BasicPublish { ticket, exchange, routing_key, mandatory, immediate };
    let mut bytes = rig::encoded(1, &method);
    write_header(&mut bytes, 1, 0, Properties::EMPTY.encoded());
    bytes
}

fn method(method: &Method<'_>) -> Vec<u8> {
    rig::encoded(1, method)
}

impl World {
    fn new(seed: u64) -> Self {
        let mut broker = Rig::new(2);
        let guest = broker.client(0);
        for name in ["a", "b"] {
            broker.call(guest, 1, &rig::declare(name, false));
            let (kind, arguments) = ("direct", Table::EMPTY);
            let declare = Method::ExchangeDeclare {
                ticket: 0,
                exchange: name,
                kind,
                passive: false,
                durable: false,
                auto_delete: false,
                internal: false,
                nowait: false,
                arguments,
            };
            broker.call(guest, 1, &declare);
        }
        let rights = vec![Rights { grant: None, topics: false }];
        let (workers, commands) = (Vec::new(), Vec::new());
        let rng = Rng::with_seed(seed);
        let mut world = Self { rng, broker, workers, rights, settled: 0, commands, asked: false };
        world.create();
        world.run_commands();
        world
    }

    fn newest(&self) -> Rights {
        self.commands.last().map_or(self.rights[self.rights.len() - 1], |(_, rights)| *rights)
    }

    fn create(&mut self) {
        let credential = Credential::Password(USER.into(), [1; 4]);
        let put = AdminCommand::PutUser { name: USER.into(), credential, tags: Vec::new() };
        let nothing = Rights { grant: Some(3), topics: false };
        self.commands.push((put, nothing));
        let grant = self.rng.usize(..3);
        self.grant(grant);
    }

    fn grant(&mut self, grant: usize) {
        let [configure, write, read] = GRANTS[grant].0.map(Into::into);
        let patterns = PermissionPatterns { configure, write, read };
        let (user, vhost) = (USER.into(), "/".into());
        let set = AdminCommand::SetPermissions { user, vhost, patterns };
        self.commands.push((set, Rights { grant: Some(grant), ..self.newest() }));
    }

    fn restrict_topics(&mut self) {
        let (user, vhost, exchange) = (USER.into(), "/".into(), "amq.topic".into());
        let topics = !self.newest().topics;
        let patterns = TopicPatterns { write: "^k1$".into(), read: "^k1$".into() };
        let command = if topics {
            AdminCommand::SetTopicPermissions { user, vhost, exchange, patterns }
        } else {
            AdminCommand::ClearTopicPermissions { user, vhost, exchange: None }
        };
        self.commands.push((command, Rights { topics, ..self.newest() }));
    }

    /// The administrator decides on something, or asks for it.
    fn administer(&mut self) {
        if self.commands.is_empty() && !self.asked {
            match (self.newest().grant, self.rng.u8(..10)) {
                (None, _) => self.create(),
                (_, 0) => {
                    let gone = Rights { grant: None, topics: false };
                    self.commands.push((AdminCommand::DeleteUser(USER.into()), gone));
                }
                (_, 1..4) => self.restrict_topics(),
                _ => {
                    let grant = self.rng.usize(..4);
                    self.grant(grant);
                }
            }
        }
        if !self.asked && !self.commands.is_empty() {
            let (command, rights) = self.commands.remove(0);
            self.rights.push(rights);
            self.asked = true;
            self.broker.administer(self.rights.len() as u64, command);
        }
    }

    fn run_commands(&mut self) {
        while self.asked || !self.commands.is_empty() {
            self.administer();
            self.broker.settle();
            self.look_at_answers();
        }
    }

    fn look_at_answers(&mut self) {
        while let Some((id, answer)) = self.broker.administered() {
            assert_eq!((id, answer), (self.rights.len() as u64, AdminAnswer::Done));
            (self.settled, self.asked) = (self.rights.len() - 1, false);
        }
    }

    fn arrive(&mut self) {
        let shard = self.rng.usize(..2);
        let client = self.broker.arriving(shard, USER, "/");
        self.broker.receive(client, &method(&Method::ConfirmSelect { nowait: false }));
        let waiting = self.wait(Vec::new(), "ConfirmSelectOk");
        self.workers.push(Worker { client, waiting, open: true });
    }

    fn wait(&self, needs: Vec<Need>, answer: &'static str) -> Option<Waiting> {
        Some(Waiting { needs, answer, since: self.settled })
    }

    /// A worker does something, unless it waits.
    fn work(&mut self) {
        let exists = self.rights[self.settled..].iter().all(|rights| rights.grant.is_some());
        if self.workers.len() < 3 && exists {
            self.arrive();
        }
        if self.workers.is_empty() {
            return;
        }
        let at = self.rng.usize(..self.workers.len());
        let Worker { client, waiting: None, open } = self.workers[at] else { return };
        let (bytes, waiting) = if open { self.choose() } else { self.open_again() };
        self.workers[at].open = true;
        self.workers[at].waiting = waiting;
        // Content may come later than its method.
        let cut = self.rng.usize(..=bytes.len());
        self.broker.receive(client, &bytes[..cut]);
        if self.rng.bool() {
            self.turn();
        }
        self.broker.receive(client, &bytes[cut..]);
    }

    fn open_again(&self) -> (Vec<u8>, Option<Waiting>) {
        let methods = [
            Method::ChannelCloseOk {},
            Method::ChannelOpen { out_of_band: "" },
            Method::ConfirmSelect { nowait: false },
        ];
        (methods.map(|each| method(&each)).concat(), self.wait(Vec::new(), "ConfirmSelectOk"))
    }

    fn choose(&mut self) -> (Vec<u8>, Option<Waiting>) {
        let (name, other) = (self.name(), self.name());
        let key = if self.rng.bool() { KEY } else { "k2" };
        let topic = self.rng.bool();
        let (ticket, nowait, arguments) = (0, false, Table::EMPTY);
        match self.rng.u8(..8) {
            0 => {
                let needs = vec![Need::Object(1, "amq.topic"), Need::Key(key)];
                (publish("amq.topic", key), self.wait(needs, "BasicAck"))
            }
            1 => (publish("", name), self.wait(vec![Need::Object(1, "amq.default")], "BasicAck")),
            2 => (publish(name, key), self.wait(vec![Need::Object(1, name)], "BasicAck")),
            3 => {
                let needs = vec![Need::Object(0, name)];
                (method(&rig::declare(name, false)), self.wait(needs, "QueueDeclareOk"))
            }
            4 => {
                let needs = vec![Need::Object(0, "amq.gen-")];
                (method(&rig::declare("", true)), self.wait(needs, "QueueDeclareOk"))
            }
            5 => {
                let purge = Method::QueuePurge { ticket, queue: name, nowait };
                (method(&purge), self.wait(vec![Need::Object(2, name)], "QueuePurgeOk"))
            }
            6 => {
                let delete = Method::QueueDelete {
                    ticket,
                    queue: "c",
                    if_unused: false,
                    if_empty: false,
                    nowait,
                };
                (method(&delete), self.wait(vec![Need::Object(0, "c")], "QueueDeleteOk"))
            }
            _ => {
                let source = if topic { "amq.topic" } else { other };
                let bind = Method::QueueBind {
                    ticket,
                    queue: name,
                    exchange: source,
                    routing_key: key,
                    nowait,
                    arguments,
                };
                let mut needs = vec![Need::Object(1, name), Need::Object(2, source)];
                needs.extend(topic.then_some(Need::Key(key)));
                (method(&bind), self.wait(needs, "QueueBindOk"))
            }
        }
    }

    fn name(&mut self) -> &'static str {
        if self.rng.bool() { "a" } else { "b" }
    }

    fn turn(&mut self) {
        let shard = self.rng.usize(..2);
        self.broker.now.monotonic_us += 2000;
        self.broker.shards[shard].tick(self.broker.now);
        self.broker.turn(shard);
        self.look_at_answers();
    }

    /// A client reads; what it reads is judged.
    fn read(&mut self) {
        if self.workers.is_empty() {
            return;
        }
        let at = self.rng.usize(..self.workers.len());
        let client = self.workers[at].client;
        let said = rig::names(&self.broker.take_now(client));
        for name in said {
            self.judge(at, &name);
        }
        if self.broker.shards[client.shard].why_closed(client.conn).is_some() {
            self.broker.vanish_now(client);
            self.workers.remove(at);
        }
    }

    /// Whether rights that may have been in force since then let the worker do this, and whether
    /// some forbid it.
    fn verdicts(&self, waiting: &Waiting) -> (bool, bool) {
        let possible = &self.rights[waiting.since..];
        let allowed = |need: &Need| possible.iter().any(|rights| need.is_met(*rights));
        let refused = |need: &Need| possible.iter().any(|rights| !need.is_met(*rights));
        (waiting.needs.iter().all(allowed), waiting.needs.iter().any(refused))
    }

    fn judge(&mut self, at: usize, name: &str) {
        if ["ConnectionStart", "ConnectionTune", "ConnectionOpenOk", "ChannelOpenOk"]
            .contains(&name)
        {
            return;
        }
        if name.starts_with("ConnectionClose") {
            let gone = |rights: &Rights| rights.grant.is_none();
            assert!(self.rights.iter().any(gone), "{name}");
            return;
        }
        let waiting = self.workers[at].waiting.take();
        let Some(waiting) = waiting else { panic!("{name}, but nothing was asked") };
        let (may, may_not) = self.verdicts(&waiting);
        if name.starts_with("ChannelClose ACCESS_REFUSED") {
            assert!(may_not, "{name}: {waiting:?} {:?}", &self.rights[waiting.since..]);
            self.workers[at].open = false;
        } else {
            assert_eq!(name, waiting.answer);
            assert!(may, "{name}: {waiting:?} {:?}", &self.rights[waiting.since..]);
            let user = |rights: &Rights| rights.grant.is_some();
            let existed = self.rights[waiting.since..].iter().any(user);
            assert!(existed, "{name} to a user that is deleted");
        }
    }

    fn step(&mut self) {
        match self.rng.u8(..20) {
            0 => self.administer(),
            1..8 => self.work(),
            8..14 => self.turn(),
            _ => self.read(),
        }
    }
}

fn run(seed: u64) {
    let mut world = World::new(seed);
    (0..STEPS).for_each(|_| world.step());
}

#[test]
fn rights_hold_whatever_the_dice_say() {
    (0..SEEDS).for_each(run);
}

/// Every fault in what rights mean shows in these runs.
#[cfg(feature = "mutants")]
#[test]
fn faults_in_rights_are_found() {
    use model::mutant::{Mutant, select};
    // What policies promise is told by messages that no client sees.
    let seen = |mutant: &&Mutant| **mutant != Mutant::PolicyAnsweredEarly;
    for mutant in Mutant::ACCESS.iter().copied().filter(|mutant| seen(&mutant)) {
        select(Some(mutant));
        let caught = (0..SEEDS).any(|seed| std::panic::catch_unwind(|| run(seed)).is_err());
        select(None);
        assert!(caught, "{mutant:?} is not found");
    }
}

fn told(broker: &mut Rig, client: Client) -> Vec<String> {
    rig::names(&broker.take(client))
}

fn done(broker: &mut Rig, command: AdminCommand) {
    broker.administer(1, command);
    broker.settle();
    assert_eq!(broker.administered(), Some((1, AdminAnswer::Done)));
}

#[test]
fn a_vhost_that_is_deleted_closes_its_connections_and_can_come_back_empty() {
    let mut broker = Rig::new(2);
    let put = || AdminCommand::PutVhost("v".into(), VhostSettings::default());
    let patterns = PermissionPatterns::all();
    let (user, vhost) = ("guest".into(), "v".into());
    let permit = AdminCommand::SetPermissions { user, vhost, patterns };
    done(&mut broker, put());
    done(&mut broker, permit.clone());
    let clients = [0, 1].map(|shard| broker.arriving(shard, "guest", "v"));
    broker.settle();
    let other = broker.client(0);
    for (client, queue) in clients.iter().zip(["q", "r"]) {
        told(&mut broker, *client);
        assert_eq!(rig::names(&broker.call(*client, 1, &rig::declare(queue, false))).len(), 1);
        broker.send(*client, &rig::publish(queue, b"body"));
        broker.call(*client, 1, &rig::consume(queue));
    }
    done(&mut broker, AdminCommand::DeleteVhost("v".into()));
    for client in clients {
        let text = "ConnectionClose CONNECTION_FORCED - vhost 'v' is deleted";
        assert_eq!(told(&mut broker, client).last().map(String::as_str), Some(text));
        broker.vanish(client);
    }
    let answer = broker.call(other, 1, &rig::declare("q", false));
    assert_eq!(rig::names(&answer), ["QueueDeclareOk"]);
    done(&mut broker, put());
    done(&mut broker, permit);
    let client = broker.arriving(0, "guest", "v");
    broker.settle();
    told(&mut broker, client);
    let gone = broker.call(client, 1, &rig::passive("q"));
    assert_eq!(rig::names(&gone), ["ChannelClose NOT_FOUND - no queue 'q' in vhost 'v'"]);
    broker.vanish(client);
    broker.vanish(other);
    assert_eq!(broker.leftovers(), 0);
}

#[test]
fn what_is_published_while_rights_go_is_refused_and_the_channel_after_it() {
    let mut broker = Rig::new(2);
    let credential = Credential::Password(USER.into(), [1; 4]);
    done(&mut broker, AdminCommand::PutUser { name: USER.into(), credential, tags: Vec::new() });
    let grant = |write: &str| AdminCommand::SetPermissions {
        user: USER.into(),
        vhost: "/".into(),
        patterns: PermissionPatterns { write: write.into(), ..PermissionPatterns::all() },
    };
    done(&mut broker, grant(".*"));
    let client = broker.arriving(1, USER, "/");
    broker.settle();
    told(&mut broker, client);
    broker.call(client, 1, &Method::ConfirmSelect { nowait: false });
    for _ in 0..2 {
        assert_eq!(rig::names(&broker.send(client, &publish("amq.fanout", "k"))), ["BasicAck"]);
    }
    done(&mut broker, grant("^x"));
    let refused = "ChannelClose ACCESS_REFUSED - write access to exchange 'amq.fanout' in vhost \
                   '/' refused for user 'anna'";
    assert_eq!(rig::names(&broker.send(client, &publish("amq.fanout", "k"))), [refused]);
}
