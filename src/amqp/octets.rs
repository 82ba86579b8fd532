//! Integers, strings and packed bits: the elementary types of spec section 4.2.5.

use crate::table::Table;

/// Why bytes could not be read as the announced type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A field reaches past the end of what holds it.
    #[error("field reaches past the end of its frame")]
    Truncated,
    /// Bytes are left over behind the last field.
    #[error("bytes left over behind the last field")]
    Trailing,
    /// A short string that must be text is not UTF-8.
    #[error("Malformed UTF-8 in shortstr")]
    Utf8,
    /// A field table holds a value of unknown type (the type's octet).
    #[error("unknown field type {0}")]
    FieldType(u8),
    /// A field table is nested deeper than [`crate::table::DEPTH_MAX`].
    #[error("field table nested too deeply")]
    TooDeep,
    /// A class and method id that no table lists.
    #[error("unknown method {0}.{1}")]
    UnknownMethod(u16, u16),
}

/// Reads fields from a slice; consecutive bits share an octet until another field is read.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    rest: &'a [u8],
    bits: u8,
    bits_left: u8,
}

impl<'a> Reader<'a> {
    /// A reader at the start of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, bits: 0, bits_left: 0 }
    }

    /// The next `len` bytes as they are.
    ///
    /// # Errors
    /// [`WireError::Truncated`] when fewer are left.
    #[inline]
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], WireError> {
        self.bits_left = 0;
        let (head, rest) = self.rest.split_at_checked(len).ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(head)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        self.bits_left = 0;
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(*head)
    }

    /// One octet.
    ///
    /// # Errors
    /// [`WireError::Truncated`]
    #[inline]
    pub fn octet(&mut self) -> Result<u8, WireError> {
        self.array::<1>().map(|[octet]| octet)
    }

    /// A 16-bit unsigned integer.
    ///
    /// # Errors
    /// [`WireError::Truncated`]
    #[inline]
    pub fn short(&mut self) -> Result<u16, WireError> {
        self.array().map(u16::from_be_bytes)
    }

    /// A 32-bit unsigned integer.
    ///
    /// # Errors
    /// [`WireError::Truncated`]
    #[inline]
    pub fn long(&mut self) -> Result<u32, WireError> {
        self.array().map(u32::from_be_bytes)
    }

    /// A 64-bit unsigned integer.
    ///
    /// # Errors
    /// [`WireError::Truncated`]
    #[inline]
    pub fn longlong(&mut self) -> Result<u64, WireError> {
        self.array().map(u64::from_be_bytes)
    }

    /// A string of at most 255 bytes of UTF-8.
    ///
    /// # Errors
    /// [`WireError::Truncated`], [`WireError::Utf8`]
    #[inline]
    pub fn shortstr(&mut self) -> Result<&'a str, WireError> {
        let len = self.octet()?;
        std::str::from_utf8(self.take(usize::from(len))?).map_err(|_| WireError::Utf8)
    }

    /// A string of at most 255 bytes; `None` when they are not UTF-8.
    ///
    /// # Errors
    /// [`WireError::Truncated`]
    #[inline]
    pub fn opaque(&mut self) -> Result<Option<&'a str>, WireError> {
        let len = self.octet()?;
        Ok(std::str::from_utf8(self.take(usize::from(len))?).ok())
    }

    /// A string of bytes with a 32-bit length.
    ///
    /// # Errors
    /// [`WireError::Truncated`]
    pub fn longstr(&mut self) -> Result<&'a [u8], WireError> {
        let len = self.long()?;
        self.take(len as usize)
    }

    /// A field table, checked whole and kept encoded.
    ///
    /// # Errors
    /// [`WireError::Truncated`], [`WireError::FieldType`], [`WireError::TooDeep`]
    pub fn table(&mut self) -> Result<Table<'a>, WireError> {
        Table::parse(self.longstr()?)
    }

    /// One bit; eight in a row share an octet, lowest first (spec 4.2.5.2).
    ///
    /// # Errors
    /// [`WireError::Truncated`]
    #[inline]
    pub fn bit(&mut self) -> Result<bool, WireError> {
        if self.bits_left == 0 {
            self.bits = self.octet()?;
            self.bits_left = 8;
        }
        let bit = self.bits & 1 == 1;
        self.bits >>= 1;
        self.bits_left -= 1;
        Ok(bit)
    }

    /// The bytes that have not been read yet.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Whether everything has been read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }
}

/// Appends fields to a buffer; consecutive bits share an octet until another field is written.
#[derive(Debug)]
pub struct Writer<'b> {
    out: &'b mut Vec<u8>,
    bits_used: u8,
}

impl<'b> Writer<'b> {
    /// A writer at the end of `out`.
    pub fn new(out: &'b mut Vec<u8>) -> Self {
        Self { out, bits_used: 0 }
    }

    /// Bytes as they are.
    #[inline]
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.bits_used = 0;
        self.out.extend_from_slice(bytes);
    }

    /// One octet.
    #[inline]
    pub fn octet(&mut self, value: u8) {
        self.bytes(&[value]);
    }

    /// A 16-bit unsigned integer.
    #[inline]
    pub fn short(&mut self, value: u16) {
        self.bytes(&value.to_be_bytes());
    }

    /// A 32-bit unsigned integer.
    #[inline]
    pub fn long(&mut self, value: u32) {
        self.bytes(&value.to_be_bytes());
    }

    /// A 64-bit unsigned integer.
    #[inline]
    pub fn longlong(&mut self, value: u64) {
        self.bytes(&value.to_be_bytes());
    }

    /// A string of at most 255 bytes; a longer one is cut at a character boundary, as RabbitMQ
    /// cuts its reply texts.
    #[inline]
    pub fn shortstr(&mut self, value: &str) {
        let cut = &value[..value.floor_char_boundary(255)];
        // At most 255 by the line above.
        self.octet(cut.len() as u8);
        self.bytes(cut.as_bytes());
    }

    /// A string of bytes with a 32-bit length.
    pub fn longstr(&mut self, value: &[u8]) {
        // Longer than 4 GiB never exists: every source is bounded by a frame.
        self.long(value.len() as u32);
        self.bytes(value);
    }

    /// A field table.
    pub fn table(&mut self, value: Table<'_>) {
        self.longstr(value.encoded());
    }

    /// One bit.
    #[inline]
    pub fn bit(&mut self, value: bool) {
        let used = self.bits_used % 8;
        if used == 0 {
            self.out.push(0);
        }
        if let Some(last) = self.out.last_mut() {
            *last |= u8::from(value) << used;
        }
        self.bits_used = used + 1;
    }
}

#[cfg(test)]
#[path = "checks/octets_test.rs"]
mod tests;
