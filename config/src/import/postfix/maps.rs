//! Tables of Postfix, from their text sources.

use std::collections::HashSet;

use super::context::{Context, Found, Place};
use crate::import::lines::{logical, unbraced, words};

/// An entry of a table.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) value: String,
    pub(super) place: Place,
}

/// The form of a text source.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// `key value`, as postmap(1) reads it.
    Table,
    /// `key: value`, as newaliases(1) reads it.
    Aliases,
}

/// Tables with a text source of the same name.
const WITH_SOURCE: &[&str] = &["hash", "lmdb", "btree", "cdb", "texthash", "dbm", "sdbm"];

/// The entries of all tables that a parameter names. Of two with the same key, the first counts.
/// Tables without a text source are noted.
pub(super) fn read(context: &Context<'_>, found: &Found, form: Form) -> Vec<Entry> {
    let mut entries = Vec::new();
    for name in found.list() {
        entries.extend(table(context, found, name, form));
    }
    let mut seen = HashSet::new();
    entries.retain(|entry: &Entry| {
        let new = seen.insert(entry.key.to_ascii_lowercase());
        if !new {
            context.left(&entry.place, "the key is there before, and that one counts");
        }
        new
    });
    entries
}

/// The elements of a list of names: words, files with one name on a line, and keys of tables.
pub(super) fn names(context: &Context<'_>, found: &Found) -> Vec<(String, Place)> {
    let mut names = Vec::new();
    for word in found.list() {
        if word.starts_with('/') {
            for line in source(context, found, word) {
                let place = line.1.clone();
                names.extend(
                    words(&line.0, &[','])
                        .into_iter()
                        .map(|word| (word.to_owned(), place.clone())),
                );
            }
        } else if word.contains(':') {
            let entries = table(context, found, word, Form::Table);
            names.extend(entries.into_iter().map(|entry| (entry.key, entry.place)));
        } else {
            names.push((word.to_owned(), found.place.clone()));
        }
    }
    names
}

/// The entries of one table.
fn table(context: &Context<'_>, found: &Found, name: &str, form: Form) -> Vec<Entry> {
    let name = name.strip_prefix("proxy:").unwrap_or(name);
    let (kind, path) = match name.split_once(':') {
        Some((kind, path)) => (kind, path),
        None => ("hash", name),
    };
    if kind == "inline" {
        return inline(found, path);
    }
    if !WITH_SOURCE.contains(&kind) {
        // The text of some tables is their content, which may be a password.
        let shown = if path.starts_with('/') { name } else { kind };
        let text = format!("a table {shown} has no text source; take over its entries by hand");
        context.left(&found.place, text);
        return Vec::new();
    }
    let lines = source(context, found, path).into_iter();
    let mut entries = Vec::new();
    for (text, mut place) in lines {
        let parsed = match form {
            Form::Table => split_entry(&text),
            Form::Aliases => split_alias(&text),
        };
        match parsed {
            Some((key, value)) if !text.contains('\u{fffd}') => {
                key.trim().clone_into(&mut place.key);
                entries.push(Entry {
                    key: place.key.clone(),
                    value: value.trim().to_owned(),
                    place,
                });
            }
            Some(_) => context.left(&place, "the line is not UTF-8"),
            None => context.left(&place, "the line has no value"),
        }
    }
    entries
}

/// The key and the value of a line. Quotes in the key keep white space in it.
fn split_entry(line: &str) -> Option<(&str, &str)> {
    let mut quoted = false;
    let (key, value) = line.split_once(|c: char| {
        if c == '"' {
            quoted = !quoted;
        }
        !quoted && c.is_whitespace()
    })?;
    let whole = key.strip_prefix('"').and_then(|key| key.strip_suffix('"'));
    Some((whole.filter(|key| !key.contains('"')).unwrap_or(key), value))
}

/// The key and the value of a line of an aliases file. The key may be in quotes.
fn split_alias(line: &str) -> Option<(&str, &str)> {
    let Some(quoted) = line.strip_prefix('"') else {
        return line.split_once(':');
    };
    let (key, rest) = quoted.split_once('"')?;
    Some((key, rest.trim_start().strip_prefix(':')?))
}

/// `inline:{ key = value, { key = value with spaces } }`.
fn inline(found: &Found, text: &str) -> Vec<Entry> {
    let inner = unbraced(text.trim()).unwrap_or_default();
    let mut entries = Vec::new();
    // A pair without braces may have spaces around its sign.
    let joined = inner.replace(" = ", "=");
    for word in words(&joined, &[',']) {
        let pair = unbraced(word).unwrap_or(word);
        if let Some((key, value)) = pair.split_once('=') {
            let mut place = found.place.clone();
            key.trim().clone_into(&mut place.key);
            entries.push(Entry {
                key: place.key.clone(),
                value: value.trim().to_owned(),
                place,
            });
        }
    }
    entries
}

/// The lines of a text source. Notes a file that cannot be read.
fn source(context: &Context<'_>, found: &Found, path: &str) -> Vec<(String, Place)> {
    let file = context.resolve(path, found.is_set);
    let bytes = match context.files.read(&file) {
        Ok(bytes) => bytes,
        // Postfix has this table built in, and this machine does not have it.
        Err(_) if !found.is_set => return Vec::new(),
        Err(error) => {
            let text = format!("{} cannot be read: {error}", file.display());
            context.left(&found.place, text);
            return Vec::new();
        }
    };
    let text = String::from_utf8_lossy(&bytes);
    let lines = logical(&text).into_iter();
    lines
        .map(|line| {
            let place = Place {
                file: file.clone(),
                line: line.line,
                key: String::new(),
            };
            (line.text, place)
        })
        .collect()
}
