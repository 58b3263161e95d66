//! The policy of a server: what it accepts, and what becomes of the mail.

use std::net::SocketAddr;

use zeroize::Zeroizing;

use super::command::{MailFrom, RcptTo};
use crate::{Reply, TlsInfo};

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
    /// A client that has connected and said nothing.
    #[must_use]
    pub const fn new(session: SessionId, remote: SocketAddr, local: SocketAddr) -> Self {
        Self {
            session,
            remote,
            local,
            helo: None,
            esmtp: false,
            tls: None,
            login: None,
            xclient: false,
        }
    }
}

/// An attempt to log in.
#[derive(Clone)]
pub struct Login {
    /// The mechanism: `PLAIN` or `LOGIN`.
    pub mechanism: &'static str,
    /// The user to act as. Empty: the user that logs in.
    pub authorization: String,
    /// The user that logs in.
    pub user: String,
    /// The user's password.
    pub password: Zeroizing<String>,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login")
            .field("mechanism", &self.mechanism)
            .field("user", &self.user)
            .finish_non_exhaustive()
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

/// The policy of one connection. `Err` refuses with that reply.
///
/// While a handler answers a question, the session reads nothing further.
pub trait Handler: Send {
    /// A client connected. A refusal takes the place of the greeting, and the connection closes.
    fn greeting(&mut self, client: &Client) -> impl Future<Output = Result<(), Reply>> + Send;
    /// A client logs in. `client.login` is set after `Ok`.
    fn login(
        &mut self,
        client: &Client,
        login: &Login,
    ) -> impl Future<Output = Result<(), Reply>> + Send;
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
    /// The session begins anew, for another client (XCLIENT). The handler forgets all that it learnt
    /// of the client. The next question is that of the greeting.
    fn restart(&mut self);
}
