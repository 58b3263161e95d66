//! How much an account may send in a day.

use std::{collections::BTreeSet, time::Duration};

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

impl Queue {
    /// Checks that an account may send to these recipients now. What is sent is counted when it is added, by the hour.
    ///
    /// # Errors
    /// If a limit of the account would be passed.
    pub fn check_limits<'a>(
        &self,
        account: &str,
        recipients: impl IntoIterator<Item = &'a Address>,
    ) -> Result<(), LimitError> {
        let config = self.config.load();
        let Some(limits) = config.accounts.get(account) else {
            return Ok(());
        };
        let (max, max_first) = (
            limits.max_outgoing_messages_per_day,
            limits.max_first_time_recipients_per_day,
        );
        let sent = self.store.sent(account, self.clock.now().before(DAY))?;
        let recipients: Vec<&Address> = recipients.into_iter().collect();
        let new = recipients.len() as u64;
        if sent.recipients + new > u64::from(max) {
            return Err(LimitError::Messages {
                sent: sent.recipients,
                new,
                max,
            });
        }
        // As long as all of them could be new, nobody needs to look.
        if sent.first_time + new <= u64::from(max_first) {
            return Ok(());
        }
        let mut unknown = BTreeSet::new();
        for recipient in recipients {
            if !self.store.is_known(account, recipient)? {
                unknown.insert(recipient.unicode().to_lowercase());
            }
        }
        let first_time = unknown.len() as u64;
        if first_time > 0 && sent.first_time + first_time > u64::from(max_first) {
            return Err(LimitError::FirstTime {
                sent: sent.first_time,
                new: first_time,
                max: max_first,
            });
        }
        Ok(())
    }
}
