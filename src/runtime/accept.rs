//! The accept thread: takes clients from all listeners and hands each to the least-loaded shard.

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::bell::Bell;
use super::inbox::{Arrival, Inbox, least_loaded};
use super::sys;

/// Clients taken from one listener before the others are looked at.
const TURN: usize = 64;
/// A shortage is reported at most so often.
const REPORT: Duration = Duration::from_secs(1);

/// The running accept thread.
#[derive(Debug)]
pub struct Accepting {
    bell: Arc<Bell>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Accepting {
    /// Stops accepting and closes the listeners; returns when that is done.
    pub fn stop(self) {
        self.stop.store(true, Ordering::Release);
        self.bell.ring_always();
        if self.thread.join().is_err() {
            tracing::error!("the accept thread died");
        }
    }
}

/// Starts the thread. The listeners do not block.
///
/// # Errors
///
/// The system's: no threads, no descriptors.
pub fn start(listeners: Vec<TcpListener>, inboxes: Vec<Inbox>) -> io::Result<Accepting> {
    let bell = Arc::new(Bell::new()?);
    let stop = Arc::new(AtomicBool::new(false));
    let mut door = Door { inboxes, reserve: Some(reserve()?), reported: None };
    let (rung, stopped) = (Arc::clone(&bell), Arc::clone(&stop));
    let thread = thread::Builder::new().name("ringtail-accept".to_owned()).spawn(move || {
        if let Err(error) = door.run(&listeners, &rung, &stopped) {
            tracing::error!(%error, "no more clients are accepted");
        }
    })?;
    Ok(Accepting { bell, stop, thread })
}

struct Door {
    inboxes: Vec<Inbox>,
    /// A descriptor to give up when there are no others, so that a client can be turned away
    /// instead of being left waiting while the listener stays ready.
    reserve: Option<File>,
    reported: Option<Instant>,
}

fn reserve() -> io::Result<File> {
    File::open("/dev/null")
}

impl Door {
    fn run(&mut self, listeners: &[TcpListener], bell: &Bell, stop: &AtomicBool) -> io::Result<()> {
        let mut fds: Vec<_> = listeners.iter().map(AsFd::as_fd).collect();
        fds.push(bell.as_fd());
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

    fn hand_over(&self, stream: std::net::TcpStream, peer: SocketAddr, listener: SocketAddr) {
        // The listener's own address may be a wildcard; a socket that is gone already has none.
        let local = stream.local_addr().unwrap_or(listener);
        if let Some(inbox) = least_loaded(&self.inboxes) {
            inbox.put(Arrival::Connection { stream, peer, local });
        }
    }

    /// No descriptors: gives up the reserve, accepts with it, closes, and takes the reserve again.
    fn turn_away(&mut self, listener: &TcpListener, error: &io::Error) {
        if self.reported.is_none_or(|last| last.elapsed() > REPORT) {
            self.reported = Some(Instant::now());
            tracing::warn!(
                "clients are turned away: {error}; raise the limit of open files (`ulimit -n`)"
            );
        }
        if self.reserve.take().is_some() {
            drop(listener.accept());
        } else {
            // Somebody else was faster with the descriptor: rather wait than spin.
            thread::park_timeout(Duration::from_millis(100));
        }
        self.reserve = reserve().ok();
    }
}

fn is_shortage(error: &io::Error) -> bool {
    let shortages = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM];
    error.raw_os_error().is_some_and(|code| shortages.contains(&code))
}
