//! The encoding of a metadata file: its header and its batches.

use amqp::{Reader, Writer};
use model::mutant::{self, Mutant};

use super::fact::{Fact, Malformed};

/// The version of the format, the only one so far.
pub(super) const VERSION: u32 = 1;
pub(super) const HEADER_LEN: usize = 24;

const FILE_MAGIC: [u8; 8] = *b"RINGMETA";
const BATCH_MAGIC: [u8; 4] = *b"RMb\x01";
const BATCH_HEADER_LEN: usize = 20;

/// A decoded file header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileHeader {
    /// The file can be read. Its nonce is part of each checksum, so that bytes a client chose for a
    /// name or an argument are never taken for a batch.
    Known { nonce: u64 },
    /// The file has another version.
    Version(u32),
    /// The file is no metadata file, or damaged.
    Damaged,
}

/// What is at an offset of a file.
#[derive(Debug, PartialEq)]
pub(super) enum NextBatch {
    /// A batch, and the offset of the next one.
    Batch(Vec<Fact>, usize),
    /// A whole batch with a fact that this version does not know.
    Unknown(Malformed),
    /// The end of the file.
    End,
    /// Bytes that are no batch, or part of one.
    Damaged,
}

/// A batch is too long for its length field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooLong;

pub(super) fn write_header(out: &mut Vec<u8>, nonce: u64) {
    let start = out.len();
    let mut to = Writer::new(out);
    to.bytes(&FILE_MAGIC);
    to.long(VERSION);
    to.longlong(nonce);
    let checksum = crc32c::crc32c(&out[start..]);
    Writer::new(out).long(checksum);
}

pub(super) fn read_header(bytes: &[u8]) -> FileHeader {
    let mut from = Reader::new(bytes);
    let fields = from.take(FILE_MAGIC.len()).and_then(|magic| Ok((magic, from.long()?)));
    let rest = from.longlong().and_then(|nonce| Ok((nonce, from.long()?)));
    match (fields, rest) {
        // After the version, the header of another version may differ.
        (Ok((magic, version)), _) if magic == FILE_MAGIC && version != VERSION => {
            FileHeader::Version(version)
        }
        (Ok((magic, _)), Ok((nonce, checksum)))
            if magic == FILE_MAGIC && checksum == crc32c::crc32c(&bytes[..HEADER_LEN - 4]) =>
        {
            FileHeader::Known { nonce }
        }
        _ => FileHeader::Damaged,
    }
}

/// Appends a batch to `out`. After an error the appended bytes are of no use.
///
/// # Errors
///
/// [`TooLong`] for 4 GiB or more.
pub(super) fn write_batch<'f>(
    out: &mut Vec<u8>,
    nonce: u64,
    number: u64,
    facts: impl Iterator<Item = impl std::borrow::Borrow<Fact> + 'f>,
) -> Result<(), TooLong> {
    let start = out.len();
    out.extend([0; BATCH_HEADER_LEN]);
    facts.for_each(|fact| fact.borrow().write(out));
    let len = u32::try_from(out.len() - start - BATCH_HEADER_LEN).map_err(|_| TooLong)?;
    let batch = &mut out[start..];
    batch[8..16].copy_from_slice(&number.to_be_bytes());
    batch[16..20].copy_from_slice(&len.to_be_bytes());
    let checksum = checksum(nonce, &batch[8..]);
    batch[..4].copy_from_slice(&BATCH_MAGIC);
    batch[4..8].copy_from_slice(&checksum.to_be_bytes());
    Ok(())
}

/// What is at offset `at`, where batch `number` is expected.
pub(super) fn next(bytes: &[u8], at: usize, nonce: u64, number: u64) -> NextBatch {
    let rest = bytes.get(at..).unwrap_or_default();
    if rest.is_empty() {
        return NextBatch::End;
    }
    match payload(rest, nonce) {
        Some((found, payload)) if found == number => match facts(payload) {
            Ok(facts) => NextBatch::Batch(facts, at + BATCH_HEADER_LEN + payload.len()),
            Err(malformed) => NextBatch::Unknown(malformed),
        },
        _ => NextBatch::Damaged,
    }
}

/// True if a batch with a number above `number` follows anywhere after `at`.
pub(super) fn any_behind(bytes: &[u8], at: usize, nonce: u64, number: u64) -> bool {
    let rest = bytes.get(at + 1..).unwrap_or_default();
    let starts = rest.windows(BATCH_MAGIC.len()).enumerate();
    let mut starts = starts.filter(|(_, window)| *window == BATCH_MAGIC);
    starts.any(|(start, _)| payload(&rest[start..], nonce).is_some_and(|(found, _)| found > number))
}

/// The number and the encoded facts of the batch at the start of `bytes`, if its checksum is right.
fn payload(bytes: &[u8], nonce: u64) -> Option<(u64, &[u8])> {
    let mut from = Reader::new(bytes);
    let magic = from.take(BATCH_MAGIC.len()).ok()?;
    let (announced, number) = (from.long().ok()?, from.longlong().ok()?);
    let payload = from.longstr().ok()?;
    let covered = &bytes[8..BATCH_HEADER_LEN + payload.len()];
    let is_right =
        announced == checksum(nonce, covered) || mutant::active(Mutant::MetaCrcUnchecked);
    (magic == BATCH_MAGIC && is_right).then_some((number, payload))
}

fn checksum(nonce: u64, covered: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&nonce.to_be_bytes()), covered)
}

fn facts(payload: &[u8]) -> Result<Vec<Fact>, Malformed> {
    let mut from = Reader::new(payload);
    let mut facts = Vec::new();
    while !from.is_empty() {
        facts.push(Fact::read(&mut from)?);
    }
    Ok(facts)
}

#[cfg(test)]
mod tests {
    use model::QueueId;
    use proptest::prelude::*;

    use super::*;

    const NONCE: u64 = 7;

    fn batch(number: u64, facts: &[Fact]) -> Vec<u8> {
        let mut bytes = Vec::new();
        write_batch(&mut bytes, NONCE, number, facts.iter()).unwrap();
        bytes
    }

    #[test]
    fn a_batch_is_read_at_its_place_with_its_number_and_its_files_nonce_only() {
        let facts = [Fact::QueuesBelow(QueueId(3)), Fact::QueuesBelow(QueueId(4))];
        let bytes = [vec![1], batch(5, &facts)].concat();
        let len = bytes.len();
        assert_eq!(next(&bytes, 1, NONCE, 5), NextBatch::Batch(facts.to_vec(), len));
        assert_eq!(next(&bytes, 1, NONCE, 4), NextBatch::Damaged);
        assert_eq!(next(&bytes, 1, NONCE + 1, 5), NextBatch::Damaged);
        assert_eq!(next(&bytes, 0, NONCE, 5), NextBatch::Damaged);
        assert_eq!(next(&bytes, len, NONCE, 5), NextBatch::End);
        assert!(any_behind(&bytes, 0, NONCE, 4));
        assert!(!any_behind(&bytes, 0, NONCE, 5));
        assert!(!any_behind(&bytes, 1, NONCE, 4));
    }

    #[test]
    fn a_whole_batch_that_says_something_unknown_is_told_apart_from_damage() {
        let mut bytes = batch(0, &[Fact::QueuesBelow(QueueId(3))]);
        bytes[BATCH_HEADER_LEN] = 200;
        let checksum = checksum(NONCE, &bytes[8..]);
        bytes[4..8].copy_from_slice(&checksum.to_be_bytes());
        assert_eq!(next(&bytes, 0, NONCE, 0), NextBatch::Unknown(Malformed::Kind(200)));
    }

    #[test]
    fn headers_are_known_of_another_version_or_damaged() {
        let mut bytes = Vec::new();
        write_header(&mut bytes, NONCE);
        assert_eq!(bytes.len(), HEADER_LEN);
        assert_eq!(read_header(&bytes), FileHeader::Known { nonce: NONCE });
        for at in 0..HEADER_LEN {
            let mut changed = bytes.clone();
            changed[at] ^= 0x40;
            let version = u32::from_be_bytes(changed[8..12].try_into().unwrap());
            let is_version = (8..12).contains(&at);
            let expected =
                if is_version { FileHeader::Version(version) } else { FileHeader::Damaged };
            assert_eq!(read_header(&changed), expected, "byte {at}");
            assert_eq!(read_header(&bytes[..at]), FileHeader::Damaged, "cut to {at}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_no_batch(bytes: Vec<u8>, number: u64) {
            let bytes = [&BATCH_MAGIC, &bytes[..]].concat();
            prop_assert_eq!(next(&bytes, 0, NONCE, number), NextBatch::Damaged);
            prop_assert!(!any_behind(&bytes, 0, NONCE, 0));
            prop_assert_eq!(read_header(&bytes), FileHeader::Damaged);
        }

        #[test]
        fn a_batch_with_a_bit_changed_is_damaged(
            at in 0usize..BATCH_HEADER_LEN + 9, bit in 0u8..8,
        ) {
            let mut bytes = batch(2, &[Fact::QueuesBelow(QueueId(3))]);
            bytes[at] ^= 1 << bit;
            prop_assert_eq!(next(&bytes, 0, NONCE, 2), NextBatch::Damaged);
        }
    }
}
