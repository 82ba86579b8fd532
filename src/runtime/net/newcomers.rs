//! Sockets whose client has not logged in yet: how many there may be, and how long transport
//! stages may take.
//!
//! Anybody can open a socket. So those without a login have a bound of their own, and beyond it the
//! oldest is closed: a client that logs in at once gets through whatever others hold open.

use std::collections::BTreeMap;

use crate::runtime::net::client_socket::ClientRc;
use crate::runtime::net::socket::Socket;

/// The sockets of one shard without a login, in order of arrival.
#[derive(Debug)]
pub struct Newcomers<S> {
    most: usize,
    waiting: BTreeMap<u64, ClientRc<S>>,
    /// Of those the ones in transport stages, with the microsecond until which they may be.
    staged: BTreeMap<u64, u64>,
}

impl<S: Socket> Newcomers<S> {
    /// None yet; at most so many.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { most, waiting: BTreeMap::new(), staged: BTreeMap::new() }
    }

    /// One more. Returns the oldest one if there are too many; it counts no longer.
    pub fn add(&mut self, client: &ClientRc<S>) -> Option<ClientRc<S>> {
        self.waiting.insert(client.arrival, ClientRc::clone(client));
        if self.waiting.len() <= self.most {
            return None;
        }
        let (arrival, oldest) = self.waiting.pop_first()?;
        self.staged.remove(&arrival);
        Some(oldest)
    }

    /// It is in transport stages, for as long as `until_us`.
    pub fn stage(&mut self, client: &ClientRc<S>, until_us: u64) {
        self.staged.insert(client.arrival, until_us);
    }

    /// Its transport stages are done.
    pub fn staged(&mut self, client: &ClientRc<S>) {
        self.staged.remove(&client.arrival);
    }

    /// It logged in or is gone.
    pub fn remove(&mut self, arrival: u64) {
        if self.waiting.remove(&arrival).is_some() {
            self.staged.remove(&arrival);
        }
    }

    /// When the next one has been in transport stages for too long.
    #[must_use]
    pub fn deadline_us(&self) -> Option<u64> {
        // All have the same time, so the oldest one's ends first.
        self.staged.first_key_value().map(|(_, until_us)| *until_us)
    }

    /// One that has been in transport stages for too long.
    pub fn overdue(&mut self, now_us: u64) -> Option<ClientRc<S>> {
        let entry = self.staged.first_entry().filter(|entry| *entry.get() <= now_us)?;
        self.waiting.remove(&entry.remove_entry().0)
    }

    /// Those in transport stages, which count no longer: the broker stops.
    pub fn take_staged(&mut self) -> Vec<ClientRc<S>> {
        let staged = std::mem::take(&mut self.staged);
        staged.keys().filter_map(|arrival| self.waiting.remove(arrival)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpListener, TcpStream};

    use super::*;
    use crate::runtime::net::client_socket::ClientSocket;
    use crate::runtime::net::stages::Stages;

    impl Socket for TcpStream {}

    fn clients(count: u64) -> Vec<ClientRc<TcpStream>> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let client = |arrival| {
            let stream = TcpStream::connect(address).unwrap();
            ClientRc::new(ClientSocket::new(stream, arrival, (any, any), Stages::default()))
        };
        (1..=count).map(client).collect()
    }

    fn arrivals(clients: impl IntoIterator<Item = ClientRc<TcpStream>>) -> Vec<u64> {
        clients.into_iter().map(|client| client.arrival).collect()
    }

    #[test]
    fn the_oldest_goes_first() {
        let (mut newcomers, clients) = (Newcomers::new(2), clients(5));
        let displaced: Vec<_> = clients[..4].iter().map(|client| newcomers.add(client)).collect();
        assert_eq!(arrivals(displaced.into_iter().flatten()), [1, 2]);
        newcomers.remove(3);
        assert!(newcomers.add(&clients[4]).is_none());
    }

    #[test]
    fn transport_stages_end_in_the_order_of_arrival() {
        let (mut newcomers, clients) = (Newcomers::new(9), clients(4));
        for client in &clients {
            assert!(newcomers.add(client).is_none());
            newcomers.stage(client, 10 * client.arrival);
        }
        newcomers.staged(&clients[0]);
        newcomers.remove(2);
        assert_eq!(newcomers.deadline_us(), Some(30));
        assert!(newcomers.overdue(29).is_none());
        assert_eq!(arrivals(newcomers.overdue(30)), [3]);
        assert_eq!(arrivals(newcomers.take_staged()), [4]);
        assert_eq!(newcomers.deadline_us(), None);
    }

    #[test]
    fn who_is_displaced_is_in_no_stage_any_more() {
        let (mut newcomers, clients) = (Newcomers::new(1), clients(2));
        assert!(newcomers.add(&clients[0]).is_none());
        newcomers.stage(&clients[0], 10);
        assert_eq!(arrivals(newcomers.add(&clients[1])), [1]);
        assert_eq!(newcomers.deadline_us(), None);
    }
}
