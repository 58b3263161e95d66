//! The content of the simulated disk: files and folders, each as programs see it and as a power
//! cut leaves it.

use std::collections::BTreeMap;

use rand::{Rng, RngExt};

use super::SECTOR;

/// The content of a file.
#[derive(Default)]
pub(super) struct Inode {
    /// The content that programs see.
    pub(super) seen: Vec<u8>,
    /// The content that is safe.
    pub(super) durable: Vec<u8>,
    /// The changes since the last sync, in order.
    pub(super) pending: Vec<Change>,
    /// The number of open handles.
    pub(super) handles: usize,
}

/// A change of a file's content.
pub(super) enum Change {
    /// Bytes written at an offset.
    Write(usize, Vec<u8>),
    /// A new length.
    Size(usize),
}

impl Inode {
    /// Makes the content that a power cut leaves: all pending changes, none, the first ones, or any
    /// sectors of them.
    pub(super) fn survive(&mut self, rng: &mut impl Rng) {
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

/// Writes bytes at an offset, and lengthens the content if needed.
pub(super) fn put(content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    if let Some(place) = content.get_mut(offset..end) {
        place.copy_from_slice(bytes);
    }
}

/// The names in a folder, with their inodes.
#[derive(Clone, Default)]
pub(super) struct Dir {
    /// The names that programs see.
    pub(super) names: BTreeMap<String, u64>,
    /// The names that are safe.
    pub(super) durable: BTreeMap<String, u64>,
    /// The changes since the last sync, in order.
    pub(super) pending: Vec<NameChange>,
    /// Whether the folder was made after the last sync of its parent.
    pub(super) fresh: bool,
}

/// A change of the names in a folder.
#[derive(Clone)]
pub(super) enum NameChange {
    Set(String, u64),
    /// The old name, the new name, the file.
    Rename(String, String, u64),
    /// The name, the file.
    Remove(String, u64),
}

impl NameChange {
    /// The file whose name changes.
    pub(super) const fn inode(&self) -> u64 {
        match self {
            Self::Set(_, inode) | Self::Rename(_, _, inode) | Self::Remove(_, inode) => *inode,
        }
    }

    /// Changes the names. An earlier change may be lost, so a name may belong to another file by
    /// now, or to none. True if a file lost a name.
    pub(super) fn apply(&self, names: &mut BTreeMap<String, u64>) -> bool {
        let unname = |names: &mut BTreeMap<String, u64>, name: &str, inode: u64| {
            let is_its = names.get(name) == Some(&inode);
            is_its && names.remove(name).is_some()
        };
        match self {
            Self::Set(name, inode) => names.insert(name.clone(), *inode).is_some(),
            Self::Rename(from, to, inode) => {
                unname(names, from, *inode);
                names.insert(to.clone(), *inode).is_some()
            }
            Self::Remove(name, inode) => unname(names, name, *inode),
        }
    }
}

impl Dir {
    /// Makes any part of the changes durable and keeps the others, as a failed sync does, or as
    /// time does before a power cut.
    pub(super) fn settle_some(&mut self, rng: &mut impl Rng) {
        let mood = rng.random_range(0..4_u32);
        let kept = rng.random_range(0..=self.pending.len());
        let mut number = 0;
        let durable = &mut self.durable;
        self.pending.retain(|change| {
            number += 1;
            let arrives = match mood {
                0 => true,
                1 => false,
                2 => number <= kept,
                _ => rng.random(),
            };
            if arrives {
                change.apply(durable);
            }
            !arrives
        });
    }
}
