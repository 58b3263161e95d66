//! Forms for settings of accounts and domains. The description of `domains.conf` says what a field
//! is, what it does, and what holds without it.

pub(super) mod account;
pub(super) mod webhooks;

use std::collections::BTreeMap;

use askama::{Template, filters::HtmlSafe};
use postrider_config::{
    schema::{Default, Kind, Place, place},
    toml_edit::Key,
};
use serde_json::json;

use super::{
    answer::Trouble,
    asked::Asked,
    form::{Faults, Fields},
};
use crate::{
    AdminError, Code,
    op::config::{
        accounts, domains,
        settings::{Get, Setting},
    },
};

/// What settings are of.
#[derive(Clone, Copy, Debug)]
pub(super) enum Of<'a> {
    /// An account.
    Account(&'a str),
    /// A domain.
    Domain(&'a str),
}

impl Of<'_> {
    /// The names of its table in the file.
    const fn names(&self) -> [&str; 2] {
        match self {
            Self::Account(name) => ["accounts", name],
            Self::Domain(name) => ["domains", name],
        }
    }

    /// The key of its table.
    pub(super) fn key(self) -> String {
        let [kind, name] = self.names();
        format!("{kind}.{}", json!(name))
    }
}

/// How an empty text is typed. A field that is left empty leaves it to the default.
const NOTHING: &str = "\"\"";

/// How a field is typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Input {
    /// One line.
    Text,
    /// A value on each line.
    Lines,
    /// One of these values, with their texts.
    Choice(Vec<(String, String)>),
    /// A secret, which is never shown. Empty leaves it as it is.
    Secret,
}

/// A field.
#[derive(Clone, Debug)]
pub(super) struct SettingField {
    /// The key below the account or the domain.
    pub(super) key: &'static str,
    pub(super) label: &'static str,
    /// The title of the section that begins here; empty: none begins.
    pub(super) section: &'static str,
    /// What the key does, and what holds without it.
    pub(super) hint: String,
    /// What is set, or what was typed.
    pub(super) value: String,
    pub(super) input: Input,
    /// A secret is set.
    pub(super) is_set: bool,
    /// Without it, its whole table goes.
    is_required: bool,
}

/// A form for settings. It writes its fields as HTML.
#[derive(Clone, Debug, Template)]
#[template(path = "settings_fields.html")]
pub(super) struct SettingsForm {
    pub(super) fields: Vec<SettingField>,
    pub(super) faults: Faults,
}

/// The values that are set, by their keys below the account or the domain.
pub(super) async fn values(
    asked: &Asked,
    of: Of<'_>,
) -> Result<BTreeMap<String, String>, AdminError> {
    let items = match asked.list(Get { key: of.key() }).await {
        Ok(items) => items,
        // Nothing is set.
        Err(error) if error.code == Code::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    let below = items.into_iter().filter_map(|item| {
        let names = Key::parse(&item.key).ok()?;
        let rest: Vec<String> = names
            .iter()
            .skip(of.names().len())
            .map(|name| name.display_repr().into_owned())
            .collect();
        (!rest.is_empty()).then(|| (rest.join("."), item.value))
    });
    Ok(below.collect())
}

impl HtmlSafe for SettingsForm {}

impl SettingsForm {
    /// The form with the present values of these keys, each with its label.
    ///
    /// # Errors
    /// If the file can't be read.
    pub(super) async fn read(
        asked: &Asked,
        of: Of<'_>,
        keys: &[(&'static str, &'static str)],
    ) -> Result<Self, Trouble> {
        Ok(Self::new(of, keys, &values(asked, of).await?))
    }

    /// The form with these values.
    fn new(
        of: Of<'_>,
        keys: &[(&'static str, &'static str)],
        values: &BTreeMap<String, String>,
    ) -> Self {
        let fields = keys
            .iter()
            .filter_map(|(key, label)| field(of, key, label, values));
        Self {
            fields: fields.collect(),
            faults: Faults::default(),
        }
    }

    /// The same form, with the fields of these keys in a section of their own.
    pub(super) fn section(mut self, keys: &[(&str, &str)], title: &'static str) -> Self {
        let mut fields = self.fields.iter_mut();
        let first = fields.find(|field| keys.iter().any(|(key, _)| *key == field.key));
        if let Some(first) = first {
            first.section = title;
        }
        self
    }

    /// The changes that a form asks for.
    pub(super) fn changes(&self, typed: &Fields) -> Vec<Setting> {
        let mut changes = Vec::new();
        let mut gone: Vec<&str> = Vec::new();
        for field in &self.fields {
            let Some((parent, _)) = field.key.rsplit_once('.') else {
                continue;
            };
            let is_empty = typed.text(field.key).is_none();
            if field.is_required && is_empty && !field.value.is_empty() {
                gone.push(parent);
                changes.push(unset(parent));
            }
        }
        for field in &self.fields {
            let is_gone = |parent: &&str| {
                let rest = field.key.strip_prefix(*parent);
                rest.is_some_and(|rest| rest.starts_with('.'))
            };
            if !gone.iter().any(is_gone) {
                changes.extend(field.change(typed));
            }
        }
        changes
    }

    /// The same form with what was typed, and what is wrong with it.
    pub(super) fn again(mut self, typed: &Fields, error: AdminError) -> Self {
        for field in &mut self.fields {
            if field.input != Input::Secret {
                typed.shown(field.key).clone_into(&mut field.value);
            }
        }
        // A check of the whole file names the key in its text.
        let mut fields = self.fields.iter();
        let named = fields.find(|field| error.text.contains(&format!(".{}", field.key)));
        let error = match (&error.field, named) {
            (None, Some(field)) => error.at(field.key),
            _ => error,
        };
        self.faults = Faults::of(&error);
        self
    }
}

fn unset(key: &str) -> Setting {
    Setting {
        key: key.to_owned(),
        value: None,
    }
}

impl SettingField {
    /// The change that a form asks for; None: it is as it was.
    fn change(&self, typed: &Fields) -> Option<Setting> {
        let set = |value: String| {
            Some(Setting {
                key: self.key.to_owned(),
                value: Some(value),
            })
        };
        let text = typed.text(self.key).unwrap_or_default();
        match &self.input {
            Input::Secret if typed.flag(&format!("clear.{}", self.key)) => {
                self.is_set.then(|| unset(self.key))
            }
            Input::Secret if text.is_empty() => None,
            Input::Secret => set(text.to_owned()),
            Input::Lines => {
                let (before, now) = (lines(&self.value), lines(text));
                match now.is_empty() {
                    _ if before == now => None,
                    true => Some(unset(self.key)),
                    false => set(json!(now).to_string()),
                }
            }
            Input::Text | Input::Choice(_) => match text {
                text if text == self.value => None,
                "" => Some(unset(self.key)),
                NOTHING => set(String::new()),
                text => set(text.to_owned()),
            },
        }
    }
}

fn lines(text: &str) -> Vec<&str> {
    let lines = text.lines().map(str::trim);
    lines.filter(|line| !line.is_empty()).collect()
}

/// The field of a key. None: the description of the file does not have the key.
fn field(
    of: Of<'_>,
    key: &'static str,
    label: &'static str,
    values: &BTreeMap<String, String>,
) -> Option<SettingField> {
    let path: Vec<&str> = of.names().into_iter().chain(key.split('.')).collect();
    let Ok(Place::Value(kind, described)) = place(&path) else {
        return None;
    };
    let below = format!("{key}.");
    let elements = values.iter().filter(|(known, _)| known.starts_with(&below));
    let mut elements: Vec<(usize, &str)> = elements
        .filter_map(|(known, value)| {
            let index = known.strip_prefix(&below)?;
            Some((index.parse().ok()?, value.as_str()))
        })
        .collect();
    elements.sort_unstable();
    let one = values.get(key).map(String::as_str);
    let input = match kind {
        _ if described.secret => Input::Secret,
        Kind::List(_) => Input::Lines,
        Kind::Bool => choice(&["true", "false"], described.default),
        Kind::Word(words) => choice(words, described.default),
        _ => Input::Text,
    };
    let value = match (&input, one) {
        (Input::Secret, _) => String::new(),
        (Input::Lines, Some("[]") | None) => {
            let elements: Vec<&str> = elements.iter().map(|(_, value)| *value).collect();
            elements.join("\n")
        }
        (Input::Text, Some("")) => NOTHING.to_owned(),
        (_, one) => one.unwrap_or_default().to_owned(),
    };
    Some(SettingField {
        key,
        label,
        section: "",
        hint: match &input {
            // The list itself says what is usual.
            Input::Choice(_) => described.meaning.replace('`', ""),
            _ => hint(described.meaning, described.default),
        },
        value,
        input,
        is_set: one.is_some() || !elements.is_empty(),
        is_required: described.default == Default::Required,
    })
}

/// What a key does, and what holds without it.
fn hint(meaning: &str, default: Default) -> String {
    let meaning = meaning.replace('`', "");
    let meaning = meaning.replace("An empty array means", "Empty means");
    match default {
        Default::Value("\"\"" | "[]" | "{}") | Default::Required => meaning,
        Default::Value(value) => format!("{meaning} Empty: {}.", value.trim_matches('"')),
        Default::Absent(text) => format!("{meaning} Empty: {}.", text.replace('`', "")),
    }
}

/// A choice of words. The first one leaves it to the default.
fn choice(words: &[&str], default: Default) -> Input {
    let default = match default {
        Default::Value(value) => value.trim_matches('"').to_owned(),
        Default::Absent(text) => text.to_owned(),
        Default::Required => String::new(),
    };
    let first = (String::new(), format!("as usual: {default}"));
    let words = words
        .iter()
        .map(|word| ((*word).to_owned(), (*word).to_owned()));
    Input::Choice(std::iter::once(first).chain(words).collect())
}

/// Makes the changes of a form. Gives how many there were.
pub(super) async fn save(
    asked: &Asked,
    of: Of<'_>,
    settings: Vec<Setting>,
) -> Result<usize, AdminError> {
    let count = settings.len();
    if count == 0 {
        return Ok(0);
    }
    match of {
        Of::Account(account) => {
            let account = account.to_owned();
            asked.run(accounts::Set { account, settings }).await?;
        }
        Of::Domain(domain) => {
            let domain = domain.to_owned();
            asked.run(domains::Set { domain, settings }).await?;
        }
    }
    Ok(count)
}

/// What was done, in a sentence.
pub(super) fn told(count: usize) -> &'static str {
    match count {
        0 => "Nothing was different, so nothing has changed.",
        _ => "Saved. It is in force.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(keys: &[(&'static str, &'static str)], values: &[(&str, &str)]) -> SettingsForm {
        let values = values.iter();
        let values = values.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        SettingsForm::new(Of::Account("a"), keys, &values.collect())
    }

    fn changes(form: &SettingsForm, typed: &str) -> Vec<(String, Option<String>)> {
        let changes = form.changes(&Fields::parse(typed.as_bytes()));
        changes.into_iter().map(|it| (it.key, it.value)).collect()
    }

    #[test]
    fn only_what_differs_is_changed() {
        let keys = [
            ("quota", "Quota"),
            ("failure_dsn", "Failures"),
            ("from_id_login_addresses", "Logins"),
        ];
        let values = [
            ("quota", "1GB"),
            ("from_id_login_addresses.0", "a@b.test"),
            ("from_id_login_addresses.1", "c@b.test"),
        ];
        let form = form(&keys, &values);
        assert_eq!(form.fields[2].value, "a@b.test\nc@b.test");
        let same = "quota=1GB&from_id_login_addresses=a@b.test%0D%0Ac@b.test%0D%0A";
        assert_eq!(changes(&form, same), []);
        let some = |key: &str, value: &str| (key.to_owned(), Some(value.to_owned()));
        assert_eq!(
            changes(&form, "failure_dsn=event&from_id_login_addresses=a@b.test"),
            [
                ("quota".to_owned(), None),
                some("failure_dsn", "event"),
                some("from_id_login_addresses", "[\"a@b.test\"]"),
            ]
        );
    }

    #[test]
    fn an_empty_text_is_typed_as_in_the_file() {
        let keys = [("rejects_mailbox", "Mailbox for refused mail")];
        let empty = form(&keys, &[("rejects_mailbox", "")]);
        assert_eq!(empty.fields[0].value, "\"\"");
        let changed = |form: &SettingsForm, typed: &str| {
            let changes = changes(form, typed);
            changes
                .into_iter()
                .map(|(_, value)| value)
                .collect::<Vec<_>>()
        };
        assert!(changed(&empty, "rejects_mailbox=%22%22").is_empty());
        assert_eq!(changed(&empty, "rejects_mailbox="), [None]);
        let usual = form(&keys, &[]);
        assert_eq!(usual.fields[0].value, "");
        assert!(changed(&usual, "rejects_mailbox=").is_empty());
        let none = changed(&usual, "rejects_mailbox=%22%22");
        assert_eq!(none, [Some(String::new())]);
    }

    #[test]
    fn sections_begin_at_their_first_field() {
        let keys = [
            ("quota", "Quota"),
            ("junk_filter", "Judge"),
            ("junk_mailbox", "Junk"),
        ];
        let form = form(&keys, &[]).section(&keys[1..], "Junk");
        let sections: Vec<&str> = form.fields.iter().map(|it| it.section).collect();
        assert_eq!(sections, ["", "Junk", ""]);
    }

    #[test]
    fn a_table_goes_with_what_it_needs() {
        let keys = [
            ("outgoing_webhook.url", "URL"),
            ("outgoing_webhook.authorization", "Authorization"),
            ("outgoing_webhook.version", "Version"),
        ];
        let values = [
            ("outgoing_webhook.url", "https://a.test/"),
            ("outgoing_webhook.authorization", "****"),
            ("outgoing_webhook.version", "1"),
        ];
        let form = form(&keys, &values);
        let hidden = &form.fields[1];
        assert_eq!((hidden.value.as_str(), hidden.is_set), ("", true));
        assert_eq!(changes(&form, ""), [("outgoing_webhook".to_owned(), None)]);
        let kept = "outgoing_webhook.url=https://a.test/&outgoing_webhook.version=1";
        assert_eq!(changes(&form, kept), []);
        let cleared = format!("{kept}&clear.outgoing_webhook.authorization=1");
        assert_eq!(
            changes(&form, &cleared),
            [("outgoing_webhook.authorization".to_owned(), None)]
        );
    }
}
