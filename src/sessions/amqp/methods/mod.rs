//! Methods on channels: one place where each is handed to the file that executes it.

mod ack;
mod answers;
mod bindings;
mod consume;
mod declare;
mod delete;
mod direct_reply;
mod global_qos;
mod rights;
mod tx;

use amqp::{Code, Method};
use model::queue::Settle;
use model::session::channel::State;
use model::{ChannelId, ConnId, Fault, Refusal};

use crate::sessions::amqp::methods::rights::RightsVerdict;
use crate::sessions::amqp::pending::MethodStep;
use crate::sessions::amqp::send::MethodCall;
use crate::sessions::broker::BrokerAccess;
use crate::sessions::connections::ChannelRef;
use crate::sessions::state::Sessions;

impl Sessions {
    /// Obeys a method; `payload` is its encoded form.
    pub(in crate::sessions::amqp) fn method(
        &mut self,
        id: ConnId,
        number: u16,
        method: &Method<'_>,
        payload: &[u8],
        broker: &mut impl BrokerAccess,
    ) {
        if number == 0 {
            return self.connection_method(id, method, broker);
        }
        let result = match *method {
            Method::ChannelOpen { .. } => self.open_channel(id, number, payload, broker),
            Method::ChannelClose { .. } => {
                self.close_channel(id, number, broker);
                Ok(())
            }
            Method::ChannelCloseOk {} => self.channel_close_ok(id, number),
            _ => self.channel_method(id, number, method, payload, broker),
        };
        if let Err(fault) = result {
            self.fail(id, number, &fault, broker);
        }
    }

    fn channel_method(
        &mut self,
        id: ConnId,
        number: u16,
        method: &Method<'_>,
        payload: &[u8],
        broker: &mut impl BrokerAccess,
    ) -> Result<(), Fault> {
        let Some(channel) = self.connections.channel(id, number) else {
            debug_assert!(false, "frames on a number without a channel carry no method");
            return Ok(());
        };
        let at = ChannelRef { conn: id, number, channel: channel.id };
        let call = MethodCall { at, payload };
        let result = match self.check_rights(call, method, broker) {
            Ok(RightsVerdict::Granted) => self.permitted_method(call, method, broker),
            Ok(RightsVerdict::Asked) => Ok(()),
            Err(refusal) => Err(refusal),
        };
        result.map_err(|refusal| refusal.fault(method.id()))
    }

    fn permitted_method(
        &mut self,
        call: MethodCall<'_>,
        method: &Method<'_>,
        broker: &mut impl BrokerAccess,
    ) -> Result<(), Refusal> {
        match method.id().0 {
            40 => self.exchange_method(call, method, broker),
            50 => self.queue_method(call, method, broker),
            60 => self.basic_method(call, method, broker),
            90 => self.tx_method(call, method, broker),
            _ => self.other_method(call, method),
        }
    }

    fn basic_method(
        &mut self,
        call: MethodCall<'_>,
        method: &Method<'_>,
        broker: &mut impl BrokerAccess,
    ) -> Result<(), Refusal> {
        match *method {
            Method::BasicAck { delivery_tag, multiple } => {
                self.settle(call, delivery_tag, multiple, Settle::Ack, broker)
            }
            Method::BasicNack { delivery_tag, multiple, requeue } => {
                self.settle(call, delivery_tag, multiple, unwanted(requeue), broker)
            }
            Method::BasicReject { delivery_tag, requeue } => {
                self.settle(call, delivery_tag, false, unwanted(requeue), broker)
            }
            Method::BasicQos { .. } => self.qos(call, method, broker),
            Method::BasicConsume { .. } => self.consume(call, method, broker),
            Method::BasicCancel { consumer_tag, nowait } => {
                self.cancel(call, consumer_tag, nowait, broker);
                Ok(())
            }
            Method::BasicGet { queue, no_ack, .. } => self.get(call, queue, no_ack, broker),
            Method::BasicRecover { requeue } => {
                // What is redelivered comes behind the answer.
                self.recover(call, requeue, Some(Method::BasicRecoverOk {}), broker)
            }
            Method::BasicRecoverAsync { requeue } => self.recover(call, requeue, None, broker),
            // Nothing of ours asks for it. RabbitMQ takes it for a cancel without an answer.
            Method::BasicCancelOk { consumer_tag } => {
                self.cancel(call, consumer_tag, true, broker);
                Ok(())
            }
            _ => Err(Refusal::ServersMethod),
        }
    }

    fn other_method(&mut self, call: MethodCall<'_>, method: &Method<'_>) -> Result<(), Refusal> {
        let reply = match *method {
            Method::ConfirmSelect { nowait } => {
                self.select_confirms(call)?;
                if nowait {
                    return Ok(());
                }
                Method::ConfirmSelectOk {}
            }
            Method::ChannelFlow { active: true } => Method::ChannelFlowOk { active: true },
            Method::ChannelFlow { active: false } => {
                return Err(Refusal::NotImplemented("active=false".into()));
            }
            // Tickets of AMQP 0-8; every client that asks gets the same.
            Method::AccessRequest { .. } => Method::AccessRequestOk { ticket: 1 },
            _ => return Err(Refusal::ServersMethod),
        };
        self.connections.reply(call.at, &reply);
        Ok(())
    }

    fn open_channel(
        &mut self,
        id: ConnId,
        number: u16,
        payload: &[u8],
        broker: &mut impl BrokerAccess,
    ) -> Result<(), Fault> {
        let channel: ChannelId = self.ids.fresh();
        let Some(conn) = self.connections.get(id) else { return Ok(()) };
        let open = (20, 10);
        if conn.channels.get(number).is_some() {
            return Err(Fault::new(Code::ChannelError, "second 'channel.open' seen", open));
        }
        let max = conn.kind.amqp().map_or(0, |wire| wire.handshake.negotiated().channel_max);
        let count = conn.channels.len();
        if max != 0 && count >= usize::from(max) {
            let text = format!(
                "number of channels opened ({count}) has reached the negotiated channel_max ({max})"
            );
            return Err(Fault::new(Code::NotAllowed, &text, (0, 0)));
        }
        conn.channels.add(number, channel);
        if let Some(request) = conn.count_channel(number) {
            let call = MethodCall { at: ChannelRef { conn: id, number, channel }, payload };
            self.ask_for(call, request, MethodStep::OpenChannel, broker);
            return Ok(());
        }
        self.connections.send(id, number, &Method::ChannelOpenOk { channel_id: &[] });
        Ok(())
    }

    /// The client has seen that the server closed a channel.
    fn channel_close_ok(&mut self, id: ConnId, number: u16) -> Result<(), Fault> {
        let Some(conn) = self.connections.get(id) else { return Ok(()) };
        match conn.channels.get(number).map(|channel| channel.state) {
            Some(State::ClosedByServer) => drop(conn.channels.remove(number)),
            Some(State::Open) => return Err(Refusal::ServersMethod.fault((20, 41))),
            _ => {}
        }
        Ok(())
    }

    fn select_confirms(&mut self, call: MethodCall<'_>) -> Result<(), Refusal> {
        let channel = self.connections.present(call.at);
        if let Some(channel) = channel {
            if channel.tx.is_some() {
                return Err(Refusal::TxToConfirm);
            }
            channel.confirms.get_or_insert_default();
        }
        Ok(())
    }
}

fn unwanted(requeue: bool) -> Settle {
    if requeue { Settle::Requeue } else { Settle::Drop }
}
