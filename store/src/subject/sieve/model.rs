//! What accounts want of their mail, in the model.

use std::collections::BTreeMap;

use super::{
    AccountSieve, AddRule, Answer, ChangeRules, ForgetAccount, NewSieveAnswer, RemoveRule,
    SetResponder, SetScripts, SieveDay, SieveResponder, SieveRule, SieveRuleId, SieveScript,
    TakeRedirects, ordered,
};
use crate::{
    TextId, Time,
    subject::{ModelPart, ModelState, next},
};

#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    last_rule: u64,
    last_version: u64,
    scripts: BTreeMap<(String, String), SieveScript>,
    rules: BTreeMap<(String, SieveRuleId), SieveRule>,
    responders: BTreeMap<String, SieveResponder>,
    pub(crate) accounts: BTreeMap<String, u64>,
    /// When each answer may go out again, by account and hash.
    answers: BTreeMap<(String, [u8; 32]), Time>,
    days: BTreeMap<String, SieveDay>,
}

impl ModelPart for Model {
    fn skip_ids(&mut self, by: u64) {
        self.last_rule = self.last_rule.saturating_add(by);
    }

    fn sweep(&mut self, now: Time, max: u64) -> u64 {
        let answers = self.answers.iter();
        let mut old: Vec<_> = answers
            .filter(|(_, until)| **until <= now)
            .map(|(key, until)| (*until, key.clone()))
            .collect();
        old.sort_unstable();
        old.truncate(usize::try_from(max).unwrap_or(usize::MAX));
        for (_, key) in &old {
            self.answers.remove(key);
        }
        old.len() as u64
    }
}

impl Model {
    pub(super) fn of(&self, account: &str) -> AccountSieve {
        let scripts = self.scripts.iter().filter(|((of, _), _)| of == account);
        let rules = self.rules.iter().filter(|((of, _), _)| of == account);
        AccountSieve {
            version: self.accounts.get(account).copied().unwrap_or_default(),
            scripts: scripts.map(|(_, script)| script.clone()).collect(),
            rules: ordered(rules.map(|(_, rule)| rule.clone()).collect()),
            responder: self.responders.get(account).cloned(),
        }
    }

    pub(super) fn day(&self, account: &str, now: Time) -> SieveDay {
        self.days.get(account).copied().unwrap_or_default().on(now)
    }

    fn changed(&mut self, account: &str) {
        let version = next(&mut self.last_version);
        self.accounts.remove(account);
        let all = self.of(account);
        if !all.scripts.is_empty() || !all.rules.is_empty() || all.responder.is_some() {
            self.accounts.insert(account.to_owned(), version);
        }
    }

    fn remember(&mut self, answer: &NewSieveAnswer) -> bool {
        let key = (answer.account.clone(), answer.hash);
        if self.answers.get(&key).is_some_and(|it| *it > answer.now) {
            return false;
        }
        let day = self.day(&answer.account, answer.now);
        let Some(day) = day.with_answer(answer.most) else {
            return false;
        };
        self.days.insert(answer.account.clone(), day);
        self.answers.insert(key, answer.until);
        true
    }
}

impl SetScripts {
    pub(super) fn apply_to_model(self, model: &mut ModelState) -> u64 {
        let model = &mut model.sieve;
        let mut changed = 0;
        for change in self.0 {
            let key = (change.account.clone(), change.name);
            if model.scripts.get(&key) == change.script.as_ref() {
                continue;
            }
            match change.script {
                Some(script) => model.scripts.insert(key, script),
                None => model.scripts.remove(&key),
            };
            model.changed(&change.account);
            changed += 1;
        }
        changed
    }
}

impl AddRule {
    pub(super) fn apply_to_model(self, model: &mut ModelState) -> SieveRuleId {
        let model = &mut model.sieve;
        let id = SieveRuleId(next(&mut model.last_rule));
        let rule = SieveRule { id, ..self.rule };
        model.rules.insert((self.account.clone(), id), rule);
        model.changed(&self.account);
        id
    }
}

impl ChangeRules {
    pub(super) fn apply_to_model(self, model: &mut ModelState) -> u64 {
        let model = &mut model.sieve;
        let mut changed = 0;
        for rule in self.rules {
            let there = model.rules.get_mut(&(self.account.clone(), rule.id));
            if let Some(there) = there.filter(|there| **there != rule) {
                *there = rule;
                changed += 1;
            }
        }
        if changed > 0 {
            model.changed(&self.account);
        }
        changed
    }
}

impl RemoveRule {
    pub(super) fn apply_to_model(self, model: &mut ModelState) -> bool {
        let model = &mut model.sieve;
        let key = (self.account.clone(), self.id);
        let removed = model.rules.remove(&key).is_some();
        if removed {
            model.changed(&self.account);
        }
        removed
    }
}

impl SetResponder {
    pub(super) fn apply_to_model(self, model: &mut ModelState) -> bool {
        let model = &mut model.sieve;
        if model.responders.get(&self.account) == self.responder.as_ref() {
            return false;
        }
        match self.responder {
            Some(responder) => model.responders.insert(self.account.clone(), responder),
            None => model.responders.remove(&self.account),
        };
        model.changed(&self.account);
        true
    }
}

impl Answer {
    pub(super) fn apply_to_model(self, model: &mut ModelState) -> bool {
        let id = self.0.message.text.resolve(TextId::default());
        if !model.texts.texts.contains_key(&id) {
            return false;
        }
        let goes_out = model.sieve.remember(&self.0);
        if goes_out {
            model.add_message(self.0.message, id);
        }
        model.unstage(id);
        goes_out
    }
}

impl TakeRedirects {
    pub(super) fn apply_to_model(self, model: &mut ModelState) -> bool {
        let model = &mut model.sieve;
        let counted = self.counted(model.day(&self.account, self.now));
        if let Some(day) = counted {
            model.days.insert(self.account, day);
        }
        counted.is_some()
    }
}

impl ForgetAccount {
    pub(super) fn apply_to_model(self, model: &mut ModelState) -> u64 {
        let model = &mut model.sieve;
        let all = model.of(&self.account);
        let account = &self.account;
        model.scripts.retain(|(of, _), _| of != account);
        model.rules.retain(|(of, _), _| of != account);
        model.responders.remove(account);
        model.answers.retain(|(of, _), _| of != account);
        model.days.remove(account);
        let removed = all.scripts.len() + all.rules.len() + usize::from(all.responder.is_some());
        if removed > 0 {
            model.changed(account);
        }
        removed as u64
    }
}
