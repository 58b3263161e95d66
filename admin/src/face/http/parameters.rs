//! The parameters of a request: its query, and its body in JSON.

use std::str::FromStr;

use axum::body::Bytes;
use jiff::Timestamp;
use postrider_store::Time;
use serde::de::DeserializeOwned;

use super::problem::Problem;

/// The query of a request. An empty parameter is as if it was absent.
#[derive(Clone, Debug, Default)]
pub(in crate::face) struct Query {
    pairs: Vec<(String, String)>,
    /// The names of empty parameters.
    empty: Vec<String>,
    /// A parameter that can't be read is an error. Otherwise it is as if it was absent.
    strict: bool,
}

impl Query {
    pub(in crate::face) fn new(text: &str) -> Self {
        let pairs = form_urlencoded::parse(text.as_bytes());
        let pairs = pairs.map(|(name, value)| (name.into_owned(), value.into_owned()));
        let (empty, pairs): (Vec<_>, Vec<_>) = pairs.partition(|(_, value)| value.is_empty());
        Self {
            pairs,
            empty: empty.into_iter().map(|(name, _)| name).collect(),
            strict: false,
        }
    }

    /// The same parameters for a change of many things: a parameter that can't be read is an error,
    /// because without it the change would be wider.
    pub(in crate::face) fn strict(&self) -> Self {
        Self {
            pairs: self.pairs.clone(),
            empty: self.empty.clone(),
            strict: true,
        }
    }

    /// The same parameters for a change of all things that match. A parameter that is empty, that
    /// is not known or that can't be read is an error, because without it more would match.
    pub(in crate::face) fn bulk(&self, known: &[&str]) -> Result<Self, Problem> {
        let mut names = self.pairs.iter().map(|(name, _)| name).chain(&self.empty);
        if let Some(name) = names.find(|name| !known.contains(&name.as_str())) {
            return Err(Problem::unreadable(format!(
                "a change of all that match has no parameter {name:?}"
            )));
        }
        if let Some(name) = self.empty.first() {
            return Err(Problem::unreadable(format!(
                "the parameter {name} is empty; leave it out to change all"
            )));
        }
        Ok(self.strict())
    }

    /// A parameter as text.
    pub(in crate::face) fn text(&self, name: &str) -> Option<&str> {
        let mut pairs = self.pairs.iter();
        let found = pairs.find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The names of the parameters.
    pub(in crate::face) fn names(&self) -> impl Iterator<Item = &str> {
        self.pairs.iter().map(|(name, _)| name.as_str())
    }

    /// Whether a parameter is `1` or `true`.
    pub(in crate::face) fn flag(&self, name: &str) -> bool {
        matches!(self.text(name), Some("1" | "true"))
    }

    /// A parameter of any type.
    pub(in crate::face) fn parsed<T: FromStr>(&self, name: &str) -> Result<Option<T>, Problem> {
        self.read(name, |text| text.parse().ok())
    }

    /// A parameter that is a time of RFC 3339, or seconds since 1970.
    pub(in crate::face) fn time(&self, name: &str) -> Result<Option<Time>, Problem> {
        self.read(name, time)
    }

    /// Reads a parameter with a function. A text that it does not understand is an error in a
    /// strict query.
    pub(in crate::face) fn read<T>(
        &self,
        name: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, Problem> {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        match read(text) {
            Some(value) => Ok(Some(value)),
            None => self.wrong(format!("the parameter {name}={text} can't be read")),
        }
    }

    /// An error in a strict query, else nothing.
    pub(in crate::face) fn wrong<T>(&self, detail: String) -> Result<Option<T>, Problem> {
        match self.strict {
            true => Err(Problem::unreadable(detail)),
            false => Ok(None),
        }
    }

    /// The texts of a parameter that is a list with commas.
    pub(in crate::face) fn list(&self, name: &str) -> Vec<&str> {
        let texts = self.text(name).unwrap_or_default().split(',');
        texts
            .map(str::trim)
            .filter(|text| !text.is_empty())
            .collect()
    }
}

/// A time of RFC 3339, or seconds since 1970.
fn time(text: &str) -> Option<Time> {
    // A plus sign in a query is a space.
    let zoned = text.replace(' ', "+");
    if let Ok(time) = zoned.parse::<Timestamp>() {
        return Some(time.into());
    }
    let seconds = text.parse().ok()?;
    Timestamp::from_second(seconds).ok().map(Time::from)
}

/// Reads a body in JSON. Its Content-Type does not count.
pub(super) fn body<T: DeserializeOwned>(body: &Bytes) -> Result<T, Problem> {
    serde_json::from_slice(body)
        .map_err(|error| Problem::unreadable(format!("the body can't be read: {error}")))
}

/// Reads a body that may be missing.
pub(super) fn body_or_default<T: DeserializeOwned + Default>(bytes: &Bytes) -> Result<T, Problem> {
    match bytes.trim_ascii().is_empty() {
        true => Ok(T::default()),
        false => body(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_all_that_match_needs_each_parameter() {
        let known = ["text", "limit"];
        let bulk = |query: &str| Query::new(query).bulk(&known);
        assert_eq!(bulk("text=a").unwrap().text("text"), Some("a"));
        assert!(bulk("").is_ok());
        for query in ["text=", "text=a&limit=", "other=1", "other="] {
            assert!(bulk(query).is_err(), "{query}");
        }
        assert!(bulk("limit=x").unwrap().parsed::<u64>("limit").is_err());
    }

    #[test]
    fn a_bad_parameter_is_absent_or_an_error() {
        let query = Query::new("limit=x&text=&page=2&at=2026-03-01T09:00:00Z&ids=a,,b");
        assert_eq!(query.text("text"), None);
        assert_eq!(query.parsed("page").unwrap(), Some(2));
        assert_eq!(query.parsed::<u64>("limit").unwrap(), None);
        assert!(query.strict().parsed::<u64>("limit").is_err());
        assert_eq!(query.list("ids"), ["a", "b"]);
        let time = query.time("at").unwrap().unwrap();
        assert_eq!(time.to_string(), "2026-03-01T09:00:00Z");
        let offset = Query::new("at=2026-03-01T10:00:00+01:00");
        assert_eq!(offset.time("at").unwrap(), Some(time));
        let seconds = Query::new(&format!("at={}", time.0 / 1_000_000));
        assert_eq!(seconds.time("at").unwrap(), Some(time));
    }
}
