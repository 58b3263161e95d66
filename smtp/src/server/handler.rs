//! The policy of a server: what it accepts, and what becomes of the mail.

use std::net::SocketAddr;

use jiff::Timestamp;

use super::command::{MailFrom, RcptTo};
use crate::{
    EnhancedCode, Reply, ReplyCode, TlsInfo, reason,
    sasl::{Login, ScramOffer, ScramRequest},
};

/// The name of a session in the log. Its text has 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SessionId(pub u64);

impl std::fmt::Display for SessionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What the server knows of its client.
#[derive(Clone, Debug)]
pub struct Client {
    /// The name of the session in the log.
    pub session: SessionId,
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
}

/// A mail transaction (RFC 5321 §3.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// The MAIL command.
    pub mail: MailFrom,
    /// The accepted RCPT commands, in their order.
    pub recipients: Vec<RcptTo>,
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
    /// The session refuses something, for a reason with this name: its own (see [`reason`]), or
    /// that of a reply of the handler. The call comes once for each refusal.
    fn refused(&mut self, _reason: &'static str) {}
}
