//! AUTH (RFC 4954). The mechanisms are in [`crate::sasl`].

use std::fmt;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use zeroize::Zeroizing;

use super::{
    session::{Session, unexpected},
    state::{State, Step},
};
use crate::{
    Cause, DeliveryStatus, EnhancedCode, Reply,
    sasl::{ClientError, ClientExchange, Response},
};

/// The longest AUTH command (RFC 5321 §4.5.3.1.4). A longer first response goes on a line of its
/// own (RFC 4954 §4).
const COMMAND_MAX: usize = 512;

/// A login under way.
#[derive(Debug)]
pub(super) struct Auth {
    exchange: ClientExchange,
    /// The next line, without its end.
    line: Zeroizing<String>,
    /// A first response that did not fit into the command. The server asks for it.
    first: Option<Response>,
}

impl Auth {
    fn new(exchange: ClientExchange, first: Option<Response>) -> Self {
        let name = exchange.mechanism().name();
        let mut line = Zeroizing::new(format!("AUTH {name}"));
        let first = first.and_then(|first| {
            let response = encoded(&first);
            if line.len() + response.len() + " \r\n".len() > COMMAND_MAX {
                return Some(first);
            }
            line.push(' ');
            line.push_str(&response);
            None
        });
        Self {
            exchange,
            line,
            first,
        }
    }

    pub(super) fn write(&self, out: &mut impl fmt::Write) -> fmt::Result {
        write!(out, "{}\r\n", self.line.as_str())
    }

    /// The response that was sent last, encoded; empty if there was none.
    pub(super) fn response(&self) -> &str {
        match self.line.strip_prefix("AUTH ") {
            Some(command) => command.split_once(' ').map_or("", |(_, response)| response),
            None => &self.line,
        }
    }

    /// Takes a challenge, and makes the next line.
    fn challenged(&mut self, reply: &Reply) -> Result<(), ClientError> {
        let response = match self.first.take() {
            Some(first) => first,
            None => {
                let name = self.exchange.mechanism().name();
                let challenge = BASE64_STANDARD.decode(reply.text().trim());
                let challenge = challenge.map_err(|_| ClientError::Malformed(name))?;
                self.exchange.respond(&challenge)?
            }
        };
        self.line = encoded(&response);
        Ok(())
    }
}

fn encoded(response: &Response) -> Zeroizing<String> {
    BASE64_STANDARD.encode(response.as_slice()).into()
}

impl Session {
    /// Logs in if there are credentials. Otherwise the session is ready.
    pub(super) fn authenticate(&mut self) {
        let Some(credentials) = &self.config.login else {
            return self.enter(State::Ready);
        };
        if !self.tls && !credentials.without_tls {
            let code = EnhancedCode::ENCRYPTION_REQUIRED;
            return self.close(no_login(code, "no TLS, so the login is not sent"));
        }
        let offered = &self.extensions.auth;
        match ClientExchange::begin(&credentials.login, offered, self.channel) {
            Ok((exchange, first)) => {
                self.auth = Some(Auth::new(exchange, first));
                self.send_next(Step::Auth);
            }
            Err(error) => self.give_up_login(&error),
        }
    }

    /// A reply to a line of the exchange.
    pub(super) fn authenticating(&mut self, reply: &Reply) {
        self.pop();
        let Some(mut auth) = self.auth.take() else {
            return self.close(unexpected(reply, Step::Auth.name()));
        };
        match reply.code().class() {
            2 => match auth.exchange.succeeded() {
                Ok(()) => self.enter(State::Ready),
                Err(error) => self.give_up_login(&error),
            },
            3 => match auth.challenged(reply) {
                Ok(()) => {
                    self.auth = Some(auth);
                    self.send_next(Step::Auth);
                }
                Err(error) => self.give_up_login(&error),
            },
            _ => {
                let status = DeliveryStatus::from_reply(reply, Step::Auth.name());
                let text = match auth.exchange.told() {
                    Some(told) => format!("{} ({told})", status.text),
                    None => status.text,
                };
                // An administrator has to correct a wrong password. The mail waits for that.
                self.close(DeliveryStatus {
                    permanent: false,
                    text,
                    ..status
                });
            }
        }
    }

    fn give_up_login(&mut self, error: &ClientError) {
        self.close(no_login(EnhancedCode::SECURITY_TRANSIENT, error));
    }
}

fn no_login(code: EnhancedCode, text: impl fmt::Display) -> DeliveryStatus {
    DeliveryStatus::transient(Cause::Local, code, text.to_string()).with_command("AUTH")
}
