//! CPU time and memory of the broker's processes, from /proc (proc(5)).

use std::collections::HashMap;
use std::fmt::{self, Display, Formatter};
use std::fs;

use serde::Serialize;

use crate::system::clock::SECOND;
use crate::system::error::LoadgenError;

/// Bytes of a memory page, the unit of `rss` in /proc/PID/stat.
const PAGE: u64 = 4096;

/// What a process and its descendants have used so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessUsage {
    /// User and system time (ns).
    pub cpu: u64,
    /// Resident memory (bytes).
    pub rss: u64,
}

/// What a broker used during a run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct BrokerUsage {
    /// Nanoseconds of CPU per message, sent or received.
    pub cpu_ns_per_message: f64,
    /// CPUs busy on average, over the whole run.
    pub cpus_busy: f64,
    /// Resident memory at the start (bytes).
    pub rss_start: u64,
    /// The greatest resident memory of all samples, one per second (bytes).
    pub rss_max: u64,
}

impl Display for BrokerUsage {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { cpu_ns_per_message, cpus_busy, rss_start, rss_max } = *self;
        let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let (start, max) = (mebibytes(rss_start), mebibytes(rss_max));
        writeln!(
            f,
            "broker: {cpu_ns_per_message:.0} ns of CPU per message, {cpus_busy:.2} CPUs busy, \
             memory {start:.0} MiB, at most {max:.0} MiB"
        )
    }
}

/// Measures a process and its descendants. RabbitMQ's start script is only the parent of its
/// virtual machine.
#[derive(Debug)]
pub struct UsageMonitor {
    pid: u32,
    ticks: u64,
    begun: u64,
    first: ProcessUsage,
    rss_max: u64,
}

impl UsageMonitor {
    /// Starts to measure.
    ///
    /// # Errors
    /// There is no such process.
    pub fn start(pid: u32, now: u64) -> Result<Self, LoadgenError> {
        let ticks = rustix::param::clock_ticks_per_second();
        let first = usage(pid, ticks).ok_or_else(|| {
            LoadgenError::Settings(format!("--broker-pid {pid}: no such process on this machine"))
        })?;
        Ok(Self { pid, ticks, begun: now, first, rss_max: first.rss })
    }

    /// Samples CPU time and memory; `None` if the process is gone.
    pub fn sample(&mut self) -> Option<ProcessUsage> {
        let usage = usage(self.pid, self.ticks)?;
        self.rss_max = self.rss_max.max(usage.rss);
        Some(usage)
    }

    /// What the process used since the start; `None` if it is gone.
    pub fn end(mut self, now: u64, messages: u64) -> Option<BrokerUsage> {
        let last = self.sample()?;
        let cpu = last.cpu.saturating_sub(self.first.cpu) as f64;
        Some(BrokerUsage {
            cpu_ns_per_message: cpu / messages.max(1) as f64,
            cpus_busy: cpu / now.saturating_sub(self.begun).max(1) as f64,
            rss_start: self.first.rss,
            rss_max: self.rss_max,
        })
    }
}

/// The sum of a process and its descendants; `None` if the process is gone.
fn usage(pid: u32, ticks: u64) -> Option<ProcessUsage> {
    let parents = parents();
    parents.contains_key(&pid).then_some(())?;
    let mut sum = ProcessUsage { cpu: 0, rss: 0 };
    for &each in parents.keys().filter(|each| descends(**each, pid, &parents)) {
        // A child may end while it is read.
        let Some(one) = single(each, ticks) else { continue };
        sum = ProcessUsage { cpu: sum.cpu + one.cpu, rss: sum.rss + one.rss };
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

fn single(pid: u32, ticks: u64) -> Option<ProcessUsage> {
    let stat = stat(pid)?;
    let number = |field: usize| stat.get(field)?.parse::<u64>().ok();
    // Fields counted from the state, the third of proc(5): utime, stime and rss.
    let cpu = (number(11)? + number(12)?) * (SECOND / ticks.max(1));
    Some(ProcessUsage { cpu, rss: number(21)? * PAGE })
}

/// The fields after the command. The command may contain spaces and parentheses.
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
        let mut monitor = UsageMonitor::start(std::process::id(), 0).unwrap();
        let before = monitor.sample().unwrap();
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let parents = parents();
        assert!(descends(child.id(), std::process::id(), &parents));
        assert!(monitor.sample().unwrap().rss > 0 && before.rss > 0);
        child.kill().unwrap();
        child.wait().unwrap();
        let broker = monitor.end(SECOND, 10).unwrap();
        assert!(broker.rss_max >= broker.rss_start && broker.cpu_ns_per_message >= 0.0);
    }

    #[test]
    fn a_missing_process_is_refused() {
        let refused = UsageMonitor::start(u32::MAX, 0).unwrap_err().to_string();
        assert!(refused.contains("--broker-pid"), "{refused}");
    }
}
