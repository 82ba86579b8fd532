//! Requests to the coordinator and to queues, and what follows their answers. The channel that a
//! request is for waits: later methods on it are parked behind this barrier.

use model::RequestId;
use model::mutant::{self, Mutant};

use crate::mesh::control::{Answer, QueueAnswer, QueueRequest, Request};
use crate::sessions::broker::{BrokerAccess, QueueAt};
use crate::sessions::connections::{ChannelRef, PendingRequest};
use crate::sessions::kind::AfterAnswer;
use crate::sessions::state::Sessions;

impl Sessions {
    /// Asks the coordinator; the channel waits for the answer.
    pub(super) fn ask(
        &mut self,
        at: ChannelRef,
        request: Request,
        then: AfterAnswer,
        broker: &mut impl BrokerAccess,
    ) {
        let ticket = self.wait(at, then);
        broker.ask(ticket, request);
    }

    /// Asks a queue; the channel waits for the answer, which may be here at once.
    pub(super) fn ask_queue(
        &mut self,
        at: ChannelRef,
        queue: QueueAt,
        request: QueueRequest,
        then: AfterAnswer,
        broker: &mut impl BrokerAccess,
    ) {
        let ticket = self.wait(at, then);
        let answer = broker.ask_queue(&mut self.connections, ticket, queue, request);
        if let Some(answer) = answer {
            self.queue_answered(ticket, answer, broker);
        }
        broker.serve(&mut self.connections, queue);
    }

    /// The channel waits for something.
    pub(super) fn wait(&mut self, at: ChannelRef, then: AfterAnswer) -> RequestId {
        let ticket: RequestId = self.ids.fresh();
        self.connections.wait(ticket, at, then);
        if let Some(channel) = self.connections.channel(at.conn, at.number) {
            channel.barrier = (!mutant::active(Mutant::NoBarrier)).then_some(ticket);
        }
        ticket
    }

    /// The coordinator has answered.
    pub fn answered(&mut self, ticket: RequestId, answer: Answer, broker: &mut impl BrokerAccess) {
        let Some(PendingRequest { at, then }) = self.connections.answered(ticket) else {
            return;
        };
        match then {
            AfterAnswer::Released => self.released_one(at.conn, broker.now()),
            AfterAnswer::Method(method) => self.method_answered(at, method, answer, broker),
            #[cfg(feature = "second-kinds")]
            AfterAnswer::Line(line) => self.line_answered(at, line, answer, broker),
        }
    }

    /// A queue has answered.
    pub fn queue_answered(
        &mut self,
        ticket: RequestId,
        answer: QueueAnswer,
        broker: &mut impl BrokerAccess,
    ) {
        let Some(PendingRequest { at, then }) = self.connections.answered(ticket) else {
            return;
        };
        match then {
            // Only the coordinator is asked for that.
            AfterAnswer::Released => debug_assert!(false, "{at:?} asked no queue"),
            AfterAnswer::Method(method) => self.method_queue_answered(at, method, answer, broker),
            #[cfg(feature = "second-kinds")]
            AfterAnswer::Line(line) => self.line_queue_answered(at, line, answer, broker),
        }
    }
}
