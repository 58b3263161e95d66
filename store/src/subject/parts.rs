//! The parts that each subject brings: what they are, as traits.

use std::collections::BTreeSet;

use serde::{Serialize, de::DeserializeOwned};

#[cfg(any(test, feature = "memory"))]
use super::ModelState;
use super::{Op, Reader, State};
use crate::{
    Accepted, StoreError, Time,
    error::Fault,
    journal::{Space, TextPlace},
    table::{Layered, key::Name, value::Unreadable},
    textfile::TextFilePlace,
};
#[cfg(any(test, feature = "memory"))]
use crate::{NewText, TextId};

/// The parts of a subject beside its tables.
pub(crate) trait Subject: Layered {
    /// Numbers that are kept with the tables.
    type Counters: Serialize + DeserializeOwned + Default + Copy;
    /// The version of the counters, and of all keys that are derived from records.
    const KEYS: u8;
    /// The first version whose counters have the same shape. Keys of that version can be made anew.
    const KEYS_SINCE: u8 = Self::KEYS;

    fn counters(&self) -> Self::Counters;
    fn set_counters(&mut self, counters: Self::Counters);

    /// Reads counters of a version before [`KEYS_SINCE`](Self::KEYS_SINCE).
    fn older_counters(found: u8, _bytes: &[u8]) -> Result<Self::Counters, Unreadable> {
        Err(Unreadable::Older(found))
    }

    /// Derives the keys from records anew, since the index has those of an older version.
    fn renew_keys(_state: &mut State) -> Result<(), Fault> {
        Ok(())
    }

    /// Gives the next records numbers that are this much higher, if people and programs know the
    /// records by their numbers.
    fn skip_ids(&mut self, _by: u64) {}

    /// Removes a record of the history whose time is over.
    fn forget(_state: &mut State, _number: u64) -> Result<(), Fault> {
        Ok(())
    }

    /// Removes at most `max` records that are too old and not in the history. Gives how many it
    /// removed.
    fn sweep(_state: &mut State, _now: Time, _max: u64) -> Result<u64, Fault> {
        Ok(0)
    }
}

/// The operations of a subject: changes of the state, as values.
///
/// The effect of an operation follows from the state and the operation alone, so that a replay of
/// the journal gives the same state again.
pub(crate) trait Operations: Serialize + DeserializeOwned {
    /// The version of the encoding. It goes up with each new operation, and with each operation
    /// that gets another shape.
    const VERSION: u8;
    /// The first version whose operations all have the shape that they have now.
    const SINCE: u8 = Self::VERSION;

    /// Reads an operation of a version before [`SINCE`](Self::SINCE).
    fn older(version: u8, _bytes: &[u8]) -> Result<Self, Unreadable> {
        Err(Unreadable::Older(version))
    }

    /// Carries the operation out. Its text, if it has one, lies at `place`.
    fn apply(self, state: &mut State, place: Option<TextPlace>) -> Result<Applied, Fault>;

    /// Does the same to the model.
    #[cfg(any(test, feature = "memory"))]
    fn apply_to_model(self, model: &mut ModelState, text: Option<NewText>) -> Applied;

    /// How many records the operation changes, about.
    fn changes(&self) -> usize {
        1
    }

    /// The disk space that the operation may use. What brings something new waits for room. What
    /// ends something, or frees room, may use the reserve. Each subject says so for each of its
    /// operations.
    fn space(&self) -> Space;

    /// Says that the text of the operation is in a file.
    fn set_file(&mut self, _place: TextFilePlace) {}
}

/// For subjects that only change together with others.
#[derive(Debug, Serialize, serde::Deserialize)]
pub(crate) enum NoOperation {}

impl Operations for NoOperation {
    const VERSION: u8 = 1;

    fn apply(self, _: &mut State, _: Option<TextPlace>) -> Result<Applied, Fault> {
        match self {}
    }

    #[cfg(any(test, feature = "memory"))]
    fn apply_to_model(self, _: &mut ModelState, _: Option<NewText>) -> Applied {
        match self {}
    }

    fn space(&self) -> Space {
        match *self {}
    }
}

/// The effect of an operation.
#[derive(Debug)]
pub(crate) enum Applied {
    /// Numbers were given.
    Accepted(Accepted),
    /// Whether something was changed.
    Flag(bool),
    /// How many records were changed or removed.
    Count(u64),
    /// A number was given.
    Number(u64),
    Done,
    /// The operation makes no sense in this state. Nothing was changed.
    Refused(StoreError),
}

/// The output of an operation.
pub(crate) trait Output: Sized + Send {
    fn from_applied(applied: Applied) -> Option<Self>;
    fn into_applied(self) -> Applied;
}

macro_rules! outputs {
    ($($output:ty: $value:pat => $given:expr, $variant:expr;)*) => {$(
        impl Output for $output {
            fn from_applied(applied: Applied) -> Option<Self> {
                match applied {
                    $value => Some($given),
                    _ => None,
                }
            }

            fn into_applied(self) -> Applied {
                $variant(self)
            }
        }
    )*};
}

outputs! {
    Accepted: Applied::Accepted(accepted) => accepted, Applied::Accepted;
    bool: Applied::Flag(flag) => flag, Applied::Flag;
    u64: Applied::Count(count) => count, Applied::Count;
    (): Applied::Done => (), |()| Applied::Done;
}

/// The output of an operation that may make no sense in the state of the store.
impl<T: Output> Output for Result<T, StoreError> {
    fn from_applied(applied: Applied) -> Option<Self> {
        match applied {
            Applied::Refused(error) => Some(Err(error)),
            applied => T::from_applied(applied).map(Ok),
        }
    }

    fn into_applied(self) -> Applied {
        self.map_or_else(Applied::Refused, T::into_applied)
    }
}

impl Applied {
    /// Whether something is different now.
    pub(crate) const fn has_effect(&self) -> bool {
        match self {
            Self::Flag(changed) => *changed,
            Self::Count(count) => *count > 0,
            Self::Refused(_) => false,
            Self::Accepted(_) | Self::Number(_) | Self::Done => true,
        }
    }

    /// The output, with the type of the operation.
    pub(crate) fn output<T: Output>(self) -> Result<T, StoreError> {
        match self {
            Self::Refused(error) => Err(error),
            // Each operation gives what belongs to it.
            applied => T::from_applied(applied).ok_or(StoreError::Closed),
        }
    }
}

/// One operation with the type of what it gives back.
pub(crate) trait Operation: Send {
    type Output: Output;
    fn into_op(self) -> Op;
}

/// A question whose answer takes a few look-ups.
pub(crate) trait Question: Send {
    type Answer: Send;
    fn answer(&self, state: &State) -> Result<Self::Answer, Fault>;
    #[cfg(any(test, feature = "memory"))]
    fn answer_of_model(&self, model: &ModelState) -> Self::Answer;
}

/// A question that may look at many records, so that its answer takes long.
pub(crate) trait Scan: Send + 'static {
    type Answer: Send + 'static;
    fn answer(&self, reader: &Reader<'_>) -> Result<Self::Answer, StoreError>;
    #[cfg(any(test, feature = "memory"))]
    fn answer_of_model(&self, model: &ModelState) -> Self::Answer;
}

/// A subject's part of the model. The model is the plainest description of what a store does: it
/// looks at everything to find something, and keeps no index.
#[cfg(any(test, feature = "memory"))]
pub(crate) trait ModelPart: Clone + Default {
    /// Whether a record refers to this text.
    fn uses(&self, _text: TextId) -> bool {
        false
    }

    /// The records of the history: when the time of each is over, and its number.
    fn history(&self) -> Vec<(Time, u64)> {
        Vec::new()
    }

    /// As [`Subject::skip_ids`].
    fn skip_ids(&mut self, _by: u64) {}

    /// Removes a record of the history.
    fn forget(&mut self, _number: u64) {}

    /// As [`Subject::sweep`].
    fn sweep(&mut self, _now: Time, _max: u64) -> u64 {
        0
    }
}

/// Side effects that operations ask for. They are carried out when the operations are durable and
/// applied.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    /// Files of texts that no record refers to any more.
    pub(crate) dropped_files: Vec<u64>,
    /// Segments of the journal in which less is alive than before.
    pub(crate) shrunk: BTreeSet<u64>,
    /// A message may have become due.
    pub(crate) queue_changed: bool,
    /// A webhook call may have become due.
    pub(crate) hooks_changed: bool,
    /// There are more events.
    pub(crate) events_changed: bool,
    /// A key for the API is gone.
    pub(crate) keys_removed: bool,
    /// A mail came that may be a report.
    pub(crate) reports_arrived: bool,
    /// An account wants something else of its mail.
    pub(crate) sieve_changed: bool,
    /// The accounts whose mailboxes changed.
    pub(crate) mail_changed: BTreeSet<Name>,
}

/// The next number of a sequence.
pub(crate) fn next(last: &mut u64) -> u64 {
    *last += 1;
    *last
}
