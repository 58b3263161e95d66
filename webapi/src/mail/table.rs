//! The list of all calls of mailboxes and mail. Requests are led by it, and the description for
//! programs is made from it.

use std::pin::Pin;

use axum::{http::Method, response::Response};

use super::{
    asked::Asked, change, contacts, events, folders, message, problem::Problem, rows, rules,
    scheduled, send, signatures, templates,
};

/// The future of a call.
pub(super) type Work = Pin<Box<dyn Future<Output = Result<Response, Problem>> + Send>>;

/// What a caller needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// To read mail: the scope `messages`, or any right to a shared mailbox.
    Read,
    /// To change mail: the scope `messages`, or the right `write`.
    Write,
    /// To send: the scope `send`, or the right `send`.
    Send,
}

/// A call.
pub(super) struct Call {
    method: Method,
    /// The path below `/api/v1/mail/`. An element in braces is variable.
    path: &'static str,
    pub(super) need: Need,
    /// The schema of its body; empty: it has none.
    body: &'static str,
    /// The schema of its answer.
    answer: &'static str,
    /// The parameters that it may have, with blanks between them.
    parameters: &'static str,
    /// One sentence for people.
    summary: &'static str,
    pub(super) run: fn(Asked) -> Work,
}

impl Call {
    /// Whether it is the stream, which tokens of its own open.
    pub(super) fn is_stream(&self) -> bool {
        self.path == "mail/events"
    }

    /// Whether it has a body.
    pub(super) const fn has_body(&self) -> bool {
        !self.body.is_empty()
    }
}

/// A call, as it is described to programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MailCall {
    /// The method of HTTP.
    pub method: &'static str,
    /// The path below that of the API. An element in braces is variable.
    pub path: &'static str,
    /// The schema of its body; empty: it has none.
    pub body: &'static str,
    /// The schema of its answer: a name, `[NAME]` for a page of a list, `*NAME` for an array. One
    /// with a slash is the type of an answer that is not JSON.
    pub answer: &'static str,
    /// The parameters that it may have, with blanks between them.
    pub parameters: &'static str,
    /// It makes something (201).
    pub makes: bool,
    /// One sentence for people.
    pub summary: &'static str,
}

/// All calls of mailboxes and mail, as they are described to programs.
pub fn mail_calls() -> impl Iterator<Item = MailCall> {
    CALLS.iter().map(|call| MailCall {
        method: match call.method {
            Method::POST => "POST",
            Method::PUT => "PUT",
            Method::PATCH => "PATCH",
            Method::DELETE => "DELETE",
            _ => "GET",
        },
        path: call.path,
        body: call.body,
        answer: call.answer,
        parameters: call.parameters,
        makes: call.method == Method::POST && call.body.starts_with("New"),
        summary: call.summary,
    })
}

/// A line of the list: method, path, need, body and answer, parameters, summary, function.
macro_rules! calls {
    ($($method:ident $path:literal $need:ident ($body:literal -> $answer:literal)
        $parameters:literal $summary:literal => $run:path;)*) => {
        /// All calls. A fixed element stands before a variable one.
        pub(super) static CALLS: &[Call] = &[$(
            Call {
                method: Method::$method,
                path: concat!("mail/", $path),
                need: Need::$need,
                body: $body,
                answer: $answer,
                parameters: $parameters,
                summary: $summary,
                run: |asked| Box::pin($run(asked)),
            },
        )*];
    };
}

calls! {
    GET "webmail/folders" Read ("" -> "*Folder") ""
        "List the mailboxes of the account with their counts." => folders::list;
    POST "webmail/folders" Write ("NewFolder" -> "Folder") ""
        "Make a mailbox." => folders::make;
    PATCH "webmail/folders/{folder}" Write ("FolderName" -> "Folder") ""
        "Give a mailbox another name." => folders::rename;
    DELETE "webmail/folders/{folder}" Write ("" -> "Removed") ""
        "Remove an empty mailbox." => folders::remove;
    GET "webmail/quota" Read ("" -> "Quota") ""
        "Get how much mail the account has, and how much it may have." => folders::quota;
    GET "webmail/messages/{folder}" Read ("" -> "MessagePage")
        "page per_page cursor unseen label q"
        "List the messages of a mailbox, newest first." => rows::list;
    POST "webmail/messages/{folder}/batch" Write ("Batch" -> "BatchDone") ""
        "Change up to 1,000 messages: all of them, or none." => change::batch;
    GET "webmail/messages/{folder}/{uid}" Read ("" -> "MailMessage") "html images"
        "Get a message with its texts. Its HTML is cleaned." => message::get;
    DELETE "webmail/messages/{folder}/{uid}" Write ("" -> "DeletedMessage") "permanent"
        "Move a message to the trash, or delete it for good." => change::delete;
    GET "webmail/messages/{folder}/{uid}/raw" Read ("" -> "message/rfc822") ""
        "Get a message byte by byte." => message::raw;
    GET "webmail/messages/{folder}/{uid}/parts/{part}" Read ("" -> "application/octet-stream") ""
        "Get a part of a message, such as an attachment." => message::part;
    POST "webmail/messages/{folder}/{uid}/move" Write ("Move" -> "Place") ""
        "Move a message to another mailbox." => change::relocate;
    POST "webmail/messages/{folder}/{uid}/flags" Write ("FlagChange" -> "Flags") ""
        "Change the flags of a message." => change::flags;
    POST "webmail/messages/{folder}/{uid}/labels" Write ("LabelChange" -> "Labels") ""
        "Add labels to a message, and take others off." => change::labels;
    POST "webmail/send" Send ("NewMessage" -> "SentMessage") ""
        "Send a message." => send::send;
    POST "webmail/drafts" Write ("NewMessage" -> "Place") ""
        "Keep a draft." => send::make_draft;
    PUT "webmail/drafts/{uid}" Write ("NewMessage" -> "Place") ""
        "Keep a draft in the place of an earlier one." => send::replace_draft;
    GET "signatures" Read ("" -> "[Signature]") ""
        "List the signatures that the account has or gets." => signatures::list;
    POST "signatures" Write ("NewSignature" -> "Signature") ""
        "Add a signature." => signatures::add;
    GET "signatures/match" Read ("" -> "Signature") "to"
        "Get the signature for a recipient, or null." => signatures::match_to;
    GET "signatures/{id}" Read ("" -> "Signature") ""
        "Get a signature." => signatures::get;
    PUT "signatures/{id}" Write ("NewSignature" -> "Signature") ""
        "Change a signature. Absent fields stay." => signatures::change;
    PATCH "signatures/{id}" Write ("NewSignature" -> "Signature") ""
        "Change a signature. Absent fields stay." => signatures::change;
    DELETE "signatures/{id}" Write ("" -> "RemovedItem") ""
        "Remove a signature." => signatures::remove;
    GET "templates" Read ("" -> "[Template]") ""
        "List the templates of the account, and those that its domain shares." => templates::list;
    POST "templates" Write ("NewTemplate" -> "Template") ""
        "Add a template." => templates::add;
    GET "templates/{id}" Read ("" -> "Template") "version"
        "Get a template, or one of its last versions." => templates::get;
    PUT "templates/{id}" Write ("NewTemplate" -> "Template") ""
        "Change a template, which gets a new version. Absent fields stay." => templates::change;
    PATCH "templates/{id}" Write ("NewTemplate" -> "Template") ""
        "Change a template, which gets a new version. Absent fields stay." => templates::change;
    DELETE "templates/{id}" Write ("" -> "RemovedItem") ""
        "Remove a template." => templates::remove;
    POST "templates/{id}/render" Read ("Render" -> "Rendered") ""
        "Fill a template in, and send nothing." => templates::render;
    GET "scheduled" Read ("" -> "ScheduledPage") "per_page cursor"
        "List the messages that wait for the time at which they are to be sent." => scheduled::list;
    PATCH "scheduled/{id}" Send ("Reschedule" -> "Scheduled") ""
        "Give a message another time." => scheduled::change;
    DELETE "scheduled/{id}" Send ("" -> "CanceledMessage") ""
        "Cancel a message that waits." => scheduled::cancel;
    GET "rules" Read ("" -> "[Rule]") ""
        "List the rules of the account in the order in which they run." => rules::list;
    POST "rules" Write ("NewRule" -> "Rule") ""
        "Add a rule." => rules::add;
    GET "rules/{id}" Read ("" -> "Rule") ""
        "Get a rule with its script." => rules::get;
    PUT "rules/{id}" Write ("NewRule" -> "Rule") ""
        "Change a rule. Absent fields stay." => rules::change;
    PATCH "rules/{id}" Write ("NewRule" -> "Rule") ""
        "Change a rule. Absent fields stay." => rules::change;
    DELETE "rules/{id}" Write ("" -> "RemovedItem") ""
        "Remove a rule." => rules::remove;
    GET "auto-responder" Read ("" -> "AutoResponder") ""
        "Get the auto-responder." => rules::responder;
    PUT "auto-responder" Write ("AutoResponder" -> "AutoResponder") ""
        "Set the auto-responder." => rules::set_responder;
    DELETE "auto-responder" Write ("" -> "AutoResponder") ""
        "Remove the auto-responder." => rules::remove_responder;
    GET "contacts/autocomplete" Read ("" -> "*Contact") "q limit"
        "Complete an address or a name." => contacts::complete;
    GET "events" Read ("" -> "text/event-stream") "after token"
        "Hear of new mail and of changes of mailboxes: a WebSocket, or server-sent events."
        => events::stream;
    POST "events/token" Read ("" -> "StreamToken") ""
        "Get a token that opens one stream, for web pages." => events::token;
    GET "watcher/status" Read ("" -> "WatcherStatus") ""
        "Tell how many streams are open." => events::status;
}

/// The call of a path, with its variable elements.
pub(super) fn find(method: &Method, elements: &[String]) -> Option<(&'static Call, Vec<String>)> {
    CALLS.iter().find_map(|call| {
        let pattern = call.path.split('/');
        if call.method != *method || pattern.clone().count() != elements.len() {
            return None;
        }
        let mut variable = Vec::new();
        for (wanted, given) in pattern.zip(elements) {
            match wanted.starts_with('{') {
                true => variable.push(given.clone()),
                false if wanted == given => {}
                false => return None,
            }
        }
        Some((call, variable))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::{Map, Value};

    use super::*;
    use crate::mail::MAIL_SCHEMAS;

    #[test]
    fn each_call_stands_there_once_and_has_its_schemas() {
        let schemas: Map<String, Value> = serde_json::from_str(MAIL_SCHEMAS).unwrap();
        let mut seen = BTreeSet::new();
        let mut used = BTreeSet::from(["MessageRow", "Attachment"]);
        for call in mail_calls() {
            let is_new = seen.insert((call.path, call.method));
            assert!(is_new, "{} {}", call.method, call.path);
            let named = [call.body, call.answer].into_iter();
            let named = named.filter(|name| !name.is_empty() && !name.contains('/'));
            used.extend(named.map(|name| name.trim_matches(['[', ']', '*'])));
            let reads = call.method == "GET";
            assert!(!reads || call.body.is_empty(), "{}", call.path);
        }
        let there: BTreeSet<&str> = schemas.keys().map(String::as_str).collect();
        assert_eq!(used, there);
    }
}
