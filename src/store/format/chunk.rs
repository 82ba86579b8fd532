//! A chunk of a queue's segment: messages in order, read back together.
//!
//! ```text
//!  header:  magic version unsynced boot queue segment first last count durable synced length
//!           checksum, checksum of these
//!  message: flags seq (record length, body length) record body
//! ```

use bytes::Bytes;
use model::{Body, Message, QueueId};

use super::{Cursor, Damage, HEADER, HeaderWriter, open_header, pad, padded};
use crate::store::gather::{Gather, checksum};

const MAGIC: [u8; 4] = *b"RTQC";
const REDELIVERED: u8 = 1;
const DURABLE: u8 = 2;

/// What is in front of the messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Which start of the process.
    pub boot: u32,
    /// The queue.
    pub queue: QueueId,
    /// The segment's number.
    pub segment: u32,
    /// The sequence number of the first message.
    pub first: u64,
    /// And of the last.
    pub last: u64,
    /// How many messages there are.
    pub count: u32,
    /// How many of them outlive the process.
    pub durable: u32,
    /// Octets of the file that were on stable storage when this was written; `u32::MAX`: it is
    /// synced before anything relies on it.
    pub synced: u32,
    /// So many of the queue's segments in front of this one were not wholly on stable storage.
    pub unsynced: u16,
}

/// A header that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// What it says.
    pub header: Header,
    /// Octets of the messages.
    pub len: usize,
    checksum: u32,
}

/// A message in a chunk.
#[derive(Debug)]
pub struct Entry {
    /// Its sequence number.
    pub seq: u64,
    /// It was delivered before.
    pub redelivered: bool,
    /// It outlives the process.
    pub durable: bool,
    record: Bytes,
    body: Option<Body>,
}

impl Entry {
    /// The message.
    #[must_use]
    pub fn message(&self) -> Message<'_> {
        Message::new(&self.record, self.body.as_ref())
    }

    /// Its record, and its body if that is not in the record.
    #[must_use]
    pub fn into_parts(self) -> (Bytes, Option<Body>) {
        (self.record, self.body)
    }
}

/// Adds a message.
#[inline]
pub fn write(out: &mut Gather, seq: u64, redelivered: bool, durable: bool, message: Message<'_>) {
    let flags = if redelivered { REDELIVERED } else { 0 } | if durable { DURABLE } else { 0 };
    let octets = out.octets();
    octets.push(flags);
    octets.extend_from_slice(&seq.to_le_bytes());
    // Both are bounded by max_message_size and frame_max, far below 4 GiB.
    let body = message.large_body().map_or(0, Body::len) as u32;
    octets.extend_from_slice(&(message.record().len() as u32).to_le_bytes());
    octets.extend_from_slice(&body.to_le_bytes());
    out.message(message);
}

/// The messages with their header in front and the padding behind them.
#[must_use]
pub fn seal(header: Header, messages: &mut Gather) -> Vec<Bytes> {
    let len = messages.len();
    let mut pieces = messages.take();
    let mut fields = HeaderWriter::new(MAGIC);
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
    pieces.insert(0, fields.finish().into());
    let mut padding = Vec::new();
    pad(&mut padding, len);
    if !padding.is_empty() {
        pieces.push(padding.into());
    }
    pieces
}

/// Octets that a chunk with so many octets of messages takes in its file.
#[must_use]
pub fn sealed_len(messages: usize) -> usize {
    HEADER + padded(messages)
}

/// Reads a header.
///
/// # Errors
///
/// There is none.
pub fn open(octets: &[u8]) -> Result<Found, Damage> {
    let mut cursor = open_header(octets, MAGIC)?;
    let unsynced = cursor.u16()?;
    let header = Header {
        unsynced,
        boot: cursor.u32()?,
        queue: QueueId(cursor.u64()?),
        segment: cursor.u32()?,
        first: cursor.u64()?,
        last: cursor.u64()?,
        count: cursor.u32()?,
        durable: cursor.u32()?,
        synced: cursor.u32()?,
    };
    Ok(Found { header, len: cursor.u32()? as usize, checksum: cursor.u32()? })
}

impl Found {
    /// Goes through the messages behind the header, which `octets` begin with.
    ///
    /// # Errors
    ///
    /// They are not what was written; then none was handed over, unless the checksum is right.
    pub fn each(&self, octets: &Bytes, mut take: impl FnMut(Entry)) -> Result<(), Damage> {
        let end = HEADER + self.len;
        if octets.len() < end {
            return Err(Damage::Short);
        }
        let whole = octets.slice(HEADER..end);
        if crc32c::crc32c(&whole) != self.checksum && !crate::store::unchecked() {
            return Err(Damage::Checksum);
        }
        let mut cursor = Cursor(&whole);
        while !cursor.0.is_empty() {
            take(read(&mut cursor, &whole)?);
        }
        Ok(())
    }
}

fn read(cursor: &mut Cursor<'_>, whole: &Bytes) -> Result<Entry, Damage> {
    let (flags, seq) = (cursor.octet()?, cursor.u64()?);
    let (record, body) = (cursor.u32()? as usize, cursor.u32()? as usize);
    let record = whole.slice_ref(cursor.take(record)?);
    let body = (body > 0).then(|| cursor.take(body)).transpose()?;
    super::check_message(&record, body.map_or(0, <[u8]>::len))?;
    Ok(Entry {
        seq,
        redelivered: flags & REDELIVERED != 0,
        durable: flags & DURABLE != 0,
        record,
        // Its own memory: a message that stays must not keep the whole chunk.
        body: body.map(|body| Body::new(vec![Bytes::copy_from_slice(body)])),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sample::sample;

    #[test]
    fn what_is_written_is_read() {
        let messages = [sample("a", 10, true), sample("b", 9000, false), sample("c", 0, true)];
        let mut out = Gather::default();
        for (seq, message) in (5..).zip(&messages) {
            write(&mut out, seq, seq == 6, message.message().persistent(), message.message());
        }
        let header = Header {
            boot: 1,
            queue: QueueId(2),
            segment: 3,
            first: 5,
            last: 7,
            count: 3,
            durable: 2,
            synced: 64,
            unsynced: 3,
        };
        let octets = Bytes::from(seal(header, &mut out).concat());
        let found = open(&octets).unwrap();
        assert_eq!(found.header, header);
        assert_eq!(octets.len(), sealed_len(found.len));
        let mut read = Vec::new();
        found.each(&octets, |entry| read.push(entry)).unwrap();
        for (entry, (seq, message)) in read.iter().zip((5..).zip(&messages)) {
            let message = message.message();
            assert_eq!((entry.seq, entry.redelivered), (seq, seq == 6));
            assert_eq!(entry.durable, message.persistent());
            assert_eq!(entry.message().record(), message.record());
            let body = |message: Message<'_>| message.large_body().map(|b| b.pieces().concat());
            assert_eq!(body(entry.message()), body(message));
        }
        assert_eq!(read.len(), 3);
        for at in (0..octets.len() - 8).step_by(11) {
            let mut changed = octets.to_vec();
            changed[at] ^= 1;
            let changed = Bytes::from(changed);
            let read = open(&changed).and_then(|found| found.each(&changed, drop));
            assert!(read.is_err(), "octet {at}");
        }
    }
}
