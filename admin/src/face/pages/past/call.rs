//! One call of a webhook: its attempts, and what it sends.

use std::sync::Arc;

use askama::Template;
use axum::body::Body;
use postrider_store::HookId;

use super::{
    super::{
        answer::{Answer, Trouble},
        asked::Asked,
        command::AsCommand,
        form::Faults,
        frame::Frame,
        shown::{Bytes, When},
    },
    filter::is_holder,
    streamed::attached,
};
use crate::op::webhook::{HookAttemptItem, HookItem, Sends, Show, ShownHook};

/// The most bytes of a body that a page shows.
const BODY_SHOWN: usize = 64 * 1024;
/// The name of the file with a body.
const BODY_FILE: &str = "body.json";

#[derive(Template)]
#[template(path = "past/call.html")]
struct Page {
    frame: Frame,
    faults: Faults,
    when: String,
    call: HookItem,
    submitted: When,
    next: When,
    ended: Option<End>,
    tries: Vec<Try>,
    sends: Sends,
    /// The beginning of the body.
    body: String,
    size: Bytes,
    is_cut: bool,
    curl: String,
    is_holder: bool,
}

struct End {
    success: bool,
    at: When,
    keep_until: When,
}

struct Try {
    attempt: HookAttemptItem,
    start: When,
}

/// A call that the visitor may see.
async fn call(asked: &Asked, id: HookId) -> Result<ShownHook, Trouble> {
    let shown = asked.run(Show { id }).await?;
    match !is_holder(asked) || shown.call.account == asked.account() {
        true => Ok(shown),
        false => Err(Trouble::NoPage),
    }
}

/// The line for curl that makes the same call. A secret has to be filled in.
pub(super) fn curl(url: &str, sends: &Sends, is_whole: bool) -> String {
    let mut words = vec!["curl".to_owned(), "-X".to_owned(), "POST".to_owned()];
    for (name, value) in &sends.headers {
        words.push("-H".to_owned());
        words.push(format!("{name}: {value}"));
    }
    words.push("--data-binary".to_owned());
    words.push(match is_whole && !sends.body.starts_with('@') {
        true => sends.body.clone(),
        false => format!("@{BODY_FILE}"),
    });
    words.push(url.to_owned());
    AsCommand::line(words.iter().map(String::as_str))
}

/// The longest beginning of a text with at most so many bytes.
fn beginning(text: &str, max: usize) -> &str {
    let end = text.floor_char_boundary(max);
    text.get(..end).unwrap_or_default()
}

fn page(asked: &Asked, shown: ShownHook, faults: Faults) -> Page {
    let now = asked.now();
    let ShownHook { call, ended, sends } = shown;
    let id = call.id.to_string();
    let mut frame = asked.frame(&format!("Webhook call {id}"));
    if !is_holder(asked) {
        frame = frame.with(match ended {
            None => AsCommand::cli(["queue", "webhook", "list", "--ids", &id])
                .get(&format!("/api/queue/webhooks/{id}")),
            Some(_) => AsCommand::cli(["queue", "webhook", "retired", "list", "--ids", &id]),
        });
    }
    let is_cut = sends.body.len() > BODY_SHOWN;
    let tries = call.results.iter().rev().map(|attempt| Try {
        start: When::new(&attempt.start, now),
        attempt: attempt.clone(),
    });
    Page {
        frame,
        faults,
        when: asked.form.shown("when").to_owned(),
        submitted: When::new(&call.submitted, now),
        next: When::new(&call.next_attempt, now),
        ended: ended.map(|ended| End {
            success: ended.success,
            at: When::new(&ended.at, now),
            keep_until: When::new(&ended.keep_until, now),
        }),
        tries: tries.collect(),
        body: beginning(&sends.body, BODY_SHOWN).to_owned(),
        size: Bytes(sends.body.len() as u64),
        is_cut,
        curl: curl(&call.url, &sends, !is_cut),
        call,
        sends,
        is_holder: is_holder(asked),
    }
}

/// A call.
pub(in super::super) async fn show(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let shown = call(&asked, HookId(asked.number(0)?)).await?;
    Answer::page(&page(&asked, shown, Faults::default()))
}

/// A call whose form has a fault.
pub(super) async fn again(asked: &Asked, id: HookId, faults: Faults) -> Result<Answer, Trouble> {
    let shown = call(asked, id).await?;
    Answer::again(&page(asked, shown, faults))
}

/// The body of a call, as a file.
pub(in super::super) async fn body(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let shown = call(&asked, HookId(asked.number(0)?)).await?;
    if !shown.sends.error.is_empty() {
        return Err(Trouble::NoPage);
    }
    let kind = "application/json; charset=utf-8";
    let body = Body::from(shown.sends.body);
    Ok(Answer::Other(attached(BODY_FILE, kind, body)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_for_curl_is_quoted_and_has_no_secret() {
        let sends = Sends {
            headers: vec![("authorization".to_owned(), "***".to_owned())],
            body: "{\"it's\":1}".to_owned(),
            error: String::new(),
        };
        assert_eq!(
            curl("https://h.test/?a=1", &sends, true),
            "curl -X POST -H 'authorization: ***' --data-binary '{\"it'\\''s\":1}' \
             'https://h.test/?a=1'"
        );
        assert!(curl("https://h.test/", &sends, false).contains("@body.json"));
        assert_eq!(beginning("aé", 2), "a");
    }
}
