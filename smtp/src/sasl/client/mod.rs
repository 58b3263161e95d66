//! The client's side of SASL: the choice of a mechanism, and its messages, without I/O.
//!
//! A [`ClientExchange`] takes the challenges of a server and gives the responses. Its end is for
//! the caller to see: after the success that the server tells, [`ClientExchange::succeeded`] says
//! whether the server proved itself, too.

mod scram;

use std::fmt;

use zeroize::Zeroizing;

use super::Mechanism;
use scram::ScramClient;

/// The most bytes of a server's error that are told.
const TOLD_MAX: usize = 200;

/// What proves the user of a login.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// A password.
    Password(Zeroizing<String>),
    /// A token of an OAuth authorization server.
    Token(Zeroizing<String>),
}

/// Hides the secret, so that no log line has it.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Password(_) => "Password",
            Self::Token(_) => "Token",
        })
    }
}

/// A login of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientLogin {
    /// The authentication identity.
    pub user: String,
    /// What proves it.
    pub secret: Secret,
    /// The mechanisms that may be used. Empty: all that fit the secret.
    pub mechanisms: Vec<Mechanism>,
    /// A random text for this login alone, of printable ASCII without commas. SCRAM needs it.
    pub nonce: String,
}

/// Why a login does not go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// No mechanism is offered, allowed and fit for the secret.
    #[error("the server offers no AUTH mechanism that the login can use: it offers {0}")]
    NoMechanism(String),
    /// The server sent something that is not a message of the mechanism.
    #[error("the server's message is not one of {0}")]
    Malformed(&'static str),
    /// The server's nonce does not begin with ours: its message is not for this login.
    #[error("the server did not repeat the nonce")]
    Nonce,
    /// The rounds of the hash function are fewer than RFC 7677 §4 allows, or more than we compute.
    #[error("the server asks for {0} rounds of the hash function; {min} to {max} are done", min = scram::ROUNDS_MIN, max = scram::ROUNDS_MAX)]
    Rounds(u64),
    /// The server does not know the password: it may be another server.
    #[error("the server did not prove that it knows the password")]
    Unproven,
}

/// A login under way.
#[derive(Clone, Debug)]
pub struct ClientExchange {
    mechanism: Mechanism,
    state: State,
    /// The error that the server told by the words of the mechanism.
    told: Option<String>,
}

/// What the exchange waits for.
#[derive(Clone, Debug)]
enum State {
    /// The server's reply. It has everything.
    End,
    /// The challenge of LOGIN for the user.
    User(String, Secret),
    /// The challenge of LOGIN for the password.
    Password(Secret),
    /// A message of SCRAM.
    Scram(Box<ScramClient>),
    /// The error of an OAuth server, or its reply.
    Oauth,
}

/// A response. It may hold the secret.
pub type Response = Zeroizing<Vec<u8>>;

impl ClientExchange {
    /// Begins a login by the best mechanism that both sides know. `offered` are the server's
    /// mechanisms in upper case, `channel` is the tls-exporter value of the connection (RFC 9266),
    /// if there is one.
    ///
    /// The second value is the first response, which goes with the command. None: the server asks
    /// first.
    ///
    /// # Errors
    /// If there is no such mechanism.
    pub fn begin(
        login: &ClientLogin,
        offered: &[String],
        channel: Option<[u8; 32]>,
    ) -> Result<(Self, Option<Response>), ClientError> {
        let Some(mechanism) = choose(login, offered, channel.is_some()) else {
            let offered = match offered {
                [] => "none".to_owned(),
                some => told(some.join(" ").as_bytes()),
            };
            return Err(ClientError::NoMechanism(offered));
        };
        let ClientLogin { user, secret, .. } = login;
        let (Secret::Password(word) | Secret::Token(word)) = secret;
        let word = word.as_str();
        let (state, first) = match mechanism {
            Mechanism::Login => (State::User(user.clone(), secret.clone()), None),
            Mechanism::Plain => (State::End, Some(format!("\0{user}\0{word}"))),
            Mechanism::OauthBearer => {
                let user = scram::encode_name(user);
                let response = format!("n,a={user},\u{1}auth=Bearer {word}\u{1}\u{1}");
                (State::Oauth, Some(response))
            }
            Mechanism::Xoauth2 => {
                let response = format!("user={user}\u{1}auth=Bearer {word}\u{1}\u{1}");
                (State::Oauth, Some(response))
            }
            Mechanism::Scram(hash) | Mechanism::ScramPlus(hash) => {
                let is_plus = matches!(mechanism, Mechanism::ScramPlus(_));
                let binding = scram::Binding::of(is_plus, offered, &login.mechanisms, channel);
                let client = ScramClient::new(hash, binding, user, word, &login.nonce);
                let first = client.first();
                (State::Scram(Box::new(client)), Some(first))
            }
            // `choose` never gives it: no secret fits it.
            Mechanism::External => (State::End, None),
        };
        let exchange = Self {
            mechanism,
            state,
            told: None,
        };
        Ok((exchange, first.map(|first| first.into_bytes().into())))
    }

    /// The chosen mechanism.
    #[must_use]
    pub const fn mechanism(&self) -> Mechanism {
        self.mechanism
    }

    /// The response to a challenge.
    ///
    /// # Errors
    /// If the challenge is none of the mechanism, or the server does not prove what it must. The
    /// login is to be given up then.
    pub fn respond(&mut self, challenge: &[u8]) -> Result<Response, ClientError> {
        let state = std::mem::replace(&mut self.state, State::End);
        let response = match state {
            State::User(user, secret) => {
                self.state = State::Password(secret);
                user.into_bytes()
            }
            State::Password(Secret::Password(word) | Secret::Token(word)) => {
                word.as_bytes().to_vec()
            }
            State::Scram(mut client) => {
                let response = match challenge.strip_prefix(b"e=") {
                    Some(error) => {
                        self.told = Some(told(error));
                        Vec::new()
                    }
                    None => client.respond(challenge, self.mechanism.name())?,
                };
                self.state = State::Scram(client);
                response
            }
            State::Oauth => {
                self.told = Some(told(challenge));
                match self.mechanism {
                    // RFC 7628 §3.2.3.
                    Mechanism::OauthBearer => b"\x01".to_vec(),
                    _ => Vec::new(),
                }
            }
            State::End => return Err(ClientError::Malformed(self.mechanism.name())),
        };
        Ok(response.into())
    }

    /// The server said that the login is right. With SCRAM it has to have proven itself before.
    ///
    /// # Errors
    /// If it did not.
    pub fn succeeded(&self) -> Result<(), ClientError> {
        match &self.state {
            State::Scram(client) if !client.is_proven() => Err(ClientError::Unproven),
            _ => Ok(()),
        }
    }

    /// The error that the server told by the words of the mechanism, before its refusal.
    #[must_use]
    pub fn told(&self) -> Option<&str> {
        self.told.as_deref()
    }
}

/// The best mechanism that is offered, allowed and fit for the secret.
fn choose(login: &ClientLogin, offered: &[String], has_channel: bool) -> Option<Mechanism> {
    let allowed = &login.mechanisms;
    let fits = |mechanism: Mechanism| match mechanism {
        Mechanism::External => false,
        Mechanism::OauthBearer | Mechanism::Xoauth2 => matches!(login.secret, Secret::Token(_)),
        Mechanism::ScramPlus(_) => has_channel && matches!(login.secret, Secret::Password(_)),
        Mechanism::Scram(_) | Mechanism::Plain | Mechanism::Login => {
            matches!(login.secret, Secret::Password(_))
        }
    };
    Mechanism::ALL.into_iter().find(|mechanism| {
        fits(*mechanism)
            && (allowed.is_empty() || allowed.contains(mechanism))
            && offered.iter().any(|name| name == mechanism.name())
    })
}

/// What a server says, for a log and a status: printable ASCII, of a limited length.
fn told(text: &[u8]) -> String {
    let text = text.iter().take(TOLD_MAX);
    let shown = text.map(|byte| match byte {
        b' '..=b'~' => char::from(*byte),
        _ => '?',
    });
    shown.collect()
}

#[cfg(test)]
mod tests;
