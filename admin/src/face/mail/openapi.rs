//! The description of these calls for programs (OpenAPI 3.1), made from the list of all calls. The
//! webapi describes the other half.

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

/// The description of these calls below `base`, which has a slash at both ends. `issuer`: this
/// server gives out mail tokens.
#[must_use]
pub fn describe(base: &str, issuer: bool) -> Description {
    let mut paths = Map::new();
    for call in CALLS.iter().filter(|call| issuer || !call.needs_issuer) {
        let path = paths
            .entry(format!("{base}{}", call.path))
            .or_insert_with(|| json!({}));
        if let Some(path) = path.as_object_mut() {
            path.insert(call.method.as_str().to_lowercase(), operation(call));
        }
    }
    let schemas = serde_json::from_str(SCHEMAS).unwrap_or_default();
    Description { paths, schemas }
}

fn operation(call: &Call) -> Value {
    let mut name = call.method.as_str().to_lowercase();
    let words = call.path.split(['/', '-']);
    for word in words.map(|word| word.trim_matches(['{', '}'])) {
        name.push('_');
        name.push_str(word);
    }
    let mut parameters = Vec::new();
    if call.target.is_some() {
        parameters.push(json!({
            "name": "id", "in": "path", "required": true,
            "description": "A number or a name.", "schema": {"type": "string"},
        }));
    }
    if call.answer.starts_with('[') {
        for parameter in ["page", "per_page", "cursor"] {
            parameters.push(json!({
                "name": parameter, "in": "query", "schema": {"type": "string"},
            }));
        }
    }
    let security = match call.who {
        For::Platform | For::Manager => json!([{"service": []}, {"key": []}]),
        For::User => json!([{"key": []}, {"login": []}]),
        For::Anyone => json!([{"service": []}, {"key": []}, {"login": []}]),
        For::Everybody => json!([]),
    };
    let mut operation = json!({
        "operationId": name,
        "tags": [if call.path.starts_with("auth/") { "auth" } else { "accounts" }],
        "summary": call.summary,
        "parameters": parameters,
        "security": security,
        "responses": responses(call),
    });
    let kind = match call.kind {
        BodyKind::None => return operation,
        BodyKind::Json => "application/json",
        BodyKind::Form => "application/x-www-form-urlencoded",
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

fn responses(call: &Call) -> Value {
    let mut responses = Map::new();
    let status = if call.makes { "201" } else { "200" };
    let content = json!({"application/json": {"schema": schema(call.answer)}});
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
        let described = describe("/api/v1/", true);
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
        let without = describe("/api/v1/", false);
        assert!(!without.paths.contains_key("/api/v1/auth/mail-token"));
        assert!(without.paths.contains_key("/api/v1/auth/login"));
    }
}
