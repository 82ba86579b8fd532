//! Faults of the disk that a test asks for: `RINGTAIL_TEST_DISK`.
//!
//! A list with commas, each `lane:operation:effect` or `lane:operation:effect:which`. The lane is
//! `log`, `queue` or `meta`; the operation `write`, `sync` or `read`; the effect `eio`, `enospc`,
//! `short` (half of what is written or read at once is left to another call) or `slow` with
//! milliseconds, as `slow20`. Which says of the operations of that lane, counted from 1, whom it
//! befalls: `3`, `3-7` or `3-`; without it, all.

/// The threads that have something to do with the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskLane {
    /// For the logs.
    Log,
    /// For what queues spill.
    Queue,
    /// The coordinator, for the metadata.
    Meta,
}

/// What is done with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskDeed {
    /// A write, as the system is asked for it: adjacent ones may have become one.
    Write,
    /// A sync.
    Sync,
    /// A read.
    Read,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskEffect {
    /// It fails with this error number.
    Error(i32),
    /// Half of it is done.
    Short,
    /// It takes so many milliseconds longer.
    Slow(u64),
}

/// A fault of the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskFault {
    /// Where.
    pub lane: DiskLane,
    /// At what.
    pub deed: DiskDeed,
    /// What happens.
    pub effect: DiskEffect,
    /// The first and the last it befalls, counted from 1.
    pub which: (u64, u64),
}

/// The faults of a list. `None`: it is not one.
pub(super) fn faults(text: &str) -> Option<Vec<DiskFault>> {
    text.split(',').map(fault).collect()
}

fn fault(text: &str) -> Option<DiskFault> {
    let mut parts = text.trim().split(':');
    let lane = match parts.next()? {
        "log" => DiskLane::Log,
        "queue" => DiskLane::Queue,
        "meta" => DiskLane::Meta,
        _ => return None,
    };
    let deed = match parts.next()? {
        "write" => DiskDeed::Write,
        "sync" => DiskDeed::Sync,
        "read" => DiskDeed::Read,
        _ => return None,
    };
    let effect = effect(parts.next()?)?;
    let which = parts.next().map_or(Some((1, u64::MAX)), which)?;
    parts.next().is_none().then_some(DiskFault { lane, deed, effect, which })
}

fn effect(text: &str) -> Option<DiskEffect> {
    Some(match text {
        "eio" => DiskEffect::Error(libc::EIO),
        "enospc" => DiskEffect::Error(libc::ENOSPC),
        "short" => DiskEffect::Short,
        other => DiskEffect::Slow(other.strip_prefix("slow")?.parse().ok()?),
    })
}

fn which(text: &str) -> Option<(u64, u64)> {
    let (first, last) = match text.split_once('-') {
        None => (text.parse().ok()?, text.parse().ok()?),
        Some((first, "")) => (first.parse().ok()?, u64::MAX),
        Some((first, last)) => (first.parse().ok()?, last.parse().ok()?),
    };
    (0 < first && first <= last).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read() {
        let found = faults("log:sync:eio:3, queue:write:short,log:write:slow20:2-").unwrap();
        let fault = |lane, deed, effect, which| DiskFault { lane, deed, effect, which };
        let expected = [
            fault(DiskLane::Log, DiskDeed::Sync, DiskEffect::Error(libc::EIO), (3, 3)),
            fault(DiskLane::Queue, DiskDeed::Write, DiskEffect::Short, (1, u64::MAX)),
            fault(DiskLane::Log, DiskDeed::Write, DiskEffect::Slow(20), (2, u64::MAX)),
        ];
        assert_eq!(found, expected);
        assert_eq!(faults("queue:read:enospc:2-5").unwrap()[0].which, (2, 5));
        assert_eq!(faults("meta:sync:eio").unwrap()[0].lane, DiskLane::Meta);
        for wrong in ["", "log", "log:sync", "disk:sync:eio", "log:sync:eio:0", "log:sync:eio:5-2"]
        {
            assert_eq!(faults(wrong), None, "{wrong}");
        }
        assert_eq!(faults("log:sync:slow"), None);
        assert_eq!(faults("log:sync:eio:1:2"), None);
    }
}
