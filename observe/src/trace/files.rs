//! The folder of traces: its segments, what of them is kept, and the search in them.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File},
    io::{self, ErrorKind},
    mem,
    ops::RangeInclusive,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tracing::warn;

use super::{
    Record,
    index::{Bounds, Head, InFile, Lookup},
    lack::Lack,
    search::{Cursor, Query, Reached},
    segment::{
        FileError, Open, SEGMENT, UNFINISHED, index_path, number_of, read_at, read_number_at,
        segment_path,
    },
};

/// A segment has this share of the room of all traces.
const SEGMENTS: u64 = 16;
/// The smallest and the largest segment, in bytes.
const SEGMENT_MIN: u64 = 64 << 10;
const SEGMENT_MAX: u64 = 1 << 30;
/// The most segments, however small they are. Each start begins one.
const COUNT_MAX: usize = 1024;
/// How long after a failure segments are not sealed, in microseconds.
const REST: i64 = 60_000_000;

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
    /// The index was written by this process, or was read to its end.
    is_index_whole: bool,
}

impl Sealed {
    /// A segment that can't be read. It has no traces that somebody could find, and ended when it
    /// was written last.
    fn unreadable(segment: &fs::Metadata) -> Self {
        let bounds = Bounds {
            ended: segment.mtime().saturating_mul(1_000_000),
            ..Bounds::default()
        };
        Self {
            bounds,
            size: segment.len(),
            is_index_whole: false,
        }
    }
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
    /// The segment that gets traces.
    open: Option<Open>,
    /// The segments that get no more traces, and have no index in a file: they are being sealed, or
    /// that failed, or the folder is only read.
    unsealed: BTreeMap<u32, Arc<Open>>,
    /// When segments are sealed again, after that failed.
    rests_until: Option<i64>,
    /// What went for the sake of room.
    lack: Lack,
    next: u32,
}

impl Files {
    /// Opens a folder, and makes it if it is not there. Segments that a crash left open are cut
    /// where they are torn, and sealed. What a bad disk does not give is left out.
    pub(super) fn open(dir: &Path, limits: Limits) -> Result<Self, FileError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.map_err(FileError::io(dir))?;
        let files = Self {
            dir: dir.to_owned(),
            limits,
            state: Mutex::new(State::read(dir)?),
        };
        remove_unfinished(dir)?;
        if let Err(error) = files.seal_all() {
            warn!(%error, "failed to make an index of traces");
        }
        Ok(files)
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

    /// The lock is held while traces are written, and while the index of the open segment is asked,
    /// but not while a segment is sealed.
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
        self.state().size()
    }

    /// Writes traces. Gives how many of them are there, also if the disk fails after that. After a
    /// failure the next traces begin another segment. [`Self::expire`] seals those that are full.
    pub(super) fn add(&self, records: &[Record]) -> (usize, Result<(), FileError>) {
        let mut done = 0;
        while let Some(rest) = records.get(done..).filter(|rest| !rest.is_empty()) {
            match self.add_some(rest) {
                Ok(count) => done += count,
                Err(error) => return (done, Err(error)),
            }
        }
        (done, Ok(()))
    }

    /// Writes the first of some traces to the open segment. Gives how many.
    fn add_some(&self, records: &[Record]) -> Result<usize, FileError> {
        let mut state = self.state();
        let mut open = match state.open.take() {
            Some(open) => open,
            None => {
                let number = state.next;
                state.next = number.saturating_add(1);
                Open::create(&self.dir, number)?
            }
        };
        let room = self.limits.segment_size().saturating_sub(open.size());
        let (now, _) = records.split_at(count_fitting(records, room));
        let added = open.add(now.iter());
        let path = segment_path(&self.dir, open.number);
        match added.is_err() || open.size() >= self.limits.segment_size() {
            true => drop(state.unsealed.insert(open.number, Arc::new(open))),
            false => state.open = Some(open),
        }
        added.map_err(FileError::io(&path))?;
        Ok(now.len())
    }

    /// Seals the segments that get no more traces. One without traces goes. One that can't be
    /// sealed stays as it is: it is searched, and goes by age and size like the others.
    fn seal_all(&self) -> Result<(), FileError> {
        let unsealed: Vec<_> = self.state().unsealed.values().map(Arc::clone).collect();
        let mut result = Ok(());
        for open in unsealed {
            let is_empty = open.index.count() == 0;
            let sealed = match is_empty {
                true => remove(&self.dir, open.number),
                false => open.seal(&self.dir),
            };
            if sealed.is_ok() {
                let mut state = self.state();
                state.unsealed.remove(&open.number);
                if !is_empty {
                    state.sealed.insert(open.number, open.sealed());
                }
            }
            result = result.and(sealed);
        }
        result
    }

    /// Seals the open segment at the end.
    pub(super) fn close(&self) -> Result<(), FileError> {
        self.state().close();
        self.seal_all()
    }

    /// Seals the segments that are full, and removes the oldest, by age and by size, and now and
    /// then one of them while the disk has no room. A segment that has been open for a 16th of the
    /// time is sealed, so that it can go in time.
    pub(super) fn expire(&self, now: i64, has_room: bool) -> Result<(), FileError> {
        let keep = self.limits.keep_micros();
        let sealed_before = now.saturating_sub(keep / SEGMENTS as i64);
        let mut state = self.state();
        let open = state.open.as_ref();
        if open.is_some_and(|open| open.index.bounds.earliest < sealed_before) {
            state.close();
        }
        let rests = state.rests_until.is_some_and(|until| {
            // Somebody may have set the clock back.
            now < until && until.saturating_sub(now) <= REST
        });
        drop(state);
        let sealed = match rests {
            true => Ok(()),
            false => self.seal_all(),
        };
        let mut state = self.state();
        if !rests {
            state.rests_until = sealed.is_err().then(|| now.saturating_add(REST));
        }
        let removed = self.remove_oldest(&mut state, now, has_room);
        sealed.and(removed)
    }

    fn remove_oldest(&self, state: &mut State, now: i64, has_room: bool) -> Result<(), FileError> {
        let oldest = now.saturating_sub(self.limits.keep_micros());
        let open = state.open.as_ref().map_or(0, Open::size);
        // The open segment needs its room before it has it.
        let needed = self.limits.segment_size().max(open);
        while let Some((number, first)) = state.oldest() {
            let is_old = first.bounds.ended < oldest;
            let is_much = state.size() - open + needed > self.limits.max_size;
            let are_many = state.sealed.len() + state.unsealed.len() >= COUNT_MAX;
            let is_due = is_old || is_much || are_many;
            let left = state.size().saturating_sub(first.size);
            let max_size = self.limits.max_size;
            if !is_due && !state.lack.takes_one(now, has_room, left, max_size) {
                break;
            }
            remove(&self.dir, number)?;
            state.sealed.remove(&number);
            state.unsealed.remove(&number);
        }
        Ok(())
    }

    /// Searches, newest first, and gives each trace of the page to `found`. It ends early when
    /// `is_over` says so: it is asked before each trace, and before each segment but the first.
    pub(super) fn search(
        &self,
        query: &Query<'_>,
        is_over: &mut dyn FnMut() -> bool,
        found: &mut dyn FnMut(Record),
    ) -> Result<Reached, FileError> {
        let mut reached = Reached::default();
        let (mut left_out, mut count, mut is_first) = (0, 0, true);
        let from = query.cursor.map_or(u32::MAX, |cursor| cursor.segment);
        for number in self.numbers(query, &(0..=from)) {
            if !mem::take(&mut is_first) && is_over() {
                return Ok(reached.cut(Cursor::before_segment(number)));
            }
            let Some(segment) = self.segment(number, query)? else {
                continue;
            };
            for at in (0..segment.before(query.cursor)).rev() {
                let behind = segment.cursor(at).behind();
                let is_full = count >= query.limit;
                if is_over() || is_full && query.count == 0 {
                    return Ok(reached.cut(behind));
                }
                if segment.is_by_index && reached.next.is_some() {
                    reached.total += at as u64 + 1;
                    break;
                }
                let is_left_out = left_out < query.skip;
                let record = match segment.is_by_index {
                    true if is_left_out => None,
                    true if query.only_numbers => match self.record(&segment, at, read_number_at) {
                        Some(record) => Some(record),
                        None => continue,
                    },
                    _ => match self.record(&segment, at, read_at) {
                        Some(record) if query.matches(&record) => Some(record),
                        _ => continue,
                    },
                };
                reached.total += 1;
                match record {
                    _ if is_left_out => left_out += 1,
                    Some(record) if !is_full => {
                        count += 1;
                        found(record);
                    }
                    _ => {
                        reached.next.get_or_insert(behind);
                    }
                }
                if reached.next.is_some() && reached.total > query.count {
                    return Ok(reached.cut(behind));
                }
            }
            if let Some(next) = reached.next
                && reached.total > query.count
            {
                return Ok(reached.cut(next));
            }
        }
        if query.count > 0 {
            self.count_before(query, is_over, &mut reached)?;
        }
        Ok(reached)
    }

    /// Counts the traces that match and are before the cursor.
    fn count_before(
        &self,
        query: &Query<'_>,
        is_over: &mut dyn FnMut() -> bool,
        reached: &mut Reached,
    ) -> Result<(), FileError> {
        let Some(cursor) = query.cursor else {
            return Ok(());
        };
        for number in self.numbers(query, &(cursor.segment..=u32::MAX)) {
            if is_over() {
                reached.is_total = false;
                return Ok(());
            }
            let Some(segment) = self.segment(number, query)? else {
                continue;
            };
            let before = segment.before(Some(cursor))..segment.candidates.len();
            if segment.is_by_index {
                reached.total += before.len() as u64;
            } else {
                for at in before {
                    if is_over() || reached.total > query.count {
                        reached.is_total = false;
                        return Ok(());
                    }
                    let record = self.record(&segment, at, read_at);
                    reached.total += u64::from(record.is_some_and(|it| query.matches(&it)));
                }
            }
            if reached.total > query.count {
                reached.is_total = false;
                return Ok(());
            }
        }
        Ok(())
    }

    /// A candidate of a segment. None: it is damaged, or can't be read.
    fn record(
        &self,
        segment: &Candidates,
        at: usize,
        read: fn(&File, u64) -> io::Result<Option<Record>>,
    ) -> Option<Record> {
        let (_, place) = segment.candidates.get(at)?;
        match read(&segment.file, *place) {
            Ok(record) => record,
            Err(error) if is_gone(&error) => None,
            Err(error) => {
                let path = segment_path(&self.dir, segment.number);
                let error = FileError::io(&path)(error);
                warn!(%error, "failed to read a trace");
                None
            }
        }
    }

    /// The segments among these that may have what is searched, newest first.
    fn numbers(&self, query: &Query<'_>, among: &RangeInclusive<u32>) -> Vec<u32> {
        let state = self.state();
        let open = state.open.iter();
        let open = open.chain(state.unsealed.values().map(|open| &**open));
        let open = open.map(|open| (open.number, open.index.bounds));
        let sealed = state.sealed.iter().map(|(number, it)| (*number, it.bounds));
        let may_have = open.chain(sealed).filter(|(number, bounds)| {
            among.contains(number)
                && !bounds.is_empty()
                && query.after.is_none_or(|after| bounds.latest >= after)
                && query.before.is_none_or(|before| bounds.earliest < before)
        });
        let mut numbers: Vec<_> = may_have.map(|(number, _)| number).collect();
        numbers.sort_unstable_by(|one, other| other.cmp(one));
        numbers
    }

    /// The traces of a segment that may match. None: the segment went meanwhile, or can't be read.
    fn segment(&self, number: u32, query: &Query<'_>) -> Result<Option<Candidates>, FileError> {
        let Some(file) = open_file(&segment_path(&self.dir, number))? else {
            return Ok(None);
        };
        let mut found = self.by_memory(number, query);
        if found.is_none() {
            found = self.by_file(number, query)?;
        }
        if found.is_none() {
            self.replace_index(number)?;
            found = self.by_memory(number, query);
        }
        Ok(found.map(|(candidates, is_by_index)| Candidates {
            number,
            candidates,
            is_by_index,
            file,
        }))
    }

    /// The candidates of a segment whose index is in memory. None: that is not so.
    fn by_memory(&self, number: u32, query: &Query<'_>) -> Option<Found> {
        let by = |open: &Open| {
            let candidates = query.candidates(&open.index).ok()?;
            Some((candidates, query.is_by_index(&open.index.bounds)))
        };
        let state = self.state();
        if let Some(open) = state.open.as_ref().filter(|open| open.number == number) {
            return by(open);
        }
        let unsealed = state.unsealed.get(&number).map(Arc::clone);
        drop(state);
        by(&*unsealed?)
    }

    /// The candidates of a segment whose index is in a file. The first look at an index reads it to
    /// its end. None: the segment went meanwhile, or its index is not whole.
    fn by_file(&self, number: u32, query: &Query<'_>) -> Result<Option<Found>, FileError> {
        let Some(sealed) = self.state().sealed.get(&number).copied() else {
            return Ok(None);
        };
        let path = index_path(&self.dir, number);
        let Some((head, file)) = Head::open(&path)? else {
            return Ok(None);
        };
        if !sealed.is_index_whole {
            if !head.has_whole_body(&file) {
                return Ok(None);
            }
            if let Some(sealed) = self.state().sealed.get_mut(&number) {
                sealed.is_index_whole = true;
            }
        }
        let candidates = query.candidates(&InFile { head, file }).ok();
        Ok(candidates.map(|it| (it, query.is_by_index(&head.bounds))))
    }

    /// Makes the index of a segment anew in memory, since its file can't be used.
    /// [`Self::expire`] writes it.
    fn replace_index(&self, number: u32) -> Result<(), FileError> {
        if !self.state().sealed.contains_key(&number) {
            return Ok(());
        }
        let Some(open) = read_segment(&self.dir, number)? else {
            return Ok(());
        };
        let mut state = self.state();
        // It may have gone meanwhile, and another search may have been faster.
        if state.sealed.remove(&number).is_some() {
            state.unsealed.insert(number, Arc::new(open));
        }
        Ok(())
    }
}

/// The numbers and places of candidates, and whether they match without a look at them.
type Found = (Vec<(u32, u64)>, bool);

/// The traces of a segment that have the terms of a search.
struct Candidates {
    number: u32,
    /// Their numbers and places in the segment, in order.
    candidates: Vec<(u32, u64)>,
    /// They match, without a look at them.
    is_by_index: bool,
    file: File,
}

impl Candidates {
    fn cursor(&self, at: usize) -> Cursor {
        Cursor {
            segment: self.number,
            record: self
                .candidates
                .get(at)
                .map_or(u32::MAX, |(record, _)| *record),
        }
    }

    /// How many candidates a search from this cursor has: the first ones.
    fn before(&self, cursor: Option<Cursor>) -> usize {
        let Some(cursor) = cursor else {
            return self.candidates.len();
        };
        let is_before = |(record, _): &(u32, u64)| {
            let here = Cursor {
                segment: self.number,
                record: *record,
            };
            here < cursor
        };
        self.candidates.partition_point(is_before)
    }
}

impl State {
    /// The bytes of all files.
    fn size(&self) -> u64 {
        let open = self.open.iter();
        let open = open.chain(self.unsealed.values().map(|open| &**open));
        let open: u64 = open.map(Open::size).sum();
        let sealed: u64 = self.sealed.values().map(|it| it.size).sum();
        open + sealed
    }

    /// The open segment gets no more traces.
    fn close(&mut self) {
        if let Some(open) = self.open.take() {
            self.unsealed.insert(open.number, Arc::new(open));
        }
    }

    /// The oldest of the segments that get no more traces, and its number.
    fn oldest(&self) -> Option<(u32, Sealed)> {
        let sealed = self.sealed.iter().map(|(number, it)| (*number, *it));
        let unsealed = { self.unsealed.values() }.map(|open| (open.number, open.sealed()));
        sealed.chain(unsealed).min_by_key(|(number, _)| *number)
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
            state.add(dir, number)?;
        }
        Ok(state)
    }

    /// Adds a segment that is there. Of an index only the head is read: a start does not take
    /// longer the more traces there are.
    fn add(&mut self, dir: &Path, number: u32) -> Result<(), FileError> {
        let path = segment_path(dir, number);
        let segment = match fs::metadata(&path) {
            Ok(segment) => segment,
            Err(error) => {
                tell_unreadable(&FileError::io(&path)(error));
                return Ok(());
            }
        };
        let head = Head::open(&index_path(dir, number))?.map(|(head, _)| head);
        if let Some(head) = head.filter(|head| head.length == segment.len()) {
            let sealed = Sealed {
                bounds: head.bounds,
                size: segment.len() + head.size(),
                is_index_whole: false,
            };
            self.sealed.insert(number, sealed);
        } else if let Some(open) = read_segment(dir, number)? {
            self.unsealed.insert(number, Arc::new(open));
        } else {
            self.sealed.insert(number, Sealed::unreadable(&segment));
        }
        Ok(())
    }

    fn bounds(&self) -> impl Iterator<Item = Bounds> {
        let open = self.open.iter();
        let open = open.chain(self.unsealed.values().map(|open| &**open));
        let open = open.filter(|open| open.index.count() > 0);
        let open = open.map(|open| open.index.bounds);
        let sealed = self.sealed.values().map(|it| it.bounds);
        open.chain(sealed.filter(|bounds| !bounds.is_empty()))
    }
}

impl Open {
    /// What it is when it is sealed.
    fn sealed(&self) -> Sealed {
        Sealed {
            bounds: self.index.bounds,
            size: self.size(),
            is_index_whole: true,
        }
    }
}

/// Reads a segment without an index. None: it went meanwhile, or the disk does not give it.
fn read_segment(dir: &Path, number: u32) -> Result<Option<Open>, FileError> {
    match Open::read(dir, number) {
        Ok(open) => Ok(Some(open)),
        Err(error @ FileError::Newer { .. }) => Err(error),
        Err(error) => {
            tell_unreadable(&error);
            Ok(None)
        }
    }
}

/// Tells of a segment that can't be read, if it is there.
fn tell_unreadable(error: &FileError) {
    let is_missing =
        matches!(error, FileError::Io { error, .. } if error.kind() == ErrorKind::NotFound);
    if !is_missing {
        warn!(%error, "failed to read traces");
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

/// Removes what is left of indexes that were not written to their ends.
fn remove_unfinished(dir: &Path) -> Result<(), FileError> {
    for entry in fs::read_dir(dir).map_err(FileError::io(dir))? {
        let path = entry.map_err(FileError::io(dir))?.path();
        let is_ours = number_of(&path.with_extension(SEGMENT)).is_some();
        if is_ours && path.extension().is_some_and(|it| it == UNFINISHED) {
            fs::remove_file(&path).map_err(FileError::io(&path))?;
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
