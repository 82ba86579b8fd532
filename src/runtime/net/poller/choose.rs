//! Which poller serves: io_uring where the system allows it, else epoll.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::{fmt, fs, io};

use crate::config::IoMode;
use crate::runtime::sys::{self, ProcessLimit};

/// glommio starts no executor if fewer bytes of memory may be locked.
const LOCKED_MIN: u64 = 512 * 1024;

/// The poller of every shard.
#[derive(Debug, Clone)]
pub enum Choice {
    /// io_uring, or the broker does not start.
    Uring,
    /// io_uring; a shard that is refused it late takes epoll. Whether that was told.
    UringElseEpoll(Arc<AtomicBool>),
    /// epoll.
    Epoll,
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if matches!(self, Self::Epoll) { "epoll" } else { "io_uring" })
    }
}

/// Why there is no io_uring.
#[derive(Debug, thiserror::Error)]
pub enum UringRefusal {
    /// The system refuses a call.
    #[error("io_uring is denied ({why}): {advice}")]
    Denied {
        /// The system's reason.
        why: io::Error,
        /// What to change.
        advice: String,
    },
    /// Too little memory may be locked.
    #[error(
        "only {bytes} bytes of memory may be locked, io_uring needs {LOCKED_MIN}: raise the \
         limit (`ulimit -l 1024`; systemd: LimitMEMLOCK=infinity; docker: --ulimit memlock=-1)"
    )]
    LockedMemory {
        /// The limit.
        bytes: u64,
    },
}

/// Decides by what was asked for and what the system allows. If epoll serves in the place of
/// io_uring, one warning says so.
///
/// # Errors
///
/// Why there is no io_uring, where nothing else will do.
pub fn choose(mode: IoMode) -> Result<Choice, UringRefusal> {
    match mode {
        IoMode::Epoll => Ok(Choice::Epoll),
        IoMode::Uring => try_uring().map(|()| Choice::Uring),
        IoMode::Auto => Ok(match try_uring() {
            Ok(()) => Choice::UringElseEpoll(Arc::default()),
            Err(refusal) => {
                warn(&refusal.to_string());
                Choice::Epoll
            }
        }),
    }
}

/// Says that a shard was refused io_uring late, once for all shards.
pub fn warn_once(told: &AtomicBool, why: &str) {
    if !told.swap(true, Ordering::Relaxed) {
        warn(why);
    }
}

fn warn(why: &str) {
    tracing::warn!(
        "{why}. Until then epoll serves: everything works, with a higher p99 latency under load; \
         `--io epoll` asks for it and ends this warning"
    );
}

fn try_uring() -> Result<(), UringRefusal> {
    let bytes = sys::raise(ProcessLimit::LockedMemory).unwrap_or(LOCKED_MIN);
    if bytes < LOCKED_MIN {
        return Err(UringRefusal::LockedMemory { bytes });
    }
    sys::try_io_uring().map_err(|why| {
        let sysctl = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
        let advice = advice(&why, sysctl.trim());
        UringRefusal::Denied { why, advice }
    })
}

fn advice(why: &io::Error, sysctl: &str) -> String {
    match (why.raw_os_error(), sysctl) {
        (Some(libc::ENOMEM), _) => "raise the limit of locked memory (`ulimit -l 1024`; systemd: \
             LimitMEMLOCK=infinity; docker: --ulimit memlock=-1)"
            .to_owned(),
        (Some(libc::ENOSYS), _) => "it needs Linux 5.8 or later, built with io_uring, and a \
             sandbox (gVisor, seccomp) that lets it through"
            .to_owned(),
        (_, "1" | "2") => {
            format!(
                "kernel.io_uring_disabled is {sysctl}; run `sysctl -w kernel.io_uring_disabled=0`"
            )
        }
        _ => "a seccomp profile forbids it; allow io_uring_setup, io_uring_enter and \
             io_uring_register (docker: --security-opt seccomp=PROFILE.json or seccomp=unconfined)"
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_denial_has_its_advice() {
        let error = io::Error::from_raw_os_error;
        assert!(advice(&error(libc::EPERM), "0").contains("seccomp"));
        assert!(advice(&error(libc::EPERM), "2").contains("sysctl -w"));
        assert!(advice(&error(libc::ENOMEM), "0").contains("ulimit -l"));
        assert!(advice(&error(libc::ENOSYS), "").contains("Linux 5.8"));
    }

    #[test]
    fn epoll_is_never_refused() {
        assert!(matches!(choose(IoMode::Epoll), Ok(Choice::Epoll)));
    }
}
