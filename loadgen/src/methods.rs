//! Methods that any channel may get at any time, the same for producers and consumers.

use amqp::Method;
use amqp::frame::write_method;

use crate::failure::Failure;

/// What such a method means for the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Common {
    /// It is none of these.
    Other,
    /// It is dealt with.
    Done,
    /// The broker confirmed the close of the connection or of the channel.
    Closed,
    /// The broker asks to stop (`false`) or to go on publishing.
    Flow(bool),
}

/// Takes a method of this channel and appends the answer, if there is one.
///
/// # Errors
/// The broker closed the channel or the connection, or cancelled the consumer.
pub fn common(method: &Method<'_>, channel: u16, out: &mut Vec<u8>) -> Result<Common, Failure> {
    match *method {
        Method::ConnectionClose { reply_code, reply_text, .. } => {
            Err(Failure::closed("connection", reply_code, reply_text))
        }
        Method::ChannelClose { reply_code, reply_text, .. } => {
            Err(Failure::closed("channel", reply_code, reply_text))
        }
        Method::BasicCancel { consumer_tag, .. } => {
            Err(Failure::Cancelled { consumer_tag: consumer_tag.to_owned() })
        }
        Method::ConnectionCloseOk {} | Method::ChannelCloseOk {} => Ok(Common::Closed),
        Method::ChannelFlow { active } => {
            write_method(out, channel, &Method::ChannelFlowOk { active });
            Ok(Common::Flow(active))
        }
        Method::ConnectionBlocked { reason } => {
            eprintln!("the broker blocks publishers: {reason}");
            Ok(Common::Done)
        }
        Method::ConnectionUnblocked {} => {
            eprintln!("the broker unblocked publishers");
            Ok(Common::Done)
        }
        _ => Ok(Common::Other),
    }
}

/// A method that has no place where it came.
#[must_use]
pub fn unexpected(method: &Method<'_>, at: &str) -> Failure {
    Failure::Protocol(format!("{} at a {at}", method.name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flow_is_answered_and_told() {
        let mut out = Vec::new();
        let told = common(&Method::ChannelFlow { active: false }, 1, &mut out).unwrap();
        assert_eq!(told, Common::Flow(false));
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
        let text = common(&close, 1, &mut Vec::new()).unwrap_err().to_string();
        assert!(text.contains("channel: 404 NOT_FOUND - no exchange 'x'"), "{text}");
    }
}
