//! The hooks and milters of a configuration of Stalwart: `session.hook` and `session.milter`.

use std::path::Path;

use toml_edit::{Document as Toml, InlineTable, Item, TableLike, Value};

use super::{
    Files, PrivateFile,
    document::{Document, Table, array},
    failure,
    files::text,
    notes::{Fate, Note, Notes},
};
use crate::{
    duration::parse_duration,
    error::Errors,
    hooks::{HookError, HookStage},
    quantity::{Size, format_duration},
};

/// The most further tries of a call.
const RETRIES_MAX: i64 = 10;

/// Tables for `postrider.conf`, and the files that they name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// The tables `hooks.NAME` and `milters.NAME`.
    pub text: String,
    /// The secrets of hooks.
    pub files: Vec<PrivateFile>,
    /// The fate of each setting.
    pub notes: Vec<Note>,
}

/// Reads the hooks and milters of a TOML file of Stalwart. Other settings are not looked at.
///
/// # Errors
/// If the file cannot be read, is not TOML, or has neither hooks nor milters.
pub fn stalwart(files: &dyn Files, path: &Path) -> Result<Fragment, Errors> {
    let text = text(files, path)?;
    let document = Toml::parse(text.as_str()).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        let message = format!("not valid TOML: {}", error.message().replace('\n', ", "));
        failure(path, line_of(&text, at), message)
    })?;
    let mut reading = Reading {
        path,
        text: &text,
        notes: Notes::default(),
        document: Document::default(),
        files: Vec::new(),
        found: false,
    };
    let session = document.get("session").and_then(Item::as_table_like);
    let section = |name: &str| {
        let item = session?.get(name)?;
        Some((item.as_table_like()?, reading_span(item)))
    };
    if let Some((hooks, span)) = section("hook") {
        reading.hooks(hooks, span);
    }
    if let Some((milters, _)) = section("milter") {
        for (id, item) in milters.iter() {
            if let Some(table) = item.as_table_like() {
                reading.milter(id, table, reading_span(item));
            }
        }
    }
    if !reading.found {
        let message = "has no table session.hook or session.milter";
        return Err(failure(path, 0, message));
    }
    Ok(Fragment {
        text: reading.document.text(),
        files: reading.files,
        notes: reading.notes.finish(),
    })
}

fn reading_span(item: &Item) -> usize {
    item.span().map_or(0, |span| span.start)
}

/// The line of a place in a text.
fn line_of(text: &str, at: usize) -> usize {
    let before = text.as_bytes().get(..at).unwrap_or_default();
    before.iter().filter(|byte| **byte == b'\n').count() + 1
}

/// The settings of one table by their full names, as `a.b`. Each is taken once.
struct Settings<'a> {
    name: String,
    at: usize,
    values: Vec<(String, &'a Item, usize)>,
}

impl<'a> Settings<'a> {
    /// The settings of a table. Tables with these names are left out.
    fn new(name: &str, table: &'a dyn TableLike, at: usize, without: &[&str]) -> Self {
        let mut settings = Self {
            name: name.to_owned(),
            at,
            values: Vec::new(),
        };
        let mut waiting: Vec<(String, &'a dyn TableLike)> = vec![(String::new(), table)];
        while let Some((prefix, table)) = waiting.pop() {
            for (key, item) in table.iter() {
                let full = match prefix.as_str() {
                    "" => key.to_owned(),
                    prefix => format!("{prefix}.{key}"),
                };
                let place = table
                    .get_key_value(key)
                    .and_then(|(key, _)| key.span())
                    .map_or(at, |span| span.start);
                match item.as_table_like().filter(|_| key != "headers") {
                    Some(_) if without.contains(&full.as_str()) => {}
                    Some(inner) => waiting.push((full, inner)),
                    None => settings.values.push((full, item, place)),
                }
            }
        }
        settings.values.sort_by_key(|(_, _, place)| *place);
        settings
    }

    fn take(&mut self, key: &str) -> Option<(&'a Item, usize)> {
        let at = self.values.iter().position(|(name, _, _)| name == key)?;
        let (_, item, place) = self.values.remove(at);
        Some((item, place))
    }
}

struct Reading<'a> {
    path: &'a Path,
    text: &'a str,
    notes: Notes,
    document: Document,
    files: Vec<PrivateFile>,
    found: bool,
}

impl Reading<'_> {
    fn note(&mut self, fate: Fate, at: usize, key: &str, text: impl Into<String>) {
        let line = line_of(self.text, at);
        self.notes.add(fate, (self.path, line), key, text);
    }

    /// A table with a URL is a hook. Else its tables are hooks, by their names.
    fn hooks(&mut self, table: &dyn TableLike, at: usize) {
        let inner: Vec<&str> = table
            .iter()
            .filter(|(_, item)| {
                let table = item.as_table_like();
                table.is_some_and(|table| table.contains_key("url"))
            })
            .map(|(name, _)| name)
            .collect();
        let flat = table.contains_key("url");
        if flat {
            let settings = Settings::new("session.hook", table, at, &inner);
            self.hook("stalwart", settings, true);
        }
        for (id, item) in table.iter() {
            let name = format!("session.hook.{id}");
            if !inner.contains(&id) {
                if !flat {
                    self.found = true;
                    let text = "has no url, so it is left out";
                    self.note(Fate::NoCounterpart, reading_span(item), &name, text);
                }
            } else if let Some(table) = item.as_table_like() {
                let settings = Settings::new(&name, table, reading_span(item), &[]);
                self.hook(id, settings, false);
            }
        }
    }

    fn hook(&mut self, id: &str, mut settings: Settings<'_>, flat: bool) {
        self.found = true;
        let path = ["hooks", id];
        let mut table = Table::new(&path);
        self.note(Fate::Taken, settings.at, &settings.name, table.name_of(""));
        self.text_of(&mut settings, &mut table, "url", "url");
        let mut enabled = self.enabled(&mut settings, flat);
        let stages = self.stages(&mut settings);
        if stages.as_ref().is_some_and(Vec::is_empty) {
            enabled = false;
            let text = "the hook has no stage, so enabled = false";
            self.note(Fate::Changed, settings.at, &settings.name, text);
        }
        if !enabled {
            table.set("enabled", false);
        }
        if let Some(stages) = stages {
            table.set("stages", array(stages));
        }
        self.duration(&mut settings, &mut table);
        self.size(&mut settings, &mut table);
        self.headers(&mut settings, &mut table);
        self.errors(&mut settings, &mut table);
        self.auth(&mut settings, &mut table, id);
        self.rest(settings);
        self.document.push(table);
    }

    fn milter(&mut self, id: &str, table: &dyn TableLike, at: usize) {
        self.found = true;
        let name = format!("session.milter.{id}");
        let mut settings = Settings::new(&name, table, at, &[]);
        let mut table = Table::new(&["milters", id]);
        if !self.enabled(&mut settings, false) {
            let text = "the milter is off, so it is left out";
            self.note(Fate::NoCounterpart, settings.at, &name, text);
            return;
        }
        let host = settings.take("hostname");
        let port = settings.take("port");
        let place = host.map_or(settings.at, |(_, place)| place);
        let host = host.and_then(|(item, _)| item.as_str());
        let port = port.map_or(Some(11332), |(item, _)| number(item));
        match (host, port) {
            (Some(host), Some(port @ 1..=65535)) => {
                let host = match host.contains(':') && !host.starts_with('[') {
                    true => format!("[{host}]"),
                    false => host.to_owned(),
                };
                table.set("socket", format!("inet:{host}:{port}"));
                self.note(Fate::Taken, place, &name, table.name_of("socket"));
            }
            _ => {
                let text = "has no host or no port, so it is left out";
                self.note(Fate::NoCounterpart, place, &name, text);
                return;
            }
        }
        if let Some((item, place)) = settings.take("options.tempfail-on-error") {
            let key = format!("{name}.options.tempfail-on-error");
            self.on_error(item, place, &key, &mut table);
        }
        if let Some((item, place)) = settings.take("timeout.command") {
            let key = format!("{name}.timeout.command");
            self.duration_of(item, place, &key, (&mut table, "timeout"));
        }
        self.rest(settings);
        self.document.push(table);
    }

    /// Copies a text.
    fn text_of(&mut self, settings: &mut Settings<'_>, to: &mut Table, theirs: &str, ours: &str) {
        let Some((item, place)) = settings.take(theirs) else {
            return;
        };
        let key = format!("{}.{theirs}", settings.name);
        match item.as_str() {
            Some(text) => {
                to.set(ours, text);
                self.note(Fate::Taken, place, &key, to.name_of(ours));
            }
            None => self.condition(place, &key),
        }
    }

    /// Notes a value that Stalwart works out for each session.
    fn condition(&mut self, at: usize, key: &str) {
        let text = "is not a plain value; write the conditions by hand: listeners, \
            authenticated, remote, sender_domains, recipient_domains";
        self.note(Fate::NoCounterpart, at, key, text);
    }

    /// Tables with a name are off unless `enable` says otherwise. The flat form is on.
    fn enabled(&mut self, settings: &mut Settings<'_>, flat: bool) -> bool {
        let Some((item, place)) = settings.take("enable") else {
            if !flat {
                let text = "enable is absent, which means off";
                self.note(Fate::Changed, settings.at, &settings.name, text);
            }
            return flat;
        };
        let key = format!("{}.enable", settings.name);
        match boolean(item) {
            Some(enabled) => {
                self.note(Fate::Taken, place, &key, "enabled");
                enabled
            }
            None => {
                // The hook is asked for some sessions, so it is on.
                self.condition(place, &key);
                true
            }
        }
    }

    /// The stages. None if nothing is said about them, which means data.
    fn stages(&mut self, settings: &mut Settings<'_>) -> Option<Vec<&'static str>> {
        let key = format!("{}.stages", settings.name);
        let mut stages = None;
        if let Some((item, place)) = settings.take("stages") {
            let words: Vec<&str> = match item.as_array() {
                Some(array) => array.iter().filter_map(Value::as_str).collect(),
                None => item.as_str().into_iter().collect(),
            };
            let mut known = Vec::new();
            for word in words {
                let lower = word.to_ascii_lowercase();
                match HookStage::from_word(&lower) {
                    Some(stage) if !known.contains(&stage.as_str()) => known.push(stage.as_str()),
                    Some(_) => {}
                    None => {
                        let text = format!("there is no stage {word:?}");
                        self.note(Fate::NoCounterpart, place, &key, text);
                    }
                }
            }
            self.note(Fate::Taken, place, &key, "stages");
            stages = Some(known);
        }
        for stage in HookStage::ALL {
            let word = stage.as_str();
            let Some((item, place)) = settings.take(&format!("stage.{word}")) else {
                continue;
            };
            let key = format!("{}.stage.{word}", settings.name);
            let known = stages.get_or_insert_default();
            match boolean(item) {
                Some(on) => {
                    if on && !known.contains(&word) {
                        known.push(word);
                    }
                    self.note(Fate::Taken, place, &key, "stages");
                }
                None => self.condition(place, &key),
            }
        }
        stages
    }

    fn duration(&mut self, settings: &mut Settings<'_>, to: &mut Table) {
        if let Some((item, place)) = settings.take("timeout") {
            let key = format!("{}.timeout", settings.name);
            self.duration_of(item, place, &key, (to, "timeout"));
        }
        if let Some((item, place)) = settings.take("retry.delay") {
            let key = format!("{}.retry.delay", settings.name);
            self.duration_of(item, place, &key, (to, "retry.delay"));
        }
        if let Some((item, place)) = settings.take("retry.max") {
            let key = format!("{}.retry.max", settings.name);
            match number(item).map(|tries| (tries, tries.clamp(0, RETRIES_MAX))) {
                Some((given, tries)) => {
                    to.set("retry.max", tries);
                    let (fate, text) = match given == tries {
                        true => (Fate::Taken, to.name_of("retry.max")),
                        false => (Fate::Changed, format!("{tries} further tries are the most")),
                    };
                    self.note(fate, place, &key, text);
                }
                None => self.condition(place, &key),
            }
        }
    }

    /// A duration such as `"30s"`. A bare number means milliseconds.
    fn duration_of(&mut self, item: &Item, at: usize, key: &str, (to, name): (&mut Table, &str)) {
        let text = match (item.as_str(), item.as_integer()) {
            (Some(text), _) => text.replace(' ', ""),
            (None, Some(millis)) => format!("{millis}ms"),
            (None, None) => return self.condition(at, key),
        };
        match parse_duration(&text) {
            Ok(duration) => {
                to.set(name, format_duration(duration));
                self.note(Fate::Taken, at, key, to.name_of(name));
            }
            Err(message) => self.note(Fate::NoCounterpart, at, key, message),
        }
    }

    fn size(&mut self, settings: &mut Settings<'_>, to: &mut Table) {
        for name in ["max-response-size", "options.max-response-size"] {
            let Some((item, place)) = settings.take(name) else {
                continue;
            };
            let key = format!("{}.{name}", settings.name);
            match number(item).and_then(|bytes| u64::try_from(bytes).ok()) {
                Some(bytes) if !to.has("max_response_size") => {
                    to.set("max_response_size", Size(bytes).to_string());
                    self.note(Fate::Taken, place, &key, to.name_of("max_response_size"));
                }
                Some(_) => self.note(Fate::NoCounterpart, place, &key, "is set twice"),
                None => self.condition(place, &key),
            }
        }
    }

    /// `headers`: lines `"Name: value"`, or a table.
    fn headers(&mut self, settings: &mut Settings<'_>, to: &mut Table) {
        let Some((item, place)) = settings.take("headers") else {
            return;
        };
        let key = format!("{}.headers", settings.name);
        let mut headers = InlineTable::new();
        let mut add = |name: &str, value: &str| {
            headers.insert(name.trim(), value.trim().into());
        };
        let lines: Vec<&str> = match item.as_array() {
            Some(array) => array.iter().filter_map(Value::as_str).collect(),
            None => item.as_str().into_iter().collect(),
        };
        for line in lines {
            match line.split_once(':') {
                Some((name, value)) => add(name, value),
                // The line may have a secret, so it is not shown.
                None => {
                    let text = "a header field has no colon, and is left out";
                    self.note(Fate::NoCounterpart, place, &key, text);
                }
            }
        }
        for (name, value) in item.as_table_like().into_iter().flat_map(TableLike::iter) {
            if let Some(value) = value.as_str() {
                add(name, value);
            }
        }
        if !headers.is_empty() {
            to.set("headers", Value::InlineTable(headers));
            self.note(Fate::Taken, place, &key, to.name_of("headers"));
        }
    }

    fn errors(&mut self, settings: &mut Settings<'_>, to: &mut Table) {
        if let Some((item, place)) = settings.take("options.tempfail-on-error") {
            let key = format!("{}.options.tempfail-on-error", settings.name);
            self.on_error(item, place, &key, to);
        }
        for name in ["on_unavailable", "on_timeout", "on_invalid"] {
            let full = format!("error.{name}");
            let Some((item, place)) = settings.take(&full) else {
                continue;
            };
            let key = format!("{}.{full}", settings.name);
            match item.as_str().and_then(HookError::from_word) {
                Some(word) => {
                    to.set(name, word.as_str());
                    self.note(Fate::Taken, place, &key, to.name_of(name));
                }
                None => self.note(Fate::NoCounterpart, place, &key, "is no action of a hook"),
            }
        }
    }

    fn on_error(&mut self, item: &Item, at: usize, key: &str, to: &mut Table) {
        match boolean(item) {
            Some(tempfail) => {
                to.set("on_error", if tempfail { "tempfail" } else { "accept" });
                self.note(Fate::Taken, at, key, to.name_of("on_error"));
            }
            None => self.condition(at, key),
        }
    }

    /// The secret goes to a file that only its owner may read.
    fn auth(&mut self, settings: &mut Settings<'_>, to: &mut Table, id: &str) {
        self.text_of(settings, to, "auth.username", "auth.username");
        let Some((item, place)) = settings.take("auth.secret") else {
            return;
        };
        let key = format!("{}.auth.secret", settings.name);
        let Some(secret) = item.as_str() else {
            return self.condition(place, &key);
        };
        let clean: String = id
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() || "-_".contains(c) {
                    c
                } else {
                    '-'
                }
            })
            .collect();
        let mut file = format!("hooks/{clean}.secret");
        // Two names may differ in the replaced characters only.
        let taken = |file: &PrivateFile, name: &str| file.path.to_str() == Some(name);
        if self.files.iter().any(|other| taken(other, &file)) {
            file = format!("hooks/{clean}.{}.secret", self.files.len());
        }
        to.set("auth.password_file", &file);
        // A name in "%{...}%" stands for a secret elsewhere.
        let content = if secret.starts_with("%{") {
            let text = format!("names a secret elsewhere; write it to {file}, which is empty");
            self.note(Fate::Changed, place, &key, text);
            Vec::new()
        } else {
            self.note(Fate::Taken, place, &key, format!("copied to {file}"));
            format!("{secret}\n").into_bytes()
        };
        self.files.push(PrivateFile {
            path: file.into(),
            content,
        });
    }

    fn rest(&mut self, settings: Settings<'_>) {
        for (name, item, place) in settings.values {
            let text = match name.as_str() {
                "tls" if boolean(item) == Some(false) => continue,
                "allow-invalid-certs" | "tls.allow-invalid-certs" => match boolean(item) {
                    Some(false) => continue,
                    _ => "certificates are always checked; name the CA in tls.ca_files",
                },
                _ => "has no counterpart",
            };
            let key = format!("{}.{name}", settings.name);
            self.note(Fate::NoCounterpart, place, &key, text);
        }
    }
}

/// A value that is true or false, perhaps in quotes.
fn boolean(item: &Item) -> Option<bool> {
    item.as_bool().or_else(|| match item.as_str() {
        Some("true") => Some(true),
        Some("false") => Some(false),
        _ => None,
    })
}

/// A whole number, perhaps in quotes.
fn number(item: &Item) -> Option<i64> {
    item.as_integer().or_else(|| item.as_str()?.parse().ok())
}
