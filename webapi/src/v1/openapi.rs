//! The description of v1, made of its shapes.

use utoipa::{
    Modify, OpenApi,
    openapi::{
        ContentBuilder, OpenApi as Document, Ref, Response, ResponseBuilder, Server,
        security::{Http, HttpAuthScheme, SecurityScheme},
    },
};

use super::{events, messages, queue};
use crate::pages;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "postrider webapi v1",
        description = "The API of applications. Call a method with POST and a JSON body; log in with a key as bearer token, or with an address of the account and its password (or a key) by basic authentication. Answers other than 200 have a body with Code and Message.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0")
    ),
    paths(super::send_message, super::send_batch, queue::list, queue::status, queue::cancel, events::list, events::stream, events::stats, messages::list),
    modifiers(&Common),
    security(("key" = []), ("login" = []))
)]
struct Description;

/// What all methods have.
struct Common;

impl Modify for Common {
    fn modify(&self, document: &mut Document) {
        for item in document.paths.paths.values_mut() {
            for operation in [&mut item.get, &mut item.post].into_iter().flatten() {
                for (status, why) in [
                    ("401", "Who calls is not known"),
                    ("403", "The key may not be used for this"),
                    (
                        "429",
                        "Too many failed logins, or a limit of the account is reached",
                    ),
                    ("500", "The server failed; it may be tried again"),
                    (
                        "503",
                        "There are too many large requests at the time; try again later",
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

/// OpenAPI 3.1, for a base path.
pub(super) fn document(base: &str) -> Document {
    let mut document = Description::openapi();
    document.servers = Some(vec![Server::new(format!("{base}v1"))]);
    env!("CARGO_PKG_VERSION").clone_into(&mut document.info.version);
    document
}

/// A page with the methods.
pub(super) fn page() -> String {
    let document = Description::openapi();
    let methods = document.paths.paths.iter().filter_map(|(path, item)| {
        let operation = item.post.as_ref()?;
        let summary = operation.summary.as_deref().unwrap_or_default();
        let name = path.trim_start_matches('/');
        Some(format!(
            "<li><code>{name}</code>: {}</li>\n",
            pages::escaped(summary)
        ))
    });
    let content = format!(
        "<h1>webapi v1</h1>\n<p>{}</p>\n<ul>\n{}</ul>\n\
         <p><a href=\"openapi.json\">openapi.json</a> describes the requests and answers.</p>\n",
        pages::escaped(document.info.description.as_deref().unwrap_or_default()),
        methods.collect::<String>()
    );
    pages::page("postrider webapi v1", &content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_is_described() {
        let document = serde_json::to_value(document("/webapi/")).unwrap();
        let paths = document["paths"].as_object().unwrap();
        for name in paths.keys().filter(|name| *name != "/EventStream") {
            assert!(
                super::super::Method::from_name(&name[1..]).is_some(),
                "{name}"
            );
        }
        assert_eq!(paths.len(), super::super::Method::ALL.len() + 1);
        assert_eq!(document["servers"][0]["url"], "/webapi/v1");
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
