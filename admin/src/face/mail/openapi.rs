//! The description of the calls for programs (OpenAPI 3.1), made from the lists of all calls.

use axum::http::Method;
use serde_json::{Map, Value, json};

use super::table::{BodyKind, CALLS, Call, For};

/// The schemas of bodies and answers.
const SCHEMAS: &str = include_str!("schemas.json");

/// A part of a description.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Description {
    /// The paths with their operations.
    pub paths: Map<String, Value>,
    /// The schemas, by name.
    pub schemas: Map<String, Value>,
}

/// A call, as it is described.
#[derive(Clone, Copy, Debug)]
pub struct DescribedCall {
    /// The method of HTTP.
    pub method: &'static str,
    /// The path below the base. An element in braces is variable.
    pub path: &'static str,
    /// The group of calls that it belongs to.
    pub tag: &'static str,
    /// Who may make it.
    pub callers: Callers,
    /// The parameters of its query, with blanks between them.
    pub parameters: &'static str,
    /// The schema of its body. Empty: it has none. `?` before it: it may be absent.
    pub body: &'static str,
    /// The body is a form. Otherwise it is JSON.
    pub is_form: bool,
    /// The schema of its answer: a name, `[NAME]` for a page of a list, `*NAME` for an array. One
    /// with a slash is the type of an answer that is not JSON.
    pub answer: &'static str,
    /// It makes something (201).
    pub makes: bool,
    /// One sentence for people.
    pub summary: &'static str,
}

/// Who may make a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Callers {
    /// Platforms and tenants.
    Managers,
    /// The holder of an account.
    Users,
    /// All of these.
    All,
    /// Everybody: the call is a login itself.
    Everybody,
}

impl Callers {
    /// The ways to log in, as the description has them.
    fn security(self) -> Value {
        match self {
            Self::Managers => json!([{"service": []}, {"key": []}]),
            Self::Users => json!([{"key": []}, {"login": []}]),
            Self::All => json!([{"service": []}, {"key": []}, {"login": []}]),
            Self::Everybody => json!([]),
        }
    }
}

impl From<&Call> for DescribedCall {
    fn from(call: &Call) -> Self {
        Self {
            method: match call.method {
                Method::POST => "POST",
                Method::PUT => "PUT",
                Method::DELETE => "DELETE",
                _ => "GET",
            },
            path: call.path,
            tag: match call.path.starts_with("auth/") {
                true => "auth",
                false => "accounts",
            },
            callers: match call.who {
                For::Platform | For::Manager => Callers::Managers,
                For::User => Callers::Users,
                For::Anyone => Callers::All,
                For::Everybody => Callers::Everybody,
            },
            parameters: match call.answer.starts_with('[') {
                true => "page per_page cursor",
                false => "",
            },
            body: call.body,
            is_form: call.kind == BodyKind::Form,
            answer: call.answer,
            makes: call.makes,
            summary: call.summary,
        }
    }
}

/// The description of these calls and of others below `base`, which has a slash at both ends.
/// `issuer`: this server gives out mail tokens.
#[must_use]
pub fn describe(
    base: &str,
    issuer: bool,
    others: impl Iterator<Item = DescribedCall>,
) -> Description {
    let mut paths = Map::new();
    let own = CALLS.iter().filter(|call| issuer || !call.needs_issuer);
    for call in own.map(DescribedCall::from).chain(others) {
        let path = paths
            .entry(format!("{base}{}", call.path))
            .or_insert_with(|| json!({}));
        if let Some(path) = path.as_object_mut() {
            path.insert(call.method.to_lowercase(), operation(&call));
        }
    }
    let schemas = serde_json::from_str(SCHEMAS).unwrap_or_default();
    Description { paths, schemas }
}

fn operation(call: &DescribedCall) -> Value {
    let mut name = call.method.to_lowercase();
    let words = call.path.split(['/', '-']);
    for word in words.map(|word| word.trim_matches(['{', '}'])) {
        name.push('_');
        name.push_str(word);
    }
    let variable = call.path.split('/').filter_map(|element| {
        let name = element.strip_prefix('{')?.strip_suffix('}')?;
        Some(json!({
            "name": name, "in": "path", "required": true,
            "description": "A number or a name.", "schema": {"type": "string"},
        }))
    });
    let in_query = call.parameters.split_whitespace();
    let in_query =
        in_query.map(|name| json!({"name": name, "in": "query", "schema": {"type": "string"}}));
    let parameters: Vec<Value> = variable.chain(in_query).collect();
    let mut operation = json!({
        "operationId": name,
        "tags": [call.tag],
        "summary": call.summary,
        "parameters": parameters,
        "security": call.callers.security(),
        "responses": responses(call),
    });
    if call.body.is_empty() {
        return operation;
    }
    let kind = match call.is_form {
        true => "application/x-www-form-urlencoded",
        false => "application/json",
    };
    if let Some(operation) = operation.as_object_mut() {
        let body = call.body.trim_start_matches('?');
        let body = json!({
            "required": body.len() == call.body.len(),
            "content": {kind: {"schema": schema(body)}},
        });
        operation.insert("requestBody".to_owned(), body);
    }
    operation
}

fn responses(call: &DescribedCall) -> Value {
    let mut responses = Map::new();
    let status = if call.makes { "201" } else { "200" };
    let content = match call.answer.contains('/') {
        true => json!({call.answer: {"schema": {"type": "string"}}}),
        false => json!({"application/json": {"schema": schema(call.answer)}}),
    };
    let done = json!({"description": "The call succeeded", "content": content});
    responses.insert(status.to_owned(), done);
    for (status, why) in [
        ("400", "The body or the path can't be read"),
        ("401", "The login is missing or wrong"),
        ("402", "The one-time code is missing"),
        ("403", "The caller may not make this call"),
        ("404", "There is no such thing"),
        ("409", "A name is taken, or a condition does not hold"),
        ("413", "The body is too large"),
        ("415", "The body has another type"),
        ("422", "Values are refused"),
        ("429", "Too many failed logins, or too many calls"),
        ("500", "The server failed"),
        ("503", "The server can't do this now"),
    ] {
        let content = json!({"application/problem+json": {"schema": schema("Problem")}});
        let problem = json!({"description": why, "content": content});
        responses.insert(status.to_owned(), problem);
    }
    Value::Object(responses)
}

/// The schema of a body or an answer.
fn schema(name: &str) -> Value {
    if let Some(item) = name.strip_prefix('[').and_then(|it| it.strip_suffix(']')) {
        return json!({
            "type": "object",
            "required": ["items", "total", "page", "per_page", "next"],
            "properties": {
                "items": {"type": "array", "items": schema(item)},
                "total": {"type": "integer"},
                "page": {"type": "integer"},
                "per_page": {"type": "integer"},
                "next": {"type": ["string", "null"]},
            },
        });
    }
    if let Some(item) = name.strip_prefix('*') {
        return json!({"type": "array", "items": schema(item)});
    }
    json!({"$ref": format!("#/components/schemas/{name}")})
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The names of all schemas that a value refers to.
    fn references(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(members) => {
                for (name, value) in members {
                    match value.as_str().and_then(|it| it.rsplit_once('/')) {
                        Some((_, schema)) if name == "$ref" => {
                            found.extend([schema.to_owned()]);
                        }
                        _ => references(value, found),
                    }
                }
            }
            Value::Array(all) => all.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }

    #[test]
    fn each_schema_is_there_and_used() {
        let described = describe("/api/v1/", true, std::iter::empty());
        let mut used = BTreeSet::new();
        references(&Value::Object(described.paths.clone()), &mut used);
        references(&Value::Object(described.schemas.clone()), &mut used);
        let there: BTreeSet<String> = described.schemas.keys().cloned().collect();
        assert_eq!(used, there);
        let calls: usize = described
            .paths
            .values()
            .map(|it| it.as_object().unwrap().len())
            .sum();
        assert_eq!(calls, CALLS.len());
        assert!(described.paths.contains_key("/api/v1/auth/mail-token"));
        let without = describe("/api/v1/", false, std::iter::empty());
        assert!(!without.paths.contains_key("/api/v1/auth/mail-token"));
        assert!(without.paths.contains_key("/api/v1/auth/login"));
    }
}
