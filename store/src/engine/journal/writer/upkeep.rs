//! Upkeep: checkpoints of the index, and segments of the journal that are no longer needed.

use std::{mem, sync::atomic::Ordering, time::Duration};

use super::{
    super::checkpoint::Job,
    super::inbox::{Ops, Prepared},
    super::index::Meta,
    Dead, Writer,
    claim::CLAIM_BYTES,
    now,
};
use crate::{
    INLINE_TEXT_MAX, TextId,
    error::Fault,
    journal::ReadError,
    subject::{
        Op,
        texts::{self, Segment},
    },
};

/// A checkpoint may take one part in so many of the time.
const CHECKPOINT_SHARE: u32 = 5;
/// The longest time between two checkpoints, however long each takes. A start replays what came
/// after the last one.
const CHECKPOINT_MAX: Duration = Duration::from_secs(10);
/// Texts in a portion that is copied onward.
const MOVE_MAX: usize = 32;
/// Bytes of a portion.
const MOVE_BYTES: usize = 512 << 10;
/// Bytes of the entry of a text that is copied onward, beside the text, at most.
const MOVE_ENTRY: u64 = 128;
/// Bytes that a portion takes beside its entries, at most: a start entry, and what is left of its
/// last block.
const MOVE_PORTION: u64 = 2 * 4096;
/// With fewer segments, texts stay where they are.
const SEGMENTS_KEPT: usize = 4;

impl Writer {
    /// The time from one checkpoint to the next. A checkpoint of a large index takes longer, since
    /// each commit writes the state of redb's allocator: 7 MB for 100 GiB. Then there are fewer.
    pub(super) fn checkpoint_interval(&self) -> Duration {
        let slow = self.checkpoint_took.saturating_mul(CHECKPOINT_SHARE);
        self.options
            .checkpoint_interval
            .max(slow.min(CHECKPOINT_MAX))
    }

    /// Whether a checkpoint should begin.
    pub(super) fn wants_freeze(&self) -> bool {
        let interval = self.checkpoint_interval();
        self.freezing.is_none()
            && (!self.wanted.is_empty()
                || self.wanted_snapshot.is_some()
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
        self.being_indexed = self.unindexed;
        self.wanted_now.append(&mut self.wanted);
        let counters = counters.into_iter();
        let meta = Meta {
            counters: counters.map(|(name, bytes)| (name.into(), bytes)).collect(),
            position: Some(position),
            versions,
        };
        let snapshot = self.hold_for_snapshot(position);
        self.helper.checkpoint(Job {
            tables,
            meta,
            snapshot,
        });
        #[cfg(test)]
        for reply in self.wanted_frozen.drain(..) {
            let _ = reply.send(());
        }
        Ok(())
    }

    pub(super) fn checkpoint_done(&mut self) -> Result<(), Fault> {
        if let Some(position) = self.freezing.take() {
            self.checkpoint_took = self.last_freeze.elapsed();
            let metrics = &self.options.metrics;
            metrics
                .store_checkpoint_duration_seconds
                .observe(self.checkpoint_took);
            self.unindexed -= mem::take(&mut self.being_indexed);
            metrics.store_unindexed_bytes.set(self.unindexed);
            let passed = self.checkpointed.generation..=position.generation;
            self.candidates.extend(self.journal.generations(passed));
            self.checkpointed = position;
        }
        self.reclaim_segments()?;
        for reply in self.wanted_now.drain(..) {
            let _ = reply.send(());
        }
        Ok(())
    }

    /// While a checkpoint waits for room, gives back the segments that lost their last text. The
    /// checkpoint before it covers them, so they need no new one. Else the end of the checkpoint
    /// does that.
    pub(super) fn reclaim_while_full(&mut self) -> Result<(), Fault> {
        match self.shrunk && self.shared.room.is_full() {
            true => self.reclaim_segments(),
            false => Ok(()),
        }
    }

    /// Gives back each segment that neither a replay nor a text needs, and chooses one with few
    /// living texts. Only the candidates are looked at, so this costs the same for any number of
    /// segments.
    pub(super) fn reclaim_segments(&mut self) -> Result<(), Fault> {
        let (mut done, mut thin, mut again) = (Vec::new(), None, None);
        let room = self.room_for_moves();
        self.shrunk = false;
        for &generation in &self.candidates {
            // A replay would begin here or before.
            if generation >= self.checkpointed.generation {
                break;
            }
            let alive = self.shared.state().texts.segments.get(&generation)?;
            match (alive, self.journal.size_of(generation)) {
                (None, _) if self.keeps_segment(generation) => {}
                (None, _) => {
                    self.journal.release(generation);
                    done.push(generation);
                }
                (Some(alive), Some(size)) if alive.bytes < size / 4 => {
                    let movable =
                        !self.unmovable.contains(&generation) && bytes_to_move(&alive) <= room;
                    let chosen = match self.postponed.contains(&generation) {
                        true => &mut again,
                        false => &mut thin,
                    };
                    *chosen = chosen.or(movable.then_some(generation));
                }
                (Some(_), _) => done.push(generation),
            }
        }
        for generation in done {
            self.candidates.remove(&generation);
            self.unmovable.remove(&generation);
            self.postponed.remove(&generation);
        }
        let may_move = self.moving.is_none() && self.journal.count() > SEGMENTS_KEPT;
        if let Some(generation) = thin.or(again).filter(|_| may_move) {
            self.postponed.remove(&generation);
            self.moving = Some((generation, TextId(0)));
        }
        let bytes = self.journal.bytes();
        self.shared.journal_bytes.store(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// The bytes that texts which are copied onward may take in the journal. The room that was
    /// promised to settlements, and that of one more, is not among them. While the index has no
    /// room, a copy gives no segment back, so there are none.
    fn room_for_moves(&self) -> u64 {
        if self.shared.room.is_full() {
            return 0;
        }
        let Some(left) = self.journal.room_left() else {
            return u64::MAX;
        };
        left.saturating_sub((self.in_work() + 1).saturating_mul(CLAIM_BYTES))
    }

    /// Copies some texts of that segment onward.
    pub(super) fn move_some(&mut self) -> Result<(), Dead> {
        // Waiting requests go first.
        if !self.pending.is_empty() || self.is_blocked() {
            return Ok(());
        }
        let Some((generation, from)) = self.moving else {
            return Ok(());
        };
        let alive = self.shared.state().texts.segments.get(&generation)?;
        let room = self.room_for_moves();
        if alive.is_none_or(|alive| bytes_to_move(&alive) > room) {
            // A later checkpoint chooses again.
            self.moving = None;
            return Ok(());
        }
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
                Err(error @ ReadError::Corrupt { .. }) => {
                    tracing::error!(text = %id, %error, "text not copied onward: its segment stays");
                    self.unmovable.insert(generation);
                }
                Err(error) => {
                    tracing::warn!(text = %id, %error, "text not copied onward: tried again later");
                    self.postponed.insert(generation);
                    go_on = None;
                    break;
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
            if room < u64::MAX {
                // At once, before a claim gets the same room.
                self.append_pending()?;
            }
        }
        Ok(())
    }
}

/// The bytes of the journal that copies of all living texts of a segment take at most. When a
/// portion does not fit in the segment that is written to, the rest of that segment stays unused.
fn bytes_to_move(alive: &Segment) -> u64 {
    let portions = alive.texts / MOVE_MAX as u64 + 2 * alive.bytes / MOVE_BYTES as u64 + 1;
    let entries = alive.bytes + alive.texts * MOVE_ENTRY;
    let unused = entries.min((MOVE_BYTES + INLINE_TEXT_MAX) as u64);
    entries + portions * MOVE_PORTION + unused
}
