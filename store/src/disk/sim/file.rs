//! Open files of the simulated disk.

use std::{fmt, io};

use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{
    super::DiskFile,
    Calls, SimDisk, WRITER, broken,
    content::{Change, put},
    full,
};

/// An open file of a [`SimDisk`].
pub(super) struct SimFile {
    pub(super) disk: SimDisk,
    pub(super) name: String,
    pub(super) inode: u64,
    pub(super) epoch: u64,
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
            let last = inode.handles == 0;
            state.handles -= 1;
            if last && !state.is_named(self.inode) {
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
        let fails = state.sync_fails() || state.call_fails(Calls::Sync);
        let mut rng = StdRng::from_rng(&mut state.rng);
        let inode = state.inode(self.inode)?;
        if fails {
            let seen = inode.seen.clone();
            inode.survive(&mut rng);
            inode.seen = seen;
            return Err(io::Error::other("simulated failure of a sync"));
        }
        // Bytes that an earlier failed sync dropped stay dropped. So this applies the pending
        // changes and does not copy the content that programs see.
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
        state.call(Calls::Read)?;
        let by_writer = std::thread::current().name() == Some(WRITER);
        state.counts.reads_of_writer += u64::from(by_writer);
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
        let fails = state.call_fails(Calls::Write);
        let buf = if fails {
            let arrived = state.rng.random_range(0..=buf.len());
            buf.get(..arrived).unwrap_or_default()
        } else {
            buf
        };
        let offset = index(offset)?;
        let end = offset
            .checked_add(buf.len())
            .ok_or(io::ErrorKind::FileTooLarge)?;
        let copy_on_write = state.faults.copy_on_write;
        let mut space = state.faults.space;
        let inode = state.inode(self.inode)?;
        let needed = if copy_on_write {
            buf.len()
        } else {
            end.saturating_sub(inode.seen.len())
        };
        let mut bytes = buf;
        let mut short = false;
        if let Some(space) = &mut space {
            let needed = needed as u64;
            if needed > *space {
                // As a real file system does, it writes the bytes that fit, then fails.
                let cut = index(needed - *space)?.min(bytes.len());
                bytes = bytes.get(..bytes.len() - cut).unwrap_or_default();
                *space = 0;
                short = true;
            } else {
                *space -= needed;
            }
        }
        if !bytes.is_empty() {
            put(&mut inode.seen, offset, bytes);
            inode.pending.push(Change::Write(offset, bytes.to_vec()));
        }
        state.faults.space = space;
        match (fails, short) {
            (true, _) => Err(broken()),
            (false, true) => Err(full()),
            (false, false) => Ok(()),
        }
    }

    fn size(&self) -> io::Result<u64> {
        let state = &mut *self.disk.state();
        state.alive(self.epoch)?;
        Ok(state.inode(self.inode)?.seen.len() as u64)
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        let state = &mut *self.disk.state();
        state.change(self.epoch)?;
        state.call(Calls::Write)?;
        let size = index(size)?;
        let inode = state.inode(self.inode)?;
        let before = inode.seen.len();
        inode.seen.resize(size, 0);
        inode.pending.push(Change::Size(size));
        // Lengthening makes a hole. A hole takes no space before it is written.
        if let Some(space) = &mut state.faults.space {
            *space += before.saturating_sub(size) as u64;
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
