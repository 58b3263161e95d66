//! The stage of an SMTP session that a reply or a failure belongs to.

use std::sync::LazyLock;

use regex::Regex;

/// A stage of an SMTP session (RFC 5321 §3).
///
/// The stage tells the subject of a reply. Before MAIL it is our host, at MAIL the sender, at RCPT
/// the recipient, and at the end of the data the message or its recipients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// The connection is made.
    Connect,
    /// The server greets.
    Greeting,
    /// EHLO, HELO or LHLO.
    Ehlo,
    /// STARTTLS, and the TLS handshake.
    StartTls,
    /// AUTH.
    Auth,
    /// MAIL.
    Mail,
    /// RCPT.
    Rcpt,
    /// The DATA command, before the data.
    Data,
    /// The reply after the data: after the final dot, or to BDAT.
    EndOfData,
}

impl Stage {
    /// The stage of a command, as [`DeliveryStatus::command`](crate::DeliveryStatus::command) names
    /// it: a verb like `RCPT`, or `connect`, `greeting` or `end of data`. None for other text.
    #[must_use]
    pub fn of_command(command: &str) -> Option<Self> {
        Some(match command.to_ascii_lowercase().as_str() {
            "connect" => Self::Connect,
            "greeting" | "initial server greeting" | "initial connection" | "initial greeting" => {
                Self::Greeting
            }
            "ehlo" | "helo" | "lhlo" => Self::Ehlo,
            "starttls" => Self::StartTls,
            "auth" => Self::Auth,
            "mail" | "mail from" => Self::Mail,
            "rcpt" | "rcpt to" => Self::Rcpt,
            "data" => Self::Data,
            "end of data" | "message body" | "bdat" | "." => Self::EndOfData,
            _ => return None,
        })
    }

    /// The stage that the text of a bounce names, like `(in reply to MAIL FROM command)` of Postfix
    /// or `after RCPT TO:<x@example.org>` of Exim. The first one counts. None if the text names
    /// none.
    #[must_use]
    pub fn in_text(text: &str) -> Option<Self> {
        let lower = text.to_ascii_lowercase();
        let phrase = PHRASES.iter().find(|(phrase, _)| lower.contains(phrase));
        if let Some((_, stage)) = phrase {
            return Some(*stage);
        }
        // In a transcript, the last command before the refusal counts.
        let refusal = REFUSAL
            .find(&lower)
            .map_or(lower.len(), |found| found.start());
        let mut stage = None;
        for found in NAMED.captures_iter(&lower) {
            let transcript = found.get(2);
            if transcript.is_some_and(|command| stage.is_some() && command.start() > refusal) {
                break;
            }
            let command = found.get(1).or(transcript).or_else(|| found.get(3));
            stage = Self::of_command(command?.as_str());
            if transcript.is_none() {
                break;
            }
        }
        stage
    }

    /// The server does not know the recipient yet, or is not asked about it. A refusal at such a
    /// stage says nothing of the recipient.
    #[must_use]
    pub const fn is_without_recipient(self) -> bool {
        !matches!(self, Self::Rcpt | Self::EndOfData)
    }
}

/// The fixed words of Postfix, qmail and Yahoo for a stage.
const PHRASES: [(&str, Stage); 9] = [
    ("[mail_from]", Stage::Mail),
    ("[rcpt_to]", Stage::Rcpt),
    ("refused to talk to me", Stage::Greeting),
    ("but greeting failed", Stage::Greeting),
    ("but my name was rejected", Stage::Ehlo),
    ("but sender was rejected", Stage::Mail),
    ("does not like recipient", Stage::Rcpt),
    ("failed on data command", Stage::Data),
    ("failed after i sent the message", Stage::EndOfData),
];

/// A command after words like "in reply to" (group 1), in a transcript (group 2), or in a line of
/// our own log (group 3). The transcript of Sendmail has DATA before the replies to RCPT, so DATA
/// does not count there.
#[expect(clippy::expect_used, reason = "a constant, which the tests compile")]
static NAMED: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(concat!(
        r"(?-u:\b)(?:in (?:reply|response) to|after(?: pipelined| sending)?",
        r"|while (?:sending|performing|receiving|waiting for)|did not like our)\s+(?:the |a )?",
        r"(mail from|rcpt to|end of data|message body|data|ehlo|helo|lhlo|starttls|auth",
        r"|initial server greeting|initial connection|initial greeting)(?-u:\b)",
        r"|(?:>>>|-->|(?-u:\b)sent:|(?-u:\b)client:|(?-u:\b)out:)\s*(mail from|rcpt to|ehlo|helo|starttls|auth)(?-u:\b)",
        r"|: (connect|greeting|ehlo|helo|starttls|auth|mail|rcpt|data|end of data|bdat): [245]\d\d",
    ))
    .expect("a pattern")
});

/// The reply to the refused command in a transcript.
#[expect(clippy::expect_used, reason = "a constant, which the tests compile")]
static REFUSAL: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?:<<<|<--|:)\s*[45][0-9]{2}[ -]").expect("a pattern"));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_name_stages() {
        for (command, stage) in [
            ("connect", Some(Stage::Connect)),
            ("greeting", Some(Stage::Greeting)),
            ("EHLO", Some(Stage::Ehlo)),
            ("HELO", Some(Stage::Ehlo)),
            ("STARTTLS", Some(Stage::StartTls)),
            ("AUTH", Some(Stage::Auth)),
            ("MAIL", Some(Stage::Mail)),
            ("RCPT", Some(Stage::Rcpt)),
            ("DATA", Some(Stage::Data)),
            ("end of data", Some(Stage::EndOfData)),
            ("BDAT", Some(Stage::EndOfData)),
            ("RSET", None),
            ("connection", None),
            ("", None),
        ] {
            assert_eq!(Stage::of_command(command), stage, "{command}");
        }
    }

    #[test]
    fn texts_name_stages() {
        for (text, stage) in [
            (
                "host mx.x.example[192.0.2.1] said: 550 no (in reply to MAIL FROM command)",
                Some(Stage::Mail),
            ),
            ("550 no (in reply to RCPT TO command)", Some(Stage::Rcpt)),
            (
                "554 no (in reply to end of DATA command)",
                Some(Stage::EndOfData),
            ),
            ("503 no (in reply to DATA command)", Some(Stage::Data)),
            ("504 no (in reply to EHLO command)", Some(Stage::Ehlo)),
            (
                "SMTP error from remote mail server after RCPT TO:<x@y.example>:",
                Some(Stage::Rcpt),
            ),
            (
                "error from remote mail server after MAIL FROM:<> SIZE=222: 550 no",
                Some(Stage::Mail),
            ),
            (
                "after pipelined MAIL FROM:<a@b.example>: 550",
                Some(Stage::Mail),
            ),
            ("after end of data: host x: 550", Some(Stage::EndOfData)),
            ("after initial connection: 554 no", Some(Stage::Greeting)),
            (
                "lost connection with mx.x.example while receiving the initial server greeting",
                Some(Stage::Greeting),
            ),
            (
                "conversation with mx.x.example timed out while sending RCPT TO",
                Some(Stage::Rcpt),
            ),
            (
                "conversation timed out while sending message body",
                Some(Stage::EndOfData),
            ),
            (
                "host x refused to talk to me: 554 no",
                Some(Stage::Greeting),
            ),
            (
                "Connected to 192.0.2.1 but sender was rejected. Remote host said: 550",
                Some(Stage::Mail),
            ),
            ("192.0.2.1 does not like recipient.", Some(Stage::Rcpt)),
            (">>> MAIL From:<a@b.example> <<< 550 no", Some(Stage::Mail)),
            (">>> DATA <<< 550 5.1.1 no", None),
            (
                "--> MAIL From:<a@b.example> <-- 250 ok --> RCPT To:<x@y.example> <-- 550 no --> QUIT",
                Some(Stage::Rcpt),
            ),
            (
                ">>> MAIL From:<a@b.example> <<< 550 no >>> RCPT To:<x@y.example>",
                Some(Stage::Mail),
            ),
            ("553 5.3.0 not allowed [MAIL_FROM]", Some(Stage::Mail)),
            ("hMailServer sent: RCPT TO:<x@y.example>", Some(Stage::Rcpt)),
            (
                "mx.x.example [192.0.2.1]: MAIL: 550 5.1.8 no",
                Some(Stage::Mail),
            ),
            ("mail from 192.0.2.1 refused", None),
            (
                "your mail from this host is refused after review of data",
                None,
            ),
            ("", None),
        ] {
            assert_eq!(Stage::in_text(text), stage, "{text}");
        }
    }
}
