//! A simulated disk: after a power loss, unsynced writes are lost, torn or kept at random.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use fastrand::Rng;

use crate::store::op::{Cause, DiskError, Done, FileName, Files, Op, Work};

/// Bytes that a power loss keeps or loses together.
const SECTOR: usize = 512;

#[derive(Debug, Default, Clone)]
struct SimFile {
    /// Its current contents.
    now: Vec<u8>,
    /// Its contents on stable storage.
    stable: Vec<u8>,
    /// Writes since the last sync.
    writes: Vec<(usize, Vec<u8>)>,
}

impl SimFile {
    fn write(&mut self, at: usize, bytes: Vec<u8>) {
        put(&mut self.now, at, &bytes);
        self.writes.push((at, bytes));
    }

    fn sync(&mut self) {
        self.stable.clone_from(&self.now);
        self.writes.clear();
    }

    /// Applies a power loss.
    fn survive(&mut self, rng: &mut Rng) {
        let mut left = std::mem::take(&mut self.stable);
        for (at, bytes) in std::mem::take(&mut self.writes) {
            match rng.u8(..4) {
                0 => {}
                1 => put(&mut left, at, &bytes),
                _ => {
                    for (number, sector) in bytes.chunks(SECTOR).enumerate() {
                        if rng.bool() {
                            put(&mut left, at + number * SECTOR, sector);
                        }
                    }
                }
            }
        }
        self.now.clone_from(&left);
        self.stable = left;
    }
}

fn put(content: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    let end = at + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[at..end].copy_from_slice(bytes);
}

/// The disk and its queue of operations.
#[derive(Debug, Default)]
pub struct SimDisk {
    files: BTreeMap<FileName, SimFile>,
    /// Files whose names are on stable storage.
    named: BTreeSet<FileName>,
    /// Deleted, but not on stable storage.
    undead: BTreeMap<FileName, SimFile>,
    /// Written by recovery and not committed.
    drafts: Vec<(FileName, Vec<u8>)>,
    /// Operations by file, in order, each with its shard.
    waiting: BTreeMap<FileName, Vec<(u16, Op)>>,
    /// Files of which a write failed and was joined with the next operation, which fails too.
    joined: BTreeSet<FileName>,
    /// Writes fail: the disk is full.
    pub full: bool,
    /// One in so many operations fails, since its file cannot be opened; 0: none does.
    pub closed: u8,
    /// Syncs fail.
    pub broken: bool,
    /// One in so many reads is short or empty; 0: none is.
    pub short: usize,
    reads: usize,
    /// After so many operations of recovery the power is lost.
    pub fuse: Option<usize>,
}

impl SimDisk {
    /// Space and descriptors are available again.
    pub fn recover(&mut self) {
        (self.full, self.closed) = (false, 0);
    }

    pub fn hand(&mut self, shard: u16, op: Op) {
        self.waiting.entry(op.file).or_default().push((shard, op));
    }

    /// Carries out an operation. Returns its shard and result; `None` if there is none.
    pub fn step(&mut self, rng: &mut Rng) -> Option<(u16, Done)> {
        let at = rng.usize(..self.waiting.len().max(1));
        let mut name = *self.waiting.keys().nth(at)?;
        if let (shard, Op { work: Work::SyncAll, .. }) = &self.waiting[&name][0] {
            // It comes after all that its shard handed out before.
            let own = self.waiting.iter().filter(|(_, ops)| ops[0].0 == *shard);
            let oldest = own.min_by_key(|(_, ops)| ops[0].1.id);
            name = oldest.map_or(name, |(name, _)| *name);
        }
        let ops = self.waiting.get_mut(&name)?;
        let (shard, op) = ops.remove(0);
        if ops.is_empty() {
            self.waiting.remove(&name);
        }
        let id = op.id;
        let result = self.carry_out_together(op, rng);
        Some((shard, Done { id, result }))
    }

    /// Writes and syncs of a file may be joined; then they succeed or fail together.
    fn carry_out_together(&mut self, op: Op, rng: &mut Rng) -> Result<Bytes, DiskError> {
        let name = op.file;
        let joins = matches!(op.work, Work::Write { .. } | Work::Sync);
        let joined = self.joined.remove(&name) && joins;
        let opens = matches!(op.work, Work::Write { .. } | Work::Sync | Work::Read { .. });
        let result = if joined {
            Err(failure(Cause::NoSpace))
        } else if opens && self.closed > 0 && rng.u8(..self.closed) == 0 {
            Err(failure(Cause::NoDescriptor))
        } else {
            self.carry_out(name, op.work)
        };
        let full = joins && matches!(&result, Err(failure) if failure.may_retry());
        if full && self.waiting.contains_key(&name) && (joined || rng.bool()) {
            self.joined.insert(name);
        }
        result
    }

    fn carry_out(&mut self, name: FileName, work: Work) -> Result<Bytes, DiskError> {
        match work {
            Work::Write { .. } if self.full => return Err(failure(Cause::NoSpace)),
            Work::Write { create: false, .. } if !self.files.contains_key(&name) => {
                return Err(failure(Cause::NotFound));
            }
            Work::Write { at, pieces, sync, .. } => {
                let file = self.files.entry(name).or_default();
                file.write(at as usize, pieces.concat());
                if sync {
                    self.sync_file(name)?;
                }
            }
            Work::Sync => self.sync_file(name)?,
            Work::SyncAll => {
                let of_queue = |name: &FileName| matches!(name, FileName::Queue { .. });
                let names: Vec<_> = self.files.keys().copied().filter(of_queue).collect();
                names.into_iter().try_for_each(|name| self.sync_file(name))?;
            }
            Work::Read { at, len } => {
                let file = self.files.get(&name).ok_or_else(|| failure(Cause::NotFound))?;
                let from = (at as usize).min(file.now.len());
                let mut to = (from + len).min(file.now.len());
                self.reads += 1;
                if self.short > 0 && self.reads.is_multiple_of(self.short) {
                    to = from + (to - from) * (self.reads / self.short % 4) / 4;
                }
                return Ok(Bytes::copy_from_slice(&file.now[from..to]));
            }
            Work::Delete { sync } => {
                if let Some(file) = self.files.remove(&name) {
                    self.undead.insert(name, file);
                }
                if sync {
                    self.may_sync()?;
                    self.sync_names();
                }
            }
        }
        Ok(Bytes::new())
    }

    fn sync_file(&mut self, name: FileName) -> Result<(), DiskError> {
        self.may_sync()?;
        if let Some(file) = self.files.get_mut(&name) {
            file.sync();
            self.named.insert(name);
            self.undead.remove(&name);
        }
        Ok(())
    }

    fn may_sync(&self) -> Result<(), DiskError> {
        if self.broken { Err(failure(Cause::Other)) } else { Ok(()) }
    }

    fn sync_names(&mut self) {
        self.undead.clear();
        self.named = self.files.keys().copied().collect();
    }

    /// Kills the process: what the system has stays.
    pub fn kill(&mut self, rng: &mut Rng) {
        self.drafts.clear();
        self.joined.clear();
        for (name, ops) in std::mem::take(&mut self.waiting) {
            // The first of each file may be in flight: written and not synced.
            if let Some((_, Op { work: Work::Write { at, pieces, .. }, .. })) = ops.first()
                && rng.bool()
            {
                self.files.entry(name).or_default().write(*at as usize, pieces.concat());
            }
        }
    }

    /// Loses power.
    pub fn power_loss(&mut self, rng: &mut Rng) {
        self.kill(rng);
        for (name, file) in std::mem::take(&mut self.undead) {
            if self.named.contains(&name) && rng.bool() {
                self.files.entry(name).or_insert(file);
            }
        }
        let named = std::mem::take(&mut self.named);
        self.files.retain(|name, _| named.contains(name) || rng.bool());
        for file in self.files.values_mut() {
            file.survive(rng);
        }
        self.named = self.files.keys().copied().collect();
    }

    /// Changes one byte of a file.
    pub fn rot(&mut self, name: FileName, at: usize) {
        if let Some(byte) = self.files.get_mut(&name).and_then(|file| file.now.get_mut(at)) {
            *byte ^= 0x40;
        }
    }

    pub fn names(&self) -> impl Iterator<Item = (FileName, usize)> {
        self.files.iter().map(|(name, file)| (*name, file.now.len()))
    }

    fn burn(&mut self) -> Result<(), DiskError> {
        match &mut self.fuse {
            Some(0) => Err(failure(Cause::Other)),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

fn failure(cause: Cause) -> DiskError {
    DiskError { doing: "use the disk".to_owned(), why: "it refuses".to_owned(), cause }
}

impl Files for SimDisk {
    fn list(&mut self) -> Result<Vec<(FileName, u64)>, DiskError> {
        Ok(self.names().map(|(name, len)| (name, len as u64)).collect())
    }

    fn read(&mut self, name: FileName, at: u64, len: usize) -> Result<Bytes, DiskError> {
        self.carry_out(name, Work::Read { at, len })
    }

    fn write(&mut self, name: FileName, bytes: &[u8]) -> Result<(), DiskError> {
        self.burn()?;
        if self.full {
            return Err(failure(Cause::NoSpace));
        }
        self.drafts.push((name, bytes.to_vec()));
        Ok(())
    }

    fn commit(&mut self) -> Result<(), DiskError> {
        self.burn()?;
        for (name, bytes) in std::mem::take(&mut self.drafts) {
            let file = self.files.entry(name).or_default();
            file.now.clear();
            file.write(0, bytes);
            file.sync();
        }
        self.sync_folders()
    }

    fn sync(&mut self, names: &[FileName]) -> Result<(), DiskError> {
        self.burn()?;
        names.iter().try_for_each(|name| self.sync_file(*name))
    }

    fn sync_folders(&mut self) -> Result<(), DiskError> {
        self.burn()?;
        self.sync_names();
        Ok(())
    }

    fn delete(&mut self, name: FileName) -> Result<(), DiskError> {
        self.burn()?;
        self.carry_out(name, Work::Delete { sync: false }).map(drop)
    }
}
