//! Methods that are handled the same way by producers, consumers and idle connections.

use amqp::Method;
use amqp::frame::write_method;

use crate::system::error::LoadgenError;

/// The first channel of every connection, and the only one of most.
pub const CHANNEL: u16 = 1;

/// The close of a connection at the end of a run.
pub const CLOSE: Method<'static> = Method::ConnectionClose {
    reply_code: 200,
    reply_text: "the run is over",
    class_id: 0,
    method_id: 0,
};

/// Appends the orderly close of a channel. Channel 1 closes with its connection.
pub fn write_close(channel: u16, out: &mut Vec<u8>) {
    if channel == CHANNEL {
        return write_method(out, 0, &CLOSE);
    }
    let (reply_code, reply_text) = (200, "the run is over");
    let close = Method::ChannelClose { reply_code, reply_text, class_id: 0, method_id: 0 };
    write_method(out, channel, &close);
}

/// What a method means for its channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MethodEffect {
    /// None of the methods handled here.
    Other,
    /// It was handled.
    Done,
    /// The broker confirmed the close of the channel or the connection.
    Closed,
    /// channel.flow: the producer must stop (`false`) or may continue.
    Flow(bool),
}

/// Handles a method of this channel and appends the answer, if there is one.
///
/// # Errors
/// The broker closed the channel or the connection, or cancelled the consumer.
pub fn handle_common(
    method: &Method<'_>,
    channel: u16,
    out: &mut Vec<u8>,
) -> Result<MethodEffect, LoadgenError> {
    match *method {
        Method::ConnectionClose { reply_code, reply_text, .. } => {
            Err(LoadgenError::closed("connection", reply_code, reply_text))
        }
        Method::ChannelClose { reply_code, reply_text, .. } => {
            Err(LoadgenError::closed("channel", reply_code, reply_text))
        }
        Method::BasicCancel { consumer_tag, .. } => {
            Err(LoadgenError::Cancelled { consumer_tag: consumer_tag.to_owned() })
        }
        Method::ConnectionCloseOk {} | Method::ChannelCloseOk {} => Ok(MethodEffect::Closed),
        Method::ChannelFlow { active } => {
            write_method(out, channel, &Method::ChannelFlowOk { active });
            Ok(MethodEffect::Flow(active))
        }
        Method::ConnectionBlocked { reason } => {
            eprintln!("the broker blocks publishers: {reason}");
            Ok(MethodEffect::Done)
        }
        Method::ConnectionUnblocked {} => {
            eprintln!("the broker unblocked publishers");
            Ok(MethodEffect::Done)
        }
        _ => Ok(MethodEffect::Other),
    }
}

/// The error for a method that is not allowed here.
#[must_use]
pub fn unexpected(method: &Method<'_>, at: &str) -> LoadgenError {
    LoadgenError::Protocol(format!("unexpected {} for a {at}", method.name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flow_is_answered_and_returned() {
        let mut out = Vec::new();
        let told = handle_common(&Method::ChannelFlow { active: false }, 1, &mut out).unwrap();
        assert_eq!(told, MethodEffect::Flow(false));
        let mut expected = Vec::new();
        write_method(&mut expected, 1, &Method::ChannelFlowOk { active: false });
        assert_eq!(out, expected);
    }

    #[test]
    fn a_close_ends_the_run_with_its_text() {
        let close = Method::ChannelClose {
            reply_code: 404,
            reply_text: "NOT_FOUND - no exchange 'x'",
            class_id: 60,
            method_id: 40,
        };
        let text = handle_common(&close, 1, &mut Vec::new()).unwrap_err().to_string();
        assert!(text.contains("channel: 404 NOT_FOUND - no exchange 'x'"), "{text}");
    }
}
