//! A document as a flat list: each value with its full key.
//!
//! Audit entries show changes in this form, and the management API reads and writes settings in it.
//! A key is a path in the file, such as `accounts.info.quota` or
//! `domains."sender.test".dkim.sign.0`. A value is text: a string without its quotes, any other
//! value as in the file. An empty table is `{}`, and an empty array is `[]`.

use std::collections::{BTreeMap, BTreeSet};

use toml_edit::{DocumentMut, Item, Key, TableLike, TomlError, Value};

use crate::{
    keys,
    schema::{self, Kind},
};

/// The values of a document by their full keys.
pub type Settings = BTreeMap<String, String>;

/// The text that stands in the place of a secret.
pub const HIDDEN: &str = "****";

/// Names of secrets in keys that the description of the files does not have.
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
        for value in [&mut self.before, &mut self.after].into_iter().flatten() {
            *value = shown(&self.key, value);
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

/// Whether the value of a full key of one of the files is a secret, which no listing may show.
#[must_use]
pub fn is_secret(key: &str) -> bool {
    match described(key) {
        Some(key) => key.secret,
        None => {
            let is_index = |name: &&str| name.bytes().all(|byte| byte.is_ascii_digit());
            let name = key.rsplit('.').find(|name| !is_index(name));
            name.is_some_and(|name| SECRETS.contains(&name))
        }
    }
}

/// The value of a full key as listings show it: [`HIDDEN`] in the place of a secret, and of the
/// user and the password in a URL.
#[must_use]
pub fn shown(key: &str, value: &str) -> String {
    if is_secret(key) {
        return HIDDEN.to_owned();
    }
    let is_url = described(key).is_some_and(|key| key.kind == Kind::Url);
    match is_url {
        true => shown_url(value),
        false => value.to_owned(),
    }
}

/// A URL with [`HIDDEN`] in the place of the user and the password.
#[must_use]
pub fn shown_url(url: &str) -> String {
    without_user(url).unwrap_or_else(|| url.to_owned())
}

/// A URL with [`HIDDEN`] in the place of the user and the password (RFC 3986 §3.2.1). None: it has
/// neither.
fn without_user(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(end)?;
    let (_, host) = authority.rsplit_once('@')?;
    Some(format!("{scheme}://{HIDDEN}@{host}{path}"))
}

/// A text of one of the files with [`HIDDEN`] in the place of secrets, and of the user and the
/// password in URLs. Comments and order stay.
///
/// # Errors
/// If it is no TOML, so that nobody knows where its secrets are.
pub fn masked(text: &str) -> Result<String, TomlError> {
    let mut document: DocumentMut = text.parse()?;
    mask_table("", document.as_table_mut());
    Ok(document.to_string())
}

fn mask_table(prefix: &str, table: &mut dyn TableLike) {
    for (name, item) in table.iter_mut() {
        let key = join(prefix, &Key::new(name.get()).display_repr());
        match item {
            Item::None => {}
            Item::Value(value) => mask_value(&key, value),
            Item::Table(table) => mask_table(&key, table),
            Item::ArrayOfTables(tables) => {
                for (index, table) in tables.iter_mut().enumerate() {
                    mask_table(&join(&key, &index.to_string()), table);
                }
            }
        }
    }
}

fn mask_value(key: &str, value: &mut Value) {
    let text = match value {
        Value::InlineTable(table) => return mask_table(key, table),
        Value::Array(array) => {
            for (index, value) in array.iter_mut().enumerate() {
                mask_value(&join(key, &index.to_string()), value);
            }
            return;
        }
        Value::String(text) => text.value().clone(),
        ref other => other.to_string(),
    };
    let seen = shown(key, &text);
    if seen != text {
        let decor = value.decor().clone();
        *value = Value::from(seen);
        *value.decor_mut() = decor;
    }
}

/// The description of a full key.
fn described(key: &str) -> Option<&'static schema::Key> {
    let names = Key::parse(key).ok()?;
    let names = || names.iter().map(Key::get);
    let dynamic = keys::DYNAMIC_TREE.key_of(names());
    dynamic.or_else(|| keys::STATIC_TREE.key_of(names()))
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
    fn secrets_are_masked_where_they_stand() {
        let text = "# first\n[accounts.info.outgoing_webhook]\nurl = \"https://a:b@x.test/\" # here\n\
            authorization = \"Basic abc\"\nsecret = [\n  \"whsec_a\", # old\n  'whsec_b'\n]\n\
            [transports.relay.submission]\nauth = { username = \"me\", password = \"geheim\" }\n";
        let expected = "# first\n[accounts.info.outgoing_webhook]\nurl = \"https://****@x.test/\" # here\n\
            authorization = \"****\"\nsecret = [\n  \"****\", # old\n  \"****\"\n]\n\
            [transports.relay.submission]\nauth = { username = \"me\", password = \"****\" }\n";
        assert_eq!(masked(text).unwrap(), expected);
        assert_eq!(masked(expected).unwrap(), expected);
        assert!(masked("secret = ").is_err());
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
    fn secrets_are_told_by_their_keys() {
        for key in [
            "accounts.a.outgoing_webhook.secret",
            "accounts.a.outgoing_webhook.secret.0",
            "accounts.\"a.b\".incoming_webhook.authorization",
            "transports.relay.submission.auth.password",
            "hooks.scan.headers.X-Token",
            "hooks.scan.headers.\"X.Token\"",
            "unknown.password",
        ] {
            assert!(is_secret(key), "{key}");
        }
        for key in [
            "accounts.secret.quota",
            "accounts.a.routes.0.transport",
            "0",
        ] {
            assert!(!is_secret(key), "{key}");
        }
    }

    /// Each key whose value can be any text is in one of two lists here. A new one belongs to the
    /// second if others must not see its value.
    #[test]
    fn each_key_with_free_text_is_a_secret_or_is_not() {
        let free = |kind: &Kind| match kind {
            Kind::Text | Kind::Url | Kind::Secret | Kind::Map(_) => true,
            Kind::List(kind) => matches!(kind, Kind::Text | Kind::Url),
            _ => false,
        };
        let sections = keys::STATIC.iter().chain(keys::DYNAMIC);
        let all: Vec<_> = sections.flat_map(schema::Section::iter).collect();
        let names = |secret: bool| {
            let keys = all
                .iter()
                .filter(|key| free(&key.kind) && key.secret == secret);
            let mut names: Vec<&str> = keys.map(|key| key.name).collect();
            names.sort_unstable();
            names
        };
        assert_eq!(names(false), OPEN);
        assert_eq!(names(true), SECRET);
        // A secret of another kind would be a mistake, and each one is found by its full key.
        for key in &all {
            assert!(!key.secret || free(&key.kind), "{}", key.name);
            let full = key.name.replace("[]", ".0");
            let full = full.replace(['<', '>'], "");
            assert_eq!(is_secret(&full), key.secret, "{full}");
        }
    }

    const SECRET: &[&str] = &[
        "accounts.<name>.incoming_webhook.authorization",
        "accounts.<name>.incoming_webhook.secret",
        "accounts.<name>.outgoing_webhook.authorization",
        "accounts.<name>.outgoing_webhook.secret",
        "hooks.<name>.headers",
        "transports.<name>.smtp.auth.password",
        "transports.<name>.submission.auth.password",
        "transports.<name>.submissions.auth.password",
    ];
    const OPEN: &[&str] = &[
        "accounts.<name>.description",
        "accounts.<name>.destinations.<address>.forward_lmtp",
        "accounts.<name>.destinations.<address>.full_name",
        "accounts.<name>.destinations.<address>.mailbox",
        "accounts.<name>.destinations.<address>.message_auth_required_smtp_error",
        "accounts.<name>.destinations.<address>.rulesets[].accept_rejects_to_mailbox",
        "accounts.<name>.destinations.<address>.rulesets[].headers_regexp",
        "accounts.<name>.destinations.<address>.rulesets[].mailbox",
        "accounts.<name>.full_name",
        "accounts.<name>.incoming_webhook.url",
        "accounts.<name>.junk_mailbox",
        "accounts.<name>.login_disabled",
        "accounts.<name>.outgoing_webhook.url",
        "accounts.<name>.rejects_mailbox",
        "accounts.<name>.routes[].transport",
        "accounts.<name>.source_pool",
        "accounts.<name>.urls",
        "acme.<name>.contact_email",
        "acme.<name>.directory_url",
        "acme.<name>.eab.key_id",
        "default_mailboxes",
        "delivery.source_pool",
        "dns_update.<zone>.key_name",
        "domains.<domain>.aliases.<localpart>.description",
        "domains.<domain>.aliases.<localpart>.name",
        "domains.<domain>.aliases.<localpart>.urls",
        "domains.<domain>.client_settings.imap",
        "domains.<domain>.description",
        "domains.<domain>.dkim.selectors.<selector>.headers",
        "domains.<domain>.dkim.sign",
        "domains.<domain>.dmarc.account",
        "domains.<domain>.dmarc.mailbox",
        "domains.<domain>.localpart_catchall_separators",
        "domains.<domain>.mta_sts.mx",
        "domains.<domain>.mta_sts.policy_id",
        "domains.<domain>.routes[].transport",
        "domains.<domain>.tls_rpt.account",
        "domains.<domain>.tls_rpt.mailbox",
        "hooks.<name>.auth.username",
        "hooks.<name>.controller.url",
        "hooks.<name>.listeners",
        "hooks.<name>.url",
        "host_tls_rpt.account",
        "host_tls_rpt.mailbox",
        "listeners.<name>.account_http.path",
        "listeners.<name>.account_https.path",
        "listeners.<name>.admin_http.path",
        "listeners.<name>.admin_https.path",
        "listeners.<name>.autoconfig_https.path",
        "listeners.<name>.mail_api_http.path",
        "listeners.<name>.mail_api_https.path",
        "listeners.<name>.metrics_http.path",
        "listeners.<name>.mta_sts_https.path",
        "listeners.<name>.tls.acme",
        "listeners.<name>.webapi_http.path",
        "listeners.<name>.webapi_https.path",
        "milters.<name>.listeners",
        "milters.<name>.socket",
        "oauth.audience",
        "oauth.client_id",
        "oauth.introspection_url",
        "oauth.scope",
        "oauth.tenant_claim",
        "oauth.username_claim",
        "otlp.endpoint",
        "postmaster.account",
        "postmaster.mailbox",
        "providers.<name>.from",
        "providers.<name>.source_pool",
        "routes[].transport",
        "transports.<name>.direct.source_pool",
        "transports.<name>.fail.message",
        "transports.<name>.smtp.auth.username",
        "transports.<name>.socks.address",
        "transports.<name>.submission.auth.username",
        "transports.<name>.submissions.auth.username",
        "user",
        "web.redirects",
        "webhook.proxy",
    ];

    #[test]
    fn a_login_in_a_url_is_hidden() {
        let key = "accounts.a.outgoing_webhook.url";
        for (url, expected) in [
            ("https://a.test/x?y=z@b", "https://a.test/x?y=z@b"),
            ("https://user:pass@a.test:8/x", "https://****@a.test:8/x"),
            ("https://user@a.test", "https://****@a.test"),
            ("https://user:p@ss@a.test?x", "https://****@a.test?x"),
            ("not a url", "not a url"),
        ] {
            assert_eq!(shown(key, url), expected);
        }
        let text = "https://user:pass@a.test/";
        assert_eq!(shown("accounts.a.description", text), text);
    }
}
