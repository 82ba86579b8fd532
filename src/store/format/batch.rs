//! A batch of the log: what one write brings to the disk, whole or not at all.
//!
//! ```text
//!  header: magic version shard boot segment batch synced length checksum ... checksum of these
//!  record: 1 queue seq (record length, body length) record body      a message enters a queue
//!          2 queue seq                                               the same, another queue
//!          3 queue from to                                           these are settled
//!          4 queue from to                                           these have been delivered
//!          5 shards                                                  the end of a clean stop
//! ```

use bytes::Bytes;
use model::{Body, Message, QueueId};

use super::{Cursor, Damage, HEADER, HeaderWriter, open_header, padded};
use crate::store::gather::{Gather, checksum};

const MAGIC: [u8; 4] = *b"RTLB";
const ENQUEUE: u8 = 1;
const ALSO: u8 = 2;
const SETTLE: u8 = 3;
const DELIVERED: u8 = 4;
const CLEAN: u8 = 5;

/// Octets of an enqueue around the message.
pub const ENQUEUE_AROUND: usize = 25;

/// What is in front of the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The shard that wrote it.
    pub shard: u16,
    /// Which start of the process.
    pub boot: u32,
    /// The segment's number.
    pub segment: u32,
    /// The batch's number.
    pub batch: u64,
    /// The last batch that was on stable storage when this one was written.
    pub synced: u64,
}

/// A header that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// What it says.
    pub header: Header,
    /// Octets of the records.
    pub len: usize,
    checksum: u32,
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// A message enters a queue.
    Enqueue {
        /// The queue.
        queue: QueueId,
        /// Its sequence number there.
        seq: u64,
        /// The message's record.
        record: Bytes,
        /// Its body, where that is not in the record.
        body: Option<Bytes>,
    },
    /// The message of the enqueue in front of it enters another queue.
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
    /// The shard ended as it should; it was one of so many.
    Clean(u16),
}

/// Adds a message that enters a queue.
#[inline]
pub fn write_enqueue(out: &mut Gather, queue: QueueId, seq: u64, message: Message<'_>) {
    let octets = out.octets();
    octets.push(ENQUEUE);
    octets.extend_from_slice(&queue.0.to_le_bytes());
    octets.extend_from_slice(&seq.to_le_bytes());
    // Both are bounded by max_message_size and frame_max, far below 4 GiB.
    let body = message.large_body().map_or(0, Body::len) as u32;
    octets.extend_from_slice(&(message.record().len() as u32).to_le_bytes());
    octets.extend_from_slice(&body.to_le_bytes());
    out.message(message);
}

/// Adds another queue that the message enters that was added last.
pub fn write_also(out: &mut Gather, queue: QueueId, seq: u64) {
    let octets = out.octets();
    octets.push(ALSO);
    octets.extend_from_slice(&queue.0.to_le_bytes());
    octets.extend_from_slice(&seq.to_le_bytes());
}

/// Adds messages that are settled.
pub fn write_settle(out: &mut Gather, queue: QueueId, from: u64, to: u64) {
    write_range(out, SETTLE, queue, from, to);
}

/// Adds messages that have been delivered.
pub fn write_delivered(out: &mut Gather, queue: QueueId, from: u64, to: u64) {
    write_range(out, DELIVERED, queue, from, to);
}

fn write_range(out: &mut Gather, kind: u8, queue: QueueId, from: u64, to: u64) {
    let octets = out.octets();
    octets.push(kind);
    octets.extend_from_slice(&queue.0.to_le_bytes());
    octets.extend_from_slice(&from.to_le_bytes());
    octets.extend_from_slice(&to.to_le_bytes());
}

/// Adds the end of a clean stop.
pub fn write_clean(out: &mut Gather, shards: u16) {
    out.octets().push(CLEAN);
    out.octets().extend_from_slice(&shards.to_le_bytes());
}

/// The records with their header in front and the padding behind them.
#[must_use]
pub fn seal(header: Header, records: &mut Gather) -> Vec<Bytes> {
    let len = records.len();
    let mut pieces = records.take();
    let mut fields = HeaderWriter::new(MAGIC);
    fields.put(header.shard.to_le_bytes());
    fields.put(header.boot.to_le_bytes());
    fields.put(header.segment.to_le_bytes());
    fields.put(header.batch.to_le_bytes());
    fields.put(header.synced.to_le_bytes());
    // A batch is bounded by what may wait for the disk and one message.
    fields.put((len as u32).to_le_bytes());
    fields.put(checksum(&pieces).to_le_bytes());
    pieces.insert(0, fields.finish().into());
    let padding = padded(len) - len;
    if padding > 0 {
        pieces.push(Bytes::from_static(&[0; 8]).slice(..padding));
    }
    pieces
}

/// Octets that a batch with so many octets of records takes in its file.
#[must_use]
pub fn sealed_len(records: usize) -> usize {
    HEADER + padded(records)
}

/// Reads a header.
///
/// # Errors
///
/// There is none.
pub fn open(octets: &[u8]) -> Result<Found, Damage> {
    let mut cursor = open_header(octets, MAGIC)?;
    let header = Header {
        shard: cursor.u16()?,
        boot: cursor.u32()?,
        segment: cursor.u32()?,
        batch: cursor.u64()?,
        synced: cursor.u64()?,
    };
    Ok(Found { header, len: cursor.u32()? as usize, checksum: cursor.u32()? })
}

impl Found {
    /// The records behind the header, which `octets` begin with.
    ///
    /// # Errors
    ///
    /// They are not what was written.
    pub fn records(&self, octets: &Bytes) -> Result<Vec<Record>, Damage> {
        let end = HEADER + self.len;
        if octets.len() < end {
            return Err(Damage::Short);
        }
        let body = octets.slice(HEADER..end);
        if crc32c::crc32c(&body) != self.checksum && !crate::store::unchecked() {
            return Err(Damage::Checksum);
        }
        let mut cursor = Cursor(&body);
        let mut records = Vec::new();
        while !cursor.0.is_empty() {
            records.push(read(&mut cursor, &body)?);
        }
        Ok(records)
    }
}

fn read(cursor: &mut Cursor<'_>, whole: &Bytes) -> Result<Record, Damage> {
    Ok(match cursor.octet()? {
        ENQUEUE => {
            let (queue, seq) = (QueueId(cursor.u64()?), cursor.u64()?);
            let (record, body) = (cursor.u32()? as usize, cursor.u32()? as usize);
            let record = whole.slice_ref(cursor.take(record)?);
            let body = (body > 0).then(|| cursor.take(body)).transpose()?;
            super::check_message(&record, body.map_or(0, <[u8]>::len))?;
            Record::Enqueue { queue, seq, record, body: body.map(|body| whole.slice_ref(body)) }
        }
        ALSO => Record::Also { queue: QueueId(cursor.u64()?), seq: cursor.u64()? },
        SETTLE => Record::Settle(QueueId(cursor.u64()?), cursor.u64()?, cursor.u64()?),
        DELIVERED => Record::Delivered(QueueId(cursor.u64()?), cursor.u64()?, cursor.u64()?),
        CLEAN => Record::Clean(cursor.u16()?),
        _ => return Err(Damage::Record),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::sample::sample;

    const HEADER_1: Header = Header { shard: 1, boot: 2, segment: 3, batch: 4, synced: 3 };

    fn sealed() -> Bytes {
        let mut out = Gather::default();
        let large = sample("large", 10_000, true);
        write_enqueue(&mut out, QueueId(1), 7, sample("small", 10, true).message());
        write_enqueue(&mut out, QueueId(2), 8, large.message());
        write_also(&mut out, QueueId(3), 9);
        write_settle(&mut out, QueueId(1), 5, 6);
        write_delivered(&mut out, QueueId(1), 1, 2);
        write_clean(&mut out, 4);
        let records = out.len();
        let octets = Bytes::from(seal(HEADER_1, &mut out).concat());
        assert_eq!(octets.len(), sealed_len(records));
        octets
    }

    #[test]
    fn what_is_written_is_read() {
        let octets = sealed();
        let found = open(&octets).unwrap();
        assert_eq!(found.header, HEADER_1);
        let records = found.records(&octets).unwrap();
        let large = sample("large", 10_000, true);
        let expected = Bytes::from(large.message().large_body().unwrap().pieces().concat());
        match &records[..] {
            [
                Record::Enqueue { queue: QueueId(1), seq: 7, record, body: None },
                Record::Enqueue { queue: QueueId(2), seq: 8, body: Some(body), .. },
                Record::Also { queue: QueueId(3), seq: 9 },
                Record::Settle(QueueId(1), 5, 6),
                Record::Delivered(QueueId(1), 1, 2),
                Record::Clean(4),
            ] => {
                assert_eq!(record, sample("small", 10, true).message().record());
                assert_eq!(body, &expected);
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_changed_octet_is_noticed() {
        let octets = sealed();
        for at in (0..octets.len() - 8).step_by(7) {
            let mut changed = octets.to_vec();
            changed[at] ^= 0x10;
            let changed = Bytes::from(changed);
            let read = open(&changed).and_then(|found| found.records(&changed));
            assert!(read.is_err(), "octet {at}");
        }
        let short = octets.slice(..octets.len() - 16);
        assert_eq!(open(&short).unwrap().records(&short), Err(Damage::Short));
        assert_eq!(open(&octets[..10]), Err(Damage::Short));
    }

    proptest! {
        #[test]
        fn records_of_any_octets_do_no_harm(octets: Vec<u8>) {
            let mut out = Gather::default();
            out.octets().extend_from_slice(&octets);
            let sealed = Bytes::from(seal(HEADER_1, &mut out).concat());
            let read = open(&sealed).and_then(|found| found.records(&sealed));
            prop_assert!(read.is_ok() || read == Err(Damage::Record));
        }
    }
}
