//! Reply codes and enhanced status codes in the texts of other systems.

use std::sync::LazyLock;

use regex::Regex;

use crate::EnhancedCode;

/// A reply code of a failure, with an enhanced code directly after it.
#[expect(clippy::expect_used, reason = "a constant, which the tests compile")]
static REPLY: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(concat!(
        r#"(?:^|[\s:;,(\[<'#"=])([45]\d\d)"#,
        r#"(?:[\s\-,:;(\[#"'<]+([245])\.(\d{1,3})\.(\d{1,3})(?-u:\b)"#,
        r#"|[\s\-:;,)\]'"<>#/]|\.(?:\s|$)|$)"#,
    ))
    .expect("a pattern")
});

/// An enhanced code alone.
#[expect(clippy::expect_used, reason = "a constant, which the tests compile")]
static STATUS: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(concat!(
        r#"(?:^|[\s:;,(\[<'#"=_])([245])\.([0-7])\.(\d{1,3})"#,
        r#"(?:$|[\s:;,)\]>'"<(/_-]|\.(?:$|\s))"#,
    ))
    .expect("a pattern")
});

/// Numbers that look like codes: sizes, IP addresses, times.
#[expect(clippy::expect_used, reason = "a constant, which the tests compile")]
static OTHER: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(concat!(
        r"(?i)(?-u:\b)size\s*=\s*\d+|\[[0-9a-f.]*:[0-9a-f:.]*\]|(?-u:\b)[0-9a-f]{1,4}:(?:[0-9a-f]{0,4}:)+[0-9a-f]{0,4}",
        r"|(?-u:\b)\d{1,3}(?:\.\d{1,3}){3}(?-u:\b)|(?-u:\b)\d+ (?:bytes|octets|[km]i?b(?-u:\b)|lines|sec|minutes|hours|days)",
    ))
    .expect("a pattern")
});

/// The codes in a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Codes {
    /// The reply code. 0 without one.
    pub(super) code: u16,
    pub(super) enhanced: Option<EnhancedCode>,
}

/// The first codes of a failure in a text.
pub(super) fn find(text: &str) -> Codes {
    let text = &OTHER.replace_all(text, " ");
    let mut codes = Codes::default();
    if let Some(found) = REPLY.captures(text) {
        codes.code = number(&found, 1).unwrap_or_default();
        codes.enhanced = enhanced(&found, 2);
    }
    if codes.enhanced.is_none()
        && let Some(found) = STATUS.captures(text)
    {
        let class = number(&found, 1).unwrap_or_default();
        // A code of another class is about something else.
        if codes.code == 0 || codes.code / 100 == class {
            codes.enhanced = enhanced(&found, 1);
        }
    }
    codes
}

/// The code in a Status field, which may have text after it.
pub(super) fn status(value: &str) -> Option<EnhancedCode> {
    STATUS.captures(value).and_then(|found| enhanced(&found, 1))
}

fn number(found: &regex::Captures<'_>, at: usize) -> Option<u16> {
    found.get(at)?.as_str().parse().ok()
}

fn enhanced(found: &regex::Captures<'_>, at: usize) -> Option<EnhancedCode> {
    Some(EnhancedCode {
        class: u8::try_from(number(found, at)?).ok()?,
        subject: number(found, at + 1)?,
        detail: number(found, at + 2)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_found() {
        for (text, code, enhanced) in [
            ("550 5.1.1 no such user", 550, "5.1.1"),
            ("550-5.1.1 The email account", 550, "5.1.1"),
            ("550 #5.1.0 Address rejected", 550, "5.1.0"),
            ("550 (5.7.1) refused", 550, "5.7.1"),
            ("553 sorry, no mailbox here (#5.1.1)", 553, "5.1.1"),
            ("smtp;550 5.2.2 full", 550, "5.2.2"),
            ("host mx.x.org [192.0.2.1] said: 554 no", 554, ""),
            ("5.4.4 unable to route", 0, "5.4.4"),
            ("(#5.1.2)", 0, "5.1.2"),
            ("452 4.2.2 over quota; see 5.1.1", 452, "4.2.2"),
            ("550 no; but 4.2.1", 550, ""),
            ("error 550: no", 550, ""),
            ("550", 550, ""),
            ("192.0.2.250 port 25", 0, ""),
            ("ordered 5.1.12.3", 0, ""),
            ("in 2550 days", 0, ""),
            ("550-'5.2.2 <x@y.example>... Mailbox Full'", 550, "5.2.2"),
            (
                "Invalid, ERROR_CODE :550, ERROR_CODE :5.1.1 <x>",
                550,
                "5.1.1",
            ),
            ("MAIL FROM:<x@y.example> SIZE=552: 550 no", 550, ""),
            (
                "[(0) c.example. [2001:db8:550:1::7]:25: socket error]",
                0,
                "",
            ),
            ("at 10:550:20, 550 no", 550, ""),
            ("250 ok, 550 no", 550, ""),
            ("250 ok", 0, ""),
            ("a size of 552 bytes", 0, ""),
            ("said:550:no", 550, ""),
            ("Exim 4.92.1", 0, ""),
            ("", 0, ""),
        ] {
            let codes = find(text);
            let found = codes.enhanced.map(|code| code.to_string());
            let expected = (code, enhanced.to_owned());
            assert_eq!((codes.code, found.unwrap_or_default()), expected, "{text}");
        }
        assert_eq!(status("5.1.1 (unknown)").unwrap().to_string(), "5.1.1");
        assert_eq!(status("failed"), None);
    }
}
