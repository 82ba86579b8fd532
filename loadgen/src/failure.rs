//! Everything that ends a run early, each as a sentence that says what to do.

use std::io;
use std::path::PathBuf;

use amqp::WireError;
use amqp::assembler::SequenceError;
use amqp::frame::FrameError;
use rustix::io::Errno;

/// Why there is no good result.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Settings that cannot work together.
    #[error("{0}")]
    Settings(String),
    /// No TCP connection.
    #[error(
        "cannot reach {address}: {source}. Check that a broker listens there, or name another \
         one with --uri"
    )]
    Unreachable {
        /// Host and port.
        address: String,
        /// What the system said.
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
        /// What to do about it; empty, or a sentence after a full stop.
        hint: &'static str,
    },
    /// The broker took a consumer away.
    #[error("the broker cancelled consumer {consumer_tag}: was its queue deleted?")]
    Cancelled {
        /// The consumer's tag.
        consumer_tag: String,
    },
    /// The socket ended without a close method.
    #[error("the broker hung up {when}; look at the broker's log for the reason{hint}")]
    HungUp {
        /// What was going on.
        when: &'static str,
        /// What to do about it; empty, or a sentence after a full stop.
        hint: &'static str,
    },
    /// The broker did not answer in time.
    #[error("the broker did not answer {waiting_for} within {seconds} s; is it overloaded?")]
    Silent {
        /// The answer that is missing.
        waiting_for: &'static str,
        /// How long it was awaited.
        seconds: u64,
    },
    /// The broker cannot do what the run needs.
    #[error("the broker does not speak AMQP 0-9-1 as expected: {0}. Is the port right?")]
    Protocol(String),
    /// The system refused something.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Some runs of a comparison failed.
    #[error("{0} runs failed; the report names them")]
    Runs(usize),
    /// A signal ended the run; the report says what was seen until then.
    #[error("ended by {}", crate::interrupt::name(*.0))]
    Interrupted(i32),
    /// The run broke off; the report says what was seen until then.
    #[error("the run broke off: {0}")]
    Broken(String),
    /// The run went through, but messages are gone.
    #[error(
        "{0} messages are missing: neither received nor returned nor refused nor in a queue. \
         Check the queue's limits and the binding, or raise --drain-timeout if the broker was \
         still delivering"
    )]
    Missing(u64),
}

impl Failure {
    /// The exit code: 2 for wrong settings, 3 for missing messages, 128 and its number for a
    /// signal, else 1.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Failure::Settings(_) => 2,
            Failure::Missing(_) => 3,
            Failure::Interrupted(signal) => 128 + *signal as u8,
            _ => 1,
        }
    }

    /// The broker's words, if it closed because it does not do what was asked for: arguments it
    /// refuses (406) or methods it does not have (540).
    #[must_use]
    pub fn refusal(&self) -> Option<String> {
        match self {
            Failure::Closed { code: code @ (406 | 540), text, .. } => {
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
            ("channel", 406) => ". Let the settings agree with what exists",
            _ => "",
        };
        // RabbitMQ ends some texts with a full stop, some not; the hint brings its own.
        let text = if hint.is_empty() { text } else { text.trim_end_matches('.') };
        Failure::Closed { what, code, text: text.to_owned(), hint }
    }

    /// A failed system call.
    pub fn system(what: &'static str) -> impl Fn(Errno) -> Self {
        move |errno| Failure::System { what, source: errno.into() }
    }

    /// A failed call of the standard library.
    pub fn io(what: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Failure::System { what, source }
    }
}

impl From<FrameError> for Failure {
    fn from(error: FrameError) -> Self {
        Failure::Protocol(error.to_string())
    }
}

impl From<SequenceError> for Failure {
    fn from(error: SequenceError) -> Self {
        Failure::Protocol(error.to_string())
    }
}

impl From<WireError> for Failure {
    fn from(error: WireError) -> Self {
        Failure::Protocol(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_code_text_and_what_to_do() {
        let failure = Failure::closed("connection", 403, "ACCESS_REFUSED - Login was refused");
        assert_eq!(
            failure.to_string(),
            "the broker closed the connection: 403 ACCESS_REFUSED - Login was refused. \
             Check user and password in --uri"
        );
        assert_eq!((failure.exit_code(), failure.refusal()), (1, None));
        let refused = Failure::closed("channel", 406, "PRECONDITION_FAILED - invalid arg.");
        assert_eq!(refused.refusal().unwrap(), "406 PRECONDITION_FAILED - invalid arg");
        assert_eq!(Failure::Missing(1).exit_code(), 3);
        let ended = Failure::Interrupted(15);
        assert_eq!((ended.exit_code(), ended.to_string().as_str()), (143, "ended by SIGTERM"));
    }
}
