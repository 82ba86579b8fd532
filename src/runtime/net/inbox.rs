//! Messages from the accept thread and the main thread to a shard, through a plain channel.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use crate::runtime::wakeup::Wakeup;

/// One such thing.
#[derive(Debug)]
pub enum Arrival {
    /// A client connected.
    Socket {
        /// The socket, with the options of its listener.
        stream: TcpStream,
        /// The client's end.
        peer: SocketAddr,
        /// This end.
        local: SocketAddr,
    },
    /// Close all connections and end.
    Shutdown,
}

/// A shard's letter box, seen from outside.
#[derive(Debug, Clone)]
pub struct Inbox {
    arrivals: Sender<Arrival>,
    wakeup: Arc<Wakeup>,
    /// Connections handed to the shard that are not closed yet.
    load: Arc<AtomicUsize>,
}

/// The shard's side of its letter box.
#[derive(Debug)]
pub struct Arrivals {
    arrivals: Receiver<Arrival>,
    load: Arc<AtomicUsize>,
}

/// A letter box whose owner sleeps by that wakeup.
#[must_use]
pub fn inbox(wakeup: &Arc<Wakeup>) -> (Inbox, Arrivals) {
    let (sender, arrivals) = channel();
    let load = Arc::new(AtomicUsize::new(0));
    let inbox = Inbox { arrivals: sender, wakeup: Arc::clone(wakeup), load: Arc::clone(&load) };
    (inbox, Arrivals { arrivals, load })
}

impl Inbox {
    /// Connections assigned to the shard.
    #[must_use]
    pub fn load(&self) -> usize {
        self.load.load(Ordering::Relaxed)
    }

    /// Leaves something and wakes the shard. A connection counts from now on.
    pub fn put(&self, arrival: Arrival) {
        if matches!(arrival, Arrival::Socket { .. }) {
            self.load.fetch_add(1, Ordering::Relaxed);
        }
        // A shard that is gone takes nothing: the connection is closed by being dropped.
        drop(self.arrivals.send(arrival));
        self.wakeup.wake();
    }
}

impl Arrivals {
    /// The next thing, if there is one.
    #[must_use]
    pub fn next(&self) -> Option<Arrival> {
        self.arrivals.try_recv().ok()
    }

    /// A connection is closed.
    pub fn closed(&self) {
        self.load.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The inbox with the fewest connections; of several the first.
#[must_use]
pub fn least_loaded(inboxes: &[Inbox]) -> Option<&Inbox> {
    inboxes.iter().min_by_key(|inbox| inbox.load())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use crate::runtime::net::inbox::*;

    #[test]
    fn connections_go_to_the_least_loaded() {
        let wakeups = [(); 2].map(|()| Arc::new(Wakeup::new().unwrap()));
        let (inboxes, arrivals): (Vec<_>, Vec<_>) = wakeups.iter().map(inbox).unzip();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let local = listener.local_addr().unwrap();
        let connect = || {
            let stream = TcpStream::connect(local).unwrap();
            let peer = stream.local_addr().unwrap();
            least_loaded(&inboxes).unwrap().put(Arrival::Socket { stream, peer, local });
        };
        let loads = || [inboxes[0].load(), inboxes[1].load()];
        (0..3).for_each(|_| connect());
        assert_eq!(loads(), [2, 1]);
        arrivals[0].closed();
        arrivals[0].closed();
        connect();
        assert_eq!(loads(), [1, 1]);
        assert!(matches!(arrivals[1].next(), Some(Arrival::Socket { .. })));
        assert!(arrivals[1].next().is_none());
    }
}
