//! What accounts want of the mail that they get: scripts, rules and an auto-responder. Also the
//! memory of automatic answers, and the counts of a day.
//!
//! The store keeps texts. What they mean, and whether they are right, is known to the caller. An
//! automatic answer goes into the queue together with the memory of it, in one operation: so no
//! crash loses it or sends it twice.
//!
//! | file | what it has |
//! |---|---|
//! | here | scripts, rules and responders |
//! | `answers` | the memory of answers, and the counts |

mod answers;
#[cfg(any(test, feature = "memory"))]
pub(crate) mod model;
#[cfg(test)]
mod tests;

use std::ops::Bound;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

pub use self::answers::{NewSieveAnswer, SieveDay};
use self::answers::{Remembered, TakeRedirects};
use super::{State, next};
use crate::{
    Store, StoreError, Time,
    error::Fault,
    id::ids,
    table::{
        Faults, Table,
        key::{self, Name},
        tables,
        value::{self, records, ways},
    },
};

ids! {
    /// A rule of an account.
    SieveRuleId,
}

/// A script of an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SieveScript {
    /// The name, which no other script of the account has.
    pub name: String,
    /// The script.
    pub text: String,
    /// A script that is not enabled does not run.
    pub enabled: bool,
    /// When it was last changed.
    pub changed: Time,
}

/// A rule of an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SieveRule {
    /// Its number.
    pub id: SieveRuleId,
    /// The rule with the lowest number runs first. It counts, and not that in the text.
    pub priority: i64,
    /// The rule in JSON.
    pub text: String,
    /// When it was last changed.
    pub changed: Time,
}

/// The auto-responder of an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SieveResponder {
    /// The auto-responder in JSON.
    pub text: String,
    /// When it was last changed.
    pub changed: Time,
}

/// All that an account wants of the mail that it gets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountSieve {
    /// It is higher after each change. 0: the account never wanted anything.
    pub version: u64,
    /// The scripts by name.
    pub scripts: Vec<SieveScript>,
    /// The rules by priority and number.
    pub rules: Vec<SieveRule>,
    /// The auto-responder.
    pub responder: Option<SieveResponder>,
}

/// A change of one script.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SieveScriptChange {
    /// The account.
    pub account: String,
    /// The name of the script.
    pub name: String,
    /// The script. None: it goes.
    pub script: Option<SieveScript>,
}

/// The version of what an account wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Version(u64);

/// Numbers that are kept with the tables.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Counters {
    last_rule: u64,
    last_version: u64,
}

records! {
    SieveScript: version 1,
    SieveRule: version 1,
    SieveResponder: version 1,
    Remembered: version 1,
    SieveDay: version 1,
}

ways! {
    Version: version 1,
}

tables! {
    counters: Counters,
    /// By account and name.
    scripts: Table<(Name, Name), SieveScript> = Table::new("sieve_scripts"),
    /// By account and number.
    rules: Table<(Name, SieveRuleId), SieveRule> = Table::new("sieve_rules"),
    /// By account.
    responders: Table<Name, SieveResponder> = Table::new("sieve_responders"),
    /// The accounts that have some of these.
    accounts: Table<Name, Version> = Table::new("sieve_accounts"),
    /// By account and the hash of answer and sender.
    answers: Table<(Name, [u8; 32]), Remembered> = Table::new("sieve_answers"),
    /// The same by the time when they go.
    answer_ends: Table<(Time, Name, [u8; 32]), ()> = Table::new("sieve_answer_ends"),
    /// The counts of the last day, by account.
    days: Table<Name, SieveDay> = Table::new("sieve_days"),
}

subject!(
    counters Counters, keys 1,
    fn skip_ids(&mut self, by: u64) {
        self.counters.last_rule = self.counters.last_rule.saturating_add(by);
    },
    fn sweep(state: &mut State, now: Time, max: u64) -> Result<u64, Fault> {
        state.sieve.forget_answers(now, max)
    }
);

/// The entries of a table whose keys begin with this account. `first` is the least key.
fn of_account<K: key::Key, V: value::Value>(
    table: &Table<(Name, K), V>,
    first: &(Name, K),
) -> Result<Vec<(K, V)>, Fault> {
    let mut found = Vec::new();
    for entry in table.range(Bound::Included(first), Bound::Unbounded)? {
        let ((account, key), value) = entry?;
        if account != first.0 {
            break;
        }
        found.push((key, value));
    }
    Ok(found)
}

/// The order in which rules run.
fn ordered(mut rules: Vec<SieveRule>) -> Vec<SieveRule> {
    rules.sort_by_key(|rule| (rule.priority, rule.id));
    rules
}

impl Tables {
    fn scripts_of(&self, account: &Name) -> Result<Vec<SieveScript>, Fault> {
        let found = of_account(&self.scripts, &(Name::clone(account), "".into()))?;
        Ok(found.into_iter().map(|(_, script)| script).collect())
    }

    fn rules_of(&self, account: &Name) -> Result<Vec<SieveRule>, Fault> {
        let found = of_account(&self.rules, &(Name::clone(account), SieveRuleId(0)))?;
        Ok(ordered(found.into_iter().map(|(_, rule)| rule).collect()))
    }

    fn of(&self, account: &str) -> Result<AccountSieve, Fault> {
        let account: Name = account.into();
        let Some(Version(version)) = self.accounts.get(&account)? else {
            return Ok(AccountSieve::default());
        };
        Ok(AccountSieve {
            version,
            scripts: self.scripts_of(&account)?,
            rules: self.rules_of(&account)?,
            responder: self.responders.get(&account)?,
        })
    }

    fn has_some(&self, account: &Name) -> Result<bool, Fault> {
        Ok(self.responders.contains(account)?
            || !self.rules_of(account)?.is_empty()
            || !self.scripts_of(account)?.is_empty())
    }
}

impl State {
    /// What an account wants has changed.
    fn sieve_changed(&mut self, account: &Name) -> Result<(), Fault> {
        let tables = &mut self.sieve;
        let version = next(&mut tables.counters.last_version);
        match tables.has_some(account)? {
            true => tables.accounts.put(Name::clone(account), Version(version)),
            false => tables.accounts.remove(account),
        }
        self.effects.sieve_changed = true;
        Ok(())
    }

    /// Compares what follows from records with the records.
    pub(super) fn check_sieve(&self, faults: &mut Faults) -> Result<(), Fault> {
        let tables = &self.sieve;
        let mut owners = std::collections::BTreeSet::new();
        tables.scripts.for_each(|(account, _), _| {
            owners.insert(account);
            Ok(())
        })?;
        tables.rules.for_each(|(account, _), _| {
            owners.insert(account);
            Ok(())
        })?;
        tables.responders.for_each(|account, _| {
            owners.insert(account);
            Ok(())
        })?;
        for account in &owners {
            let found = tables.accounts.contains(account)?;
            faults.check(found, || {
                format!("the scripts of the account {account} are not found by their account")
            });
        }
        let counted = tables.accounts.count()?;
        faults.compare("accounts with scripts", counted, owners.len() as u64);
        tables.check_answers(faults)
    }
}

operations! {
    Sieve, version 1 weighed by weigh:
    SetScripts -> u64, Ordinary;
    AddRule -> SieveRuleId, Ordinary;
    ChangeRules -> u64, Ordinary;
    RemoveRule -> bool, Reserve;
    SetResponder -> bool, Ordinary;
    Answer -> bool, Ordinary;
    TakeRedirects -> bool, Ordinary;
    ForgetAccount -> u64, Reserve;
}

/// How many records an operation changes, about.
fn weigh(op: &Op) -> usize {
    match op {
        Op::SetScripts(set) => set.0.len(),
        Op::ChangeRules(change) => change.rules.len(),
        Op::Answer(_) => 3,
        _ => 1,
    }
}

/// Sets and removes scripts. Gives how many are others now.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SetScripts(Vec<SieveScriptChange>);

impl SetScripts {
    fn apply(self, state: &mut State) -> Result<u64, Fault> {
        let mut changed = 0;
        for change in self.0 {
            let account: Name = change.account.as_str().into();
            let key = (Name::clone(&account), change.name.as_str().into());
            let before = state.sieve.scripts.get(&key)?;
            if before == change.script {
                continue;
            }
            match change.script {
                Some(script) => state.sieve.scripts.put(key, script),
                None => state.sieve.scripts.remove(&key),
            }
            changed += 1;
            state.sieve_changed(&account)?;
        }
        Ok(changed)
    }
}

/// Adds a rule. Its number is a new one.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct AddRule {
    account: String,
    rule: SieveRule,
}

impl AddRule {
    fn apply(self, state: &mut State) -> Result<SieveRuleId, Fault> {
        let account: Name = self.account.into();
        let tables = &mut state.sieve;
        let id = SieveRuleId(next(&mut tables.counters.last_rule));
        let rule = SieveRule { id, ..self.rule };
        tables.rules.put_new((Name::clone(&account), id), rule);
        state.sieve_changed(&account)?;
        Ok(id)
    }
}

/// Changes rules that are there. Gives how many are others now.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ChangeRules {
    account: String,
    rules: Vec<SieveRule>,
}

impl ChangeRules {
    fn apply(self, state: &mut State) -> Result<u64, Fault> {
        let account: Name = self.account.into();
        let mut changed = 0;
        for rule in self.rules {
            let key = (Name::clone(&account), rule.id);
            let before = state.sieve.rules.get(&key)?;
            if before.is_some_and(|before| before != rule) {
                state.sieve.rules.put(key, rule);
                changed += 1;
            }
        }
        if changed > 0 {
            state.sieve_changed(&account)?;
        }
        Ok(changed)
    }
}

/// Removes a rule.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RemoveRule {
    account: String,
    id: SieveRuleId,
}

impl RemoveRule {
    fn apply(self, state: &mut State) -> Result<bool, Fault> {
        let account: Name = self.account.into();
        let key = (Name::clone(&account), self.id);
        let removed = state.sieve.rules.take(&key)?.is_some();
        if removed {
            state.sieve_changed(&account)?;
        }
        Ok(removed)
    }
}

/// Sets the auto-responder of an account, or removes it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SetResponder {
    account: String,
    responder: Option<SieveResponder>,
}

impl SetResponder {
    fn apply(self, state: &mut State) -> Result<bool, Fault> {
        let account: Name = self.account.into();
        let responders = &mut state.sieve.responders;
        if responders.get(&account)? == self.responder {
            return Ok(false);
        }
        match self.responder {
            Some(responder) => responders.put(Name::clone(&account), responder),
            None => responders.remove(&account),
        }
        state.sieve_changed(&account)?;
        Ok(true)
    }
}

/// Adds an automatic answer to the queue, and remembers it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Answer(Box<NewSieveAnswer>);

/// Removes all that belongs to an account. Gives how many scripts, rules and responders went.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ForgetAccount {
    account: String,
}

impl ForgetAccount {
    fn apply(self, state: &mut State) -> Result<u64, Fault> {
        let account: Name = self.account.into();
        let tables = &mut state.sieve;
        let mut removed = 0;
        for script in tables.scripts_of(&account)? {
            let name = script.name.as_str().into();
            tables.scripts.remove(&(Name::clone(&account), name));
            removed += 1;
        }
        for rule in tables.rules_of(&account)? {
            tables.rules.remove(&(Name::clone(&account), rule.id));
            removed += 1;
        }
        removed += u64::from(tables.responders.take(&account)?.is_some());
        tables.forget_answers_of(&account)?;
        if removed > 0 {
            state.sieve_changed(&account)?;
        }
        Ok(removed)
    }
}

questions! {
    ask Of<'a> { account: &'a str } -> AccountSieve,
    |this, state| state.sieve.of(this.account),
    |this, model| model.sieve.of(this.account);

    ask Accounts {} -> Vec<(String, u64)>,
    |_this, state| {
        let all = state.sieve.accounts.all()?.into_iter();
        Ok(all.map(|(account, Version(version))| (account.as_ref().to_owned(), version)).collect())
    },
    |_this, model| model.sieve.accounts.clone().into_iter().collect();
}

impl Store {
    /// All that an account wants of the mail that it gets.
    ///
    /// # Errors
    /// If it can't be read.
    pub async fn sieve(&self, account: &str) -> Result<AccountSieve, StoreError> {
        self.ask(Of { account }).await
    }

    /// The accounts that have scripts, rules or an auto-responder, each with
    /// [`AccountSieve::version`].
    ///
    /// # Errors
    /// If they can't be read.
    pub async fn sieve_accounts(&self) -> Result<Vec<(String, u64)>, StoreError> {
        self.ask(Accounts {}).await
    }

    /// Changes when an account wants something else of its mail.
    #[must_use]
    pub fn sieve_changed(&self) -> watch::Receiver<u64> {
        self.changes().sieve.subscribe()
    }

    /// Sets and removes scripts, all or none. Gives how many are others now.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn set_sieve_scripts(
        &self,
        changes: Vec<SieveScriptChange>,
    ) -> Result<u64, StoreError> {
        self.change_by(SetScripts(changes)).await
    }

    /// Adds a rule. Its number is a new one.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn add_sieve_rule(
        &self,
        account: &str,
        rule: SieveRule,
    ) -> Result<SieveRuleId, StoreError> {
        let account = account.to_owned();
        self.change_by(AddRule { account, rule }).await
    }

    /// Changes rules of an account by their numbers, all or none. A rule that is not there is left
    /// out. Gives how many are others now.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn change_sieve_rules(
        &self,
        account: &str,
        rules: Vec<SieveRule>,
    ) -> Result<u64, StoreError> {
        let account = account.to_owned();
        self.change_by(ChangeRules { account, rules }).await
    }

    /// Removes a rule. False: the account has no rule of this number.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn remove_sieve_rule(
        &self,
        account: &str,
        id: SieveRuleId,
    ) -> Result<bool, StoreError> {
        let account = account.to_owned();
        self.change_by(RemoveRule { account, id }).await
    }

    /// Sets the auto-responder of an account, or removes it. False: it was so before.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn set_sieve_responder(
        &self,
        account: &str,
        responder: Option<SieveResponder>,
    ) -> Result<bool, StoreError> {
        let account = account.to_owned();
        self.change_by(SetResponder { account, responder }).await
    }

    /// Removes the scripts, the rules, the auto-responder and the memory of an account. Gives how
    /// many of the first three went.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn forget_sieve(&self, account: &str) -> Result<u64, StoreError> {
        let account = account.to_owned();
        self.change_by(ForgetAccount { account }).await
    }
}

#[cfg(test)]
pub(crate) fn samples() -> Vec<Op> {
    let (account, rule) = (|| "ann".to_owned(), || tests::rule(1, 0));
    vec![
        Op::SetScripts(SetScripts(vec![
            tests::script("ann", "a", Some("keep;")),
            tests::script("ann", "b", None),
        ])),
        Op::AddRule(AddRule {
            account: account(),
            rule: rule(),
        }),
        Op::ChangeRules(ChangeRules {
            account: account(),
            rules: vec![rule()],
        }),
        Op::RemoveRule(RemoveRule {
            account: account(),
            id: SieveRuleId(1),
        }),
        Op::SetResponder(SetResponder {
            account: account(),
            responder: Some(tests::responder()),
        }),
        Op::Answer(Answer(Box::new(tests::answer(
            1,
            1,
            crate::TextSource::Existing(crate::TextId(1)),
        )))),
        Op::TakeRedirects(TakeRedirects::sample()),
        Op::ForgetAccount(ForgetAccount { account: account() }),
    ]
}
