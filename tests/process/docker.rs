//! A plain `docker run` serves: Docker's default profile refuses io_uring, and so does a small
//! limit of locked memory. Then epoll serves, and one warning says so.

use crate::broker::{Broker, warnings};
use crate::client::Client;
use crate::launch::{Refusal, Rights};

const LOCKED: u64 = 64 * 1024;

fn serves_with_one_warning(rights: Rights, reason: &str) {
    let broker = Broker::start(rights, &[], &[]);
    let mut client = Client::connect(broker.address(), b"");
    client.round_trip("q", &[0, 16, 200_000, 3_000_000]);
    client.close();
    let log = broker.stop();
    let warnings = warnings(&log);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains(reason) && warnings[0].contains("epoll"), "{warnings:?}");
}

#[test]
fn dockers_profile_serves() {
    let docker = Some(Refusal::Eperm);
    serves_with_one_warning(Rights { docker, ..Rights::default() }, "seccomp");
}

#[test]
fn a_sandbox_that_knows_no_io_uring_serves() {
    let docker = Some(Refusal::Enosys);
    serves_with_one_warning(Rights { docker, ..Rights::default() }, "Linux 5.8");
}

#[test]
fn little_locked_memory_serves() {
    serves_with_one_warning(Rights { locked: Some(LOCKED), ..Rights::default() }, "ulimit -l");
}

#[test]
fn a_plain_docker_run_serves() {
    let rights = Rights { docker: Some(Refusal::Eperm), locked: Some(LOCKED), ..Rights::default() };
    serves_with_one_warning(rights, "epoll");
}

#[test]
fn epoll_that_was_asked_for_is_no_warning() {
    let rights = Rights { docker: Some(Refusal::Eperm), ..Rights::default() };
    let broker = Broker::start(rights, &["--io", "epoll"], &[]);
    Client::connect(broker.address(), b"").close();
    assert_eq!(warnings(&broker.stop()), Vec::<&String>::new());
}

#[test]
fn io_uring_that_was_asked_for_is_refused() {
    for (rights, reason) in [
        (Rights { docker: Some(Refusal::Eperm), ..Rights::default() }, "seccomp"),
        (Rights { locked: Some(LOCKED), ..Rights::default() }, "ulimit -l"),
    ] {
        let (said, status) = Broker::refused(rights, &["--io", "uring"]);
        assert!(said.contains(reason), "{said}");
        assert_eq!(status.code(), Some(1), "{said}");
    }
}
