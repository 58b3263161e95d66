//! Texts: who refers to them, and what of each journal segment is alive.

use std::ops::Bound;

use super::{
    Fault,
    state::{State, next},
    value::{Place, Segment, Stored},
};
use crate::{StoreError, TextId, TextSource, journal::BodyPlace};

/// Some texts, and where they are.
type Portion = Vec<(TextId, BodyPlace)>;

impl State {
    /// Adds a text that so many records are going to refer to.
    pub(super) fn add_text(&mut self, place: Place, refs: u64) -> Result<TextId, Fault> {
        let id = TextId(next(&mut self.counters.last_text));
        if refs == 0 {
            if let Place::File(place) = place {
                self.effects.dropped_files.push(place.file);
            }
            return Ok(id);
        }
        self.counters.text_bytes += place.len();
        match place {
            Place::Empty => {}
            Place::Journal(place) => self.add_to_segment(id, place)?,
            Place::File(place) => self.files.put_new(place.file, ()),
        }
        self.texts.put_new(id, Stored { place, refs });
        Ok(id)
    }

    fn add_to_segment(&mut self, id: TextId, place: BodyPlace) -> Result<(), Fault> {
        let len = u64::from(place.len);
        match self.segments.get_mut(&place.generation)? {
            Some(segment) => {
                segment.bytes += len;
                segment.texts += 1;
                segment.first = segment.first.min(id);
                segment.last = segment.last.max(id);
            }
            None => {
                let segment = Segment {
                    bytes: len,
                    texts: 1,
                    first: id,
                    last: id,
                };
                self.segments.put_new(place.generation, segment);
            }
        }
        Ok(())
    }

    fn remove_from_segment(&mut self, place: BodyPlace) -> Result<(), Fault> {
        let Some(segment) = self.segments.get_mut(&place.generation)? else {
            return Ok(());
        };
        segment.texts -= 1;
        segment.bytes -= u64::from(place.len);
        if segment.texts == 0 {
            self.segments.remove(&place.generation);
        }
        Ok(())
    }

    /// Checks that the texts that are said to be there are. So an op is refused as a whole, or not at all.
    pub(super) fn check_texts(
        &self,
        sources: impl Iterator<Item = TextSource>,
    ) -> Result<Option<StoreError>, Fault> {
        for source in sources {
            if let TextSource::Existing(id) = source
                && !self.texts.contains(&id)?
            {
                return Ok(Some(StoreError::NoText(id)));
            }
        }
        Ok(None)
    }

    /// So many more records refer to a text.
    pub(super) fn retain_text(&mut self, id: TextId, refs: u64) -> Result<(), Fault> {
        if let Some(stored) = self.texts.get_mut(&id)? {
            stored.refs += refs;
        }
        Ok(())
    }

    /// One record less refers to a text. With the last one it goes.
    pub(super) fn release_text(&mut self, id: TextId) -> Result<(), Fault> {
        let Some(stored) = self.texts.get_mut(&id)? else {
            return Ok(());
        };
        stored.refs -= 1;
        if stored.refs > 0 {
            return Ok(());
        }
        let place = stored.place;
        self.texts.remove(&id);
        self.counters.text_bytes -= place.len();
        match place {
            Place::Empty => {}
            Place::Journal(place) => self.remove_from_segment(place)?,
            Place::File(place) => {
                self.files.remove(&place.file);
                self.effects.dropped_files.push(place.file);
            }
        }
        Ok(())
    }

    /// A text lies somewhere else from now on, unless it went or was moved meanwhile.
    pub(super) fn move_text(&mut self, id: TextId, from: u64, to: BodyPlace) -> Result<(), Fault> {
        let Some(stored) = self.texts.get_mut(&id)? else {
            return Ok(());
        };
        let Place::Journal(old) = stored.place else {
            return Ok(());
        };
        if old.generation != from {
            return Ok(());
        }
        stored.place = Place::Journal(to);
        self.remove_from_segment(old)?;
        self.add_to_segment(id, to)
    }

    /// Up to `max` texts of a segment, from one on. None when all were seen, else where to go on.
    pub(super) fn texts_of(
        &self,
        generation: u64,
        from: TextId,
        max: usize,
    ) -> Result<(Portion, Option<TextId>), Fault> {
        let mut found = Vec::new();
        let Some(segment) = self.segments.get(&generation)? else {
            return Ok((found, None));
        };
        let from = from.max(segment.first);
        for (seen, item) in self
            .texts
            .range(Bound::Included(&from), Bound::Included(&segment.last))?
            .enumerate()
        {
            let (id, stored) = item?;
            // Those of other segments cost time too.
            if found.len() >= max || seen >= max * 16 {
                return Ok((found, Some(id)));
            }
            if let Place::Journal(place) = stored.place
                && place.generation == generation
            {
                found.push((id, place));
            }
        }
        Ok((found, None))
    }
}
