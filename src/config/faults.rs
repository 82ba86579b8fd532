//! Disk faults that tests inject: `RINGTAIL_TEST_DISK`.
//!
//! A list with commas, each `worker:operation:effect` or `worker:operation:effect:which`. The
//! worker is `log`, `queue` or `meta`; the operation `open`, `write`, `sync` or `read`; the effect
//! `eio`, `enospc`, `emfile`, `enfile`, `enomem`, `short` (half of what is written or read at once
//! is left to another call) or `slow` with milliseconds, as `slow20`. Which selects among the
//! operations of that worker, counted from 1: `3`, `3-7` or `3-`; without it, all.

/// The threads that use the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskWorker {
    /// Logs of messages.
    Log,
    /// Segments of queues.
    Queue,
    /// The coordinator: metadata.
    Meta,
}

/// An action on a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskAction {
    /// A write system call. Adjacent operations may be joined in one.
    Write,
    /// A sync.
    Sync,
    /// A read.
    Read,
    /// An open of a file that is not open.
    Open,
}

/// The effect of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskEffect {
    /// It fails with this error number.
    Error(i32),
    /// Half of it is done.
    Short,
    /// It takes so many milliseconds more.
    Slow(u64),
}

/// A disk fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskFault {
    /// The thread.
    pub worker: DiskWorker,
    /// The action.
    pub action: DiskAction,
    /// The effect.
    pub effect: DiskEffect,
    /// The first and the last action with the fault, counted from 1.
    pub which: (u64, u64),
}

/// Parses a list of faults. `None`: it is not valid.
pub(super) fn faults(text: &str) -> Option<Vec<DiskFault>> {
    text.split(',').map(fault).collect()
}

fn fault(text: &str) -> Option<DiskFault> {
    let mut parts = text.trim().split(':');
    let worker = match parts.next()? {
        "log" => DiskWorker::Log,
        "queue" => DiskWorker::Queue,
        "meta" => DiskWorker::Meta,
        _ => return None,
    };
    let action = match parts.next()? {
        "write" => DiskAction::Write,
        "sync" => DiskAction::Sync,
        "read" => DiskAction::Read,
        "open" => DiskAction::Open,
        _ => return None,
    };
    let effect = effect(parts.next()?)?;
    let which = parts.next().map_or(Some((1, u64::MAX)), which)?;
    parts.next().is_none().then_some(DiskFault { worker, action, effect, which })
}

fn effect(text: &str) -> Option<DiskEffect> {
    Some(match text {
        "eio" => DiskEffect::Error(libc::EIO),
        "enospc" => DiskEffect::Error(libc::ENOSPC),
        "emfile" => DiskEffect::Error(libc::EMFILE),
        "enfile" => DiskEffect::Error(libc::ENFILE),
        "enomem" => DiskEffect::Error(libc::ENOMEM),
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
        let fault = |worker, action, effect, which| DiskFault { worker, action, effect, which };
        let expected = [
            fault(DiskWorker::Log, DiskAction::Sync, DiskEffect::Error(libc::EIO), (3, 3)),
            fault(DiskWorker::Queue, DiskAction::Write, DiskEffect::Short, (1, u64::MAX)),
            fault(DiskWorker::Log, DiskAction::Write, DiskEffect::Slow(20), (2, u64::MAX)),
        ];
        assert_eq!(found, expected);
        assert_eq!(faults("queue:read:enospc:2-5").unwrap()[0].which, (2, 5));
        assert_eq!(faults("meta:sync:eio").unwrap()[0].worker, DiskWorker::Meta);
        for (text, code) in
            [("emfile", libc::EMFILE), ("enfile", libc::ENFILE), ("enomem", libc::ENOMEM)]
        {
            let found = faults(&format!("log:open:{text}")).unwrap().remove(0);
            assert_eq!((found.action, found.effect), (DiskAction::Open, DiskEffect::Error(code)));
        }
        for wrong in ["", "log", "log:sync", "disk:sync:eio", "log:sync:eio:0", "log:sync:eio:5-2"]
        {
            assert_eq!(faults(wrong), None, "{wrong}");
        }
        assert_eq!(faults("log:sync:slow"), None);
        assert_eq!(faults("log:sync:eio:1:2"), None);
    }
}
