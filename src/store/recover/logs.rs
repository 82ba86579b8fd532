//! The logs of earlier starts: replayed, and judged.

use std::collections::BTreeMap;

use bytes::Bytes;
use model::{Body, QueueId};

use super::{Found, LogMessage, Unrecoverable};
use crate::store::format::Damage;
use crate::store::format::batch::Record;
use crate::store::op::{FileName, Files, RECOVERY};
use crate::store::scan::{self, Torn};

impl Found {
    pub(super) fn log(
        &mut self,
        files: &mut impl Files,
        name: FileName,
        len: u64,
        is_known: &dyn Fn(QueueId) -> bool,
    ) -> Result<(), Unrecoverable> {
        let FileName::Log { boot, shard, number } = name else { return Ok(()) };
        let scan = scan::log(files, name, len)?;
        if let Some(Torn { damage: damage @ Damage::Version(_), at, .. }) = scan.torn {
            return Err(Unrecoverable::Damaged { file: name, at, damage });
        }
        let reached = self.logs.entry((boot, shard)).or_default();
        let lost = reached.last_batch.is_some() && number != reached.last_number + 1;
        if lost && reached.gap.is_none() {
            reached.gap = Some((name, 0, reached.last_batch.unwrap_or(0) + 1, None));
        }
        reached.last_number = number;
        reached.synced = reached.synced.max(scan.synced);
        // Batches are numbered from 1, and one may be empty.
        if scan.last_batch > 0 {
            reached.last_batch = Some(scan.last_batch);
            reached.clean = match scan.records.iter().rev().find(|one| !is_range(one)) {
                Some(Record::Clean(shards)) => Some(*shards),
                _ => None,
            };
        }
        if let Some(torn) = scan.torn {
            let next = reached.last_batch.unwrap_or(0) + 1;
            reached.synced = reached.synced.max(torn.synced_behind.unwrap_or(0));
            reached.clean = None;
            let gap = (name, torn.at, next, Some(torn.damage.clone()));
            reached.gap.get_or_insert(gap);
            self.note_cut(name, &torn);
        }
        self.replay(scan.records, is_known);
        Ok(())
    }

    pub(super) fn note_cut(&mut self, name: FileName, torn: &Torn) {
        let Torn { at, octets, damage, .. } = torn;
        self.notes.push(format!(
            "{name}: cut off {octets} octets behind octet {at}, a write that was not finished \
             ({damage})"
        ));
    }

    pub(super) fn replay(&mut self, records: Vec<Record>, is_known: &dyn Fn(QueueId) -> bool) {
        let mut last: Option<(Bytes, Option<Body>)> = None;
        for record in records {
            match record {
                Record::Enqueue { queue, seq, record, body } => {
                    let body = body.map(|body| Body::new(vec![body]));
                    last = Some((record.clone(), body.clone()));
                    self.enqueue(queue, seq, LogMessage { record, body }, is_known);
                }
                Record::Also { queue, seq } => {
                    if let Some((record, body)) = last.clone() {
                        self.enqueue(queue, seq, LogMessage { record, body }, is_known);
                    }
                }
                Record::Settle(queue, from, to) => {
                    self.settled.entry(queue).or_default().insert(from, to);
                }
                Record::Delivered(queue, from, to) => {
                    self.delivered.entry(queue).or_default().insert(from, to);
                }
                Record::Clean(_) => {}
            }
        }
    }

    pub(super) fn enqueue(
        &mut self,
        queue: QueueId,
        seq: u64,
        message: LogMessage,
        is_known: &dyn Fn(QueueId) -> bool,
    ) {
        if is_known(queue) {
            self.enqueued.entry(queue).or_default().insert(seq, message);
        }
    }

    /// Damage in front of what is known to have been on stable storage is no torn write.
    pub(super) fn check(&self) -> Result<(), Unrecoverable> {
        for reached in self.logs.values() {
            let Some((file, at, batch, damage)) = &reached.gap else { continue };
            if reached.synced < *batch {
                continue;
            }
            let (file, at) = (*file, *at);
            return Err(match damage.clone() {
                Some(damage) => Unrecoverable::Damaged { file, at, damage },
                None => Unrecoverable::Missing { file },
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

fn is_range(record: &Record) -> bool {
    matches!(record, Record::Settle(..) | Record::Delivered(..))
}
