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
    Rename(String, String),
    Remove(String),
}

impl NameChange {
    pub(super) fn apply(&self, names: &mut BTreeMap<String, u64>) {
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
