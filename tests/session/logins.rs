//! Logins that are refused: when and how the client is told, and that nobody else waits for it.

use amqp::{Method, TableWriter, Value};
use ringtail::shard::Gate;

use crate::rig::{self, Client, Rig};

const REFUSED: &str = "ConnectionClose ACCESS_REFUSED - Login was refused using authentication \
                       mechanism PLAIN. For details see the broker logfile.";

/// A client that has sent its password; it understands a refusal or does not.
fn tries(broker: &mut Rig, shard: usize, response: &[u8], understands: bool) -> Client {
    let client = broker.accepted(shard);
    broker.send(client, &amqp::PROTOCOL_HEADER);
    let capabilities =
        TableWriter::new().with("authentication_failure_close", Value::Bool(understands));
    let properties = TableWriter::new().with("capabilities", Value::Table(capabilities.table()));
    let client_properties = properties.table();
    let (mechanism, locale) = ("PLAIN", "en_US");
    let start_ok = Method::ConnectionStartOk { client_properties, mechanism, response, locale };
    broker.receive(client, &rig::encoded(0, &start_ok));
    broker.settle();
    client
}

fn wrong(broker: &mut Rig, shard: usize) -> Client {
    tries(broker, shard, b"\0guest\0hunter2", true)
}

/// Lets this much time pass, with a look at what is due after each millisecond.
fn pass(broker: &mut Rig, ms: u64) {
    for _ in 0..ms {
        broker.now.monotonic_us += 1000;
        (0..broker.shards.len()).for_each(|shard| broker.tick(shard));
    }
}

fn said(broker: &mut Rig, client: Client) -> Vec<String> {
    rig::names(&broker.take(client))
}

#[test]
fn a_refusal_is_told_late_and_its_socket_does_not_stay() {
    let mut broker = Rig::new(2);
    let client = wrong(&mut broker, 0);
    assert_eq!(said(&mut broker, client), [""; 0]);
    pass(&mut broker, 7);
    assert_eq!(said(&mut broker, client), [""; 0]);
    pass(&mut broker, 2);
    assert_eq!(said(&mut broker, client), [REFUSED]);
    pass(&mut broker, 2900);
    assert_eq!(broker.gate(client), Gate::Open);
    pass(&mut broker, 200);
    assert_eq!(broker.gate(client), Gate::Closing);
    broker.vanish(client);
    assert_eq!(broker.leftovers(), 0);
}

#[test]
fn a_client_that_would_not_understand_is_told_nothing() {
    let mut broker = Rig::new(1);
    let client = tries(&mut broker, 0, b"\0nobody\0guest", false);
    pass(&mut broker, 2900);
    assert_eq!((said(&mut broker, client), broker.gate(client)), (vec![], Gate::Open));
    pass(&mut broker, 200);
    assert_eq!((said(&mut broker, client), broker.gate(client)), (vec![], Gate::Closing));
}

#[test]
fn the_log_names_the_user_and_the_client_hears_no_more_than_from_rabbitmq() {
    let mut broker = Rig::new(1);
    let client = tries(&mut broker, 0, b"\0an'na\n\0hunter2", true);
    let why = broker.shards[0].why_closed(client.conn).unwrap().to_owned();
    assert_eq!(why, "PLAIN login refused: user 'an\\'na\\n' - invalid credentials");
    pass(&mut broker, 10);
    assert_eq!(said(&mut broker, client), [REFUSED]);
    assert_eq!(broker.shards[0].why_closed(client.conn), Some(&*why));
    assert!(!format!("{:?}", broker.shards[0]).contains("hunter2"));
}

#[test]
fn failures_of_one_source_are_answered_one_after_the_other() {
    let mut broker = Rig::new(2);
    let clients: Vec<_> = (0..5).map(|number| wrong(&mut broker, number % 2)).collect();
    let mut told = Vec::new();
    for ms in 1..=300 {
        pass(&mut broker, 1);
        for client in &clients {
            if said(&mut broker, *client) == [REFUSED] {
                told.push(ms);
            }
        }
    }
    assert_eq!(told, [8, 24, 56, 120, 248]);
}

#[test]
fn a_right_password_is_answered_at_once_beside_few_failures() {
    let mut broker = Rig::new(1);
    let _guesses = [(); 5].map(|()| wrong(&mut broker, 0));
    let client = tries(&mut broker, 0, b"\0guest\0guest", true);
    assert_eq!(said(&mut broker, client), ["ConnectionTune"]);
}

#[test]
fn many_failures_make_every_login_of_the_source_wait_but_not_the_work_of_others() {
    let mut broker = Rig::new(1);
    let other = broker.client(0);
    let guesses: Vec<_> = (0..20).map(|_| wrong(&mut broker, 0)).collect();
    let client = tries(&mut broker, 0, b"\0guest\0guest", true);
    assert_eq!(said(&mut broker, client), [""; 0]);
    let declared = broker.call(other, 1, &rig::declare("q", false));
    assert!(rig::names(&declared)[0].starts_with("QueueDeclareOk"));
    // Those that were not looked at yet are not once their sockets are gone.
    guesses.into_iter().for_each(|guess| broker.vanish(guess));
    pass(&mut broker, 1200);
    assert_eq!(said(&mut broker, client), ["ConnectionTune"]);
}

#[test]
fn fifty_clients_together_make_one_guess_a_second() {
    let mut broker = Rig::new(1);
    let (mut waiting, mut guesses): (Vec<Client>, _) = (Vec::new(), 0);
    for _ in 0..60_000 / 20 {
        while waiting.len() < 50 {
            waiting.push(wrong(&mut broker, 0));
        }
        broker.now.monotonic_us += 20_000;
        broker.tick(0);
        for client in std::mem::take(&mut waiting) {
            let told = said(&mut broker, client) == [REFUSED];
            if !told && broker.gate(client) != Gate::Closing {
                waiting.push(client);
                continue;
            }
            let why = broker.shards[0].why_closed(client.conn).unwrap();
            // The others were not looked at before the handshake had taken too long.
            guesses += usize::from(why.contains("invalid credentials"));
            broker.vanish(client);
        }
    }
    assert!((50..75).contains(&guesses), "{guesses} in a minute");
}
