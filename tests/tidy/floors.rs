//! A room imports only rooms above it, pure rooms touch nothing outside, `unsafe` is fenced.

use crate::paths::{self, Named};
use crate::source::Source;

/// The rooms of the root package from the ground up; not all need to exist.
const ORDER: [&str; 9] =
    ["config", "store", "mesh", "coordinator", "queues", "sessions", "shard", "runtime", "admin"];
/// Rooms without I/O, clock, threads and globals.
const PURE: [&str; 8] = [
    "src/amqp/",
    "src/model/",
    "src/store/",
    "src/mesh/",
    "src/coordinator/",
    "src/queues/",
    "src/sessions/",
    "src/shard/",
];
/// Not in a build that is used: tests, and the faults that only the simulation compiles.
const ASIDE: [&str; 3] = ["/tests/", "_test.rs", "src/model/mutant.rs"];
/// What must not be named in them.
const IMPURE: [&str; 16] = [
    "glommio",
    "tokio",
    "std::fs",
    "std::thread",
    "thread::spawn",
    "thread::sleep",
    "thread_local",
    "time::Instant",
    "time::SystemTime",
    "std::time::*",
    "Instant::now",
    "SystemTime::now",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "ToSocketAddrs",
];
/// What threads outside the data path ask, and the parts of paths of files that may name it.
const ASKED: (&str, [&str; 3]) = ("mesh::inspect", ["/inspect", "/snapshots", "/pending"]);
/// The library of io_uring, and the only place that may name it: nothing else may need io_uring.
const URING: (&str, &str) = ("glommio", "src/runtime/net/poller/uring/");
/// The plain values of `std::net`.
const ADDRESSES: [&str; 6] =
    ["SocketAddr", "SocketAddrV4", "SocketAddrV6", "IpAddr", "Ipv4Addr", "Ipv6Addr"];

pub fn complaints(sources: &[Source]) -> Vec<String> {
    let Some(root) = sources.iter().find(|source| source.path == "src/lib.rs") else {
        return vec!["src/lib.rs: not there".to_owned()];
    };
    let rooms = rooms(root);
    let mut complaints = order(&rooms);
    for source in sources {
        let named = paths::named(source);
        complaints.extend(named.iter().filter_map(|path| upward(source, path, &rooms)));
        complaints.extend(named.iter().filter_map(|path| impure(source, path)));
        complaints.extend(named.iter().filter_map(|path| asked(source, path)));
        complaints.extend(open_unsafe(source));
        complaints.extend(uring_elsewhere(source));
    }
    complaints
}

/// The modules of the root in their order.
fn rooms(root: &Source) -> Vec<String> {
    let tokens = root.tokens();
    let modules = tokens.windows(2).filter(|pair| pair[0].1 == "mod");
    modules.map(|pair| pair[1].1.to_owned()).collect()
}

fn order(rooms: &[String]) -> Vec<String> {
    let places: Vec<_> =
        rooms.iter().map(|room| ORDER.iter().position(|known| known == room)).collect();
    let unknown = rooms.iter().zip(&places).filter(|(_, place)| place.is_none());
    let mut complaints: Vec<_> =
        unknown.map(|(room, _)| format!("src/lib.rs: {room} has no floor")).collect();
    if !places.is_sorted() {
        complaints.push("src/lib.rs: modules are not in floor order".to_owned());
    }
    complaints
}

/// The path below `src/` without `mod.rs`: how many `super` reach the root.
fn depth(path: &str) -> usize {
    path.split('/').filter(|part| *part != "mod.rs").count() - 1
}

/// The room a path leads to, if it goes through the root.
fn target<'p>(source: &Source, path: &'p Named) -> Option<&'p str> {
    let supers = path.segments.iter().take_while(|segment| *segment == "super").count();
    let through_root = match path.segments[0].as_str() {
        "crate" | "ringtail" => Some(1),
        "super" if supers >= depth(&source.path) => Some(supers),
        _ => None,
    };
    path.segments.get(through_root?).map(String::as_str)
}

fn upward(source: &Source, path: &Named, rooms: &[String]) -> Option<String> {
    let own = source.path.strip_prefix("src/")?.split(['/', '.']).next()?;
    let own = rooms.iter().position(|room| room == own)?;
    let room = target(source, path)?;
    let all = room == "*" && own + 1 < rooms.len();
    let upward = all || rooms.iter().position(|known| known == room).is_some_and(|at| at > own);
    upward.then(|| format!("{}:{}: {} leads upward", source.path, path.line, path.text()))
}

fn impure(source: &Source, path: &Named) -> Option<String> {
    PURE.iter().find(|room| source.path.starts_with(**room))?;
    if ASIDE.iter().any(|aside| source.path.contains(aside)) {
        return None;
    }
    let socket = path.has("std::net")
        && !ADDRESSES.iter().any(|address| path.has(&format!("std::net::{address}")));
    let impure = socket || IMPURE.iter().any(|part| path.has(part));
    impure.then(|| format!("{}:{}: {} is not pure", source.path, path.line, path.text()))
}

/// The data path does not know what a thread outside of it asks.
fn asked(source: &Source, path: &Named) -> Option<String> {
    let product = source.path.starts_with("src/");
    let may = ASKED.1.iter().chain(&ASIDE).any(|part| source.path.contains(part));
    let named = product && !may && path.has(ASKED.0);
    named.then(|| format!("{}:{}: {} is on the data path", source.path, path.line, path.text()))
}

fn open_unsafe(source: &Source) -> Vec<String> {
    let compact: String = source.code.split_whitespace().collect();
    if compact.contains("#![allow(unsafe_code)]") {
        return Vec::new();
    }
    let tokens = source.tokens();
    let found = tokens.iter().filter(|(_, token)| *token == "unsafe");
    found
        .map(|(at, _)| format!("{}:{}: unsafe is not fenced", source.path, source.line(*at)))
        .collect()
}

fn uring_elsewhere(source: &Source) -> Vec<String> {
    let (library, half) = URING;
    // In a pure room it is a complaint already.
    let pure = PURE.iter().any(|room| source.path.starts_with(room));
    if pure || !source.path.starts_with("src/") || source.path.starts_with(half) {
        return Vec::new();
    }
    let tokens = source.tokens();
    let found = tokens.iter().filter(|(_, token)| *token == library);
    found
        .map(|(at, _)| format!("{}:{}: {library} outside {half}", source.path, source.line(*at)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, text: &str) -> Vec<String> {
        let root = "//! t\npub mod store;\npub mod shard;\npub mod admin;\n";
        complaints(&[Source::new("src/lib.rs", root), Source::new(path, text)])
    }

    fn one(path: &str, text: &str, end: &str) {
        let found = check(path, text);
        assert!(found.len() == 1 && found[0].ends_with(end), "{path} {text}: {found:?}");
    }

    #[test]
    fn a_way_up_is_found() {
        one("src/shard/mod.rs", "use crate::admin::Page;", "crate::admin::Page leads upward");
        one("src/shard/a/b.rs", "use crate::{store, admin::Page};", "leads upward");
        one("src/shard/mod.rs", "use super::admin;", "leads upward");
        one("src/shard/a.rs", "fn f() { super::super::admin::f() }", "leads upward");
        one("src/store.rs", "use crate::*;", "leads upward");
        for (path, text) in [
            ("src/shard/mod.rs", "use crate::store::Log;"),
            ("src/shard/a.rs", "use super::admin;"),
            ("src/admin/mod.rs", "use crate::{store, shard};"),
            ("src/shard/mod.rs", "// use crate::admin;"),
            ("src/main.rs", "use ringtail::admin;"),
        ] {
            assert_eq!(check(path, text), Vec::<String>::new(), "{text}");
        }
    }

    #[test]
    fn an_order_that_is_not_the_floors_is_found() {
        let orders = [("pub mod shard; pub mod store;", 1), ("mod amqp; mod store;", 1)];
        for (root, count) in orders {
            assert_eq!(complaints(&[Source::new("src/lib.rs", root)]).len(), count, "{root}");
        }
        assert_eq!(complaints(&[]).len(), 1);
    }

    #[test]
    fn impure_code_is_found() {
        for text in [
            "use glommio::Task;",
            "use std::{fs, fmt};",
            "use std::net::{SocketAddr, TcpStream};",
            "use std::net::*;",
            "use std::time::{Duration, Instant};",
            "fn f() { std::time::SystemTime::now(); }",
            "use std::thread;",
            "thread_local! { static A: u8 = 1; }",
        ] {
            for room in ["amqp", "model", "store", "shard"] {
                one(&format!("src/{room}/a.rs"), text, "is not pure");
            }
            assert_eq!(check("src/runtime/net/poller/uring/a.rs", text), Vec::<String>::new());
        }
        let plain = "use std::net::{IpAddr, SocketAddr};\nuse std::time::Duration;";
        assert_eq!(check("src/shard/a.rs", plain), Vec::<String>::new());
    }

    #[test]
    fn a_need_of_io_uring_is_found() {
        let text = "fn f() { glommio::spawn_local(g()) }";
        one("src/admin/a.rs", text, "1: glommio outside src/runtime/net/poller/uring/");
        assert_eq!(check("src/runtime/net/poller/uring/a.rs", text), Vec::<String>::new());
        assert_eq!(check("src/admin/a.rs", "// glommio").len(), 0);
    }

    #[test]
    fn only_files_about_lists_know_what_is_asked() {
        let text = "use crate::mesh::inspect::{Page, ListChunk};";
        assert_eq!(check("src/shard/turn.rs", text).len(), 2);
        for path in ["src/shard/inspect.rs", "src/queues/snapshots.rs", "src/shard/home_test.rs"] {
            assert_eq!(check(path, text), Vec::<String>::new());
        }
    }

    #[test]
    fn unsafe_in_the_open_is_found() {
        one("src/admin/a.rs", "fn f() { unsafe { g() } }", "1: unsafe is not fenced");
        let fenced = "//! t\n#![allow(unsafe_code)]\nfn f() { unsafe { g() } }";
        assert_eq!(check("src/admin/a.rs", fenced), Vec::<String>::new());
        assert_eq!(check("src/admin/a.rs", "// unsafe\nconst A: &str = \"unsafe\";").len(), 0);
    }
}
