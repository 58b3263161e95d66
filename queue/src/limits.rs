//! How much an account may send in a day.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use postrider_smtp::Address;
use postrider_store::StoreError;

use crate::Queue;

/// The time that the limits are for.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Why an account may not send now.
#[derive(Debug, thiserror::Error)]
pub enum LimitError {
    /// Too many recipients.
    #[error(
        "{sent} recipients in the last 24 hours and {new} more would be above the account's limit of {max} \
         (max_outgoing_messages_per_day)"
    )]
    Messages {
        /// In the last 24 hours.
        sent: u64,
        /// Now.
        new: u64,
        /// The limit.
        max: u32,
    },
    /// Too many recipients that it never sent to before.
    #[error(
        "{sent} recipients that were never sent to before in the last 24 hours and {new} more would be above the account's \
         limit of {max} (max_first_time_recipients_per_day)"
    )]
    FirstTime {
        /// In the last 24 hours.
        sent: u64,
        /// Now.
        new: u64,
        /// The limit.
        max: u32,
    },
    /// It can't be told.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What is allowed and not added yet, by account.
#[derive(Debug, Default)]
pub(crate) struct Planned {
    accounts: HashMap<String, Arc<Mutex<Calls>>>,
}

/// Of one account.
#[derive(Debug, Default)]
struct Calls {
    calls: BTreeMap<u64, Call>,
    last: u64,
}

/// What one who submits is going to add.
#[derive(Debug)]
struct Call {
    /// The idempotency key, if there is one: only one with the same will be added.
    key: Option<String>,
    recipients: Vec<Address>,
    /// To whom of them the account never sent before, once somebody had to know.
    unknown: Option<BTreeSet<String>>,
}

/// That messages may be added. Until this is dropped they count, so that those which are checked at the same moment are not
/// more than the limit together.
#[derive(Debug)]
#[must_use = "it is to be kept until the messages are added"]
pub struct Allowance {
    calls: Arc<Mutex<Calls>>,
    id: u64,
}

impl Drop for Allowance {
    fn drop(&mut self) {
        locked(&self.calls).calls.remove(&self.id);
    }
}

fn locked(calls: &Mutex<Calls>) -> MutexGuard<'_, Calls> {
    calls.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Queue {
    /// Checks that an account may send to these recipients now; `key` is the idempotency key, if there is one. What is sent is
    /// counted when it is added, by the hour. An account that is not configured has no limits, and no allowance. With many
    /// recipients it may block.
    ///
    /// # Errors
    /// If a limit of the account would be passed.
    pub fn allow<'a>(
        &self,
        account: &str,
        recipients: impl IntoIterator<Item = &'a Address>,
        key: Option<&str>,
    ) -> Result<Option<Allowance>, LimitError> {
        let config = self.config.load();
        let Some(limits) = config.accounts.get(account) else {
            return Ok(None);
        };
        let (max, max_first) = (
            limits.max_outgoing_messages_per_day,
            limits.max_first_time_recipients_per_day,
        );
        let mut call = Call {
            key: key.map(str::to_owned),
            recipients: recipients.into_iter().cloned().collect(),
            unknown: None,
        };
        let new = call.recipients.len() as u64;
        let shared = self.planned_by(account);
        // Nobody else of the account is checked meanwhile. What is added just now may count twice, but never not at all.
        let mut planned = locked(&shared);
        let mut sent = self.store.sent(account, self.clock.now().before(DAY))?;
        let others = planned.calls.values_mut();
        let mut others: Vec<&mut Call> = others
            .filter(|other| other.key.is_none() || other.key != call.key)
            .collect();
        let of_others = others.iter().map(|other| other.recipients.len() as u64);
        let of_others: u64 = of_others.sum();
        sent.recipients += of_others;
        if sent.recipients + new > u64::from(max) {
            return Err(LimitError::Messages {
                sent: sent.recipients,
                new,
                max,
            });
        }
        // As long as all of them could be new, nobody needs to look.
        if sent.first_time + of_others + new > u64::from(max_first) {
            let mut of_others = BTreeSet::new();
            for other in &mut others {
                of_others.extend(self.unknown(account, other)?.iter());
            }
            let first_time = self.unknown(account, &mut call)?;
            let first_time = first_time.iter().filter(|to| !of_others.contains(to));
            let first_time = first_time.count() as u64;
            sent.first_time += of_others.len() as u64;
            if first_time > 0 && sent.first_time + first_time > u64::from(max_first) {
                return Err(LimitError::FirstTime {
                    sent: sent.first_time,
                    new: first_time,
                    max: max_first,
                });
            }
        }
        planned.last += 1;
        let id = planned.last;
        planned.calls.insert(id, call);
        drop(planned);
        Ok(Some(Allowance { calls: shared, id }))
    }

    fn planned_by(&self, account: &str) -> Arc<Mutex<Calls>> {
        let mut planned = self.planned();
        match planned.accounts.get(account) {
            Some(calls) => Arc::clone(calls),
            None => {
                let calls = Arc::<Mutex<Calls>>::default();
                let account = account.to_owned();
                planned.accounts.insert(account, Arc::clone(&calls));
                calls
            }
        }
    }

    /// To whom of a call the account never sent before.
    fn unknown<'c>(
        &self,
        account: &str,
        call: &'c mut Call,
    ) -> Result<&'c BTreeSet<String>, StoreError> {
        let known = match call.unknown.take() {
            Some(unknown) => unknown,
            None => {
                let mut unknown = BTreeSet::new();
                for recipient in &call.recipients {
                    if !self.store.is_known(account, recipient)? {
                        unknown.insert(recipient.unicode().to_lowercase());
                    }
                }
                unknown
            }
        };
        Ok(call.unknown.insert(known))
    }
}
