//! The documentation of the methods: a page for each, with a form to try it.

use std::fmt::Write;

use super::method::Method;
use crate::http::page::{escaped, page};

/// The content of a method's page.
struct About {
    about: &'static str,
    /// An example.
    request: &'static str,
    /// An example. None for a method that answers with bytes.
    response: Option<&'static str>,
}

impl Method {
    const fn about(self) -> About {
        let (about, request, response) = match self {
            Self::Send => (
                "Composes a message and queues it for each recipient. The answer has a number for each recipient; the \
                 recipient's events have the same number. After the answer, the message is safe.",
                SEND_REQUEST,
                Some(SEND_RESPONSE),
            ),
            Self::SuppressionList => (
                "Lists the addresses to which your account does not send.",
                "{}",
                Some(LIST_RESPONSE),
            ),
            Self::SuppressionAdd => (
                "Adds an address, and so all its variants: with other case, with dots, with text after + or -.",
                ADD_REQUEST,
                Some("{}"),
            ),
            Self::SuppressionRemove => (
                "Removes an address with all its variants, so that your account sends to it again.",
                ADDRESS_REQUEST,
                Some("{}"),
            ),
            Self::SuppressionPresent => (
                "Tells whether an address or one of its variants is on the list.",
                ADDRESS_REQUEST,
                Some("{\n  \"Present\": true\n}"),
            ),
            Self::MessageGet => (
                "Describes a received message: its addresses, its texts (at most 1 MiB each), the structure of its parts, \
                 and its arrival.",
                ID_REQUEST,
                Some(GET_RESPONSE),
            ),
            Self::MessageRawGet => (
                "Gives the bytes of a received message, header included.",
                ID_REQUEST,
                None,
            ),
            Self::MessagePartGet => (
                "Gives a part of a received message without its transfer encoding. PartPath has the places, from 0, in \
                 the Parts of MessageGet's Structure. The empty PartPath is the body of the whole message.",
                PART_REQUEST,
                None,
            ),
            Self::MessageDelete => ("Removes a message.", ID_REQUEST, Some("{}")),
            Self::MessageFlagsAdd => (
                "Adds flags to a message: system flags such as \\seen, \\answered and $junk, or keywords of your own.",
                FLAGS_REQUEST,
                Some("{}"),
            ),
            Self::MessageFlagsRemove => {
                ("Removes flags from a message.", FLAGS_REQUEST, Some("{}"))
            }
            Self::MessageMove => (
                "Moves a message to another mailbox. Its number stays the same.",
                MOVE_REQUEST,
                Some("{}"),
            ),
        };
        About {
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
  "From": [],
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

/// The list of methods.
pub(super) fn index() -> String {
    let mut content = String::from(
        "<h1>webapi v0</h1>\n\
         <p>Call a method with POST, HTTP basic authentication (an address of your account and its password), and a form whose \
         field <code>request</code> holds JSON. A successful call has status 200. A failed call has status 400 and \
         JSON with <code>Code</code> and <code>Message</code>. \
         <a href=\"../v1/\">v1</a> has more methods.</p>\n<ul>\n",
    );
    for method in Method::ALL {
        let (name, About { about, .. }) = (method.name(), method.about());
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
pub(super) fn method(method: Method) -> String {
    let name = method.name();
    let About {
        about,
        request,
        response,
    } = method.about();
    let response = match response {
        Some(example) => format!("<pre>{}</pre>", escaped(example)),
        None => "<p>The bytes.</p>".to_owned(),
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
    fn pages_have_forms_and_examples() {
        assert!(index().contains("href=\"Send\""));
        let page = method(Method::Send);
        assert!(
            page.contains("&quot;Subject&quot;") && page.contains("QueueMsgID"),
            "{page}"
        );
        assert!(page.contains("<input type=\"file\" name=\"attachedfile\" multiple>"));
        for method in Method::ALL {
            let name = method.name();
            let About {
                request, response, ..
            } = method.about();
            assert_eq!(Method::from_name(name), Some(method));
            for json in [request].into_iter().chain(response) {
                let read = serde_json::from_str::<serde_json::Value>(json);
                assert!(read.is_ok(), "{name}: {read:?}");
            }
        }
    }
}
