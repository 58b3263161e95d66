//! The documentation of the methods, as pages with a form to try each.

use std::fmt::Write;

/// A method that can be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Send,
}

impl Method {
    const ALL: [Self; 1] = [Self::Send];

    /// Names are case-sensitive.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.name() == name)
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Send => "Send",
        }
    }

    const fn about(self) -> &'static str {
        match self {
            Self::Send => {
                "Composes a message and queues it for each recipient. The answer says under which number the events of \
                 each recipient will come. When it is there, the message is safe."
            }
        }
    }

    const fn request(self) -> &'static str {
        match self {
            Self::Send => SEND_REQUEST,
        }
    }

    const fn response(self) -> &'static str {
        match self {
            Self::Send => SEND_RESPONSE,
        }
    }
}

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

fn page(title: &str, content: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n\
         <style>body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 50rem; margin: 2rem auto; padding: 0 1rem }}\n\
         pre, textarea {{ font: 14px/1.4 ui-monospace, monospace; background: #f4f4f4; padding: 0.5rem; width: 100%; box-sizing: border-box }}\n\
         </style>\n</head>\n<body>\n{content}</body>\n</html>\n"
    )
}

fn escaped(text: &str) -> String {
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
         JSON with <code>Code</code> and <code>Message</code>.</p>\n<ul>\n",
    );
    for method in Method::ALL {
        let _ = writeln!(
            content,
            "<li><a href=\"{0}\">{0}</a>: {1}</li>",
            method.name(),
            escaped(method.about())
        );
    }
    content.push_str("</ul>\n");
    page("postrider webapi", &content)
}

/// The page of a method.
pub(crate) fn method(method: Method) -> String {
    let content = format!(
        "<p><a href=\"./\">webapi v0</a></p>\n<h1>{name}</h1>\n<p>{about}</p>\n<h2>Request</h2>\n\
         <form method=\"post\" action=\"{name}\" enctype=\"multipart/form-data\">\n\
         <textarea name=\"request\" rows=\"{rows}\" spellcheck=\"false\">{request}</textarea>\n\
         <p><button>Call {name}</button></p>\n</form>\n<h2>Response</h2>\n<pre>{response}</pre>\n",
        name = method.name(),
        about = escaped(method.about()),
        rows = method.request().lines().count() + 1,
        request = escaped(method.request()),
        response = escaped(method.response()),
    );
    page(&format!("{} - postrider webapi", method.name()), &content)
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
        assert!(serde_json::from_str::<serde_json::Value>(SEND_REQUEST).is_ok());
        assert!(serde_json::from_str::<serde_json::Value>(SEND_RESPONSE).is_ok());
    }
}
