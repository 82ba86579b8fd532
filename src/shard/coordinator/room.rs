//! What goes on while the disk has no room for what was decided: alarms, logins, and whatever else
//! promises nothing of the topology. Questions that would change it wait, in their order.

use std::collections::VecDeque;

use model::{ConnId, QueueSpec, Refusal, ShardId};

use super::{Asker, Coordinator, refused};
use crate::shard::message::{Answer, Control, Request};

/// So many questions wait; what comes then is refused.
const WAITING_MAX: usize = 10_000;

#[derive(Debug, Default)]
pub(super) struct Room {
    /// What was decided is not durable, since there is no room for it.
    full: bool,
    waiting: VecDeque<(Asker, Request)>,
    /// What may be sent however little room there is.
    aside: Vec<(ShardId, Control)>,
}

impl Coordinator {
    /// What [`Self::take_records`] gave finds no room on the disk (`true`): until this is told with
    /// `false`, when it is durable, nothing of it is sent. Then what has waited is decided, and
    /// there may be more records.
    pub fn disk_is_full(&mut self, full: bool) {
        self.room.full = full;
        if !full {
            for (asker, request) in std::mem::take(&mut self.room.waiting) {
                self.obey(asker, request);
            }
        }
    }

    /// What to send, in order: all of it, once what [`Self::take_records`] gave is durable, or what
    /// does not depend on that.
    pub fn take_outbound(&mut self) -> Vec<(ShardId, Control)> {
        let mut outbound = std::mem::take(&mut self.room.aside);
        if !self.room.full {
            outbound.append(&mut self.out);
        }
        outbound
    }

    /// Obeys a question, unless it has to wait for room.
    pub(super) fn ask(&mut self, asker: Asker, request: Request) {
        if !self.room.full {
            return self.obey(asker, request);
        }
        match request {
            Request::ConnectionGone(conn) if !self.owns(conn) => {
                self.answer_aside(asker, Answer::Done);
            }
            // Nobody asks again for what goes with a connection, so this is never refused.
            Request::ConnectionGone(_) => self.room.waiting.push_back((asker, request)),
            request if !changes(&request) => self.obey(asker, request),
            request if self.room.waiting.len() < WAITING_MAX => {
                self.room.waiting.push_back((asker, request));
            }
            _ => self.answer_aside(asker, refused(Refusal::NoRoom)),
        }
    }

    /// Whether an exclusive queue of that connection exists, or is to.
    fn owns(&self, conn: ConnId) -> bool {
        self.directory.is_owner(conn) || self.is_to_own(conn)
    }

    /// Whether an exclusive queue of that connection waits to be declared.
    fn is_to_own(&self, conn: ConnId) -> bool {
        let owner = |request: &Request| match request {
            Request::DeclareQueue(_, QueueSpec { owner, .. }) => *owner,
            _ => None,
        };
        self.room.waiting.iter().any(|(_, request)| owner(request) == Some(conn))
    }

    /// Answers what promises nothing of the topology.
    pub(super) fn answer_aside(&mut self, asker: Asker, answer: Answer) {
        self.send_aside(asker.shard, Control::Answer(asker.ticket, answer));
    }

    /// Sends what may overtake what was decided.
    pub(super) fn send_aside(&mut self, to: ShardId, control: Control) {
        self.room.aside.push((to, control));
    }
}

fn changes(request: &Request) -> bool {
    match request {
        Request::DeclareExchange(..)
        | Request::DeleteExchange { .. }
        | Request::DeclareQueue(..)
        | Request::DeleteQueue { .. }
        | Request::Bind(..)
        | Request::Unbind(..)
        | Request::ConnectionGone(_) => true,
        Request::Login { .. }
        | Request::OpenVhost { .. }
        | Request::OpenChannel(_)
        | Request::AwaitDeleted(_)
        | Request::Sync => false,
    }
}

#[cfg(test)]
mod tests {
    use model::{ExchangeSpec, Now, Ticket};

    use super::super::script_test::{Script, exchange, queue};
    use super::*;
    use crate::shard::message::Alarms;

    const ANNA: ConnId = ConnId(1);
    const OTTO: ConnId = ConnId(2);

    fn declare(name: &str) -> Request {
        let spec = ExchangeSpec { durable: true, ..exchange(name, false) };
        Request::DeclareExchange("/".into(), spec)
    }

    fn login() -> Request {
        Request::Login { user: "guest".into(), password: b"guest".to_vec(), loopback: true }
    }

    /// A coordinator with a change that found no room.
    fn full() -> Script {
        let mut script = Script::new();
        script.0.take_records();
        script.ask(0, 1, declare("x"));
        assert_eq!(script.0.take_records().len(), 1);
        script.0.disk_is_full(true);
        assert_eq!(script.out(), []);
        script
    }

    fn answers(script: &mut Script) -> Vec<(u64, Answer)> {
        let answer = |(_, control)| match control {
            Control::Answer(ticket, answer) => (ticket.0, answer),
            other => panic!("{other:?}"),
        };
        script.out().into_iter().map(answer).collect()
    }

    #[test]
    fn what_promises_nothing_of_the_topology_goes_on_without_room() {
        let mut script = full();
        let open = Request::OpenVhost { conn: ANNA, user: "guest".into(), vhost: "/".into() };
        for (ticket, request) in (2..).zip([login(), open, Request::ConnectionGone(ANNA)]) {
            script.ask(1, ticket, request);
        }
        let expected = [(2, Answer::LoggedIn), (3, Answer::Done), (4, Answer::Done)];
        assert_eq!(answers(&mut script), expected);
        script.control(0, Control::Memory(2000));
        script.0.disk(true);
        let alarms = [(true, false), (true, true)].map(|(memory, disk)| Alarms { memory, disk });
        let expected = alarms.map(|alarms| [0, 1].map(|shard| (shard, Control::Alarm(alarms))));
        assert_eq!(script.out(), expected.concat());
        script.0.disk_is_full(false);
        assert!(matches!(script.out()[..], [(0, Control::Apply(..)), (1, Control::Apply(..))]));
    }

    #[test]
    fn changes_wait_in_their_order_and_nothing_of_them_is_told() {
        let mut script = full();
        script.ask(0, 2, Request::DeclareQueue("/".into(), queue("q", Some(OTTO))));
        script.ask(0, 3, declare("y"));
        script.ask(0, 4, Request::ConnectionGone(OTTO));
        assert_eq!((script.out(), script.0.take_records()), (vec![], vec![]));
        script.0.disk_is_full(false);
        // The exchange, and identities for queues.
        assert_eq!(script.0.take_records().len(), 2);
        let told = script.settle();
        let [(home, Control::Create(_, spec)), first, last] = &told[..] else {
            panic!("{told:?}");
        };
        let done = |ticket| (0, Control::Answer(Ticket(ticket), Answer::Done));
        assert_eq!((first, last), (&done(1), &done(3)));
        script.control(*home, Control::Created(spec.id));
        let told = script.settle();
        let is_freeze = |(_, control): &(u16, Control)| matches!(control, Control::Freeze { .. });
        assert!(told.iter().any(is_freeze), "{told:?}");
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut script = full();
        for ticket in 2..WAITING_MAX as u64 + 2 {
            script.ask(0, ticket, declare("y"));
        }
        assert_eq!(script.out(), []);
        script.ask(0, 0, declare("z"));
        assert_eq!(answers(&mut script), [(0, refused(Refusal::NoRoom))]);
        assert_eq!(script.0.take_outbound(), []);
        script.0.control(ShardId(0), Control::Ask(Ticket(0), login()), Now::default());
        assert_eq!(answers(&mut script), [(0, Answer::LoggedIn)]);
    }
}
