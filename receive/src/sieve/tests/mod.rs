//! Tests of scripts from their text to what becomes of a message.
//!
//! | file | what it tests |
//! |---|---|
//! | here | a message, and an outcome as text |
//! | `base` | RFC 5228 |
//! | `extensions` | one test for each extension |
//! | `faults` | errors, warnings and limits |
//! | `several` | several scripts, and scripts of clients |
//! | `answers` | automatic answers |
//! | `made` | scripts made of rules and auto-responders |
//! | `bytes` | any bytes as a script and as a message |
//! | `pigeonhole` | the same scripts run by Pigeonhole |

mod answers;
mod base;
mod bytes;
mod extensions;
mod faults;
mod made;
mod pigeonhole;
mod several;

use std::sync::Arc;

use jiff::Zoned;
use postrider_smtp::{Address, ReversePath};

use super::{Facts, Filed, KnownMailbox, Limits, NamedScript, Outcome, Rank, Script, run};

/// A message with fields and parts that tests ask for.
pub(super) const MESSAGE: &str = "Received: from a by b; Tue, 2 Jan 2024 23:30:00 -0500\r\n\
    From: \"Ann, Smith\" <Ann.Smith@Example.com>\r\n\
    To: user+lists@example.org, Bob <bob@sub.example.net>\r\n\
    Cc: undisclosed-recipients:;\r\n\
    Subject: =?utf-8?q?Caf=C3=A9?= [list] hello\r\n  world\r\n\
    Date: Mon, 1 Jan 2024 10:20:30 +0100\r\n\
    Message-ID: <1@example.com>\r\n\
    X-Count: 10\r\n\
    X-Count: 9\r\n\
    X-Empty:\r\n\
    Content-Type: multipart/mixed; boundary=b\r\n\
    \r\n\
    --b\r\n\r\nThe plain text.\r\n\
    --b\r\nContent-Type: text/html\r\n\r\n<p>Some <b>bold</b> text</p>\r\n--b--\r\n";

/// The facts about a message that no test changes.
pub(super) struct Case {
    sender: ReversePath,
    recipient: Address,
    message: String,
    now: Zoned,
    mailboxes: Vec<KnownMailbox>,
    limits: Limits,
}

impl Default for Case {
    fn default() -> Self {
        let mailbox = |name: &str, special_use: Option<&str>| KnownMailbox {
            name: name.to_owned(),
            special_use: special_use.map(str::to_owned),
        };
        Self {
            sender: ReversePath::parse("ann@example.com").unwrap(),
            recipient: Address::parse("user+lists@example.org").unwrap(),
            message: MESSAGE.to_owned(),
            now: "2024-06-15T12:30:00+02:00[Europe/Berlin]".parse().unwrap(),
            mailboxes: vec![
                mailbox("Archive", None),
                mailbox("Spam", Some("\\Junk")),
                mailbox("Bin", Some("\\Trash")),
            ],
            limits: Limits::default(),
        }
    }
}

impl Case {
    pub(super) fn run(&self, scripts: &[NamedScript]) -> Outcome {
        let message = self.message.as_bytes();
        let end = self
            .message
            .find("\r\n\r\n")
            .map_or(message.len(), |end| end + 2);
        let facts = Facts {
            sender: &self.sender,
            recipient: &self.recipient,
            header: &message[..end],
            message: &message,
            size: message.len() as u64,
            now: &self.now,
            mailboxes: &self.mailboxes,
            keep_mailbox: "Inbox",
            separator: "+",
        };
        run(scripts, &facts, &self.limits)
    }

    /// Runs one script and describes the outcome.
    pub(super) fn outcome(&self, script: &str) -> String {
        let script = Script::compile(script.as_bytes());
        let script = script.unwrap_or_else(|error| panic!("{error}"));
        described(&self.run(&[named("script", script)]))
    }

    /// Whether a test holds. All extensions are required.
    pub(super) fn holds(&self, test: &str) -> bool {
        let script = format!("{ALL} if {test} {{ fileinto \"yes\"; }}");
        match self.outcome(&script).as_str() {
            "file yes" => true,
            "keep" => false,
            other => panic!("{test}: {other}"),
        }
    }
}

/// A line that requires all that tests use.
pub(super) const ALL: &str = "require [\"body\", \"comparator-i;ascii-numeric\", \"copy\", \
    \"date\", \"encoded-character\", \"envelope\", \"ereject\", \"fileinto\", \"imap4flags\", \
    \"mailbox\", \"regex\", \"reject\", \"relational\", \"special-use\", \"subaddress\", \
    \"vacation\", \"variables\"];";

pub(super) fn named(name: &str, script: Script) -> NamedScript {
    NamedScript {
        rank: Rank::of_script(name),
        name: name.to_owned(),
        script: Arc::new(script),
    }
}

/// An outcome in words, its parts separated by commas.
pub(super) fn described(outcome: &Outcome) -> String {
    let with_flags = |what: String, flags: &[String]| match flags {
        [] => what,
        flags => format!("{what} [{}]", flags.join(" ")),
    };
    let filed = |filed: &Filed| {
        let create = if filed.create { "+" } else { "" };
        let special_use = filed.special_use.as_deref().unwrap_or_default();
        with_flags(
            format!("file {}{create}{special_use}", filed.mailbox),
            &filed.flags,
        )
    };
    let mut parts: Vec<String> = outcome.filed.iter().map(filed).collect();
    parts.extend(
        outcome
            .redirects
            .iter()
            .map(|address| format!("redirect {address}")),
    );
    parts.extend(outcome.rejection.iter().map(|rejection| {
        let kind = if rejection.in_session {
            "ereject"
        } else {
            "reject"
        };
        format!("{kind} {:?}", rejection.reason)
    }));
    parts.extend(
        outcome
            .keep
            .iter()
            .map(|flags| with_flags("keep".to_owned(), flags)),
    );
    if outcome.is_discarded() {
        parts.push("discard".to_owned());
    }
    if outcome.vacation.is_some() {
        parts.push("answer".to_owned());
    }
    parts.extend(outcome.failures.iter().map(|failure| {
        let error = &failure.error;
        format!("fault {} {}:{}", failure.script, error.line, error.column)
    }));
    parts.join(", ")
}

/// Runs each script for the message and compares the outcomes.
pub(super) fn check(table: &[(&str, &str)]) {
    let case = Case::default();
    for (script, expected) in table {
        let script = format!("{ALL}\n{script}");
        assert_eq!(case.outcome(&script), *expected, "{script}");
    }
}

/// Checks that each test holds, or does not hold.
pub(super) fn check_tests(table: &[(&str, bool)]) {
    let case = Case::default();
    for (test, expected) in table {
        assert_eq!(case.holds(test), *expected, "{test}");
    }
}
