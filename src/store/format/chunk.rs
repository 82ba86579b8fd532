//! The encoding of a chunk of a queue's segment: messages in order, read back together.
//!
//! ```text
//!  header:  magic version unsynced boot queue segment first last count durable synced length
//!           checksum earliest latest bodies (all, durable) checksum of these
//!  message: flags seq (record length, body length) (time, if it expires) record body
//! ```
//!
//! `earliest` is the first time at which a message of the chunk expires, `latest` the one at which
//! all have expired. So messages expire without being read.

use bytes::Bytes;
use model::queue::{Expiry, Spilled};
use model::{Body, BodyGauge, Message, QueueId};

use super::{Damage, FieldReader, HeaderWriter, open_header, pad, padded};
use crate::store::gather::{Gather, checksum};

const MAGIC: [u8; 4] = *b"RTQC";
const REDELIVERED: u8 = 1;
const DURABLE: u8 = 2;
const EXPIRES: u8 = 4;

/// Bytes of a header.
pub const HEADER: usize = 96;

/// The header before the messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkHeader {
    /// The number of the start of the process.
    pub boot: u32,
    /// The queue.
    pub queue: QueueId,
    /// The segment's number.
    pub segment: u32,
    /// The sequence number of the first message.
    pub first: u64,
    /// The sequence number of the last message.
    pub last: u64,
    /// The number of messages.
    pub count: u32,
    /// The number of durable messages.
    pub durable: u32,
    /// Bytes of the file on stable storage when this was written. `u32::MAX` in segments of
    /// recovery, which are synced before anything relies on them.
    pub synced: u32,
    /// So many earlier segments of the queue were not fully on stable storage.
    pub unsynced: u16,
    /// What is known of its messages without reading them.
    pub digest: ChunkDigest,
}

/// What is known of the messages of a chunk without reading them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkDigest {
    /// No message expires before this time.
    pub earliest: Expiry,
    /// All messages have expired at this time.
    pub latest: Expiry,
    /// Bytes of the bodies of all messages.
    pub bodies: u64,
    /// Bytes of the bodies of the durable messages.
    pub durable_bodies: u64,
}

impl Default for ChunkDigest {
    /// That of no message.
    fn default() -> Self {
        let (earliest, latest) = (Expiry::NEVER, Expiry::at_ms(0));
        Self { earliest, latest, bodies: 0, durable_bodies: 0 }
    }
}

impl ChunkDigest {
    /// Adds a message.
    pub fn add(&mut self, expiry: Expiry, body: usize, durable: bool) {
        self.earliest = self.earliest.min(expiry);
        self.latest = self.latest.max(expiry);
        self.bodies += body as u64;
        self.durable_bodies += if durable { body as u64 } else { 0 };
    }
}

/// A decoded header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoundChunk {
    /// Its fields.
    pub header: ChunkHeader,
    /// Bytes of the messages.
    pub len: usize,
    checksum: u32,
}

/// A message in a chunk.
#[derive(Debug)]
pub struct ChunkMessage {
    /// Its sequence number.
    pub seq: u64,
    /// It was delivered before.
    pub redelivered: bool,
    /// It survives a restart.
    pub durable: bool,
    /// When it expires.
    pub expiry: Expiry,
    record: Bytes,
    body: Option<Body>,
}

impl ChunkMessage {
    /// What it shares counts from now on.
    pub fn count_body(&mut self, gauge: &BodyGauge) {
        self.body.iter_mut().for_each(|body| gauge.made(body));
    }

    /// The message.
    #[must_use]
    pub fn message(&self) -> Message<'_> {
        Message::new(&self.record, self.body.as_ref())
    }

    /// The record, and the body unless it is part of the record.
    #[must_use]
    pub fn into_parts(self) -> (Bytes, Option<Body>) {
        (self.record, self.body)
    }
}

/// Adds a message.
#[inline]
pub fn write(out: &mut Gather, what: Spilled<'_>) {
    let Spilled { seq, redelivered, stored, expiry, message } = what;
    let flag = |is: bool, flag: u8| if is { flag } else { 0 };
    let expires = expiry != Expiry::NEVER;
    let bytes = out.bytes();
    bytes.push(
        flag(redelivered, REDELIVERED)
            | flag(stored.is_durable(), DURABLE)
            | flag(expires, EXPIRES),
    );
    bytes.extend_from_slice(&seq.to_le_bytes());
    // Both are bounded by max_message_size and frame_max, far below 4 GiB.
    let body = message.large_body().map_or(0, Body::len) as u32;
    bytes.extend_from_slice(&(message.record().len() as u32).to_le_bytes());
    bytes.extend_from_slice(&body.to_le_bytes());
    if expires {
        bytes.extend_from_slice(&expiry.ms().to_le_bytes());
    }
    out.message(message);
}

/// Takes the messages, and adds the header and the padding.
#[must_use]
pub fn seal(header: ChunkHeader, messages: &mut Gather) -> Vec<Bytes> {
    let len = messages.len();
    let mut pieces = messages.take();
    let mut fields = HeaderWriter::<HEADER>::new(MAGIC);
    fields.put(header.unsynced.to_le_bytes());
    fields.put(header.boot.to_le_bytes());
    fields.put(header.queue.0.to_le_bytes());
    fields.put(header.segment.to_le_bytes());
    fields.put(header.first.to_le_bytes());
    fields.put(header.last.to_le_bytes());
    fields.put(header.count.to_le_bytes());
    fields.put(header.durable.to_le_bytes());
    fields.put(header.synced.to_le_bytes());
    fields.put((len as u32).to_le_bytes());
    fields.put(checksum(&pieces).to_le_bytes());
    fields.put(header.digest.earliest.ms().to_le_bytes());
    fields.put(header.digest.latest.ms().to_le_bytes());
    fields.put(header.digest.bodies.to_le_bytes());
    fields.put(header.digest.durable_bodies.to_le_bytes());
    pieces.insert(0, fields.finish().into());
    let mut padding = Vec::new();
    pad(&mut padding, len);
    if !padding.is_empty() {
        pieces.push(padding.into());
    }
    pieces
}

/// Bytes in the file of a chunk with so many bytes of messages.
#[must_use]
pub fn sealed_len(messages: usize) -> usize {
    HEADER + padded(messages)
}

/// Decodes a header.
///
/// # Errors
///
/// The bytes do not begin with one.
pub fn open(bytes: &[u8]) -> Result<FoundChunk, Damage> {
    let mut cursor = open_header::<HEADER>(bytes, MAGIC)?;
    let unsynced = cursor.u16()?;
    let mut header = ChunkHeader {
        unsynced,
        digest: ChunkDigest::default(),
        boot: cursor.u32()?,
        queue: QueueId(cursor.u64()?),
        segment: cursor.u32()?,
        first: cursor.u64()?,
        last: cursor.u64()?,
        count: cursor.u32()?,
        durable: cursor.u32()?,
        synced: cursor.u32()?,
    };
    let (len, checksum) = (cursor.u32()? as usize, cursor.u32()?);
    header.digest = ChunkDigest {
        earliest: Expiry::at_ms(cursor.u64()?),
        latest: Expiry::at_ms(cursor.u64()?),
        bodies: cursor.u64()?,
        durable_bodies: cursor.u64()?,
    };
    Ok(FoundChunk { header, len, checksum })
}

impl FoundChunk {
    /// Calls `take` with each message. `bytes` begin with the header.
    ///
    /// # Errors
    ///
    /// The messages are damaged. No message was passed to `take`, unless the checksum is right.
    pub fn each(&self, bytes: &Bytes, mut take: impl FnMut(ChunkMessage)) -> Result<(), Damage> {
        let end = HEADER + self.len;
        if bytes.len() < end {
            return Err(Damage::Short);
        }
        let whole = bytes.slice(HEADER..end);
        if crc32c::crc32c(&whole) != self.checksum && !super::unchecked() {
            return Err(Damage::Checksum);
        }
        let mut cursor = FieldReader(&whole);
        while !cursor.0.is_empty() {
            take(read(&mut cursor, &whole)?);
        }
        Ok(())
    }
}

fn read(cursor: &mut FieldReader<'_>, whole: &Bytes) -> Result<ChunkMessage, Damage> {
    let (flags, seq) = (cursor.byte()?, cursor.u64()?);
    let (record, body) = (cursor.u32()? as usize, cursor.u32()? as usize);
    let expires = flags & EXPIRES != 0;
    let expiry = if expires { Expiry::at_ms(cursor.u64()?) } else { Expiry::NEVER };
    let record = whole.slice_ref(cursor.take(record)?);
    let body = (body > 0).then(|| cursor.take(body)).transpose()?;
    super::check_message(&record, body.map_or(0, <[u8]>::len))?;
    Ok(ChunkMessage {
        seq,
        redelivered: flags & REDELIVERED != 0,
        durable: flags & DURABLE != 0,
        expiry,
        record,
        // Copied, so that one message in memory does not keep the whole chunk.
        body: body.map(|body| Body::new(vec![Bytes::copy_from_slice(body)])),
    })
}

#[cfg(test)]
mod tests {
    use model::Stored;

    use super::*;
    use crate::store::sample::sample;

    #[test]
    fn what_is_written_is_read() {
        let messages = [sample("a", 10, true), sample("b", 9000, false), sample("c", 0, true)];
        let mut out = Gather::default();
        let mut digest = ChunkDigest::default();
        let expiry = |seq| if seq == 7 { Expiry::NEVER } else { Expiry::at_ms(100 * seq) };
        for (seq, message) in (5..).zip(&messages) {
            let (message, redelivered) = (message.message(), seq == 6);
            let durable = message.persistent();
            let stored = if durable { Stored::SPILLED_DURABLE } else { Stored::SPILLED };
            digest.add(expiry(seq), message.body_len(), durable);
            write(&mut out, Spilled { seq, redelivered, stored, expiry: expiry(seq), message });
        }
        assert_eq!((digest.earliest.ms(), digest.latest), (500, Expiry::NEVER));
        assert_eq!((digest.bodies, digest.durable_bodies), (9010, 10));
        let header = ChunkHeader {
            boot: 1,
            queue: QueueId(2),
            segment: 3,
            first: 5,
            last: 7,
            count: 3,
            durable: 2,
            synced: 64,
            unsynced: 3,
            digest,
        };
        let bytes = Bytes::from(seal(header, &mut out).concat());
        let found = open(&bytes).unwrap();
        assert_eq!(found.header, header);
        assert_eq!(bytes.len(), sealed_len(found.len));
        let mut read = Vec::new();
        found.each(&bytes, |entry| read.push(entry)).unwrap();
        for (entry, (seq, message)) in read.iter().zip((5..).zip(&messages)) {
            let message = message.message();
            assert_eq!((entry.seq, entry.redelivered), (seq, seq == 6));
            assert_eq!((entry.durable, entry.expiry), (message.persistent(), expiry(seq)));
            assert_eq!(entry.message().record(), message.record());
            let body = |message: Message<'_>| message.large_body().map(|b| b.pieces().concat());
            assert_eq!(body(entry.message()), body(message));
        }
        assert_eq!(read.len(), 3);
        for at in (0..bytes.len() - 8).step_by(11) {
            let mut changed = bytes.to_vec();
            changed[at] ^= 1;
            let changed = Bytes::from(changed);
            let read = open(&changed).and_then(|found| found.each(&changed, drop));
            assert!(read.is_err(), "byte {at}");
        }
    }
}
