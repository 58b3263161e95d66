//! A disk in memory that can lose power, run full and fail. It is a test tool.
//!
//! Every file has two contents: the content that programs see (the page cache), and the content
//! that is safe. After [`SimDisk::crash`] a file has the safe content and a random part of the
//! unsynced changes. Each 512-byte sector of each unsynced write may have arrived or not, in any
//! order. Each change of a name in a folder since its last sync may have arrived or not, too.
//! [`SimDisk::kill`] ends the process only. The page cache stays, still unsynced. Both
//! make all earlier handles useless, because their process is gone.

mod content;
mod file;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{Disk, DiskFile, DiskLock, Open};
use content::{Dir, Inode, NameChange};
use file::SimFile;

/// The bytes that arrive or are lost as a whole when a write is torn.
pub const SECTOR: usize = 512;

/// A disk in memory. Clones are the same disk.
#[derive(Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

struct State {
    rng: StdRng,
    /// Goes up with each crash. A handle of an earlier epoch belongs to a dead process.
    epoch: u64,
    inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
    dirs: BTreeMap<String, Dir>,
    locks: BTreeSet<String>,
    /// The number of open handles.
    handles: usize,
    faults: Faults,
    counts: Counts,
}

/// The faults that a test has injected.
#[derive(Default)]
struct Faults {
    /// The number of further operations that succeed before the power fails.
    power: Option<u64>,
    /// The number of further syncs that succeed before one fails.
    sync: Option<u64>,
    /// Whether all syncs after that one fail too.
    sync_for_good: bool,
    /// The bytes by which files can still grow.
    space: Option<u64>,
    /// Whether writing over existing bytes takes space too, as in a copy-on-write file system.
    copy_on_write: bool,
    /// Reads of files whose names begin with this fail.
    read: Option<String>,
    /// The calls that count, and the number of further ones that succeed before one fails.
    call: Option<(Calls, u64)>,
    /// Calls neither count nor fail.
    call_paused: bool,
    /// The most handles that may be open at once.
    handles: Option<usize>,
}

/// Calls of the disk, for [`SimDisk::fail_call_after`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Calls {
    /// Each call that can fail.
    All,
    /// Opens of files, and looks at folders.
    Open,
    /// Reads of files.
    Read,
    /// Writes and new lengths.
    Write,
    /// Syncs of files.
    Sync,
    /// New folders, renamed files and removed files.
    Name,
    /// Syncs of folders.
    SyncDir,
}

/// The number of operations of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Operations that change something or sync. [`SimDisk::fail_power_after`] counts these.
    pub changes: u64,
    /// Writes.
    pub writes: u64,
    /// Syncs of files.
    pub syncs: u64,
    /// Syncs of folders.
    pub dir_syncs: u64,
    /// Calls that can fail. [`SimDisk::fail_call_after`] counts these.
    pub calls: u64,
    /// These calls by their kind: `calls_of[Calls::Read as usize]` are the reads.
    pub calls_of: [u64; 7],
    /// The most handles that were open at once.
    pub most_handles: usize,
    /// Reads by the thread that makes all changes of a store.
    pub reads_of_writer: u64,
}

/// The name of the thread whose reads are counted.
const WRITER: &str = "store-writer";

fn gone() -> io::Error {
    io::Error::other("the simulated power is off")
}

/// `EIO`.
fn broken() -> io::Error {
    io::Error::from_raw_os_error(5)
}

fn full() -> io::Error {
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
    /// Counts a change. Fails when the power is off.
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

    /// Fails when the power is off or the caller's process is dead.
    fn alive(&self, epoch: u64) -> io::Result<()> {
        if epoch == self.epoch && self.faults.power != Some(0) {
            Ok(())
        } else {
            Err(gone())
        }
    }

    /// Counts a call. Whether it fails.
    fn call_fails(&mut self, kind: Calls) -> bool {
        if self.faults.call_paused {
            return false;
        }
        self.counts.calls += 1;
        if let Some(calls) = self.counts.calls_of.get_mut(kind as usize) {
            *calls += 1;
        }
        match &mut self.faults.call {
            Some((calls, left)) if *calls == Calls::All || *calls == kind => {
                if *left == 0 {
                    self.faults.call = None;
                    return true;
                }
                *left -= 1;
                false
            }
            _ => false,
        }
    }

    /// Counts a call that leaves no trace when it fails.
    fn call(&mut self, kind: Calls) -> io::Result<()> {
        if self.call_fails(kind) {
            Err(broken())
        } else {
            Ok(())
        }
    }

    /// Whether the next sync fails.
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

    /// Whether a file has a name, or had one that a power cut may bring back.
    fn is_named(&self, inode: u64) -> bool {
        self.dirs.values().any(|dir| {
            dir.names.values().any(|named| *named == inode)
                || dir.durable.values().any(|named| *named == inode)
                || dir.pending.iter().any(|change| change.inode() == inode)
        })
    }

    /// Forgets files that have neither a name nor a handle.
    fn collect(&mut self) {
        let named: BTreeSet<u64> = self
            .dirs
            .values()
            .flat_map(|dir| {
                let pending = dir.pending.iter().filter_map(|change| match change {
                    NameChange::Remove(..) => None,
                    change => Some(change.inode()),
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

    /// Ends the process. Ends all faults but a full disk.
    fn restart(&mut self) {
        self.epoch += 1;
        self.locks.clear();
        self.faults = Faults {
            space: self.faults.space,
            copy_on_write: self.faults.copy_on_write,
            handles: self.faults.handles,
            ..Faults::default()
        };
        for inode in self.inodes.values_mut() {
            inode.handles = 0;
        }
        self.handles = 0;
        self.collect();
    }
}

impl SimDisk {
    /// An empty disk. All its randomness follows from `seed`.
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
                handles: 0,
                faults: Faults::default(),
                counts: Counts::default(),
            })),
        }
    }

    /// The same disk as a trait object.
    #[must_use]
    pub fn disk(&self) -> Arc<dyn Disk> {
        Arc::new(self.clone())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cuts the power and puts it on again. Unsynced changes are lost, kept or torn at random. Ends
    /// all injected faults except a full disk.
    pub fn crash(&self) {
        let state = &mut *self.state();
        for inode in state.inodes.values_mut() {
            inode.survive(&mut state.rng);
        }
        let mut lost = Vec::new();
        for (name, dir) in &mut state.dirs {
            dir.settle_some(&mut state.rng);
            dir.pending.clear();
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

    /// Ends the process as `kill -9` does. All written bytes stay visible. Unsynced bytes are still
    /// not safe. Ends all injected faults except a full disk.
    pub fn kill(&self) {
        self.state().restart();
    }

    /// Lets `changes` further changes (writes, syncs, renames and so on) succeed. Then every
    /// operation fails until [`crash`](Self::crash) or [`kill`](Self::kill).
    pub fn fail_power_after(&self, changes: u64) {
        self.state().faults.power = Some(changes);
    }

    /// Lets `syncs` further syncs of files succeed, then fails one. Its bytes stay visible but may
    /// never reach the disk. A later sync succeeds nevertheless, as on Linux.
    pub fn fail_sync_after(&self, syncs: u64) {
        let faults = &mut self.state().faults;
        faults.sync = Some(syncs);
        faults.sync_for_good = false;
    }

    /// Does the same as [`fail_sync_after`](Self::fail_sync_after), but all later syncs fail too.
    pub fn fail_syncs_from(&self, syncs: u64) {
        let faults = &mut self.state().faults;
        faults.sync = Some(syncs);
        faults.sync_for_good = true;
    }

    /// Sets the free space: the bytes by which all files together can grow. None means no limit. A
    /// removed file gives its space back.
    pub fn set_space(&self, bytes: Option<u64>) {
        self.state().faults.space = bytes;
    }

    /// Sets whether writing over existing bytes takes space too.
    pub fn set_copy_on_write(&self, on: bool) {
        self.state().faults.copy_on_write = on;
    }

    /// Fails reads of the files whose names begin with `prefix`.
    pub fn fail_reads(&self, prefix: Option<&str>) {
        self.state().faults.read = prefix.map(str::to_owned);
    }

    /// Lets `calls` further calls of this kind succeed, then fails one with `EIO`. A write may have
    /// arrived in part then, a name may have changed, and a sync may have saved a part. Later calls
    /// succeed.
    pub fn fail_call_after(&self, kind: Calls, calls: u64) {
        self.state().faults.call = Some((kind, calls));
    }

    /// While this is on, calls neither count nor fail because of
    /// [`fail_call_after`](Self::fail_call_after). So a test can look at what is there.
    pub fn pause_calls(&self, on: bool) {
        self.state().faults.call_paused = on;
    }

    /// Sets how many handles may be open at once. More fail with `EMFILE`. None means no limit.
    pub fn limit_handles(&self, handles: Option<usize>) {
        self.state().faults.handles = handles;
    }

    /// The number of operations so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.state().counts
    }

    /// The content of a file as programs see it. None if there is no such file.
    #[must_use]
    pub fn content(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.state();
        let (dir, file) = split(name);
        let inode = state.dirs.get(dir)?.names.get(file)?;
        Some(state.inodes.get(inode)?.seen.clone())
    }

    /// Makes a file with this content, and its folder. Both are synced.
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
        state.call(Calls::Open)?;
        if state
            .faults
            .handles
            .is_some_and(|most| state.handles >= most)
        {
            return Err(io::Error::from_raw_os_error(24)); // EMFILE
        }
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
        state.handles += 1;
        state.counts.most_handles = state.counts.most_handles.max(state.handles);
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
        state.call(Calls::Name)?;
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
        let fails = state.call_fails(Calls::Name);
        if fails && state.rng.random() {
            return Err(broken());
        }
        let dir = state.dir(dir)?;
        let inode = *dir.names.get(from).ok_or_else(|| not_found(from))?;
        let change = NameChange::Rename(from.to_owned(), to.to_owned(), inode);
        change.apply(&mut dir.names);
        dir.pending.push(change);
        if fails { Err(broken()) } else { Ok(()) }
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let state = &mut *self.state();
        let epoch = state.epoch;
        state.change(epoch)?;
        let fails = state.call_fails(Calls::Name);
        if fails && state.rng.random() {
            return Err(broken());
        }
        let (dir, file) = split(name);
        let dir = state.dir(dir)?;
        let inode = *dir.names.get(file).ok_or_else(|| not_found(name))?;
        let change = NameChange::Remove(file.to_owned(), inode);
        change.apply(&mut dir.names);
        dir.pending.push(change);
        let size = state.inode(inode)?.seen.len() as u64;
        if let Some(space) = &mut state.faults.space {
            *space += size;
        }
        // Its content goes when the folder is synced: a power cut may bring the name back.
        if fails { Err(broken()) } else { Ok(()) }
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let state = &mut *self.state();
        let epoch = state.epoch;
        state.alive(epoch)?;
        state.call(Calls::Open)?;
        let mut names: Vec<String> = state.dir(dir)?.names.keys().cloned().collect();
        let prefix = match dir {
            "" => String::new(),
            dir => format!("{dir}/"),
        };
        let below = state.dirs.range(prefix.clone()..);
        let below = below
            .map(|(name, _)| name)
            .take_while(|name| name.starts_with(&prefix));
        let below = below.filter(|name| !name.is_empty() && split(name).0 == dir);
        names.extend(below.map(|name| split(name).1.to_owned()));
        names.sort_unstable();
        Ok(names)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        let state = &mut *self.state();
        let epoch = state.epoch;
        state.change(epoch)?;
        state.counts.dir_syncs += 1;
        if state.call_fails(Calls::SyncDir) {
            let mut rng = StdRng::from_rng(&mut state.rng);
            state.dir(dir)?.settle_some(&mut rng);
            return Err(broken());
        }
        let synced = state.dir(dir)?;
        let mut unnamed = false;
        for change in std::mem::take(&mut synced.pending) {
            unnamed |= change.apply(&mut synced.durable);
        }
        for (name, below) in &mut state.dirs {
            if !name.is_empty() && split(name).0 == dir {
                below.fresh = false;
            }
        }
        if unnamed {
            state.collect();
        }
        Ok(())
    }

    fn free(&self) -> io::Result<u64> {
        let state = self.state();
        state.alive(state.epoch)?;
        Ok(state.faults.space.unwrap_or(u64::MAX))
    }

    fn lock(&self, name: &str) -> io::Result<Option<Box<dyn DiskLock>>> {
        let state = &mut *self.state();
        let epoch = state.epoch;
        state.alive(epoch)?;
        state.call(Calls::Open)?;
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
