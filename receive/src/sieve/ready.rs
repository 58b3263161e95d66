//! The scripts of accounts, ready to run.
//!
//! An account that has none costs one look into a table in memory. The scripts of the others are
//! compiled when mail comes for them, and kept until something of the account changes. What does
//! not compile, since an earlier program took it, is left out and told in the log.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use postrider_store::{AccountSieve, Store, StoreError};
use serde_json::Value;
use tokio::sync::watch;
use tracing::warn;

use super::{
    NamedScript, Rank, Script, auto_responder::AutoResponder, rules::Rule, vacation::Audience,
};

/// The name under which the script of the auto-responder runs.
pub const RESPONDER: &str = "auto-responder";

/// The most accounts whose scripts are kept compiled.
const ACCOUNTS_MAX: usize = 1000;

/// The scripts of one account.
#[derive(Debug, Default)]
pub struct Ready {
    /// What runs, in any order: rules, scripts, and the auto-responder.
    pub scripts: Vec<NamedScript>,
    /// Who gets the answers of the auto-responder.
    pub audience: Audience,
}

impl Ready {
    /// Compiles what an account has. `account` is its name, for the log.
    #[must_use]
    pub fn new(account: &str, all: &AccountSieve) -> Self {
        let mut ready = Self::default();
        let mut add = |rank, name: String, text: &str| match Script::compile(text.as_bytes()) {
            Ok(script) => ready.scripts.push(NamedScript {
                rank,
                name,
                script: Arc::new(script),
            }),
            Err(error) => warn!(account, script = name, %error, "a script can't run"),
        };
        // Rules with the same priority run in the order of their numbers.
        for (rank, rule) in (0..).zip(&all.rules) {
            let name = rule_name(rule.id.0);
            match serde_json::from_str(&rule.text).map(|value: Value| Rule::read(&value)) {
                Ok(Ok(read)) if read.enabled => add(Rank::Rule(rank), name, &read.script()),
                Ok(Ok(_)) => {}
                _ => warn!(account, script = name, "a rule can't be read"),
            }
        }
        for script in all.scripts.iter().filter(|script| script.enabled) {
            add(
                Rank::of_script(&script.name),
                script.name.clone(),
                &script.text,
            );
        }
        let responder = all.responder.as_ref().map(|responder| {
            let value = serde_json::from_str::<Value>(&responder.text);
            value.map(|value| AutoResponder::read(&value))
        });
        let mut audience = Audience::default();
        match responder {
            Some(Ok(Ok(responder))) if responder.enabled => {
                audience = responder.only;
                add(Rank::Vacation, RESPONDER.to_owned(), &responder.script());
            }
            None | Some(Ok(Ok(_))) => {}
            Some(_) => warn!(account, "the auto-responder can't be read"),
        }
        ready.audience = audience;
        ready
    }
}

/// The name under which the script of a rule runs.
#[must_use]
pub fn rule_name(id: u64) -> String {
    format!("rule {id}")
}

/// The scripts of all accounts.
#[derive(Debug)]
pub struct Scripts {
    store: Store,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    changed: watch::Receiver<u64>,
    /// The accounts that have something, with its version. None: nobody has asked yet.
    accounts: Option<HashMap<String, u64>>,
    ready: HashMap<String, (u64, Arc<Ready>)>,
}

impl Scripts {
    /// The scripts in a store.
    #[must_use]
    pub fn new(store: Store) -> Self {
        let changed = store.sieve_changed();
        Self {
            store,
            state: Mutex::new(State {
                changed,
                accounts: None,
                ready: HashMap::new(),
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of an account: the version of what it has (None: nothing), and its scripts if
    /// they are ready. None: the accounts must be read first.
    fn known(&self, account: &str) -> Option<Option<(u64, Option<Arc<Ready>>)>> {
        let mut state = self.state();
        // A change whose operation has been answered is seen here.
        if state.changed.has_changed().unwrap_or_default() {
            state.changed.mark_unchanged();
            state.accounts = None;
        }
        let version = state.accounts.as_ref()?.get(account).copied();
        Some(version.map(|version| {
            let ready = state.ready.get(account);
            let ready = ready.filter(|(of, _)| *of == version);
            (version, ready.map(|(_, ready)| Arc::clone(ready)))
        }))
    }

    /// The scripts of an account. None: it has none.
    ///
    /// # Errors
    /// If the store can't be read.
    pub async fn of(&self, account: &str) -> Result<Option<Arc<Ready>>, StoreError> {
        let known = match self.known(account) {
            Some(known) => known,
            None => {
                let accounts = self.store.sieve_accounts().await?;
                let accounts: HashMap<String, u64> = accounts.into_iter().collect();
                let version = accounts.get(account).copied();
                let mut state = self.state();
                state
                    .ready
                    .retain(|name, (of, _)| accounts.get(name) == Some(of));
                state.accounts = Some(accounts);
                version.map(|version| (version, None))
            }
        };
        match known {
            None => Ok(None),
            Some((_, Some(ready))) => Ok(Some(ready)),
            Some((_, None)) => self.compile(account).await.map(Some),
        }
    }

    async fn compile(&self, account: &str) -> Result<Arc<Ready>, StoreError> {
        let all = self.store.sieve(account).await?;
        let sizes = all.scripts.iter().map(|script| script.text.len());
        let sizes: usize = sizes
            .chain(all.rules.iter().map(|rule| rule.text.len()))
            .sum();
        let ready = crate::work::long_work(sizes, || Arc::new(Ready::new(account, &all)));
        let mut state = self.state();
        if state.ready.len() >= ACCOUNTS_MAX {
            // Any one makes room.
            let other = state.ready.keys().next().cloned();
            other.and_then(|other| state.ready.remove(&other));
        }
        let entry = (all.version, Arc::clone(&ready));
        state.ready.insert(account.to_owned(), entry);
        Ok(ready)
    }
}

#[cfg(test)]
mod tests {
    use postrider_store::{SieveResponder, SieveRule, SieveScript, SieveScriptChange, Time};

    use super::*;

    async fn set(store: &Store, name: &str, text: Option<&str>, enabled: bool) {
        let change = SieveScriptChange {
            account: "ann".into(),
            name: name.into(),
            script: text.map(|text| SieveScript {
                name: name.into(),
                text: text.into(),
                enabled,
                changed: Time(1),
            }),
        };
        store.set_sieve_scripts(vec![change]).await.unwrap();
    }

    async fn names(scripts: &Scripts, account: &str) -> Option<Vec<String>> {
        let ready = scripts.of(account).await.unwrap()?;
        let names = ready.scripts.iter().map(|script| script.name.clone());
        Some(names.collect())
    }

    #[tokio::test]
    async fn scripts_are_compiled_once_until_they_change() {
        let store = Store::memory();
        let scripts = Scripts::new(store.clone());
        assert_eq!(names(&scripts, "ann").await, None);
        set(&store, "a", Some("keep;"), true).await;
        set(&store, "b", Some("keep;"), false).await;
        set(&store, "c", Some("no script"), true).await;
        let first = scripts.of("ann").await.unwrap().unwrap();
        assert_eq!(names(&scripts, "ann").await.unwrap(), ["a"]);
        let again = scripts.of("ann").await.unwrap().unwrap();
        assert!(Arc::ptr_eq(&first, &again));
        let asked = store.asked();
        for _ in 0..3 {
            scripts.of("ann").await.unwrap();
            assert!(scripts.of("bob").await.unwrap().is_none());
        }
        assert_eq!(store.asked(), asked, "nobody asks the store");
        set(&store, "a", Some("stop;"), true).await;
        let changed = scripts.of("ann").await.unwrap().unwrap();
        assert!(!Arc::ptr_eq(&first, &changed));
        store.forget_sieve("ann").await.unwrap();
        assert_eq!(names(&scripts, "ann").await, None);
    }

    #[tokio::test]
    async fn rules_come_by_priority_and_the_responder_has_its_audience() {
        let store = Store::memory();
        let scripts = Scripts::new(store.clone());
        for (priority, text) in [
            (5, r#"{"actions": [{"action_type": "mark_read"}]}"#),
            (1, r#"{"actions": [{"action_type": "discard"}]}"#),
            (
                0,
                r#"{"enabled": false, "actions": [{"action_type": "discard"}]}"#,
            ),
            (1, "no JSON"),
        ] {
            let rule = SieveRule {
                id: postrider_store::SieveRuleId(0),
                priority,
                text: text.into(),
                changed: Time(1),
            };
            store.add_sieve_rule("ann", rule).await.unwrap();
        }
        let responder = SieveResponder {
            text: r#"{"plain": "Away.", "only": "internal"}"#.into(),
            changed: Time(1),
        };
        let set = store.set_sieve_responder("ann", Some(responder));
        assert!(set.await.unwrap());
        let ready = scripts.of("ann").await.unwrap().unwrap();
        let mut order: Vec<(Rank, &str)> = ready
            .scripts
            .iter()
            .map(|script| (script.rank, script.name.as_str()))
            .collect();
        order.sort();
        let names: Vec<&str> = order.iter().map(|(_, name)| *name).collect();
        assert_eq!(names, ["rule 2", "rule 1", RESPONDER]);
        assert_eq!(ready.audience, Audience::Internal);
    }
}
