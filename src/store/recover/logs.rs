//! Reads the logs of earlier starts and decides which damage is a torn write.

use std::collections::BTreeMap;

use bytes::Bytes;
use model::mutant::{self, Mutant};
use model::queue::Expiry;
use model::{Body, QueueId};

use super::{LogMessage, LogReached, Recovery, RecoveryError};
use crate::store::format::Damage;
use crate::store::format::batch::LogRecord;
use crate::store::op::{FileName, Files, RECOVERY};
use crate::store::scan::{self, LogScan, Torn};

impl Recovery {
    pub(super) fn log(
        &mut self,
        files: &mut impl Files,
        name: FileName,
        len: u64,
        is_known: &dyn Fn(QueueId) -> bool,
    ) -> Result<(), RecoveryError> {
        let FileName::Log { boot, shard, number } = name else { return Ok(()) };
        let scan = scan::log(files, name, len)?;
        if let Some(Torn { damage: damage @ Damage::Version(_), at, .. }) = scan.torn {
            return Err(RecoveryError::Damaged { file: name, at, damage });
        }
        let reached = self.logs.entry((boot, shard)).or_default();
        reached.look_for_gap(name, number, &scan);
        reached.last_number = number;
        reached.empty = scan.is_empty();
        reached.synced = reached.synced.max(scan.synced);
        let torn_synced = scan.torn.as_ref().and_then(|torn| torn.synced_behind);
        reached.synced = reached.synced.max(torn_synced.unwrap_or(0));
        if reached.gap.is_some() {
            // Only a relaxed log has a gap; nothing after it was promised. Replaying settles
            // without the batches before them would reconstruct a state that never existed.
            reached.clean = None;
            self.notes.push(format!("{name}: ignored, since batches before it are lost"));
            return Ok(());
        }
        if !scan.is_empty() {
            reached.last_batch = Some(scan.last_batch);
            reached.clean = match scan.records.iter().rev().find(|one| !is_range(one)) {
                Some(LogRecord::Clean(shards)) => Some(*shards),
                _ => None,
            };
        }
        if let Some(torn) = scan.torn {
            let next = reached.missing(torn.batch_behind);
            reached.clean = None;
            reached.gap = Some((name, torn.at, next, Some(torn.damage.clone())));
            self.note_cut(name, &torn);
        }
        self.replay(scan.records, is_known);
        Ok(())
    }

    pub(super) fn note_cut(&mut self, name: FileName, torn: &Torn) {
        let Torn { at, bytes, damage, .. } = torn;
        self.notes.push(format!(
            "{name}: cut off {bytes} bytes after byte {at}, a write that was not finished \
             ({damage})"
        ));
    }

    pub(super) fn replay(&mut self, records: Vec<LogRecord>, is_known: &dyn Fn(QueueId) -> bool) {
        let mut last: Option<(Bytes, Option<Body>)> = None;
        for record in records {
            match record {
                LogRecord::Enqueue { queue, seq, record, body } => {
                    let body = body.map(|body| Body::new(vec![body]));
                    last = Some((record.clone(), body.clone()));
                    self.enqueue(queue, seq, (record, body), is_known);
                }
                LogRecord::Also { queue, seq } => {
                    if let Some(message) = last.clone() {
                        self.enqueue(queue, seq, message, is_known);
                    }
                }
                LogRecord::Settle(queue, from, to) => {
                    self.settled.entry(queue).or_default().insert(from, to);
                }
                LogRecord::Delivered(queue, from, to) => {
                    self.delivered.entry(queue).or_default().insert(from, to);
                }
                LogRecord::Clean(_) => {}
                LogRecord::Expires(..) if mutant::active(Mutant::ExpiryLost) => {}
                LogRecord::Expires(queue, seq, expiry) => {
                    let of_queue = self.enqueued.get_mut(&queue);
                    if let Some(message) = of_queue.and_then(|messages| messages.get_mut(&seq)) {
                        message.expiry = expiry;
                    }
                }
            }
        }
    }

    pub(super) fn enqueue(
        &mut self,
        queue: QueueId,
        seq: u64,
        (record, body): (Bytes, Option<Body>),
        is_known: &dyn Fn(QueueId) -> bool,
    ) {
        if is_known(queue) {
            let message = LogMessage { record, body, expiry: Expiry::NEVER };
            self.enqueued.entry(queue).or_default().insert(seq, message);
        }
    }

    /// Fails if a gap lies before batches that are known to have been on stable storage: that is no
    /// torn write.
    pub(super) fn check(&self) -> Result<(), RecoveryError> {
        for reached in self.logs.values() {
            let Some((file, at, batch, damage)) = &reached.gap else { continue };
            if reached.synced < *batch {
                continue;
            }
            let (file, at) = (*file, *at);
            return Err(match damage.clone() {
                Some(damage) => RecoveryError::Damaged { file, at, damage },
                None => RecoveryError::Missing { file },
            });
        }
        Ok(())
    }

    pub(super) fn is_clean(&self) -> bool {
        let last = self
            .logs
            .iter()
            .filter(|((boot, shard), _)| *boot == self.last_boot && *shard != RECOVERY);
        let marks: BTreeMap<u16, Option<u16>> =
            last.map(|((_, shard), reached)| (*shard, reached.clean)).collect();
        let shards = marks.values().flatten().copied().max().unwrap_or(0);
        let all = |shard| marks.get(&shard) == Some(&Some(shards));
        self.logs.is_empty() || shards > 0 && (0..shards).all(all)
    }
}

impl LogReached {
    /// Notes a gap before this segment: a whole segment, or batches at the end of the last one,
    /// which was not synced. Batches whose messages all bypassed the log are in no segment; the
    /// next batch says that all before it were synced.
    fn look_for_gap(&mut self, name: FileName, number: u32, scan: &LogScan) {
        let follows = match self.last_batch {
            Some(_) if number != self.last_number + 1 => false,
            Some(last) => {
                let all_synced = scan.first_synced + 1 == scan.first_batch;
                scan.is_empty() || scan.first_batch == last + 1 || all_synced
            }
            None => scan.is_empty() || !self.empty,
        };
        let behind = (!scan.is_empty()).then_some(scan.first_batch);
        let missing = self.missing(behind);
        match &mut self.gap {
            Some((_, _, batch, _)) => *batch = missing.min(*batch),
            None if !follows => self.gap = Some((name, 0, missing, None)),
            None => {}
        }
    }

    /// The first batch missing before the batch `behind`. If no earlier batch is known, since its
    /// segment was removed, the last missing one.
    fn missing(&self, behind: Option<u64>) -> u64 {
        let last = behind.map_or(u64::MAX, |batch| batch.saturating_sub(1));
        self.last_batch.map_or(last, |batch| batch + 1)
    }
}

fn is_range(record: &LogRecord) -> bool {
    matches!(record, LogRecord::Settle(..) | LogRecord::Delivered(..))
}
