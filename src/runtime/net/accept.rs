//! The accept thread: takes clients from all listeners and hands each to the least-loaded shard.

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::runtime::net::folded::Folded;
use crate::runtime::net::inbox::{Arrival, Inbox, least_loaded};
use crate::runtime::sys;
use crate::runtime::wakeup::Wakeup;

/// Clients taken from one listener before the others are looked at.
const TURN: usize = 64;
/// The running accept thread.
#[derive(Debug)]
pub struct AcceptThread {
    wakeup: Arc<Wakeup>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl AcceptThread {
    /// Stops accepting and closes the listeners; returns when that is done.
    pub fn stop(self) {
        self.stop.store(true, Ordering::Release);
        self.wakeup.wake_always();
        if self.thread.join().is_err() {
            tracing::error!("the accept thread died");
        }
    }
}

/// Starts the thread. The listeners do not block. At most `sockets_max` clients are handed over.
///
/// # Errors
///
/// The system's: no threads, no descriptors.
pub fn start(
    listeners: Vec<TcpListener>,
    inboxes: Vec<Inbox>,
    sockets_max: usize,
) -> io::Result<AcceptThread> {
    let wakeup = Arc::new(Wakeup::new()?);
    let stop = Arc::new(AtomicBool::new(false));
    let mut acceptor = Acceptor {
        inboxes,
        sockets_max,
        reserve: Some(reserve()?),
        shortages: Folded::default(),
        too_many: Folded::default(),
    };
    let (woken, stopped) = (Arc::clone(&wakeup), Arc::clone(&stop));
    let thread = thread::Builder::new().name("ringtail-accept".to_owned()).spawn(move || {
        if let Err(error) = acceptor.run(&listeners, &woken, &stopped) {
            tracing::error!(%error, "no more clients are accepted");
        }
    })?;
    Ok(AcceptThread { wakeup, stop, thread })
}

struct Acceptor {
    inboxes: Vec<Inbox>,
    sockets_max: usize,
    /// Reserve descriptor: closed when there is no other, so that a client can be accepted and
    /// refused instead of being left waiting while the listener stays ready.
    reserve: Option<File>,
    shortages: Folded,
    too_many: Folded,
}

fn reserve() -> io::Result<File> {
    File::open("/dev/null")
}

impl Acceptor {
    fn run(
        &mut self,
        listeners: &[TcpListener],
        wakeup: &Wakeup,
        stop: &AtomicBool,
    ) -> io::Result<()> {
        let mut fds: Vec<_> = listeners.iter().map(AsFd::as_fd).collect();
        fds.push(wakeup.as_fd());
        let mut ready = vec![false; fds.len()];
        while !stop.load(Ordering::Acquire) {
            ready = sys::wait_any(&fds, None, ready)?;
            for (listener, _) in listeners.iter().zip(&ready).filter(|(_, ready)| **ready) {
                self.accept_some(listener)?;
            }
        }
        Ok(())
    }

    fn accept_some(&mut self, listener: &TcpListener) -> io::Result<()> {
        let local = listener.local_addr()?;
        for _ in 0..TURN {
            match listener.accept() {
                Ok((stream, peer)) => self.hand_over(stream, peer, local),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if is_shortage(&error) => self.turn_away(listener, &error),
                // The client went before it was accepted; or a signal came.
                Err(error) => tracing::debug!(%error, "cannot accept a client"),
            }
        }
        Ok(())
    }

    fn hand_over(&mut self, stream: TcpStream, peer: SocketAddr, listener: SocketAddr) {
        let sockets: usize = self.inboxes.iter().map(Inbox::load).sum();
        if sockets >= self.sockets_max {
            return self.refuse(stream);
        }
        // The listener's own address may be a wildcard; a socket that is gone already has none.
        let local = stream.local_addr().unwrap_or(listener);
        if let Some(inbox) = least_loaded(&self.inboxes) {
            inbox.put(Arrival::Socket { stream, peer, local });
        }
    }

    /// One socket too many.
    fn refuse(&mut self, stream: TcpStream) {
        drop(stream);
        if let Some(clients) = self.too_many.count(Instant::now()) {
            tracing::warn!(
                "{clients} clients were refused: {} sockets are open, and the limit of open files \
                 leaves room for no more; raise it (`ulimit -n`)",
                self.sockets_max,
            );
        }
    }

    /// No descriptors: gives up the reserve, accepts with it, closes, and takes the reserve again.
    fn turn_away(&mut self, listener: &TcpListener, error: &io::Error) {
        if let Some(clients) = self.shortages.count(Instant::now()) {
            tracing::warn!(
                "{clients} clients were refused: {error}; raise the limit of open files (`ulimit \
                 -n`)"
            );
        }
        if self.reserve.take().is_some() {
            drop(listener.accept());
        } else {
            // Another thread took the descriptor: wait rather than spin.
            thread::park_timeout(Duration::from_millis(100));
        }
        self.reserve = reserve().ok();
    }
}

fn is_shortage(error: &io::Error) -> bool {
    let shortages = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM];
    error.raw_os_error().is_some_and(|code| shortages.contains(&code))
}
