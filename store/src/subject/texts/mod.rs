//! Texts: the stored bytes of messages, who refers to them, and what of each journal segment is
//! alive.

#[cfg(any(test, feature = "memory"))]
pub(crate) mod model;
#[cfg(test)]
mod tests;

use std::ops::Bound;

use serde::{Deserialize, Serialize};

#[cfg(any(test, feature = "memory"))]
use super::ModelState;
use super::{Applied, Operations, State, next};
use crate::{
    Message, NewText, Store, StoreError, Text, TextSource, Top,
    error::Fault,
    id::ids,
    journal::{Space, TextPlace},
    table::{
        Table, tables,
        value::{records, ways},
    },
    textfile::TextFilePlace,
};

/// Texts that are let go by one operation.
const UNSTAGE_MAX: usize = 200;

ids! {
    /// A stored text. All records that refer to it share it.
    TextId,
}

/// A text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stored {
    pub(crate) place: Place,
    /// Records that refer to it.
    pub(crate) refs: u64,
}

impl Stored {
    /// The place of the text, if that is in this segment.
    fn place_in(&self, generation: u64) -> Option<TextPlace> {
        match self.place {
            Place::Journal(place) if place.generation == generation => Some(place),
            _ => None,
        }
    }
}

/// The place of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Place {
    /// Nowhere: it has no bytes.
    Empty,
    Journal(TextPlace),
    File(TextFilePlace),
}

impl Place {
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Empty => 0,
            Self::Journal(place) => u64::from(place.len),
            Self::File(place) => place.len,
        }
    }
}

/// The living part of a journal segment. A segment without living texts has no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Segment {
    /// Bytes of living texts.
    pub(crate) bytes: u64,
    /// Living texts.
    pub(crate) texts: u64,
    /// The texts that were first written to this segment are among those from here ...
    first: TextId,
    /// ... to here. All texts that were copied here from older segments come before.
    last: TextId,
}

impl Segment {
    const EMPTY: Self = Self {
        bytes: 0,
        texts: 0,
        first: TextId(u64::MAX),
        last: TextId(0),
    };
}

/// Numbers that are kept with the tables.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Counters {
    pub(crate) last: u64,
    /// Bytes of living texts.
    pub(crate) bytes: u64,
}

records! {
    Stored: version 1,
}

ways! {
    Segment: version 1,
}

tables! {
    /// The texts.
    counters: Counters,
    texts: Table<TextId, Stored> = Table::new("texts"),
    /// By generation.
    segments: Table<u64, Segment> = Table::new("segments"),
    /// The texts that were copied to a segment from an older one.
    moved: Table<(u64, TextId), ()> = Table::new("moved_texts"),
    /// The files of large texts that are alive.
    files: Table<u64, ()> = Table::new("files"),
    /// Texts that no record refers to yet.
    staged: Table<TextId, ()> = Table::new("staged"),
}

subject!(counters Counters, keys 1);

/// The text that comes with an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum OpText {
    /// It is the text of the journal entry.
    Inline,
    File(TextFilePlace),
}

impl OpText {
    pub(crate) fn of(text: &NewText) -> Self {
        match text {
            NewText::Inline(_) => Self::Inline,
            NewText::File(file) => Self::File(file.place()),
        }
    }

    /// The place of the text, if the text of the entry is at `place`.
    pub(super) fn place(self, place: Option<TextPlace>) -> Place {
        match self {
            Self::Inline => place.map_or(Place::Empty, Place::Journal),
            Self::File(place) => Place::File(place),
        }
    }
}

/// Operations on texts.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Op {
    /// Copies a text out of this segment, to where the entry is.
    Move { text: TextId, from: u64 },
    /// Stores a text that no record refers to yet. It goes when the process ends.
    Stage { text: OpText },
    /// Lets staged texts go.
    Unstage { ids: Vec<TextId> },
}

impl Operations for Op {
    const VERSION: u8 = 1;

    fn apply(self, state: &mut State, place: Option<TextPlace>) -> Result<Applied, Fault> {
        match self {
            Self::Move { text, from } => {
                if let Some(to) = place {
                    state.move_text(text, from, to)?;
                }
                Ok(Applied::Done)
            }
            Self::Stage { text } => {
                let id = state.add_text(text.place(place), 1)?;
                state.texts.staged.put_new(id, ());
                Ok(Applied::Number(id.0))
            }
            Self::Unstage { ids } => {
                ids.into_iter().try_for_each(|id| state.unstage(id))?;
                Ok(Applied::Done)
            }
        }
    }

    #[cfg(any(test, feature = "memory"))]
    fn apply_to_model(self, model: &mut ModelState, text: Option<NewText>) -> Applied {
        match self {
            Self::Move { .. } => Applied::Done,
            Self::Stage { .. } => model.stage(text),
            Self::Unstage { ids } => {
                ids.into_iter().for_each(|id| model.unstage(id));
                Applied::Done
            }
        }
    }

    fn changes(&self) -> usize {
        match self {
            Self::Move { .. } | Self::Stage { .. } => 1,
            Self::Unstage { ids } => ids.len(),
        }
    }

    /// A move is what frees segments of the journal in the end.
    fn space(&self) -> Space {
        match self {
            Self::Stage { .. } => Space::Ordinary,
            Self::Move { .. } | Self::Unstage { .. } => Space::Reserve,
        }
    }

    fn set_file(&mut self, place: TextFilePlace) {
        if let Self::Stage { text } = self {
            *text = OpText::File(place);
        }
    }
}

/// Some texts, and where they are.
type Portion = Vec<(TextId, TextPlace)>;

impl State {
    /// Ends the staging of a text. The text goes if no record refers to it.
    pub(super) fn unstage(&mut self, id: TextId) -> Result<(), Fault> {
        if self.texts.staged.take(&id)?.is_some() {
            self.release_text(id)?;
        }
        Ok(())
    }

    /// Drops a text that came with an operation that changes nothing.
    pub(super) fn drop_text(&mut self, text: Option<OpText>) {
        if let Some(OpText::File(place)) = text {
            self.effects.dropped_files.push(place.file);
        }
    }

    /// Adds a text. So many records are going to refer to it.
    pub(super) fn add_text(&mut self, place: Place, refs: u64) -> Result<TextId, Fault> {
        let id = TextId(next(&mut self.texts.counters.last));
        if refs == 0 {
            if let Place::File(place) = place {
                self.effects.dropped_files.push(place.file);
            }
            return Ok(id);
        }
        self.texts.counters.bytes += place.len();
        match place {
            Place::Empty => {}
            Place::Journal(place) => self.add_to_segment(place, Some(id))?,
            Place::File(place) => self.texts.files.put_new(place.file, ()),
        }
        self.texts.texts.put_new(id, Stored { place, refs });
        Ok(id)
    }

    /// One more text is alive in a segment. `first` is its number if it was first written there.
    fn add_to_segment(&mut self, place: TextPlace, first: Option<TextId>) -> Result<(), Fault> {
        let grow = |segment: &mut Segment| {
            segment.bytes += u64::from(place.len);
            segment.texts += 1;
            if let Some(id) = first {
                segment.first = segment.first.min(id);
                segment.last = segment.last.max(id);
            }
        };
        if let Some(segment) = self.texts.segments.get_mut(&place.generation)? {
            grow(segment);
        } else {
            let mut segment = Segment::EMPTY;
            grow(&mut segment);
            self.texts.segments.put_new(place.generation, segment);
        }
        Ok(())
    }

    /// A text is no longer alive in its segment.
    fn remove_from_segment(&mut self, id: TextId, place: TextPlace) -> Result<(), Fault> {
        let Some(segment) = self.texts.segments.get_mut(&place.generation)? else {
            return Ok(());
        };
        self.effects.shrunk.insert(place.generation);
        segment.texts -= 1;
        segment.bytes -= u64::from(place.len);
        let (was_moved, is_empty) = (id < segment.first, segment.texts == 0);
        if was_moved {
            self.texts.moved.remove(&(place.generation, id));
        }
        if is_empty {
            self.texts.segments.remove(&place.generation);
        }
        Ok(())
    }

    /// Checks that the texts that are said to be there are. So an op is refused as a whole, or not
    /// at all.
    pub(super) fn check_texts(
        &self,
        sources: impl Iterator<Item = TextSource>,
    ) -> Result<Option<StoreError>, Fault> {
        for source in sources {
            if let TextSource::Existing(id) = source
                && !self.texts.texts.contains(&id)?
            {
                return Ok(Some(StoreError::NoText(id)));
            }
        }
        Ok(None)
    }

    /// So many more records refer to a text.
    pub(super) fn retain_text(&mut self, id: TextId, refs: u64) -> Result<(), Fault> {
        if let Some(stored) = self.texts.texts.get_mut(&id)? {
            stored.refs += refs;
        }
        Ok(())
    }

    /// One record less refers to a text. With the last one it goes.
    pub(super) fn release_text(&mut self, id: TextId) -> Result<(), Fault> {
        let Some(stored) = self.texts.texts.get_mut(&id)? else {
            return Ok(());
        };
        stored.refs -= 1;
        if stored.refs > 0 {
            return Ok(());
        }
        let place = stored.place;
        self.texts.texts.remove(&id);
        self.texts.counters.bytes -= place.len();
        match place {
            Place::Empty => {}
            Place::Journal(place) => self.remove_from_segment(id, place)?,
            Place::File(place) => {
                self.texts.files.remove(&place.file);
                self.effects.dropped_files.push(place.file);
            }
        }
        Ok(())
    }

    /// A text lies somewhere else from now on, unless it went or was moved meanwhile.
    pub(super) fn move_text(&mut self, id: TextId, from: u64, to: TextPlace) -> Result<(), Fault> {
        let Some(stored) = self.texts.texts.get_mut(&id)? else {
            return Ok(());
        };
        let Place::Journal(old) = stored.place else {
            return Ok(());
        };
        if old.generation != from {
            return Ok(());
        }
        stored.place = Place::Journal(to);
        self.remove_from_segment(id, old)?;
        self.add_to_segment(to, None)?;
        // In the index of an earlier program the range of a segment may be wide, and have the text.
        let segment = self.texts.segments.get(&to.generation)?;
        if segment.is_none_or(|segment| id < segment.first) {
            self.texts.moved.put_new((to.generation, id), ());
        }
        Ok(())
    }

    /// Up to `max` texts of a segment, from one on. None when all were seen, else where to go on.
    /// The cost is in proportion to the texts that the segment had when it was written.
    pub(crate) fn texts_of(
        &self,
        generation: u64,
        from: TextId,
        max: usize,
    ) -> Result<(Portion, Option<TextId>), Fault> {
        let mut found = Vec::new();
        let Some(segment) = self.texts.segments.get(&generation)? else {
            return Ok((found, None));
        };
        let moved = (generation, from)..(generation, segment.first);
        if moved.start < moved.end {
            let (start, end) = (Bound::Included(&moved.start), Bound::Excluded(&moved.end));
            for item in self.texts.moved.range(start, end)? {
                let ((_, id), ()) = item?;
                if found.len() >= max {
                    return Ok((found, Some(id)));
                }
                let stored = self.texts.texts.get(&id)?;
                found.extend(stored.and_then(|stored| Some((id, stored.place_in(generation)?))));
            }
        }
        let from = from.max(segment.first);
        if from > segment.last {
            return Ok((found, None));
        }
        let (start, end) = (Bound::Included(&from), Bound::Included(&segment.last));
        for (seen, item) in self.texts.texts.range(start, end)?.enumerate() {
            let (id, stored) = item?;
            // The texts that were moved away cost time too.
            if found.len() >= max || seen >= max * 16 {
                return Ok((found, Some(id)));
            }
            found.extend(stored.place_in(generation).map(|place| (id, place)));
        }
        Ok((found, None))
    }
}

impl Store {
    /// A stored text.
    ///
    /// # Errors
    /// [`StoreError::NoText`] if no record refers to it any more.
    pub async fn text(&self, id: TextId) -> Result<Text, StoreError> {
        self.open_text(id).await
    }

    /// The message that has this top and this stored text.
    ///
    /// # Errors
    /// As for [`text`](Self::text).
    pub async fn message(&self, top: &Top, text: TextId) -> Result<Message, StoreError> {
        Ok(Message::new(top.clone(), self.text(text).await?))
    }

    /// Stores a text for messages that [`accept_all`](Self::accept_all) is going to take. It goes
    /// when the process ends.
    ///
    /// # Errors
    /// If the text can't be made durable.
    pub async fn stage(&self, text: NewText) -> Result<TextId, StoreError> {
        let op = Op::Stage {
            text: OpText::of(&text),
        };
        self.change_one(super::Op::Texts(op), Some(text))
            .await?
            .output()
    }

    /// Lets staged texts go.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn unstage(&self, ids: Vec<TextId>) -> Result<(), StoreError> {
        let ops = ids.chunks(UNSTAGE_MAX).map(|ids| {
            let ids = ids.to_vec();
            super::Op::Texts(Op::Unstage { ids })
        });
        self.change_many(ops.collect()).await.map(drop)
    }
}

#[cfg(test)]
pub(crate) fn samples() -> Vec<Op> {
    vec![
        Op::Move {
            text: TextId(1),
            from: 2,
        },
        Op::Stage {
            text: OpText::Inline,
        },
        Op::Unstage {
            ids: vec![TextId(1)],
        },
    ]
}
