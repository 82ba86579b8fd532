//! Which connections and channels are open, and how many of them belong to a user or are in a
//! vhost. One place counts for all shards, so two that come at once do not both get the last place.

use std::collections::BTreeMap;

use model::access::state::UserInVhost;
use model::mutant::{self, Mutant};
use model::refusal::excess::Excess;
use model::{ChannelId, ConnId, Name, Refusal};

use crate::coordinator::limits::NodeLimits;

/// How many there are by name; no entry is 0.
#[derive(Debug, Default, Hash)]
struct CountsByName(BTreeMap<Name, u64>);

impl CountsByName {
    fn of(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    fn add(&mut self, name: &str) {
        match self.0.get_mut(name) {
            Some(count) => *count += 1,
            None => drop(self.0.insert(name.into(), 1)),
        }
    }

    fn take(&mut self, name: &str) {
        if let Some(count) = self.0.get_mut(name) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(name);
            }
        }
    }

    /// True if there is no room for one more.
    fn is_full(&self, name: &str, limit: u64) -> bool {
        self.of(name) >= limit && !mutant::active(Mutant::OwnLimitIgnored)
    }
}

/// The open connections, and the open channels that count.
#[derive(Debug, Default, Hash)]
pub(super) struct OpenCounts {
    connections: BTreeMap<ConnId, UserInVhost>,
    of_vhosts: CountsByName,
    of_users: CountsByName,
    /// With their users.
    channels: BTreeMap<ChannelId, Name>,
    channels_of_users: CountsByName,
}

impl OpenCounts {
    /// Refuses the connection if it does not count already and is one too many.
    pub fn check_connection(&self, limits: &NodeLimits, conn: ConnId) -> Result<(), Refusal> {
        let limit = limits.connections;
        if self.connections.contains_key(&conn) || self.connections.len() < limit {
            return Ok(());
        }
        Err(Refusal::Excess(Excess::Connections(limit)))
    }

    /// Refuses the connection if it does not count already and is one too many in its vhost, or of
    /// its user.
    pub fn check_own(
        &self,
        conn: ConnId,
        of: &UserInVhost,
        (of_vhost, of_user): (Option<u64>, Option<u64>),
    ) -> Result<(), Refusal> {
        if self.connections.contains_key(&conn) {
            return Ok(());
        }
        if let Some(limit) = of_vhost.filter(|limit| self.of_vhosts.is_full(&of.vhost, *limit)) {
            return Err(Refusal::Excess(Excess::VhostConnections(of.clone(), limit)));
        }
        if let Some(limit) = of_user.filter(|limit| self.of_users.is_full(&of.user, *limit)) {
            return Err(Refusal::Excess(Excess::UserConnections(of.user.clone(), limit)));
        }
        Ok(())
    }

    pub fn connection_opened(&mut self, conn: ConnId, of: UserInVhost) {
        if !self.connections.contains_key(&conn) {
            self.of_vhosts.add(&of.vhost);
            self.of_users.add(&of.user);
            self.connections.insert(conn, of);
        }
    }

    pub fn connection_left(&mut self, conn: ConnId) {
        if let Some(of) = self.connections.remove(&conn) {
            self.of_vhosts.take(&of.vhost);
            self.of_users.take(&of.user);
        }
    }

    /// A channel counts even if it is one too many, until it is closed for that.
    pub fn channel_opened(
        &mut self,
        limits: &NodeLimits,
        of_user: Option<u64>,
        (channel, user): (ChannelId, &Name),
    ) -> Result<(), Refusal> {
        let is_full = of_user.filter(|limit| self.channels_of_users.is_full(user, *limit));
        self.channel_is_open(channel, user);
        let limit = limits.channels;
        if self.channels.len() > limit {
            return Err(Refusal::Excess(Excess::Channels(limit)));
        }
        match is_full {
            Some(limit) => Err(Refusal::Excess(Excess::UserChannels(user.clone(), limit))),
            None => Ok(()),
        }
    }

    /// The channel counts from now on, if it does not yet.
    pub fn channel_is_open(&mut self, channel: ChannelId, user: &Name) {
        if self.channels.insert(channel, user.clone()).is_none() {
            self.channels_of_users.add(user);
        }
    }

    pub fn channel_left(&mut self, channel: ChannelId) {
        if let Some(user) = self.channels.remove(&channel) {
            self.channels_of_users.take(&user);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_counts_already_is_not_refused_and_what_left_makes_room() {
        let of = |user: &str| UserInVhost { user: user.into(), vhost: "v".into() };
        let mut open = OpenCounts::default();
        let one = (None, Some(1));
        assert_eq!(open.check_own(ConnId(1), &of("anna"), one), Ok(()));
        open.connection_opened(ConnId(1), of("anna"));
        open.connection_opened(ConnId(1), of("anna"));
        assert_eq!(open.check_own(ConnId(1), &of("anna"), one), Ok(()));
        let refused = Refusal::Excess(Excess::UserConnections("anna".into(), 1));
        assert_eq!(open.check_own(ConnId(2), &of("anna"), one), Err(refused));
        assert_eq!(open.check_own(ConnId(2), &of("otto"), one), Ok(()));
        let refused = Refusal::Excess(Excess::VhostConnections(of("otto"), 1));
        assert_eq!(open.check_own(ConnId(2), &of("otto"), (Some(1), None)), Err(refused));
        open.connection_left(ConnId(1));
        open.connection_left(ConnId(1));
        assert_eq!(open.check_own(ConnId(2), &of("anna"), (Some(1), Some(1))), Ok(()));
        assert!(open.of_vhosts.0.is_empty() && open.of_users.0.is_empty());
    }

    #[test]
    fn a_channel_counts_once_however_it_was_told() {
        let (mut open, user) = (OpenCounts::default(), Name::from("anna"));
        let ask = |open: &mut OpenCounts, channel| {
            open.channel_opened(&NodeLimits::default(), Some(2), (ChannelId(channel), &user))
        };
        assert_eq!(ask(&mut open, 1), Ok(()));
        open.channel_is_open(ChannelId(1), &user);
        assert_eq!(ask(&mut open, 2), Ok(()));
        let refused = Err(Refusal::Excess(Excess::UserChannels(user.clone(), 2)));
        assert_eq!(ask(&mut open, 3), refused);
        [3, 1].into_iter().for_each(|channel| open.channel_left(ChannelId(channel)));
        assert_eq!(ask(&mut open, 4), Ok(()));
        [1, 2, 4].into_iter().for_each(|channel| open.channel_left(ChannelId(channel)));
        assert!(open.channels_of_users.0.is_empty());
    }
}
