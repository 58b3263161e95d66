//! What a session asks of policy.

use std::net::SocketAddr;

use zeroize::Zeroizing;

use super::command::{MailFrom, RcptTo};
use crate::Reply;

/// The other end of a session.
#[derive(Clone, Debug)]
pub struct Client {
    /// Its address.
    pub remote: SocketAddr,
    /// Our address that it connected to.
    pub local: SocketAddr,
    /// The name it gave with EHLO or HELO; None before that.
    pub helo: Option<String>,
    /// It used EHLO.
    pub esmtp: bool,
    /// TLS, once there is.
    pub tls: Option<TlsInfo>,
    /// The user that logged in; None before that.
    pub login: Option<String>,
}

/// The TLS of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsInfo {
    /// For example `TLSv1.3`.
    pub version: String,
    /// For example `TLS13_AES_256_GCM_SHA384`.
    pub cipher: String,
    /// The server name that was asked for.
    pub server_name: Option<String>,
}

/// An attempt to log in.
#[derive(Clone)]
pub struct Login {
    /// `PLAIN` or `LOGIN`.
    pub mechanism: &'static str,
    /// Who to act as; empty: the user.
    pub authorization: String,
    /// Who.
    pub user: String,
    /// Proof.
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
    /// What MAIL said.
    pub mail: MailFrom,
    /// What was accepted of the RCPTs, in their order.
    pub recipients: Vec<RcptTo>,
}

/// Policy: what is accepted, and what becomes of it. `Err` refuses with that reply.
///
/// One handler serves one connection. While it answers a question nothing further is read.
pub trait Handler: Send {
    /// Somebody connected. A refusal is sent in place of the greeting, and the connection closed.
    fn greeting(&mut self, client: &Client) -> impl Future<Output = Result<(), Reply>> + Send;
    /// A login; `client.login` is set after an `Ok`.
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
    /// A recipient of the transaction so far.
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
    /// A piece of the text, unstuffed. After an `Err` the rest is read and dropped, and that reply given at the end.
    fn body(&mut self, chunk: &[u8]) -> impl Future<Output = Result<(), Reply>> + Send;
    /// The whole text has come. The reply says what became of it: with a 250 it must be safe.
    fn end(
        &mut self,
        client: &Client,
        transaction: &Transaction,
    ) -> impl Future<Output = Reply> + Send;
    /// The transaction is over without `end`: whatever came of it is to be forgotten.
    fn reset(&mut self);
}
