//! The message that a bounce returns: in a part of its own, or in the text of the bounce.

use std::{borrow::Cow, sync::LazyLock};

use mail_parser::{Message, MessagePart, MimeHeaders};
use regex::Regex;

use super::codes;
use crate::mime;

/// The most recipients of a returned message.
const RECIPIENTS_MAX: usize = 100;
/// How many lines after a marker the first header field may have.
const MARKED_MAX: usize = 4;
/// How many lines of a header section are looked at to tell it from a summary.
const BLOCK_MAX: usize = 40;

/// The facts of a returned message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Returned {
    /// The Message-ID, with `<` and `>`.
    pub(super) message_id: Option<String>,
    /// The addresses in From, in lower case.
    pub(super) from: Vec<String>,
    /// The addresses in To. Some providers name the one recipient in a field of their own.
    pub(super) to: Vec<String>,
    /// The addresses in Cc.
    pub(super) cc: Vec<String>,
}

impl Returned {
    pub(super) fn of(message: &Message<'_>) -> Self {
        let all = |field: Option<&mail_parser::Address<'_>>| {
            let addresses = field.into_iter().flat_map(|field| field.iter());
            let addresses = addresses.filter_map(|one| super::address(one.address()?));
            addresses.take(RECIPIENTS_MAX).collect::<Vec<_>>()
        };
        let named = message
            .header_raw("X-HmXmrOriginalRecipient")
            .and_then(super::address);
        let from = all(message.from());
        Self {
            message_id: message.message_id().map(|id| format!("<{id}>")),
            from: from.iter().map(|address| address.to_lowercase()).collect(),
            to: named.map_or_else(|| all(message.to()), |named| vec![named]),
            cc: all(message.cc()),
        }
    }

    /// The only recipient. None if there are several or none.
    pub(super) fn only(&self) -> Option<&String> {
        let first = self.to.first()?;
        let same = |other: &String| other.eq_ignore_ascii_case(first);
        self.to.iter().chain(&self.cc).all(same).then_some(first)
    }
}

/// The part has a header section of a message (RFC 6522 §4).
pub(super) fn is_header_part(part: &MessagePart<'_>) -> bool {
    let kind = part.content_type();
    let subtype = kind.and_then(|kind| kind.subtype()).unwrap_or_default();
    ["rfc822-headers", "global-headers", "rfc822-header"]
        .iter()
        .any(|name| subtype.eq_ignore_ascii_case(name))
}

#[expect(clippy::expect_used, reason = "a constant, which the tests compile")]
static FIELD: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(concat!(
        r"(?i)^[>|\s]{0,6}(?:received|return-path|message-id|from|to|cc|subject|date|mime-version",
        r"|content-(?:type|transfer-encoding|language|disposition)|reply-to|sender|delivered-to",
        r"|(?:dkim|domainkey)-signature|authentication-results|arc-[a-z-]+|received-spf|sent",
        r"|references|in-reply-to|list-[a-z]+|precedence|user-agent|importance|x-[a-z0-9-]+)\s*:",
    ))
    .expect("a pattern")
});

/// A field that only a header section has, and no summary of a message.
#[expect(clippy::expect_used, reason = "a constant, which the tests compile")]
static TRACE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(concat!(
        r"(?i)^[>|\s]{0,6}(?:received|return-path|message-id|mime-version|content-type|references",
        r"|content-transfer-encoding|(?:dkim|domainkey)-signature|x-[a-z0-9-]+)\s*:",
    ))
    .expect("a pattern")
});

/// Words for the message and for its place, in the languages of bounces.
const COPY: &str = concat!(
    r"original (?:message|mail|e-?mail|text|header)|(?-u:\b)copy(?-u:\b)|below this line|headers?(?-u:\b)|(?-u:\b)body(?-u:\b)",
    r"|(?:unsent|returned|undelivered|rejected|non-?deliver\w*|forwarded|enclosed) (?:message|mail)",
    r"|message text|urspr\x{fc}nglich|originalnachricht|d'origine|originale|oorspronkelijk",
    r"|\x{5143}\x{306e}|\x{539f}\x{59cb}|\x{438}\x{441}\x{445}\x{43e}\x{434}\x{43d}",
);

/// A line of dashes with words for the message.
#[expect(clippy::expect_used, reason = "a constant, which the tests compile")]
static DASHES: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(&format!(
        r"(?i)^\s*[-=_*~]{{2,}}\s*[^-].*(?:{COPY}|your message)"
    ))
    .expect("a pattern")
});

/// A line of dashes that is about the failure.
#[expect(clippy::expect_used, reason = "a constant, which the tests compile")]
static ABOUT: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"(?i)transcript|address|recipient|reason|diagnos|error|information|details|status|report|session|problem|failure",
    )
    .expect("a pattern")
});

/// A line that introduces the message without dashes. Header fields must follow.
#[expect(clippy::expect_used, reason = "a constant, which the tests compile")]
static INTRODUCTION: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(&format!(
        r"(?i)(?:{COPY}|message header|kopfzeilen|en-t\x{{ea}}tes|encabezados|intestazion|cabe\x{{e7}}alho)"
    ))
    .expect("a pattern")
});

/// The line looks like a header field.
pub(super) fn is_field(line: &str) -> bool {
    FIELD.is_match(line)
}

/// Splits a text into the words of the system and the returned message. An indented header section
/// may have more words of the system behind it.
pub(super) fn split(text: &str) -> (Cow<'_, str>, Option<&str>) {
    let lines: Vec<(usize, &str)> = starts(text);
    for (at, (start, line)) in lines.iter().enumerate() {
        let rest = lines.get(at + 1..).unwrap_or_default();
        let introduces = || {
            line.len() <= 120
                && !is_field(line)
                && INTRODUCTION.is_match(line)
                && codes::find(line).code == 0
                && field_soon(rest)
        };
        let before = text.get(..*start).unwrap_or(text);
        if DASHES.is_match(line) && !ABOUT.is_match(line) || introduces() {
            return (before.into(), text.get(*start..));
        }
        if begins_header(lines.get(at..).unwrap_or_default()) {
            let end = rest.iter().find(|(_, line)| begins_at_margin(line));
            let after = end.filter(|_| line.starts_with([' ', '\t']));
            let after = after.and_then(|(end, _)| text.get(*end..));
            let told = match after {
                Some(after) => format!("{before}\n{after}").into(),
                None => before.into(),
            };
            return (told, text.get(*start..));
        }
    }
    (text.into(), None)
}

fn begins_at_margin(line: &str) -> bool {
    !line.is_empty() && !line.starts_with([' ', '\t'])
}

/// The lines of a text, and where each begins.
fn starts(text: &str) -> Vec<(usize, &str)> {
    let mut at = 0;
    text.split_inclusive('\n')
        .map(|line| {
            let start = at;
            at += line.len();
            (start, line.trim_end())
        })
        .collect()
}

/// A header field that no summary has is among the next lines.
fn field_soon(rest: &[(usize, &str)]) -> bool {
    let mut next = rest.iter().take(MARKED_MAX).map(|(_, line)| *line);
    let first = next.clone().find(|line| !line.trim().is_empty());
    first.is_some_and(is_field) || next.any(|line| TRACE.is_match(line))
}

/// A block of header fields begins here, and it has a field that no summary has.
fn begins_header(lines: &[(usize, &str)]) -> bool {
    let mut block = lines.iter().map(|(_, line)| *line);
    let Some(first) = block.next() else {
        return false;
    };
    if !is_field(first) {
        return false;
    }
    let folded = |line: &str| line.starts_with([' ', '\t']) && !line.trim().is_empty();
    let block = block
        .take(BLOCK_MAX)
        .take_while(|line| is_field(line) || folded(line));
    let fields: Vec<&str> = std::iter::once(first)
        .chain(block)
        .filter(|line| is_field(line))
        .collect();
    fields.len() >= 2 && fields.iter().any(|line| TRACE.is_match(line))
}

/// The facts of a message in a text. Its lines may be indented or quoted.
pub(super) fn in_text(copy: &str) -> Returned {
    let mut header = String::new();
    for line in copy.lines() {
        let line = line.trim_end();
        let bare = line.trim_start().trim_start_matches(['>', '|']);
        if header.is_empty() {
            if !is_field(line) {
                continue;
            }
        } else if bare.trim().is_empty() {
            break;
        }
        if is_field(line) {
            header.push_str(bare.trim_start());
        } else {
            header.push(' ');
            header.push_str(bare.trim());
        }
        header.push_str("\r\n");
    }
    let message = mime::parser().parse_headers(header.as_bytes());
    message
        .map(|message| Returned::of(&message))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_split_before_the_message() {
        for (told, copy) in [
            (
                "a failure\n\n",
                "----- Original message -----\n\nTo: a@x.example\n",
            ),
            (
                "a failure\n\n",
                "------ This is a copy of the message ------\n\nTo: a@x.example\n",
            ),
            (
                "a failure\n\n",
                "Message headers follow.\n\nMessage-Id: <m@x.example>\nTo: a@x.example\n",
            ),
            (
                "a failure\n\n\n",
                "Message-ID:<m@x.example>\nTo:<a@x.example>\n",
            ),
            (
                "a failure\n",
                "Your original message:\n> Received: by x\n> To: a@x.example\n",
            ),
            (
                "a failure\n",
                "-- The header and top 20 lines of the message follows --\nx\n",
            ),
            (
                "The original message was received at noon\nfrom x.example\n",
                "",
            ),
            ("----- Transcript of session follows -----\n550 no\n", ""),
            (
                "----- The following addresses had errors in the original -----\na@x.example\n",
                "",
            ),
            (
                "Your message\n  To: a@x.example\n  Subject: x\ndid not reach\n",
                "",
            ),
            ("a failure of the original message: no\n", ""),
        ] {
            let text = format!("{told}{copy}");
            let expected = (told.into(), (!copy.is_empty()).then_some(copy));
            assert_eq!(split(&text), expected);
        }
        let indented = "  Message-ID: <m@x.example>\n  To: a@x.example\n\n550 no\n";
        let (told, copy) = split(indented);
        assert_eq!((&*told, copy), ("\n550 no\n", Some(indented)));
    }

    #[test]
    fn the_facts_of_a_message_in_a_text() {
        let copy = "--- copy ---\n\n  > Message-Id:\n  >  <m1@x.example>\n  > From: Me <Me@x.example>\n  > To: a@x.example,\n  >  A@X.example\n\nTo: other@x.example\n";
        let found = in_text(copy);
        assert_eq!(found.message_id.as_deref(), Some("<m1@x.example>"));
        assert_eq!(found.from, ["me@x.example"]);
        assert_eq!(found.only().unwrap(), "a@x.example");
        assert_eq!(in_text("no header"), Returned::default());
    }
}
