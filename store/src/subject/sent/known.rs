//! The recipients that accounts sent to. A recipient without a message for a long time is
//! forgotten.

use std::{ops::Bound, sync::Arc};

use postrider_smtp::{Address, Host};
use serde::{Deserialize, Serialize};

use super::Tables;
use crate::{
    Time,
    error::Fault,
    table::{
        key::Name,
        value::{Unreadable, Value, append, exactly, version},
    },
};

/// A recipient is forgotten so many days after it was last noted: three years.
const KNOWN_DAYS: u32 = 3 * 365 + 1;
/// A domain is forgotten so many days after it was last noted: two years.
const KNOWN_DOMAIN_DAYS: u32 = 2 * 365;
/// A message notes its recipient anew after so many days. So most messages change nothing.
const RENEWED_DAYS: u32 = 30;
/// Recipients that a step looks at, for each that it may forget.
const LOOKED: usize = 16;

/// The form in which the store remembers a recipient.
pub(super) fn known_as(recipient: &Address) -> String {
    recipient.unicode().to_lowercase()
}

/// The key of a recipient that an account sent to.
pub(crate) fn known_key(account: &Name, recipient: &Address) -> (Name, Name) {
    (Arc::clone(account), known_as(recipient).into())
}

/// The key of a domain that an account sent to. No address begins with the at sign.
pub(crate) fn known_domain_key(account: &Name, domain: &Host) -> (Name, Name) {
    let domain = format!("@{}", domain.unicode().to_lowercase());
    (Arc::clone(account), domain.into())
}

/// The day on which a recipient was last noted, in days since 1970. None: a program noted it that
/// kept no day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    day: Option<u32>,
}

impl Known {
    pub(super) fn at(time: Time) -> Self {
        let day = Some(time.day());
        Self { day }
    }

    /// Whether a message should note the recipient anew.
    pub(super) fn is_stale(self, now: Time) -> bool {
        let renewed = |noted: u32| noted.saturating_add(RENEWED_DAYS) <= now.day();
        self.day.is_none_or(renewed)
    }

    /// Whether a recipient, or a domain, is forgotten.
    fn is_over(self, name: &Name, now: Time) -> bool {
        let days = match name.starts_with('@') {
            true => KNOWN_DOMAIN_DAYS,
            false => KNOWN_DAYS,
        };
        let over = |noted: u32| noted.saturating_add(days) <= now.day();
        self.day.is_some_and(over)
    }
}

/// A value without bytes has no day.
impl Value for Known {
    const VERSION: u8 = 1;
    const IS_WAY: bool = false;

    fn encode(&self, out: &mut Vec<u8>) {
        if let Some(day) = self.day {
            out.push(Self::VERSION);
            append(&day, out);
        }
    }

    fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        if bytes.is_empty() {
            return Ok(Self { day: None });
        }
        match version(bytes, Self::VERSION)? {
            (Self::VERSION, rest) => Ok(Self {
                day: Some(exactly(rest)?),
            }),
            (found, _) => Err(Unreadable::Older(found)),
        }
    }
}

/// When a recipient was noted before.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Met {
    First,
    Again,
    Lately,
}

/// A recipient of an account, or a domain.
type Row = ((Name, Name), Known);

/// The search for recipients to be forgotten. It goes once a day over the table, in small steps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Walk {
    /// The day on which it last began.
    day: Option<u32>,
    /// The account and the recipient behind which it goes on. None: it is at its end.
    behind: Option<(String, String)>,
}

impl Walk {
    /// Where to go on. None: it is at its end, and did not begin today in vain.
    pub(super) fn go_on(&mut self, now: Time) -> Option<(Name, Name)> {
        let today = Some(now.day());
        if self.behind.is_none() && self.day < today {
            self.day = today;
            self.behind = Some(Default::default());
        }
        let (account, recipient) = self.behind.clone()?;
        Some((account.into(), recipient.into()))
    }

    /// Looks at the next recipients. Stops after `max` that change, or after [`LOOKED`] times as
    /// many. Gives those that change.
    pub(super) fn step(
        &mut self,
        next: impl Iterator<Item = Result<Row, Fault>>,
        now: Time,
        max: usize,
    ) -> Result<Vec<Row>, Fault> {
        let mut changed = Vec::new();
        self.behind = None;
        for (looked, row) in next.enumerate() {
            let (key, known) = row?;
            let name = |name: &Name| name.as_ref().to_owned();
            let behind = (name(&key.0), name(&key.1));
            if known.day.is_none() || known.is_over(&key.1, now) {
                changed.push((key, known));
            }
            if changed.len() >= max || looked + 1 >= max.saturating_mul(LOOKED) {
                self.behind = Some(behind);
                break;
            }
        }
        Ok(changed)
    }
}

impl Tables {
    /// Notes that an account sends to a recipient. True: for the first time.
    pub(super) fn meet(
        &mut self,
        account: &Name,
        recipient: &Address,
        now: Time,
    ) -> Result<bool, Fault> {
        let met = self.note(known_key(account, recipient), now)?;
        // So most messages look up one row.
        if met != Met::Lately {
            self.note(known_domain_key(account, &recipient.host), now)?;
        }
        Ok(met == Met::First)
    }

    fn note(&mut self, key: (Name, Name), now: Time) -> Result<Met, Fault> {
        match self.known.get(&key)? {
            None => {
                self.known.put_new(key, Known::at(now));
                Ok(Met::First)
            }
            Some(known) if known.is_stale(now) => {
                self.known.put(key, Known::at(now));
                Ok(Met::Again)
            }
            Some(_) => Ok(Met::Lately),
        }
    }

    /// Looks at some recipients, and forgets at most `max` that had no message for a long time.
    /// Gives their number.
    pub(super) fn forget_known(&mut self, now: Time, max: u64) -> Result<u64, Fault> {
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        let mut walk = self.known_walk.get(&0)?.unwrap_or_default();
        let Some(behind) = walk.go_on(now).filter(|_| max > 0) else {
            return Ok(0);
        };
        let next = self
            .known
            .range(Bound::Excluded(&behind), Bound::Unbounded)?;
        let changed = walk.step(next, now, max)?;
        self.known_walk.put(0, walk);
        let mut forgotten = 0;
        for (key, known) in changed {
            if known.day.is_none() {
                self.known.put(key, Known::at(now));
            } else {
                self.known.remove(&key);
                forgotten += 1;
            }
        }
        Ok(forgotten)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_earlier_program_noted_is_read() {
        let mut bytes = Vec::new();
        Known { day: None }.encode(&mut bytes);
        assert!(bytes.is_empty());
        let noted = Known::at(Time(500 * 86_400_000_000));
        noted.encode(&mut bytes);
        assert_eq!(bytes, [1, 0xf4, 3]);
        assert_eq!(Known::decode(&bytes), Ok(noted));
        assert_eq!(Known::decode(&[]), Ok(Known { day: None }));
        assert!(matches!(
            Known::decode(&[2, 1]),
            Err(Unreadable::Newer { .. })
        ));
    }
}
