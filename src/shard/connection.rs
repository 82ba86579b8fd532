//! Methods on channel 0: the handshake's questions and the end of a connection.

use amqp::{Code, Method};
use model::session::Next;
use model::{ChannelId, ConnId, Fault, Name, Now};

use super::clients::Then;
use super::conn::{Phase, pause};
use super::machine::Shard;
use super::message::{Answer, Request};
use super::questions::Call;

/// How long a refused login waits for the end of its socket.
const REFUSED_US: u64 = 3_000_000;

impl Shard {
    pub(super) fn connection_method(&mut self, id: ConnId, method: &Method<'_>, now: Now) {
        let Some(conn) = self.clients.get(id) else {
            return;
        };
        match (conn.phase, method) {
            (Phase::ClosedByServer, Method::ConnectionCloseOk {}) => self.leave(id),
            (Phase::ClosedByServer, Method::ConnectionClose { .. }) => {
                self.clients.send(id, 0, &Method::ConnectionCloseOk {});
                self.leave(id);
            }
            (Phase::Alive, Method::ConnectionClose { .. }) => self.close_connection(id),
            (Phase::Alive, _) if conn.handshake.running() => self.running_method(id, method, now),
            (Phase::Alive, _) => self.handshake_method(id, method, now),
            _ => {}
        }
    }

    /// Nothing more is read; what waits is written, then the socket goes.
    pub(super) fn leave(&mut self, id: ConnId) {
        if let Some(conn) = self.clients.get(id) {
            conn.phase = Phase::Leaving;
            self.clients.touch(id);
        }
    }

    fn running_method(&mut self, id: ConnId, method: &Method<'_>, now: Now) {
        if let Method::ConnectionUpdateSecret { .. } = method {
            return self.update_secret(id);
        }
        let text = "unexpected method in connection state running";
        let fault = Fault::new(Code::ChannelError, text, method.id());
        self.fail(id, 0, &fault, now);
    }

    /// A password does not expire, so the new secret changes nothing, whatever it is; but the
    /// right to the vhost is looked at again.
    fn update_secret(&mut self, id: ConnId) {
        let Some(conn) = self.clients.get(id) else {
            return;
        };
        let (user, vhost) = (conn.user.clone(), conn.vhost.clone());
        let request = Request::OpenVhost { conn: id, user, vhost };
        self.ask_for_connection(id, request, Then::SecretUpdated);
    }

    pub(super) fn secret_answered(&mut self, id: ConnId, answer: &Answer, now: Now) {
        self.unpause(id, pause::HANDSHAKE);
        let Some(conn) = self.clients.get(id).filter(|conn| conn.phase == Phase::Alive) else {
            return;
        };
        if let Some(fault) = refusal(&conn.user, &conn.vhost, answer, (10, 70)) {
            return self.fail(id, 0, &fault, now);
        }
        self.clients.send(id, 0, &Method::ConnectionUpdateSecretOk {});
    }

    fn handshake_method(&mut self, id: ConnId, method: &Method<'_>, now: Now) {
        let Some(conn) = self.clients.get(id) else {
            return;
        };
        let loopback = conn.info.peer.ip().to_canonical().is_loopback();
        match conn.handshake.method(method) {
            Err(fault) => self.fail(id, 0, &fault, now),
            Ok(Next::Wait) => {}
            Ok(Next::Tuned) => {}
            Ok(Next::Login { user, password }) => {
                conn.user = user.clone();
                let request = Request::Login { user, password, loopback };
                self.ask_for_connection(id, request, Then::Login);
            }
            Ok(Next::Open(vhost)) => {
                let user = conn.user.clone();
                let request = Request::OpenVhost { conn: id, user, vhost: vhost.clone() };
                self.ask_for_connection(id, request, Then::OpenVhost(vhost));
            }
        }
    }

    /// What the client sends meanwhile waits.
    fn ask_for_connection(&mut self, id: ConnId, request: Request, then: Then) {
        if let Some(conn) = self.clients.get(id) {
            conn.paused |= pause::HANDSHAKE;
        }
        let call = Call { conn: id, number: 0, channel: ChannelId(0), payload: &[] };
        self.ask(call, request, then);
    }

    pub(super) fn login_answered(&mut self, id: ConnId, answer: &Answer, now: Now) {
        self.unpause(id, pause::HANDSHAKE);
        let Some(conn) = self.clients.get(id).filter(|conn| conn.phase == Phase::Alive) else {
            return;
        };
        if *answer == Answer::LoggedIn {
            conn.handshake.logged_in(&mut conn.outbox);
            self.clients.touch(id);
        } else if conn.handshake.capabilities().authentication_failure_close {
            let fault = conn.handshake.refused();
            self.fail(id, 0, &fault, now);
        } else {
            // The specification's way to refuse a login: the socket is closed without a word, and
            // late, so that guessing takes its time.
            conn.phase = Phase::ClosedByServer;
            conn.why = Some(conn.handshake.refused().text.into());
            conn.leave_us = now.monotonic_us + REFUSED_US;
            self.arm(id, now);
        }
    }

    pub(super) fn vhost_answered(&mut self, id: ConnId, vhost: Name, answer: &Answer, now: Now) {
        self.unpause(id, pause::HANDSHAKE);
        let Some(conn) = self.clients.get(id).filter(|conn| conn.phase == Phase::Alive) else {
            return;
        };
        if let Some(fault) = refusal(&conn.user, &vhost, answer, (10, 40)) {
            return self.fail(id, 0, &fault, now);
        }
        conn.vhost = vhost;
        conn.handshake.opened(&mut conn.outbox);
        self.clients.touch(id);
        // From now on heartbeats are due, earlier than the end of the handshake was.
        self.arm(id, now);
    }
}

/// Why the user may not open the vhost.
fn refusal(user: &str, vhost: &str, answer: &Answer, method: (u16, u16)) -> Option<Fault> {
    let text = match answer {
        Answer::Done => return None,
        Answer::Refused(refusal) => return Some(refusal.fault(method)),
        Answer::NoVhost => format!("vhost {vhost} not found"),
        _ => format!("access to vhost '{vhost}' refused for user '{user}'"),
    };
    Some(Fault::new(Code::NotAllowed, &text, method))
}
