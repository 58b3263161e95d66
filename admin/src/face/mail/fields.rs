//! The body of a request: an object in JSON, or a form. A field of the wrong type is refused by its
//! name, all of them at once. A field that nobody knows is ignored: clients send those of another
//! server.

use axum::body::Bytes;
use serde_json::{Map, Value};

use crate::{AdminError, Code, face::http::problem::Problem};

/// The most bytes of a text in a request.
const TEXT_MAX: usize = 512;

/// The fields of a body, and what is wrong with them.
pub(super) struct Fields {
    members: Map<String, Value>,
    errors: Vec<(String, String)>,
}

impl Fields {
    /// Reads an object. An empty body is an empty object.
    pub(super) fn read(body: &Bytes) -> Result<Self, Problem> {
        if body.trim_ascii().is_empty() {
            return Ok(Self::of(Map::new()));
        }
        let value = serde_json::from_slice(body);
        match value
            .map_err(|error| Problem::unreadable(format!("the body is not JSON: {error}")))?
        {
            Value::Object(members) => Ok(Self::of(members)),
            _ => {
                let text = "the body must be an object".to_owned();
                Err(Problem::invalid(vec![(String::new(), text)]))
            }
        }
    }

    const fn of(members: Map<String, Value>) -> Self {
        Self {
            members,
            errors: Vec::new(),
        }
    }

    /// Refuses a field. The first reason of a field counts.
    pub(super) fn wrong(&mut self, field: &str, detail: impl ToString) {
        if !self.errors.iter().any(|(told, _)| told == field) {
            self.errors.push((field.to_owned(), detail.to_string()));
        }
    }

    /// A field. Null is as if it was absent.
    pub(super) fn value(&self, name: &str) -> Option<&Value> {
        self.members.get(name).filter(|value| !value.is_null())
    }

    /// A text.
    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        match self.value(name)?.clone() {
            Value::String(text) if text.len() <= TEXT_MAX => Some(text),
            Value::String(_) => {
                self.wrong(name, format!("must have at most {TEXT_MAX} bytes"));
                None
            }
            _ => {
                self.wrong(name, "must be a text");
                None
            }
        }
    }

    /// A text that must be there. Empty if it is wrong.
    pub(super) fn needed(&mut self, name: &str) -> String {
        if self.value(name).is_none() {
            self.wrong(name, "is missing");
        }
        self.text(name).unwrap_or_default()
    }

    /// A whole number of at least 0.
    pub(super) fn number(&mut self, name: &str) -> Option<u64> {
        let number = self.value(name)?.as_u64();
        if number.is_none() {
            self.wrong(name, "must be a whole number, and not negative");
        }
        number
    }

    /// True or false.
    pub(super) fn flag(&mut self, name: &str) -> bool {
        match self.value(name).map(Value::as_bool) {
            None => false,
            Some(Some(flag)) => flag,
            Some(None) => {
                self.wrong(name, "must be true or false");
                false
            }
        }
    }

    /// One text or an array of texts, at least one, which must be there.
    pub(super) fn texts(&mut self, name: &str) -> Vec<String> {
        let found = match self.value(name) {
            None => {
                self.wrong(name, "is missing");
                return Vec::new();
            }
            Some(Value::String(text)) => Some(vec![text.clone()]),
            Some(Value::Array(all)) => all
                .iter()
                .map(|it| it.as_str().map(str::to_owned))
                .collect(),
            Some(_) => None,
        };
        let is_good = |texts: &Vec<String>| {
            !texts.is_empty() && texts.iter().all(|text| text.len() <= TEXT_MAX)
        };
        found.filter(is_good).unwrap_or_else(|| {
            self.wrong(name, "must be a text, or an array of at least one text");
            Vec::new()
        })
    }

    /// The answer to what is wrong.
    pub(super) fn check(&mut self) -> Result<(), Problem> {
        match std::mem::take(&mut self.errors) {
            errors if errors.is_empty() => Ok(()),
            errors => Err(Problem::invalid(errors)),
        }
    }
}

/// The field `token` of a form (RFC 7662 §2.1, RFC 7009 §2.1).
pub(super) fn token_of_form(body: &Bytes) -> Result<String, Problem> {
    let mut pairs = form_urlencoded::parse(body);
    match pairs.find(|(name, _)| name == "token") {
        Some((_, token)) => Ok(token.into_owned()),
        None => Err(Problem::invalid(vec![(
            "token".to_owned(),
            "is missing".to_owned(),
        )])),
    }
}

/// The answer to an operation that was refused. `names`: the fields of the call for those of the
/// operation.
pub(super) fn problem(error: AdminError, names: &[(&str, &str)]) -> Problem {
    let renamed = error.field.as_deref().map(|field| {
        let found = names.iter().find(|(own, _)| *own == field);
        found.map_or(field, |(_, name)| *name).to_owned()
    });
    match (error.code, renamed) {
        (Code::Invalid | Code::NotFound | Code::Unsupported, field) => {
            Problem::invalid(vec![(field.unwrap_or_default(), error.text)])
        }
        (_, Some(field)) => Problem::from(error.at(field)),
        (_, None) => Problem::from(error),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn all_wrong_fields_are_told_at_once() {
        let body = json!({"a": 1, "b": "x", "c": -1, "d": "yes", "e": [], "f": null, "other": 7});
        let mut fields = Fields::read(&body.to_string().into()).unwrap();
        assert_eq!(fields.text("a"), None);
        assert_eq!(fields.text("b").as_deref(), Some("x"));
        assert_eq!(fields.number("c"), None);
        assert!(!fields.flag("d"));
        assert_eq!(fields.texts("e"), Vec::<String>::new());
        assert_eq!(fields.needed("f"), "");
        let problem = fields.check().unwrap_err().body();
        let told = problem["errors"].as_array().unwrap();
        let told: Vec<&str> = told
            .iter()
            .map(|it| it["field"].as_str().unwrap())
            .collect();
        assert_eq!(told, ["a", "c", "d", "e", "f"]);
        assert_eq!(problem["status"], 422);
        assert_eq!(problem["field"], "a");
        assert_eq!(problem["detail"], "a: must be a text");
    }

    #[test]
    fn a_body_is_an_object() {
        let status = |body: &'static str| {
            let read = Fields::read(&Bytes::from_static(body.as_bytes()));
            read.err().map(|problem| problem.status().as_u16())
        };
        assert_eq!(status(""), None);
        assert_eq!(status("{}"), None);
        assert_eq!(status("{"), Some(400));
        assert_eq!(status("[]"), Some(422));
        let token = |body: &'static str| token_of_form(&Bytes::from_static(body.as_bytes())).ok();
        assert_eq!(token("a=b&token=x%2By").as_deref(), Some("x+y"));
        assert_eq!(token("a=b"), None);
    }
}
