//! Limits of vhosts and users: what comes at once on several shards gets exactly the places that
//! are left, and what is open stays open.

use amqp::Method;
use fastrand::Rng;
use model::access::PermissionPatterns;
use model::access::command::{AdminAnswer, AdminCommand, Credential};
use model::access::limits::{UserLimit, VhostLimit};

use crate::rig::{self, Client, Rig};

const USER: &str = "anna";
const SHARDS: u16 = 3;
const SEEDS: u64 = 16;
const OPEN: Method<'static> = Method::ChannelOpen { out_of_band: "" };

fn done(broker: &mut Rig, command: AdminCommand) {
    broker.administer(1, command);
    broker.settle();
    assert_eq!(broker.administered(), Some((1, AdminAnswer::Done)));
}

fn limit_user(limit: UserLimit, most: i64) -> AdminCommand {
    AdminCommand::SetUserLimits(USER.into(), [(limit, most)].into())
}

fn limit_vhost(limit: VhostLimit, most: i64) -> AdminCommand {
    AdminCommand::SetVhostLimits("/".into(), [(limit, most)].into())
}

/// A broker with a user who has all rights.
fn broker() -> Rig {
    let mut broker = Rig::new(SHARDS);
    let credential = Credential::Password(USER.into(), [1; 4]);
    let put = AdminCommand::PutUser { name: USER.into(), credential, tags: Vec::new() };
    let (user, vhost) = (USER.into(), "/".into());
    let patterns = PermissionPatterns::all();
    done(&mut broker, put);
    done(&mut broker, AdminCommand::SetPermissions { user, vhost, patterns });
    broker
}

/// Connections that come at once, on shards that dice choose: those that were opened, and what the
/// others were told.
fn arrive(broker: &mut Rig, dice: &mut Rng, count: usize) -> (Vec<Client>, Vec<String>) {
    let shards = usize::from(SHARDS);
    let clients: Vec<_> =
        (0..count).map(|_| broker.arriving(dice.usize(..shards), USER, "/")).collect();
    for _ in 0..dice.usize(..40) {
        broker.turn(dice.usize(..shards));
    }
    broker.settle();
    let (mut open, mut refused) = (Vec::new(), Vec::new());
    for client in clients {
        let names = rig::names(&broker.take(client));
        match names.last() {
            Some(last) if last == "ChannelOpenOk" => open.push(client),
            last => {
                refused.extend(last.cloned());
                broker.vanish(client);
            }
        }
    }
    (open, refused)
}

/// Bursts of connections under a limit that goes up and down.
fn connections(seed: u64) {
    let (mut dice, mut broker) = (Rng::with_seed(seed), broker());
    let mut open = Vec::new();
    for _ in 0..8 {
        let (limit, of_user) = (dice.usize(..6), dice.bool());
        let (lower, higher) = (limit_user(UserLimit::Connections, limit as i64), -1);
        if of_user {
            done(&mut broker, lower);
            done(&mut broker, limit_vhost(VhostLimit::Connections, higher));
        } else {
            done(&mut broker, limit_user(UserLimit::Connections, higher));
            done(&mut broker, limit_vhost(VhostLimit::Connections, limit as i64));
        }
        let count = dice.usize(1..6);
        let (opened, refused) = arrive(&mut broker, &mut dice, count);
        assert_eq!(opened.len(), count.min(limit.saturating_sub(open.len())), "seed {seed}");
        let text = if of_user {
            format!(
                "connection refused for user 'anna': user connection limit ({limit}) is reached"
            )
        } else {
            format!(
                "access to vhost '/' refused for user 'anna': connection limit ({limit}) is reached"
            )
        };
        let text = format!("ConnectionClose NOT_ALLOWED - {text}");
        assert!(refused.iter().all(|told| *told == text), "{refused:?}");
        open.extend(opened);
        for _ in 0..dice.usize(..=open.len()) {
            broker.vanish(open.swap_remove(dice.usize(..open.len())));
        }
    }
    open.into_iter().for_each(|client| broker.vanish(client));
    assert_eq!(broker.leftovers(), 0);
}

/// Channels that are open when a limit comes count, whatever of the change is under way.
fn channels(seed: u64) {
    let (mut dice, mut broker) = (Rng::with_seed(seed), broker());
    let (open, _) = arrive(&mut broker, &mut dice, 4);
    for (at, client) in open.iter().enumerate() {
        (0..at as u16).for_each(|more| broker.receive(*client, &rig::encoded(2 + more, &OPEN)));
    }
    // 4 channels of the arrivals, and 0, 1, 2 and 3 more.
    broker.administer(1, limit_user(UserLimit::Channels, 11));
    for _ in 0..dice.usize(..40) {
        broker.turn(dice.usize(..usize::from(SHARDS)));
    }
    broker.settle();
    assert_eq!(broker.administered(), Some((1, AdminAnswer::Done)));
    open.iter().for_each(|client| drop(broker.take(*client)));
    // The eleventh has a place, and one more has none.
    assert_eq!(rig::names(&broker.call(open[0], 9, &OPEN)), ["ChannelOpenOk"], "seed {seed}");
    let text = "number of channels opened for user 'anna' has reached the maximum allowed user \
                limit of (11)";
    let text = format!("ConnectionClose NOT_ALLOWED - {text}");
    assert_eq!(rig::names(&broker.call(open[1], 9, &OPEN)), [text], "seed {seed}");
    // With that connection its channels are gone: two of them were open.
    let names = [10, 11].map(|number| rig::names(&broker.call(open[2], number, &OPEN)));
    assert_eq!(names, [["ChannelOpenOk"], ["ChannelOpenOk"]], "seed {seed}");
    done(&mut broker, AdminCommand::ClearUserLimits(USER.into(), Some(UserLimit::Channels)));
    assert_eq!(rig::names(&broker.call(open[2], 12, &OPEN)), ["ChannelOpenOk"]);
    open.into_iter().for_each(|client| broker.vanish(client));
    assert_eq!(broker.leftovers(), 0);
}

/// A limit that is lowered takes no queue away; a queue that is deleted leaves its place.
fn queues(_seed: u64) {
    let mut broker = broker();
    let client = broker.client(0);
    broker.call(client, 1, &rig::declare("one", false));
    broker.call(client, 1, &rig::declare("two", true));
    done(&mut broker, limit_vhost(VhostLimit::Queues, 2));
    assert_eq!(rig::names(&broker.call(client, 1, &rig::declare("one", false))).len(), 1);
    let text = "ChannelClose PRECONDITION_FAILED - cannot declare queue 'three': queue limit in \
                vhost '/' (2) is reached";
    let declare = rig::declare("three", false);
    assert_eq!(rig::names(&broker.call(client, 1, &declare)), [text]);
    let other = broker.client(1);
    broker.vanish(client);
    assert_eq!(rig::names(&broker.call(other, 1, &declare)), ["QueueDeclareOk"]);
    done(&mut broker, AdminCommand::ClearVhostLimits("/".into(), None));
    let names = rig::names(&broker.call(other, 1, &rig::declare("four", false)));
    assert_eq!(names, ["QueueDeclareOk"]);
    broker.vanish(other);
    assert_eq!(broker.leftovers(), 0);
}

#[test]
fn who_comes_at_once_gets_exactly_the_places_that_are_left() {
    (0..SEEDS).for_each(connections);
}

#[test]
fn open_channels_count_when_a_limit_comes() {
    (0..SEEDS).for_each(channels);
}

#[test]
fn a_lowered_limit_takes_no_queue_away() {
    queues(0);
}

/// Every fault in the limits shows in these runs.
#[cfg(feature = "mutants")]
#[test]
fn faults_in_limits_are_found() {
    use model::mutant::{Mutant, select};
    for mutant in Mutant::LIMITS.iter().copied() {
        select(Some(mutant));
        let runs: [fn(u64); 3] = [connections, channels, queues];
        let fails = |run: fn(u64)| std::panic::catch_unwind(move || run(0)).is_err();
        let caught = runs.into_iter().any(fails);
        select(None);
        assert!(caught, "{mutant:?} is not found");
    }
}
