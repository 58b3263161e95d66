//! The memory of automatic answers, and how many answers and redirects an account had on a day.

use std::ops::Bound;

use serde::{Deserialize, Serialize};

use super::{Answer, Tables, of_account};
use crate::{
    NewMessage, Store, StoreError, TextId, Time,
    error::Fault,
    subject::State,
    table::{Faults, key::Name},
};

/// An automatic answer to be sent, unless the same one went to the same sender before.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NewSieveAnswer {
    /// The account that answers.
    pub account: String,
    /// A hash of what makes two answers the same: the kind of answer, and the sender who gets it.
    pub hash: [u8; 32],
    /// The present time.
    pub now: Time,
    /// When the sender may get the answer again.
    pub until: Time,
    /// The most answers of the account on a day.
    pub most: u32,
    /// The answer. Its text is staged.
    pub message: NewMessage,
}

/// How many automatic messages an account had on a day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SieveDay {
    /// The day, counted from 1970 in UTC.
    pub day: i64,
    /// The answers.
    pub answers: u32,
    /// The addresses that mail was redirected to.
    pub redirects: u32,
}

impl SieveDay {
    /// The counts of this day: these, or none yet.
    pub(super) fn on(self, now: Time) -> Self {
        let day = i64::from(now.day());
        match self.day == day {
            true => self,
            false => Self {
                day,
                ..Self::default()
            },
        }
    }

    /// Counts an answer. None: there were as many as may be.
    pub(super) fn with_answer(self, most: u32) -> Option<Self> {
        (self.answers < most).then(|| Self {
            answers: self.answers + 1,
            ..self
        })
    }

    /// Counts redirects. None: there would be more than may be.
    pub(super) fn with_redirects(self, count: u32, most: u32) -> Option<Self> {
        let redirects = self.redirects.checked_add(count)?;
        (redirects <= most).then_some(Self { redirects, ..self })
    }
}

/// The memory of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Remembered {
    /// When the sender may get it again.
    pub(super) until: Time,
}

impl Tables {
    /// Removes at most `max` answers from the memory whose time is over.
    pub(super) fn forget_answers(&mut self, now: Time, max: u64) -> Result<u64, Fault> {
        let to = (Time(now.0.saturating_add(1)), Name::from(""), [0; 32]);
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        let old = self
            .answer_ends
            .range(Bound::Unbounded, Bound::Excluded(&to))?
            .take(max)
            .collect::<Result<Vec<_>, Fault>>()?;
        for (end, ()) in &old {
            let (_, account, hash) = end;
            self.answer_ends.remove(end);
            self.answers.remove(&(Name::clone(account), *hash));
        }
        Ok(old.len() as u64)
    }

    /// Removes the memory of an account.
    pub(super) fn forget_answers_of(&mut self, account: &Name) -> Result<(), Fault> {
        let first = (Name::clone(account), [0; 32]);
        for (hash, remembered) in of_account(&self.answers, &first)? {
            self.answers.remove(&(Name::clone(account), hash));
            let end = (remembered.until, Name::clone(account), hash);
            self.answer_ends.remove(&end);
        }
        self.days.take(account)?;
        Ok(())
    }

    pub(super) fn check_answers(&self, faults: &mut Faults) -> Result<(), Fault> {
        let mut count = 0;
        self.answers.for_each(|(account, hash), remembered| {
            count += 1;
            let end = (remembered.until, Name::clone(&account), hash);
            let found = self.answer_ends.contains(&end)?;
            faults.check(found, || {
                format!("an answer of the account {account} is not found by its end")
            });
            Ok(())
        })?;
        faults.compare("ends of answers", self.answer_ends.count()?, count);
        Ok(())
    }

    fn day(&self, account: &Name, now: Time) -> Result<SieveDay, Fault> {
        Ok(self.days.get(account)?.unwrap_or_default().on(now))
    }

    /// Remembers an answer. False: it may not go out.
    fn remember(&mut self, answer: &NewSieveAnswer) -> Result<bool, Fault> {
        let account: Name = answer.account.as_str().into();
        let key = (Name::clone(&account), answer.hash);
        let before = self.answers.get(&key)?;
        if before.is_some_and(|before| before.until > answer.now) {
            return Ok(false);
        }
        let day = self.day(&account, answer.now)?;
        let Some(day) = day.with_answer(answer.most) else {
            return Ok(false);
        };
        self.days.put(Name::clone(&account), day);
        if let Some(before) = before {
            let end = (before.until, Name::clone(&account), answer.hash);
            self.answer_ends.remove(&end);
        }
        let until = answer.until;
        self.answer_ends.put((until, account, answer.hash), ());
        self.answers.put(key, Remembered { until });
        Ok(true)
    }
}

impl Answer {
    pub(super) fn apply(self, state: &mut State) -> Result<bool, Fault> {
        let text = self.0.message.text;
        if state.check_texts([text].into_iter())?.is_some() {
            return Ok(false);
        }
        let id = text.resolve(TextId::default());
        let goes_out = state.sieve.remember(&self.0)?;
        if goes_out {
            let message = self.0.message;
            state.retain_text(id, message.recipients.len() as u64)?;
            state.add_message(message, id)?;
        }
        state.unstage(id)?;
        Ok(goes_out)
    }
}

/// Counts addresses that mail is redirected to, if there are not too many.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct TakeRedirects {
    pub(super) account: String,
    pub(super) now: Time,
    count: u32,
    most: u32,
}

impl TakeRedirects {
    pub(super) fn apply(self, state: &mut State) -> Result<bool, Fault> {
        let account: Name = self.account.as_str().into();
        let day = state.sieve.day(&account, self.now)?;
        let counted = self.counted(day);
        if let Some(day) = counted {
            state.sieve.days.put(account, day);
        }
        Ok(counted.is_some())
    }

    pub(super) fn counted(&self, day: SieveDay) -> Option<SieveDay> {
        day.with_redirects(self.count, self.most)
    }

    #[cfg(test)]
    pub(super) fn sample() -> Self {
        Self {
            account: "ann".into(),
            now: Time(1),
            count: 1,
            most: 2,
        }
    }
}

questions! {
    ask DayOf<'a> { account: &'a str, now: Time } -> SieveDay,
    |this, state| state.sieve.day(&this.account.into(), this.now),
    |this, model| model.sieve.day(this.account, this.now);
}

impl Store {
    /// Adds an automatic answer to the queue and remembers it, or drops it with its staged text:
    /// if its sender had it before, if the account had as many as it may have on a day, or if the
    /// text is gone. True: it goes out.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn answer_once(&self, answer: NewSieveAnswer) -> Result<bool, StoreError> {
        if answer.message.recipients.is_empty() {
            return Err(StoreError::Invalid("a message without recipients"));
        }
        self.change_by(Answer(Box::new(answer))).await
    }

    /// Counts addresses that mail of an account is redirected to. False: the account would have
    /// more than `most` on this day, and nothing was counted.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn take_redirects(
        &self,
        account: &str,
        count: u32,
        most: u32,
        now: Time,
    ) -> Result<bool, StoreError> {
        let account = account.to_owned();
        self.change_by(TakeRedirects {
            account,
            now,
            count,
            most,
        })
        .await
    }

    /// How many automatic messages an account had on the day of this time.
    ///
    /// # Errors
    /// If it can't be read.
    pub async fn sieve_day(&self, account: &str, now: Time) -> Result<SieveDay, StoreError> {
        self.ask(DayOf { account, now }).await
    }
}
