//! The opening of a session: greeting, EHLO or HELO, STARTTLS, AUTH.

use std::fmt;

use base64::{Engine as _, prelude::BASE64_STANDARD};

use super::{
    Extensions, Login,
    session::{Output, Security, Session, Step},
};
use crate::{Cause, DeliveryStatus, EnhancedCode, Reply, ReplyCode};

/// What is sent during authentication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AuthStep {
    /// PLAIN with its one answer (RFC 4616).
    Plain,
    /// The beginning of LOGIN.
    Login,
    /// LOGIN's first answer.
    User,
    /// LOGIN's second answer.
    Password,
}

impl AuthStep {
    pub(super) fn write(self, login: Option<&Login>, out: &mut impl fmt::Write) -> fmt::Result {
        let Some(Login { user, password, .. }) = login else {
            return Ok(());
        };
        match self {
            Self::Plain => write!(
                out,
                "AUTH PLAIN {}\r\n",
                BASE64_STANDARD.encode(format!("\0{user}\0{password}"))
            ),
            Self::Login => out.write_str("AUTH LOGIN\r\n"),
            Self::User => write!(out, "{}\r\n", BASE64_STANDARD.encode(user)),
            Self::Password => write!(out, "{}\r\n", BASE64_STANDARD.encode(password)),
        }
    }
}

impl Session {
    /// A reply to a step of the opening.
    pub(super) fn opening(&mut self, step: Step, reply: &Reply) {
        self.pop();
        match (step, reply.code().class()) {
            (Step::Greeting, 2) => self.send_next(Step::Ehlo),
            (Step::Ehlo, 2) => {
                self.extensions = Extensions::parse(reply);
                self.choose_security();
            }
            // RFC 5321 §3.2: a server that does not know EHLO. It cannot have TLS or logins either.
            (Step::Ehlo, 5)
                if !self.config.lmtp && !self.tls && self.config.security != Security::Required =>
            {
                self.send_next(Step::Helo);
            }
            (Step::Helo, 2) => {
                self.extensions = Extensions::default();
                self.authenticate();
            }
            (Step::StartTls, _) => self.start_tls(reply),
            (Step::Auth(auth), _) => self.authenticating(auth, reply),
            _ => self.close_with(reply, step),
        }
    }

    fn choose_security(&mut self) {
        match self.config.security {
            _ if self.tls => self.authenticate(),
            Security::Opportunistic | Security::Required if self.extensions.start_tls => {
                self.send_next(Step::StartTls);
            }
            Security::Required => self.close(no_tls("the server does not offer STARTTLS")),
            Security::Never | Security::Opportunistic | Security::Active => self.authenticate(),
        }
    }

    fn start_tls(&mut self, reply: &Reply) {
        if reply.code() != ReplyCode::READY {
            return match self.config.security {
                Security::Required => {
                    let status = DeliveryStatus::from_reply(reply, "STARTTLS");
                    // Its refusal says nothing about the message, even if it is for good.
                    self.close(DeliveryStatus {
                        permanent: false,
                        cause: Cause::Tls,
                        ..status
                    });
                }
                _ => self.authenticate(),
            };
        }
        // What is in the buffer now was sent in clear, by whoever, to be taken for something said under TLS.
        if !self.parser.is_empty() {
            return self.close(no_tls(
                "the server sent more than the reply to STARTTLS in clear",
            ));
        }
        self.emit(Output::StartTls);
    }

    /// The handshake is done. All that was learnt before is forgotten (RFC 3207 §4.2).
    pub fn tls_started(&mut self, now: std::time::Instant) {
        self.tls = true;
        self.extensions = Extensions::default();
        self.wrote(now);
        self.send_next(Step::Ehlo);
    }

    fn authenticate(&mut self) {
        let Some(login) = &self.config.login else {
            return self.emit(Output::Ready);
        };
        let offered = |name: &str| {
            self.extensions
                .auth
                .iter()
                .any(|mechanism| mechanism == name)
        };
        let step = if offered("PLAIN") {
            Some(AuthStep::Plain)
        } else {
            offered("LOGIN").then_some(AuthStep::Login)
        };
        match step {
            _ if !self.tls && !login.without_tls => {
                self.close(no_login(
                    EnhancedCode::ENCRYPTION_REQUIRED,
                    "no TLS, so the login is not sent",
                ));
            }
            Some(step) => self.send_next(Step::Auth(step)),
            None => {
                let text = "the server offers neither AUTH PLAIN nor AUTH LOGIN";
                self.close(no_login(EnhancedCode::SECURITY_TRANSIENT, text));
            }
        }
    }

    fn authenticating(&mut self, step: AuthStep, reply: &Reply) {
        match (step, reply.code().class()) {
            (_, 2) => self.emit(Output::Ready),
            (AuthStep::Login, 3) => self.send_next(Step::Auth(AuthStep::User)),
            (AuthStep::User, 3) => self.send_next(Step::Auth(AuthStep::Password)),
            _ => {
                // A wrong password is for the administrator to correct; the mail waits for that.
                let status = DeliveryStatus::from_reply(reply, "AUTH");
                self.close(DeliveryStatus {
                    permanent: false,
                    ..status
                });
            }
        }
    }
}

fn no_tls(text: &str) -> DeliveryStatus {
    let enhanced = EnhancedCode::ENCRYPTION_NEEDED_TRANSIENT;
    DeliveryStatus::transient(Cause::Tls, enhanced, text).with_command("STARTTLS")
}

fn no_login(enhanced: EnhancedCode, text: &str) -> DeliveryStatus {
    DeliveryStatus::transient(Cause::Local, enhanced, text).with_command("AUTH")
}
