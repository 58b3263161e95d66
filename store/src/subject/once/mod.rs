//! Idempotency keys: the answers that are kept under them.

#[cfg(any(test, feature = "memory"))]
pub(crate) mod model;

use serde::{Deserialize, Serialize};

use super::{State, next, tag};
use crate::{
    QueueId, Store, StoreError, Time,
    error::Fault,
    table::{Table, key::Name, tables, value::records},
};

/// The kept answer to something that was done once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answered {
    /// The number of the answer.
    pub(crate) number: u64,
    /// A hash of the request.
    pub request: [u8; 32],
    /// The answer, in a form that the caller knows.
    pub answer: Vec<u8>,
    /// The first number of the queued messages; the others follow it.
    pub first: QueueId,
    /// When the store forgets the answer.
    pub until: Time,
}

/// Keeps something from being done twice, for a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Once {
    /// The account.
    pub account: String,
    /// The caller's key.
    pub key: String,
    /// A hash of the request.
    pub request: [u8; 32],
    /// The answer for a caller that asks again. The store keeps the numbers of the queued messages
    /// beside it.
    pub answer: Vec<u8>,
    /// The present time.
    pub now: Time,
    /// When it may be done again.
    pub until: Time,
}

/// Numbers that are kept with the tables.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Counters {
    last: u64,
}

records! {
    Answered: version 1,
    (String, String): version 1,
}

tables! {
    /// The answers.
    counters: Counters,
    /// By account and key.
    answers: Table<(Name, Name), Answered> = Table::new("answers"),
    /// The account and the key of each answer, by its number.
    names: Table<u64, (String, String)> = Table::new("answer_names"),
}

subject!(
    counters Counters, keys 1,
    fn forget(state: &mut State, number: u64) -> Result<(), Fault> {
        if let Some((account, key)) = state.once.names.take(&number)? {
            state.once.answers.remove(&(account.into(), key.into()));
        }
        Ok(())
    }
);

operations! {
    Once, version 1:
    Keep -> (), Ordinary;
}

/// Keeps the answer to something that was done once, apart from the queue.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Keep(Box<Once>);

impl Keep {
    fn apply(self, state: &mut State) -> Result<(), Fault> {
        state.remember(Some(self.0), &[])
    }
}

impl State {
    pub(super) fn is_done(&self, once: &Once) -> Result<bool, Fault> {
        let key = (once.account.as_str().into(), once.key.as_str().into());
        let answered = self.once.answers.get(&key)?;
        Ok(answered.is_some_and(|answered| answered.until > once.now))
    }

    /// Keeps the answer to what is done once, and the numbers that were given.
    pub(super) fn remember(
        &mut self,
        once: Option<Box<Once>>,
        ids: &[QueueId],
    ) -> Result<(), Fault> {
        let Some(once) = once else {
            return Ok(());
        };
        let tables = &mut self.once;
        let number = next(&mut tables.counters.last);
        let answered = Answered {
            number,
            request: once.request,
            answer: once.answer,
            first: ids.first().copied().unwrap_or_default(),
            until: once.until,
        };
        self.history.add(once.until, tag::once, number);
        let key = (once.account.as_str().into(), once.key.as_str().into());
        // The answer before may be out of date and still be there.
        if let Some(before) = tables.answers.take(&key)? {
            self.history.remove(before.until, tag::once, before.number);
            tables.names.remove(&before.number);
        }
        tables.answers.put(key, answered);
        tables.names.put_new(number, (once.account, once.key));
        Ok(())
    }
}

questions! {
    ask Of<'a> { account: &'a str, key: &'a str, now: Time } -> Option<Answered>,
    |this, state| {
        let answered = state.once.answers.get(&(this.account.into(), this.key.into()))?;
        Ok(answered.filter(|answered| answered.until > this.now))
    },
    |this, model| model.once.find(this.account, this.key, this.now).cloned();
}

impl Store {
    /// Keeps the answer to something that was done once, apart from the queue. It takes the place
    /// of an earlier answer under the same key.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn keep_answer(&self, once: Once) -> Result<(), StoreError> {
        self.change_by(Keep(Box::new(once))).await
    }

    /// The answer to what an account did once under this key, unless the answer is out of date.
    ///
    /// # Errors
    /// If it can't be read.
    pub async fn answered(
        &self,
        account: &str,
        key: &str,
        now: Time,
    ) -> Result<Option<Answered>, StoreError> {
        self.ask(Of { account, key, now }).await
    }
}

#[cfg(test)]
pub(crate) fn samples() -> Vec<Op> {
    vec![Op::Keep(Keep(Box::new(Once {
        account: "ann".into(),
        key: "key".into(),
        request: [7; 32],
        answer: vec![1],
        now: Time(1),
        until: Time(2),
    })))]
}
