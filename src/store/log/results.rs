//! Results of the log's operations: written and synced batches, errors, and what is tried again.

use bytes::Bytes;
use model::Now;

use super::{MessageLog, RETRY_US};
use crate::store::config::SyncPolicy;
use crate::store::op::{DiskError, FileName, Work};
use crate::store::ops::Ops;

/// The write of a batch.
#[derive(Debug)]
pub(super) struct BatchWrite {
    pub op: u64,
    pub file: FileName,
    /// Kept to be tried again.
    pub work: Work,
    /// It lacked a resource and has not succeeded since.
    pub lacks: bool,
    /// When it is tried again.
    pub retry_us: Option<u64>,
}

/// A sync of a relaxed log.
#[derive(Debug)]
pub(super) struct LogSync {
    /// `None`: it is done.
    pub op: Option<u64>,
    pub file: FileName,
    /// It covers batches up to this one.
    pub batch: u64,
    /// It lacked a resource and has not succeeded since.
    pub lacks: bool,
    /// When it is tried again.
    pub retry_us: Option<u64>,
}

impl MessageLog {
    /// Takes a result. False if the operation is not the log's.
    pub fn done(&mut self, op: u64, result: &Result<Bytes, DiskError>, now: Now) -> bool {
        if self.removing == Some(op) {
            // If the segment may or may not exist, none behind it is removed.
            if self.fatal_if_failed(result) {
                self.removing = None;
                self.segments.pop_front();
            }
        } else if let Some(at) = self.syncing.iter().position(|sync| sync.op == Some(op)) {
            self.was_synced(at, result, now);
        } else if self.in_flight_write().is_some_and(|write| write.op == op) {
            self.was_written(result, now);
        } else {
            return false;
        }
        true
    }

    fn was_synced(&mut self, at: usize, result: &Result<Bytes, DiskError>, now: Now) {
        let Some(sync) = self.syncing.get_mut(at) else { return };
        if let Err(error) = result
            && error.may_retry()
        {
            // Its file could not be opened, or the disk carried it out with a write that failed.
            (sync.lacks, sync.retry_us) = (true, Some(now.monotonic_us + RETRY_US));
            return self.update_lack(Some(error));
        }
        // A failed sync stays in flight, so batches behind it never count as synced.
        if self.fatal_if_failed(result)
            && let Some(sync) = self.syncing.get_mut(at)
        {
            (sync.op, sync.lacks) = (None, false);
        }
        while let Some(sync) = self.syncing.pop_front_if(|sync| sync.op.is_none()) {
            self.synced = sync.batch;
        }
        self.update_lack(None);
    }

    fn was_written(&mut self, result: &Result<Bytes, DiskError>, now: Now) {
        match result {
            Err(error) if error.may_retry() => {
                if let Some(write) = self.in_flight_write() {
                    write.lacks = true;
                    write.retry_us = Some(now.monotonic_us + RETRY_US);
                }
                return self.update_lack(Some(error));
            }
            // A failed write stays in flight: its messages never become durable, nor any behind it.
            Err(_) if !DiskError::ignored() => {
                self.fatal_if_failed(result);
            }
            _ => {
                if let Some(one) = &mut self.in_flight {
                    one.write = None;
                }
            }
        }
        self.update_lack(None);
    }

    /// Hands operations out again that lacked a resource.
    pub(super) fn retry(&mut self, now: Now, ops: &mut Ops) {
        let is_due = |when: &mut u64| *when <= now.monotonic_us;
        if let Some(write) = self.in_flight_write()
            && write.retry_us.take_if(is_due).is_some()
        {
            write.op = ops.hand_out(write.file, write.work.clone());
        }
        for sync in &mut self.syncing {
            if sync.retry_us.take_if(is_due).is_some() {
                sync.op = Some(ops.hand_out(sync.file, Work::Sync));
            }
        }
    }

    /// When [`Self::retry`] is due.
    pub(super) fn retry_due_us(&self) -> Option<u64> {
        let write = self.in_flight.as_ref().and_then(|one| one.write.as_ref());
        let write = write.and_then(|write| write.retry_us);
        write.into_iter().chain(self.syncing.iter().filter_map(|sync| sync.retry_us)).min()
    }

    fn in_flight_write(&mut self) -> Option<&mut BatchWrite> {
        self.in_flight.as_mut()?.write.as_mut()
    }

    /// Notes if operations begin to lack a resource, or if none does any more.
    fn update_lack(&mut self, error: Option<&DiskError>) {
        let write = self.in_flight.as_ref().and_then(|one| one.write.as_ref());
        let lacks =
            write.is_some_and(|one| one.lacks) || self.syncing.iter().any(|sync| sync.lacks);
        if !lacks {
            self.lack = None;
        } else if self.lack.is_none() {
            self.lack = error.map(DiskError::to_string);
        }
    }

    /// The first error of operations that lack a resource, until all of them have succeeded.
    pub fn lack(&self) -> Option<&str> {
        self.lack.as_deref()
    }

    /// The batch in flight, once it is written.
    pub fn written(&self) -> Option<u64> {
        self.in_flight.as_ref().filter(|one| one.write.is_none()).map(|one| one.batch)
    }

    /// Counts the batch in flight as durable. It is written, and so is all that bypassed the log.
    pub fn complete(&mut self) {
        if let Some(one) = self.in_flight.take_if(|one| one.write.is_none()) {
            self.durable = one.batch;
            if self.config.durability == SyncPolicy::Strict {
                self.synced = one.batch;
            }
        }
    }

    /// An error after which the contents of the disk are unknown.
    pub fn next_fatal(&mut self) -> Option<String> {
        self.fatal.pop_front()
    }

    /// True if it succeeded.
    fn fatal_if_failed(&mut self, result: &Result<Bytes, DiskError>) -> bool {
        if let Err(error) = result {
            self.fatal.push_back(error.to_string());
        }
        result.is_ok()
    }
}
