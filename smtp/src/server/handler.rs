//! The policy of a server: what it accepts, and what becomes of the mail.

use std::{
    fmt::{self, Write as _},
    net::SocketAddr,
};

use jiff::Timestamp;

use super::{
    command::{MailFrom, RcptTo},
    event::Event,
};
use crate::{
    EnhancedCode, FirstOf, Reply, ReplyCode, TlsInfo, reason,
    sasl::{Login, ScramOffer, ScramRequest},
};

/// The digits of the name of a session: those of Crockford's base32, in lower case. No two of them
/// look alike.
const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// The number of digits, each of five bits.
const DIGITS_OF_NAME: u32 = 12;

/// The id of a session: 60 random bits. Its text has 12 characters of base32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SessionId(u64);

impl SessionId {
    /// The id of these random bits, of which the lower 60 count.
    #[must_use]
    pub const fn of(random: u64) -> Self {
        Self(random & ((1 << (5 * DIGITS_OF_NAME)) - 1))
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut digits = (0..DIGITS_OF_NAME).rev().map(|at| {
            let digit = ((self.0 >> (5 * at)) % 32) as usize;
            DIGITS.get(digit).copied().unwrap_or(b'0')
        });
        digits.try_for_each(|digit| f.write_char(char::from(digit)))
    }
}

/// The name of a session, or of one of its transactions, in the log, in traces, in replies and in
/// Received fields: `7h3kq0v9x2mc`, `7h3kq0v9x2mc.1`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SessionName {
    /// The session.
    pub session: SessionId,
    /// The number of the transaction, from 1. Zero: the name is that of the session.
    pub transaction: u32,
}

impl fmt::Display for SessionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.transaction {
            0 => self.session.fmt(f),
            transaction => write!(f, "{}.{transaction}", self.session),
        }
    }
}

/// What the server knows of its client.
#[derive(Clone, Debug)]
pub struct Client {
    /// The id of the session.
    pub session: SessionId,
    /// The number of the transaction, from its MAIL command to its end. Zero outside.
    pub transaction: u32,
    /// The client's address.
    pub remote: SocketAddr,
    /// The server's address that the client connected to.
    pub local: SocketAddr,
    /// When the client connected.
    pub connected: Timestamp,
    /// The name in EHLO or HELO. None before that.
    pub helo: Option<String>,
    /// The client used EHLO.
    pub esmtp: bool,
    /// The TLS of the connection. None in clear.
    pub tls: Option<TlsInfo>,
    /// The user that logged in. None without a login.
    pub login: Option<String>,
    /// The client may tell for which other client it speaks (XCLIENT).
    pub xclient: bool,
}

impl Client {
    /// A client that has connected and said nothing. It connected at the beginning of 1970, until
    /// somebody sets the time.
    #[must_use]
    pub const fn new(session: SessionId, remote: SocketAddr, local: SocketAddr) -> Self {
        Self {
            session,
            transaction: 0,
            remote,
            local,
            connected: Timestamp::UNIX_EPOCH,
            helo: None,
            esmtp: false,
            tls: None,
            login: None,
            xclient: false,
        }
    }

    /// The name of the transaction that is under way, or else of the session.
    #[must_use]
    pub const fn name(&self) -> SessionName {
        SessionName {
            session: self.session,
            transaction: self.transaction,
        }
    }
}

/// A mail transaction (RFC 5321 §3.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// The MAIL command.
    pub mail: MailFrom,
    /// The accepted RCPT commands, in their order.
    pub recipients: Vec<RcptTo>,
}

impl Transaction {
    /// The first five recipients with blanks between them, and `+N` for N more. It is for the log:
    /// a line of it is limited.
    #[must_use]
    pub fn shown_recipients(&self) -> String {
        let recipients = self.recipients.iter();
        FirstOf(recipients.map(|rcpt| &rcpt.forward_path)).to_string()
    }
}

/// The reply of a policy that has no SCRAM keys.
pub(super) const NO_KEYS: Reply = Reply::fixed(
    ReplyCode::TEMPORARY_FAILURE,
    Some(EnhancedCode::SECURITY_TRANSIENT),
    "no SCRAM keys are at hand, use another mechanism",
)
.because(reason::NO_SCRAM_KEYS);

/// The policy of one connection. `Err` refuses with that reply.
///
/// While a handler answers a question, the session reads nothing further.
pub trait Handler: Send {
    /// A client connected where TLS comes first. A refusal closes the connection without a word,
    /// before the handshake, which is dear. After the handshake comes `greeting`.
    fn connecting(&mut self, _client: &Client) -> Result<(), Reply> {
        Ok(())
    }
    /// A client connected. A refusal takes the place of the greeting, and the connection closes.
    fn greeting(&mut self, client: &Client) -> impl Future<Output = Result<(), Reply>> + Send;
    /// A client gives its name in EHLO or HELO. `client.helo` has the name before, if there is one.
    /// This is asked only if [`SessionConfig`](super::SessionConfig) says so. After a refusal
    /// everything is as before.
    fn hello(
        &mut self,
        _client: &Client,
        _name: &str,
    ) -> impl Future<Output = Result<(), Reply>> + Send {
        std::future::ready(Ok(()))
    }
    /// A client begins to log in by SCRAM, and needs the keys of the user. A user that nobody has
    /// gets an answer that looks like any other.
    fn scram_keys(
        &mut self,
        _client: &Client,
        _request: &ScramRequest,
    ) -> impl Future<Output = Result<ScramOffer, Reply>> + Send {
        std::future::ready(Err(NO_KEYS))
    }
    /// A client logs in. The result is the name of the user, which becomes `client.login`.
    fn login(
        &mut self,
        client: &Client,
        login: &Login,
    ) -> impl Future<Output = Result<String, Reply>> + Send;
    /// A transaction begins.
    fn mail(
        &mut self,
        client: &Client,
        mail: &MailFrom,
    ) -> impl Future<Output = Result<(), Reply>> + Send;
    /// The client adds a recipient to the transaction.
    fn rcpt(
        &mut self,
        client: &Client,
        transaction: &Transaction,
        rcpt: &RcptTo,
    ) -> impl Future<Output = Result<(), Reply>> + Send;
    /// The text is about to come.
    fn data(
        &mut self,
        client: &Client,
        transaction: &Transaction,
    ) -> impl Future<Output = Result<(), Reply>> + Send;
    /// A piece of the text came, without the dots of DATA. After `Err` the session drops the rest
    /// of the text, and sends the reply at its end.
    fn text(&mut self, piece: &[u8]) -> impl Future<Output = Result<(), Reply>> + Send;
    /// The whole text has come. A positive reply promises that the message is safe.
    fn end(
        &mut self,
        client: &Client,
        transaction: &Transaction,
    ) -> impl Future<Output = Reply> + Send;
    /// The transaction is over without `end`. The handler forgets the text that came so far.
    fn reset(&mut self);
    /// The session begins anew, for another client (XCLIENT). The handler forgets all that it
    /// learnt of the client. The next question is that of the greeting.
    fn restart(&mut self);
    /// Something happened, which is no question. The policy cannot change it.
    fn happened(&mut self, _client: &Client, _event: &Event) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ForwardPath, ReversePath};

    #[test]
    fn names() {
        for (random, transaction, name) in [
            (0, 0, "000000000000"),
            (1, 1, "000000000001.1"),
            (31, 12, "00000000000z.12"),
            (u64::MAX, 0, "zzzzzzzzzzzz"),
            (0x0123_4567_89ab_cdef, 0, "28t5cy4tqkff"),
        ] {
            let session = SessionId::of(random);
            let shown = SessionName {
                session,
                transaction,
            };
            assert_eq!(shown.to_string(), name);
        }
    }

    #[test]
    fn five_recipients_are_shown() {
        for (count, shown) in [
            (0, ""),
            (1, "0@d.test"),
            (5, "0@d.test 1@d.test 2@d.test 3@d.test 4@d.test"),
            (8, "0@d.test 1@d.test 2@d.test 3@d.test 4@d.test +3"),
        ] {
            let rcpt = |at: usize| RcptTo {
                forward_path: ForwardPath::parse(&format!("{at}@d.test")).unwrap(),
                notify: None,
                orcpt: None,
            };
            let transaction = Transaction {
                mail: MailFrom {
                    reverse_path: ReversePath::Null,
                    size: None,
                    body: Default::default(),
                    smtputf8: false,
                    require_tls: false,
                    ret: None,
                    envid: None,
                    delivery: Default::default(),
                },
                recipients: (0..count).map(rcpt).collect(),
            };
            assert_eq!(transaction.shown_recipients(), shown);
        }
    }
}
