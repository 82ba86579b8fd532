//! A folder in memory whose crashes lose what was not synced, as dice will have it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use fastrand::Rng;

use crate::store::meta::Folder;
use crate::store::op::Failure;

/// A file's octets, as read now and as synced.
#[derive(Debug, Clone, Default)]
struct File {
    now: Vec<u8>,
    synced: Vec<u8>,
}

/// What happened to a name and is not synced.
#[derive(Debug, Clone)]
enum Step {
    Made(String, usize),
    Renamed(String, String, usize),
    Removed(String),
}

#[derive(Debug, Default)]
struct Disk {
    files: Vec<File>,
    names: BTreeMap<String, usize>,
    synced: BTreeMap<String, usize>,
    steps: Vec<Step>,
    /// Operations until nothing works any more.
    left: Option<u64>,
    /// Octets that still fit.
    room: Option<usize>,
    /// Writes until there is room again.
    waits: u32,
    /// Syncs fail.
    broken: bool,
}

/// The folder; a clone is the same one.
#[derive(Debug, Clone, Default)]
pub struct Memory(Rc<RefCell<Disk>>);

impl Step {
    fn take(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Made(name, file) => {
                names.insert(name.clone(), *file);
            }
            Self::Renamed(from, to, file) => {
                names.remove(from);
                names.insert(to.clone(), *file);
            }
            Self::Removed(name) => {
                names.remove(name);
            }
        }
    }
}

impl File {
    /// What a crash leaves: of what was not synced nothing, all, a part, or octets never written.
    fn crash(&mut self, random: &mut Rng) {
        let kept = self.synced.iter().zip(&self.now).take_while(|(old, new)| old == new).count();
        let fresh = self.now.len().saturating_sub(kept);
        match random.u8(0..5) {
            0 => self.now.clone_from(&self.synced),
            1 => {}
            2 => self.now.truncate(kept + random.usize(0..=fresh)),
            3 => self.now[kept + random.usize(0..=fresh)..].fill(0),
            _ => {
                for octet in &mut self.now[kept..] {
                    *octet = if random.u8(0..8) == 0 { random.u8(..) } else { *octet };
                }
            }
        }
        self.synced.clone_from(&self.now);
    }
}

impl Memory {
    /// Nothing works any more after so many operations.
    pub fn ends_after(&self, operations: u64) {
        self.0.borrow_mut().left = Some(operations);
    }

    /// So many octets still fit; `None`: as many as there are.
    pub fn has_room(&self, octets: Option<usize>) {
        self.0.borrow_mut().room = octets;
    }

    /// So many writes find no room.
    pub fn is_full_for(&self, writes: u32) {
        self.0.borrow_mut().waits = writes;
    }

    /// Every sync fails from now on.
    pub fn breaks(&self) {
        self.0.borrow_mut().broken = true;
    }

    /// Everything works again.
    pub fn heals(&self) {
        let disk = &mut *self.0.borrow_mut();
        (disk.left, disk.broken, disk.waits) = (None, false, 0);
    }

    /// The machine lost its power and is up again.
    pub fn crash(&self, random: &mut Rng) {
        self.heals();
        let disk = &mut *self.0.borrow_mut();
        for step in std::mem::take(&mut disk.steps) {
            if random.bool() {
                step.take(&mut disk.synced);
            }
        }
        disk.names.clone_from(&disk.synced);
        disk.files.iter_mut().for_each(|file| file.crash(random));
    }

    /// A file that was there before, for good.
    pub fn put(&self, name: &str, octets: &[u8]) {
        let mut folder = self.clone();
        folder.write(name, 0, octets).unwrap();
        folder.sync(name).unwrap();
        folder.sync_folder().unwrap();
    }

    fn operate<T>(&self, work: impl FnOnce(&mut Disk) -> Result<T, Failure>) -> Result<T, Failure> {
        let disk = &mut *self.0.borrow_mut();
        if let Some(left) = &mut disk.left {
            *left = left.checked_sub(1).ok_or_else(|| failure(false))?;
        }
        work(disk)
    }
}

impl Disk {
    fn at(&mut self, name: &str) -> Result<&mut File, Failure> {
        let file = self.names.get(name).copied().ok_or_else(|| failure(false))?;
        Ok(&mut self.files[file])
    }

    fn step(&mut self, step: Step) {
        step.take(&mut self.names);
        self.steps.push(step);
    }
}

fn failure(full: bool) -> Failure {
    Failure { doing: "go on".to_owned(), why: "the test says so".to_owned(), full }
}

impl Folder for Memory {
    fn list(&mut self) -> Result<Vec<String>, Failure> {
        self.operate(|disk| Ok(disk.names.keys().cloned().collect()))
    }

    fn read(&mut self, name: &str) -> Result<Vec<u8>, Failure> {
        self.operate(|disk| Ok(disk.at(name)?.now.clone()))
    }

    fn write(&mut self, name: &str, at: u64, octets: &[u8]) -> Result<(), Failure> {
        self.operate(|disk| {
            if disk.waits > 0 {
                disk.waits -= 1;
                return Err(failure(true));
            }
            if !disk.names.contains_key(name) {
                disk.files.push(File::default());
                let file = disk.files.len() - 1;
                disk.step(Step::Made(name.to_owned(), file));
            }
            let fitting = disk.room.map_or(octets.len(), |room| room.min(octets.len()));
            disk.room = disk.room.map(|room| room - fitting);
            let file = disk.at(name)?;
            let at = at as usize;
            file.now.resize(file.now.len().max(at + fitting), 0);
            file.now[at..at + fitting].copy_from_slice(&octets[..fitting]);
            if fitting < octets.len() { Err(failure(true)) } else { Ok(()) }
        })
    }

    fn cut(&mut self, name: &str, len: u64) -> Result<(), Failure> {
        self.operate(|disk| {
            disk.at(name)?.now.truncate(len as usize);
            Ok(())
        })
    }

    fn sync(&mut self, name: &str) -> Result<(), Failure> {
        self.operate(|disk| {
            if disk.broken {
                return Err(failure(false));
            }
            let file = disk.at(name)?;
            file.synced.clone_from(&file.now);
            Ok(())
        })
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), Failure> {
        self.operate(|disk| {
            let file = disk.names.get(from).copied().ok_or_else(|| failure(false))?;
            disk.step(Step::Renamed(from.to_owned(), to.to_owned(), file));
            Ok(())
        })
    }

    fn remove(&mut self, name: &str) -> Result<(), Failure> {
        self.operate(|disk| {
            disk.step(Step::Removed(name.to_owned()));
            Ok(())
        })
    }

    fn sync_folder(&mut self) -> Result<(), Failure> {
        self.operate(|disk| {
            disk.synced.clone_from(&disk.names);
            disk.steps.clear();
            Ok(())
        })
    }

    fn path(&self, name: &str) -> String {
        format!("meta/{name}")
    }
}
