//! Clients that use up the broker's descriptors neither end it nor keep others out.

use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::broker::{Broker, warnings};
use crate::client::Client;
use crate::launch::Rights;

const FILES: u64 = 256;
const SILENT: usize = 400;
const PATIENCE: Duration = Duration::from_secs(20);

fn broker(io: &str) -> Broker {
    let rights = Rights { files: Some(FILES), ..Rights::default() };
    Broker::start(rights, &["--io", io, "--shards", "2"], &[])
}

fn silent(address: SocketAddr) -> Vec<TcpStream> {
    (0..SILENT).map(|_| TcpStream::connect(address).unwrap()).collect()
}

/// A client as soon as there is room for one.
fn soon(address: SocketAddr) -> Client {
    let begin = Instant::now();
    loop {
        if let Some(client) = Client::try_connect(address, b"") {
            return client;
        }
        assert!(begin.elapsed() < PATIENCE, "nobody new is taken");
        thread::yield_now();
    }
}

#[test]
fn silent_sockets_keep_nobody_out() {
    for io in ["uring", "epoll"] {
        let broker = broker(io);
        let mut early = Client::connect(broker.address(), b"");
        let sockets = silent(broker.address());
        early.round_trip("early", &[16, 3_000_000]);
        soon(broker.address()).round_trip("late", &[16, 3_000_000]);
        let more = silent(broker.address());
        early.round_trip("again", &[16]);
        soon(broker.address()).close();
        drop((sockets, more));
        early.close();
        let log = broker.stop();
        let warnings = warnings(&log);
        assert!(warnings.iter().any(|line| line.contains("without a login")), "{warnings:?}");
        // One a second and shard, and one for a socket that was closed in the middle of something.
        let folded = warnings.iter().filter(|line| line.contains("without a login"));
        assert!(folded.count() < 40, "{warnings:?}");
    }
}

#[test]
fn clients_that_logged_in_leave_room_for_files() {
    for io in ["uring", "epoll"] {
        let broker = broker(io);
        let mut clients = vec![Client::connect(broker.address(), b"")];
        while let Some(client) = Client::try_connect(broker.address(), b"") {
            clients.push(client);
            assert!(clients.len() < FILES as usize, "nobody is refused");
        }
        assert!(clients.len() > 50, "{}", clients.len());
        clients[0].round_trip("q", &[16, 3_000_000]);
        clients.pop().unwrap().close();
        soon(broker.address()).round_trip("late", &[16]);
        drop(clients);
        let log = broker.stop();
        let refused = warnings(&log).iter().filter(|line| line.contains("were refused")).count();
        assert!((1..40).contains(&refused), "{log:?}");
    }
}
