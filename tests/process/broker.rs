//! The broker as a child process on a port of its own, with its log.

use std::fs::Permissions;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, ChildStdout, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::launch::{self, Rights};

/// What the broker says once it serves.
const READY: &str = "Ringtail is ready";

/// A running broker. It is killed when this is dropped.
pub struct Broker {
    child: Child,
    stdout: BufReader<ChildStdout>,
    /// The lines of the log so far.
    log: Vec<String>,
    _data: TempDir,
}

impl Broker {
    /// Starts a broker and reads its log until it serves.
    pub fn start(rights: Rights, arguments: &[&str], env: &[(&str, &str)]) -> Self {
        let mut broker = Self::spawn(rights, arguments, env);
        let ready = broker.read_until(|line| line.contains(READY));
        assert!(ready, "the broker does not serve:\n{}", broker.log.join("\n"));
        broker
    }

    /// Starts a broker that is expected to refuse. What it says, and its exit status.
    pub fn refused(rights: Rights, arguments: &[&str]) -> (String, ExitStatus) {
        let mut broker = Self::spawn(rights, arguments, &[]);
        broker.read_until(|_| false);
        let status = broker.child.wait().unwrap();
        let mut said = broker.log.join("\n");
        let stderr = broker.child.stderr.take().unwrap();
        BufReader::new(stderr).lines().for_each(|line| said.push_str(&line.unwrap()));
        (said, status)
    }

    fn spawn(rights: Rights, arguments: &[&str], env: &[(&str, &str)]) -> Self {
        let private = Permissions::from_mode(0o700);
        let data = tempfile::Builder::new().permissions(private).tempdir().unwrap();
        let folder = data.path().to_str().unwrap();
        let own = ["--listen", "127.0.0.1:0", "--data-dir", folder];
        let mut command = launch::command(rights, &[&own, arguments].concat());
        command.envs(env.iter().copied()).stdin(Stdio::null());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self { child, stdout, log: Vec::new(), _data: data }
    }

    /// Reads the log up to a line; whether it came.
    pub fn read_until(&mut self, wanted: impl Fn(&str) -> bool) -> bool {
        loop {
            let mut line = String::new();
            if self.stdout.read_line(&mut line).unwrap() == 0 {
                return false;
            }
            self.log.push(line.trim_end().to_owned());
            if wanted(&line) {
                return true;
            }
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        let line = self.log.iter().find_map(|line| line.split_once("listens on "));
        let (_, rest) = line.unwrap();
        rest.split(';').next().unwrap().parse().unwrap()
    }

    /// Asks it to stop, reads the rest of the log, and checks that it ended in order. The log.
    pub fn stop(mut self) -> Vec<String> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).unwrap();
        self.read_until(|_| false);
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}\n{}", self.log.join("\n"));
        std::mem::take(&mut self.log)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The warnings and errors of a log.
pub fn warnings(log: &[String]) -> Vec<&String> {
    log.iter().filter(|line| line.contains(" WARN ") || line.contains(" ERROR ")).collect()
}
