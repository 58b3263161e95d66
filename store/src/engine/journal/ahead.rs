//! Callers read the places of the index that their change is going to need, before the writer does:
//! see [`Ahead`].

use std::sync::{Arc, PoisonError, RwLock};

use tokio::task;

use super::{JournalEngine, Shared, writer::claim::pick_with};
use crate::{
    Claim, ClaimHooks, Hook, HookId, NewMessage, QueueId, Queued, StoreError,
    error::Fault,
    subject::{State, sent::Known, sent::known_key},
    table::{
        Ahead,
        due::{DueAhead, Lanes, Pick},
        key::Name,
    },
};

/// So few records are looked up at once: they are usually in the page cache. More are looked up on
/// tokio's pool of blocking threads.
const AT_ONCE: usize = 16;

/// The tables of the index that are so large that looking ahead pays.
#[derive(Default)]
pub(super) struct LargeTables(RwLock<Large>);

#[derive(Clone, Default)]
struct Large {
    queued: Option<Ahead<QueueId, Queued>>,
    hooks: Option<Ahead<HookId, Hook>>,
    known: Option<Ahead<(Name, Name), Known>>,
}

impl LargeTables {
    /// Takes the index as of the last checkpoint.
    pub(super) fn update(&self, state: &State) {
        self.set(Large {
            queued: state.queue.queued.ahead().and_then(Ahead::if_large),
            hooks: state.hooks.hooks.ahead().and_then(Ahead::if_large),
            known: state.sent.known.ahead().and_then(Ahead::if_large),
        });
    }

    /// Lets go of the index.
    pub(super) fn clear(&self) {
        self.set(Large::default());
    }

    fn set(&self, large: Large) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = large;
    }

    fn get<T: Clone>(&self, of: impl FnOnce(&Large) -> &Option<T>) -> Option<T> {
        of(&self.0.read().unwrap_or_else(PoisonError::into_inner)).clone()
    }
}

impl Shared {
    /// Reads places of the index. An error is that of the change too, unless the index can't be
    /// read any more.
    fn looked(&self, looked: Result<(), Fault>) {
        let _ = self.check_index(looked.map_err(StoreError::from));
    }
}

impl JournalEngine {
    /// Looks up so many records. Each of many callers with a few would get a thread of the pool,
    /// and each thread has memory of its own.
    async fn look(&self, count: usize, look: impl FnOnce() -> Result<(), Fault> + Send + 'static) {
        #[cfg(test)]
        if self.shared.inline {
            return self.shared.looked(look());
        }
        if count <= AT_ONCE {
            return self.shared.looked(look());
        }
        let shared = Arc::clone(&self.shared);
        // The change comes next, and tells of what is wrong.
        let _ = task::spawn_blocking(move || shared.looked(look())).await;
    }

    pub(super) async fn look_ahead_of_claim(&self, claim: &Claim) {
        let Some(queued) = self.shared.large.get(|large| &large.queued) else {
            return;
        };
        let due = self.shared.readable().map(|state| {
            pick_with(&claim.which, claim, claim.max, |pick| {
                state.queue.due.ahead(pick)
            })
        });
        if let Ok(Ok(Some(due))) = due {
            self.look(claim.max, move || look_up(due, &queued)).await;
        }
    }

    pub(super) async fn look_ahead_of_hooks(&self, claim: &ClaimHooks) {
        let Some(hooks) = self.shared.large.get(|large| &large.hooks) else {
            return;
        };
        let pick = Pick {
            now: claim.now,
            max: claim.max,
            max_per_lane: claim.max_per_lane,
            lanes: Lanes::AllBut(&claim.except),
        };
        let due = self
            .shared
            .readable()
            .map(|state| state.hooks.due.ahead(&pick));
        if let Ok(Ok(Some(due))) = due {
            self.look(claim.max, move || look_up(due, &hooks)).await;
        }
    }

    pub(super) async fn look_ahead_of_messages(&self, messages: &[NewMessage]) {
        if messages.is_empty() {
            return;
        }
        let Some(known) = self.shared.large.get(|large| &large.known) else {
            return;
        };
        let keys = messages.iter().flat_map(|message| {
            let account: Name = message.common.account.as_str().into();
            let recipients = message.recipients.iter();
            recipients.map(move |new| known_key(&account, &new.recipient))
        });
        let keys: Vec<_> = keys.collect();
        let count = keys.len();
        let look = move || keys.iter().try_for_each(|key| known.touch(key));
        self.look(count, look).await;
    }
}

/// Reads the entries that are going to be claimed, and their records.
fn look_up<Id, V>(due: DueAhead<Id>, records: &Ahead<Id, V>) -> Result<(), Fault>
where
    Id: crate::table::key::Key + Copy,
    V: crate::table::value::Value,
    (crate::Time, Id): crate::table::value::Value,
{
    for id in due.look()? {
        records.touch(&id)?;
    }
    Ok(())
}
