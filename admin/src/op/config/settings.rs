//! Any value of `domains.conf` by its key.
//!
//! A key is a path in the file, such as `accounts.info.quota` or `domains."a.test".dkim.sign.0`. A
//! value is text: a string without its quotes, a number, `true` or `false`. An array or a table is
//! written as in the file. Secrets are shown as `****`, and to write that changes nothing.

use postrider_config::{
    DestinationAddress, HIDDEN, is_secret,
    schema::{Default, Kind, Place, place},
    toml_edit::{Array, InlineTable, Key, Value},
};
use postrider_smtp::Domain;
use serde::{Deserialize, Serialize};

use super::{Edit, document};
use crate::{
    AdminError, Context,
    op::{Listed as _, Operation, Single, Sink},
};

/// A key with its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingItem {
    /// The full key.
    pub key: String,
    /// The value; `****` for a secret.
    pub value: String,
}

/// Reads the values at a key and below it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Get {
    /// The key; empty: the whole file.
    pub key: String,
}

impl Operation for Get {
    type Item = SettingItem;

    async fn run(
        self,
        context: &Context,
        items: &mut impl Sink<SettingItem>,
    ) -> Result<(), AdminError> {
        let config = context.config.load_full();
        let mut document = config.text().parse().map_err(AdminError::internal)?;
        let mut wanted = String::new();
        let mut default = None;
        if !self.key.is_empty() {
            let names = names(&self.key)?;
            if let Place::Value(_, key) = at(&names, &self.key)? {
                default = Some(key.default);
            }
            let edit = Edit {
                document: &mut document,
                before: &config,
                statics: &context.statics,
            };
            wanted = joined(&spelled(&edit, names));
        }
        let below = format!("{wanted}.");
        let all = postrider_config::settings(&document).into_iter();
        let is_wanted = |key: &str| key == wanted || key.starts_with(&below) || wanted.is_empty();
        let found = all.filter(|(key, _)| is_wanted(key));
        let found: Vec<SettingItem> = found
            .map(|(key, value)| SettingItem {
                value: postrider_config::shown(&key, &value),
                key,
            })
            .collect();
        if found.is_empty() && !wanted.is_empty() {
            let text = match default {
                Some(Default::Value(value)) => format!("{wanted} is not set; it is {value}"),
                Some(Default::Absent(text)) => format!("{wanted} is not set ({text})"),
                Some(Default::Required) | None => format!("{wanted} is not set"),
            };
            return Err(AdminError::not_found(text).at("key"));
        }
        items.send(found).await
    }
}

/// A change of one setting.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Setting {
    /// The key.
    pub key: String,
    /// The new value; None removes the key, so that its default holds.
    pub value: Option<String>,
}

/// Hides secrets.
impl std::fmt::Debug for Setting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut out = f.debug_struct("Setting");
        out.field("key", &self.key).finish_non_exhaustive()
    }
}

/// Changes settings. All change, or none.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Set {
    /// The settings.
    pub settings: Vec<Setting>,
}

impl Single for Set {
    type Output = ();

    async fn answer(self, context: &Context) -> Result<(), AdminError> {
        let target = match self.settings.as_slice() {
            [one] => one.key.clone(),
            more => format!("{} settings", more.len()),
        };
        let change = move |edit: &mut Edit<'_>| apply_below(edit, &[], &self.settings);
        context.edit(Self::NAME, &target, change).await?;
        Ok(())
    }
}

/// Changes settings below a path.
pub(super) fn apply_below(
    edit: &mut Edit<'_>,
    path: &[&str],
    settings: &[Setting],
) -> Result<(), AdminError> {
    if settings.is_empty() {
        return Err(AdminError::invalid("there is nothing to change").at("settings"));
    }
    for setting in settings {
        let below = names(&setting.key)?;
        let full: Vec<String> = path
            .iter()
            .map(|name| (*name).to_owned())
            .chain(below)
            .collect();
        apply(edit, full, setting).map_err(|error| match error.field {
            None => error.at(setting.key.clone()),
            Some(_) => error,
        })?;
    }
    Ok(())
}

/// The names in a key.
fn names(key: &str) -> Result<Vec<String>, AdminError> {
    let parsed = Key::parse(key).map_err(|_| {
        let text = format!(
            "{key:?} is not a key; put names with other characters than letters, digits, - and _ in \
             quotes, as in domains.\"example.org\".disabled"
        );
        AdminError::invalid(text).at(key)
    })?;
    Ok(parsed.iter().map(|name| name.get().to_owned()).collect())
}

fn joined(names: &[String]) -> String {
    let names = names.iter().map(Key::new);
    let names: Vec<String> = names.map(|name| name.display_repr().into_owned()).collect();
    names.join(".")
}

fn at(names: &[String], key: &str) -> Result<Place, AdminError> {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    place(&names).map_err(|text| AdminError::invalid(text).at(key))
}

/// The names as the file spells them: the names of domains and addresses have several spellings.
fn spelled(edit: &Edit<'_>, mut names: Vec<String>) -> Vec<String> {
    let found = match names.as_slice() {
        [first, domain, ..] if first == "domains" => {
            let domain = Domain::parse(domain).ok();
            let found = domain.and_then(|domain| edit.domain(&domain).ok());
            found.map(|(_, spelled)| (1, spelled))
        }
        [first, account, third, address, ..] if first == "accounts" && third == "destinations" => {
            let address = DestinationAddress::parse(address).ok();
            let found = address.and_then(|address| edit.destination(account, &address));
            found.map(|spelled| (3, spelled))
        }
        _ => None,
    };
    if let Some((index, spelled)) = found
        && let Some(name) = names.get_mut(index)
    {
        *name = spelled;
    }
    names
}

fn apply(edit: &mut Edit<'_>, names: Vec<String>, setting: &Setting) -> Result<(), AdminError> {
    let place = at(&names, &setting.key)?;
    let names = spelled(edit, names);
    let full = joined(&names);
    let value = match &setting.value {
        Some(text) if text == HIDDEN && is_secret(&full) => return Ok(()),
        // A URL with a login comes back as it was shown.
        Some(text) if text.contains(HIDDEN) && is_shown(edit, &full, text) => return Ok(()),
        Some(text) => Some(value(place, text).map_err(|text| {
            AdminError::invalid(format!("{full} {text}")).at(setting.key.clone())
        })?),
        None => None,
    };
    let path: Vec<&str> = names.iter().map(String::as_str).collect();
    let is_array = |end: &usize| {
        let path = path.get(..*end).unwrap_or(&[]);
        let place = postrider_config::schema::place(path);
        matches!(
            place,
            Ok(Place::Tables | Place::Value(Kind::List(_) | Kind::Secret, _))
        )
    };
    let Some(end) = (1..path.len()).find(is_array) else {
        return match value {
            Some(value) => document::set(edit.document, &path, value),
            None => document::remove(edit.document, &path).map(drop),
        };
    };
    let (array, rest) = path.split_at(end);
    let (index, below) = rest.split_first().unwrap_or((&"", &[]));
    let index: usize = index.parse().map_err(AdminError::internal)?;
    match below {
        [] => set_element(edit, array, index, value),
        below => set_in_element(edit, array, index, below, value),
    }
}

/// Whether a text is what listings show for the present value of a key.
fn is_shown(edit: &Edit<'_>, key: &str, text: &str) -> bool {
    let present = postrider_config::settings(edit.document);
    let present = present.get(key);
    present.is_some_and(|value| postrider_config::shown(key, value) == text)
}

fn no_element(array: &[&str], index: usize, length: usize) -> AdminError {
    let name = array.last().copied().unwrap_or("");
    AdminError::invalid(format!(
        "there is no element {index} of {name}; it has {length}, and the first is {name}.0"
    ))
}

fn set_element(
    edit: &mut Edit<'_>,
    array: &[&str],
    index: usize,
    value: Option<Value>,
) -> Result<(), AdminError> {
    let Some(value) = value else {
        return match document::remove_at(edit.document, array, index)? {
            true => Ok(()),
            false => Err(no_element(array, index, 0)),
        };
    };
    if let Value::InlineTable(content) = value {
        document::remove_at(edit.document, array, index)?;
        return document::insert_element(edit.document, array, Some(index), content);
    }
    let mut result = Ok(());
    document::change_array(edit.document, array, |elements| {
        let length = elements.len();
        match elements.get_mut(index) {
            Some(element) => {
                let decor = element.decor().clone();
                *element = value;
                *element.decor_mut() = decor;
            }
            None if index == length => document::push(elements, value),
            None => result = Err(no_element(array, index, length)),
        }
    })?;
    result
}

/// Changes a value in a table of an array of tables.
fn set_in_element(
    edit: &mut Edit<'_>,
    array: &[&str],
    index: usize,
    below: &[&str],
    value: Option<Value>,
) -> Result<(), AdminError> {
    let (name, more) = below.split_first().unwrap_or((&"", &[]));
    let table = document::element(edit.document, array, index);
    let Some(table) = table else {
        return match value {
            Some(value) if more.is_empty() => {
                let content = InlineTable::from_iter([(*name, value)]);
                document::insert_element(edit.document, array, Some(index), content)
            }
            _ => Err(no_element(array, index, 0)),
        };
    };
    if !more.is_empty() {
        return Err(AdminError::invalid(format!(
            "set {name} as a whole, as an array or a table in the form of the file"
        )));
    }
    match value {
        Some(value) => {
            let old = table.get(name).and_then(|item| item.as_value());
            let decor = old.map(|old| old.decor().clone());
            let mut value = value;
            if let Some(decor) = decor {
                *value.decor_mut() = decor;
            }
            table.insert(name, value.into());
        }
        None => drop(table.remove(name)),
    }
    Ok(())
}

/// The value of a text. The check of the whole file finds values that are not allowed. The error
/// follows the key.
fn value(place: Place, text: &str) -> Result<Value, String> {
    let kind = match place {
        Place::Table => return parsed(text, '{', "a table such as { name = \"value\" }"),
        Place::Tables => return parsed(text, '[', "an array of tables"),
        Place::Value(kind, _) => kind,
    };
    Ok(match kind {
        Kind::Bool => text
            .parse::<bool>()
            .map_err(|_| format!("must be true or false, not {text:?}"))?
            .into(),
        Kind::Integer => text
            .parse::<i64>()
            .map_err(|_| format!("must be a whole number, not {text:?}"))?
            .into(),
        Kind::Number => text
            .parse::<f64>()
            .map_err(|_| format!("must be a number, not {text:?}"))?
            .into(),
        // Both may be written as a number, or as a text.
        Kind::Size | Kind::Tenant => match text.parse::<i64>() {
            Ok(number) => number.into(),
            Err(_) => text.into(),
        },
        Kind::Map(_) => return parsed(text, '{', "a table such as { name = \"value\" }"),
        Kind::List(_) | Kind::Secret if text.starts_with('[') => {
            return parsed(text, '[', "an array such as [\"a\", \"b\"]");
        }
        // One element.
        Kind::List(kind) => {
            let Place::Value(_, key) = place else {
                return Err("is not a value".to_owned());
            };
            let one = value(Place::Value(*kind, key), text)?;
            let mut array = Array::new();
            array.push(one);
            array.into()
        }
        _ => text.into(),
    })
}

/// A value that is written as in the file.
fn parsed(text: &str, begin: char, wanted: &str) -> Result<Value, String> {
    let mut value: Value = match text.trim_start().starts_with(begin) {
        true => text
            .trim()
            .parse()
            .map_err(|error| format!("is not {wanted}: {error}"))?,
        false => return Err(format!("must be {wanted}, not {text:?}")),
    };
    value.decor_mut().clear();
    Ok(value)
}
