//! The encoding of a log batch, which one write puts on the disk whole or not at all.
//!
//! ```text
//!  header: magic version shard boot segment batch synced length checksum ... checksum of these
//!  record: 1 queue seq (record length, body length) record body      a message enters a queue
//!          2 queue seq                                               the same, another queue
//!          3 queue from to                                           these are settled
//!          4 queue from to                                           these have been delivered
//!          5 shards                                                  the end of a clean stop
//!          6 queue seq time                                          when a message expires
//! ```

use bytes::Bytes;
use model::queue::Expiry;
use model::{Body, Message, QueueId};

use super::{Damage, FieldReader, HeaderWriter, open_header, padded};
use crate::store::gather::{Gather, checksum};

const MAGIC: [u8; 4] = *b"RTLB";
const ENQUEUE: u8 = 1;
const ALSO: u8 = 2;
const SETTLE: u8 = 3;
const DELIVERED: u8 = 4;
const CLEAN: u8 = 5;
const EXPIRES: u8 = 6;

/// Bytes of a header.
pub const HEADER: usize = 64;

/// Bytes of an enqueue record around the message.
pub const ENQUEUE_AROUND: usize = 25;

/// The header before the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// The shard that wrote it.
    pub shard: u16,
    /// The number of the start of the process.
    pub boot: u32,
    /// The segment's number.
    pub segment: u32,
    /// The batch's number.
    pub batch: u64,
    /// The last batch that was on stable storage when this one was written.
    pub synced: u64,
}

/// A decoded header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoundBatch {
    /// Its fields.
    pub header: BatchHeader,
    /// Bytes of the records.
    pub len: usize,
    checksum: u32,
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogRecord {
    /// A message enters a queue.
    Enqueue {
        /// The queue.
        queue: QueueId,
        /// Its sequence number there.
        seq: u64,
        /// The message's record.
        record: Bytes,
        /// The body, unless it is part of the record.
        body: Option<Bytes>,
    },
    /// The message of the enqueue before it enters another queue.
    Also {
        /// The queue.
        queue: QueueId,
        /// Its sequence number there.
        seq: u64,
    },
    /// Messages of a queue are settled.
    Settle(QueueId, u64, u64),
    /// Messages of a queue have been delivered and are still in it.
    Delivered(QueueId, u64, u64),
    /// The shard stopped cleanly; the number of shards.
    Clean(u16),
    /// When a message expires that a record before this one has.
    Expires(QueueId, u64, Expiry),
}

/// Adds a message that enters a queue.
#[inline]
pub fn write_enqueue(out: &mut Gather, queue: QueueId, seq: u64, message: Message<'_>) {
    let bytes = out.bytes();
    bytes.push(ENQUEUE);
    bytes.extend_from_slice(&queue.0.to_le_bytes());
    bytes.extend_from_slice(&seq.to_le_bytes());
    // Both are bounded by max_message_size and frame_max, far below 4 GiB.
    let body = message.large_body().map_or(0, Body::len) as u32;
    bytes.extend_from_slice(&(message.record().len() as u32).to_le_bytes());
    bytes.extend_from_slice(&body.to_le_bytes());
    out.message(message);
}

/// Adds another queue for the message added last.
pub fn write_also(out: &mut Gather, queue: QueueId, seq: u64) {
    let bytes = out.bytes();
    bytes.push(ALSO);
    bytes.extend_from_slice(&queue.0.to_le_bytes());
    bytes.extend_from_slice(&seq.to_le_bytes());
}

/// Adds when the message added last expires.
pub fn write_expires(out: &mut Gather, queue: QueueId, seq: u64, expiry: Expiry) {
    write_range(out, EXPIRES, queue, seq, expiry.ms());
}

/// Adds messages that are settled.
pub fn write_settle(out: &mut Gather, queue: QueueId, from: u64, to: u64) {
    write_range(out, SETTLE, queue, from, to);
}

/// Adds messages that have been delivered.
pub fn write_delivered(out: &mut Gather, queue: QueueId, from: u64, to: u64) {
    write_range(out, DELIVERED, queue, from, to);
}

/// A kind of record with a queue and two numbers.
fn write_range(out: &mut Gather, kind: u8, queue: QueueId, one: u64, other: u64) {
    let bytes = out.bytes();
    bytes.push(kind);
    bytes.extend_from_slice(&queue.0.to_le_bytes());
    bytes.extend_from_slice(&one.to_le_bytes());
    bytes.extend_from_slice(&other.to_le_bytes());
}

/// Adds the mark of a clean stop.
pub fn write_clean(out: &mut Gather, shards: u16) {
    out.bytes().push(CLEAN);
    out.bytes().extend_from_slice(&shards.to_le_bytes());
}

/// Takes the records, and adds the header and the padding.
#[must_use]
pub fn seal(header: BatchHeader, records: &mut Gather) -> Vec<Bytes> {
    let len = records.len();
    let mut pieces = records.take();
    let mut fields = HeaderWriter::<HEADER>::new(MAGIC);
    fields.put(header.shard.to_le_bytes());
    fields.put(header.boot.to_le_bytes());
    fields.put(header.segment.to_le_bytes());
    fields.put(header.batch.to_le_bytes());
    fields.put(header.synced.to_le_bytes());
    // A batch is bounded by `StoreConfig::waiting_max` and one message.
    fields.put((len as u32).to_le_bytes());
    fields.put(checksum(&pieces).to_le_bytes());
    pieces.insert(0, fields.finish().into());
    let padding = padded(len) - len;
    if padding > 0 {
        pieces.push(Bytes::from_static(&[0; 8]).slice(..padding));
    }
    pieces
}

/// Bytes in the file of a batch with so many bytes of records.
#[must_use]
pub fn sealed_len(records: usize) -> usize {
    HEADER + padded(records)
}

/// Decodes a header.
///
/// # Errors
///
/// The bytes do not begin with one.
pub fn open(bytes: &[u8]) -> Result<FoundBatch, Damage> {
    let mut cursor = open_header::<HEADER>(bytes, MAGIC)?;
    let header = BatchHeader {
        shard: cursor.u16()?,
        boot: cursor.u32()?,
        segment: cursor.u32()?,
        batch: cursor.u64()?,
        synced: cursor.u64()?,
    };
    Ok(FoundBatch { header, len: cursor.u32()? as usize, checksum: cursor.u32()? })
}

impl FoundBatch {
    /// Decodes the records. `bytes` begin with the header.
    ///
    /// # Errors
    ///
    /// The records are damaged.
    pub fn records(&self, bytes: &Bytes) -> Result<Vec<LogRecord>, Damage> {
        let end = HEADER + self.len;
        if bytes.len() < end {
            return Err(Damage::Short);
        }
        let body = bytes.slice(HEADER..end);
        if crc32c::crc32c(&body) != self.checksum && !super::unchecked() {
            return Err(Damage::Checksum);
        }
        let mut cursor = FieldReader(&body);
        let mut records = Vec::new();
        while !cursor.0.is_empty() {
            records.push(read(&mut cursor, &body)?);
        }
        Ok(records)
    }
}

fn read(cursor: &mut FieldReader<'_>, whole: &Bytes) -> Result<LogRecord, Damage> {
    Ok(match cursor.byte()? {
        ENQUEUE => {
            let (queue, seq) = (QueueId(cursor.u64()?), cursor.u64()?);
            let (record, body) = (cursor.u32()? as usize, cursor.u32()? as usize);
            let record = whole.slice_ref(cursor.take(record)?);
            let body = (body > 0).then(|| cursor.take(body)).transpose()?;
            super::check_message(&record, body.map_or(0, <[u8]>::len))?;
            LogRecord::Enqueue { queue, seq, record, body: body.map(|body| whole.slice_ref(body)) }
        }
        ALSO => LogRecord::Also { queue: QueueId(cursor.u64()?), seq: cursor.u64()? },
        SETTLE => LogRecord::Settle(QueueId(cursor.u64()?), cursor.u64()?, cursor.u64()?),
        DELIVERED => LogRecord::Delivered(QueueId(cursor.u64()?), cursor.u64()?, cursor.u64()?),
        CLEAN => LogRecord::Clean(cursor.u16()?),
        EXPIRES => {
            let (queue, seq) = (QueueId(cursor.u64()?), cursor.u64()?);
            LogRecord::Expires(queue, seq, Expiry::at_ms(cursor.u64()?))
        }
        _ => return Err(Damage::Record),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::sample::sample;

    const HEADER_1: BatchHeader =
        BatchHeader { shard: 1, boot: 2, segment: 3, batch: 4, synced: 3 };

    fn sealed() -> Bytes {
        let mut out = Gather::default();
        let large = sample("large", 10_000, true);
        write_enqueue(&mut out, QueueId(1), 7, sample("small", 10, true).message());
        write_enqueue(&mut out, QueueId(2), 8, large.message());
        write_also(&mut out, QueueId(3), 9);
        write_expires(&mut out, QueueId(3), 9, Expiry::at_ms(70));
        write_settle(&mut out, QueueId(1), 5, 6);
        write_delivered(&mut out, QueueId(1), 1, 2);
        write_clean(&mut out, 4);
        let records = out.len();
        let bytes = Bytes::from(seal(HEADER_1, &mut out).concat());
        assert_eq!(bytes.len(), sealed_len(records));
        bytes
    }

    #[test]
    fn what_is_written_is_read() {
        let bytes = sealed();
        let found = open(&bytes).unwrap();
        assert_eq!(found.header, HEADER_1);
        let records = found.records(&bytes).unwrap();
        let large = sample("large", 10_000, true);
        let expected = Bytes::from(large.message().large_body().unwrap().pieces().concat());
        match &records[..] {
            [
                LogRecord::Enqueue { queue: QueueId(1), seq: 7, record, body: None },
                LogRecord::Enqueue { queue: QueueId(2), seq: 8, body: Some(body), .. },
                LogRecord::Also { queue: QueueId(3), seq: 9 },
                LogRecord::Expires(QueueId(3), 9, expiry),
                LogRecord::Settle(QueueId(1), 5, 6),
                LogRecord::Delivered(QueueId(1), 1, 2),
                LogRecord::Clean(4),
            ] => {
                assert_eq!(record, sample("small", 10, true).message().record());
                assert_eq!((body, expiry.ms()), (&expected, 70));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let bytes = sealed();
        for at in (0..bytes.len() - 8).step_by(7) {
            let mut changed = bytes.to_vec();
            changed[at] ^= 0x10;
            let changed = Bytes::from(changed);
            let read = open(&changed).and_then(|found| found.records(&changed));
            assert!(read.is_err(), "byte {at}");
        }
        let short = bytes.slice(..bytes.len() - 16);
        assert_eq!(open(&short).unwrap().records(&short), Err(Damage::Short));
        assert_eq!(open(&bytes[..10]), Err(Damage::Short));
    }

    proptest! {
        #[test]
        fn records_of_any_bytes_do_no_harm(bytes: Vec<u8>) {
            let mut out = Gather::default();
            out.bytes().extend_from_slice(&bytes);
            let sealed = Bytes::from(seal(HEADER_1, &mut out).concat());
            let read = open(&sealed).and_then(|found| found.records(&sealed));
            prop_assert!(read.is_ok() || read == Err(Damage::Record));
        }
    }
}
