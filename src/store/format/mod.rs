//! The format of the store's files. All integers are little-endian.
//!
//! ```text
//!  log segment:    batch batch batch ...        batch: header (64) records, padded to 8
//!  queue segment:  chunk chunk chunk ...        chunk: header (96) messages, padded to 8
//! ```
//!
//! Every header has the format's version, its own checksum, that of its contents, and how far its
//! file was on stable storage when it was written. Damage before that point is damage; after it, it
//! is a write that a crash tore.

pub mod batch;
pub mod chunk;

use model::Message;
use model::mutant::{self, Mutant};

/// The version of the format, for writing and reading.
pub const VERSION: u16 = 2;
/// Batches and chunks begin at multiples of this many bytes.
pub const ALIGNMENT: usize = 8;

/// How bytes are damaged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// There is no header, or one of another file.
    #[error("there is no header")]
    Header,
    /// The header is of another version.
    #[error("it has format version {0}; this Ringtail reads version {VERSION}")]
    Version(u16),
    /// The file ends before the contents that the header announces.
    #[error("the file ends too early")]
    Short,
    /// The checksum is wrong.
    #[error("the checksum is wrong")]
    Checksum,
    /// The checksum is right, but the contents are not valid.
    #[error("a record makes no sense")]
    Record,
}

/// So many bytes with their padding.
#[must_use]
pub fn padded(bytes: usize) -> usize {
    bytes.next_multiple_of(ALIGNMENT)
}

/// Reads bytes from the front.
struct FieldReader<'a>(&'a [u8]);

impl<'a> FieldReader<'a> {
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

    fn byte(&mut self) -> Result<u8, Damage> {
        self.array::<1>().map(|[byte]| byte)
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

/// Encodes a header of so many bytes. Its own checksum is the last field.
struct HeaderWriter<const HEADER: usize>(Vec<u8>);

impl<const HEADER: usize> HeaderWriter<HEADER> {
    fn new(magic: [u8; 4]) -> Self {
        let mut bytes = Vec::with_capacity(HEADER);
        bytes.extend_from_slice(&magic);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        Self(bytes)
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

/// The fields of a header of so many bytes, after magic and version.
fn open_header<const HEADER: usize>(
    bytes: &[u8],
    magic: [u8; 4],
) -> Result<FieldReader<'_>, Damage> {
    let header = bytes.first_chunk::<HEADER>().ok_or(Damage::Short)?;
    let (fields, sum) = header.split_at(HEADER - 4);
    if !header.starts_with(&magic) {
        return Err(Damage::Header);
    }
    if sum != crc32c::crc32c(fields).to_le_bytes() {
        return Err(Damage::Checksum);
    }
    let mut cursor = FieldReader(&bytes[4..HEADER - 4]);
    match cursor.u16()? {
        VERSION => Ok(cursor),
        other => Err(Damage::Version(other)),
    }
}

/// Adds zeros up to the next boundary.
fn pad(bytes: &mut Vec<u8>, len: usize) {
    bytes.resize(bytes.len() + padded(len) - len, 0);
}

/// Checks that all lengths in a record agree, so that no later access to the message can fail.
fn check_message(record: &[u8], body: usize) -> Result<(), Damage> {
    if Message::is_well_formed(record, body) { Ok(()) } else { Err(Damage::Record) }
}

/// True if checksums are ignored: a deliberate fault of tests.
fn unchecked() -> bool {
    mutant::active(Mutant::CrcUnchecked)
}
