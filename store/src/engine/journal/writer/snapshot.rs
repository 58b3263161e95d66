//! The files that the writer keeps for a snapshot.

use std::{collections::HashSet, sync::Arc};

use super::{
    super::snapshot::{Held, Hold, Lease, Reply, remove_copy},
    Writer,
};
use crate::{StoreError, error::Fault, journal::Position};

impl Writer {
    /// The next checkpoint is that of a snapshot. There is one snapshot at a time.
    pub(super) fn want_snapshot(&mut self, reply: Reply) {
        if self.hold.is_some() || self.wanted_snapshot.is_some() {
            let error = StoreError::Invalid("another backup is being made");
            let _ = reply.send(Err(error));
            return;
        }
        self.wanted_snapshot = Some(reply);
    }

    /// Keeps the files that stand for a position, if a caller waits for a snapshot.
    pub(super) fn hold_for_snapshot(&mut self, position: Position) -> Option<(Held, Reply)> {
        let reply = self.wanted_snapshot.take()?;
        self.hold = Some(Hold::new(position.generation));
        let held = Held {
            position,
            segments: self.journal.segments(),
            lease: Lease::new(Arc::clone(&self.shared)),
        };
        Some((held, reply))
    }

    pub(super) fn keeps_segment(&self, generation: u64) -> bool {
        let hold = self.hold.as_ref();
        hold.is_some_and(|hold| hold.keeps_segment(generation))
    }

    /// Removes the file of a text that nothing refers to any more, at once or after the snapshot.
    pub(super) fn remove_file(&mut self, file: u64) {
        if !self.hold.as_mut().is_some_and(|hold| hold.defer(file)) {
            self.helper.remove_file(file);
        }
    }

    pub(super) fn set_needed_files(&mut self, needed: HashSet<u64>) {
        let free = self.hold.as_mut().map(|hold| hold.set_needed(needed));
        for file in free.into_iter().flatten() {
            self.helper.remove_file(file);
        }
    }

    /// Gives back what was kept.
    pub(super) fn end_snapshot(&mut self) -> Result<(), Fault> {
        let deferred = self.hold.take().map(Hold::end);
        for file in deferred.into_iter().flatten() {
            self.helper.remove_file(file);
        }
        remove_copy(&*self.shared.disk);
        self.reclaim_segments()
    }
}
