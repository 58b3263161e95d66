//! The mailbox API: mailboxes and mail over HTTP, for back ends that give people mailboxes.
//! `docs/mailbox-api.md` is its contract. The administrative half, about domains, accounts and
//! tokens, is a face of the operations of administrators.
//!
//! | file | its part |
//! |---|---|
//! | `table` | the list of all calls |
//! | `asked` | who makes a call, and for which account |
//! | `folders` | mailboxes, and how much is in them |
//! | `rows` | lists of messages |
//! | `message`, `html` | one message, and HTML that is safe to show |
//! | `change` | moves, flags, labels, deletion |
//! | `send` | sending, drafts |
//! | `signatures`, `templates`, `stationery` | texts that are kept to write with |
//! | `scheduled` | messages that wait for their time |
//! | `rules` | rules for mail that comes, and the auto-responder |
//! | `contacts` | addresses to complete |
//! | `events` | the stream of changes |
//! | `folder_name`, `problem` | names of mailboxes; errors |

mod asked;
mod change;
mod contacts;
mod events;
mod folder_name;
mod folders;
mod html;
mod message;
mod problem;
mod rows;
mod rules;
mod scheduled;
mod send;
mod signatures;
mod stationery;
mod table;
mod templates;

use std::sync::Arc;

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request, State},
    response::{IntoResponse, Response},
    routing::any,
};
use percent_encoding::percent_decode_str;
use postrider_observe::{metrics::PanicIn, panics};
use serde_json::{Value, json};
use tracing::error;

pub use self::table::{MailCall, mail_calls};
use self::{asked::Asked, problem::Problem};
use crate::call::context::CallContext;

/// The schemas of bodies and answers (OpenAPI 3.1), as a JSON object.
pub const MAIL_SCHEMAS: &str = include_str!("schemas.json");

/// The routes of a listener: everything below `mail/` under the path of its endpoint.
pub(crate) fn router(context: CallContext) -> Router {
    let base = &context.endpoint.path;
    Router::new()
        .route(&format!("{base}mail/{{*rest}}"), any(answer))
        .layer(DefaultBodyLimit::disable())
        .with_state(Arc::new(context))
}

async fn answer(State(context): State<Arc<CallContext>>, request: Request) -> Response {
    match answered(context, request).await {
        Ok(answer) => answer,
        Err(problem) => problem.into_response(),
    }
}

/// Answers a call. One that has begun runs to its end, also if the caller goes away.
async fn answered(context: Arc<CallContext>, request: Request) -> Result<Response, Problem> {
    let path = request.uri().path();
    let below = context.endpoint.path.as_str();
    let elements = elements(path.strip_prefix(below).unwrap_or(path));
    let found = elements.and_then(|elements| table::find(request.method(), &elements));
    let (call, asked) = Asked::read(context, found, request).await?;
    let work = panics::within(PanicIn::Http, (call.run)(asked));
    tokio::spawn(work).await.unwrap_or_else(|_| {
        error!("a call of the mailbox API panicked");
        Err(Problem::internal("the server failed"))
    })
}

/// A list that is whole, in the form of a page.
fn whole_list(items: Vec<Value>) -> Value {
    let total = items.len();
    json!({"items": items, "total": total, "page": 1, "per_page": total, "next": null})
}

/// The elements of a path, decoded. A slash at the end counts nothing. None if one is not UTF-8.
fn elements(path: &str) -> Option<Vec<String>> {
    let path = path.strip_suffix('/').unwrap_or(path);
    let decoded = path.split('/').map(|element| {
        let text = percent_decode_str(element).decode_utf8();
        text.ok().map(std::borrow::Cow::into_owned)
    });
    decoded.collect()
}

#[cfg(test)]
mod tests {
    use axum::http::Method;

    use super::*;

    #[test]
    fn a_path_leads_to_its_call() {
        let find = |method: Method, path: &str| {
            let found = table::find(&method, &elements(path).unwrap());
            found.map(|(_, variable)| variable)
        };
        let path = "mail/webmail/messages/Work%2F2026/7";
        let expected = vec!["Work/2026".to_owned(), "7".to_owned()];
        assert_eq!(find(Method::GET, path), Some(expected.clone()));
        assert_eq!(find(Method::DELETE, &format!("{path}/")), Some(expected));
        assert_eq!(find(Method::PUT, path), None);
        assert_eq!(find(Method::GET, "mail/webmail/folders"), Some(Vec::new()));
        assert_eq!(find(Method::GET, "mail/webmail"), None);
        assert_eq!(elements("webmail/%ff"), None);
    }
}
