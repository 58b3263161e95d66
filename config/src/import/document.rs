//! Writing TOML for people: tables in a chosen order, each key on a line of its own, comments.

use std::fmt::Write as _;

use toml_edit::{Array, InlineTable, Key, Value};

/// A file in the making.
#[derive(Debug, Default)]
pub(super) struct Document {
    head: Vec<String>,
    tables: Vec<Table>,
}

/// A table in the making.
#[derive(Debug, Default)]
pub(super) struct Table {
    path: Vec<String>,
    repeated: bool,
    lines: Vec<Line>,
}

#[derive(Debug)]
enum Line {
    Comment(String),
    Value(Vec<String>, Value),
}

impl Document {
    /// A file that begins with these comments.
    pub(super) fn new(head: &[&str]) -> Self {
        Self {
            head: head.iter().map(|line| (*line).to_owned()).collect(),
            tables: Vec::new(),
        }
    }

    /// Adds a table. Tables with names come after the keys of no table.
    pub(super) fn push(&mut self, table: Table) {
        self.tables.push(table);
    }

    /// The text of the file.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for line in &self.head {
            comment(&mut text, line);
        }
        let (named, plain): (Vec<&Table>, Vec<&Table>) =
            self.tables.iter().partition(|table| !table.path.is_empty());
        let plain = plain.into_iter().filter(|table| !table.is_empty());
        for table in plain.chain(named) {
            table.write(&mut text);
        }
        text
    }
}

impl Table {
    /// The table with this name. No name means the keys at the beginning of the file.
    pub(super) fn new<T: AsRef<str>>(path: &[T]) -> Self {
        Self {
            path: path.iter().map(|part| part.as_ref().to_owned()).collect(),
            ..Self::default()
        }
    }

    /// An element of the array of tables with this name.
    pub(super) fn element<T: AsRef<str>>(path: &[T]) -> Self {
        Self {
            repeated: true,
            ..Self::new(path)
        }
    }

    /// The full name of a key in this table, for notes.
    pub(super) fn name_of(&self, key: &str) -> String {
        let mut name = dotted(&self.path);
        if self.repeated {
            name.push_str("[]");
        }
        if !name.is_empty() && !key.is_empty() {
            name.push('.');
        }
        name + key
    }

    pub(super) fn comment(&mut self, text: impl Into<String>) {
        self.lines.push(Line::Comment(text.into()));
    }

    /// Sets a key. Dots in its name lead into tables.
    pub(super) fn set(&mut self, key: &str, value: impl Into<Value>) {
        let parts = key.split('.').map(str::to_owned).collect();
        self.lines.push(Line::Value(parts, value.into()));
    }

    /// Sets a key whose name may have dots.
    pub(super) fn set_exact<T: AsRef<str>>(&mut self, key: &[T], value: impl Into<Value>) {
        let parts = key.iter().map(|part| part.as_ref().to_owned()).collect();
        self.lines.push(Line::Value(parts, value.into()));
    }

    /// Whether a key is set.
    pub(super) fn has(&self, key: &str) -> bool {
        self.lines.iter().any(|line| match line {
            Line::Value(parts, _) => parts.iter().map(String::as_str).eq(key.split('.')),
            Line::Comment(_) => false,
        })
    }

    /// Whether it has neither keys nor comments.
    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    fn write(&self, text: &mut String) {
        if !text.is_empty() {
            text.push('\n');
        }
        let (open, close) = if self.repeated {
            ("[[", "]]")
        } else {
            ("[", "]")
        };
        if !self.path.is_empty() {
            let _ = writeln!(text, "{open}{}{close}", dotted(&self.path));
        }
        for line in &self.lines {
            match line {
                Line::Comment(line) => comment(text, line),
                Line::Value(key, value) => {
                    let value = value.to_string();
                    let _ = writeln!(text, "{} = {}", dotted(key), value.trim());
                }
            }
        }
    }
}

/// Writes a comment. Control characters, which TOML does not allow there, become spaces.
fn comment(text: &mut String, line: &str) {
    let line: String = line
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let _ = writeln!(text, "# {}", line.trim());
}

/// A name with its parts quoted where TOML needs it.
fn dotted(parts: &[String]) -> String {
    let mut name = String::new();
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            name.push('.');
        }
        name.push_str(&Key::new(part.as_str()).display_repr());
    }
    name
}

/// An array of strings.
pub(super) fn array<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> Value {
    let items = items.into_iter();
    Value::Array(
        items
            .map(|item| item.as_ref().to_owned())
            .collect::<Array>(),
    )
}

/// An array of tables, each on one line.
pub(super) fn tables(items: impl IntoIterator<Item = Vec<(&'static str, String)>>) -> Value {
    let items = items.into_iter().map(|pairs| {
        let table: InlineTable = pairs.into_iter().collect();
        Value::InlineTable(table)
    });
    Value::Array(items.collect::<Array>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_names_values_and_comments_are_valid_toml() {
        let mut document = Document::new(&["first\nline \u{7}"]);
        let mut table = Table::new(&["domains", "ex\"am.ple"]);
        table.comment("a\r\nb");
        table.set("dkim.sign", array(["a'\"\\\u{1}", "b"]));
        table.set_exact(&["aliases", "a.b"], "c");
        table.set("certs", tables([vec![("cert_file", "a b".to_owned())]]));
        assert!(table.has("dkim.sign") && !table.has("dkim"));
        document.push(table);
        let mut plain = Table::new::<&str>(&[]);
        plain.set("hostname", "h");
        document.push(plain);
        document.push(Table::element(&["routes"]));
        document.push(Table::element(&["routes"]));
        let text = document.text();
        let parsed: toml_edit::DocumentMut = text.parse().unwrap();
        assert_eq!(parsed["hostname"].as_str(), Some("h"));
        let domain = &parsed["domains"]["ex\"am.ple"];
        assert_eq!(domain["dkim"]["sign"][0].as_str(), Some("a'\"\\\u{1}"));
        assert_eq!(domain["aliases"]["a.b"].as_str(), Some("c"));
        assert_eq!(domain["certs"][0]["cert_file"].as_str(), Some("a b"));
        assert_eq!(parsed["routes"].as_array_of_tables().unwrap().len(), 2);
    }
}
