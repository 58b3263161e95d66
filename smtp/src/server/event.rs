//! What happens in a session, as its policy is told it.

use std::time::Duration;

use super::handler::SessionName;
use crate::{Address, HandshakeFailure, Reply, ReplyCode, sasl::Mechanism};

/// Something that happened in a session, beside the questions to its policy.
///
/// None of these has a secret or a part of a message. An event of a session in which nothing is
/// refused has no memory of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The client has connected. This comes first.
    Connected,
    /// The TLS handshake is done. The client has its version and cipher suite.
    Secured {
        /// How long the handshake took. Zero if it was done before the session began.
        took: Duration,
    },
    /// The TLS handshake failed. The connection ends.
    HandshakeFailed {
        /// The kind of the failure.
        failure: HandshakeFailure,
        /// How long the handshake took.
        took: Duration,
    },
    /// The client said EHLO or HELO. [`Client`](super::Client) has its name.
    Hello,
    /// Another client took the place of the one before (XCLIENT).
    Replaced,
    /// The server replied to a command. DATA and AUTH have several replies: those with a 3xx code
    /// ask for more.
    Replied {
        /// The command.
        verb: Verb,
        /// The code of the reply.
        code: ReplyCode,
        /// The time from the last byte of the command, or of its text, to the reply.
        took: Duration,
    },
    /// Something is refused. This comes once for each refusal.
    Refused(Box<Refused>),
    /// The connection has ended. This comes last.
    Ended,
}

/// A refusal, with what was known where its reply was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The session or the transaction.
    pub name: SessionName,
    /// The reply, without the name at its end.
    pub reply: Reply,
    /// The sender. Empty if none is known, or if it is null.
    pub from: String,
    /// The recipient that is refused, or all that the refused message had, as
    /// [`Transaction::shown_recipients`](super::Transaction::shown_recipients) gives them. Empty:
    /// the refusal is about none.
    pub to: String,
    /// The login that is refused. None: the refusal is about something else.
    pub login: Option<RefusedLogin>,
}

/// A login that is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedLogin {
    /// The mechanism.
    pub mechanism: Mechanism,
    /// The user. Empty if the client named none. Some clients send a key or a password in the place
    /// of the user, so a user that is no address is not told.
    pub user: String,
}

impl Refused {
    /// A refusal that is about the session as a whole.
    #[must_use]
    pub const fn of_session(name: SessionName, reply: Reply) -> Self {
        Self {
            name,
            reply,
            from: String::new(),
            to: String::new(),
            login: None,
        }
    }
}

/// Gives each command its word.
macro_rules! verbs {
    ($($(#[$doc:meta])* $verb:ident = $word:literal;)*) => {
        /// The first word of a command.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Verb {
            $($(#[$doc])* $verb,)*
            /// A word that nobody knows, or a line that is no command.
            Other,
        }

        impl Verb {
            /// The verb of a command line, in any case.
            pub(super) fn of(line: &[u8]) -> Self {
                let word = line.split(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n')).next();
                let word = word.unwrap_or_default();
                $(if word.eq_ignore_ascii_case($word.as_bytes()) {
                    return Self::$verb;
                })*
                Self::Other
            }
        }
    };
}

verbs! {
    /// RCPT.
    Rcpt = "RCPT";
    /// MAIL.
    Mail = "MAIL";
    /// DATA, and the end of its text.
    Data = "DATA";
    /// EHLO.
    Ehlo = "EHLO";
    /// QUIT.
    Quit = "QUIT";
    /// STARTTLS.
    StartTls = "STARTTLS";
    /// AUTH, and each line of its exchange.
    Auth = "AUTH";
    /// BDAT, with its chunk.
    Bdat = "BDAT";
    /// RSET.
    Rset = "RSET";
    /// NOOP.
    Noop = "NOOP";
    /// HELO.
    Helo = "HELO";
    /// VRFY.
    Vrfy = "VRFY";
    /// EXPN.
    Expn = "EXPN";
    /// HELP.
    Help = "HELP";
    /// XCLIENT.
    Xclient = "XCLIENT";
}

/// The user of a login as others may see it.
pub(super) fn shown_user(user: &str) -> String {
    match Address::parse(user) {
        Ok(_) => user.to_owned(),
        Err(_) if user.is_empty() => String::new(),
        Err(_) => "(not an address)".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verb_of_a_line_is_its_first_word() {
        for (line, verb) in [
            (&b"mail FROM:<a@b.test>\r\n"[..], Verb::Mail),
            (b"DATA\r\n", Verb::Data),
            (b"bdat\t5\r\n", Verb::Bdat),
            (b"AUTH PLAIN\r\n", Verb::Auth),
            (b"XCLIENT ADDR=192.0.2.7\r\n", Verb::Xclient),
            (b"MAILFROM\r\n", Verb::Other),
            (b" DATA\r\n", Verb::Other),
            (b"\xff\r\n", Verb::Other),
            (b"", Verb::Other),
        ] {
            assert_eq!(Verb::of(line), verb, "{}", line.escape_ascii());
        }
    }

    #[test]
    fn an_event_is_small() {
        let size = size_of::<Event>();
        assert!(size <= 24, "{size} bytes");
    }
}
