//! How much an account may send in a day.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
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
    accounts: HashMap<String, BTreeMap<u64, Vec<Address>>>,
    last: u64,
}

impl Planned {
    fn of<'a>(&'a self, account: &str) -> impl Iterator<Item = &'a Address> {
        let calls = self.accounts.get(account).into_iter();
        calls.flat_map(BTreeMap::values).flatten()
    }

    fn add(&mut self, account: &str, recipients: Vec<Address>) -> u64 {
        self.last += 1;
        let calls = self.accounts.entry(account.to_owned()).or_default();
        calls.insert(self.last, recipients);
        self.last
    }

    fn remove(&mut self, account: &str, id: u64) {
        if let Some(calls) = self.accounts.get_mut(account) {
            calls.remove(&id);
            if calls.is_empty() {
                self.accounts.remove(account);
            }
        }
    }
}

/// That a message may be added. Until this is dropped it counts, so that messages which are checked at the same moment are not
/// more than the limit together.
#[must_use = "it is to be kept until the message is added"]
pub struct Allowance<'a> {
    queue: &'a Queue,
    account: String,
    id: u64,
}

impl fmt::Debug for Allowance<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Allowance").field(&self.account).finish()
    }
}

impl Drop for Allowance<'_> {
    fn drop(&mut self) {
        self.queue.planned().remove(&self.account, self.id);
    }
}

impl Queue {
    /// Checks that an account may send to these recipients now. What is sent is counted when it is added, by the hour. An
    /// account that is not configured has no limits, and no allowance.
    ///
    /// # Errors
    /// If a limit of the account would be passed.
    pub fn allow<'a>(
        &self,
        account: &str,
        recipients: impl IntoIterator<Item = &'a Address>,
    ) -> Result<Option<Allowance<'_>>, LimitError> {
        let config = self.config.load();
        let Some(limits) = config.accounts.get(account) else {
            return Ok(None);
        };
        let (max, max_first) = (
            limits.max_outgoing_messages_per_day,
            limits.max_first_time_recipients_per_day,
        );
        let recipients: Vec<Address> = recipients.into_iter().cloned().collect();
        let new = recipients.len() as u64;
        // Nobody else is checked meanwhile. What is added just now may count twice, but never not at all.
        let mut planned = self.planned();
        let mut sent = self.store.sent(account, self.clock.now().before(DAY))?;
        let others = planned.of(account).count() as u64;
        sent.recipients += others;
        if sent.recipients + new > u64::from(max) {
            return Err(LimitError::Messages {
                sent: sent.recipients,
                new,
                max,
            });
        }
        // As long as all of them could be new, nobody needs to look.
        if sent.first_time + others + new > u64::from(max_first) {
            let others = self.unknown(account, planned.of(account))?;
            let unknown = self.unknown(account, &recipients)?;
            let first_time = unknown.difference(&others).count() as u64;
            sent.first_time += others.len() as u64;
            if first_time > 0 && sent.first_time + first_time > u64::from(max_first) {
                return Err(LimitError::FirstTime {
                    sent: sent.first_time,
                    new: first_time,
                    max: max_first,
                });
            }
        }
        let id = planned.add(account, recipients);
        drop(planned);
        Ok(Some(Allowance {
            queue: self,
            account: account.to_owned(),
            id,
        }))
    }

    /// To whom the account never sent before.
    fn unknown<'a>(
        &self,
        account: &str,
        recipients: impl IntoIterator<Item = &'a Address>,
    ) -> Result<BTreeSet<String>, StoreError> {
        let mut unknown = BTreeSet::new();
        for recipient in recipients {
            if !self.store.is_known(account, recipient)? {
                unknown.insert(recipient.unicode().to_lowercase());
            }
        }
        Ok(unknown)
    }
}
