//! Delivery reports in the fields of RFC 3464 and RFC 6533.
//!
//! Real reports are loose, so this parser is. Fields come in any order or are missing. There are
//! too few or too many blank lines. Addresses and codes have other text around them.

use super::{
    Fault, Format, RECIPIENTS_MAX, Recipient, Report, Said, address, classify,
    codes::{self, Codes},
    one_line,
};
use crate::{EnhancedCode, Stage, dsn::Action, params::xtext};

/// The most bytes of the fields.
const READ_MAX: usize = 1 << 20;

/// The fields of one recipient so far.
#[derive(Default)]
struct Entry {
    final_recipient: Option<String>,
    original_recipient: Option<String>,
    action: Option<String>,
    status: Option<EnhancedCode>,
    remote_mta: Option<String>,
    diagnostic: Option<Diagnostic>,
}

struct Diagnostic {
    kind: String,
    text: String,
}

/// The text begins with such fields.
pub(super) fn looks_like_fields(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text.get(..text.len().min(4096)).unwrap_or(text));
    let lower = text.to_ascii_lowercase();
    lower.contains("final-recipient:") && (lower.contains("action:") || lower.contains("status:"))
}

/// Reads the fields. `text` may have those of several parts, with a blank line between them.
pub(super) fn read(text: &[u8], original_message_id: Option<String>) -> Result<Report, Fault> {
    let (mut report, mut entries) = parse(text, original_message_id);
    entries.retain(Entry::has_address);
    if entries.is_empty() {
        return Err(Fault::NoRecipient);
    }
    let recipients: Option<Vec<Recipient>> = entries.into_iter().map(Entry::recipient).collect();
    report.recipients = recipients.ok_or(Fault::NoAction)?;
    Ok(report)
}

/// The report without recipients, and the only result without an address.
pub(super) fn without_address(text: &[u8]) -> (Report, Option<Recipient>) {
    let (report, entries) = parse(text, None);
    let mut results = entries.into_iter().filter_map(Entry::recipient);
    let only = results.next().filter(|_| results.next().is_none());
    (report, only)
}

fn parse(text: &[u8], original_message_id: Option<String>) -> (Report, Vec<Entry>) {
    let text = text.get(..READ_MAX).unwrap_or(text);
    let text = String::from_utf8_lossy(text);
    let mut report = Report {
        format: Format::Dsn,
        envid: None,
        reporting_mta: None,
        recipients: Vec::new(),
        original_message_id,
    };
    let mut entries: Vec<Entry> = Vec::new();
    let mut fresh = true;
    for line in unfolded(&text) {
        let Some((name, value)) = line.split_once(':') else {
            fresh |= line.trim().is_empty();
            continue;
        };
        let name = name.trim().to_ascii_lowercase();
        let value = value.trim();
        match name.as_str() {
            "original-envelope-id" => report.envid = Some(envid(value)),
            "reporting-mta" => report.reporting_mta = Some(typed(value).1.to_owned()),
            "final-recipient" | "original-recipient" | "action" | "status" | "remote-mta"
            | "diagnostic-code" => {
                if starts_anew(&name, fresh, entries.last()) {
                    if entries.len() >= RECIPIENTS_MAX {
                        break;
                    }
                    entries.push(Entry::default());
                }
                fresh = false;
                if let Some(entry) = entries.last_mut() {
                    entry.set(&name, value);
                }
            }
            _ => {}
        }
    }
    (report, entries)
}

/// The fields in a raw mail whose parts cannot be told apart.
pub(super) fn in_raw(text: &[u8]) -> Option<&[u8]> {
    let text = text.get(..READ_MAX).unwrap_or(text);
    let mut from = None;
    let mut has_recipient = false;
    let mut at = 0;
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        let begins = |name: &[u8]| {
            let start = line.get(..name.len());
            start.is_some_and(|start| start.eq_ignore_ascii_case(name))
        };
        let recipient = begins(b"final-recipient:") || begins(b"original-recipient:");
        if from.is_none() && (recipient || begins(b"reporting-mta:")) {
            from = Some(at);
        }
        has_recipient |= recipient;
        if has_recipient && line.starts_with(b"--") {
            break;
        }
        at += line.len();
    }
    has_recipient.then_some(())?;
    text.get(from?..at)
}

/// The field belongs to another recipient than the field before it. A blank line alone does not
/// tell, since some reports have one between the fields of one recipient.
fn starts_anew(name: &str, fresh: bool, last: Option<&Entry>) -> bool {
    let Some(last) = last else {
        return true;
    };
    match name {
        "final-recipient" => last.final_recipient.is_some(),
        "original-recipient" => {
            last.original_recipient.is_some() || (fresh && last.final_recipient.is_some())
        }
        "action" => last.action.is_some() && fresh,
        _ => false,
    }
}

/// The unfolded lines of a text.
fn unfolded(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut in_field = false;
    for line in text.lines() {
        let line = line.trim_end_matches('\r');
        let folded = line.starts_with([' ', '\t']) && !line.trim().is_empty();
        match lines.last_mut() {
            Some(last) if folded && in_field => {
                last.push(' ');
                last.push_str(line.trim());
            }
            _ => {
                in_field = line.contains(':');
                lines.push(line.to_owned());
            }
        }
    }
    lines
}

impl Entry {
    fn has_address(&self) -> bool {
        self.final_recipient.is_some() || self.original_recipient.is_some()
    }

    fn set(&mut self, name: &str, value: &str) {
        match name {
            "final-recipient" => self.final_recipient = recipient_address(value),
            "original-recipient" => self.original_recipient = recipient_address(value),
            "action" => {
                let word = value.split(|c: char| !c.is_ascii_alphabetic()).next();
                self.action = word.map(str::to_ascii_lowercase);
            }
            "status" => self.status = self.status.or_else(|| codes::status(value)),
            "remote-mta" => {
                let host = typed(value).1;
                self.remote_mta = Some(host.to_owned()).filter(|host| !host.is_empty());
            }
            // The first of several is the server's.
            _ if self.diagnostic.is_none() => {
                let (kind, text) = typed(value);
                self.diagnostic = Some(Diagnostic {
                    kind: kind.to_ascii_lowercase(),
                    text: one_line(text),
                });
            }
            _ => {}
        }
    }

    /// The result for the recipient. None without an action.
    fn recipient(self) -> Option<Recipient> {
        let action = match (self.action.as_deref(), self.status) {
            (
                Some("failed" | "failure" | "fail" | "expired" | "bounced" | "error" | "rejected"),
                _,
            ) => Action::Failed,
            (Some("delayed" | "delay" | "deferred"), _) => Action::Delayed,
            (Some("delivered"), _) => Action::Delivered,
            (Some("relayed"), _) => Action::Relayed,
            (Some("expanded"), _) => Action::Expanded,
            (None | Some(""), Some(status)) => match status.class {
                2 => Action::Delivered,
                4 => Action::Delayed,
                _ => Action::Failed,
            },
            (None | Some(""), None) if self.codes().code != 0 => Action::Failed,
            _ => return None,
        };
        let failure = matches!(action, Action::Failed | Action::Delayed);
        let Codes { code, enhanced } = if failure {
            self.codes()
        } else {
            Codes {
                code: 0,
                enhanced: self.status,
            }
        };
        let diagnostic = match (self.diagnostic, self.status) {
            (Some(diagnostic), _) if !diagnostic.text.is_empty() => diagnostic.text,
            (_, Some(status)) => format!("{} ({status})", action.name()),
            _ => action.name().to_owned(),
        };
        let stage = Stage::in_text(&diagnostic);
        let class = classify(&Said {
            stage,
            code,
            enhanced,
            text: &diagnostic,
        });
        Some(Recipient {
            final_recipient: self.final_recipient,
            original_recipient: self.original_recipient,
            action,
            code,
            enhanced,
            remote_mta: self.remote_mta,
            stage,
            diagnostic,
            class,
        })
    }

    /// The codes in the diagnostic if it is a reply, and otherwise those of the status.
    fn codes(&self) -> Codes {
        let mut codes = Codes::default();
        if let Some(diagnostic) = &self.diagnostic
            && (diagnostic.kind.is_empty() || diagnostic.kind != "x-unix")
        {
            codes = codes::find(&diagnostic.text);
        }
        let Some(status) = self.status else {
            if codes.code == 0 && self.action.is_some() {
                codes.code = codes
                    .enhanced
                    .map_or(500, |code| u16::from(code.class) * 100);
            }
            return codes;
        };
        if codes.code == 0 {
            codes.code = u16::from(status.class) * 100;
            let generic = (status.subject, status.detail) == (0, 0);
            let better = codes
                .enhanced
                .filter(|code| generic && code.class == status.class);
            codes.enhanced = better.or(Some(status));
        }
        if codes.enhanced.is_none() && codes.code / 100 == u16::from(status.class) {
            codes.enhanced = Some(status);
        }
        codes
    }
}

/// Splits `type; value`. The type may be missing.
fn typed(value: &str) -> (&str, &str) {
    match value.split_once(';') {
        Some((kind, rest)) if !kind.trim().contains(char::is_whitespace) => {
            (kind.trim(), rest.trim())
        }
        _ => ("", value),
    }
}

fn envid(value: &str) -> String {
    xtext::decode(value).unwrap_or_else(|_| value.to_owned())
}

fn recipient_address(value: &str) -> Option<String> {
    let (kind, text) = typed(value);
    let found = address(text)?;
    if kind.eq_ignore_ascii_case("utf-8") {
        return Some(utf8_decoded(&found));
    }
    Some(found)
}

/// Decodes utf-8-addr-xtext (RFC 6533 §3). Other text stays.
fn utf8_decoded(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once("\\x{") {
        out.push_str(before);
        let decoded = behind.split_once('}').and_then(|(hex, after)| {
            let c = u32::from_str_radix(hex, 16).ok().and_then(char::from_u32)?;
            Some((c, after))
        });
        match decoded {
            Some((c, after)) => {
                out.push(c);
                rest = after;
            }
            None => {
                out.push_str("\\x{");
                rest = behind;
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(text: &str) -> Recipient {
        let report = read(text.as_bytes(), None).unwrap();
        let [only] = report.recipients.as_slice() else {
            panic!("{} recipients", report.recipients.len())
        };
        only.clone()
    }

    fn codes(text: &str) -> (u16, String) {
        let only = only(text);
        let enhanced = only.enhanced.map(|code| code.to_string());
        (only.code, enhanced.unwrap_or_default())
    }

    #[test]
    fn codes_come_from_the_diagnostic_or_the_status() {
        let with = |fields: &str| {
            codes(&format!(
                "Final-Recipient: rfc822; x@y.example\nAction: failed\n{fields}"
            ))
        };
        for (fields, code, enhanced) in [
            (
                "Status: 5.0.0\nDiagnostic-Code: smtp; 550 5.1.1 no",
                550,
                "5.1.1",
            ),
            (
                "Status: 5.2.2\nDiagnostic-Code: smtp; 552 full",
                552,
                "5.2.2",
            ),
            ("Status: 4.2.2\nDiagnostic-Code: smtp; 552 full", 552, ""),
            ("Status: 5.4.4", 500, "5.4.4"),
            (
                "Status: 4.4.1 (no answer)\nDiagnostic-Code: x-postfix; timeout",
                400,
                "4.4.1",
            ),
            ("Diagnostic-Code: 550-5.1.1 no\n  such user", 550, "5.1.1"),
            ("Status: 5.1.1\nDiagnostic-Code: smtp; 250 ok", 500, "5.1.1"),
            (
                "Status: 5.7.1\nDiagnostic-Code: smtp; 550 5.7.1 a\nDiagnostic-Code: smtp; 451 b",
                550,
                "5.7.1",
            ),
        ] {
            assert_eq!(with(fields), (code, enhanced.to_owned()), "{fields}");
        }
    }

    #[test]
    fn recipients_in_all_their_forms() {
        for (field, expected) in [
            ("rfc822; x@y.example", "x@y.example"),
            ("RFC822;<x@y.example>", "x@y.example"),
            ("x@y.example", "x@y.example"),
            ("rfc822; \"x y\"@y.example", "\"x y\"@y.example"),
            ("RFC822; x@y.example>", "x@y.example"),
            (
                "rfc822; x@y.example (expanded from <z@y.example>)",
                "x@y.example",
            ),
            ("rfc822; X <x@y.example>", "x@y.example"),
            ("rfc822; <x@[192.0.2.1]>", "x@[192.0.2.1]"),
            ("utf-8; \\x{e4}@y.example", "\u{e4}@y.example"),
            ("system; x@y.example (X)", "x@y.example"),
        ] {
            let text = format!("Final-Recipient: {field}\nAction: failed\nStatus: 5.1.1");
            assert_eq!(
                only(&text).final_recipient.as_deref(),
                Some(expected),
                "{field}"
            );
        }
    }

    #[test]
    fn several_recipients_however_they_are_set_apart() {
        let one = "Original-Recipient: rfc822; a@x.example\nFinal-Recipient: rfc822; A@x.example\nAction: failed\nStatus: 5.1.1\n";
        let other = "Final-Recipient: rfc822; b@x.example\nAction: Delayed\nStatus: 4.0.0\n";
        for text in [
            format!("Reporting-MTA: dns; r.example\n\n{one}\n{other}"),
            format!("Reporting-MTA: dns; r.example\n{one}{other}"),
            format!("{one}\n\n\n{other}\nReporting-MTA: dns;r.example"),
            format!("Reporting-MTA: dns; r.example\r\n\r\n{one}\r\n{other}").replace('\n', "\r\n"),
        ] {
            let report = read(text.as_bytes(), None).unwrap();
            assert_eq!(report.reporting_mta.as_deref(), Some("r.example"));
            let found: Vec<_> = report
                .recipients
                .iter()
                .map(|recipient| (recipient.final_recipient.as_deref(), recipient.action))
                .collect();
            let expected = [
                (Some("A@x.example"), Action::Failed),
                (Some("b@x.example"), Action::Delayed),
            ];
            assert_eq!(found, expected, "{text:?}");
        }
    }

    #[test]
    fn what_tells_nothing() {
        assert_eq!(
            read(b"Reporting-MTA: dns; x\n", None),
            Err(Fault::NoRecipient)
        );
        let text = b"Final-Recipient: rfc822; a@x.example\nAction: vanished\nStatus: 5.0.0\n";
        assert_eq!(read(text, None), Err(Fault::NoAction));
        let text = b"Final-Recipient: rfc822; a@x.example\n";
        assert_eq!(read(text, None), Err(Fault::NoAction));
        assert_eq!(
            only("Final-Recipient: rfc822; a@x.example\nStatus: 4.4.7").action,
            Action::Delayed
        );
    }
}
