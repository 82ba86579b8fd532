//! Reply codes and how far each one reaches (spec 1.1, constants).

macro_rules! codes {
    ($($number:literal $name:ident $text:literal $scope:ident)*) => {
        /// A reply code of a close or a return.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[expect(missing_docs, reason = "the variants are the constants of the specification")]
        pub enum Code { $($name = $number),* }

        impl Code {
            /// The name as reply texts begin with it.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Code::$name => $text),* }
            }

            /// Whether the code closes the connection (a hard error) rather than the channel.
            #[must_use]
            pub fn closes_connection(self) -> bool {
                match self { $(Code::$name => codes!(@$scope)),* }
            }

            /// The code with this number.
            #[must_use]
            pub fn from_number(number: u16) -> Option<Self> {
                match number { $($number => Some(Code::$name),)* _ => None }
            }
        }
    };
    (@soft) => { false };
    (@hard) => { true };
}

codes! {
    200 ReplySuccess "REPLY_SUCCESS" soft
    311 ContentTooLarge "CONTENT_TOO_LARGE" soft
    312 NoRoute "NO_ROUTE" soft
    313 NoConsumers "NO_CONSUMERS" soft
    320 ConnectionForced "CONNECTION_FORCED" hard
    402 InvalidPath "INVALID_PATH" hard
    403 AccessRefused "ACCESS_REFUSED" soft
    404 NotFound "NOT_FOUND" soft
    405 ResourceLocked "RESOURCE_LOCKED" soft
    406 PreconditionFailed "PRECONDITION_FAILED" soft
    501 FrameError "FRAME_ERROR" hard
    502 SyntaxError "SYNTAX_ERROR" hard
    503 CommandInvalid "COMMAND_INVALID" hard
    504 ChannelError "CHANNEL_ERROR" hard
    505 UnexpectedFrame "UNEXPECTED_FRAME" hard
    506 ResourceError "RESOURCE_ERROR" hard
    530 NotAllowed "NOT_ALLOWED" hard
    540 NotImplemented "NOT_IMPLEMENTED" hard
    541 InternalError "INTERNAL_ERROR" hard
}

impl Code {
    /// The number on the wire.
    #[must_use]
    pub fn number(self) -> u16 {
        self as u16
    }
}

#[cfg(test)]
mod tests {
    use super::Code;
    use amq_protocol::protocol::{AMQPHardError, AMQPSoftError};

    #[test]
    fn codes_are_those_of_an_independent_crate() {
        for number in 0..=u16::MAX {
            let code = Code::from_number(number);
            let (soft, hard) = (AMQPSoftError::from_id(number), AMQPHardError::from_id(number));
            let expected = match (&soft, &hard) {
                (Some(soft), _) => Some((soft.to_string(), false)),
                (_, Some(hard)) => Some((hard.to_string(), true)),
                _ => None,
            };
            // Success is neither a soft nor a hard error.
            if number != 200 {
                let found = code.map(|c| (c.name().replace('_', "-"), c.closes_connection()));
                assert_eq!(found, expected, "{number}");
            }
            assert!(code.is_none_or(|code| code.number() == number));
        }
    }
}
