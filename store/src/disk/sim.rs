//! A disk in memory that can lose power, run full and fail. A test tool.
//!
//! Every file has the content that programs see (the page cache) and the content that would be found after a power cut.
//! [`SimDisk::crash`] goes on with the latter, plus any part of what was written since the last sync: each 512-byte
//! sector of each unsynced write may have arrived or not, in any order, and of the names made, renamed and removed in a
//! folder since its last sync a random number of the first ones remain. [`SimDisk::kill`] ends the process only: the page
//! cache stays, still unsynced. Both make all handles given out before useless, as the process that had them is gone.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};

use super::{Disk, DiskFile, DiskLock, Open};

/// What arrives or is lost as a whole when a write is torn, in bytes.
pub const SECTOR: usize = 512;

/// A disk in memory. Clones are the same disk.
#[derive(Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

struct State {
    rng: StdRng,
    /// Goes up with each crash, so that handles of the dead process are told apart.
    epoch: u64,
    inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
    dirs: BTreeMap<String, Dir>,
    locks: BTreeSet<String>,
    faults: Faults,
    counts: Counts,
}

#[derive(Default)]
struct Faults {
    /// Further operations that succeed before the power goes.
    power: Option<u64>,
    /// Further syncs that succeed before one fails.
    sync: Option<u64>,
    /// Likewise, but all later ones fail too.
    sync_for_good: bool,
    /// Bytes by which files can still grow.
    room: Option<u64>,
    /// Writing over what is there takes room too, as in a copy-on-write file system.
    copy_on_write: bool,
    /// Reads of files whose name begins so fail.
    read: Option<String>,
}

/// How often the disk was asked to do what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Operations that change something or sync: those that [`SimDisk::fail_power_after`] counts.
    pub changes: u64,
    /// Writes.
    pub writes: u64,
    /// Syncs of files.
    pub syncs: u64,
    /// Syncs of folders.
    pub dir_syncs: u64,
}

#[derive(Clone, Default)]
struct Dir {
    names: BTreeMap<String, u64>,
    durable: BTreeMap<String, u64>,
    /// What was done since the last sync, in order.
    pending: Vec<NameChange>,
    /// The folder itself was made and the one above it not synced since.
    fresh: bool,
}

#[derive(Clone)]
enum NameChange {
    Set(String, u64),
    Rename(String, String),
    Remove(String),
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, u64>) {
        match self {
            Self::Set(name, inode) => {
                names.insert(name.clone(), *inode);
            }
            Self::Rename(from, to) => {
                if let Some(inode) = names.remove(from) {
                    names.insert(to.clone(), inode);
                }
            }
            Self::Remove(name) => {
                names.remove(name);
            }
        }
    }
}

#[derive(Default)]
struct Inode {
    seen: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
    handles: usize,
}

enum Change {
    Write(usize, Vec<u8>),
    Size(usize),
}

impl Inode {
    /// What the platter has after a power cut: everything, nothing, the first part, or any sectors of what was pending.
    fn survive(&mut self, rng: &mut impl Rng) {
        let mut content = std::mem::take(&mut self.durable);
        let pending = std::mem::take(&mut self.pending);
        let mood = rng.random_range(0..4_u32);
        let kept = rng.random_range(0..=pending.len());
        for (number, change) in pending.into_iter().enumerate() {
            let whole = match mood {
                0 => Some(true),
                1 => Some(false),
                2 => Some(number < kept),
                _ => None,
            };
            match change {
                Change::Size(size) => {
                    if whole.unwrap_or_else(|| rng.random()) {
                        content.resize(size, 0);
                    }
                }
                Change::Write(offset, bytes) => {
                    let mut at = offset;
                    let mut rest = bytes.as_slice();
                    while !rest.is_empty() {
                        let (sector, after) = rest.split_at(rest.len().min(SECTOR - at % SECTOR));
                        if whole.unwrap_or_else(|| rng.random()) {
                            put(&mut content, at, sector);
                        }
                        at += sector.len();
                        rest = after;
                    }
                }
            }
        }
        self.seen.clone_from(&content);
        self.durable = content;
    }
}

fn put(content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    if let Some(place) = content.get_mut(offset..end) {
        place.copy_from_slice(bytes);
    }
}

fn gone() -> io::Error {
    io::Error::other("the simulated power is off")
}

fn no_room() -> io::Error {
    io::ErrorKind::StorageFull.into()
}

fn not_found(name: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::NotFound,
        format!("{name}: no such file or folder"),
    )
}

fn split(name: &str) -> (&str, &str) {
    name.rsplit_once('/').unwrap_or(("", name))
}

impl State {
    /// Counts a change; fails when the power is off.
    fn change(&mut self, epoch: u64) -> io::Result<()> {
        self.alive(epoch)?;
        if let Some(left) = &mut self.faults.power {
            if *left == 0 {
                return Err(gone());
            }
            *left -= 1;
        }
        self.counts.changes += 1;
        Ok(())
    }

    fn alive(&self, epoch: u64) -> io::Result<()> {
        if epoch == self.epoch && self.faults.power != Some(0) {
            Ok(())
        } else {
            Err(gone())
        }
    }

    /// Whether this sync is one that fails.
    fn sync_fails(&mut self) -> bool {
        match &mut self.faults.sync {
            None => false,
            Some(0) => {
                if !self.faults.sync_for_good {
                    self.faults.sync = None;
                }
                true
            }
            Some(left) => {
                *left -= 1;
                false
            }
        }
    }

    fn dir(&mut self, name: &str) -> io::Result<&mut Dir> {
        self.dirs.get_mut(name).ok_or_else(|| not_found(name))
    }

    fn inode(&mut self, number: u64) -> io::Result<&mut Inode> {
        self.inodes.get_mut(&number).ok_or_else(gone)
    }

    /// Forgets files that have neither a name nor a handle.
    fn collect(&mut self) {
        let named: BTreeSet<u64> = self
            .dirs
            .values()
            .flat_map(|dir| {
                let pending = dir.pending.iter().filter_map(|change| match change {
                    NameChange::Set(_, inode) => Some(*inode),
                    _ => None,
                });
                dir.names
                    .values()
                    .copied()
                    .chain(dir.durable.values().copied())
                    .chain(pending)
            })
            .collect();
        self.inodes
            .retain(|number, inode| inode.handles > 0 || named.contains(number));
    }

    fn restart(&mut self) {
        self.epoch += 1;
        self.locks.clear();
        self.faults = Faults {
            room: self.faults.room,
            copy_on_write: self.faults.copy_on_write,
            ..Faults::default()
        };
        for inode in self.inodes.values_mut() {
            inode.handles = 0;
        }
        self.collect();
    }
}

impl SimDisk {
    /// An empty disk. What is random about it follows from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            state: Arc::new(Mutex::new(State {
                rng: StdRng::seed_from_u64(seed),
                epoch: 0,
                inodes: BTreeMap::new(),
                next_inode: 0,
                dirs: BTreeMap::from([(String::new(), Dir::default())]),
                locks: BTreeSet::new(),
                faults: Faults::default(),
                counts: Counts::default(),
            })),
        }
    }

    /// The same disk as an object.
    #[must_use]
    pub fn disk(&self) -> Arc<dyn Disk> {
        Arc::new(self.clone())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cuts the power and puts it back on: what was not synced is lost, kept or torn at random. Ends all injected
    /// faults except a full disk.
    pub fn crash(&self) {
        let state = &mut *self.state();
        for inode in state.inodes.values_mut() {
            inode.survive(&mut state.rng);
        }
        let mut lost = Vec::new();
        for (name, dir) in &mut state.dirs {
            let kept = state.rng.random_range(0..=dir.pending.len());
            for change in dir.pending.drain(..).take(kept) {
                change.apply(&mut dir.durable);
            }
            dir.names = dir.durable.clone();
            if std::mem::take(&mut dir.fresh) && state.rng.random() {
                lost.push(name.clone());
            }
        }
        for name in lost {
            state
                .dirs
                .retain(|dir, _| *dir != name && !dir.starts_with(&format!("{name}/")));
        }
        state.restart();
    }

    /// Ends the process with `kill -9`: all that was written stays visible, but what was not synced is still not safe.
    /// Ends all injected faults except a full disk.
    pub fn kill(&self) {
        self.state().restart();
    }

    /// Lets `changes` further writes, syncs, renames and so on succeed, then fails every operation until
    /// [`crash`](Self::crash) or [`kill`](Self::kill).
    pub fn fail_power_after(&self, changes: u64) {
        self.state().faults.power = Some(changes);
    }

    /// Lets `syncs` further syncs of files succeed, then fails one. Its bytes stay visible but may never reach the disk,
    /// and a later sync says that all is well, as Linux does.
    pub fn fail_sync_after(&self, syncs: u64) {
        let faults = &mut self.state().faults;
        faults.sync = Some(syncs);
        faults.sync_for_good = false;
    }

    /// As [`fail_sync_after`](Self::fail_sync_after), but all later syncs fail too.
    pub fn fail_syncs_from(&self, syncs: u64) {
        let faults = &mut self.state().faults;
        faults.sync = Some(syncs);
        faults.sync_for_good = true;
    }

    /// Files can grow by this many bytes together before the disk is full; None: without end. A removed file gives its
    /// room back.
    pub fn set_room(&self, bytes: Option<u64>) {
        self.state().faults.room = bytes;
    }

    /// Whether writing over what is there takes room too.
    pub fn set_copy_on_write(&self, on: bool) {
        self.state().faults.copy_on_write = on;
    }

    /// Fails reads of the files whose names begin with `prefix`.
    pub fn fail_reads(&self, prefix: Option<&str>) {
        self.state().faults.read = prefix.map(str::to_owned);
    }

    /// How often the disk was used so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.state().counts
    }

    /// The content of a file as programs see it; None if there is none.
    #[must_use]
    pub fn content(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.state();
        let (dir, file) = split(name);
        let inode = state.dirs.get(dir)?.names.get(file)?;
        Some(state.inodes.get(inode)?.seen.clone())
    }

    /// Makes a file with this content, synced, as if it had always been there; its folder too.
    pub fn set_content(&self, name: &str, content: &[u8]) {
        let state = &mut *self.state();
        let (dir, file) = split(name);
        let dir = state.dirs.entry(dir.to_owned()).or_default();
        let inode = *dir.names.get(file).unwrap_or(&state.next_inode);
        if inode == state.next_inode {
            state.next_inode += 1;
        }
        dir.names.insert(file.to_owned(), inode);
        dir.durable.insert(file.to_owned(), inode);
        let inode = state.inodes.entry(inode).or_default();
        inode.seen = content.to_vec();
        inode.durable = content.to_vec();
        inode.pending.clear();
    }
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimDisk")
            .field("counts", &self.counts())
            .finish_non_exhaustive()
    }
}

impl Disk for SimDisk {
    fn open(&self, name: &str, open: Open) -> io::Result<Box<dyn DiskFile>> {
        let state = &mut *self.state();
        let epoch = state.epoch;
        state.alive(epoch)?;
        let (dir, file) = split(name);
        let found = state.dir(dir)?.names.get(file).copied();
        let inode = match (found, open) {
            (Some(_), Open::New) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Some(inode), _) => inode,
            (None, Open::Existing) => return Err(not_found(name)),
            (None, _) => {
                state.change(epoch)?;
                let inode = state.next_inode;
                state.next_inode += 1;
                state.inodes.insert(inode, Inode::default());
                let dir = state.dir(dir)?;
                dir.names.insert(file.to_owned(), inode);
                dir.pending.push(NameChange::Set(file.to_owned(), inode));
                inode
            }
        };
        state.inode(inode)?.handles += 1;
        Ok(Box::new(SimFile {
            disk: self.clone(),
            name: name.to_owned(),
            inode,
            epoch,
        }))
    }

    fn create_dir(&self, name: &str) -> io::Result<()> {
        let state = &mut *self.state();
        let epoch = state.epoch;
        state.change(epoch)?;
        state.dir(split(name).0)?;
        state.dirs.entry(name.to_owned()).or_insert_with(|| Dir {
            fresh: true,
            ..Dir::default()
        });
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let state = &mut *self.state();
        let epoch = state.epoch;
        state.change(epoch)?;
        let ((dir, from), (other, to)) = (split(from), split(to));
        if dir != other {
            return Err(io::ErrorKind::CrossesDevices.into());
        }
        let dir = state.dir(dir)?;
        if !dir.names.contains_key(from) {
            return Err(not_found(from));
        }
        let change = NameChange::Rename(from.to_owned(), to.to_owned());
        change.apply(&mut dir.names);
        dir.pending.push(change);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let state = &mut *self.state();
        let epoch = state.epoch;
        state.change(epoch)?;
        let (dir, file) = split(name);
        let dir = state.dir(dir)?;
        let inode = *dir.names.get(file).ok_or_else(|| not_found(name))?;
        let change = NameChange::Remove(file.to_owned());
        change.apply(&mut dir.names);
        dir.pending.push(change);
        let size = state.inode(inode)?.seen.len() as u64;
        if let Some(room) = &mut state.faults.room {
            *room += size;
        }
        state.collect();
        Ok(())
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let state = &mut *self.state();
        let epoch = state.epoch;
        state.alive(epoch)?;
        let mut names: Vec<String> = state.dir(dir)?.names.keys().cloned().collect();
        let below = state
            .dirs
            .keys()
            .filter(|name| !name.is_empty() && split(name).0 == dir);
        names.extend(below.map(|name| split(name).1.to_owned()));
        names.sort_unstable();
        Ok(names)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        let state = &mut *self.state();
        let epoch = state.epoch;
        state.change(epoch)?;
        state.counts.dir_syncs += 1;
        let synced = state.dir(dir)?;
        synced.durable = synced.names.clone();
        synced.pending.clear();
        for (name, below) in &mut state.dirs {
            if !name.is_empty() && split(name).0 == dir {
                below.fresh = false;
            }
        }
        state.collect();
        Ok(())
    }

    fn free(&self) -> io::Result<u64> {
        let state = self.state();
        state.alive(state.epoch)?;
        Ok(state.faults.room.unwrap_or(u64::MAX))
    }

    fn lock(&self, name: &str) -> io::Result<Option<Box<dyn DiskLock>>> {
        let state = &mut *self.state();
        let epoch = state.epoch;
        state.alive(epoch)?;
        if !state.locks.insert(name.to_owned()) {
            return Ok(None);
        }
        Ok(Some(Box::new(SimLock {
            disk: self.clone(),
            name: name.to_owned(),
            epoch,
        })))
    }
}

#[derive(Debug)]
struct SimLock {
    disk: SimDisk,
    name: String,
    epoch: u64,
}

impl DiskLock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if state.epoch == self.epoch {
            state.locks.remove(&self.name);
        }
    }
}

struct SimFile {
    disk: SimDisk,
    name: String,
    inode: u64,
    epoch: u64,
}

impl fmt::Debug for SimFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SimFile").field(&self.name).finish()
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if state.epoch == self.epoch
            && let Ok(inode) = state.inode(self.inode)
        {
            inode.handles -= 1;
            if inode.handles == 0 {
                state.collect();
            }
        }
    }
}

fn index(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput.into())
}

impl SimFile {
    fn sync(&self) -> io::Result<()> {
        let state = &mut *self.disk.state();
        state.change(self.epoch)?;
        state.counts.syncs += 1;
        let fails = state.sync_fails();
        let mut rng = StdRng::from_rng(&mut state.rng);
        let inode = state.inode(self.inode)?;
        if fails {
            let seen = inode.seen.clone();
            inode.survive(&mut rng);
            inode.seen = seen;
            return Err(io::Error::other("simulated failure of a sync"));
        }
        // What an earlier failed sync dropped stays dropped, so the pending changes are applied, not the view copied.
        for change in std::mem::take(&mut inode.pending) {
            match change {
                Change::Size(size) => inode.durable.resize(size, 0),
                Change::Write(offset, bytes) => put(&mut inode.durable, offset, &bytes),
            }
        }
        Ok(())
    }
}

impl DiskFile for SimFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let state = &mut *self.disk.state();
        state.alive(self.epoch)?;
        if state
            .faults
            .read
            .as_deref()
            .is_some_and(|prefix| self.name.starts_with(prefix))
        {
            return Err(io::Error::other("simulated failure of a read"));
        }
        let start = index(offset)?;
        let inode = state.inode(self.inode)?;
        let bytes = start
            .checked_add(buf.len())
            .and_then(|end| inode.seen.get(start..end))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        buf.copy_from_slice(bytes);
        Ok(())
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let state = &mut *self.disk.state();
        state.change(self.epoch)?;
        state.counts.writes += 1;
        let offset = index(offset)?;
        let end = offset
            .checked_add(buf.len())
            .ok_or(io::ErrorKind::FileTooLarge)?;
        let copy_on_write = state.faults.copy_on_write;
        let mut room = state.faults.room;
        let inode = state.inode(self.inode)?;
        let needed = if copy_on_write {
            buf.len()
        } else {
            end.saturating_sub(inode.seen.len())
        };
        let mut bytes = buf;
        let mut short = false;
        if let Some(room) = &mut room {
            let needed = needed as u64;
            if needed > *room {
                // As a real file system, it writes what there is room for, then fails.
                let cut = index(needed - *room)?.min(bytes.len());
                bytes = bytes.get(..bytes.len() - cut).unwrap_or_default();
                *room = 0;
                short = true;
            } else {
                *room -= needed;
            }
        }
        if !bytes.is_empty() {
            put(&mut inode.seen, offset, bytes);
            inode.pending.push(Change::Write(offset, bytes.to_vec()));
        }
        state.faults.room = room;
        if short { Err(no_room()) } else { Ok(()) }
    }

    fn size(&self) -> io::Result<u64> {
        let state = &mut *self.disk.state();
        state.alive(self.epoch)?;
        Ok(state.inode(self.inode)?.seen.len() as u64)
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        let state = &mut *self.disk.state();
        state.change(self.epoch)?;
        let size = index(size)?;
        let inode = state.inode(self.inode)?;
        let before = inode.seen.len();
        inode.seen.resize(size, 0);
        inode.pending.push(Change::Size(size));
        // Lengthening makes a hole, which takes no room before it is written.
        if let Some(room) = &mut state.faults.room {
            *room += before.saturating_sub(size) as u64;
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync()
    }
}
