//! What the broker's processes use: CPU time and memory, from the system's books (proc(5)).

use std::collections::HashMap;
use std::fmt::{self, Display, Formatter};
use std::fs;

use serde::Serialize;

use crate::clock::SECOND;
use crate::failure::Failure;

/// Octets of a page of memory, as `statm` counts them.
const PAGE: u64 = 4096;

/// What a process and all below it have used up to now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// User and system time (ns).
    pub cpu: u64,
    /// Resident memory (octets).
    pub rss: u64,
}

/// A broker's use during a run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Broker {
    /// Nanoseconds of CPU for one message, sent or received.
    pub cpu_ns_per_message: f64,
    /// CPUs busy on average, from start to end of the run.
    pub cpus_busy: f64,
    /// Resident memory at the start (octets).
    pub rss_start: u64,
    /// Resident memory at its highest, looked at once a second (octets).
    pub rss_max: u64,
}

impl Display for Broker {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { cpu_ns_per_message, cpus_busy, rss_start, rss_max } = *self;
        let mebibytes = |octets: u64| octets as f64 / f64::from(1 << 20);
        let (start, max) = (mebibytes(rss_start), mebibytes(rss_max));
        writeln!(
            f,
            "broker: {cpu_ns_per_message:.0} ns of CPU per message, {cpus_busy:.2} CPUs busy, \
             memory {start:.0} MiB, at most {max:.0} MiB"
        )
    }
}

/// Watches a process and its descendants; RabbitMQ's start script is not its virtual machine.
#[derive(Debug)]
pub struct Watch {
    pid: u32,
    ticks: u64,
    begun: u64,
    first: Usage,
    rss_max: u64,
}

impl Watch {
    /// From now on.
    ///
    /// # Errors
    /// There is no such process.
    pub fn start(pid: u32, now: u64) -> Result<Self, Failure> {
        let ticks = rustix::param::clock_ticks_per_second();
        let first = usage(pid, ticks).ok_or_else(|| {
            Failure::Settings(format!("--broker-pid {pid}: no such process on this machine"))
        })?;
        Ok(Self { pid, ticks, begun: now, first, rss_max: first.rss })
    }

    /// Looks at the memory once more.
    pub fn look(&mut self) -> Option<Usage> {
        let usage = usage(self.pid, self.ticks)?;
        self.rss_max = self.rss_max.max(usage.rss);
        Some(usage)
    }

    /// What the run cost; `None` if the process is gone.
    pub fn end(mut self, now: u64, messages: u64) -> Option<Broker> {
        let last = self.look()?;
        let cpu = last.cpu.saturating_sub(self.first.cpu) as f64;
        Some(Broker {
            cpu_ns_per_message: cpu / messages.max(1) as f64,
            cpus_busy: cpu / now.saturating_sub(self.begun).max(1) as f64,
            rss_start: self.first.rss,
            rss_max: self.rss_max,
        })
    }
}

/// Of a process and its descendants; `None` if it is gone.
fn usage(pid: u32, ticks: u64) -> Option<Usage> {
    let parents = parents();
    parents.contains_key(&pid).then_some(())?;
    let mut sum = Usage { cpu: 0, rss: 0 };
    for &each in parents.keys().filter(|each| descends(**each, pid, &parents)) {
        // A child may end while it is looked at.
        let Some(one) = single(each, ticks) else { continue };
        sum = Usage { cpu: sum.cpu + one.cpu, rss: sum.rss + one.rss };
    }
    Some(sum)
}

/// The parent of every process.
fn parents() -> HashMap<u32, u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| Some((pid, stat(pid)?.get(1)?.parse().ok()?))).collect()
}

fn descends(mut pid: u32, ancestor: u32, parents: &HashMap<u32, u32>) -> bool {
    while pid != ancestor {
        match parents.get(&pid) {
            Some(&parent) if parent != pid => pid = parent,
            _ => return false,
        }
    }
    true
}

fn single(pid: u32, ticks: u64) -> Option<Usage> {
    let stat = stat(pid)?;
    let number = |field: usize| stat.get(field)?.parse::<u64>().ok();
    // Counted from the state, which is the third field of proc(5): utime, stime and rss.
    let cpu = (number(11)? + number(12)?) * (SECOND / ticks.max(1));
    Some(Usage { cpu, rss: number(21)? * PAGE })
}

/// The fields behind the command, whose name may hold anything.
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(')')?;
    Some(fields.split_whitespace().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_and_its_children_are_seen() {
        let mut watch = Watch::start(std::process::id(), 0).unwrap();
        let before = watch.look().unwrap();
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let parents = parents();
        assert!(descends(child.id(), std::process::id(), &parents));
        assert!(watch.look().unwrap().rss > 0 && before.rss > 0);
        child.kill().unwrap();
        child.wait().unwrap();
        let broker = watch.end(SECOND, 10).unwrap();
        assert!(broker.rss_max >= broker.rss_start && broker.cpu_ns_per_message >= 0.0);
    }

    #[test]
    fn a_process_that_is_not_there_is_refused() {
        let refused = Watch::start(u32::MAX, 0).unwrap_err().to_string();
        assert!(refused.contains("--broker-pid"), "{refused}");
    }
}
