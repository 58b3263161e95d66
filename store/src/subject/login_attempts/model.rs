//! Logins in the model.

use std::collections::BTreeMap;

use super::{
    ForgetLogins, LOGIN_ATTEMPTS_KEPT, LOGIN_ATTEMPTS_MAX, LOGIN_ATTEMPTS_OF_ONE, ListAttempts,
    LoginAttempt, LoginAttemptId, LoginOf, NoteLogins,
};
use crate::{
    Page, Time,
    filter::{ordered, page},
    subject::{ModelPart, ModelState, next},
};

#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    last: u64,
    attempts: BTreeMap<LoginAttemptId, LoginAttempt>,
}

impl ModelPart for Model {
    fn skip_ids(&mut self, by: u64) {
        self.last = self.last.saturating_add(by);
    }

    fn sweep(&mut self, now: Time, max: u64) -> u64 {
        let mut removed = 0;
        while removed < max
            && let Some(first) = self.attempts.first_entry()
            && first.get().last.after(LOGIN_ATTEMPTS_KEPT) <= now
        {
            first.remove();
            removed += 1;
        }
        removed
    }
}

impl Model {
    pub(super) fn list(&self, asked: &ListAttempts) -> Page<LoginAttempt, LoginAttemptId> {
        let order = asked.order;
        let items = self.attempts.values().filter(|attempt| {
            let after = asked.after;
            after.is_none_or(|after| order.follows(attempt.id, after))
                && asked.filter.matches(attempt)
        });
        page(ordered(items, order), asked.limit, |attempt| attempt.id)
    }

    fn note(&mut self, attempt: LoginAttempt) {
        let name = attempt.name();
        let mut known = self.attempts.values();
        let known = known.find(|known| known.name() == name).cloned();
        let attempt = match known {
            Some(known) => {
                self.attempts.remove(&known.id);
                known.joined(attempt)
            }
            None => attempt,
        };
        let id = LoginAttemptId(next(&mut self.last));
        let of = attempt.of.clone();
        self.attempts.insert(id, LoginAttempt { id, ..attempt });
        let own = self.attempts.values().filter(|it| it.of == of);
        let own: Vec<_> = own.map(|it| it.id).collect();
        if own.len() as u64 > LOGIN_ATTEMPTS_OF_ONE
            && let Some(first) = own.first()
        {
            self.attempts.remove(first);
        }
        if self.attempts.len() as u64 > LOGIN_ATTEMPTS_MAX {
            self.attempts.pop_first();
        }
    }
}

impl NoteLogins {
    pub(super) fn apply_to_model(self, model: &mut ModelState) {
        for attempt in self.all {
            model.login_attempts.note(attempt);
        }
    }
}

impl ForgetLogins {
    pub(super) fn apply_to_model(self, model: &mut ModelState) -> u64 {
        let attempts = &mut model.login_attempts.attempts;
        let (before, of) = (attempts.len(), LoginOf::Account(self.account));
        attempts.retain(|_, attempt| attempt.of != of);
        (before - attempts.len()) as u64
    }
}
