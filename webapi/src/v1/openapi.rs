//! The description of v1 (OpenAPI 3.1).
//!
//! `openapi.json` is made from the types of requests and answers, in the tests only: so a server
//! has no code for that. A test compares the file with the types, and writes it anew with
//! `POSTRIDER_BLESS=1`.

use serde_json::{Value, json};

use crate::http::page::{escaped, page as html};

const DOCUMENT: &str = include_str!("openapi.json");

/// The description for a base path.
pub(super) fn document(base: &str) -> Value {
    let mut document = parsed();
    if let Some(version) = document.pointer_mut("/info/version") {
        *version = env!("CARGO_PKG_VERSION").into();
    }
    if let Some(servers) = document.get_mut("servers") {
        *servers = json!([{"url": format!("{base}v1")}]);
    }
    document
}

fn parsed() -> Value {
    serde_json::from_str(DOCUMENT).unwrap_or_default()
}

/// The page with the methods.
pub(super) fn page() -> String {
    let document = parsed();
    let about = document.pointer("/info/description");
    let paths = document.get("paths").and_then(Value::as_object);
    let methods = paths.into_iter().flatten().filter_map(|(path, item)| {
        let summary = item.pointer("/post/summary")?.as_str()?;
        let name = path.trim_start_matches('/');
        Some(format!(
            "<li><code>{name}</code>: {}</li>\n",
            escaped(summary)
        ))
    });
    let content = format!(
        "<h1>webapi v1</h1>\n<p>{}</p>\n<ul>\n{}</ul>\n\
         <p><a href=\"openapi.json\">openapi.json</a> describes the requests and answers.</p>\n",
        escaped(about.and_then(Value::as_str).unwrap_or_default()),
        methods.collect::<String>()
    );
    html("postrider webapi v1", &content)
}

#[cfg(test)]
mod tests {
    use utoipa::{
        Modify, OpenApi,
        openapi::{
            ContentBuilder, OpenApi as Document, Ref, Response, ResponseBuilder, Server,
            security::{Http, HttpAuthScheme, SecurityScheme},
        },
    };

    use super::{
        super::{Method, events, messages, queue, send, stream},
        *,
    };

    #[derive(OpenApi)]
    #[openapi(
        info(
            title = "postrider webapi v1",
            description = "The API for applications. Call a method with POST and a JSON body. Log in with a key as bearer token, or by basic authentication with an address of the account and its password or a key. Answers with a status other than 200 have a body with Code and Message.",
            license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0")
        ),
        paths(send::send, send::send_batch, queue::list, queue::status, queue::cancel, events::list, stream::stream, events::stats, messages::list),
        modifiers(&Common),
        security(("key" = []), ("login" = []))
    )]
    struct Description;

    /// Adds the answers that all methods have.
    struct Common;

    impl Modify for Common {
        fn modify(&self, document: &mut Document) {
            for item in document.paths.paths.values_mut() {
                for operation in [&mut item.get, &mut item.post].into_iter().flatten() {
                    for (status, why) in [
                        ("401", "The login is missing or wrong"),
                        ("403", "The key has not the scope of this method"),
                        (
                            "429",
                            "Too many failed logins, or a limit of the account is reached",
                        ),
                        ("500", "The server failed; the call may be repeated"),
                        (
                            "503",
                            "Too many large requests at the same time; try again later",
                        ),
                    ] {
                        let responses = &mut operation.responses.responses;
                        responses
                            .entry(status.to_owned())
                            .or_insert_with(|| problem(why).into());
                    }
                }
            }
            let components = document.components.get_or_insert_default();
            for (name, scheme) in [
                ("key", HttpAuthScheme::Bearer),
                ("login", HttpAuthScheme::Basic),
            ] {
                components.add_security_scheme(name, SecurityScheme::Http(Http::new(scheme)));
            }
        }
    }

    fn problem(why: &str) -> Response {
        let schema = Ref::from_schema_name("Problem");
        let content = ContentBuilder::new().schema(Some(schema)).build();
        ResponseBuilder::new()
            .description(why)
            .content("application/json", content)
            .build()
    }

    /// Removes the defaults of properties. A generator of TypeScript takes a property with a
    /// default for one that must be given, and one of Python refuses the default of a reference.
    fn without_defaults(value: &mut Value) {
        if let Some(properties) = value.get_mut("properties").and_then(Value::as_object_mut) {
            for property in properties.values_mut().filter_map(Value::as_object_mut) {
                property.remove("default");
            }
        }
        match value {
            Value::Object(fields) => fields.values_mut().for_each(without_defaults),
            Value::Array(items) => items.iter_mut().for_each(without_defaults),
            _ => {}
        }
    }

    #[test]
    fn the_file_is_what_the_types_say() {
        let mut document = Description::openapi();
        document.servers = Some(vec![Server::new("/webapi/v1")]);
        // The server replaces it.
        "version".clone_into(&mut document.info.version);
        let mut document = serde_json::to_value(&document).unwrap();
        without_defaults(&mut document);
        let text = serde_json::to_string_pretty(&document).unwrap() + "\n";
        if std::env::var_os("POSTRIDER_BLESS").is_some() {
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/v1/openapi.json");
            std::fs::write(path, &text).unwrap();
        }
        let same = text == DOCUMENT || std::env::var_os("POSTRIDER_BLESS").is_some();
        assert!(
            same,
            "openapi.json is not what the types say; run with POSTRIDER_BLESS=1"
        );
    }

    /// Calls `look` with each value in a document, and with its path.
    fn walk(value: &Value, path: &str, look: &mut impl FnMut(&str, &Value)) {
        look(path, value);
        match value {
            Value::Object(fields) => fields
                .iter()
                .for_each(|(name, value)| walk(value, &format!("{path}/{name}"), look)),
            Value::Array(items) => items.iter().for_each(|item| walk(item, path, look)),
            _ => {}
        }
    }

    /// Generators of clients fail over these, or make clients that can't be used.
    #[test]
    fn generators_of_clients_understand_the_file() {
        let document = parsed();
        let mut operations = std::collections::BTreeSet::new();
        walk(&document, "", &mut |path, value| {
            if path.ends_with("/items") {
                assert!(value.is_object(), "{path} is no schema: {value}");
            }
            if let Some(schema) = value.as_object().filter(|_| path.contains("/schemas/")) {
                let in_properties = path.ends_with("/properties");
                let has = |name| schema.contains_key(name) && !in_properties;
                assert!(!has("default") && !has("prefixItems"), "{path}: {value}");
            }
            if path.ends_with("/tags") {
                // A tag becomes the name of a module.
                let words = ["super", "self", "crate", "class", "import"];
                assert!(!words.iter().any(|word| value == word), "{path}: {value}");
            }
            if let Some(id) = value.get("operationId").and_then(Value::as_str) {
                assert!(operations.insert(id.to_owned()), "{id} stands there twice");
            }
        });
        let names = &document["components"]["schemas"]["EventName"]["enum"];
        let names: Vec<_> = names
            .as_array()
            .unwrap()
            .iter()
            .filter_map(Value::as_str)
            .collect();
        let events = postrider_store::Event::ALL.map(postrider_store::Event::name);
        assert_eq!(names, events);
    }

    #[test]
    fn every_method_is_described() {
        let document = document("/base/");
        let paths = document["paths"].as_object().unwrap();
        for name in paths.keys().filter(|name| *name != "/EventStream") {
            assert!(Method::from_name(&name[1..]).is_some(), "{name}");
        }
        assert_eq!(paths.len(), Method::ALL.len() + 1);
        assert_eq!(document["servers"][0]["url"], "/base/v1");
        assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
        for (path, item) in paths {
            let operation = item.get("post").or(item.get("get")).unwrap();
            for status in ["200", "401", "403", "429", "500", "503"] {
                assert!(
                    operation["responses"][status].is_object(),
                    "{path} {status}"
                );
            }
        }
        let send = &document["components"]["schemas"]["SendRequest"]["properties"];
        assert!(
            send["RequireTLS"].is_object() && send["IdempotencyKey"].is_object(),
            "{send}"
        );
        assert!(page().contains("<code>QueueCancel</code>"));
    }
}
