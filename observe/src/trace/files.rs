//! The folder of traces: its segments, what of them is kept, and the search in them.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File},
    io::{self, ErrorKind},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{
    Record,
    index::{Bounds, Head, InFile, Lookup},
    search::{Cursor, Page, Query},
    segment::{FileError, Open, index_path, number_of, read_at, segment_path},
};

/// A segment has this share of the room of all traces.
const SEGMENTS: u64 = 16;
/// The smallest and the largest segment, in bytes.
const SEGMENT_MIN: u64 = 64 << 10;
const SEGMENT_MAX: u64 = 1 << 30;
/// The most segments, however small they are. Each start begins one.
const COUNT_MAX: usize = 1024;

/// How long traces are kept, and how much room they have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long a trace is kept. It goes with its segment, so up to a 16th of this later.
    pub keep: Duration,
    /// The most bytes of all files.
    pub max_size: u64,
}

impl Limits {
    fn segment_size(&self) -> u64 {
        (self.max_size / SEGMENTS).clamp(SEGMENT_MIN, SEGMENT_MAX)
    }

    fn keep_micros(&self) -> i64 {
        i64::try_from(self.keep.as_micros()).unwrap_or(i64::MAX)
    }
}

/// A sealed segment.
#[derive(Clone, Copy, Debug)]
struct Sealed {
    bounds: Bounds,
    /// The bytes of both files.
    size: u64,
}

/// The files of a folder.
#[derive(Debug)]
pub(super) struct Files {
    dir: PathBuf,
    limits: Limits,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    sealed: BTreeMap<u32, Sealed>,
    /// The segments without an index: the one that gets traces, or those of a folder that is only
    /// read.
    open: Vec<Open>,
    next: u32,
}

impl Files {
    /// Opens a folder, and makes it if it is not there. Segments that a crash left open are cut
    /// where they are torn, and sealed.
    pub(super) fn open(dir: &Path, limits: Limits) -> Result<Self, FileError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.map_err(FileError::io(dir))?;
        let mut state = State::read(dir)?;
        for open in std::mem::take(&mut state.open) {
            let number = open.number;
            if open.index.count() == 0 {
                remove(dir, number)?;
                continue;
            }
            let size = open.size();
            let index = open.seal(dir)?;
            let bounds = index.bounds;
            state.sealed.insert(number, Sealed { bounds, size });
        }
        Ok(Self {
            dir: dir.to_owned(),
            limits,
            state: Mutex::new(state),
        })
    }

    /// Reads a folder that another process may write to. Nothing is changed. A folder that is not
    /// there has no traces.
    pub(super) fn read(dir: &Path) -> Result<Self, FileError> {
        Ok(Self {
            dir: dir.to_owned(),
            limits: Limits {
                keep: Duration::MAX,
                max_size: u64::MAX,
            },
            state: Mutex::new(State::read(dir)?),
        })
    }

    /// The lock is held while traces are written, and while the index of the open segment is asked.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The largest number of a trace; 0 if there are none.
    pub(super) fn largest_span(&self) -> u64 {
        let state = self.state();
        let spans = state.bounds().map(|it| it.largest_span);
        spans.max().unwrap_or(0)
    }

    /// When the earliest trace started, in microseconds since 1970. None: there are none.
    pub(super) fn earliest(&self) -> Option<i64> {
        self.state().bounds().map(|it| it.earliest).min()
    }

    /// The bytes of all files.
    pub(super) fn size(&self) -> u64 {
        let state = self.state();
        let open: u64 = state.open.iter().map(Open::size).sum();
        open + state.sealed_size()
    }

    /// Writes traces. If that fails, the open segment is sealed, and the next traces begin another.
    pub(super) fn add(&self, records: &[Record]) -> Result<(), FileError> {
        let mut state = self.state();
        let mut rest = records;
        while !rest.is_empty() {
            if state.open.is_empty() {
                let number = state.next;
                state.next = number.saturating_add(1);
                let open = Open::create(&self.dir, number)?;
                state.open.push(open);
            }
            let Some(open) = state.open.last_mut() else {
                break;
            };
            let room = self.limits.segment_size().saturating_sub(open.size());
            let (now, later) = rest.split_at(count_fitting(rest, room));
            let added = open.add(now.iter());
            let is_full = open.size() >= self.limits.segment_size();
            if is_full || added.is_err() {
                let path = segment_path(&self.dir, open.number);
                let sealed = self.seal(&mut state);
                added.map_err(FileError::io(&path))?;
                sealed?;
            }
            rest = later;
        }
        Ok(())
    }

    /// Seals the open segment. One without traces goes.
    fn seal(&self, state: &mut State) -> Result<(), FileError> {
        let Some(open) = state.open.pop() else {
            return Ok(());
        };
        let (number, size) = (open.number, open.size());
        if open.index.count() == 0 {
            return remove(&self.dir, number);
        }
        // Without an index, the next start finds the segment and makes one.
        let bounds = open.index.bounds;
        open.seal(&self.dir)?;
        state.sealed.insert(number, Sealed { bounds, size });
        Ok(())
    }

    /// Seals the open segment at the end.
    pub(super) fn close(&self) -> Result<(), FileError> {
        self.seal(&mut self.state())
    }

    /// Removes the oldest segments, by age and by size. A segment that has been open for a 16th of
    /// the time is sealed, so that it can go in time.
    pub(super) fn expire(&self, now: i64) -> Result<(), FileError> {
        let mut state = self.state();
        let keep = self.limits.keep_micros();
        let sealed_before = now.saturating_sub(keep / SEGMENTS as i64);
        let open = state.open.last();
        if open.is_some_and(|open| open.index.bounds.earliest < sealed_before) {
            self.seal(&mut state)?;
        }
        let oldest = now.saturating_sub(keep);
        let open: u64 = state.open.iter().map(Open::size).sum();
        let mut size = open + state.sealed_size();
        while let Some(first) = state.sealed.first_entry() {
            let is_old = first.get().bounds.ended < oldest;
            // The open segment needs its room before it has it.
            let is_much = size.saturating_sub(open) + self.limits.segment_size().max(open)
                > self.limits.max_size;
            let count = first.get().size;
            let number = *first.key();
            if !is_old && !is_much && state.sealed.len() < COUNT_MAX {
                break;
            }
            remove(&self.dir, number)?;
            size = size.saturating_sub(count);
            state.sealed.remove(&number);
        }
        Ok(())
    }

    /// Searches, newest first. It ends early when `is_over` says so, and the page tells where to go
    /// on.
    pub(super) fn search(
        &self,
        query: &Query<'_>,
        is_over: &mut dyn FnMut() -> bool,
    ) -> Result<Page, FileError> {
        let mut page = Page::default();
        for number in self.numbers(query) {
            let Some((candidates, segment)) = self.candidates(number, query)? else {
                continue;
            };
            for (at, place) in candidates.into_iter().rev() {
                let here = Cursor {
                    segment: number,
                    record: at,
                };
                if query.cursor.is_some_and(|cursor| cursor <= here) {
                    continue;
                }
                if page.records.len() >= query.limit || is_over() {
                    page.next = Some(here.behind());
                    return Ok(page);
                }
                let record = match read_at(&segment, place) {
                    Ok(record) => record,
                    Err(error) if is_gone(&error) => None,
                    Err(error) => {
                        return Err(FileError::io(&segment_path(&self.dir, number))(error));
                    }
                };
                if let Some(record) = record.filter(|record| query.matches(record)) {
                    page.records.push(record);
                }
            }
        }
        Ok(page)
    }

    /// The segments that may have what is searched, newest first.
    fn numbers(&self, query: &Query<'_>) -> Vec<u32> {
        let state = self.state();
        let open = state
            .open
            .iter()
            .map(|open| (open.number, open.index.bounds));
        let sealed = state.sealed.iter().map(|(number, it)| (*number, it.bounds));
        let may_have = open.chain(sealed).filter(|(number, bounds)| {
            query.cursor.is_none_or(|cursor| cursor.segment >= *number)
                && query.after.is_none_or(|after| bounds.latest >= after)
                && query.before.is_none_or(|before| bounds.earliest < before)
        });
        let mut numbers: Vec<_> = may_have.map(|(number, _)| number).collect();
        numbers.sort_unstable_by(|one, other| other.cmp(one));
        numbers
    }

    /// The numbers and places of the traces of a segment that may match, and its file. None: the
    /// segment went meanwhile.
    #[expect(clippy::type_complexity, reason = "the only caller takes it apart")]
    fn candidates(
        &self,
        number: u32,
        query: &Query<'_>,
    ) -> Result<Option<(Vec<(u32, u64)>, File)>, FileError> {
        let path = segment_path(&self.dir, number);
        let Some(segment) = open_file(&path)? else {
            return Ok(None);
        };
        let state = self.state();
        if let Some(open) = state.open.iter().find(|open| open.number == number) {
            let candidates = query.candidates(&open.index);
            let candidates = candidates.map_err(FileError::io(&path))?;
            return Ok(Some((candidates, segment)));
        }
        drop(state);
        let path = index_path(&self.dir, number);
        let (Some(head), Some(file)) = (Head::read(&path)?, open_file(&path)?) else {
            return Ok(None);
        };
        match query.candidates(&InFile { head, file }) {
            Ok(candidates) => Ok(Some((candidates, segment))),
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) => Err(FileError::io(&path)(error)),
        }
    }
}

impl State {
    fn sealed_size(&self) -> u64 {
        self.sealed.values().map(|it| it.size).sum()
    }

    fn read(dir: &Path) -> Result<Self, FileError> {
        let mut state = Self::default();
        let entries = match fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(state),
            Err(error) => return Err(FileError::io(dir)(error)),
        };
        for entry in entries {
            let path = entry.map_err(FileError::io(dir))?.path();
            let Some(number) = number_of(&path) else {
                continue;
            };
            state.next = state.next.max(number.saturating_add(1));
            let length = fs::metadata(&path).map_err(FileError::io(&path))?.len();
            match Head::read(&index_path(dir, number))? {
                Some(head) if head.length == length => {
                    let sealed = Sealed {
                        bounds: head.bounds,
                        size: length + head.size(),
                    };
                    state.sealed.insert(number, sealed);
                }
                _ => state.open.push(Open::read(dir, number)?),
            }
        }
        Ok(state)
    }

    fn bounds(&self) -> impl Iterator<Item = Bounds> {
        let open = self.open.iter().filter(|open| open.index.count() > 0);
        let open = open.map(|open| open.index.bounds);
        open.chain(self.sealed.values().map(|it| it.bounds))
    }
}

/// How many of the records a segment with so much room takes. The last one may exceed it.
fn count_fitting(records: &[Record], room: u64) -> usize {
    let mut sum = 0;
    let fitting = records.iter().take_while(|record| {
        let fits = sum < room;
        sum += record.memory() as u64;
        fits
    });
    fitting.count().max(1).min(records.len())
}

/// Removes both files of a segment. The segment goes first: an index alone means nothing.
fn remove(dir: &Path, number: u32) -> Result<(), FileError> {
    for path in [segment_path(dir, number), index_path(dir, number)] {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(FileError::io(&path)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// None: the file is not there.
fn open_file(path: &Path) -> Result<Option<File>, FileError> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(FileError::io(path)(error)),
    }
}

/// Whether a file was shorter than it should be, as after damage.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == ErrorKind::UnexpectedEof
}

#[cfg(test)]
mod tests;
