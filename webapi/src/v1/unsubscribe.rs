//! The page of an unsubscribe link.

use axum::{
    extract::Request,
    http::{Method as Verb, StatusCode},
    response::Response,
};
use tracing::error;

use crate::{
    call::context::CallContext,
    http::page::{self, escaped},
    unsubscribe::Subscription,
};

/// Answers a request of a recipient's link. GET changes nothing, since programs that check mail
/// follow links (RFC 8058 §3.2).
pub(super) async fn answer(context: &CallContext, token: &str, request: Request) -> Response {
    let Some(subscription) = Subscription::read(token, &context.unsubscribe_key) else {
        return said(StatusCode::NOT_FOUND, "This link is not valid.");
    };
    let (address, list) = (subscription.address.unicode(), &subscription.list);
    let ended = format!("{address} gets no more mail of {list:?}.");
    match *request.method() {
        Verb::POST => match subscription.end(context).await {
            Ok(()) => said(StatusCode::OK, &ended),
            Err(error) => {
                error!(%error, "failed to unsubscribe");
                let text = "This did not work; please try again later.";
                said(StatusCode::SERVICE_UNAVAILABLE, text)
            }
        },
        Verb::GET if subscription.has_ended(context).await.unwrap_or_default() => {
            said(StatusCode::OK, &ended)
        }
        Verb::GET => {
            let content = format!(
                "<h1>Unsubscribe</h1>\n<p>{} gets mail of {}.</p>\n<form method=\"post\">\
                 <button name=\"List-Unsubscribe\" value=\"One-Click\">Unsubscribe</button></form>\n",
                escaped(&address),
                escaped(&format!("{list:?}"))
            );
            page::answer(StatusCode::OK, page::page("Unsubscribe", &content))
        }
        _ => said(StatusCode::METHOD_NOT_ALLOWED, "Use the button."),
    }
}

/// A page with one sentence.
fn said(status: StatusCode, text: &str) -> Response {
    let content = format!("<h1>Unsubscribe</h1>\n<p>{}</p>\n", escaped(text));
    page::answer(status, page::page("Unsubscribe", &content))
}
