//! The settings of `domains.conf` by their keys, and the scripts of accounts, which have keys too:
//! `sieve.scripts.ACCOUNT.NAME`. A tenant sees and sets those of its accounts, and nothing else.

use postrider_config::is_secret;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::{
    Answer, Asked,
    paging::{NAMES_MAX, Paging, collect, list_value},
    parameters::body,
    problem::Problem,
};
use crate::op::{
    Single,
    config::settings::{Get, Set, Setting, SettingItem},
    principals::Kind,
    sieve::{self, ScriptChange, ScriptItem},
};

/// The most settings that a request changes.
const CHANGES_MAX: usize = 1000;
/// What stands before the account in the key of a script.
const SCRIPTS: &str = "sieve.scripts.";

impl Asked {
    /// The settings at a key or below it that a test finds wanted.
    async fn settings(
        &self,
        wanted: &(dyn Fn(&SettingItem) -> bool + Sync),
    ) -> Result<Vec<SettingItem>, Problem> {
        let mut found = match self.access.is_tenant() {
            true => Vec::new(),
            false => {
                let get = Get { key: String::new() };
                collect(&self.context, get, NAMES_MAX, wanted).await?.items
            }
        };
        let list = sieve::List { account: None };
        let is_seen = |script: &ScriptItem| self.sees_account(&script.account);
        let scripts = collect(&self.context, list, NAMES_MAX, &is_seen).await?;
        let scripts = scripts.items.into_iter().map(|script| SettingItem {
            key: format!("{SCRIPTS}{}.{}", script.account, script.name),
            value: script.text,
        });
        found.extend(scripts.filter(wanted));
        Ok(found)
    }

    /// The account and the name of a script by its key. Some clients write `_` before the name, and
    /// the number of the account in the place of its name.
    async fn script(&self, key: &str) -> Result<(String, String), Problem> {
        let rest = key.strip_prefix(SCRIPTS).unwrap_or_default();
        let config = self.context.config.load_full();
        let names = config
            .accounts
            .keys()
            .filter(|name| self.sees_account(name));
        let names: Vec<&String> = names.collect();
        let named = names.iter().filter_map(|name| {
            let script = rest.strip_prefix(name.as_str())?.strip_prefix(['.', '_'])?;
            Some((*name, script))
        });
        // A name may begin with another one.
        let named = named.max_by_key(|(name, _)| name.len());
        let found = match (named, rest.split_once(['.', '_'])) {
            (Some(named), _) => Some(named),
            (None, Some((number, script))) => {
                let known: Vec<_> = names
                    .iter()
                    .map(|name| Kind::Individual.known_as(name))
                    .collect();
                let ids = self.context.store.principal_ids(&known).await?;
                let mut numbered = names.iter().zip(ids);
                let found = numbered.find(|(_, id)| id.0.to_string() == number);
                found.map(|(name, _)| (*name, script))
            }
            (None, None) => None,
        };
        match found {
            Some((account, script)) if !script.is_empty() => {
                Ok((account.clone(), script.to_owned()))
            }
            _ => {
                let text = format!(
                    "{key} names no account and script; a key of a script is \
                     {SCRIPTS}ACCOUNT.NAME"
                );
                Err(Problem::refused(text).at(key))
            }
        }
    }
}

/// The beginning of keys below a prefix.
fn below(prefix: &str) -> String {
    match prefix {
        "" => String::new(),
        prefix => format!("{}.", prefix.trim_end_matches('.')),
    }
}

pub(in super::super) async fn keys(asked: Asked) -> Result<Answer, Problem> {
    let keys = asked.query.list("keys");
    let prefixes: Vec<String> = asked
        .query
        .list("prefixes")
        .into_iter()
        .map(below)
        .collect();
    let wanted = |item: &SettingItem| {
        keys.contains(&item.key.as_str()) || prefixes.iter().any(|it| item.key.starts_with(it))
    };
    let found = asked.settings(&wanted).await?.into_iter();
    let found: Map<String, Value> = found.map(|it| (it.key, it.value.into())).collect();
    Ok(Answer::Data(Value::Object(found)))
}

pub(in super::super) async fn list(asked: Asked) -> Result<Answer, Problem> {
    let prefix = below(asked.query.text("prefix").unwrap_or_default());
    let paging = Paging::new(&asked.query, NAMES_MAX)?;
    let found = asked
        .settings(&|item| item.key.starts_with(&prefix))
        .await?;
    let total = found.len();
    let skip = usize::try_from(paging.skip).unwrap_or(usize::MAX);
    let page = found.into_iter().skip(skip).take(paging.limit);
    let items = page.map(|it| {
        let short = it.key.strip_prefix(&prefix).unwrap_or(&it.key);
        (short.to_owned(), Value::String(it.value.clone()))
    });
    let items: Map<String, Value> = items.collect();
    Ok(Answer::Data(json!({"total": total, "items": items})))
}

pub(in super::super) async fn group(asked: Asked) -> Result<Answer, Problem> {
    let prefix = below(asked.query.text("prefix").unwrap_or_default());
    let suffix = asked
        .query
        .text("suffix")
        .map(|it| format!(".{}", it.trim_matches('.')));
    let found = asked
        .settings(&|item| item.key.starts_with(&prefix))
        .await?;
    let short = |key: &str| key.strip_prefix(&prefix).unwrap_or(key).to_owned();
    let items: Vec<Value> = match suffix {
        None => found
            .iter()
            .map(|it| json!({"_id": short(&it.key), "_value": it.value}))
            .collect(),
        Some(suffix) => {
            let shorts: Vec<(String, &str)> = found
                .iter()
                .map(|it| (short(&it.key), it.value.as_str()))
                .collect();
            let ids = shorts
                .iter()
                .filter_map(|(key, _)| key.strip_suffix(&suffix));
            ids.map(|id| {
                let mut item = Map::new();
                item.insert("_id".to_owned(), json!(id));
                let of_id = below(id);
                for (key, value) in &shorts {
                    if let Some(field) = key.strip_prefix(&of_id) {
                        item.insert(field.to_owned(), json!(value));
                    }
                }
                Value::Object(item)
            })
            .collect()
        }
    };
    let paging = Paging::new(&asked.query, NAMES_MAX)?;
    let total = items.len() as u64;
    let skip = usize::try_from(paging.skip).unwrap_or(usize::MAX);
    let page = items.into_iter().skip(skip).take(paging.limit).collect();
    Ok(Answer::Data(list_value(page, total, false, None::<u64>)))
}

/// A change of settings.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub(in super::super) enum SettingsChange {
    /// Sets values below a prefix.
    Insert {
        #[serde(default)]
        prefix: Option<String>,
        /// Pairs of a key and a value.
        #[cfg_attr(test, schema(value_type = Vec<Vec<String>>))]
        values: Vec<(String, String)>,
        /// There must be nothing below the prefix.
        #[serde(default)]
        assert_empty: bool,
    },
    /// Removes values.
    Delete { keys: Vec<String> },
    /// Removes all values below a prefix.
    Clear {
        prefix: String,
        /// Only those whose key or value has this text.
        #[serde(default)]
        filter: Option<String>,
    },
    /// Sets one value.
    Set {
        /// The key.
        prefix: String,
        value: String,
    },
}

pub(in super::super) async fn change(asked: Asked) -> Result<Answer, Problem> {
    let changes: Vec<SettingsChange> = body(&asked.body)?;
    let mut settings = Vec::new();
    for change in changes {
        add_change(&asked, change, &mut settings).await?;
    }
    set(&asked, settings).await
}

async fn add_change(
    asked: &Asked,
    change: SettingsChange,
    settings: &mut Vec<Setting>,
) -> Result<(), Problem> {
    match change {
        SettingsChange::Insert {
            prefix,
            values,
            assert_empty,
        } => {
            let prefix = below(prefix.as_deref().unwrap_or_default());
            if assert_empty {
                let keys: Vec<String> = values
                    .iter()
                    .map(|(key, _)| format!("{prefix}{key}"))
                    .collect();
                let there = |item: &SettingItem| match prefix.as_str() {
                    "" => keys.contains(&item.key),
                    prefix => item.key.starts_with(prefix),
                };
                if let Some(item) = asked.settings(&there).await?.first() {
                    let text = format!("{} is set already", item.key);
                    return Err(Problem::assert_failed(text));
                }
            }
            settings.extend(values.into_iter().map(|(key, value)| Setting {
                key: format!("{prefix}{key}"),
                value: Some(value),
            }));
        }
        SettingsChange::Delete { keys } => settings.extend(keys.into_iter().map(unset)),
        SettingsChange::Clear { prefix, filter } => {
            let prefix = below(&prefix);
            if prefix.is_empty() {
                let text = "a prefix is needed: without it, the whole file would go";
                return Err(Problem::refused(text).at("prefix"));
            }
            let matches = |item: &SettingItem| {
                let has = |text: &String| item.key.contains(text) || item.value.contains(text);
                item.key.starts_with(&prefix) && filter.as_ref().is_none_or(has)
            };
            let found = asked.settings(&matches).await?;
            // From the end, so that the places of elements of arrays stay right.
            settings.extend(found.into_iter().rev().map(|item| unset(item.key)));
        }
        SettingsChange::Set { prefix, value } => settings.push(Setting {
            key: prefix,
            value: Some(value),
        }),
    }
    Ok(())
}

fn unset(key: String) -> Setting {
    Setting { key, value: None }
}

async fn set(asked: &Asked, settings: Vec<Setting>) -> Result<Answer, Problem> {
    if settings.len() > CHANGES_MAX {
        let text = format!("a request changes at most {CHANGES_MAX} settings");
        return Err(Problem::unreadable(text));
    }
    let (scripts, settings): (Vec<_>, Vec<_>) = settings
        .into_iter()
        .partition(|it| it.key.starts_with(SCRIPTS));
    if asked.access.is_tenant() && !settings.is_empty() {
        let text = format!("a key with domains sets only {SCRIPTS}ACCOUNT.NAME of its accounts");
        return Err(Problem::forbidden(text));
    }
    let scripts = ScriptSettings::read(asked, scripts).await?;
    // Nothing is kept if a script has a fault.
    scripts.set(asked, true).await?;
    if let [one] = settings.as_slice()
        && scripts.is_empty()
        && let Some(value) = &one.value
        && value == postrider_config::HIDDEN
        && is_secret(&one.key)
    {
        return Ok(Answer::null());
    }
    if !settings.is_empty() {
        let first = settings
            .first()
            .map(|it| it.key.clone())
            .unwrap_or_default();
        let set = Set { settings };
        if let Err(error) = set.answer(&asked.context).await {
            let has_field = error.field.is_some();
            let problem = Problem::from(error);
            return Err(match has_field {
                true => problem,
                false => problem.at(first),
            });
        }
    }
    scripts.set(asked, false).await?;
    Ok(Answer::null())
}

/// The scripts among the settings of a request.
struct ScriptSettings {
    changes: Vec<ScriptChange>,
    /// The key of the first one.
    first: String,
}

impl ScriptSettings {
    async fn read(asked: &Asked, settings: Vec<Setting>) -> Result<Self, Problem> {
        let first = settings.first().map(|it| it.key.clone());
        let mut changes = Vec::new();
        for setting in settings {
            let (account, name) = asked.script(&setting.key).await?;
            changes.push(ScriptChange {
                account,
                name,
                text: setting.value,
            });
        }
        Ok(Self {
            changes,
            first: first.unwrap_or_default(),
        })
    }

    fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Sets the scripts, or only checks them.
    async fn set(&self, asked: &Asked, check_only: bool) -> Result<(), Problem> {
        if self.is_empty() {
            return Ok(());
        }
        let set = sieve::Set {
            scripts: self.changes.clone(),
            check_only,
        };
        let set = set.answer(&asked.context).await;
        set.map(drop)
            .map_err(|error| Problem::from(error).at(self.first.clone()))
    }
}

pub(in super::super) async fn remove(asked: Asked) -> Result<Answer, Problem> {
    let key = asked.element(0).to_owned();
    let is_there = |item: &SettingItem| item.key == key || item.key.starts_with(&below(&key));
    if asked.settings(&is_there).await?.is_empty() {
        let text = format!("{key} is not set");
        return Err(Problem::not_found(key, text));
    }
    set(&asked, vec![unset(key)]).await
}
