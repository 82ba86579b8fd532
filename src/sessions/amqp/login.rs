//! Methods on channel 0: the handshake's questions and the end of a connection.

use amqp::{Code, Method};
use model::session::Next;
use model::{ConnId, Fault, Name};

use crate::mesh::control::{Answer, LoginAttempt, LoginRefusal, Request};
use crate::sessions::amqp::pending::MethodStep;
use crate::sessions::amqp::send::MethodCall;
use crate::sessions::broker::BrokerAccess;
use crate::sessions::connection::pause;
use crate::sessions::connections::ChannelRef;
use crate::sessions::life::{DelayedLogin, DelayedStep, Phase};
use crate::sessions::state::Sessions;

/// How long a client whose login is refused may take to end its socket, as in RabbitMQ.
const REFUSED_US: u64 = 3_000_000;

impl Sessions {
    pub(super) fn connection_method(
        &mut self,
        id: ConnId,
        method: &Method<'_>,
        broker: &mut impl BrokerAccess,
    ) {
        let Some(conn) = self.connections.get(id) else { return };
        match (conn.life.phase, method) {
            (Phase::ClosedByServer | Phase::Closed, Method::ConnectionCloseOk {}) => self.leave(id),
            (Phase::ClosedByServer | Phase::Closed, Method::ConnectionClose { .. }) => {
                self.close_again(id);
            }
            (Phase::Alive, Method::ConnectionClose { .. }) => self.close_connection(id, broker),
            (Phase::Alive, _) if conn.running => self.running_method(id, method, broker),
            (Phase::Alive, _) => self.handshake_method(id, method, broker),
            _ => {}
        }
    }

    fn running_method(&mut self, id: ConnId, method: &Method<'_>, broker: &mut impl BrokerAccess) {
        if let Method::ConnectionUpdateSecret { .. } = method {
            return self.update_secret(id, broker);
        }
        let text = "unexpected method in connection state running";
        let fault = Fault::new(Code::ChannelError, text, method.id());
        self.fail(id, 0, &fault, broker);
    }

    /// A password does not expire, so the new secret changes nothing, whatever it is; but the
    /// right to the vhost is looked at again.
    fn update_secret(&mut self, id: ConnId, broker: &mut impl BrokerAccess) {
        let Some(conn) = self.connections.get(id) else {
            return;
        };
        let (user, vhost) = (conn.user.clone(), conn.vhost.clone());
        let request = Request::OpenVhost { conn: id, user, vhost };
        self.ask_for_connection(id, request, MethodStep::SecretUpdated, broker);
    }

    pub(super) fn secret_answered(
        &mut self,
        id: ConnId,
        answer: &Answer,
        broker: &mut impl BrokerAccess,
    ) {
        self.connections.unpause(id, pause::ANSWER);
        let Some(conn) = self.connections.get(id).filter(|conn| conn.life.phase == Phase::Alive)
        else {
            return;
        };
        if let Some(fault) = refusal(&conn.user, &conn.vhost, answer, (10, 70)) {
            return self.fail(id, 0, &fault, broker);
        }
        self.connections.send(id, 0, &Method::ConnectionUpdateSecretOk {});
    }

    fn handshake_method(
        &mut self,
        id: ConnId,
        method: &Method<'_>,
        broker: &mut impl BrokerAccess,
    ) {
        let Some(conn) = self.connections.get(id) else {
            return;
        };
        let from = conn.info.peer.ip();
        let Some(wire) = conn.kind.amqp() else { return };
        match wire.handshake.method(method) {
            Err(fault) => self.fail(id, 0, &fault, broker),
            Ok(Next::Wait) => {}
            Ok(Next::Tuned) => {}
            Ok(Next::Login { user, password }) => {
                conn.user = user.clone();
                self.ask_for_login(id, LoginAttempt { user, password, from }, broker);
            }
            Ok(Next::Open(vhost)) => {
                let user = conn.user.clone();
                let request = Request::OpenVhost { conn: id, user, vhost: vhost.clone() };
                self.ask_for_connection(id, request, MethodStep::OpenVhost(vhost), broker);
            }
        }
    }

    /// What the client sends meanwhile waits.
    fn ask_for_connection(
        &mut self,
        id: ConnId,
        request: Request,
        step: MethodStep,
        broker: &mut impl BrokerAccess,
    ) {
        self.connections.pause(id, pause::ANSWER);
        let call = MethodCall { at: ChannelRef::connection(id), payload: &[] };
        self.ask_for(call, request, step, broker);
    }

    fn ask_for_login(&mut self, id: ConnId, attempt: LoginAttempt, broker: &mut impl BrokerAccess) {
        let step = MethodStep::Login(Box::new(attempt.clone()));
        self.ask_for_connection(id, Request::Login(attempt), step, broker);
    }

    pub(super) fn login_answered(
        &mut self,
        id: ConnId,
        attempt: &LoginAttempt,
        answer: &Answer,
        broker: &mut impl BrokerAccess,
    ) {
        let Some(conn) = self.connections.get(id).filter(|conn| conn.life.phase == Phase::Alive)
        else {
            return self.connections.unpause(id, pause::ANSWER);
        };
        let Some(wire) = conn.kind.amqp() else { return };
        let (step, wait_us) = match *answer {
            Answer::LoginTooEarly { wait_us } => (DelayedStep::Ask(attempt.clone()), wait_us),
            Answer::LoginRefused { why, wait_us } => {
                let text = refused_login(wire.handshake.mechanism(), &attempt.user, why);
                conn.life.why = Some(text.into());
                (DelayedStep::Refuse, wait_us)
            }
            _ => {
                wire.handshake.logged_in(&mut conn.output.outbox);
                self.connections.touch(id);
                return self.connections.unpause(id, pause::ANSWER);
            }
        };
        let at_us = broker.now().monotonic_us.saturating_add(wait_us);
        conn.life.login = Some(Box::new(DelayedLogin { at_us, step }));
        self.arm(id, broker.now());
    }

    /// The time of a delayed login has come.
    pub(in crate::sessions) fn login_due(&mut self, id: ConnId, broker: &mut impl BrokerAccess) {
        let login = self.connections.get(id).and_then(|conn| conn.life.login.take());
        match login.map(|login| login.step) {
            Some(DelayedStep::Ask(attempt)) => self.ask_for_login(id, attempt, broker),
            Some(DelayedStep::Refuse) => self.refuse_login(id, broker),
            None => {}
        }
    }

    /// A client that does not understand a refusal gets none, as in RabbitMQ: its socket is closed
    /// without a word.
    fn refuse_login(&mut self, id: ConnId, broker: &mut impl BrokerAccess) {
        self.connections.unpause(id, pause::ANSWER);
        let Some(conn) = self.connections.get(id) else { return };
        let Some(wire) = conn.kind.amqp() else { return };
        // The client is told less than the log.
        let why = conn.life.why.take();
        if wire.handshake.capabilities().authentication_failure_close {
            let fault = wire.handshake.refused();
            self.fail(id, 0, &fault, broker);
        } else {
            conn.life.phase = Phase::ClosedByServer;
        }
        let now = broker.now();
        let Some(conn) = self.connections.get(id) else { return };
        conn.life.why = why;
        conn.life.leave_us = now.monotonic_us + REFUSED_US;
        self.arm(id, now);
    }

    pub(super) fn vhost_answered(
        &mut self,
        id: ConnId,
        vhost: Name,
        answer: &Answer,
        broker: &mut impl BrokerAccess,
    ) {
        self.connections.unpause(id, pause::ANSWER);
        let Some(conn) = self.connections.get(id).filter(|conn| conn.life.phase == Phase::Alive)
        else {
            return;
        };
        if std::mem::take(&mut conn.access_changed) {
            let user = conn.user.clone();
            let request = Request::OpenVhost { conn: id, user, vhost: vhost.clone() };
            return self.ask_for_connection(id, request, MethodStep::OpenVhost(vhost), broker);
        }
        // It may have been deleted since the coordinator answered.
        let is_gone = self.topology.vhost(&vhost).is_none();
        let answer = if is_gone { &Answer::NoVhost } else { answer };
        if let Some(fault) = refusal(&conn.user, &vhost, answer, (10, 40)) {
            return self.fail(id, 0, &fault, broker);
        }
        if let Answer::Opened { rights, counts_channels } = answer {
            conn.access.set(*rights);
            conn.counts_channels = self.limits.counts_channels || *counts_channels;
        }
        conn.vhost = vhost;
        let Some(wire) = conn.kind.amqp() else { return };
        wire.handshake.opened(&mut conn.output.outbox);
        conn.running = true;
        self.connections.touch(id);
        // From now on heartbeats are due, earlier than the end of the handshake was.
        self.arm(id, broker.now());
    }
}

/// What the log says about a refused login, in RabbitMQ's words.
fn refused_login(mechanism: &str, user: &str, why: LoginRefusal) -> String {
    let user = user.escape_debug();
    match why {
        LoginRefusal::Credentials => {
            format!("{mechanism} login refused: user '{user}' - invalid credentials")
        }
        LoginRefusal::NotLocal => {
            format!("{mechanism} login refused: user '{user}' can only connect via localhost")
        }
    }
}

/// Why the user may not open the vhost.
fn refusal(user: &str, vhost: &str, answer: &Answer, method: (u16, u16)) -> Option<Fault> {
    let text = match answer {
        Answer::Opened { .. } => return None,
        Answer::Refused(refusal) => return Some(refusal.fault(method)),
        Answer::NoVhost => format!("vhost {vhost} not found"),
        _ => format!("access to vhost '{vhost}' refused for user '{user}'"),
    };
    Some(Fault::new(Code::NotAllowed, &text, method))
}
