//! JSON by the rules of the v0 contract.
//!
//! The names of fields match in any case. null means absent. An unknown field is an error.

use serde_json::{Map, Value};

use crate::{
    call::value::{OffsetTime, rfc3339},
    error::ApiError,
};

/// What is wrong with a request, and in which field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum JsonError {
    /// The JSON is not that of the method.
    #[error("{0}")]
    Form(String),
    /// The contract leaves the value to the caller, who gave a wrong one.
    #[error("{0}")]
    Value(String),
}

impl From<JsonError> for ApiError {
    fn from(error: JsonError) -> Self {
        match error {
            JsonError::Form(text) => Self::protocol(text),
            JsonError::Value(text) => Self::user(text),
        }
    }
}

/// Reads the fields of a request. Any other field is an error.
pub(super) fn read<T>(
    text: &str,
    fields: impl FnOnce(&mut Object) -> Result<T, JsonError>,
) -> Result<T, ApiError> {
    let read = || {
        let mut object = Object::new(first_value(text)?, String::new())?;
        let request = fields(&mut object)?;
        object.finish()?;
        Ok(request)
    };
    read().map_err(|error: JsonError| error.into())
}

/// The first JSON value of a text. The text after it is ignored.
fn first_value(text: &str) -> Result<Value, JsonError> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    match values.next() {
        Some(Ok(value)) => Ok(value),
        Some(Err(error)) => Err(JsonError::Form(format!("parsing request: {error}"))),
        None => Err(JsonError::Form("parsing request: it is empty".into())),
    }
}

/// An object whose fields are taken one by one.
#[derive(Debug)]
pub(super) struct Object {
    fields: Map<String, Value>,
    /// The place of the object in the request. Empty at the top.
    path: String,
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn wrong(path: &str, wanted: &str, value: &Value) -> JsonError {
    let place = if path.is_empty() { "the request" } else { path };
    JsonError::Form(format!(
        "parsing request: {place} must be {wanted}, not {}",
        kind(value)
    ))
}

impl Object {
    pub(super) fn new(value: Value, path: String) -> Result<Self, JsonError> {
        match value {
            Value::Object(fields) => Ok(Self { fields, path }),
            Value::Null => Ok(Self {
                fields: Map::new(),
                path,
            }),
            other => Err(wrong(&path, "an object", &other)),
        }
    }

    fn place(&self, name: &str) -> String {
        if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        }
    }

    /// The value of a field, unless it is absent or null.
    fn take(&mut self, name: &str) -> Option<Value> {
        let mut found = self.fields.remove(name);
        let other = |key: &&String| key.eq_ignore_ascii_case(name);
        while let Some(key) = self.fields.keys().find(other).cloned() {
            found = self.fields.remove(&key).or(found);
        }
        found.filter(|value| !value.is_null())
    }

    pub(super) fn string(&mut self, name: &str) -> Result<String, JsonError> {
        match self.take(name) {
            None => Ok(String::new()),
            Some(Value::String(text)) => Ok(text),
            Some(other) => Err(wrong(&self.place(name), "a string", &other)),
        }
    }

    pub(super) fn bool(&mut self, name: &str) -> Result<Option<bool>, JsonError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(value)),
            Some(other) => Err(wrong(&self.place(name), "true or false", &other)),
        }
    }

    /// A whole number. 0 when absent.
    pub(super) fn integer(&mut self, name: &str) -> Result<i64, JsonError> {
        match self.take(name) {
            None => Ok(0),
            Some(value) => integer(&value, &self.place(name)),
        }
    }

    /// An item of a list of places, which count from 0.
    pub(super) fn index(value: Value, place: String) -> Result<usize, JsonError> {
        let number = integer(&value, &place)?;
        // There is nothing at a negative place.
        Ok(usize::try_from(number).unwrap_or(usize::MAX))
    }

    /// A time with its offset.
    pub(super) fn time(&mut self, name: &str) -> Result<Option<OffsetTime>, JsonError> {
        let text = self.string(name)?;
        if text.is_empty() {
            return Ok(None);
        }
        let place = self.place(name);
        let wrong = |error| JsonError::Form(format!("parsing request: {place}: {error}"));
        rfc3339(&text).map(Some).map_err(wrong)
    }

    /// A list whose items `read` reads. `read` gets the place of each item.
    pub(super) fn list<T>(
        &mut self,
        name: &str,
        read: impl Fn(Value, String) -> Result<T, JsonError>,
    ) -> Result<Vec<T>, JsonError> {
        let place = self.place(name);
        match self.take(name) {
            None => Ok(Vec::new()),
            Some(Value::Array(items)) => {
                let items = items.into_iter().enumerate();
                items
                    .map(|(at, item)| read(item, format!("{place}[{at}]")))
                    .collect()
            }
            Some(other) => Err(wrong(&place, "a list", &other)),
        }
    }

    /// An object of strings.
    pub(super) fn strings<C: FromIterator<(String, String)>>(
        &mut self,
        name: &str,
    ) -> Result<C, JsonError> {
        let place = self.place(name);
        match self.take(name) {
            None => Ok(std::iter::empty().collect()),
            Some(Value::Object(fields)) => fields
                .into_iter()
                .map(|(key, value)| {
                    let text = text(value, format!("{place}.{key}"))?;
                    Ok((key, text))
                })
                .collect(),
            Some(other) => Err(wrong(&place, "an object of strings", &other)),
        }
    }

    /// Refuses fields that were not taken.
    pub(super) fn finish(self) -> Result<(), JsonError> {
        match self.fields.keys().next() {
            None => Ok(()),
            Some(name) => Err(JsonError::Form(format!(
                "parsing request: unknown field {:?}",
                self.place(name)
            ))),
        }
    }
}

fn integer(value: &Value, place: &str) -> Result<i64, JsonError> {
    match value {
        Value::Number(number) => number.as_i64().ok_or_else(|| {
            let text = format!("parsing request: {place}: {number} is no 64-bit integer");
            JsonError::Form(text)
        }),
        other => Err(wrong(place, "a number", other)),
    }
}

/// A string. null is the empty string.
pub(super) fn text(value: Value, place: String) -> Result<String, JsonError> {
    match value {
        Value::String(text) => Ok(text),
        Value::Null => Ok(String::new()),
        other => Err(wrong(&place, "a string", &other)),
    }
}

/// A list of exactly two strings, such as a header field.
pub(super) fn pair(value: Value, place: String) -> Result<(String, String), JsonError> {
    let wrong = |found: &str| {
        let text = format!("parsing request: {place} must be a list of two strings, not {found}");
        JsonError::Value(text)
    };
    let Value::Array(items) = value else {
        return Err(wrong(kind(&value)));
    };
    let [first, second] = <[Value; 2]>::try_from(items)
        .map_err(|items| wrong(&format!("a list of {}", items.len())))?;
    let text = |value: Value| match value {
        Value::String(text) => Ok(text),
        Value::Null => Ok(String::new()),
        other => Err(wrong(&format!("a list with {}", kind(&other)))),
    };
    Ok((text(first)?, text(second)?))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn object(json: &str) -> Object {
        Object::new(first_value(json).unwrap(), String::new()).unwrap()
    }

    #[test]
    fn names_match_in_any_case_and_null_is_absent() {
        let mut fields = object(
            r#"{"SUBJECT": "a", "to": null, "requireTLS": false, "extra": {"K": "v"}} trailing"#,
        );
        assert_eq!(fields.string("Subject").unwrap(), "a");
        assert_eq!(fields.string("To").unwrap(), "");
        assert_eq!(fields.bool("RequireTLS").unwrap(), Some(false));
        assert_eq!(fields.strings::<BTreeMap<_, _>>("Extra").unwrap()["K"], "v");
        assert_eq!(fields.bool("SaveSent").unwrap(), None);
        fields.finish().unwrap();
    }

    #[test]
    fn errors_name_the_field() {
        let read = |value, place| {
            let mut item = Object::new(value, place)?;
            item.string("Address")?;
            item.finish()
        };
        let error = object(r#"{"To": [{"Address": "a"}, {"Adress": "b"}]}"#)
            .list("To", read)
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            r#"parsing request: unknown field "To[1].Adress""#
        );
        let error = object(r#"{"To": [{"Address": 1}]}"#)
            .list("To", read)
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "parsing request: To[0].Address must be a string, not a number"
        );
        let error = object(r#"{"Headers": [["a"]]}"#)
            .list("Headers", pair)
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "parsing request: Headers[0] must be a list of two strings, not a list of 1"
        );
        for headers in [r#"["a"]"#, r#"["a", "b", "c"]"#, r#"["a", 1]"#, r#""a""#] {
            let error = object(&format!(r#"{{"Headers": [{headers}]}}"#))
                .list("Headers", pair)
                .unwrap_err();
            assert!(matches!(error, JsonError::Value(_)), "{error}");
        }
        assert!(first_value("{\"a\": ").is_err() && first_value(" ").is_err());
        assert!(Object::new(Value::Bool(true), String::new()).is_err());
        assert!(object(r#"{"x": 1}"#).finish().is_err());
    }

    #[test]
    fn times_keep_their_offset() {
        let time = object(r#"{"Date": "2023-11-14T22:13:20.5+01:00"}"#)
            .time("Date")
            .unwrap()
            .unwrap();
        assert_eq!(time.timestamp().as_second(), 1_699_996_400);
        assert!(object(r#"{"Date": "yesterday"}"#).time("Date").is_err());
    }
}
