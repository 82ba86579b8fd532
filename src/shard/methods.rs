//! Methods on channels: one place where each is handed to the file that obeys it.

use amqp::{Code, Method};
use model::queue::Settle;
use model::{ChannelId, ConnId, Fault, Now, Refusal};

use super::clients::Then;
use super::machine::Shard;
use super::message::Request;
use super::questions::Call;

impl Shard {
    /// Obeys a method; `payload` is its encoded form.
    pub(super) fn method(
        &mut self,
        id: ConnId,
        number: u16,
        method: &Method<'_>,
        payload: &[u8],
        now: Now,
    ) {
        if number == 0 {
            return self.connection_method(id, method, now);
        }
        let result = match *method {
            Method::ChannelOpen { .. } => self.open_channel(id, number, payload),
            Method::ChannelClose { .. } => {
                self.close_channel(id, number);
                Ok(())
            }
            Method::ChannelCloseOk {} => self.channel_close_ok(id, number),
            _ => self.channel_method(id, number, method, payload, now),
        };
        if let Err(fault) = result {
            self.fail(id, number, &fault, now);
        }
    }

    fn channel_method(
        &mut self,
        id: ConnId,
        number: u16,
        method: &Method<'_>,
        payload: &[u8],
        now: Now,
    ) -> Result<(), Fault> {
        let channel = self.clients.get(id).and_then(|conn| conn.channel(number));
        let Some(channel) = channel.map(|channel| channel.id) else {
            return Ok(());
        };
        let call = Call { conn: id, number, channel, payload };
        let result = match method.id().0 {
            40 => self.exchange_method(call, method),
            50 => self.queue_method(call, method, now),
            60 => self.basic_method(call, method, now),
            90 => self.tx_method(call, method),
            _ => self.other_method(call, method),
        };
        result.map_err(|refusal| refusal.fault(method.id()))
    }

    fn basic_method(
        &mut self,
        call: Call<'_>,
        method: &Method<'_>,
        now: Now,
    ) -> Result<(), Refusal> {
        match *method {
            Method::BasicAck { delivery_tag, multiple } => {
                self.settle(call, delivery_tag, multiple, Settle::Ack)
            }
            Method::BasicNack { delivery_tag, multiple, requeue } => {
                self.settle(call, delivery_tag, multiple, unwanted(requeue))
            }
            Method::BasicReject { delivery_tag, requeue } => {
                self.settle(call, delivery_tag, false, unwanted(requeue))
            }
            Method::BasicQos { .. } => self.qos(call, method),
            Method::BasicConsume { .. } => self.consume(call, method, now),
            Method::BasicCancel { consumer_tag, nowait } => {
                self.cancel(call, consumer_tag, nowait, now);
                Ok(())
            }
            Method::BasicGet { queue, no_ack, .. } => self.get(call, queue, no_ack, now),
            Method::BasicRecover { requeue } => {
                // What is redelivered comes behind the answer.
                self.recover(call, requeue, Some(Method::BasicRecoverOk {}))
            }
            Method::BasicRecoverAsync { requeue } => self.recover(call, requeue, None),
            // Nothing of ours asks for it. RabbitMQ takes it for a cancel without an answer.
            Method::BasicCancelOk { consumer_tag } => {
                self.cancel(call, consumer_tag, true, now);
                Ok(())
            }
            _ => Err(Refusal::ServersMethod),
        }
    }

    fn other_method(&mut self, call: Call<'_>, method: &Method<'_>) -> Result<(), Refusal> {
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
        self.clients.send(call.conn, call.number, &reply);
        Ok(())
    }

    fn open_channel(&mut self, id: ConnId, number: u16, payload: &[u8]) -> Result<(), Fault> {
        let channel: ChannelId = self.ids.fresh();
        let Some(conn) = self.clients.get(id) else {
            return Ok(());
        };
        let open = (20, 10);
        if conn.channel(number).is_some() {
            return Err(Fault::new(Code::ChannelError, "second 'channel.open' seen", open));
        }
        let max = conn.handshake.negotiated().channel_max;
        if max != 0 && number > max {
            let text = format!(
                "number of channels opened ({}) has reached the negotiated channel_max ({max})",
                conn.numbers().len()
            );
            return Err(Fault::new(Code::NotAllowed, &text, (0, 0)));
        }
        conn.add_channel(number, channel);
        if self.limits.counts_channels {
            let call = Call { conn: id, number, channel, payload };
            self.ask(call, Request::OpenChannel(channel), Then::OpenChannel);
            return Ok(());
        }
        self.clients.send(id, number, &Method::ChannelOpenOk { channel_id: &[] });
        Ok(())
    }

    fn select_confirms(&mut self, call: Call<'_>) -> Result<(), Refusal> {
        let channel = self.clients.get(call.conn).and_then(|conn| conn.channel(call.number));
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
