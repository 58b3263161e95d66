//! What a session says and tells: its replies to the client, refusals among them, and what the
//! policy is told of.
//!
//! Each reply is written here, and each refusal is noted here, once.

use std::{fmt, time::Duration};

use super::{
    auth::TOO_LONG,
    event::{Event, Refused, RefusedLogin, Verb},
    handler::Transaction,
    line::LineError,
    session::Session,
    state::State,
};
use crate::{EnhancedCode, Reply, ReplyCode, reason, sasl::Mechanism};

/// The bytes of a command line that the log shows at most.
const SHOWN_MAX: usize = 256;

impl Session {
    /// Tells the policy what happened.
    pub(super) fn happened(&mut self, event: Event) {
        self.events.push_back(event);
    }

    /// A command has come.
    pub(super) const fn heard(&mut self, verb: Verb) {
        self.verb = Some(verb);
        self.heard = self.now;
    }

    /// More of the command has come that was heard last: its text, or a line of its exchange.
    pub(super) const fn heard_more(&mut self) {
        self.heard = self.now;
    }

    /// The time since the command, or the last part of it, had come.
    pub(super) fn took(&self) -> Duration {
        self.now.saturating_duration_since(self.heard)
    }

    /// A transaction begins, and gets its number.
    pub(super) fn begin_transaction(&mut self) {
        self.transactions = self.transactions.saturating_add(1);
        self.client.transaction = self.transactions;
    }

    /// A reply to the last command is written.
    fn replied(&mut self, code: ReplyCode) {
        let Some(verb) = self.verb else { return };
        if !code.is_intermediate() {
            self.verb = None;
        }
        let took = self.took();
        self.happened(Event::Replied { verb, code, took });
    }

    /// Writes a reply, in UTF-8 if the client asked for that (RFC 6531 §3.7.4.1).
    pub(super) fn write(&mut self, reply: &Reply, utf8: bool) {
        if utf8 {
            reply.write_utf8_to(&mut self.output);
        } else {
            reply.write_to(&mut self.output);
        }
        self.replied(reply.code());
    }

    /// Writes a reply of the session's own, whose text is ASCII.
    pub(super) fn say(&mut self, reply: &Reply, next: State) -> State {
        self.write(reply, false);
        next
    }

    /// Refuses a command. Then the next state is `next`, unless the connection ends.
    pub(super) fn refuse(&mut self, reply: &Reply, next: State) -> State {
        self.refuse_about(About::sender_of(next.transaction()), reply, next)
    }

    /// As [`Self::refuse`], with whom the refusal is about.
    pub(super) fn refuse_about(&mut self, about: About, reply: &Reply, next: State) -> State {
        self.note_refusal(reply, about);
        let transaction = next.transaction();
        let utf8 = transaction.is_some_and(|transaction| transaction.mail.smtputf8);
        self.refuse_as(reply, utf8, next)
    }

    /// Writes a refusal that is noted, in UTF-8 or ASCII. A permanent refusal counts as an error
    /// of the client, unless it is about an unknown recipient beside a right one: old lists of
    /// recipients have many. The connection ends after too many errors, after a 421, and
    /// after a reply that closes it.
    pub(super) fn refuse_as(&mut self, reply: &Reply, utf8: bool, next: State) -> State {
        if reply.code() == ReplyCode::UNAVAILABLE || reply.closes() {
            return self.close_refused(reply);
        }
        self.write(&reply.named(self.client.name()), utf8);
        let has_recipient = next
            .transaction()
            .is_some_and(|it| !it.recipients.is_empty());
        let is_unknown = reply.enhanced() == Some(EnhancedCode::UNKNOWN_MAILBOX);
        if reply.code().is_permanent() && !(is_unknown && has_recipient) {
            self.errors += 1;
            if usize::try_from(self.errors).unwrap_or(usize::MAX) > self.config.max_errors {
                let reply = Reply::fixed(
                    ReplyCode::UNAVAILABLE,
                    Some(EnhancedCode::SECURITY_TRANSIENT),
                    "too many errors, closing",
                )
                .because(reason::TOO_MANY_ERRORS);
                return self.refuse_and_close(&reply, About::default());
            }
        }
        next
    }

    /// Tells the policy of a refusal. Each comes here once, where its reply is written.
    pub(super) fn note_refusal(&mut self, reply: &Reply, about: About) {
        let About { from, to, login } = about;
        self.happened(Event::Refused(Box::new(Refused {
            name: self.client.name(),
            reply: reply.clone(),
            from,
            to,
            login,
        })));
    }

    /// Refuses to go on: writes a last reply.
    pub(super) fn refuse_and_close(&mut self, reply: &Reply, about: About) -> State {
        self.note_refusal(reply, about);
        self.close_refused(reply)
    }

    /// Writes a last refusal, which is noted.
    fn close_refused(&mut self, reply: &Reply) -> State {
        self.say(&reply.named(self.client.name()), State::Closing)
    }

    /// A line of AUTH is longer than any. Its rest must not become another line.
    pub(super) fn close_too_long(&mut self, about: About) -> State {
        self.input.clear();
        self.refuse_and_close(&TOO_LONG, about)
    }

    /// The input is not a line. Its rest must not become one.
    pub(super) fn close_for(&mut self, error: LineError) -> State {
        self.input.clear();
        self.refuse_and_close(&error.reply(), About::default())
    }

    /// Logs bytes that are sent. Those of an exchange of SASL are masked.
    pub(super) fn trace_sent(&self, bytes: &[u8]) {
        tracing::trace!(
            session = %self.client.name(),
            remote = %self.client.remote.ip().to_canonical(),
            output = %Sent(bytes),
            "sent"
        );
    }

    /// Logs a command line. The argument of AUTH may be a password. A line that is no command may
    /// be one too, or a line of a message whose DATA was refused.
    pub(super) fn trace_heard(&self, line: &[u8]) {
        tracing::trace!(
            session = %self.client.name(),
            remote = %self.client.remote.ip().to_canonical(),
            input = %masked(line),
            "received"
        );
    }
}

/// A command line without the secrets that it may have.
fn masked(line: &[u8]) -> String {
    let line = line.trim_ascii_end();
    let shown = line.get(..SHOWN_MAX).unwrap_or(line);
    let mut words = shown
        .split(|byte| matches!(byte, b' ' | b'\t'))
        .filter(|it| !it.is_empty());
    let verb = words.next().unwrap_or_default();
    match (verb.get(..4), words.next()) {
        // Whatever is like AUTH may be meant as such.
        (Some(first), mechanism) if first.eq_ignore_ascii_case(b"AUTH") => {
            let mechanism = mechanism.and_then(|it| std::str::from_utf8(it).ok());
            let mechanism = mechanism.and_then(|it| Mechanism::of(&it.to_ascii_uppercase()));
            format!("AUTH {} ***", mechanism.map_or("***", Mechanism::name))
        }
        // A client whose AUTH was refused may send its password all the same.
        _ if Verb::of(shown) == Verb::Other => format!("*** ({} bytes)", line.len()),
        (_, first) if is_command(Verb::of(shown), first, words.count()) => {
            shown.escape_ascii().to_string()
        }
        _ => format!("{} *** ({} bytes)", verb.escape_ascii(), line.len()),
    }
}

/// Whether a line is a command, and not a line of a text that begins with the word. `first` is the
/// word behind the verb, `more` the number of those behind it.
fn is_command(verb: Verb, first: Option<&[u8]>, more: usize) -> bool {
    let begins = |with: &[u8]| {
        let start = first.and_then(|first| first.get(..with.len()));
        start.is_some_and(|start| start.eq_ignore_ascii_case(with))
    };
    match verb {
        Verb::Mail => begins(b"FROM:"),
        Verb::Rcpt => begins(b"TO:"),
        Verb::Ehlo | Verb::Helo => more == 0,
        Verb::Bdat => first.is_some_and(|size| size.iter().all(u8::is_ascii_digit)) && more < 2,
        _ => first.is_none(),
    }
}

/// What a session sent, as the log shows it. A challenge of SASL has the salt of a password, or a
/// proof of it.
struct Sent<'a>(&'a [u8]);

impl fmt::Display for Sent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in self.0.split_inclusive(|byte| *byte == b'\n') {
            match line.starts_with(b"334 ") {
                true => f.write_str("334 ***\\r\\n")?,
                false => line.escape_ascii().fmt(f)?,
            }
        }
        Ok(())
    }
}

/// Whom a refusal is about.
#[derive(Debug, Default)]
pub(super) struct About {
    /// The sender.
    pub(super) from: String,
    /// The recipients.
    pub(super) to: String,
    /// The login.
    pub(super) login: Option<RefusedLogin>,
}

impl About {
    /// The sender of a transaction, if there is one.
    pub(super) fn sender_of(transaction: Option<&Transaction>) -> Self {
        transaction.map(Self::sender).unwrap_or_default()
    }

    /// The sender of a transaction.
    pub(super) fn sender(transaction: &Transaction) -> Self {
        Self {
            from: transaction.mail.reverse_path.to_string(),
            ..Self::default()
        }
    }

    /// All of a transaction.
    pub(super) fn message(transaction: &Transaction) -> Self {
        Self {
            to: transaction.shown_recipients(),
            ..Self::sender(transaction)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Sent, masked};

    #[test]
    fn a_command_line_is_shown_without_secrets() {
        let long = "x".repeat(9000);
        for (line, shown) in [
            ("MAIL FROM:<a@b.test>\r\n", "MAIL FROM:<a@b.test>"),
            ("AUTH PLAIN AGFubgBzZWNyZXQ=\r\n", "AUTH PLAIN ***"),
            ("auth login\r\n", "AUTH LOGIN ***"),
            ("AUTH\tPLAIN secret", "AUTH PLAIN ***"),
            ("AUTHPLAIN secret", "AUTH *** ***"),
            ("AUTH secret", "AUTH *** ***"),
            (&format!("AUTH PLAIN {long}"), "AUTH PLAIN ***"),
            ("dGVzdCBwYXNzd29yZA==\r\n", "*** (20 bytes)"),
            (&format!("EHLO {long}"), &format!("EHLO {}", &long[..251])),
            (&long, "*** (9000 bytes)"),
            (
                "rcpt to:<a@b.test> NOTIFY=NEVER\r\n",
                "rcpt to:<a@b.test> NOTIFY=NEVER",
            ),
            ("BDAT 12 LAST\r\n", "BDAT 12 LAST"),
            ("DATA\r\n", "DATA"),
            ("QUIT", "QUIT"),
            // Lines of a text whose DATA was refused.
            (
                "Mail me at once, the code is 1234\r\n",
                "Mail *** (33 bytes)",
            ),
            ("HELP me, the code is 1234\r\n", "HELP *** (25 bytes)"),
            ("helo my friend", "helo *** (14 bytes)"),
            ("data: 1234", "*** (10 bytes)"),
            ("noop 1234", "noop *** (9 bytes)"),
            ("bdat no. 12", "bdat *** (11 bytes)"),
        ] {
            assert_eq!(masked(line.as_bytes()), shown);
        }
    }

    #[test]
    fn a_challenge_is_not_shown() {
        let sent = b"250 ok\r\n334 cj1hYmM=\r\n535 5.7.8 no\r\n";
        let shown = r"250 ok\r\n334 ***\r\n535 5.7.8 no\r\n";
        assert_eq!(Sent(sent).to_string(), shown);
        assert_eq!(Sent(b"250-334 x\r\n").to_string(), r"250-334 x\r\n");
    }
}
