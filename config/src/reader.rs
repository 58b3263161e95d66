//! A typed reader of TOML tables. It takes defaults and ranges from the schema, and reports every
//! problem with its place.

use std::{cell::RefCell, fmt::Write as _, ops::Range, path::Path};

use toml_edit::{Document, Item, TableLike, Value};

use crate::{
    dynamics::folder_of,
    error::{ConfigError, Errors},
    scalar::{Scalar, article},
    schema::{Default, Kind, Node},
    suggest,
};

/// A file that is being read, and its problems so far.
pub(crate) struct Source<'a> {
    pub(crate) path: &'a Path,
    text: &'a str,
    /// The byte offsets at which lines begin.
    lines: Vec<usize>,
    problems: RefCell<Vec<ConfigError>>,
    not_yet: RefCell<Vec<String>>,
    warnings: RefCell<Vec<String>>,
}

/// A range of bytes in the text.
pub(crate) type Span = Option<Range<usize>>;

impl<'a> Source<'a> {
    pub(crate) fn new(text: &'a str, path: &'a Path) -> Self {
        let ends = text.match_indices('\n').map(|(at, _)| at + 1);
        Self {
            path,
            text,
            lines: std::iter::once(0).chain(ends).collect(),
            problems: RefCell::default(),
            not_yet: RefCell::default(),
            warnings: RefCell::default(),
        }
    }

    /// Parses the text as TOML.
    pub(crate) fn document(&self) -> Result<Document<&'a str>, Errors> {
        Document::parse(self.text).map_err(|error| {
            let key = "";
            self.report(
                error.span(),
                key.to_owned(),
                syntax_message(error.message()),
            );
            self.errors().unwrap_or_else(|| {
                Errors::unreadable(self.path, &std::io::Error::other("its syntax is wrong"))
            })
        })
    }

    /// Checks all names against the schema. Gives the reader of the whole file.
    pub(crate) fn root<'d>(
        &'d self,
        document: &'d Document<&'a str>,
        node: &'static Node,
    ) -> Reader<'d> {
        let root = Reader {
            source: self,
            table: Some(document.as_table()),
            node,
            key: String::new(),
            span: Some(0..0),
        };
        root.check_names(true);
        root
    }

    /// The line and column of the start of a range, both from 1. The column is in characters.
    pub(crate) fn position(&self, span: &Span) -> (usize, usize) {
        let at = span.as_ref().map_or(0, |span| span.start);
        let line = self.lines.partition_point(|start| *start <= at).max(1);
        let start = self.lines.get(line - 1).copied().unwrap_or(0);
        let before = self.text.get(start..at).unwrap_or("");
        (line, before.chars().count() + 1)
    }

    pub(crate) fn report(&self, span: Span, key: String, message: String) {
        let (line, column) = self.position(&span);
        self.problems.borrow_mut().push(ConfigError {
            file: self.path.to_owned(),
            line,
            column,
            key,
            message,
        });
    }

    /// Reports a problem in another file.
    pub(crate) fn report_elsewhere(&self, problem: ConfigError) {
        self.problems.borrow_mut().push(problem);
    }

    fn warn(&self, span: &Span, key: &str, message: &str) {
        let (line, _) = self.position(span);
        let path = self.path.display();
        self.warnings
            .borrow_mut()
            .push(format!("{path}:{line}: {key}: {message}"));
    }

    /// All problems so far. None if there are none.
    pub(crate) fn errors(&self) -> Option<Errors> {
        Errors::new(self.problems.take())
    }

    pub(crate) fn take_not_yet(&self) -> Vec<String> {
        self.not_yet.take()
    }

    pub(crate) fn take_warnings(&self) -> Vec<String> {
        self.warnings.take()
    }
}

/// The message of the TOML parser as a sentence of ours.
fn syntax_message(message: &str) -> String {
    format!("not valid TOML: {}", message.replace('\n', ", "))
}

/// A table at its place in the schema. The table may be absent from the file.
#[derive(Clone)]
pub(crate) struct Reader<'a> {
    source: &'a Source<'a>,
    table: Option<&'a dyn TableLike>,
    node: &'static Node,
    key: String,
    span: Span,
}

impl<'a> Reader<'a> {
    /// Whether the file has this table.
    pub(crate) const fn is_present(&self) -> bool {
        self.table.is_some()
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.item(name).is_some()
    }

    pub(crate) fn folder(&self) -> &Path {
        folder_of(self.source.path)
    }

    fn item(&self, name: &str) -> Option<&'a Item> {
        self.table?.get(name).filter(|item| !item.is_none())
    }

    /// The full key of a name in this table.
    fn key_of(&self, name: &str) -> String {
        let mut key = self.key.clone();
        if !key.is_empty() {
            key.push('.');
        }
        let bare = !name.is_empty()
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        if bare {
            key.push_str(name);
        } else {
            // The escapes of `Debug` are almost those of TOML. A person finds the place.
            let _ = write!(key, "{name:?}");
        }
        key
    }

    /// The place of a name: its key, else its value, else this table.
    fn span_of(&self, name: &str) -> Span {
        let Some((key, item)) = self.table.and_then(|table| table.get_key_value(name)) else {
            return self.span.clone();
        };
        key.span()
            .or_else(|| item.span())
            .or_else(|| self.span.clone())
    }

    /// Reports a problem with the value of a name.
    pub(crate) fn wrong(&self, name: &str, message: impl Into<String>) {
        self.source
            .report(self.span_of(name), self.key_of(name), message.into());
    }

    /// Reports a problem with an element of an array.
    pub(crate) fn wrong_element(&self, name: &str, index: usize, message: impl Into<String>) {
        let element = self
            .item(name)
            .and_then(Item::as_array)
            .and_then(|array| array.get(index));
        let (span, key) = match element {
            Some(element) => (element.span(), format!("{}[{index}]", self.key_of(name))),
            None => (self.span_of(name), self.key_of(name)),
        };
        self.source.report(span, key, message.into());
    }

    /// Reports a problem with this table as a whole.
    pub(crate) fn wrong_here(&self, message: impl Into<String>) {
        self.source
            .report(self.span.clone(), self.key.clone(), message.into());
    }

    /// Reports a problem with a name in a table that does not exist.
    pub(crate) fn wrong_below(&self, table: &str, name: &str, message: &str) {
        let key = format!("{}.{name}", self.key_of(table));
        self.source
            .report(self.span_of(table), key, message.to_owned());
    }

    /// Reports a problem in another file, which this one names.
    pub(crate) fn report_elsewhere(&self, problem: ConfigError) {
        self.source.report_elsewhere(problem);
    }

    /// Warns of a value that is valid but probably wrong.
    pub(crate) fn warn(&self, name: &str, message: &str) {
        self.source
            .warn(&self.span_of(name), &self.key_of(name), message);
    }

    /// The line and column of a name.
    pub(crate) fn position(&self, name: &str) -> (usize, usize) {
        self.source.position(&self.span_of(name))
    }

    fn node_of(&self, name: &str) -> &'static Node {
        self.node.child(name).unwrap_or_else(Node::nothing)
    }

    /// A value. If it is not set or wrong, the default of the schema.
    pub(crate) fn get<T: Scalar + std::default::Default>(&self, name: &str) -> T {
        self.opt(name)
            .unwrap_or_else(|| self.default_of(name).unwrap_or_default())
    }

    /// The default of the schema for a name.
    pub(crate) fn default_of<T: Scalar>(&self, name: &str) -> Option<T> {
        let value = self.node_of(name).default.as_ref()?;
        T::read(value, self.folder()).ok()
    }

    /// A value. None if it is not set or wrong.
    pub(crate) fn opt<T: Scalar>(&self, name: &str) -> Option<T> {
        let node = self.node_of(name);
        debug_assert!(
            node.key.is_some_and(|key| key.kind == T::KIND),
            "{} is not described as {:?}",
            self.key_of(name),
            T::KIND
        );
        let item = self.item(name)?;
        let Some(value) = item.as_value() else {
            self.wrong(name, format!("must be {}, not a table", article(T::KIND)));
            return None;
        };
        match self.read_in_range(node, value) {
            Ok(value) => Some(value),
            Err(message) => {
                self.wrong(name, message);
                None
            }
        }
    }

    fn read_in_range<T: Scalar>(&self, node: &Node, value: &Value) -> Result<T, String> {
        let read = T::read(value, self.folder())?;
        let Some((min, max)) = &node.range else {
            return Ok(read);
        };
        let bound = |bound| T::read(bound, self.folder());
        let inside = match (bound(min), bound(max)) {
            (Ok(min), Ok(max)) => read.is_between(&min, &max),
            _ => true,
        };
        if !inside {
            let (min, max) = (min.to_string(), max.to_string());
            let (min, max) = (min.trim(), max.trim());
            return Err(format!("must be between {min} and {max}"));
        }
        Ok(read)
    }

    /// The valid elements of an array. If the array is not set, the default of the schema.
    pub(crate) fn list<T: Scalar>(&self, name: &str) -> Vec<T> {
        let entries = self.entries(name).into_iter();
        entries.map(|(_, value)| value).collect()
    }

    /// The elements as in [`Self::list`]. Equal elements are reported.
    pub(crate) fn set<T: Scalar>(&self, name: &str) -> Vec<T> {
        let entries: Vec<(usize, T)> = self.entries(name);
        for (at, (index, value)) in entries.iter().enumerate() {
            if entries.iter().take(at).any(|(_, earlier)| earlier == value) {
                self.wrong_element(name, *index, "is in the array twice; remove one");
            }
        }
        entries.into_iter().map(|(_, value)| value).collect()
    }

    /// The elements as in [`Self::list`], each with its index in the array.
    pub(crate) fn entries<T: Scalar>(&self, name: &str) -> Vec<(usize, T)> {
        let node = self.node_of(name);
        debug_assert!(
            node.key
                .is_some_and(|key| matches!(key.kind, Kind::List(kind) if *kind == T::KIND)),
            "{} is not described as an array of {:?}",
            self.key_of(name),
            T::KIND
        );
        let Some(item) = self.item(name) else {
            let default = node.default.as_ref().and_then(Value::as_array);
            let elements = default.into_iter().flatten();
            return elements
                .filter_map(|value| T::read(value, self.folder()).ok())
                .enumerate()
                .collect();
        };
        let Some(array) = item.as_array() else {
            self.wrong(
                name,
                format!("must be {}, in []", article(Kind::List(&T::KIND))),
            );
            return Vec::new();
        };
        let mut list = Vec::with_capacity(array.len());
        for (index, value) in array.iter().enumerate() {
            match self.read_in_range(node, value) {
                Ok(value) => list.push((index, value)),
                Err(message) => self.wrong_element(name, index, message),
            }
        }
        list
    }

    /// The strings of an array. An element that is not a string is an empty string.
    pub(crate) fn elements(&self, name: &str) -> Vec<&'a str> {
        let array = self.item(name).and_then(Item::as_array);
        let values = array.into_iter().flatten();
        values.map(|value| value.as_str().unwrap_or("")).collect()
    }

    /// The TOML item of a name, for a value that is neither a scalar nor a list.
    pub(crate) fn raw(&self, name: &str) -> Option<&'a Item> {
        self.item(name)
    }

    /// A table. If the file does not have it, all its keys have their defaults.
    pub(crate) fn section(&self, name: &str) -> Self {
        let table = self.item(name).and_then(Item::as_table_like);
        self.sub(name, table)
    }

    /// A table. None if the file does not have it.
    pub(crate) fn table(&self, name: &str) -> Option<Self> {
        let section = self.section(name);
        section.is_present().then_some(section)
    }

    fn sub(&self, name: &str, table: Option<&'a dyn TableLike>) -> Self {
        Self {
            source: self.source,
            table,
            node: self.node_of(name),
            key: self.key_of(name),
            span: self.span_of(name),
        }
    }

    /// All tables in this table with their names, in the order of the file.
    pub(crate) fn named(&self) -> Vec<(&'a str, Self)> {
        let entries = self.table.into_iter().flat_map(TableLike::iter);
        entries
            .filter_map(|(name, item)| {
                let table = item.as_table_like()?;
                Some((name, self.sub(name, Some(table))))
            })
            .collect()
    }

    /// The names of all values in this table, in the order of the file.
    pub(crate) fn names(&self) -> Vec<&'a str> {
        let entries = self.table.into_iter().flat_map(TableLike::iter);
        entries.map(|(name, _)| name).collect()
    }

    /// The tables of an array: `[[name]]`, or `name = [{...}]`.
    pub(crate) fn tables(&self, name: &str) -> Vec<Self> {
        let mut tables = self.array(name);
        tables.retain(Self::is_present);
        tables
    }

    /// The tables as in [`Self::tables`]. An element that is not a table is an absent table.
    fn array(&self, name: &str) -> Vec<Self> {
        let mut tables: Vec<(Option<&'a dyn TableLike>, Span)> = Vec::new();
        match self.item(name) {
            None => {}
            Some(Item::ArrayOfTables(array)) => {
                tables.extend(
                    array
                        .iter()
                        .map(|table| (Some(table as &dyn TableLike), table.span())),
                );
            }
            Some(Item::Value(Value::Array(array))) => tables.extend(array.iter().map(|value| {
                let table = value.as_inline_table().map(|table| table as &dyn TableLike);
                (table, value.span())
            })),
            Some(_) => {}
        }
        let key = self.key_of(name);
        let enumerated = tables.into_iter().enumerate();
        enumerated
            .map(|(index, (table, span))| Self {
                source: self.source,
                table,
                node: self.node_of(name),
                key: format!("{key}[{index}]"),
                span: span.or_else(|| self.span_of(name)),
            })
            .collect()
    }

    /// Checks the names of this table and of all tables in it against the schema.
    ///
    /// It reports unknown names, values in place of tables, and required keys that are missing. It
    /// notes the keys that this version only checks, except in a service that is switched off
    /// (`enabled` is false).
    fn check_names(&self, enabled: bool) {
        let Some(table) = self.table else {
            self.wrong_here("must be a table");
            return;
        };
        let enabled = enabled && table.get("enabled").and_then(Item::as_bool) != Some(false);
        for (name, item) in table.iter() {
            let Some(node) = self.node.child(name) else {
                self.wrong(name, suggest::unknown_key(self.node, name));
                continue;
            };
            if node.repeated {
                self.check_array(name, item, enabled);
            } else if node.is_table() {
                match item.as_table_like() {
                    Some(table) => self.sub(name, Some(table)).check_names(enabled),
                    None => self.wrong(name, table_needed(node)),
                }
            } else if enabled && node.key.is_some_and(|key| !key.ready) {
                let mut not_yet = self.source.not_yet.borrow_mut();
                not_yet.push(self.key_of(name));
            }
        }
        for (name, node) in &self.node.children {
            let required = node.key.is_some_and(|key| key.default == Default::Required);
            if required && !self.has(name) {
                let meaning = node.key.map_or("", |key| key.meaning);
                self.source.report(
                    self.span.clone(),
                    self.key_of(name),
                    format!("is required, but missing: {meaning}"),
                );
            }
        }
    }

    fn check_array(&self, name: &str, item: &Item, enabled: bool) {
        let array = item.is_array_of_tables() || item.is_array();
        if !array {
            self.wrong(
                name,
                format!(
                    "must be an array of tables, as in [[{}]]",
                    self.key_of(name)
                ),
            );
            return;
        }
        for table in self.array(name) {
            table.check_names(enabled);
        }
    }
}

fn table_needed(node: &Node) -> String {
    let mut keys: Vec<&str> = node.children.keys().copied().collect();
    keys.truncate(3);
    if keys.is_empty() {
        "must be a table".to_owned()
    } else {
        format!("must be a table, with keys such as {}", keys.join(", "))
    }
}

/// The text of a file.
pub(crate) fn read_text(path: &Path) -> Result<String, Errors> {
    let bytes = std::fs::read(path).map_err(|error| Errors::unreadable(path, &error))?;
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
        let source = Source::new(&text, path);
        let message = "not valid TOML: it is not UTF-8; save the file as UTF-8";
        source.report(Some(valid..valid), String::new(), message.to_owned());
        let lost = std::io::Error::from(std::io::ErrorKind::InvalidData);
        source
            .errors()
            .unwrap_or_else(|| Errors::unreadable(path, &lost))
    })
}
