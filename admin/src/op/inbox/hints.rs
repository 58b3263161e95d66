//! What mail programs and receivers will not like about a message.

use postrider_webhook::message::Parsed;
use serde::{Deserialize, Serialize};

use super::{links::Looked, message::HeaderItem};

/// The size of HTML from which on Gmail shows only its beginning, in bytes.
const HTML_MAX: usize = 102 * 1024;

/// A hint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HintItem {
    /// What was found, as a short title.
    pub title: String,
    /// Why it matters, and what to do.
    pub text: String,
}

/// The hints for a message.
pub(super) fn hints(parsed: &Parsed, headers: &[HeaderItem], looked: &Looked) -> Vec<HintItem> {
    let mut hints = Vec::new();
    let mut hint = |title: &str, text: &str| {
        hints.push(HintItem {
            title: title.to_owned(),
            text: text.to_owned(),
        });
    };
    let field = |name: &str| {
        let mut headers = headers.iter();
        headers
            .find(|it| it.name.eq_ignore_ascii_case(name))
            .map(|it| it.value.as_str())
    };
    if parsed.text.trim().is_empty() && !parsed.html.is_empty() {
        hint(
            "There is no text part",
            "Some programs and readers show text only, and filters look for it. Add a text/plain \
             part before the HTML, in a multipart/alternative.",
        );
    }
    if parsed.text.trim().is_empty() && parsed.html.is_empty() {
        hint(
            "There is nothing to read",
            "The message has neither text nor HTML.",
        );
    }
    if parsed.subject.trim().is_empty() {
        hint(
            "There is no subject",
            "People see an empty line in their inbox.",
        );
    }
    if field("Date").is_none() {
        hint(
            "There is no Date field",
            "RFC 5322 requires it. Many filters count its absence.",
        );
    }
    if parsed.message_id.is_empty() {
        hint(
            "There is no Message-ID",
            "Answers and reports can't name the message. Many filters count its absence.",
        );
    }
    match looked.images_without_alt {
        0 => {}
        count => hint(
            &format!("{count} images have no alt text"),
            "Who blocks images, or hears the message, does not learn what they show. Decoration \
             has alt=\"\".",
        ),
    }
    if parsed.html.len() > HTML_MAX {
        hint(
            &format!("The HTML has {} kB", parsed.html.len() / 1024),
            "Gmail shows the first 102 kB only. What follows, often the link to unsubscribe, is \
             hidden behind another link.",
        );
    }
    for name in &looked.left_out {
        hint(
            &format!("The HTML has an element <{name}>"),
            "Mail programs leave it out, and filters count it.",
        );
    }
    let broken = looked
        .links()
        .iter()
        .filter(|link| !link.problems.is_empty())
        .count();
    if broken > 0 {
        hint(
            &format!("{broken} links have a problem"),
            "The tab with the links says which, and what.",
        );
    }
    let precedence = field("Precedence").unwrap_or_default().to_ascii_lowercase();
    let unsubscribe = field("List-Unsubscribe");
    let is_bulk = unsubscribe.is_some()
        || field("List-Id").is_some()
        || matches!(precedence.trim(), "bulk" | "list");
    let by_https = unsubscribe.is_some_and(|it| it.to_ascii_lowercase().contains("<https:"));
    let post = field("List-Unsubscribe-Post").unwrap_or_default();
    let one_click = post
        .trim()
        .eq_ignore_ascii_case("List-Unsubscribe=One-Click");
    if is_bulk && !(by_https && one_click) {
        hint(
            "Bulk mail without one-click unsubscribe",
            "Gmail and Yahoo require List-Unsubscribe with an https URL, and \
             List-Unsubscribe-Post: List-Unsubscribe=One-Click (RFC 8058).",
        );
    }
    hints
}

#[cfg(test)]
mod tests {
    use postrider_webhook::message;

    use super::{super::links, *};

    fn titles(text: &str) -> Vec<String> {
        let parsed = message::parse(text.as_bytes(), Default::default());
        let fields = postrider_smtp::field::fields(text.as_bytes());
        let headers: Vec<HeaderItem> = fields.map(HeaderItem::from).collect();
        let looked = links::look(&parsed.html);
        hints(&parsed, &headers, &looked)
            .into_iter()
            .map(|it| it.title)
            .collect()
    }

    #[test]
    fn hints_name_what_is_missing() {
        let good = "Subject: a\r\nDate: Mon, 30 Nov 2026 10:00:00 +0000\r\nMessage-ID: <a@b>\r\n";
        assert_eq!(titles(&format!("{good}\r\nHi\r\n")), [""; 0]);
        assert_eq!(
            titles("Content-Type: text/html\r\n\r\n<img src=x><script></script>"),
            [
                "There is no text part",
                "There is no subject",
                "There is no Date field",
                "There is no Message-ID",
                "1 images have no alt text",
                "The HTML has an element <script>",
            ]
        );
        let bulk = "List-Unsubscribe: <https://a.test/u>\r\n";
        let post = "List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n";
        assert_eq!(titles(&format!("{good}{bulk}{post}\r\nHi\r\n")), [""; 0]);
        assert_eq!(
            titles(&format!("{good}{bulk}\r\nHi\r\n")),
            ["Bulk mail without one-click unsubscribe"]
        );
        let html = format!("<p>{}</p>", "x".repeat(HTML_MAX));
        let large = format!("{good}Content-Type: text/html\r\n\r\n{html}");
        assert!(titles(&large).contains(&"The HTML has 102 kB".to_owned()));
    }
}
