//! AUTH (RFC 4954) with the mechanisms PLAIN (RFC 4616) and LOGIN.

use std::fmt;

use base64::{Engine as _, prelude::BASE64_STANDARD};

use super::{
    Credentials,
    session::Session,
    state::{State, Step},
};
use crate::{Cause, DeliveryStatus, EnhancedCode, Reply};

/// A line of the client in an authentication exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AuthStep {
    /// PLAIN with its one response.
    Plain,
    /// The beginning of LOGIN.
    Login,
    /// The first response of LOGIN.
    User,
    /// The second response of LOGIN.
    Password,
}

impl AuthStep {
    pub(super) fn write(
        self,
        login: Option<&Credentials>,
        out: &mut impl fmt::Write,
    ) -> fmt::Result {
        let Some(Credentials { user, password, .. }) = login else {
            return Ok(());
        };
        match self {
            Self::Plain => {
                let response = BASE64_STANDARD.encode(format!("\0{user}\0{password}"));
                write!(out, "AUTH PLAIN {response}\r\n")
            }
            Self::Login => out.write_str("AUTH LOGIN\r\n"),
            Self::User => write!(out, "{}\r\n", BASE64_STANDARD.encode(user)),
            Self::Password => write!(out, "{}\r\n", BASE64_STANDARD.encode(password)),
        }
    }
}

impl Session {
    /// Logs in if there are credentials. Otherwise the session is ready.
    pub(super) fn authenticate(&mut self) {
        let Some(login) = &self.config.login else {
            return self.enter(State::Ready);
        };
        let mechanisms = &self.extensions.auth;
        let offered = |name: &str| mechanisms.iter().any(|mechanism| mechanism == name);
        if !self.tls && !login.without_tls {
            let code = EnhancedCode::ENCRYPTION_REQUIRED;
            self.close(no_login(code, "no TLS, so the login is not sent"));
        } else if offered("PLAIN") {
            self.send_next(Step::Auth(AuthStep::Plain));
        } else if offered("LOGIN") {
            self.send_next(Step::Auth(AuthStep::Login));
        } else {
            let text = "the server offers neither AUTH PLAIN nor AUTH LOGIN";
            self.close(no_login(EnhancedCode::SECURITY_TRANSIENT, text));
        }
    }

    /// A reply to a line of the exchange.
    pub(super) fn authenticating(&mut self, step: AuthStep, reply: &Reply) {
        self.pop();
        match (step, reply.code().class()) {
            (_, 2) => self.enter(State::Ready),
            (AuthStep::Login, 3) => self.send_next(Step::Auth(AuthStep::User)),
            (AuthStep::User, 3) => self.send_next(Step::Auth(AuthStep::Password)),
            _ => {
                // An administrator has to correct a wrong password. The mail waits for that.
                let status = DeliveryStatus::from_reply(reply, "AUTH");
                self.close(DeliveryStatus {
                    permanent: false,
                    ..status
                });
            }
        }
    }
}

fn no_login(code: EnhancedCode, text: &str) -> DeliveryStatus {
    DeliveryStatus::transient(Cause::Local, code, text).with_command("AUTH")
}
