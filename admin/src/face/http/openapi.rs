//! The description of the API for programs (OpenAPI 3.1). The paths are made from the list of all
//! calls. `schemas.json` has the schemas of bodies and answers. A test makes it from the types, and
//! writes it anew with `POSTRIDER_BLESS=1`. So a server has no code for that.

use serde_json::{Map, Value, json};

use super::table::{CALLS, Call};

const SCHEMAS: &str = include_str!("schemas.json");

/// The description.
pub(super) fn document() -> Value {
    let mut paths = Map::new();
    for call in CALLS {
        let path = paths
            .entry(format!("/api/{}", call.path))
            .or_insert_with(|| json!({}));
        if let Some(path) = path.as_object_mut() {
            path.insert(call.method.as_str().to_lowercase(), operation(call));
        }
    }
    let mut schemas: Value = serde_json::from_str(SCHEMAS).unwrap_or_default();
    if let Some(schemas) = schemas.as_object_mut() {
        schemas.insert("Problem".to_owned(), problem());
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "postrider management API",
            "description": "The API for the tools of administrators.",
            "version": env!("CARGO_PKG_VERSION"),
            "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"key": []}, {"login": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer"},
                "login": {"type": "http", "scheme": "basic"},
            },
        },
    })
}

fn operation(call: &Call) -> Value {
    let mut parameters: Vec<Value> = Vec::new();
    let mut name = call.method.as_str().to_lowercase();
    for element in call.path.split('/') {
        let variable = element
            .strip_prefix('{')
            .and_then(|it| it.strip_suffix('}'));
        if let Some(variable) = variable {
            parameters.push(json!({
                "name": variable, "in": "path", "required": true,
                "schema": {"type": "string"},
            }));
        }
        for word in element.trim_matches(['{', '}']).split('-') {
            name.push('_');
            name.push_str(word);
        }
    }
    for parameter in call.parameters.split(',').filter(|it| !it.is_empty()) {
        parameters.push(json!({
            "name": parameter, "in": "query", "schema": {"type": "string"},
        }));
    }
    if call.answer == "stream" {
        parameters.push(json!({
            "name": "Last-Event-ID", "in": "header",
            "description": "The number of the last event that the client has seen.",
            "schema": {"type": "string", "pattern": "^[0-9]{1,19}$"},
        }));
    }
    if call.takes_key() {
        parameters.push(json!({
            "name": "Idempotency-Key", "in": "header",
            "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
        }));
    }
    let mut operation = json!({
        "operationId": name,
        "tags": [call.area.name()],
        "summary": call.summary,
        "parameters": parameters,
        "responses": responses(call),
    });
    let (required, body) = match call.body.strip_prefix('?') {
        Some(body) => (false, body),
        None => (true, call.body),
    };
    if let Some(operation) = operation.as_object_mut()
        && !body.is_empty()
    {
        let content = match body {
            "message" => json!({"application/octet-stream": {}}),
            body => json!({"application/json": {"schema": schema(body)}}),
        };
        let body = json!({"required": required, "content": content});
        operation.insert("requestBody".to_owned(), body);
    }
    operation
}

fn responses(call: &Call) -> Value {
    let mut responses = Map::new();
    let (kind, answer) = match call.answer {
        "bytes" => ("application/octet-stream", json!({})),
        "stream" | "stages" | "frames" => ("text/event-stream", json!({"type": "string"})),
        answer => ("application/json", with_data(answer)),
    };
    let content = json!({kind: {"schema": answer}});
    let done = json!({"description": "The call succeeded", "content": content});
    responses.insert("200".to_owned(), done);
    if matches!(call.answer, "stream" | "stages" | "frames") {
        let upgraded = "The connection is a WebSocket: a text is the data of one event";
        responses.insert("101".to_owned(), json!({"description": upgraded}));
    }
    for (status, why) in [
        ("400", "A parameter or the body can't be read"),
        ("401", "The login is missing or wrong"),
        ("403", "The caller may not make this call"),
        ("404", "There is no such thing"),
        ("409", "A name is taken, or a condition does not hold"),
        ("413", "The body is too large"),
        ("422", "A value is refused"),
        (
            "429",
            "Too many failed logins, or too many calls at the same time",
        ),
        ("500", "The server failed"),
        ("503", "The server can't do this now"),
    ] {
        let content = json!({"application/problem+json": {"schema": schema("Problem")}});
        let problem = json!({"description": why, "content": content});
        responses.insert(status.to_owned(), problem);
    }
    Value::Object(responses)
}

/// The schema of a whole answer.
fn with_data(answer: &str) -> Value {
    let mut properties = json!({"data": schema(answer)});
    if let ("bulk", Some(properties)) = (answer, properties.as_object_mut()) {
        for name in ["count", "in_delivery"] {
            properties.insert(name.to_owned(), json!({"type": "integer"}));
        }
        properties.insert("done".to_owned(), json!({"type": "boolean"}));
    }
    if let ("[]MetricItem", Some(properties)) = (answer, properties.as_object_mut()) {
        properties.insert("interval".to_owned(), json!({"type": "integer"}));
    }
    if let ("principal-id", Some(properties)) = (answer, properties.as_object_mut()) {
        properties.insert("key".to_owned(), json!({"type": "string"}));
    }
    json!({"type": "object", "required": ["data"], "properties": properties})
}

/// The schema of a body or of the data of an answer.
fn schema(name: &str) -> Value {
    if let Some(item) = name.strip_prefix('[').and_then(|it| it.strip_suffix(']')) {
        return json!({
            "type": "object",
            "required": ["items", "total"],
            "properties": {
                "items": {"type": "array", "items": schema(item)},
                "total": {"type": "integer"},
                "more": {"type": "boolean"},
                "next": {"type": "string"},
            },
        });
    }
    if let Some(item) = name.strip_prefix("[]") {
        return json!({"type": "array", "items": schema(item)});
    }
    match name {
        "bool" | "bulk" => json!({"type": "boolean"}),
        "null" => json!({"type": "null"}),
        "text" => json!({"type": "string"}),
        "principal-id" => json!({"type": "integer"}),
        "any" => json!({}),
        "traces" => json!({
            "type": "object",
            "required": ["items", "total"],
            "properties": {
                "items": {
                    "type": "array",
                    "items": {"oneOf": [{"type": "integer"}, schema("TraceEvent")]},
                },
                "total": {"type": "integer"},
                "more": {"type": "boolean"},
                "next": {"type": "string"},
            },
        }),
        name => json!({"$ref": format!("#/components/schemas/{name}")}),
    }
}

fn problem() -> Value {
    json!({
        "type": "object",
        "required": ["type", "title", "status", "detail", "error"],
        "properties": {
            "type": {"type": "string"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "error": {
                "type": "string",
                "enum": [
                    "notFound", "fieldAlreadyExists", "fieldMissing", "unsupported",
                    "assertFailed", "other"
                ],
            },
            "item": {"type": "string"},
            "field": {"type": "string"},
            "value": {},
            "details": {"type": "string"},
            "reason": {"type": ["string", "null"]},
        },
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use utoipa::OpenApi;

    use super::*;
    use crate::{
        face::http::calls::{
            events::shapes as events, principals::shapes as principals, queue::shapes,
            server::shapes as server, traces::shapes as traces,
        },
        op,
    };

    #[derive(OpenApi)]
    #[openapi(components(schemas(
        shapes::Message,
        shapes::MessageList,
        shapes::Changes,
        principals::Principal,
        principals::NewPrincipal,
        principals::PrincipalChange,
        server::Reloaded,
        crate::face::http::calls::logs::shapes::LogEntry,
        op::logs::LevelItem,
        op::logs::SetLevel,
        op::logs::LevelsReset,
        events::ToldEvent,
        crate::face::http::calls::telemetry::shapes::MetricItem,
        traces::TraceEvent,
        crate::face::http::calls::dns::NewDkim,
        crate::face::http::calls::settings::SettingsChange,
        crate::face::http::calls::account::AuthChange,
        op::audit::AuditItem,
        op::destinations::DestinationItem,
        op::destinations::DestinationSource,
        op::destinations::DestinationWarmUp,
        op::destinations::DestinationHour,
        op::destinations::DestinationError,
        op::destinations::DestinationHost,
        op::destinations::DestinationAddress,
        op::destinations::DestinationOrder,
        op::destinations::Pause,
        op::destinations::Limit,
        op::destinations::Forgotten,
        op::history::RetiredItem,
        op::received::ReceivedReportItem,
        op::received::ReceivedType,
        op::received::ReportedMessageItem,
        op::received::ReportSumItem,
        op::received::ShownReport,
        crate::face::http::calls::received::shapes::ReceivedReportEntry,
        op::reports::ReportItem,
        op::reports::ReportType,
        op::reports::WaitingReport,
        op::reports::ReportReceiver,
        op::reports::TlsReceiver,
        crate::face::http::calls::reports::shapes::ReportEntry,
        op::transcripts::TranscriptItem,
        op::transcripts::TranscriptLineItem,
        op::transcripts::CertificateItem,
        op::hold_rules::HoldRuleItem,
        op::hooks::ProgramItem,
        op::hooks::Test,
        op::hooks::HookTested,
        op::refusals::RefusalItem,
        op::hold_rules::Add,
        op::hold_rules::Added,
        op::suppression::SuppressionItem,
        crate::face::http::calls::suppressions::NewSuppression,
        crate::face::http::calls::spam::ClassifyRequest,
        crate::face::http::calls::troubleshoot::DmarcRequest,
        op::checks::DmarcChecked,
        op::checks::CheckOutcome,
        op::checks::CheckPolicy,
        op::checks::CheckDetails,
        op::checks::SpfItem,
        op::checks::DkimItem,
        op::checks::IprevDetails,
        op::checks::ArcDetails,
        op::checks::DmarcDetails,
        crate::face::http::calls::undelete::UndeleteRequest,
        op::undelete::UndeleteItem,
        op::undelete::UndeletedMail,
        op::undelete::Restored,
        op::webhook::HookItem,
        op::webhook::RetiredHookItem,
    )))]
    struct Types;

    #[test]
    fn the_schemas_are_those_of_the_types() {
        let components = Types::openapi().components.unwrap();
        let text = serde_json::to_string_pretty(&components.schemas).unwrap() + "\n";
        if std::env::var_os("POSTRIDER_BLESS").is_some() {
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/face/http/schemas.json");
            std::fs::write(path, &text).unwrap();
            return;
        }
        assert!(
            text == SCHEMAS,
            "schemas.json is not what the types say; run with POSTRIDER_BLESS=1"
        );
    }

    /// The schemas that a value refers to.
    fn referred(value: &Value, names: &mut BTreeSet<String>) {
        match value {
            Value::Object(members) => {
                if let Some(name) = members.get("$ref").and_then(Value::as_str) {
                    names.insert(name.to_owned());
                }
                members.values().for_each(|value| referred(value, names));
            }
            Value::Array(items) => items.iter().for_each(|value| referred(value, names)),
            _ => {}
        }
    }

    #[test]
    fn each_schema_is_there_and_each_operation_has_its_own_name() {
        let document = document();
        let mut names = BTreeSet::new();
        referred(&document, &mut names);
        for name in names {
            let found = document.pointer(name.trim_start_matches('#'));
            assert!(found.is_some(), "{name}");
        }
        let mut ids = BTreeSet::new();
        for call in CALLS {
            let operation = operation(call);
            let id = operation["operationId"].as_str().unwrap().to_owned();
            assert!(ids.insert(id), "{} {}", call.method, call.path);
        }
    }
}
