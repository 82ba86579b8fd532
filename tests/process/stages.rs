//! A transport stage in front of every session: the line `PEER address:port`.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::broker::Broker;
use crate::client::Client;
use crate::launch::Rights;

const LINE: &[u8] = b"PEER 192.0.2.7:4711\r\n";

fn broker(stages: &str, arguments: &[&str]) -> Broker {
    Broker::start(Rights::default(), arguments, &[("RINGTAIL_TEST_STAGES", stages)])
}

#[test]
fn the_session_sees_the_address_that_the_stage_found() {
    for io in ["uring", "epoll"] {
        let mut broker = broker("peer-line,peer-line", &["--io", io]);
        // guest may log in from this host only, and this is not the address of this host.
        let mut stream = TcpStream::connect(broker.address()).unwrap();
        stream.write_all(&[LINE, LINE, b"AMQP\0\0\x09\x01"].concat()).unwrap();
        let mut first = [0; 1];
        stream.read_exact(&mut first).unwrap();
        assert_eq!(first, [1]);
        drop(stream);
        assert!(broker.read_until(|line| line.contains("closing AMQP connection 192.0.2.7:4711")));
        let local = [b"PEER 127.0.0.1:9\r\n".as_slice(), b"PEER 127.0.0.1:9\r\n"].concat();
        let mut client = Client::connect(broker.address(), &local);
        client.round_trip("q", &[16, 200_000]);
        client.close();
        broker.stop();
    }
}

#[test]
fn a_session_behind_no_header_is_not_opened() {
    let mut broker = broker("peer-line", &[]);
    let mut stream = TcpStream::connect(broker.address()).unwrap();
    stream.write_all(b"AMQP\0\0\x09\x01").unwrap();
    let mut answer = Vec::new();
    // The broker may reset the connection, since it did not read all of it.
    let _ = stream.read_to_end(&mut answer);
    assert_eq!(answer, b"");
    assert!(broker.read_until(|line| line.contains("transport header")));
    broker.stop();
}

#[test]
fn a_stage_has_its_time() {
    let config = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(config.path(), "handshake_timeout = 300\n").unwrap();
    let mut broker = broker("peer-line", &["--config", config.path().to_str().unwrap()]);
    let mut stream = TcpStream::connect(broker.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(b"PEER ").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, b"");
    assert!(broker.read_until(|line| line.contains("handshake_timeout")));
    broker.stop();
}

#[test]
fn the_end_of_the_broker_waits_for_no_header() {
    let broker = broker("peer-line", &[]);
    let mut stream = TcpStream::connect(broker.address()).unwrap();
    stream.write_all(b"PEER ").unwrap();
    let mut client = Client::connect(broker.address(), b"PEER 127.0.0.1:9\r\n");
    client.round_trip("q", &[16]);
    client.close();
    broker.stop();
}
