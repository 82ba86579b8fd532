//! A method that is executed, the replies it sends and the requests it makes.

use amqp::Method;
use model::ConnId;

use crate::mesh::control::{QueueRequest, Request};
use crate::sessions::amqp::pending::{MethodStep, PendingMethod};
use crate::sessions::broker::{BrokerAccess, QueueAt};
use crate::sessions::connections::{ChannelRef, Connections};
use crate::sessions::kind::AfterAnswer;
use crate::sessions::state::Sessions;

/// A method being obeyed: whose it is, and its encoded form to do it over later.
#[derive(Debug, Clone, Copy)]
pub(super) struct MethodCall<'a> {
    pub at: ChannelRef,
    pub payload: &'a [u8],
}

impl MethodCall<'_> {
    /// What follows an answer to the method.
    pub fn then(self, step: MethodStep) -> AfterAnswer {
        AfterAnswer::Method(PendingMethod { payload: self.payload.to_vec(), step })
    }
}

impl Connections {
    /// Sends a method on a channel.
    pub(super) fn send(&mut self, id: ConnId, number: u16, method: &Method<'_>) {
        if let Some(conn) = self.get(id) {
            conn.output.outbox.method(number, method);
            self.touch(id);
        }
    }

    /// Replies to a method.
    pub(super) fn reply(&mut self, at: ChannelRef, method: &Method<'_>) {
        self.send(at.conn, at.number, method);
    }
}

impl Sessions {
    /// Asks the coordinator for a method; its channel waits for the answer.
    pub(super) fn ask_for(
        &mut self,
        call: MethodCall<'_>,
        request: Request,
        step: MethodStep,
        broker: &mut impl BrokerAccess,
    ) {
        self.ask(call.at, request, call.then(step), broker);
    }

    /// Asks a queue for a method; its channel waits for the answer.
    pub(super) fn ask_queue_for(
        &mut self,
        call: MethodCall<'_>,
        queue: QueueAt,
        request: QueueRequest,
        step: MethodStep,
        broker: &mut impl BrokerAccess,
    ) {
        self.ask_queue(call.at, queue, request, call.then(step), broker);
    }
}
