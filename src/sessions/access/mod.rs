//! The rights of connections: refused where they lack, and live changes of them.

mod counted_channels;

use amqp::Code;
use model::access::state::UserInVhost;
use model::access::{Access, Right};
use model::mutant::{self, Mutant};
use model::topology::Change;
use model::{ConnId, ExchangeKind, Fault, Message, Refusal};

use crate::sessions::broker::BrokerAccess;
use crate::sessions::connection::Connection;
use crate::sessions::life::Phase;
use crate::sessions::state::Sessions;

impl Connection {
    /// Of the rights that are wanted, those that the coordinator has to be asked for.
    ///
    /// # Errors
    /// The first that is refused, unless one before it is not known.
    pub fn missing_rights(&self, wanted: &[Access]) -> Result<Vec<Access>, Refusal> {
        let mut unknown = Vec::new();
        for access in wanted {
            match self.access.allows(access) {
                Some(true) => {}
                Some(false) if unknown.is_empty() => return Err(self.no_right(access)),
                Some(false) => break,
                None => unknown.push(access.clone()),
            }
        }
        Ok(unknown)
    }

    fn no_right(&self, access: &Access) -> Refusal {
        Refusal::NoRight(Box::new((access.clone(), self.vhost.clone(), self.user.clone())))
    }
}

impl Sessions {
    /// Of the rights that a publish needs, those that the coordinator has to be asked for.
    #[cold]
    pub(super) fn missing_publish_rights(
        &self,
        id: ConnId,
        message: Message<'_>,
    ) -> Result<Vec<Access>, Refusal> {
        let Some(conn) = self.connections.conns.get(&id) else { return Ok(Vec::new()) };
        if mutant::active(Mutant::PublishUnchecked) {
            return Ok(Vec::new());
        }
        let name = message.exchange();
        let mut wanted = vec![Access::exchange(Right::Write, name)];
        let exchange = self.topology.vhost(&conn.vhost).and_then(|vhost| vhost.exchange(name));
        let is_topic =
            exchange.is_some_and(|x| x.spec.kind == ExchangeKind::Topic && !x.spec.internal);
        if is_topic && !mutant::active(Mutant::TopicsUnchecked) {
            wanted.push(Access::topic(Right::Write, name, message.routing_key()));
        }
        conn.missing_rights(&wanted)
    }

    /// Obeys what a change says of connections.
    pub(super) fn change_access(&mut self, change: &Change, broker: &mut impl BrokerAccess) {
        match change {
            Change::VhostDeleted(vhost) => {
                let text = format!("vhost '{vhost}' is deleted");
                self.close_those(&text, |conn| conn.running && conn.vhost == *vhost, broker);
            }
            Change::UserDeleted(user) if !mutant::active(Mutant::DeletedUserStays) => {
                let text = format!("user '{user}' is deleted");
                self.close_those(&text, |conn| conn.running && conn.user == *user, broker);
                self.open_again(|conn| conn.user == *user);
            }
            Change::RightsChanged(of, rights) if !mutant::active(Mutant::RightsKept) => {
                let UserInVhost { user, vhost } = of;
                for conn in self.connections.conns.values_mut() {
                    if conn.running && conn.user == *user && conn.vhost == *vhost {
                        conn.access.set(*rights);
                    }
                }
                self.open_again(|conn| conn.user == *user);
            }
            Change::ChannelsCounted(user, count) => {
                self.count_channels(user, *count, broker);
                self.open_again(|conn| conn.user == *user);
            }
            _ => {}
        }
    }

    /// Connections that wait for their vhost to open have to ask again: the answer that is on its
    /// way may be older.
    fn open_again(&mut self, are_meant: impl Fn(&Connection) -> bool) {
        for conn in self.connections.conns.values_mut() {
            conn.access_changed |= !conn.running && are_meant(conn);
        }
    }

    fn close_those(
        &mut self,
        text: &str,
        are_meant: impl Fn(&Connection) -> bool,
        broker: &mut impl BrokerAccess,
    ) {
        let fault = Fault::new(Code::ConnectionForced, text, (0, 0));
        for id in self.connections.ids() {
            let conn = self.connections.get(id);
            if conn.is_some_and(|conn| conn.life.phase == Phase::Alive && are_meant(conn)) {
                self.fail(id, 0, &fault, broker);
            }
        }
    }
}
