//! A disk that does its worst: what was not synced is lost, torn or there in any combination.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use fastrand::Rng;

use crate::store::op::{Done, Failure, FileName, Files, Op, Work};

/// What a power loss tears.
const SECTOR: usize = 512;

#[derive(Debug, Default, Clone)]
struct File {
    /// As a reader sees it.
    now: Vec<u8>,
    /// As it is on stable storage.
    stable: Vec<u8>,
    /// Writes since the last sync.
    writes: Vec<(usize, Vec<u8>)>,
}

impl File {
    fn write(&mut self, at: usize, octets: &[u8]) {
        put(&mut self.now, at, octets);
        self.writes.push((at, octets.to_vec()));
    }

    fn sync(&mut self) {
        self.stable.clone_from(&self.now);
        self.writes.clear();
    }

    /// What a power loss leaves of it.
    fn survive(&mut self, rng: &mut Rng) {
        let mut left = std::mem::take(&mut self.stable);
        for (at, octets) in std::mem::take(&mut self.writes) {
            match rng.u8(..4) {
                0 => {}
                1 => put(&mut left, at, &octets),
                _ => {
                    for (number, sector) in octets.chunks(SECTOR).enumerate() {
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

fn put(content: &mut Vec<u8>, at: usize, octets: &[u8]) {
    let end = at + octets.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[at..end].copy_from_slice(octets);
}

/// The disk, and the operations that wait for it.
#[derive(Debug, Default)]
pub struct Disk {
    files: BTreeMap<FileName, File>,
    /// Files whose names are on stable storage.
    named: BTreeSet<FileName>,
    /// Deleted, but not on stable storage.
    undead: BTreeMap<FileName, File>,
    /// Written by recovery and not there yet.
    drafts: Vec<(FileName, Vec<u8>)>,
    /// By file, in order, each with the shard that asked.
    waiting: BTreeMap<FileName, Vec<(u16, Op)>>,
    /// Files of which a write has failed for want of room, and what waits behind it was part of it.
    joined: BTreeSet<FileName>,
    /// Writes fail: there is no room.
    pub full: bool,
    /// Syncs fail.
    pub broken: bool,
    /// Every so manieth read brings fewer octets than there are, or none; 0: none does.
    pub short: usize,
    reads: usize,
    /// In so many operations of recovery the power goes.
    pub fuse: Option<usize>,
}

impl Disk {
    pub fn hand(&mut self, shard: u16, op: Op) {
        self.waiting.entry(op.file).or_default().push((shard, op));
    }

    /// Carries an operation out, and says whose it was; `None` if there is none.
    pub fn step(&mut self, rng: &mut Rng) -> Option<(u16, Done)> {
        let at = rng.usize(..self.waiting.len().max(1));
        let mut name = *self.waiting.keys().nth(at)?;
        if let (shard, Op { work: Work::SyncAll, .. }) = &self.waiting[&name][0] {
            // It waits for all that its shard has handed out before.
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

    /// Writes and syncs of a file that wait for it together may be one, done or not.
    fn carry_out_together(&mut self, op: Op, rng: &mut Rng) -> Result<Bytes, Failure> {
        let name = op.file;
        let joins = matches!(op.work, Work::Write { .. } | Work::Sync);
        let joined = self.joined.remove(&name) && joins;
        let result = if joined { Err(failure(true)) } else { self.carry_out(name, op.work) };
        let full = matches!(&result, Err(failure) if failure.full);
        if full && self.waiting.contains_key(&name) && (joined || rng.bool()) {
            self.joined.insert(name);
        }
        result
    }

    fn carry_out(&mut self, name: FileName, work: Work) -> Result<Bytes, Failure> {
        match work {
            Work::Write { .. } if self.full => return Err(failure(true)),
            Work::Write { at, pieces, sync, .. } => {
                let file = self.files.entry(name).or_default();
                file.write(at as usize, &pieces.concat());
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
                let file = self.files.get(&name).ok_or_else(|| failure(false))?;
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

    fn sync_file(&mut self, name: FileName) -> Result<(), Failure> {
        self.may_sync()?;
        if let Some(file) = self.files.get_mut(&name) {
            file.sync();
            self.named.insert(name);
            self.undead.remove(&name);
        }
        Ok(())
    }

    fn may_sync(&self) -> Result<(), Failure> {
        if self.broken { Err(failure(false)) } else { Ok(()) }
    }

    fn sync_names(&mut self) {
        self.undead.clear();
        self.named = self.files.keys().copied().collect();
    }

    /// The process dies; what was handed to the system stays.
    pub fn kill(&mut self, rng: &mut Rng) {
        self.drafts.clear();
        self.joined.clear();
        for (name, ops) in std::mem::take(&mut self.waiting) {
            // The first of each file may be under way: it is written and not synced.
            if let Some((_, Op { work: Work::Write { at, pieces, .. }, .. })) = ops.first()
                && rng.bool()
            {
                self.files.entry(name).or_default().write(*at as usize, &pieces.concat());
            }
        }
    }

    /// The power goes.
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

    /// One octet of a file changes.
    pub fn rot(&mut self, name: FileName, at: usize) {
        if let Some(octet) = self.files.get_mut(&name).and_then(|file| file.now.get_mut(at)) {
            *octet ^= 0x40;
        }
    }

    pub fn names(&self) -> impl Iterator<Item = (FileName, usize)> {
        self.files.iter().map(|(name, file)| (*name, file.now.len()))
    }

    fn burn(&mut self) -> Result<(), Failure> {
        match &mut self.fuse {
            Some(0) => Err(failure(false)),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

fn failure(full: bool) -> Failure {
    Failure { doing: "use the disk".to_owned(), why: "it refuses".to_owned(), full }
}

impl Files for Disk {
    fn list(&mut self) -> Result<Vec<(FileName, u64)>, Failure> {
        Ok(self.names().map(|(name, len)| (name, len as u64)).collect())
    }

    fn read(&mut self, name: FileName, at: u64, len: usize) -> Result<Bytes, Failure> {
        self.carry_out(name, Work::Read { at, len })
    }

    fn write(&mut self, name: FileName, octets: &[u8]) -> Result<(), Failure> {
        self.burn()?;
        if self.full {
            return Err(failure(true));
        }
        self.drafts.push((name, octets.to_vec()));
        Ok(())
    }

    fn commit(&mut self) -> Result<(), Failure> {
        self.burn()?;
        for (name, octets) in std::mem::take(&mut self.drafts) {
            let file = self.files.entry(name).or_default();
            file.now.clear();
            file.write(0, &octets);
            file.sync();
        }
        self.sync_folders()
    }

    fn sync(&mut self, names: &[FileName]) -> Result<(), Failure> {
        self.burn()?;
        names.iter().try_for_each(|name| self.sync_file(*name))
    }

    fn sync_folders(&mut self) -> Result<(), Failure> {
        self.burn()?;
        self.sync_names();
        Ok(())
    }

    fn delete(&mut self, name: FileName) -> Result<(), Failure> {
        self.burn()?;
        self.carry_out(name, Work::Delete { sync: false }).map(drop)
    }
}
