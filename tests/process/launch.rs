//! A launcher: the test binary once more, which gives rights up and becomes the broker.

use std::env;
use std::io::Cursor;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Resource, Rlimit, setrlimit};
use seccompiler::{BpfMap, apply_filter, compile_from_json};

/// What Docker's default profile allows a container without further capabilities, on x86-64, as far
/// as the table of the compiler knows the names. Docker answers EPERM to everything else; ENOSYS to
/// clone3, so that the C library takes clone.
const DOCKER: &str = include_str!("docker.json");
const EPERM: &str = r#""errno": 1"#;
const ENOSYS: &str = r#""errno": 38"#;

const ARGUMENTS: &str = "LAUNCH_ARGUMENTS";
const REFUSAL: &str = "LAUNCH_REFUSAL";
const LOCKED: &str = "LAUNCH_LOCKED";
const FILES: &str = "LAUNCH_FILES";

/// How Docker's profile refuses what it does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// As Docker does.
    Eperm,
    /// As other sandboxes do.
    Enosys,
}

/// What the broker may do.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rights {
    /// Docker's profile.
    pub docker: Option<Refusal>,
    /// Bytes of memory that may be locked.
    pub locked: Option<u64>,
    /// Files that may be open.
    pub files: Option<u64>,
}

/// The command that starts the broker with these rights and arguments.
pub fn command(rights: Rights, arguments: &[&str]) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["launch::launch", "--exact", "--ignored", "--nocapture"]);
    command.env(ARGUMENTS, arguments.join("\n"));
    if let Some(refusal) = rights.docker {
        command.env(REFUSAL, if refusal == Refusal::Eperm { EPERM } else { ENOSYS });
    }
    if let Some(bytes) = rights.locked {
        command.env(LOCKED, bytes.to_string());
    }
    if let Some(files) = rights.files {
        command.env(FILES, files.to_string());
    }
    command
}

/// No test: started by [`command`], it becomes the broker.
#[test]
#[ignore = "it becomes the broker"]
fn launch() {
    let arguments = env::var(ARGUMENTS).unwrap();
    for (name, resource) in [(LOCKED, Resource::Memlock), (FILES, Resource::Nofile)] {
        if let Ok(limit) = env::var(name) {
            let limit = Some(limit.parse().unwrap());
            setrlimit(resource, Rlimit { current: limit, maximum: limit }).unwrap();
        }
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringtail"));
    command.args(arguments.lines());
    for name in [ARGUMENTS, REFUSAL, LOCKED, FILES] {
        command.env_remove(name);
    }
    if let Ok(refusal) = env::var(REFUSAL) {
        confine(&DOCKER.replace(EPERM, &refusal));
    }
    panic!("{}", command.exec());
}

/// Both filters hold from now on: each call gets the stricter answer of the two.
fn confine(profile: &str) {
    let arch = env::consts::ARCH.try_into().unwrap();
    let filters: BpfMap = compile_from_json(Cursor::new(profile), arch).unwrap();
    for name in ["clone3", "main"] {
        apply_filter(&filters[name]).unwrap();
    }
}
