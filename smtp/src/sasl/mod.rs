//! SASL (RFC 4422), without I/O: the server's side of the mechanisms, and in `client` the client's.
//!
//! An [`Exchange`] takes the responses of a client, and gives the next [`Step`]. It asks for the
//! facts that it needs: the SCRAM keys of a user, and the verdict on a [`Login`]. The encoding of
//! the responses in a protocol, such as base64 in SMTP, is left to the caller.
//!
//! | file | mechanisms |
//! |---|---|
//! | `password` | PLAIN (RFC 4616) and LOGIN |
//! | `scram` | SCRAM-SHA-256 (RFC 7677), SCRAM-SHA-1 (RFC 5802), each also with channel binding |
//! | `oauth` | OAUTHBEARER (RFC 7628) and XOAUTH2 |
//! | `proof` | EXTERNAL (RFC 4422 appendix A), and the channel bindings of a TLS connection |
//! | `key` | the keys of client certificates |
//! | `client` | the client's side of all of them but EXTERNAL |
//!
//! Absent on purpose: mechanisms with weak hashes (CRAM-MD5, DIGEST-MD5).

mod client;
mod key;
mod oauth;
mod password;
mod proof;
mod scram;
#[cfg(test)]
mod tests;

use std::fmt;

use zeroize::Zeroizing;

pub(crate) use self::proof::exporter;
pub use self::{
    client::{ClientError, ClientExchange, ClientLogin, Response, Secret},
    key::{KeyError, LoginKey, key_fingerprint, login_key},
    proof::{ChannelBindings, TlsProof},
    scram::{ScramHash, ScramKeys, ScramOffer, ScramRequest, ScramStart},
};
use crate::{EnhancedCode, Reply, ReplyCode, reason};

/// A mechanism that a server may offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mechanism {
    /// EXTERNAL: the certificate that the client showed in the TLS handshake.
    External,
    /// SCRAM-SHA-256-PLUS or SCRAM-SHA-1-PLUS: SCRAM bound to the TLS connection.
    ScramPlus(ScramHash),
    /// SCRAM-SHA-256 or SCRAM-SHA-1.
    Scram(ScramHash),
    /// PLAIN.
    Plain,
    /// LOGIN, which no RFC defines and many clients use.
    Login,
    /// OAUTHBEARER.
    OauthBearer,
    /// XOAUTH2, the older form of OAUTHBEARER by Google and Microsoft.
    Xoauth2,
}

impl Mechanism {
    /// All mechanisms, in the order in which a server names them.
    pub const ALL: [Self; 9] = [
        Self::External,
        Self::ScramPlus(ScramHash::Sha256),
        Self::ScramPlus(ScramHash::Sha1),
        Self::Scram(ScramHash::Sha256),
        Self::Scram(ScramHash::Sha1),
        Self::Plain,
        Self::Login,
        Self::OauthBearer,
        Self::Xoauth2,
    ];

    /// The registered name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::External => "EXTERNAL",
            Self::ScramPlus(ScramHash::Sha256) => "SCRAM-SHA-256-PLUS",
            Self::ScramPlus(ScramHash::Sha1) => "SCRAM-SHA-1-PLUS",
            Self::Scram(ScramHash::Sha256) => "SCRAM-SHA-256",
            Self::Scram(ScramHash::Sha1) => "SCRAM-SHA-1",
            Self::Plain => "PLAIN",
            Self::Login => "LOGIN",
            Self::OauthBearer => "OAUTHBEARER",
            Self::Xoauth2 => "XOAUTH2",
        }
    }

    /// The mechanism with this name in upper case.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.name() == name)
    }
}

/// What a server offers beside PLAIN and LOGIN, and what TLS proved on this connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct Terms<'a> {
    /// The server has SCRAM keys.
    pub scram: bool,
    /// The server checks OAuth tokens. They need this scope, which may be empty.
    pub oauth_scope: Option<&'a str>,
    /// What TLS proved. None in clear.
    pub tls: Option<&'a TlsProof>,
}

impl<'a> Terms<'a> {
    /// The mechanism is offered.
    #[must_use]
    pub fn offers(&self, mechanism: Mechanism) -> bool {
        match mechanism {
            Mechanism::Plain | Mechanism::Login => true,
            Mechanism::Scram(_) => self.scram,
            Mechanism::ScramPlus(_) => self.scram && self.bindings().is_some(),
            Mechanism::External => self.client_key().is_some(),
            Mechanism::OauthBearer | Mechanism::Xoauth2 => self.oauth_scope.is_some(),
        }
    }

    fn bindings(&self) -> Option<&'a ChannelBindings> {
        self.tls?.bindings.as_ref()
    }

    fn client_key(&self) -> Option<&'a str> {
        self.tls?.client_key.as_deref()
    }
}

/// An attempt to log in.
#[derive(Clone)]
pub struct Login {
    /// The mechanism.
    pub mechanism: Mechanism,
    /// The user to act as (authorization identity). Empty: the user that logs in.
    pub authorization: String,
    /// The user that logs in. Empty: the evidence tells.
    pub user: String,
    /// What proves it.
    pub evidence: Evidence,
}

/// What proves that a client may log in.
#[derive(Clone)]
pub enum Evidence {
    /// The password of the user.
    Password(Zeroizing<String>),
    /// The client knows the password with the keys at this place of the [`ScramOffer`]. None: it
    /// knows none of them.
    Scram(Option<usize>),
    /// The client has the private key with this fingerprint (see [`key_fingerprint`]).
    Certificate(String),
    /// A token of an OAuth authorization server.
    Token(Zeroizing<String>),
}

/// Hides the evidence, so that no log line has it.
impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("mechanism", &self.mechanism.name())
            .field("authorization", &self.authorization)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// The verdict on a login: the name of the user, or the reply that refuses it.
pub type Verdict = Result<String, Reply>;

/// The next step of an exchange.
#[derive(Debug)]
pub enum Step {
    /// The server sends this challenge. The next response goes to [`Exchange::respond`].
    Challenge(Exchange, Vec<u8>),
    /// The server looks for the keys of a user. They go to [`ScramStart::keys`].
    Keys(Box<ScramStart>),
    /// The server decides on a login. The verdict goes to [`Pending::verdict`].
    Decide(Box<Pending>),
    /// The exchange is over: this user is logged in.
    Done(String),
    /// The exchange is over.
    Refused {
        /// The user that the client named. Empty without one.
        user: String,
        /// The reply.
        reply: Reply,
    },
}

/// An exchange that waits for a response of the client.
#[derive(Debug)]
pub struct Exchange(State);

/// What the exchange waits for.
#[derive(Debug)]
enum State {
    /// The one response of PLAIN.
    Plain,
    /// The user of LOGIN.
    LoginUser,
    /// The password of LOGIN. The user is known.
    LoginPassword(String),
    /// The first message of SCRAM.
    ScramFirst { hash: ScramHash, plus: bool },
    /// The last message of SCRAM.
    ScramFinal(Box<scram::Final>),
    /// The one response of EXTERNAL.
    External,
    /// The one response of OAUTHBEARER or XOAUTH2.
    Oauth(Mechanism),
    /// Any line of the client. It has got the last message of the server, and the end is known.
    Acknowledgement(Box<Step>),
}

impl Exchange {
    /// A new exchange. The first response goes to [`respond`](Self::respond), if the client sent it
    /// together with the mechanism. Without one, the server sends the
    /// [first challenge](Self::first_challenge).
    #[must_use]
    pub const fn new(mechanism: Mechanism) -> Self {
        Self(match mechanism {
            Mechanism::Plain => State::Plain,
            Mechanism::Login => State::LoginUser,
            Mechanism::Scram(hash) => State::ScramFirst { hash, plus: false },
            Mechanism::ScramPlus(hash) => State::ScramFirst { hash, plus: true },
            Mechanism::External => State::External,
            Mechanism::OauthBearer | Mechanism::Xoauth2 => State::Oauth(mechanism),
        })
    }

    /// The challenge that asks for the first response. It is empty unless the mechanism is LOGIN,
    /// whose clients expect this word.
    #[must_use]
    pub const fn first_challenge(&self) -> &'static [u8] {
        match self.0 {
            State::LoginUser => b"Username:",
            _ => b"",
        }
    }

    /// The refusal that ends the exchange whatever the client answers, and the user that it named.
    /// None: the end is not known, or it is no refusal.
    #[must_use]
    pub fn refusal(&self) -> Option<(&str, &Reply)> {
        match &self.0 {
            State::Acknowledgement(end) => match &**end {
                Step::Refused { user, reply } => Some((user, reply)),
                _ => None,
            },
            _ => None,
        }
    }

    /// The next response of the client.
    #[must_use]
    pub fn respond(self, response: &[u8], terms: Terms<'_>) -> Step {
        match self.0 {
            State::Plain => password::plain(response),
            State::LoginUser => password::login_user(response),
            State::LoginPassword(user) => password::login_password(user, response),
            State::ScramFirst { hash, plus } => scram::first(hash, plus, response, terms),
            State::ScramFinal(state) => state.respond(response),
            State::External => proof::external(response, terms),
            State::Oauth(mechanism) => oauth::respond(mechanism, response, terms),
            State::Acknowledgement(end) => *end,
        }
    }
}

/// A login that waits for its verdict.
#[derive(Debug)]
pub struct Pending {
    login: Login,
    then: Then,
}

/// What the client gets before the verdict.
#[derive(Debug)]
enum Then {
    /// Nothing.
    Verdict,
    /// The server's own proof, or an error in the form of SCRAM.
    ScramFinal(String),
    /// After a refusal: an error in JSON.
    OauthError(String),
}

impl Pending {
    fn step(login: Login, then: Then) -> Step {
        Step::Decide(Box::new(Self { login, then }))
    }

    /// The login.
    #[must_use]
    pub const fn login(&self) -> &Login {
        &self.login
    }

    /// Goes on with the verdict.
    #[must_use]
    pub fn verdict(self, verdict: Verdict) -> Step {
        let is_right = verdict.is_ok();
        let is_wrong = matches!(&verdict, Err(reply) if is_wrong_credentials(reply));
        let user = self.login.user;
        let end = verdict.map_or_else(|reply| Step::Refused { user, reply }, Step::Done);
        match self.then {
            Then::ScramFinal(proof) if is_right => last(&proof, end),
            Then::ScramFinal(_) if is_wrong => last(scram::INVALID_PROOF, end),
            Then::OauthError(error) if is_wrong => last(&error, end),
            // A refusal for another reason needs no words of the mechanism.
            Then::Verdict | Then::ScramFinal(_) | Then::OauthError(_) => end,
        }
    }
}

/// A last challenge. Whatever the client answers, the exchange ends so.
fn last(challenge: &str, end: Step) -> Step {
    let exchange = Exchange(State::Acknowledgement(Box::new(end)));
    Step::Challenge(exchange, challenge.as_bytes().to_vec())
}

/// The reply to wrong credentials. It does not tell what is wrong (RFC 4954 §6).
#[must_use]
pub const fn wrong_credentials() -> Reply {
    Reply::fixed(
        ReplyCode::AUTHENTICATION_FAILED,
        Some(EnhancedCode::BAD_CREDENTIALS),
        "wrong user or password",
    )
    .because(reason::BAD_CREDENTIALS)
}

fn is_wrong_credentials(reply: &Reply) -> bool {
    reply.code() == ReplyCode::AUTHENTICATION_FAILED
}

/// The end of an exchange whose response is not what the mechanism defines.
const fn malformed(text: &'static str) -> Step {
    Step::Refused {
        user: String::new(),
        reply: Reply::fixed(ReplyCode::PARAMETER_ERROR, Some(EnhancedCode::SYNTAX), text)
            .because(reason::LOGIN_SYNTAX),
    }
}
