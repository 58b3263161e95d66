//! Tracked links: the image that tells that a message was opened, and the way on to where a link
//! leads.
//!
//! The server keeps no address, program or cookie of those who open and click. It only marks
//! programs that fetch links before people do.

use std::sync::Arc;

use axum::{
    Router,
    body::Bytes,
    extract::{Path, State},
    http::{
        HeaderMap, HeaderName, HeaderValue, Method, StatusCode,
        header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, LOCATION, REFERRER_POLICY, USER_AGENT},
    },
    response::{IntoResponse, Response},
    routing::any,
};
use postrider_observe::metrics::Event as EventLabel;
use postrider_queue::{TrackedLink, TrackingKey};
use postrider_store::{
    Accept, Event, EventFilter, NewEvent, Order, OutgoingEvent, Queued, StoreError,
};
use tracing::error;

use crate::{
    call::context::CallContext,
    http::page::{self, escaped},
};

/// The path of all tracked links.
const PATH: &str = "/t/{token}";
/// The most events of openings and clicks that a message makes.
const EVENTS_MAX: usize = 100;
/// How many of the events of a message are read at once.
const EVENTS_READ: usize = 100;

/// A GIF of one transparent pixel.
const IMAGE: &[u8] =
    b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\0\0\0!\xf9\x04\x01\0\0\0\0,\0\0\0\0\x01\0\x01\0\
    \0\x02\x02D\x01\0;";

/// Words in the names of programs that fetch the links and images of mail before people do. All are
/// in lower case.
const PREFETCHERS: [&str; 14] = [
    "googleimageproxy",
    "yahoomailproxy",
    "ggpht.com",
    "bot",
    "spider",
    "crawl",
    "preview",
    "scanner",
    "barracuda",
    "proofpoint",
    "mimecast",
    "safelinks",
    "curl/",
    "python-",
];

/// The routes of tracked links.
pub(crate) fn router(context: CallContext) -> Router {
    Router::new()
        .route(PATH, any(answer))
        .with_state(Arc::new(context))
}

async fn answer(
    State(context): State<Arc<CallContext>>,
    method: Method,
    Path(token): Path<String>,
    headers: HeaderMap,
) -> Response {
    let key = TrackingKey::of_secret(context.unsubscribe_key.bytes());
    let Some(link) = TrackedLink::read(&token, &key) else {
        return said(StatusCode::NOT_FOUND, "This link is not valid.");
    };
    if method != Method::GET && method != Method::HEAD {
        let mut answer = said(StatusCode::METHOD_NOT_ALLOWED, "Follow the link.");
        let allowed = HeaderValue::from_static("GET, HEAD");
        answer.headers_mut().insert(ALLOW, allowed);
        return answer;
    }
    // A reader gets there also when nothing can be noted.
    if !wants_privacy(&headers)
        && let Err(error) = note(&context, &link, is_machine(&method, &headers)).await
    {
        error!(%error, queue = link.message.0, "failed to note an opening or a click");
    }
    let mut answer = match link.number {
        0 => ([(CONTENT_TYPE, "image/gif")], Bytes::from_static(IMAGE)).into_response(),
        _ => match HeaderValue::from_str(&in_ascii(&link.url)) {
            Ok(to) => (StatusCode::FOUND, [(LOCATION, to)]).into_response(),
            Err(_) => return said(StatusCode::NOT_FOUND, "This link is not valid."),
        },
    };
    let headers = answer.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // The token must not be told to the site that the link leads to.
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    answer
}

/// A page with one sentence.
fn said(status: StatusCode, text: &str) -> Response {
    let content = format!("<h1>Link</h1>\n<p>{}</p>\n", escaped(text));
    page::answer(status, page::page("Link", &content))
}

/// A URL whose letters beyond ASCII are percent-encoded.
fn in_ascii(url: &str) -> String {
    use std::fmt::Write as _;
    let mut ascii = String::with_capacity(url.len());
    for letter in url.chars() {
        if letter.is_ascii_graphic() {
            ascii.push(letter);
        } else {
            for byte in letter.encode_utf8(&mut [0; 4]).bytes() {
                let _ = write!(ascii, "%{byte:02X}");
            }
        }
    }
    ascii
}

/// Whether the reader asks not to be tracked (Global Privacy Control).
fn wants_privacy(headers: &HeaderMap) -> bool {
    headers.get("sec-gpc").is_some_and(|value| value == "1")
}

/// Whether a program seems to fetch the link, and not a person.
fn is_machine(method: &Method, headers: &HeaderMap) -> bool {
    let purposes = ["sec-purpose", "purpose", "x-purpose", "x-moz"];
    let is_ahead = purposes.iter().any(|name| {
        let value = headers.get(HeaderName::from_static(name));
        let value = value.and_then(|value| value.to_str().ok());
        value.is_some_and(|value| value.contains("prefetch") || value.contains("preview"))
    });
    let program = headers.get(USER_AGENT).and_then(|it| it.to_str().ok());
    let program = program.unwrap_or_default().to_ascii_lowercase();
    // Apple's proxy of mail says no more than this.
    let is_known = program.is_empty()
        || program == "mozilla/5.0"
        || PREFETCHERS.iter().any(|word| program.contains(word));
    *method == Method::HEAD || is_ahead || is_known
}

/// Makes the event of an opening or a click: in the log of the account, and for its webhook.
async fn note(context: &CallContext, link: &TrackedLink, machine: bool) -> Result<(), StoreError> {
    let Some(message) = message(context, link).await? else {
        return Ok(());
    };
    let name = &message.common.account;
    let Some(_held) = context.queue.hold_account(name).await else {
        return Ok(());
    };
    if count(context, &message).await? >= EVENTS_MAX {
        return Ok(());
    }
    let now = context.clock.now();
    let (event, label) = match link.number {
        0 => (Event::Opened, EventLabel::Opened),
        _ => (Event::Clicked, EventLabel::Clicked),
    };
    let mut extra = message.common.extra.clone();
    if !link.url.is_empty() {
        extra.insert("URL".to_owned(), link.url.clone());
    }
    if machine {
        extra.insert("Machine".to_owned(), "true".to_owned());
    }
    let told = OutgoingEvent {
        event,
        dsn: false,
        suppressing: false,
        queue_id: message.id,
        from_id: message.from_id.clone(),
        message_id: message.common.message_id.clone(),
        subject: message.common.subject.clone(),
        queued: now,
        code: 0,
        enhanced: None,
        error: String::new(),
        extra,
    };
    let config = context.config.load_full();
    let account = config.accounts.get(name);
    let keep = account.map(|account| account.keep_retired_message_period);
    let logged = keep.filter(|keep| !keep.is_zero()).map(|keep| NewEvent {
        account: name.clone(),
        recipient: message.recipient.unicode(),
        told: told.clone(),
        keep_until: now.after(keep),
    });
    let hook = account
        .and_then(|account| postrider_webhook::outgoing(name, account, &message.recipient, told));
    let accept = Accept {
        events: logged.into_iter().collect(),
        hooks: hook.into_iter().collect(),
        ..Accept::default()
    };
    context.store.accept(accept).await?;
    context.metrics.events_total.with(label).inc();
    Ok(())
}

/// The message of a link, as long as the queue or the history has it.
async fn message(context: &CallContext, link: &TrackedLink) -> Result<Option<Queued>, StoreError> {
    if let Some(message) = context.store.queued(link.message).await? {
        return Ok(Some(message));
    }
    let retired = context.store.retired(link.message).await?;
    Ok(retired.map(|retired| retired.message))
}

/// How many events of openings and clicks the message has made.
async fn count(context: &CallContext, message: &Queued) -> Result<usize, StoreError> {
    let filter = EventFilter {
        account: Some(message.common.account.clone()),
        events: vec![Event::Opened, Event::Clicked],
        recipient: Some(message.recipient.unicode()),
        message_id: Some(message.common.message_id.clone()),
        ..EventFilter::default()
    };
    let list = context
        .store
        .list_events(&filter, None, Order::Descending, EVENTS_READ);
    Ok(list.await?.items.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let fields = fields.iter().map(|(name, value)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        });
        fields.collect()
    }

    #[test]
    fn programs_are_told_from_people() {
        let person = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0";
        let is_machine =
            |fields: &[(&'static str, &'static str)]| is_machine(&Method::GET, &headers(fields));
        assert!(!is_machine(&[("user-agent", person)]));
        for fields in [
            vec![],
            vec![("user-agent", "Mozilla/5.0")],
            vec![("user-agent", "Mozilla/5.0 (via ggpht.com GoogleImageProxy)")],
            vec![
                ("user-agent", person),
                ("sec-purpose", "prefetch;prerender"),
            ],
            vec![("user-agent", person), ("x-moz", "prefetch")],
        ] {
            assert!(is_machine(&fields), "{fields:?}");
        }
        let person = headers(&[("user-agent", person)]);
        assert!(super::is_machine(&Method::HEAD, &person));
    }

    #[test]
    fn privacy_can_be_asked_for() {
        assert!(wants_privacy(&headers(&[("sec-gpc", "1")])));
        assert!(!wants_privacy(&headers(&[("sec-gpc", "0")])));
        assert!(!wants_privacy(&headers(&[])));
    }

    #[test]
    fn a_location_is_ascii() {
        assert_eq!(
            in_ascii("https://x.example/a?b=%20&c"),
            "https://x.example/a?b=%20&c"
        );
        assert_eq!(
            in_ascii("https://x.example/\u{e4} b"),
            "https://x.example/%C3%A4%20b"
        );
    }
}
