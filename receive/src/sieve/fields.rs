//! Reading a JSON object of a client, with the name of the field in each error.

use serde::Serialize;
use serde_json::{Map, Value};

/// A fault in a JSON object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{field}: {detail}")]
pub struct FieldError {
    /// The field, such as `conditions[0].operator`. Empty for the whole object.
    pub field: String,
    /// One sentence that says what is wrong and what to do.
    pub detail: String,
}

/// An object whose fields are read. Fields that nobody reads are ignored.
pub(super) struct Fields<'a> {
    object: Option<&'a Map<String, Value>>,
    /// What stands before the name of a field in errors.
    path: String,
    pub(super) errors: Vec<FieldError>,
}

impl<'a> Fields<'a> {
    /// Begins with an object. `path` is its own name, or empty.
    pub(super) fn new(value: &'a Value, path: String) -> Self {
        let mut fields = Self {
            object: value.as_object(),
            path,
            errors: Vec::new(),
        };
        if fields.object.is_none() {
            fields.errors.push(FieldError {
                field: fields.path.clone(),
                detail: "It is no object. Send an object.".to_owned(),
            });
        }
        fields
    }

    /// Notes an error about a field.
    pub(super) fn error(&mut self, name: &str, detail: impl Into<String>) {
        self.errors.push(FieldError {
            field: self.named(name),
            detail: detail.into(),
        });
    }

    /// The name of a field in errors.
    pub(super) fn named(&self, name: &str) -> String {
        match self.path.as_str() {
            "" => name.to_owned(),
            path => format!("{path}.{name}"),
        }
    }

    /// The value of a field. None if it is missing or null.
    pub(super) fn value(&self, name: &str) -> Option<&'a Value> {
        self.object?.get(name).filter(|value| !value.is_null())
    }

    /// A value of one type. None if the field is missing, or has another type and so an error.
    fn typed<T>(
        &mut self,
        name: &str,
        kind: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Option<T> {
        let value = self.value(name)?;
        let read = read(value);
        if read.is_none() {
            self.error(name, format!("It is no {kind}. Send a {kind}."));
        }
        read
    }

    /// A text without NUL.
    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        let text = self.typed(name, "text", Value::as_str)?;
        if text.contains('\0') {
            self.error(name, "It has a NUL character. Remove it.");
            return None;
        }
        Some(text.to_owned())
    }

    pub(super) fn boolean(&mut self, name: &str, default: bool) -> bool {
        self.typed(name, "boolean", Value::as_bool)
            .unwrap_or(default)
    }

    pub(super) fn integer(&mut self, name: &str) -> Option<i64> {
        self.typed(name, "whole number", Value::as_i64)
    }

    /// The entries of an array, at most so many.
    pub(super) fn array(&mut self, name: &str, most: usize) -> &'a [Value] {
        let Some(entries) = self.typed(name, "list", Value::as_array) else {
            return &[];
        };
        if entries.len() > most {
            self.error(
                name,
                format!("It has {} entries. {most} are the most.", entries.len()),
            );
            return &[];
        }
        entries
    }

    /// One of some words. None if the field is missing, or has another word and so an error.
    pub(super) fn word<T: Copy>(&mut self, name: &str, words: &[(&str, T)]) -> Option<T> {
        let text = self.text(name)?;
        let found = words.iter().find(|(word, _)| *word == text);
        if found.is_none() {
            let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            self.error(
                name,
                format!("It is none of these words: {}.", words.join(", ")),
            );
        }
        found.map(|(_, value)| *value)
    }

    /// Notes that a field is missing, unless it has an error already.
    pub(super) fn missing(&mut self, name: &str) {
        let field = self.named(name);
        if self.object.is_some() && !self.errors.iter().any(|error| error.field == field) {
            self.error(name, "It is missing. Send it.");
        }
    }
}
