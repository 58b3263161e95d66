//! Reading a data folder that no process uses, without changing anything in it.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    counts_of,
    index::{self, Index, IndexError, IndexRoom},
    open::{Folder, LOCK, apply_entry},
};
use crate::{
    OpenError, TextId,
    backup::{Inspection, Keeps, Snapshot},
    disk::{Disk, DiskLock, Open, overlay::Overlay},
    error::Fault,
    journal::{JournalReader, Position, ReadBack, check_frames, read_back},
    subject::{State, texts::Place},
    table::Faults,
    textfile,
};

/// Memory for pages of the index.
const CACHE: usize = 16 << 20;

/// A store in a folder that stays as it is.
struct Looked {
    disk: Arc<dyn Disk>,
    lock: Box<dyn DiskLock>,
    state: State,
    journal: ReadBack,
    /// The tables of the state are in it.
    _index: Index,
}

/// Opens a folder. `faults` takes what does not keep the folder from being opened.
fn look(dir: &Path, faults: Option<&mut Faults>) -> Result<Looked, OpenError> {
    let folder = Folder(dir);
    let disk = Overlay::open(dir).map_err(|error| folder.io("", error))?;
    let disk: Arc<dyn Disk> = Arc::new(disk);
    let lock = disk.lock(LOCK).map_err(|error| folder.io(LOCK, error))?;
    let lock = lock.ok_or_else(|| OpenError::Locked {
        path: dir.to_owned(),
    })?;
    let refuse = |error| folder.index(error);
    let missing = || refuse(IndexError::Damaged("it is missing".into()));
    let room = Arc::<IndexRoom>::default();
    let found = Index::look(&disk, CACHE, room).map_err(refuse)?;
    let (mut index, meta) = found.ok_or_else(missing)?;
    if let Some(faults) = faults {
        let sound = index.check().map_err(|error| refuse(error.into()))?;
        let file = index::FILE;
        faults.check(sound, || format!("{file}: a checksum is wrong"));
    }
    let mut state = State::new();
    folder.check_versions(&meta.versions, &state.versions())?;
    for (name, bytes) in &meta.counters {
        let set = state.set_counters(name, bytes);
        set.map_err(|unreadable| folder.counters(name, unreadable))?;
    }
    let read = index
        .read()
        .and_then(|transaction| state.rebase(&transaction))
        .and_then(|()| state.renew_keys());
    read.map_err(|fault| folder.fault(&fault))?;
    let from = meta.position.unwrap_or(Position::START);
    let journal = read_back(&disk, from, &mut |entry| apply_entry(&mut state, &entry))
        .map_err(|error| folder.journal(error))?;
    Ok(Looked {
        disk,
        lock,
        state,
        journal,
        _index: index,
    })
}

pub(crate) fn snapshot_of_folder(dir: &Path) -> Result<Snapshot, OpenError> {
    let folder = Folder(dir);
    let looked = look(dir, None)?;
    let (position, state) = (looked.journal.end, &looked.state);
    let mut texts = Vec::new();
    let listed = state.texts.files.for_each(|file, ()| {
        texts.push(file);
        Ok(())
    });
    listed.map_err(|fault| folder.fault(&fault))?;
    let doubt = index::DOUBT;
    let doubt = looked
        .disk
        .open(doubt, Open::Existing)
        .is_ok()
        .then(|| doubt.to_owned());
    Ok(Snapshot {
        position,
        is_cut: false,
        doubt,
        index: index::FILE.to_owned(),
        is_index_final: false,
        segments: looked.journal.segments,
        texts,
        _keeps: Keeps::Lock { _lock: looked.lock },
    })
}

pub(crate) fn inspect_folder(dir: &Path) -> Result<Inspection, OpenError> {
    let folder = Folder(dir);
    let mut faults = Faults::default();
    let looked = look(dir, Some(&mut faults))?;
    let frames = check_frames(&*looked.disk).map_err(|error| folder.journal(error))?;
    for fault in frames {
        faults.add(fault.to_string());
    }
    looked.state.check(&mut faults);
    let mut orphans = Vec::new();
    let checked = check_texts(&looked, &mut faults, &mut orphans);
    checked.map_err(|fault| folder.fault(&fault))?;
    let bytes = looked.journal.segments.iter().map(|segment| segment.size);
    Ok(Inspection {
        counts: counts_of(&looked.state, bytes.sum()),
        faults: faults.into_sentences(),
        orphans,
    })
}

/// Reads all texts.
fn check_texts(
    looked: &Looked,
    faults: &mut Faults,
    orphans: &mut Vec<PathBuf>,
) -> Result<(), Fault> {
    let (disk, state) = (&*looked.disk, &looked.state);
    let mut lengths: HashMap<u64, u64> = HashMap::new();
    state.texts.texts.for_each(|id, stored| {
        if let Place::File(place) = stored.place {
            lengths.insert(place.file, place.len);
        }
        if let Err(fault) = read_text(disk, &looked.journal.reader, id, stored.place) {
            faults.add(fault);
        }
        Ok(())
    })?;
    let listed = textfile::list(disk, |file, name| {
        if !lengths.contains_key(&file) {
            orphans.push(name.into());
        }
        Ok::<(), std::io::Error>(())
    });
    if let Err(error) = listed {
        faults.add(format!("the folders of texts can't be listed: {error}"));
    }
    Ok(())
}

/// Reads a text to its end, in pieces. An error is a sentence.
fn read_text(
    disk: &dyn Disk,
    reader: &JournalReader,
    id: TextId,
    place: Place,
) -> Result<(), String> {
    let fault = |error: &dyn std::fmt::Display| format!("the text {id} can't be read: {error}");
    match place {
        Place::Empty => Ok(()),
        Place::Journal(place) => {
            let read = reader.read(place, 0..u64::from(place.len));
            read.map(drop).map_err(|error| fault(&error))
        }
        Place::File(place) => textfile::check(disk, place).map_err(|error| fault(&error)),
    }
}
