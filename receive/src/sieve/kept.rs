//! Scripts, rules and auto-responders in the store: checked before they are kept.
//!
//! All faces use this: the management API, the mailbox API, the pages and the command line.

use std::collections::BTreeMap;

use postrider_store::{
    SieveResponder, SieveRule, SieveRuleId, SieveScript, SieveScriptChange, Store, StoreError, Time,
};
use serde_json::{Value, json};

use super::{
    FieldError, SCRIPT_MAX, Script, SieveError,
    auto_responder::AutoResponder,
    rules::{RULES_MAX, Rule},
};

/// The most scripts of an account.
pub const SCRIPTS_MAX: usize = 50;
/// The most bytes of the name of a script.
const NAME_MAX: usize = 128;

/// Why something is not kept.
#[derive(Debug, thiserror::Error)]
pub enum KeptError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The name of a script.
    #[error("the name {0:?} of a script has no or too many bytes, or a control character")]
    Name(String),
    /// A script does not compile.
    #[error("the script {name:?} has a fault in {error}")]
    Script {
        /// The name of the script.
        name: String,
        /// The fault and its place.
        error: SieveError,
    },
    /// The account would have too many scripts.
    #[error("an account has at most {SCRIPTS_MAX} scripts; remove one first")]
    TooManyScripts,
    /// The account would have too many rules.
    #[error("an account has at most {RULES_MAX} rules; remove one first")]
    TooManyRules,
    /// A rule or a responder is too large.
    #[error("it has more than {SCRIPT_MAX} bytes; make it shorter")]
    TooLarge,
    /// Fields of a rule or a responder are wrong.
    #[error("{}", first(.0))]
    Fields(Vec<FieldError>),
    /// The account has no rule of this number.
    #[error("there is no rule {0}")]
    NoRule(u64),
}

fn first(errors: &[FieldError]) -> String {
    errors.first().map(ToString::to_string).unwrap_or_default()
}

/// A rule with its number.
#[derive(Clone, Debug, PartialEq)]
pub struct KeptRule {
    /// The number.
    pub id: u64,
    /// The rule. Its priority is the one that counts.
    pub rule: Rule,
    /// When it was last changed.
    pub changed: Time,
}

impl KeptRule {
    /// The rule in the words of clients, with its number and its script.
    #[must_use]
    pub fn json(&self) -> Value {
        let mut value = json!(self.rule);
        if let Some(object) = value.as_object_mut() {
            object.insert("id".to_owned(), json!(self.id));
            object.insert("sieve".to_owned(), json!(self.rule.script()));
        }
        value
    }
}

/// Checks the name and the text of a script.
///
/// # Errors
/// [`KeptError::Name`], [`KeptError::Script`].
pub fn check_script(name: &str, text: &str) -> Result<Script, KeptError> {
    let fits = !name.is_empty() && name.len() <= NAME_MAX && !name.contains(char::is_control);
    if !fits {
        return Err(KeptError::Name(name.to_owned()));
    }
    Script::compile(text.as_bytes()).map_err(|error| KeptError::Script {
        name: name.to_owned(),
        error,
    })
}

/// What accounts want of their mail, in a store.
#[derive(Clone, Copy, Debug)]
pub struct Kept<'a> {
    /// The store.
    pub store: &'a Store,
}

impl Kept<'_> {
    /// The scripts of an account, by name.
    ///
    /// # Errors
    /// If the store can't be read.
    pub async fn scripts(&self, account: &str) -> Result<Vec<SieveScript>, KeptError> {
        Ok(self.store.sieve(account).await?.scripts)
    }

    /// Checks changes of scripts: their names, their texts, and how many there would be.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub async fn check(&self, changes: &[SieveScriptChange]) -> Result<(), KeptError> {
        let mut names: BTreeMap<&str, std::collections::BTreeSet<String>> = BTreeMap::new();
        for change in changes {
            let account = change.account.as_str();
            if !names.contains_key(account) {
                let there = self.scripts(account).await?;
                let there = there.into_iter().map(|script| script.name);
                names.insert(account, there.collect());
            }
            let there = names.entry(account).or_default();
            match &change.script {
                Some(script) => {
                    check_script(&change.name, &script.text)?;
                    there.insert(change.name.clone());
                }
                None => {
                    there.remove(&change.name);
                }
            }
        }
        match names.values().any(|names| names.len() > SCRIPTS_MAX) {
            true => Err(KeptError::TooManyScripts),
            false => Ok(()),
        }
    }

    /// Sets and removes scripts, all or none. Gives how many are others now.
    ///
    /// # Errors
    /// As [`check`](Self::check). Then nothing is kept.
    pub async fn set_scripts(&self, changes: Vec<SieveScriptChange>) -> Result<u64, KeptError> {
        self.check(&changes).await?;
        match changes.is_empty() {
            true => Ok(0),
            false => Ok(self.store.set_sieve_scripts(changes).await?),
        }
    }

    /// The rules of an account, in the order in which they run.
    ///
    /// # Errors
    /// If the store can't be read.
    pub async fn rules(&self, account: &str) -> Result<Vec<KeptRule>, KeptError> {
        let rules = self.store.sieve(account).await?.rules;
        Ok(rules.iter().filter_map(read).collect())
    }

    /// A rule of an account.
    ///
    /// # Errors
    /// [`KeptError::NoRule`], or if the store can't be read.
    pub async fn rule(&self, account: &str, id: u64) -> Result<KeptRule, KeptError> {
        let rules = self.rules(account).await?;
        let mut rules = rules.into_iter();
        rules
            .find(|rule| rule.id == id)
            .ok_or(KeptError::NoRule(id))
    }

    /// Adds a rule.
    ///
    /// # Errors
    /// If the rule is wrong, or the account has too many.
    pub async fn add_rule(
        &self,
        account: &str,
        rule: &Value,
        now: Time,
    ) -> Result<KeptRule, KeptError> {
        let (read, mut record) = record(0, rule, now)?;
        if self.store.sieve(account).await?.rules.len() >= RULES_MAX {
            return Err(KeptError::TooManyRules);
        }
        record.id = self.store.add_sieve_rule(account, record.clone()).await?;
        Ok(KeptRule {
            id: record.id.0,
            rule: read,
            changed: now,
        })
    }

    /// Puts another rule in the place of one.
    ///
    /// # Errors
    /// If the rule is wrong, or the account has no rule of this number.
    pub async fn change_rule(
        &self,
        account: &str,
        id: u64,
        rule: &Value,
        now: Time,
    ) -> Result<KeptRule, KeptError> {
        let (read, record) = record(id, rule, now)?;
        self.rule(account, id).await?;
        self.store.change_sieve_rules(account, vec![record]).await?;
        Ok(KeptRule {
            id,
            rule: read,
            changed: now,
        })
    }

    /// Lets the rules run in this order: their priorities become 1, 2 and so on. Those that are
    /// not named come behind them, in their order.
    ///
    /// # Errors
    /// [`KeptError::NoRule`], or if the store can't be used.
    pub async fn order_rules(&self, account: &str, ids: &[u64]) -> Result<(), KeptError> {
        let rules = self.store.sieve(account).await?.rules;
        if let Some(id) = ids
            .iter()
            .find(|id| !rules.iter().any(|it| it.id.0 == **id))
        {
            return Err(KeptError::NoRule(*id));
        }
        let place = |rule: &SieveRule| {
            let place = ids.iter().position(|id| *id == rule.id.0);
            place.unwrap_or(ids.len())
        };
        let mut ordered = rules;
        ordered.sort_by_key(place);
        for (priority, rule) in (1..).zip(&mut ordered) {
            rule.priority = priority;
        }
        self.store.change_sieve_rules(account, ordered).await?;
        Ok(())
    }

    /// Removes a rule.
    ///
    /// # Errors
    /// [`KeptError::NoRule`], or if the store can't be used.
    pub async fn remove_rule(&self, account: &str, id: u64) -> Result<(), KeptError> {
        match self
            .store
            .remove_sieve_rule(account, SieveRuleId(id))
            .await?
        {
            true => Ok(()),
            false => Err(KeptError::NoRule(id)),
        }
    }

    /// The auto-responder of an account.
    ///
    /// # Errors
    /// If the store can't be read.
    pub async fn responder(&self, account: &str) -> Result<Option<AutoResponder>, KeptError> {
        let kept = self.store.sieve(account).await?.responder;
        Ok(kept.and_then(|kept| {
            let value: Value = serde_json::from_str(&kept.text).ok()?;
            AutoResponder::read(&value).ok()
        }))
    }

    /// Sets the auto-responder of an account.
    ///
    /// # Errors
    /// If the responder is wrong.
    pub async fn set_responder(
        &self,
        account: &str,
        responder: &Value,
        now: Time,
    ) -> Result<AutoResponder, KeptError> {
        let read = AutoResponder::read(responder).map_err(KeptError::Fields)?;
        let text = read.json().to_string();
        if text.len() > SCRIPT_MAX {
            return Err(KeptError::TooLarge);
        }
        let changed = now;
        let kept = Some(SieveResponder { text, changed });
        self.store.set_sieve_responder(account, kept).await?;
        Ok(read)
    }

    /// Removes the auto-responder of an account. False: it had none.
    ///
    /// # Errors
    /// If the store can't be used.
    pub async fn remove_responder(&self, account: &str) -> Result<bool, KeptError> {
        Ok(self.store.set_sieve_responder(account, None).await?)
    }
}

/// The rule of a record, unless the record was written by a program that knew other rules.
fn read(kept: &SieveRule) -> Option<KeptRule> {
    let value: Value = serde_json::from_str(&kept.text).ok()?;
    let rule = Rule::read(&value).ok()?;
    Some(KeptRule {
        id: kept.id.0,
        rule: Rule {
            priority: kept.priority,
            ..rule
        },
        changed: kept.changed,
    })
}

fn record(id: u64, value: &Value, now: Time) -> Result<(Rule, SieveRule), KeptError> {
    let rule = Rule::read(value).map_err(KeptError::Fields)?;
    let text = json!(rule).to_string();
    if text.len() > SCRIPT_MAX {
        return Err(KeptError::TooLarge);
    }
    let record = SieveRule {
        id: SieveRuleId(id),
        priority: rule.priority,
        text,
        changed: now,
    };
    Ok((rule, record))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(name: &str, text: Option<&str>) -> SieveScriptChange {
        SieveScriptChange {
            account: "ann".into(),
            name: name.into(),
            script: text.map(|text| SieveScript {
                name: name.into(),
                text: text.into(),
                enabled: true,
                changed: Time(1),
            }),
        }
    }

    fn rule(priority: i64) -> Value {
        json!({"name": "n", "priority": priority, "actions": [{"action_type": "mark_read"}]})
    }

    #[tokio::test]
    async fn a_script_that_does_not_compile_keeps_nothing_of_its_call() {
        let store = Store::memory();
        let kept = Kept { store: &store };
        let error = kept
            .set_scripts(vec![
                change("a", Some("keep;")),
                change("b", Some("keep;\nkeepp;")),
            ])
            .await
            .unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with("the script \"b\" has a fault in line 2, column 1: "),
            "{text}"
        );
        assert_eq!(kept.scripts("ann").await.unwrap(), []);
        for name in ["", "a\nb", &"x".repeat(129)] {
            let error = kept.set_scripts(vec![change(name, Some("keep;"))]).await;
            assert!(matches!(error, Err(KeptError::Name(_))), "{name:?}");
        }
    }

    #[tokio::test]
    async fn an_account_has_so_many_scripts_and_rules() {
        let store = Store::memory();
        let kept = Kept { store: &store };
        let many: Vec<_> = (0..SCRIPTS_MAX)
            .map(|number| change(&format!("s{number}"), Some("keep;")))
            .collect();
        assert_eq!(kept.set_scripts(many).await.unwrap(), SCRIPTS_MAX as u64);
        let one_more = change("one more", Some("keep;"));
        let error = kept.set_scripts(vec![one_more.clone()]).await;
        assert!(matches!(error, Err(KeptError::TooManyScripts)));
        let in_its_place = vec![change("s0", None), one_more];
        assert_eq!(kept.set_scripts(in_its_place).await.unwrap(), 2);
        for number in 0..RULES_MAX {
            let priority = i64::try_from(number).unwrap();
            kept.add_rule("ann", &rule(priority), Time(1))
                .await
                .unwrap();
        }
        let error = kept.add_rule("ann", &rule(0), Time(1)).await;
        assert!(matches!(error, Err(KeptError::TooManyRules)));
    }

    #[tokio::test]
    async fn rules_are_changed_ordered_and_removed() {
        let store = Store::memory();
        let kept = Kept { store: &store };
        for priority in [3, 1, 2] {
            kept.add_rule("ann", &rule(priority), Time(1))
                .await
                .unwrap();
        }
        let order = async || {
            let rules = kept.rules("ann").await.unwrap();
            let order = rules.iter().map(|it| (it.id, it.rule.priority));
            order.collect::<Vec<_>>()
        };
        assert_eq!(order().await, [(2, 1), (3, 2), (1, 3)]);
        kept.order_rules("ann", &[1, 3]).await.unwrap();
        assert_eq!(order().await, [(1, 1), (3, 2), (2, 3)]);
        let error = kept.order_rules("ann", &[7]).await;
        assert!(matches!(error, Err(KeptError::NoRule(7))));
        let changed = kept.change_rule("ann", 1, &rule(9), Time(2)).await.unwrap();
        assert_eq!(changed.json()["id"], 1);
        assert!(
            changed.json()["sieve"]
                .as_str()
                .unwrap()
                .contains("\\\\Seen")
        );
        kept.remove_rule("ann", 3).await.unwrap();
        assert!(kept.remove_rule("ann", 3).await.is_err());
        assert_eq!(order().await, [(2, 3), (1, 9)]);
        let wrong = json!({"actions": [{"action_type": "fly"}]});
        let error = kept.add_rule("ann", &wrong, Time(1)).await.unwrap_err();
        assert!(
            error.to_string().starts_with("actions[0].action_type: "),
            "{error}"
        );
        let error = kept.change_rule("ann", 3, &rule(1), Time(1)).await;
        assert!(matches!(error, Err(KeptError::NoRule(3))));
    }

    #[tokio::test]
    async fn a_responder_comes_back_as_it_was() {
        let store = Store::memory();
        let kept = Kept { store: &store };
        assert_eq!(kept.responder("ann").await.unwrap(), None);
        let value = json!({"subject": "Away", "plain": "Back soon.", "days": 3});
        let set = kept.set_responder("ann", &value, Time(1)).await.unwrap();
        assert_eq!(kept.responder("ann").await.unwrap(), Some(set));
        let error = kept
            .set_responder("ann", &json!({"days": 0}), Time(1))
            .await;
        assert!(matches!(error, Err(KeptError::Fields(_))));
        assert!(kept.remove_responder("ann").await.unwrap());
        assert!(!kept.remove_responder("ann").await.unwrap());
    }
}
