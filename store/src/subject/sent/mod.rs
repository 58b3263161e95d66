//! The counts of sent messages, for the limits of accounts: by hour and by recipient.

mod known;
#[cfg(any(test, feature = "memory"))]
pub(crate) mod model;

use std::{ops::Bound, sync::Arc};

use postrider_smtp::{Address, Host};
use serde::{Deserialize, Serialize};

use self::known::Walk;
#[cfg(test)]
use self::known::known_as;
pub(crate) use self::known::{Known, known_domain_key, known_key};
use super::{NoOperation, State};
use crate::{
    Common, NewRecipient, Store, StoreError, Time,
    error::Fault,
    table::{Table, key::Name, tables, value::records},
};

pub(crate) type Op = NoOperation;

/// How much an account sent in some time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// All recipients.
    pub recipients: u64,
    /// The recipients that had no message before.
    pub first_time: u64,
}

impl Sent {
    /// Both together.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            recipients: self.recipients + other.recipients,
            first_time: self.first_time + other.first_time,
        }
    }
}

/// Hours since 1970: what is sent is counted by them.
pub(crate) fn hour(time: Time) -> u64 {
    (time.0.max(0) / 3_600_000_000).cast_unsigned()
}

/// Hours that are counted: more than the 24 that anybody asks for.
pub(crate) const SENT_HOURS: u64 = 48;

records! {
    Sent: version 1,
    Walk: version 1,
}

tables! {
    /// The counts of sent messages.
    counters: (),
    /// By account and hour.
    sent: Table<(Name, u64), Sent> = Table::new("sent"),
    /// The recipients that an account sent to, and their domains.
    known: Table<(Name, Name), Known> = Table::new("known"),
    /// How far the search for recipients to be forgotten is, under 0.
    known_walk: Table<u64, Walk> = Table::new("known_walk"),
}

subject!(
    counters (), keys 1,
    fn sweep(state: &mut State, now: Time, max: u64) -> Result<u64, Fault> {
        state.sent.forget_known(now, max)
    }
);

impl Tables {
    /// Counts a message.
    pub(super) fn count(
        &mut self,
        common: &Common,
        recipients: &[NewRecipient],
    ) -> Result<(), Fault> {
        let account: Name = common.account.as_str().into();
        let mut sent = Sent {
            recipients: recipients.len() as u64,
            first_time: 0,
        };
        for recipient in recipients {
            let is_first = self.meet(&account, &recipient.recipient, common.queued)?;
            sent.first_time += u64::from(is_first);
        }
        let hour = hour(common.queued);
        let key = (Arc::clone(&account), hour);
        match self.sent.get_mut(&key)? {
            Some(before) => *before = before.plus(sent),
            None => {
                self.sent.put_new(key, sent);
                self.forget_before(&account, hour)?;
            }
        }
        Ok(())
    }

    /// Removes the numbers of an account that are too old at this hour.
    fn forget_before(&mut self, account: &Name, hour: u64) -> Result<(), Fault> {
        let Some(last) = hour.checked_sub(SENT_HOURS) else {
            return Ok(());
        };
        let (from, to) = ((Arc::clone(account), 0), (Arc::clone(account), last));
        let old: Result<Vec<_>, Fault> = self
            .sent
            .range(Bound::Included(&from), Bound::Included(&to))?
            .collect();
        for (key, _) in old? {
            self.sent.remove(&key);
        }
        Ok(())
    }

    fn since(&self, account: &str, since: Time) -> Result<Sent, Fault> {
        let account: Name = account.into();
        let (from, to) = ((Name::clone(&account), hour(since)), (account, u64::MAX));
        let mut sum = Sent::default();
        for item in self
            .sent
            .range(Bound::Included(&from), Bound::Included(&to))?
        {
            sum = sum.plus(item?.1);
        }
        Ok(sum)
    }
}

questions! {
    ask Since<'a> { account: &'a str, since: Time } -> Sent,
    |this, state| state.sent.since(this.account, this.since),
    |this, model| model.sent.since(this.account, this.since);

    ask IsKnown<'a> { account: &'a str, recipient: &'a Address } -> bool,
    |this, state| {
        state.sent.known.contains(&known_key(&this.account.into(), this.recipient))
    },
    |this, model| {
        model.sent.is_known(&known_key(&this.account.into(), this.recipient))
    };

    ask IsKnownDomain<'a> { account: &'a str, domain: &'a Host } -> bool,
    |this, state| {
        state.sent.known.contains(&known_domain_key(&this.account.into(), this.domain))
    },
    |this, model| {
        model.sent.is_known(&known_domain_key(&this.account.into(), this.domain))
    };
}

impl Store {
    /// The messages of an account since a time, counted from the beginning of that hour.
    ///
    /// # Errors
    /// If it can't be read.
    pub async fn sent(&self, account: &str, since: Time) -> Result<Sent, StoreError> {
        self.ask(Since { account, since }).await
    }

    /// Whether an account has sent to a recipient. The store forgets a recipient three years after
    /// the last message, or up to 30 days earlier.
    ///
    /// # Errors
    /// If it can't be read.
    pub async fn is_known(&self, account: &str, recipient: &Address) -> Result<bool, StoreError> {
        self.ask(IsKnown { account, recipient }).await
    }

    /// Whether an account has sent to a recipient in a domain. The store forgets a domain two
    /// years after the last message, or up to 30 days earlier. An earlier program noted no domains:
    /// a domain counts from the next message on whose recipient is noted anew.
    ///
    /// # Errors
    /// If it can't be read.
    pub async fn is_known_domain(&self, account: &str, domain: &Host) -> Result<bool, StoreError> {
        self.ask(IsKnownDomain { account, domain }).await
    }
}

#[cfg(test)]
pub(crate) fn samples() -> Vec<Op> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// These are stored keys: other forms need another version of the keys of this subject.
    #[test]
    fn the_keys_are_fixed() {
        assert_eq!(hour(Time(3_600_000_000)), 1);
        let recipient = "X@B\u{fc}cher.example".parse().unwrap();
        assert_eq!(known_as(&recipient), "x@b\u{fc}cher.example");
        let (_, domain) = known_domain_key(&"ann".into(), &recipient.host);
        assert_eq!(&*domain, "@b\u{fc}cher.example");
    }
}
