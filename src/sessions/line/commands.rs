//! What each line does.

use amqp::{Code, Properties};
use bytes::Bytes;
use model::session::ChannelConsumer;
use model::{ChannelId, ConnId, ConsumerId, ConsumerSpec, Fault, Refusal};

use crate::mesh::control::{Answer, QueueAnswer, QueueRequest, Request};
use crate::sessions::broker::BrokerAccess;
use crate::sessions::connection::pause;
use crate::sessions::connections::ChannelRef;
use crate::sessions::kind::{AfterAnswer, SessionKind};
use crate::sessions::life::Phase;
use crate::sessions::line::wire::{self, NextLine, PendingLine};
use crate::sessions::state::Sessions;

const USER: &str = "guest";
const VHOST: &str = "/";
/// The channel that stands for the connection.
const CHANNEL: u16 = 1;

impl Sessions {
    /// Takes the lines of a chunk until a pause; says how far it came.
    pub(in crate::sessions) fn run_line(
        &mut self,
        id: ConnId,
        chunk: &Bytes,
        broker: &mut impl BrokerAccess,
    ) -> usize {
        let mut at = 0;
        loop {
            let Some(conn) = self.connections.get(id) else { return chunk.len() };
            if conn.life.phase != Phase::Alive {
                return chunk.len();
            }
            let (paused, running) = (conn.paused != 0, conn.running);
            if paused {
                self.connections.touch(id);
                return at;
            }
            if !running {
                self.open_line(id, broker);
                continue;
            }
            let SessionKind::Line(wire) = &mut conn.kind else { return chunk.len() };
            match wire.next(chunk, &mut at) {
                NextLine::Line(line) => self.line(id, &line, broker),
                NextLine::Partial => return at,
                NextLine::TooLong => self.line_failed(id, "the line is too long", broker),
            }
        }
    }

    fn line(&mut self, id: ConnId, line: &[u8], broker: &mut impl BrokerAccess) {
        let Ok(line) = std::str::from_utf8(line) else {
            return self.line_failed(id, "the line is not UTF-8", broker);
        };
        let line = line.strip_suffix('\r').unwrap_or(line);
        match line.split_once(' ') {
            Some(("PUB", rest)) => {
                let (queue, text) = rest.split_once(' ').unwrap_or((rest, ""));
                self.publish_line(id, queue, text, broker);
            }
            Some(("SUB", queue)) => self.subscribe(id, queue, broker),
            None if line == "QUIT" => self.close_connection(id, broker),
            _ => self.line_failed(id, "unknown command", broker),
        }
    }

    fn publish_line(
        &mut self,
        id: ConnId,
        queue: &str,
        text: &str,
        broker: &mut impl BrokerAccess,
    ) {
        if queue.len() > usize::from(u8::MAX) {
            return self.line_failed(id, "the name of the queue is too long", broker);
        }
        let body = Bytes::copy_from_slice(text.as_bytes());
        self.scratch.begin("", queue);
        // At most a line.
        self.scratch.header(Properties::EMPTY, 1, 0, body.len() as u32);
        self.scratch.body(&body, &body);
        self.publish(id, CHANNEL, broker);
    }

    fn subscribe(&mut self, id: ConnId, name: &str, broker: &mut impl BrokerAccess) {
        let queue = match self.usable_queue(id, name) {
            Ok((spec, _)) => (spec.id, spec.home),
            Err(refusal) => return self.line_refused(id, &refusal, broker),
        };
        let (consumer, home): (ConsumerId, _) = (self.ids.fresh(), queue.1);
        let Some(conn) = self.connections.get(id) else { return };
        conn.life.involve(home);
        let properties_max = conn.kind.properties_max();
        let Some(channel) = conn.channels.get(CHANNEL) else { return };
        channel.involve(home);
        let known = ChannelConsumer::plain(name.into(), queue);
        channel.consumers.add(consumer, known);
        let at = ChannelRef { conn: id, number: CHANNEL, channel: channel.id };
        let spec = ConsumerSpec {
            id: consumer,
            conn: id,
            channel: at.channel,
            no_ack: true,
            prefetch: 0,
            limited: false,
            timeout_ms: None,
            exclusive: false,
            priority: 0,
            properties_max,
        };
        self.connections.pause(id, pause::ANSWER);
        let then = AfterAnswer::Line(PendingLine::Consuming(consumer));
        self.ask_queue(at, queue, QueueRequest::Consume(spec), then, broker);
    }

    /// Asks for the vhost; what the client sends meanwhile waits.
    fn open_line(&mut self, id: ConnId, broker: &mut impl BrokerAccess) {
        let Some(conn) = self.connections.get(id) else { return };
        conn.user = USER.into();
        if let SessionKind::Line(wire) = &mut conn.kind {
            wire.asked = true;
        }
        let request = Request::OpenVhost { conn: id, user: USER.into(), vhost: VHOST.into() };
        self.ask_for_line(id, request, PendingLine::OpenVhost, broker);
    }

    fn ask_for_line(
        &mut self,
        id: ConnId,
        request: Request,
        line: PendingLine,
        broker: &mut impl BrokerAccess,
    ) {
        self.connections.pause(id, pause::ANSWER);
        self.ask(ChannelRef::connection(id), request, AfterAnswer::Line(line), broker);
    }

    /// The coordinator has answered a line.
    pub(in crate::sessions) fn line_answered(
        &mut self,
        at: ChannelRef,
        line: PendingLine,
        answer: Answer,
        broker: &mut impl BrokerAccess,
    ) {
        let id = at.conn;
        self.connections.unpause(id, pause::ANSWER);
        let Some(conn) = self.connections.get(id) else { return };
        if conn.life.phase != Phase::Alive {
            return;
        }
        match answer {
            Answer::Opened { rights, counts_channels } => {
                conn.access.set(rights);
                conn.counts_channels = self.limits.counts_channels || counts_channels;
            }
            Answer::Done => {}
            _ => return self.line_failed(id, "access refused", broker),
        }
        if line == PendingLine::OpenVhost {
            let channel: ChannelId = self.ids.fresh();
            conn.vhost = VHOST.into();
            conn.channels.add(CHANNEL, channel);
            if let Some(request) = conn.count_channel(CHANNEL) {
                return self.ask_for_line(id, request, PendingLine::OpenChannel, broker);
            }
        }
        conn.running = true;
        self.arm(id, broker.now());
    }

    /// A queue has answered a line.
    pub(in crate::sessions) fn line_queue_answered(
        &mut self,
        at: ChannelRef,
        line: PendingLine,
        answer: QueueAnswer,
        broker: &mut impl BrokerAccess,
    ) {
        let id = at.conn;
        self.connections.unpause(id, pause::ANSWER);
        match (line, answer) {
            (PendingLine::Consuming(_), QueueAnswer::Consuming) => {
                if let Some(conn) = self.connections.get(id) {
                    wire::write(&mut conn.output, &["OK"]);
                    self.connections.touch(id);
                }
            }
            (_, QueueAnswer::Refused(refusal)) => self.line_refused(id, &refusal, broker),
            _ => self.line_failed(id, "the queue is being deleted", broker),
        }
    }

    fn line_refused(&mut self, id: ConnId, refusal: &Refusal, broker: &mut impl BrokerAccess) {
        self.fail(id, 0, &refusal.fault((0, 0)), broker);
    }

    fn line_failed(&mut self, id: ConnId, why: &str, broker: &mut impl BrokerAccess) {
        self.fail(id, 0, &Fault::new(Code::SyntaxError, why, (0, 0)), broker);
    }
}
