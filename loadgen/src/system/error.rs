//! Everything that ends a run early, each as a sentence that says what to do.

use std::io;
use std::path::PathBuf;

use amqp::WireError;
use amqp::assembler::SequenceError;
use amqp::frame::FrameError;
use rustix::io::Errno;
use signal_hook::low_level::signal_name;

/// Why a run has no complete result.
#[derive(Debug, thiserror::Error)]
pub enum LoadgenError {
    /// Flags that are wrong or cannot work together.
    #[error("{0}")]
    Settings(String),
    /// The TCP connection failed.
    #[error(
        "cannot reach {address}: {source}. Check that a broker listens there, or name another \
         one with --uri"
    )]
    Unreachable {
        /// Host and port.
        address: String,
        /// The system's error.
        source: io::Error,
    },
    /// The broker closed the connection or the channel.
    #[error("the broker closed the {what}: {code} {text}{hint}")]
    Closed {
        /// `connection` or `channel`.
        what: &'static str,
        /// The reply code.
        code: u16,
        /// The reply text.
        text: String,
        /// Advice: empty, or a full stop and a sentence.
        hint: &'static str,
    },
    /// The broker cancelled a consumer.
    #[error("the broker cancelled consumer {consumer_tag}: was its queue deleted?")]
    Cancelled {
        /// The consumer tag.
        consumer_tag: String,
    },
    /// The broker closed the socket without a close method.
    #[error("the broker hung up {when}; look at the broker's log for the reason{hint}")]
    HungUp {
        /// When it happened.
        when: &'static str,
        /// Advice: empty, or a full stop and a sentence.
        hint: &'static str,
    },
    /// The broker did not answer in time.
    #[error("the broker did not answer {waiting_for} within {seconds} s; is it overloaded?")]
    Silent {
        /// The method that was not answered.
        waiting_for: &'static str,
        /// The timeout in seconds.
        seconds: u64,
    },
    /// The broker broke the protocol, or lacks what the run needs.
    #[error("the broker does not speak AMQP 0-9-1 as expected: {0}. Is the port right?")]
    Protocol(String),
    /// A system call failed.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// The system's error.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Some runs of a comparison failed.
    #[error("{0} runs failed; the report names them")]
    Runs(usize),
    /// A signal ended the run; the report covers the time until then.
    #[error("ended by {}", signal_or_unknown(*.0))]
    Interrupted(i32),
    /// The run was cut short; the report covers the time until then.
    #[error("the run was cut short: {0}")]
    Broken(String),
    /// The run ended normally, but messages are missing.
    #[error(
        "{0} messages are missing: neither received nor returned nor nacked nor in a queue. \
         Check the queue's limits and the binding, or raise --drain-timeout if the broker was \
         still delivering"
    )]
    Missing(u64),
}

impl LoadgenError {
    /// The exit code: 2 for wrong settings, 3 for missing messages, 128 plus the number of a
    /// signal, else 1.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            LoadgenError::Settings(_) => 2,
            LoadgenError::Missing(_) => 3,
            LoadgenError::Interrupted(signal) => 128 + *signal as u8,
            _ => 1,
        }
    }

    /// The broker's code and text if it refused what was asked for: arguments it does not support
    /// (406) or methods it does not implement (540).
    #[must_use]
    pub fn refusal(&self) -> Option<String> {
        match self {
            LoadgenError::Closed { code: code @ (406 | 540), text, .. } => {
                Some(format!("{code} {text}"))
            }
            _ => None,
        }
    }

    /// A close by the broker, with advice for the usual codes.
    #[must_use]
    pub fn closed(what: &'static str, code: u16, text: &str) -> Self {
        let hint = match (what, code) {
            ("connection", 403) => ". Check user and password in --uri",
            ("connection", 530) => ". Check that the vhost in --uri exists and may be used",
            ("connection", 320) => ". The broker is stopping or an operator closed the connection",
            ("channel", 403) => ". Give the user permission to configure, write and read there",
            ("channel", 404) => ". Declare it first or name another one",
            ("channel", 405) => ". Another connection holds the queue; name another with --queue",
            ("channel", 406) => {
                ". Use the settings of the existing queue or exchange, or another name"
            }
            _ => "",
        };
        // Some of RabbitMQ's texts end with a full stop; the hint starts with one.
        let text = if hint.is_empty() { text } else { text.trim_end_matches('.') };
        LoadgenError::Closed { what, code, text: text.to_owned(), hint }
    }

    /// A failed system call.
    pub fn system(what: &'static str) -> impl Fn(Errno) -> Self {
        move |errno| LoadgenError::System { what, source: errno.into() }
    }

    /// A failed call of the standard library.
    pub fn io(what: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| LoadgenError::System { what, source }
    }
}

impl From<FrameError> for LoadgenError {
    fn from(error: FrameError) -> Self {
        LoadgenError::Protocol(error.to_string())
    }
}

impl From<SequenceError> for LoadgenError {
    fn from(error: SequenceError) -> Self {
        LoadgenError::Protocol(error.to_string())
    }
}

impl From<WireError> for LoadgenError {
    fn from(error: WireError) -> Self {
        LoadgenError::Protocol(error.to_string())
    }
}

/// The name of a signal.
fn signal_or_unknown(signal: i32) -> &'static str {
    signal_name(signal).unwrap_or("a signal")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_has_code_text_and_advice() {
        let failure = LoadgenError::closed("connection", 403, "ACCESS_REFUSED - Login was refused");
        assert_eq!(
            failure.to_string(),
            "the broker closed the connection: 403 ACCESS_REFUSED - Login was refused. \
             Check user and password in --uri"
        );
        assert_eq!((failure.exit_code(), failure.refusal()), (1, None));
        let refused = LoadgenError::closed("channel", 406, "PRECONDITION_FAILED - invalid arg.");
        assert_eq!(refused.refusal().unwrap(), "406 PRECONDITION_FAILED - invalid arg");
        assert_eq!(LoadgenError::Missing(1).exit_code(), 3);
        let ended = LoadgenError::Interrupted(15);
        assert_eq!((ended.exit_code(), ended.to_string().as_str()), (143, "ended by SIGTERM"));
    }
}
