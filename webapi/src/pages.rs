//! The documentation of the methods, as pages with a form to try each.

use std::fmt::Write;

use axum::{
    http::{
        HeaderValue, StatusCode,
        header::{
            CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
        },
    },
    response::{Html, IntoResponse, Response},
};
use postrider_store::Scope;

/// A method that can be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Send,
    SuppressionList,
    SuppressionAdd,
    SuppressionRemove,
    SuppressionPresent,
    MessageGet,
    MessageRawGet,
    MessagePartGet,
    MessageDelete,
    MessageFlagsAdd,
    MessageFlagsRemove,
    MessageMove,
}

/// What a method's page says.
struct About {
    name: &'static str,
    about: &'static str,
    /// An example.
    request: &'static str,
    /// An example; None: bytes.
    response: Option<&'static str>,
}

impl Method {
    pub(crate) const ALL: [Self; 12] = [
        Self::Send,
        Self::SuppressionList,
        Self::SuppressionAdd,
        Self::SuppressionRemove,
        Self::SuppressionPresent,
        Self::MessageGet,
        Self::MessageRawGet,
        Self::MessagePartGet,
        Self::MessageDelete,
        Self::MessageFlagsAdd,
        Self::MessageFlagsRemove,
        Self::MessageMove,
    ];

    /// What a key must be for, to call it.
    pub(crate) const fn scope(self) -> Scope {
        match self {
            Self::Send => Scope::Send,
            Self::SuppressionList
            | Self::SuppressionAdd
            | Self::SuppressionRemove
            | Self::SuppressionPresent => Scope::Suppression,
            Self::MessageGet
            | Self::MessageRawGet
            | Self::MessagePartGet
            | Self::MessageDelete
            | Self::MessageFlagsAdd
            | Self::MessageFlagsRemove
            | Self::MessageMove => Scope::Messages,
        }
    }

    /// Names are case-sensitive.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.name() == name)
    }

    pub(crate) const fn name(self) -> &'static str {
        self.about().name
    }

    const fn about(self) -> About {
        let (name, about, request, response) = match self {
            Self::Send => (
                "Send",
                "Composes a message and queues it for each recipient. The answer says under which number the events of \
                 each recipient will come. When it is there, the message is safe.",
                SEND_REQUEST,
                Some(SEND_RESPONSE),
            ),
            Self::SuppressionList => (
                "SuppressionList",
                "Lists the addresses that your account does not send to any more.",
                "{}",
                Some(LIST_RESPONSE),
            ),
            Self::SuppressionAdd => (
                "SuppressionAdd",
                "Adds an address. All its variants (other case, dots, what follows + or -) are meant.",
                ADD_REQUEST,
                Some("{}"),
            ),
            Self::SuppressionRemove => (
                "SuppressionRemove",
                "Removes an address with all its variants, so that it is sent to again.",
                ADDRESS_REQUEST,
                Some("{}"),
            ),
            Self::SuppressionPresent => (
                "SuppressionPresent",
                "Tells whether an address, or a variant of it, is on the list.",
                ADDRESS_REQUEST,
                Some("{\n  \"Present\": true\n}"),
            ),
            Self::MessageGet => (
                "MessageGet",
                "Gives a received message: its addresses, its texts (at most 1 MiB each), the structure of its parts, and \
                 what is known of its coming.",
                ID_REQUEST,
                Some(GET_RESPONSE),
            ),
            Self::MessageRawGet => (
                "MessageRawGet",
                "Gives a received message as it is, with its header.",
                ID_REQUEST,
                None,
            ),
            Self::MessagePartGet => (
                "MessagePartGet",
                "Gives a part of a received message without its transfer encoding. PartPath has the places, from 0, in \
                 the Parts of MessageGet's Structure; the empty one is the body of the whole message.",
                PART_REQUEST,
                None,
            ),
            Self::MessageDelete => (
                "MessageDelete",
                "Removes a message for good.",
                ID_REQUEST,
                Some("{}"),
            ),
            Self::MessageFlagsAdd => (
                "MessageFlagsAdd",
                "Adds flags to a message: system flags such as \\seen, \\answered and $junk, or keywords of your own.",
                FLAGS_REQUEST,
                Some("{}"),
            ),
            Self::MessageFlagsRemove => (
                "MessageFlagsRemove",
                "Takes flags off a message.",
                FLAGS_REQUEST,
                Some("{}"),
            ),
            Self::MessageMove => (
                "MessageMove",
                "Moves a message to another mailbox. Its number stays the same.",
                MOVE_REQUEST,
                Some("{}"),
            ),
        };
        About {
            name,
            about,
            request,
            response,
        }
    }
}

const LIST_RESPONSE: &str = r#"{
  "Suppressions": [
    {
      "ID": 1,
      "Created": "2026-01-02T15:04:05Z",
      "Account": "shop",
      "BaseAddress": "janedoe@example.com",
      "OriginalAddress": "Jane.Doe+orders@example.com",
      "Manual": false,
      "Reason": "queue: 550, 5.1.1"
    }
  ]
}"#;

const ADD_REQUEST: &str = r#"{
  "EmailAddress": "jane.doe@example.com",
  "Manual": true,
  "Reason": "asked by phone"
}"#;

const ADDRESS_REQUEST: &str = r#"{
  "EmailAddress": "jane.doe@example.com"
}"#;

const ID_REQUEST: &str = r#"{
  "MsgID": 42
}"#;

const PART_REQUEST: &str = r#"{
  "MsgID": 42,
  "PartPath": [0, 1]
}"#;

const FLAGS_REQUEST: &str = r#"{
  "MsgID": 42,
  "Flags": ["\\seen", "handled"]
}"#;

const MOVE_REQUEST: &str = r#"{
  "MsgID": 42,
  "DestMailboxName": "Archive"
}"#;

const GET_RESPONSE: &str = r#"{
  "Message": {
    "From": [{"Name": "Jane Doe", "Address": "jane@example.com"}],
    "To": [{"Name": "", "Address": "shop@example.org"}],
    "CC": [],
    "BCC": [],
    "ReplyTo": [],
    "MessageID": "<1@example.com>",
    "References": [],
    "Date": "2026-01-02T15:04:05+01:00",
    "Subject": "My order",
    "Text": "Where is it?\n",
    "HTML": ""
  },
  "Structure": {
    "ContentType": "text/plain",
    "ContentTypeParams": {"charset": "utf-8"},
    "ContentID": "",
    "ContentDisposition": "",
    "Filename": "",
    "DecodedSize": 14,
    "Parts": []
  },
  "Meta": {
    "Size": 1042,
    "DSN": false,
    "Flags": ["\\seen", "handled"],
    "MailFrom": "jane@example.com",
    "MailFromValidated": false,
    "RcptTo": "shop@example.org",
    "MsgFrom": "jane@example.com",
    "MsgFromValidated": false,
    "DKIMVerifiedDomains": [],
    "RemoteIP": "192.0.2.1",
    "MailboxName": "Inbox"
  }
}"#;

const SEND_REQUEST: &str = r#"{
  "From": [{"Name": "Shop", "Address": "shop@example.org"}],
  "To": [{"Name": "Jane Doe", "Address": "jane@example.com"}],
  "CC": [],
  "BCC": [],
  "ReplyTo": [],
  "MessageID": "",
  "References": [],
  "Date": null,
  "Subject": "Your order",
  "Text": "Thank you for your order.\n",
  "HTML": "<p>Thank you for your <b>order</b>.</p>",
  "Extra": {"OrderID": "42"},
  "Headers": [["X-Campaign", "orders"]],
  "AlternativeFiles": [],
  "InlineFiles": [],
  "AttachedFiles": [{"Name": "order.txt", "ContentType": "text/plain", "ContentID": "", "Data": "NDIK"}],
  "RequireTLS": null,
  "FutureRelease": null,
  "SaveSent": false
}"#;

const SEND_RESPONSE: &str = r#"{
  "MessageID": "<kVTha0Q-a5Zh1MuTh5rUjg@mail.example.org>",
  "Submissions": [{"Address": "jane@example.com", "QueueMsgID": 1, "FromID": ""}]
}"#;

pub(crate) fn page(title: &str, content: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n\
         <style>body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 50rem; margin: 2rem auto; padding: 0 1rem }}\n\
         pre, textarea {{ font: 14px/1.4 ui-monospace, monospace; background: #f4f4f4; padding: 0.5rem; width: 100%; box-sizing: border-box }}\n\
         </style>\n</head>\n<body>\n{content}</body>\n</html>\n"
    )
}

/// Answers with a page. It runs no program, loads nothing, is shown within no other site's page, and its address, which may be
/// somebody's own, is told to no other site.
pub(crate) fn answer(status: StatusCode, page: String) -> Response {
    let headers = [
        (
            CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
        ),
        (X_FRAME_OPTIONS, "DENY"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "same-origin"),
    ];
    let headers = headers.map(|(name, value)| (name, HeaderValue::from_static(value)));
    (status, headers, Html(page)).into_response()
}

pub(crate) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

/// The list of methods.
pub(crate) fn index() -> String {
    let mut content = String::from(
        "<h1>webapi v0</h1>\n\
         <p>Call a method with POST, HTTP basic authentication (an address of your account and its password), and a form whose \
         field <code>request</code> holds JSON. A call that worked is answered with status 200, one that did not with 400 and \
         JSON with <code>Code</code> and <code>Message</code>. \
         <a href=\"../v1/\">v1</a> has what these methods lack.</p>\n<ul>\n",
    );
    for method in Method::ALL {
        let About { name, about, .. } = method.about();
        let _ = writeln!(
            content,
            "<li><a href=\"{name}\">{name}</a>: {}</li>",
            escaped(about)
        );
    }
    content.push_str("</ul>\n");
    page("postrider webapi", &content)
}

/// The page of a method.
pub(crate) fn method(method: Method) -> String {
    let About {
        name,
        about,
        request,
        response,
    } = method.about();
    let response = match response {
        Some(example) => format!("<pre>{}</pre>", escaped(example)),
        None => "<p>The bytes themselves.</p>".to_owned(),
    };
    let files = if method == Method::Send {
        ["alternativefile", "inlinefile", "attachedfile"]
            .map(|name| {
                format!(
                    "<p><label>{name} <input type=\"file\" name=\"{name}\" multiple></label></p>\n"
                )
            })
            .concat()
    } else {
        String::new()
    };
    let content = format!(
        "<p><a href=\"./\">webapi v0</a></p>\n<h1>{name}</h1>\n<p>{about}</p>\n<h2>Request</h2>\n\
         <form method=\"post\" action=\"{name}\" enctype=\"multipart/form-data\">\n\
         <textarea name=\"request\" rows=\"{rows}\" spellcheck=\"false\">{request}</textarea>\n\
         {files}<p><button>Call {name}</button></p>\n</form>\n<h2>Response</h2>\n{response}\n",
        about = escaped(about),
        rows = request.lines().count() + 1,
        request = escaped(request),
    );
    page(&format!("{name} - postrider webapi"), &content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_have_what_they_tell_of() {
        assert!(index().contains("href=\"Send\""));
        let page = method(Method::Send);
        assert!(
            page.contains("&quot;Subject&quot;") && page.contains("QueueMsgID"),
            "{page}"
        );
        assert!(page.contains("<input type=\"file\" name=\"attachedfile\" multiple>"));
        for method in Method::ALL {
            let About {
                name,
                request,
                response,
                ..
            } = method.about();
            assert_eq!(Method::from_name(name), Some(method));
            for json in [request].into_iter().chain(response) {
                let read = serde_json::from_str::<serde_json::Value>(json);
                assert!(read.is_ok(), "{name}: {read:?}");
            }
        }
    }
}
