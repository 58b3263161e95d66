//! AUTH PLAIN (RFC 4616) and LOGIN, as exchanges of lines (RFC 4954).

use base64::{Engine, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use super::handler::Login;
use crate::{EnhancedCode, Reply, ReplyCode};

/// An exchange that goes on.
#[derive(Debug)]
pub(crate) enum Exchange {
    /// PLAIN: one response.
    Plain,
    /// LOGIN: the user is next.
    LoginUser,
    /// LOGIN: the password is next.
    LoginPassword(String),
}

/// Where an exchange stands.
pub(crate) enum Progress {
    /// Send this challenge; the next line belongs to the exchange.
    Challenge(Exchange, &'static str),
    /// All was said.
    Done(Login),
    /// It ends.
    Failed(Reply),
}

impl Exchange {
    /// None for a mechanism that is not known.
    pub(crate) fn new(mechanism: &str) -> Option<Self> {
        match mechanism {
            "PLAIN" => Some(Self::Plain),
            "LOGIN" => Some(Self::LoginUser),
            _ => None,
        }
    }

    /// The AUTH command itself; `=` is an empty initial response (RFC 4954 §4).
    pub(crate) fn begin(self, initial: Option<&str>) -> Progress {
        match (self, initial) {
            (exchange, Some("=")) => exchange.line(""),
            (exchange, Some(response)) => exchange.line(response),
            (Self::Plain, None) => Progress::Challenge(Self::Plain, ""),
            // The challenges are the words that every client of LOGIN expects: "Username:" and "Password:".
            (exchange, None) => Progress::Challenge(exchange, "VXNlcm5hbWU6"),
        }
    }

    /// A line of the client.
    pub(crate) fn line(self, line: &str) -> Progress {
        if line == "*" {
            return failed(
                ReplyCode::PARAMETER_ERROR,
                EnhancedCode::permanent(7, 0),
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
                EnhancedCode::permanent(5, 2),
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
            EnhancedCode::permanent(5, 2),
            "not a response of PLAIN",
        ),
    }
}

fn failed(code: ReplyCode, enhanced: EnhancedCode, text: &'static str) -> Progress {
    Progress::Failed(Reply::fixed(code, Some(enhanced), text))
}
