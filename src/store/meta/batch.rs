//! The octets of a file: its header and its batches.

use amqp::{Reader, Writer};
use model::mutant::{self, Mutant};

use super::fact::{Fact, Malformed};

/// The format that is written, and the only one there was so far.
pub(super) const VERSION: u32 = 1;
pub(super) const HEADER_LEN: usize = 24;

const FILE_MAGIC: [u8; 8] = *b"RINGMETA";
const BATCH_MAGIC: [u8; 4] = *b"RMb\x01";
const BATCH_HEADER_LEN: usize = 20;

/// What a file's header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Header {
    /// The file can be read. Its nonce is part of each checksum, so that nothing that a client
    /// has written into a name or an argument is taken for a batch.
    Known { nonce: u64 },
    /// It is a file of another version.
    Version(u32),
    /// It is no file of metadata, or a damaged one.
    Damaged,
}

/// What stands at some place of a file.
#[derive(Debug, PartialEq)]
pub(super) enum Next {
    /// A batch, and where the next would begin.
    Batch(Vec<Fact>, usize),
    /// The batch is whole, but says what this version does not understand.
    Unknown(Malformed),
    /// Nothing more: the end of the file.
    End,
    /// Octets that are no batch, or not all of one.
    Damaged,
}

/// Longer than what the length in a batch can say.
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

pub(super) fn read_header(octets: &[u8]) -> Header {
    let mut from = Reader::new(octets);
    let fields = from.take(FILE_MAGIC.len()).and_then(|magic| Ok((magic, from.long()?)));
    let rest = from.longlong().and_then(|nonce| Ok((nonce, from.long()?)));
    match (fields, rest) {
        // Another version may have another header behind its version.
        (Ok((magic, version)), _) if magic == FILE_MAGIC && version != VERSION => {
            Header::Version(version)
        }
        (Ok((magic, _)), Ok((nonce, checksum)))
            if magic == FILE_MAGIC && checksum == crc32c::crc32c(&octets[..HEADER_LEN - 4]) =>
        {
            Header::Known { nonce }
        }
        _ => Header::Damaged,
    }
}

/// Appends a batch to `out`; on an error what was appended is of no use.
///
/// # Errors
///
/// [`TooLong`] from 4 GiB on.
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

/// What stands at `at`, where batch `number` is expected.
pub(super) fn next(octets: &[u8], at: usize, nonce: u64, number: u64) -> Next {
    let rest = octets.get(at..).unwrap_or_default();
    if rest.is_empty() {
        return Next::End;
    }
    match payload(rest, nonce) {
        Some((found, payload)) if found == number => match facts(payload) {
            Ok(facts) => Next::Batch(facts, at + BATCH_HEADER_LEN + payload.len()),
            Err(malformed) => Next::Unknown(malformed),
        },
        _ => Next::Damaged,
    }
}

/// Whether a batch that comes after `number` stands anywhere behind `at`.
pub(super) fn any_behind(octets: &[u8], at: usize, nonce: u64, number: u64) -> bool {
    let rest = octets.get(at + 1..).unwrap_or_default();
    let starts = rest.windows(BATCH_MAGIC.len()).enumerate();
    let mut starts = starts.filter(|(_, window)| *window == BATCH_MAGIC);
    starts.any(|(start, _)| payload(&rest[start..], nonce).is_some_and(|(found, _)| found > number))
}

/// The number and the facts of the batch that `octets` begin with, if its checksum is right.
fn payload(octets: &[u8], nonce: u64) -> Option<(u64, &[u8])> {
    let mut from = Reader::new(octets);
    let magic = from.take(BATCH_MAGIC.len()).ok()?;
    let (announced, number) = (from.long().ok()?, from.longlong().ok()?);
    let payload = from.longstr().ok()?;
    let covered = &octets[8..BATCH_HEADER_LEN + payload.len()];
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
        let mut octets = Vec::new();
        write_batch(&mut octets, NONCE, number, facts.iter()).unwrap();
        octets
    }

    #[test]
    fn a_batch_is_read_at_its_place_with_its_number_and_its_files_nonce_only() {
        let facts = [Fact::QueuesBelow(QueueId(3)), Fact::QueuesBelow(QueueId(4))];
        let octets = [vec![1], batch(5, &facts)].concat();
        let len = octets.len();
        assert_eq!(next(&octets, 1, NONCE, 5), Next::Batch(facts.to_vec(), len));
        assert_eq!(next(&octets, 1, NONCE, 4), Next::Damaged);
        assert_eq!(next(&octets, 1, NONCE + 1, 5), Next::Damaged);
        assert_eq!(next(&octets, 0, NONCE, 5), Next::Damaged);
        assert_eq!(next(&octets, len, NONCE, 5), Next::End);
        assert!(any_behind(&octets, 0, NONCE, 4));
        assert!(!any_behind(&octets, 0, NONCE, 5));
        assert!(!any_behind(&octets, 1, NONCE, 4));
    }

    #[test]
    fn a_whole_batch_that_says_something_unknown_is_told_apart_from_damage() {
        let mut octets = batch(0, &[Fact::QueuesBelow(QueueId(3))]);
        octets[BATCH_HEADER_LEN] = 200;
        let checksum = checksum(NONCE, &octets[8..]);
        octets[4..8].copy_from_slice(&checksum.to_be_bytes());
        assert_eq!(next(&octets, 0, NONCE, 0), Next::Unknown(Malformed::Kind(200)));
    }

    #[test]
    fn headers_are_known_of_another_version_or_damaged() {
        let mut octets = Vec::new();
        write_header(&mut octets, NONCE);
        assert_eq!(octets.len(), HEADER_LEN);
        assert_eq!(read_header(&octets), Header::Known { nonce: NONCE });
        for at in 0..HEADER_LEN {
            let mut changed = octets.clone();
            changed[at] ^= 0x40;
            let version = u32::from_be_bytes(changed[8..12].try_into().unwrap());
            let is_version = (8..12).contains(&at);
            let expected = if is_version { Header::Version(version) } else { Header::Damaged };
            assert_eq!(read_header(&changed), expected, "octet {at}");
            assert_eq!(read_header(&octets[..at]), Header::Damaged, "cut to {at}");
        }
    }

    proptest! {
        #[test]
        fn any_octets_are_no_batch(octets: Vec<u8>, number: u64) {
            let octets = [&BATCH_MAGIC, &octets[..]].concat();
            prop_assert_eq!(next(&octets, 0, NONCE, number), Next::Damaged);
            prop_assert!(!any_behind(&octets, 0, NONCE, 0));
            prop_assert_eq!(read_header(&octets), Header::Damaged);
        }

        #[test]
        fn a_batch_with_a_bit_changed_is_damaged(
            at in 0usize..BATCH_HEADER_LEN + 9, bit in 0u8..8,
        ) {
            let mut octets = batch(2, &[Fact::QueuesBelow(QueueId(3))]);
            octets[at] ^= 1 << bit;
            prop_assert_eq!(next(&octets, 0, NONCE, 2), Next::Damaged);
        }
    }
}
