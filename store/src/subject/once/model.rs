//! Idempotency keys, in the model.

use std::collections::BTreeMap;

use super::{Answered, Keep, Once};
use crate::{
    QueueId, Time,
    subject::{ModelPart, ModelState, next},
};

#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    last: u64,
    answers: BTreeMap<(String, String), Answered>,
}

impl ModelPart for Model {
    fn history(&self) -> Vec<(Time, u64)> {
        let answers = self.answers.values();
        answers
            .map(|answered| (answered.until, answered.number))
            .collect()
    }

    fn forget(&mut self, number: u64) {
        self.answers.retain(|_, answered| answered.number != number);
    }
}

impl Model {
    pub(super) fn find(&self, account: &str, key: &str, now: Time) -> Option<&Answered> {
        let answered = self.answers.get(&(account.to_owned(), key.to_owned()));
        answered.filter(|answered| answered.until > now)
    }

    pub(crate) fn is_done(&self, once: &Once) -> bool {
        self.find(&once.account, &once.key, once.now).is_some()
    }

    pub(crate) fn remember(&mut self, once: Option<Box<Once>>, queue: &[QueueId]) {
        if let Some(once) = once {
            let answered = Answered {
                number: next(&mut self.last),
                request: once.request,
                answer: once.answer,
                first: queue.first().copied().unwrap_or_default(),
                until: once.until,
            };
            self.answers.insert((once.account, once.key), answered);
        }
    }
}

impl Keep {
    pub(super) fn apply_to_model(self, model: &mut ModelState) {
        model.once.remember(Some(self.0), &[]);
    }
}
