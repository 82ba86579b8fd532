//! The properties of a content header (spec 4.2.6.1), kept encoded: flags, then the present fields.
//!
//! RabbitMQ relays properties that are not UTF-8 (clients of languages without a text type put raw
//! bytes into correlation ids), so they are relayed here too, and absent in the decoded form. The
//! two that the broker itself reads, `expiration` and `user_id`, must be text.

use crate::octets::{Reader, WireError, Writer};
use crate::table::Table;

/// The properties of a message as they stand on the wire: the flag word and the fields it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Properties<'a>(&'a [u8]);

/// The properties of class `basic`, decoded.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[expect(missing_docs, reason = "the fields are the properties of the specification")]
pub struct Basic<'a> {
    pub content_type: Option<&'a str>,
    pub content_encoding: Option<&'a str>,
    pub headers: Option<Table<'a>>,
    pub delivery_mode: Option<u8>,
    pub priority: Option<u8>,
    pub correlation_id: Option<&'a str>,
    pub reply_to: Option<&'a str>,
    pub expiration: Option<&'a str>,
    pub message_id: Option<&'a str>,
    pub timestamp: Option<u64>,
    pub kind: Option<&'a str>,
    pub user_id: Option<&'a str>,
    pub app_id: Option<&'a str>,
    pub cluster_id: Option<&'a str>,
}

impl<'a> Properties<'a> {
    /// No property present.
    pub const EMPTY: Properties<'static> = Properties(&[0, 0]);

    /// Checks the flag word and every field it announces.
    ///
    /// # Errors
    /// What is wrong with the first malformed field; [`WireError::Trailing`] for bytes behind the
    /// last one.
    #[inline]
    pub fn parse(encoded: &'a [u8]) -> Result<(Self, Basic<'a>), WireError> {
        let basic = Basic::read(encoded)?;
        Ok((Self(encoded), basic))
    }

    /// A fast check for what most publishers send: no properties, or only a delivery mode. Returns
    /// the delivery mode, 0 if absent; `None` for all other properties.
    #[must_use]
    #[inline]
    pub fn parse_plain(encoded: &'a [u8]) -> Option<(Self, u8)> {
        const DELIVERY_MODE: u8 = 1 << 4;
        match *encoded {
            [0, 0] => Some((Self(encoded), 0)),
            [DELIVERY_MODE, 0, mode] => Some((Self(encoded), mode)),
            _ => None,
        }
    }

    /// Takes bytes that [`Properties::parse`] has accepted before, without checking them again.
    #[must_use]
    pub fn checked_before(encoded: &'a [u8]) -> Self {
        Self(encoded)
    }

    /// The flag word and the fields as they stand on the wire.
    #[must_use]
    pub fn encoded(&self) -> &'a [u8] {
        self.0
    }

    /// The fields decoded; what is not UTF-8 is absent.
    #[must_use]
    pub fn basic(&self) -> Basic<'a> {
        Basic::read(self.0).unwrap_or_default()
    }

    /// Appends these properties to `out` and replaces the fields that are present both here and in
    /// `by`. No field is added; the others are copied octet for octet.
    ///
    /// # Errors
    /// None for properties that were parsed.
    pub fn replaced(&self, by: &Basic<'_>, out: &mut Vec<u8>) -> Result<(), WireError> {
        by.replace(self.0, out)
    }

    /// Appends these properties to `out` without the expiration, with `headers` in the place of
    /// theirs, or beside the others if there were none. The others are copied octet for octet.
    ///
    /// # Errors
    /// None for properties that were parsed.
    pub fn unexpiring_with(&self, headers: Table<'_>, out: &mut Vec<u8>) -> Result<(), WireError> {
        const EXPIRATION: u16 = 1 << 8;
        let by = Basic { headers: Some(headers), ..Basic::default() };
        by.revise(self.0, EXPIRATION, out)
    }
}

macro_rules! get {
    ($reader:ident opaque) => {
        $reader.opaque()
    };
    ($reader:ident $kind:ident) => {
        $reader.$kind().map(Some)
    };
}

macro_rules! put {
    ($writer:ident opaque $value:ident) => {
        $writer.shortstr($value)
    };
    ($writer:ident $kind:ident $value:ident) => {
        $writer.$kind($value)
    };
}

macro_rules! properties {
    ($($bit:literal $name:ident $kind:ident)*) => {
        impl<'a> Basic<'a> {
            #[inline]
            fn read(encoded: &'a [u8]) -> Result<Self, WireError> {
                let mut reader = Reader::new(encoded);
                let flags = reader.short()?;
                let mut basic = Basic::default();
                $(if flags & (1 << $bit) != 0 { basic.$name = get!(reader $kind)?; })*
                // Bit 0 would announce a second flag word, which class basic does not need.
                if flags & 0b11 != 0 || !reader.is_empty() {
                    return Err(WireError::Trailing);
                }
                Ok(basic)
            }

            fn replace(&self, encoded: &[u8], out: &mut Vec<u8>) -> Result<(), WireError> {
                let mut reader = Reader::new(encoded);
                let mut writer = Writer::new(out);
                let flags = reader.short()?;
                writer.short(flags);
                $(if flags & (1 << $bit) != 0 {
                    let before = reader.rest();
                    get!(reader $kind)?;
                    match self.$name {
                        Some(value) => put!(writer $kind value),
                        None => writer.bytes(&before[..before.len() - reader.rest().len()]),
                    }
                })*
                Ok(())
            }

            /// Copies encoded fields, but not those of the flags `without`. The fields that are
            /// present here replace theirs, or are added.
            fn revise(
                &self,
                encoded: &[u8],
                without: u16,
                out: &mut Vec<u8>,
            ) -> Result<(), WireError> {
                let mut reader = Reader::new(encoded);
                let mut writer = Writer::new(out);
                let flags = reader.short()?;
                writer.short((flags | self.flags()) & !without);
                $({
                    let before = reader.rest();
                    if flags & (1 << $bit) != 0 { get!(reader $kind)?; }
                    let kept = without & (1 << $bit) == 0;
                    match self.$name.filter(|_| kept) {
                        Some(value) => put!(writer $kind value),
                        None if kept => {
                            writer.bytes(&before[..before.len() - reader.rest().len()]);
                        }
                        None => {}
                    }
                })*
                Ok(())
            }

            fn flags(&self) -> u16 {
                let mut flags = 0u16;
                $(if self.$name.is_some() { flags |= 1 << $bit; })*
                flags
            }

            /// Appends the flag word and the present fields.
            pub fn write(&self, out: &mut Vec<u8>) {
                let mut writer = Writer::new(out);
                writer.short(self.flags());
                $(if let Some(value) = self.$name { put!(writer $kind value); })*
            }
        }
    };
}

properties! {
    15 content_type opaque
    14 content_encoding opaque
    13 headers table
    12 delivery_mode octet
    11 priority octet
    10 correlation_id opaque
    9 reply_to opaque
    8 expiration shortstr
    7 message_id opaque
    6 timestamp longlong
    5 kind opaque
    4 user_id shortstr
    3 app_id opaque
    2 cluster_id opaque
}

#[cfg(test)]
#[path = "checks/properties_test.rs"]
mod tests;
