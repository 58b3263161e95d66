//! A document as a flat list: each value with its full key.
//!
//! Audit entries show changes in this form, and the management API reads and writes settings in it.
//! A key is a path in the file, such as `accounts.info.quota` or
//! `domains."sender.test".dkim.sign.0`. A value is text: a string without its quotes, any other
//! value as in the file. An empty table is `{}`, and an empty array is `[]`.

use std::collections::{BTreeMap, BTreeSet};

use toml_edit::{DocumentMut, Item, Key, TableLike, Value};

/// The values of a document by their full keys.
pub type Settings = BTreeMap<String, String>;

/// The text that stands in the place of a secret.
pub const HIDDEN: &str = "****";

/// Names of keys whose values are secrets.
const SECRETS: &[&str] = &["secret", "authorization", "password"];

/// The difference of one value between two documents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The full key.
    pub key: String,
    /// The value in the first document. None if the key is not there.
    pub before: Option<String>,
    /// The value in the second document. None if the key is not there.
    pub after: Option<String>,
}

impl Difference {
    /// The same difference with [`HIDDEN`] in the place of secrets.
    #[must_use]
    pub fn without_secrets(mut self) -> Self {
        if is_secret(&self.key) {
            for value in [&mut self.before, &mut self.after].into_iter().flatten() {
                HIDDEN.clone_into(value);
            }
        }
        self
    }
}

/// The flat form of a document, with its secrets.
#[must_use]
pub fn settings(document: &DocumentMut) -> Settings {
    let mut all = Settings::new();
    add_table("", document.as_table(), &mut all);
    all
}

/// The values that differ, by key.
#[must_use]
pub fn differences(before: &Settings, after: &Settings) -> Vec<Difference> {
    let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let differs = keys
        .into_iter()
        .filter(|key| before.get(*key) != after.get(*key));
    let difference = |key: &String| Difference {
        key: key.clone(),
        before: before.get(key).cloned(),
        after: after.get(key).cloned(),
    };
    differs.map(difference).collect()
}

/// Whether the value of a full key is a secret, which no listing may show.
#[must_use]
pub fn is_secret(key: &str) -> bool {
    let is_index = |name: &&str| name.bytes().all(|byte| byte.is_ascii_digit());
    let name = key.rsplit('.').find(|name| !is_index(name));
    name.is_some_and(|name| SECRETS.contains(&name))
}

fn add_table(prefix: &str, table: &dyn TableLike, all: &mut Settings) {
    if table.is_empty() && !prefix.is_empty() {
        all.insert(prefix.to_owned(), "{}".to_owned());
    }
    for (name, item) in table.iter() {
        let name = Key::new(name);
        let name = name.display_repr();
        match item {
            Item::None => {}
            Item::Value(value) => add_value(&join(prefix, &name), value, all),
            Item::Table(table) => add_table(&join(prefix, &name), table, all),
            Item::ArrayOfTables(tables) => {
                for (index, table) in tables.iter().enumerate() {
                    let prefix = join(prefix, &name);
                    add_table(&join(&prefix, &index.to_string()), table, all);
                }
            }
        }
    }
}

fn add_value(key: &str, value: &Value, all: &mut Settings) {
    let text = match value {
        Value::InlineTable(table) => return add_table(key, table, all),
        Value::Array(array) if !array.is_empty() => {
            for (index, value) in array.iter().enumerate() {
                add_value(&join(key, &index.to_string()), value, all);
            }
            return;
        }
        Value::Array(_) => "[]".to_owned(),
        Value::String(text) => text.value().clone(),
        Value::Integer(number) => number.value().to_string(),
        Value::Float(number) => number.value().to_string(),
        Value::Boolean(on) => on.value().to_string(),
        Value::Datetime(time) => time.value().to_string(),
    };
    all.insert(key.to_owned(), text);
}

fn join(prefix: &str, name: &str) -> String {
    if prefix.is_empty() {
        name.to_owned()
    } else {
        format!("{prefix}.{name}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flat(text: &str) -> Settings {
        settings(&text.parse().unwrap())
    }

    #[test]
    fn every_form_of_a_table_gives_the_same_settings() {
        let expected = [
            ("accounts.info.destinations.\"info@a.test\"", "{}"),
            ("accounts.info.quota", "1000"),
            ("domains.\"a.test\".dkim.sign.0", "2026a"),
            ("domains.\"a.test\".routes.0.transport", "relay"),
            ("monitor_dnsbls", "[]"),
        ];
        let expected: Settings = expected
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        let tables = "monitor_dnsbls = []\n[accounts.info]\nquota = 1_000\n\
            [accounts.info.destinations.\"info@a.test\"]\n[domains.\"a.test\".dkim]\n\
            sign = [\"2026a\"]\n[[domains.\"a.test\".routes]]\ntransport = \"relay\"\n";
        let inline = "monitor_dnsbls = []\n\
            accounts = { info = { quota = 1000, destinations = { \"info@a.test\" = {} } } }\n\
            domains.'a.test' = { dkim.sign = ['2026a'], routes = [{ transport = 'relay' }] }\n";
        assert_eq!(flat(tables), expected);
        assert_eq!(flat(inline), expected);
        assert_eq!(flat(""), Settings::new());
    }

    #[test]
    fn differences_name_each_changed_value_and_hide_secrets() {
        let before = flat("a = 1\nb = 2\nhook = { secret = [\"one\", \"two\"] }");
        let after = flat("a = 1\nb = 3\nc = true\nhook = { secret = [\"one\"] }");
        let found = differences(&before, &after);
        let shown: Vec<_> = found
            .into_iter()
            .map(Difference::without_secrets)
            .map(|it| (it.key, it.before, it.after))
            .collect();
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(
            shown,
            [
                ("b".to_owned(), text("2"), text("3")),
                ("c".to_owned(), None, text("true")),
                ("hook.secret.1".to_owned(), text("****"), None),
            ]
        );
    }

    #[test]
    fn secrets_are_told_by_the_last_name_of_a_key() {
        assert!(is_secret("accounts.a.outgoing_webhook.secret.0"));
        assert!(is_secret("accounts.a.incoming_webhook.authorization"));
        assert!(!is_secret("accounts.secret.quota"));
        assert!(!is_secret("0"));
    }
}
