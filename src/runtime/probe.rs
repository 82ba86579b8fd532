//! Looks before the start whether the system lets the broker run, and says what to change if not.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};

use super::data_dir::Unusable;
use super::sys::{self, Limit, SocketOption};
use crate::config::TcpOptions;
use crate::store::Unrecoverable;
use crate::store::meta::Refused;

/// glommio refuses to start an executor with less memory that may be locked.
const LOCKED_MIN: u64 = 512 * 1024;
/// Fewer descriptors would not even do for the broker itself.
const FILES_MIN: u64 = 256;

/// Why the broker does not start; each a line that says what to change.
#[derive(Debug, thiserror::Error)]
pub enum Obstacle {
    /// No io_uring.
    #[error("io_uring is denied ({why}): {advice}")]
    IoUring {
        /// The system's reason.
        why: io::Error,
        /// What to change.
        advice: String,
    },
    /// Too little memory may be locked.
    #[error(
        "only {octets} octets of memory may be locked, io_uring needs {LOCKED_MIN}: raise the \
         limit (`ulimit -l 1024`; systemd: LimitMEMLOCK=infinity; docker: --ulimit memlock=-1)"
    )]
    LockedMemory {
        /// The limit.
        octets: u64,
    },
    /// Too few descriptors.
    #[error(
        "only {files} files may be open, at least {FILES_MIN} are needed: raise the limit \
         (`ulimit -n 65536`; systemd: LimitNOFILE=65536; docker: --ulimit nofile=65536)"
    )]
    Files {
        /// The limit.
        files: u64,
    },
    /// A listener's address is not to be had.
    #[error("cannot listen on {address}: {why}: {advice}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's reason.
        why: io::Error,
        /// What to change.
        advice: &'static str,
    },
    /// The data folder cannot be used.
    #[error(transparent)]
    DataDir(#[from] Unusable),
    /// What was declared before the last stop cannot be read.
    #[error(transparent)]
    Metadata(#[from] Refused),
    /// The messages of the last start cannot be read.
    #[error(transparent)]
    Messages(#[from] Unrecoverable),
    /// A CPU that the process may not use.
    #[error("--cpus: CPU {cpu} is not among those this process may use ({allowed:?})")]
    Cpu {
        /// The first such.
        cpu: usize,
        /// Those it may use.
        allowed: Vec<usize>,
    },
    /// A thread that the broker cannot do without is gone.
    #[error("the broker cannot go on: {why}")]
    Thread {
        /// What happened.
        why: String,
    },
    /// Something that never fails did.
    #[error("cannot {what}: {why}")]
    System {
        /// What was tried.
        what: &'static str,
        /// The system's reason.
        why: io::Error,
    },
}

/// Wraps the system's reason for something that never fails.
pub fn cannot(what: &'static str) -> impl FnOnce(io::Error) -> Obstacle {
    move |why| Obstacle::System { what, why }
}

/// Raises the limits as far as allowed and looks whether they suffice; then tries io_uring.
///
/// # Errors
///
/// See [`Obstacle`].
pub fn limits_and_io_uring() -> Result<(), Obstacle> {
    let files = sys::raise(Limit::Files).map_err(cannot("raise the limit of open files"))?;
    if files < FILES_MIN {
        return Err(Obstacle::Files { files });
    }
    let octets =
        sys::raise(Limit::LockedMemory).map_err(cannot("raise the limit of locked memory"))?;
    if octets < LOCKED_MIN {
        return Err(Obstacle::LockedMemory { octets });
    }
    sys::try_io_uring().map_err(|why| {
        let sysctl = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
        let advice = advice(&why, sysctl.trim());
        Obstacle::IoUring { why, advice }
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

/// Listens on all addresses, without sharing a port with anybody.
///
/// # Errors
///
/// See [`Obstacle::Listen`].
pub fn listen(addresses: &[SocketAddr], options: TcpOptions) -> Result<Vec<TcpListener>, Obstacle> {
    addresses.iter().map(|address| listen_on(*address, options)).collect()
}

fn listen_on(address: SocketAddr, options: TcpOptions) -> Result<TcpListener, Obstacle> {
    let listener = TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        set_options(&listener, options)?;
        sys::backlog(&listener, i32::try_from(options.backlog).unwrap_or(i32::MAX))?;
        Ok(listener)
    });
    listener.map_err(|why| {
        let advice = match why.kind() {
            io::ErrorKind::AddrInUse => "stop what listens there or choose another with --listen",
            io::ErrorKind::AddrNotAvailable => "this host has no such address; see --listen",
            io::ErrorKind::PermissionDenied => "ports below 1024 need CAP_NET_BIND_SERVICE",
            _ => "see --listen",
        };
        Obstacle::Listen { address, why, advice }
    })
}

/// What is set on a listener, the sockets it accepts have too.
fn set_options(listener: &TcpListener, options: TcpOptions) -> io::Result<()> {
    sys::set_option(listener, SocketOption::NoDelay, options.nodelay.into())?;
    sys::set_option(listener, SocketOption::KeepAlive, options.keepalive.into())?;
    let buffers =
        [(SocketOption::SendBuffer, options.sndbuf), (SocketOption::ReceiveBuffer, options.recbuf)];
    for (option, octets) in buffers {
        if let Some(octets) = octets {
            sys::set_option(listener, option, i32::try_from(octets).unwrap_or(i32::MAX))?;
        }
    }
    if options.linger {
        sys::set_linger(listener, options.linger_s)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepted_sockets_have_the_options_of_their_listener() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        for nodelay in [true, false] {
            let options = TcpOptions { nodelay, linger: true, linger_s: 7, ..Default::default() };
            let listener = listen(&[any], options).unwrap().remove(0);
            listener.set_nonblocking(false).unwrap();
            let _client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (accepted, _) = listener.accept().unwrap();
            assert_eq!(accepted.nodelay().unwrap(), nodelay);
        }
    }

    #[test]
    fn a_taken_port_is_refused() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let listeners = listen(&[any], TcpOptions::default()).unwrap();
        let taken = listeners[0].local_addr().unwrap();
        let text = listen(&[taken], TcpOptions::default()).unwrap_err().to_string();
        assert!(text.contains(&taken.to_string()) && text.contains("--listen"), "{text}");
    }

    #[test]
    fn every_denial_has_its_advice() {
        let error = io::Error::from_raw_os_error;
        assert!(advice(&error(libc::EPERM), "0").contains("seccomp"));
        assert!(advice(&error(libc::EPERM), "2").contains("sysctl -w"));
        assert!(advice(&error(libc::ENOMEM), "0").contains("ulimit -l"));
        assert!(advice(&error(libc::ENOSYS), "").contains("Linux 5.8"));
    }
}
