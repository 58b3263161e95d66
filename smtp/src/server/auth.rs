//! AUTH (RFC 4954) with the mechanisms PLAIN (RFC 4616) and LOGIN.

use base64::{Engine, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use super::{
    handler::Login,
    line::{self, LineError},
    session::{Next, Session},
    state::{Stage, State},
    transaction::bad_sequence,
};
use crate::{EnhancedCode, Reply, ReplyCode};

/// The longest line of an exchange in bytes, with its CRLF (RFC 4954 §4).
const LINE_MAX: usize = 12288;

impl Session {
    /// The server offers AUTH now.
    pub(super) fn offers_auth(&self) -> bool {
        self.config.auth && (self.client.tls.is_some() || !self.config.auth_requires_tls)
    }

    /// The AUTH command.
    pub(super) fn auth(&mut self, mechanism: &str, initial: Option<&str>, stage: Stage) -> State {
        let reply = if !self.config.auth {
            Reply::fixed(
                ReplyCode::NOT_IMPLEMENTED,
                Some(EnhancedCode::INVALID_COMMAND),
                "AUTH is not offered",
            )
        } else if !self.offers_auth() {
            Reply::fixed(
                ReplyCode::ENCRYPTION_REQUIRED,
                Some(EnhancedCode::ENCRYPTION_REQUIRED),
                "use STARTTLS first",
            )
        } else if self.client.helo.is_none()
            || self.client.login.is_some()
            || !matches!(stage, Stage::Idle)
        {
            bad_sequence("not now")
        } else {
            match Exchange::new(mechanism) {
                Some(exchange) => return self.progress(exchange.begin(initial)),
                None => Reply::fixed(
                    ReplyCode::PARAMETER_NOT_IMPLEMENTED,
                    Some(EnhancedCode::INVALID_ARGUMENTS),
                    "use AUTH PLAIN or LOGIN",
                ),
            }
        };
        self.refuse(&reply, State::ExpectCommand(stage))
    }

    pub(super) fn expect_auth_line(&mut self, exchange: Exchange) -> (State, Next) {
        let line = match line::take(&mut self.input, LINE_MAX) {
            Ok(Some(line)) => line,
            Ok(None) => return (State::ExpectAuthLine(exchange), Next::Wait),
            Err(error) => return (self.close_for(error), Next::Again),
        };
        let progress = match line::text(&line, LINE_MAX).map_err(LineError::reply) {
            Ok(line) => exchange.line(line),
            Err(reply) => Progress::Failed(reply),
        };
        (self.progress(progress), Next::Again)
    }

    fn progress(&mut self, progress: Progress) -> State {
        match progress {
            Progress::Challenge(exchange, challenge) => {
                let reply = Reply::fixed(ReplyCode::CHALLENGE, None, challenge);
                self.say(&reply, State::ExpectAuthLine(exchange))
            }
            Progress::Done(login) => State::AwaitLogin(login),
            Progress::Failed(reply) => self.refuse(&reply, State::ExpectCommand(Stage::Idle)),
        }
    }

    /// The login is right.
    pub(super) fn accept_login(&mut self, login: Login) -> State {
        self.client.login = Some(login.user);
        let code = Some(EnhancedCode::SECURITY_OK);
        let reply = Reply::fixed(ReplyCode::AUTHENTICATED, code, "logged in");
        self.say(&reply, State::ExpectCommand(Stage::Idle))
    }
}

/// An exchange that goes on.
#[derive(Debug)]
pub(super) enum Exchange {
    /// PLAIN, which has one response.
    Plain,
    /// LOGIN before the user.
    LoginUser,
    /// LOGIN after the user and before the password.
    LoginPassword(String),
}

/// The progress of an exchange.
enum Progress {
    /// The server sends this challenge. The next line belongs to the exchange.
    Challenge(Exchange, &'static str),
    /// The client has given its credentials.
    Done(Login),
    /// The exchange ends with a refusal.
    Failed(Reply),
}

impl Exchange {
    /// An exchange with this mechanism. None for an unknown one.
    fn new(mechanism: &str) -> Option<Self> {
        match mechanism {
            "PLAIN" => Some(Self::Plain),
            "LOGIN" => Some(Self::LoginUser),
            _ => None,
        }
    }

    /// The AUTH command itself. `=` is an empty initial response (RFC 4954 §4).
    fn begin(self, initial: Option<&str>) -> Progress {
        match (self, initial) {
            (exchange, Some("=")) => exchange.line(""),
            (exchange, Some(response)) => exchange.line(response),
            (Self::Plain, None) => Progress::Challenge(Self::Plain, ""),
            // Clients of LOGIN expect these two challenges: "Username:" and "Password:".
            (exchange, None) => Progress::Challenge(exchange, "VXNlcm5hbWU6"),
        }
    }

    /// The next line of the client.
    fn line(self, line: &str) -> Progress {
        if line == "*" {
            return failed(
                ReplyCode::PARAMETER_ERROR,
                EnhancedCode::SECURITY,
                "login given up",
            );
        }
        let decoded = STANDARD.decode(line).ok().map(Zeroizing::new);
        let Some(text) = decoded.and_then(|bytes| {
            std::str::from_utf8(&bytes)
                .ok()
                .map(|text| Zeroizing::new(text.to_owned()))
        }) else {
            return failed(
                ReplyCode::PARAMETER_ERROR,
                EnhancedCode::SYNTAX,
                "not base64 of UTF-8",
            );
        };
        match self {
            Self::Plain => plain(&text),
            Self::LoginUser => {
                Progress::Challenge(Self::LoginPassword(text.to_string()), "UGFzc3dvcmQ6")
            }
            Self::LoginPassword(user) => Progress::Done(Login {
                mechanism: "LOGIN",
                authorization: String::new(),
                user,
                password: text,
            }),
        }
    }
}

fn plain(text: &str) -> Progress {
    let mut parts = text.split('\0');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(authorization), Some(user), Some(password), None) if !user.is_empty() => {
            Progress::Done(Login {
                mechanism: "PLAIN",
                authorization: authorization.to_owned(),
                user: user.to_owned(),
                password: Zeroizing::new(password.to_owned()),
            })
        }
        _ => failed(
            ReplyCode::PARAMETER_ERROR,
            EnhancedCode::SYNTAX,
            "not a response of PLAIN",
        ),
    }
}

fn failed(code: ReplyCode, enhanced: EnhancedCode, text: &'static str) -> Progress {
    Progress::Failed(Reply::fixed(code, Some(enhanced), text))
}
