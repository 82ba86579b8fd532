//! How the store's files look. All integers are little-endian.
//!
//! ```text
//!  log segment:    batch batch batch ...        batch: header (64) records, padded to 8
//!  queue segment:  chunk chunk chunk ...        chunk: header (64) messages, padded to 8
//! ```
//!
//! Every header carries the format's version, its own checksum and that of what is behind it, and
//! how far its file was on stable storage when it was written: damage in front of that is damage,
//! behind it the write that a crash has torn.

pub mod batch;
pub mod chunk;

use model::Message;

/// The version of the format that is written, and the only one that is read.
pub const VERSION: u16 = 1;
/// Octets of a header.
pub const HEADER: usize = 64;
/// Batches and chunks begin at multiples of this many octets.
pub const ALIGNMENT: usize = 8;

/// Why octets are not what was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// They are not a header, or one of another file.
    #[error("there is no header")]
    Header,
    /// The header is of another version.
    #[error("it has format version {0}; this Ringtail reads version {VERSION}")]
    Version(u16),
    /// The file ends before what the header announces.
    #[error("the file ends too early")]
    Short,
    /// The checksum is wrong.
    #[error("the checksum is wrong")]
    Checksum,
    /// The checksum is right, but not what it is of.
    #[error("a record makes no sense")]
    Record,
}

/// So many octets and the padding behind them.
#[must_use]
pub fn padded(octets: usize) -> usize {
    octets.next_multiple_of(ALIGNMENT)
}

/// Octets read from the front.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], Damage> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Damage::Record)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Damage> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Damage::Record)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn octet(&mut self) -> Result<u8, Damage> {
        self.array::<1>().map(|[octet]| octet)
    }

    fn u16(&mut self) -> Result<u16, Damage> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, Damage> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, Damage> {
        self.array().map(u64::from_le_bytes)
    }
}

/// A header being filled; its own checksum is the last thing in it.
struct HeaderWriter(Vec<u8>);

impl HeaderWriter {
    fn new(magic: [u8; 4]) -> Self {
        let mut octets = Vec::with_capacity(HEADER);
        octets.extend_from_slice(&magic);
        octets.extend_from_slice(&VERSION.to_le_bytes());
        Self(octets)
    }

    fn put<const N: usize>(&mut self, field: [u8; N]) {
        self.0.extend_from_slice(&field);
    }

    fn finish(mut self) -> Vec<u8> {
        self.0.resize(HEADER - 4, 0);
        let sum = crc32c::crc32c(&self.0);
        self.put(sum.to_le_bytes());
        self.0
    }
}

/// The fields of a header behind magic and version, if it is one.
fn open_header(octets: &[u8], magic: [u8; 4]) -> Result<Cursor<'_>, Damage> {
    let header = octets.first_chunk::<HEADER>().ok_or(Damage::Short)?;
    let (fields, sum) = header.split_at(HEADER - 4);
    if !header.starts_with(&magic) {
        return Err(Damage::Header);
    }
    if sum != crc32c::crc32c(fields).to_le_bytes() {
        return Err(Damage::Checksum);
    }
    let mut cursor = Cursor(&octets[4..HEADER - 4]);
    match cursor.u16()? {
        VERSION => Ok(cursor),
        other => Err(Damage::Version(other)),
    }
}

/// Adds zeros up to the next boundary.
fn pad(octets: &mut Vec<u8>, len: usize) {
    octets.resize(octets.len() + padded(len) - len, 0);
}

/// A record is handed on as a message only if all lengths in it agree, so that nothing that looks
/// into it can fail.
fn check_message(record: &[u8], body: usize) -> Result<(), Damage> {
    if Message::is_well_formed(record, body) { Ok(()) } else { Err(Damage::Record) }
}
