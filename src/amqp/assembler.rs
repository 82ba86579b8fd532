//! Frames of one channel to commands: method, then for a publish its header, then its body.
//!
//! ```text
//!            method with content          header, size > 0
//!   Idle ----------------------> Header ------------------> Body
//!    ^                             |                          |
//!    +------- header, size 0 ------+---- size reached --------+
//! ```

use crate::frame::Frame;
use crate::methods::{Method, Publish};
use crate::octets::{Reader, WireError};

/// Where a channel stands in the sequence of frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Assembler {
    /// A method is due.
    #[default]
    Idle,
    /// The content header of this class is due.
    Header(u16),
    /// This many octets of body are due.
    Body(u64),
}

/// What one frame brought.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Step<'a> {
    /// A method; if [`Method::has_content`], a header and a body follow.
    Method(Method<'a>),
    /// The content header: the size of the body and the encoded properties, not yet checked.
    Header {
        /// Octets of body to follow.
        body_size: u64,
        /// The flag word and the fields.
        properties: &'a [u8],
    },
    /// A piece of the body.
    Body {
        /// The octets.
        piece: &'a [u8],
        /// Whether the content is complete with it.
        complete: bool,
    },
}

/// A frame out of sequence, or one that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SequenceError {
    /// Content without a method before it.
    #[error("expected method frame, got non method frame instead")]
    MethodExpected,
    /// A method or body where a header must come.
    #[error("expected content header for class {0}, got non content header frame instead")]
    HeaderExpected(u16),
    /// A header of another class.
    #[error("expected content header for class {expected}, got one for class {found} instead")]
    HeaderClass {
        /// The class of the method.
        expected: u16,
        /// The class in the header.
        found: u16,
    },
    /// A method or header where a body must come.
    #[error("expected content body, got non content body frame instead")]
    BodyExpected,
    /// More body than the header announced.
    #[error("content body frame exceeds remaining content size")]
    BodyTooLong,
    /// The payload cannot be read.
    #[error(transparent)]
    Wire(#[from] WireError),
}

impl Method<'_> {
    /// Whether a content header and a body follow the method.
    #[must_use]
    #[inline]
    pub fn has_content(&self) -> bool {
        matches!(
            self,
            Method::BasicPublish { .. }
                | Method::BasicReturn { .. }
                | Method::BasicDeliver { .. }
                | Method::BasicGetOk { .. }
        )
    }
}

impl Assembler {
    /// Takes any frame of the channel; `None` for a heartbeat.
    ///
    /// # Errors
    /// See [`SequenceError`]; the state is unchanged.
    pub fn frame<'a>(&mut self, frame: Frame<'a>) -> Result<Option<Step<'a>>, SequenceError> {
        match frame {
            Frame::Method { payload, .. } => self.method(payload),
            Frame::Header { payload, .. } => self.header(payload),
            Frame::Body { piece, last, .. } => self.body_piece(piece, last),
            Frame::Heartbeat { .. } => return Ok(None),
        }
        .map(Some)
    }

    /// Takes the payload of a method frame if it is a well-formed basic.publish. `None` for any
    /// other payload; [`Assembler::method`] then takes it or finds the error.
    ///
    /// # Errors
    /// See [`SequenceError`]; the state is unchanged.
    #[inline]
    pub fn publish<'a>(&mut self, payload: &'a [u8]) -> Result<Option<Publish<'a>>, SequenceError> {
        if *self != Assembler::Idle {
            return self.method(payload).map(|_| None);
        }
        let publish = Publish::read(payload);
        if publish.is_some() {
            *self = Assembler::Header(60);
        }
        Ok(publish)
    }

    /// Takes the payload of a method frame.
    ///
    /// # Errors
    /// See [`SequenceError`]; the state is unchanged.
    #[inline]
    pub fn method<'a>(&mut self, payload: &'a [u8]) -> Result<Step<'a>, SequenceError> {
        match *self {
            Assembler::Idle => {
                let method = Method::read(payload)?;
                if method.has_content() {
                    *self = Assembler::Header(60);
                }
                Ok(Step::Method(method))
            }
            Assembler::Header(class) => Err(SequenceError::HeaderExpected(class)),
            Assembler::Body(_) => Err(SequenceError::BodyExpected),
        }
    }

    /// Takes the payload of a content header frame. A header that announces no body completes the
    /// content.
    ///
    /// # Errors
    /// See [`SequenceError`]; the state is unchanged.
    #[inline]
    pub fn header<'a>(&mut self, payload: &'a [u8]) -> Result<Step<'a>, SequenceError> {
        let expected = match *self {
            Assembler::Header(class) => class,
            Assembler::Idle => return Err(SequenceError::MethodExpected),
            Assembler::Body(_) => return Err(SequenceError::BodyExpected),
        };
        let mut reader = Reader::new(payload);
        // The weight is always 0 and never looked at (spec 4.2.6.1).
        let (found, _weight, body_size) = (reader.short()?, reader.short()?, reader.longlong()?);
        if found != expected {
            return Err(SequenceError::HeaderClass { expected, found });
        }
        *self = if body_size == 0 { Assembler::Idle } else { Assembler::Body(body_size) };
        Ok(Step::Header { body_size, properties: reader.rest() })
    }

    /// Takes the payload of a whole body frame, or its last piece.
    ///
    /// # Errors
    /// See [`SequenceError`]; the state is unchanged.
    #[inline]
    pub fn body<'a>(&mut self, piece: &'a [u8]) -> Result<Step<'a>, SequenceError> {
        self.body_piece(piece, true)
    }

    /// Takes a piece of a body frame; `last` when the frame ends with it. A frame that goes on when
    /// the content is complete is too long, wherever the reads have cut it.
    ///
    /// # Errors
    /// See [`SequenceError`]; the state is unchanged.
    #[inline]
    pub fn body_piece<'a>(
        &mut self,
        piece: &'a [u8],
        last: bool,
    ) -> Result<Step<'a>, SequenceError> {
        let left = match *self {
            Assembler::Body(left) => left,
            Assembler::Header(class) => return Err(SequenceError::HeaderExpected(class)),
            Assembler::Idle => return Err(SequenceError::MethodExpected),
        };
        let left = left.checked_sub(piece.len() as u64).ok_or(SequenceError::BodyTooLong)?;
        if left == 0 && !last {
            return Err(SequenceError::BodyTooLong);
        }
        *self = if left == 0 { Assembler::Idle } else { Assembler::Body(left) };
        Ok(Step::Body { piece, complete: left == 0 })
    }
}

#[cfg(test)]
#[path = "checks/assembler_test.rs"]
mod tests;
