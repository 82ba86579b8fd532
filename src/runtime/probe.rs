//! The errors that stop a start, each with what to change, and listening. Whether io_uring can be
//! used is looked at in `net/poller/choose.rs`.

use std::io;
use std::net::{SocketAddr, TcpListener};

use model::access::credentials::PasswordRefused;

use super::sys::{self, ProcessLimit, SocketOption};
use crate::config::TcpOptions;
use crate::runtime::disk::data_dir::DataDirError;
use crate::runtime::net::poller::UringRefusal;
use crate::store::RecoveryError;
use crate::store::meta::MetaError;

/// Why the broker does not start; each a line that says what to change.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No io_uring, and nothing else was asked for.
    #[error(transparent)]
    Poller(#[from] UringRefusal),
    /// Too few descriptors.
    #[error(
        "only {files} files may be open, at least {needed} are needed: raise the limit \
         (`ulimit -n 65536`; systemd: LimitNOFILE=65536; docker: --ulimit nofile=65536)"
    )]
    Files {
        /// The limit.
        files: u64,
        /// What it must be at least.
        needed: u64,
    },
    /// Cannot bind a listen address.
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
    DataDir(#[from] DataDirError),
    /// What was declared before the last stop cannot be read.
    #[error(transparent)]
    Metadata(#[from] MetaError),
    /// The messages of the last start cannot be read.
    #[error(transparent)]
    Messages(#[from] RecoveryError),
    /// Definitions cannot be imported.
    #[error("load_definitions: {path}: {why}")]
    Definitions {
        /// The file or folder.
        path: String,
        /// The object and what is wrong with it, or the system's reason.
        why: String,
    },
    /// The first user's password is not one that the configuration allows.
    #[error("default_pass: {0}")]
    DefaultPass(#[from] PasswordRefused),
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
pub fn cannot(what: &'static str) -> impl FnOnce(io::Error) -> StartError {
    move |why| StartError::System { what, why }
}

/// Raises the limit of open files as far as allowed. What it is then.
///
/// # Errors
///
/// See [`StartError::System`].
pub fn open_files() -> Result<u64, StartError> {
    sys::raise(ProcessLimit::Files).map_err(cannot("raise the limit of open files"))
}

/// Listens on all addresses, without sharing a port with anybody.
///
/// # Errors
///
/// See [`StartError::Listen`].
pub fn listen(
    addresses: &[SocketAddr],
    options: TcpOptions,
) -> Result<Vec<TcpListener>, StartError> {
    addresses.iter().map(|address| listen_on(*address, options)).collect()
}

fn listen_on(address: SocketAddr, options: TcpOptions) -> Result<TcpListener, StartError> {
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
        StartError::Listen { address, why, advice }
    })
}

/// What is set on a listener, the sockets it accepts have too.
fn set_options(listener: &TcpListener, options: TcpOptions) -> io::Result<()> {
    sys::set_option(listener, SocketOption::NoDelay, options.nodelay.into())?;
    sys::set_option(listener, SocketOption::KeepAlive, options.keepalive.into())?;
    let buffers =
        [(SocketOption::SendBuffer, options.sndbuf), (SocketOption::ReceiveBuffer, options.recbuf)];
    for (option, bytes) in buffers {
        if let Some(bytes) = bytes {
            sys::set_option(listener, option, i32::try_from(bytes).unwrap_or(i32::MAX))?;
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
}
