//! What comes before the mail: the greeting, EHLO, HELO and STARTTLS.

use std::time::Instant;

use super::{
    Extensions, TlsFaultKind,
    config::Security,
    session::Session,
    state::{State, Step},
};
use crate::{Cause, DeliveryStatus, EnhancedCode, Reply, ReplyCode};

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
            // RFC 5321 §3.2: a server without EHLO. It has neither TLS nor logins.
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
            _ => self.close_with(reply, step),
        }
    }

    fn choose_security(&mut self) {
        match self.config.security {
            _ if self.tls => self.authenticate(),
            Security::Opportunistic | Security::Required if self.extensions.start_tls => {
                self.send_next(Step::StartTls);
            }
            Security::Required => {
                let text = TlsFaultKind::NotOffered.text();
                self.tls_fault = Some(TlsFaultKind::NotOffered);
                self.close(without_tls(EnhancedCode::NO_SECURITY_FEATURE, text));
            }
            Security::Never | Security::Opportunistic | Security::Active => self.authenticate(),
        }
    }

    fn start_tls(&mut self, reply: &Reply) {
        if reply.code() == ReplyCode::READY {
            // Bytes in the buffer were sent in clear. Under TLS they must not count as the
            // server's.
            if !self.parser.is_empty() {
                let text = "the server sent more than the reply to STARTTLS in clear";
                self.tls_fault = Some(TlsFaultKind::Protocol);
                return self.close(without_tls(EnhancedCode::CRYPTOGRAPHIC_FAILURE, text));
            }
            return self.enter(State::ExpectTls);
        }
        match self.config.security {
            Security::Required => {
                let status = DeliveryStatus::from_reply(reply, "STARTTLS");
                self.tls_fault = Some(TlsFaultKind::Refused);
                // Even a permanent refusal says nothing of the message.
                self.close(DeliveryStatus {
                    permanent: false,
                    cause: Cause::Tls,
                    ..status
                });
            }
            _ => self.authenticate(),
        }
    }

    /// The TLS handshake is done. The session forgets all that it learnt before (RFC 3207 §4.2).
    pub fn tls_started(&mut self, now: Instant) {
        self.tls = true;
        self.extensions = Extensions::default();
        self.since = now;
        self.enter(State::Opening);
        self.send_next(Step::Ehlo);
    }
}

fn without_tls(code: EnhancedCode, text: &str) -> DeliveryStatus {
    DeliveryStatus::transient(Cause::Tls, code, text).with_command("STARTTLS")
}
