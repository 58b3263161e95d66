//! Upkeep: checkpoints of the index, and segments of the journal that are no longer needed.

use std::sync::atomic::Ordering;

use super::{
    super::checkpoint::Job,
    super::inbox::{Ops, Prepared},
    super::index::Meta,
    Dead, Writer, now,
};
use crate::{
    TextId,
    error::Fault,
    subject::{Op, texts},
};

/// Texts in a portion that is copied onward.
const MOVE_MAX: usize = 32;
/// Bytes of a portion.
const MOVE_BYTES: usize = 512 << 10;
/// With fewer segments, texts stay where they are.
const SEGMENTS_KEPT: usize = 4;

impl Writer {
    /// Whether a checkpoint should begin.
    pub(super) fn wants_freeze(&self) -> bool {
        let interval = self.options.checkpoint_interval;
        self.freezing.is_none()
            && (!self.wanted.is_empty()
                || self.weight > 0
                    && (self.is_closing()
                        || self.weight >= self.options.changes_in_memory
                        || self.last_freeze.elapsed() >= interval))
    }

    pub(super) fn freeze_if_due(&mut self) -> Result<(), Dead> {
        // An operation that is applied but not in the journal must not get into the index: a replay
        // would do it twice.
        if !self.wants_freeze() || !self.riders.is_empty() {
            return Ok(());
        }
        let position = self.journal.end();
        let (tables, counters, versions) = {
            let mut state = self.shared.state_mut();
            (state.freeze(), state.counters(), state.versions())
        };
        self.weight = 0;
        self.last_freeze = now();
        self.freezing = Some(position);
        self.wanted_now.append(&mut self.wanted);
        self.helper.checkpoint(Job(
            tables,
            Meta {
                counters: counters
                    .into_iter()
                    .map(|(name, bytes)| (name.into(), bytes))
                    .collect(),
                position: Some(position),
                versions,
            },
        ));
        Ok(())
    }

    pub(super) fn checkpoint_done(&mut self) -> Result<(), Fault> {
        if let Some(position) = self.freezing.take() {
            self.checkpointed = position;
        }
        self.release_segments()?;
        self.choose_move()?;
        for reply in self.wanted_now.drain(..) {
            let _ = reply.send(());
        }
        Ok(())
    }

    /// Gives back each segment that neither a replay nor a text needs.
    pub(super) fn release_segments(&mut self) -> Result<(), Fault> {
        let mut bytes = 0;
        for segment in self.journal.segments() {
            let replayed = segment.generation >= self.checkpointed.generation;
            if replayed
                || self
                    .shared
                    .state()
                    .texts
                    .segments
                    .contains(&segment.generation)?
                || !self.journal.release(segment.generation)
            {
                bytes += segment.size;
            }
        }
        self.shared.journal_bytes.store(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Chooses a segment with few living texts.
    pub(super) fn choose_move(&mut self) -> Result<(), Fault> {
        let segments = self.journal.segments();
        if self.moving.is_some() || segments.len() <= SEGMENTS_KEPT || self.shared.room.is_full() {
            return Ok(());
        }
        let state = self.shared.state();
        for segment in segments {
            if segment.generation < self.checkpointed.generation
                && !self.unmovable.contains(&segment.generation)
                && state
                    .texts
                    .segments
                    .get(&segment.generation)?
                    .is_some_and(|alive| alive.bytes < segment.size / 4)
            {
                self.moving = Some((segment.generation, TextId(0)));
                break;
            }
        }
        Ok(())
    }

    /// Copies some texts of that segment onward.
    pub(super) fn move_some(&mut self) -> Result<(), Dead> {
        // Waiting requests go first.
        if !self.pending.is_empty() {
            return Ok(());
        }
        let Some((generation, from)) = self.moving else {
            return Ok(());
        };
        let (texts, mut go_on) = self.shared.state().texts_of(generation, from, MOVE_MAX)?;
        let mut ops = Vec::new();
        let mut bytes = 0;
        for (id, place) in texts {
            if bytes > 0 && bytes + place.len as usize > MOVE_BYTES {
                go_on = Some(id);
                break;
            }
            bytes += place.len as usize;
            match self.shared.reader.read(place, 0..u64::from(place.len)) {
                Ok(text) => {
                    let op = Op::Texts(texts::Op::Move {
                        text: id,
                        from: generation,
                    });
                    ops.push(Prepared {
                        encoded: op.encode(),
                        op,
                        text,
                        file: None,
                    });
                }
                Err(error) => {
                    tracing::error!(text = %id, %error, "a text could not be copied onward; its segment stays");
                    self.unmovable.insert(generation);
                }
            }
        }
        self.moving = go_on.map(|next| (generation, next));
        if !ops.is_empty() {
            self.pending.push_back(Ops {
                ops,
                permit: None,
                reply: None,
            });
        }
        Ok(())
    }
}
