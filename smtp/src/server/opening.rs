//! What comes before the mail: the greeting, EHLO, HELO and STARTTLS.

use std::time::{Duration, Instant};

use super::{
    command::{DELIVER_BY_MIN, is_http_method},
    event::Event,
    replies::About,
    session::Session,
    state::{Stage, State},
    xclient,
};
use crate::{EnhancedCode, Reply, ReplyCode, TlsInfo, reason};

/// The longest time for which FUTURERELEASE holds a message: 60 days.
pub const HOLD_MAX: Duration = Duration::from_secs(60 * 24 * 3600);

impl Session {
    /// The client may talk to us. One that has talked already does not wait for replies, as
    /// programs that send spam do (RFC 5321 §3.1). Behind XCLIENT commands may follow.
    pub(super) fn greet(&mut self, anew: bool) -> State {
        if !anew && !self.input.is_empty() {
            return self.close_early();
        }
        let text = format!("{} ESMTP postrider", self.config.hostname.ascii());
        let reply = Reply::new(ReplyCode::READY, None, text);
        self.say(&reply, State::ExpectCommand(Stage::Idle))
    }

    /// Ends the session, because the client did not wait for the greeting.
    fn close_early(&mut self) -> State {
        if is_tls(&self.input) || is_http(&self.input) {
            return self.close_foreign();
        }
        self.input.clear();
        let reply = Reply::fixed(
            ReplyCode::TRANSACTION_FAILED,
            Some(EnhancedCode::INVALID_COMMAND),
            "you must wait for the greeting, closing",
        )
        .because(reason::EARLY_TALKER);
        self.refuse_and_close(&reply, About::default())
    }

    /// Ends the session, because the client speaks HTTP or TLS.
    pub(super) fn close_foreign(&mut self) -> State {
        self.input.clear();
        let reply = Reply::fixed(
            ReplyCode::SYNTAX_ERROR,
            Some(EnhancedCode::SYNTAX),
            "this is a mail server, and it speaks SMTP in clear here",
        )
        .because(reason::NOT_SMTP);
        self.refuse_and_close(&reply, About::default())
    }

    /// EHLO or HELO. A refusal leaves everything as it was.
    pub(super) fn ask_hello(&mut self, name: String, esmtp: bool, stage: Stage) -> State {
        match self.config.ask_hello {
            true => State::AwaitHello(name, esmtp, stage),
            false => self.hello(name, esmtp),
        }
    }

    /// EHLO or HELO. It also ends a transaction (RFC 5321 §4.1.4).
    pub(super) fn hello(&mut self, name: String, esmtp: bool) -> State {
        let mut text = self.config.hostname.ascii().to_owned();
        if esmtp {
            self.extensions(&mut text);
        }
        self.client.helo = Some(name);
        self.client.esmtp = esmtp;
        self.happened(Event::Hello);
        let reply = Reply::new(ReplyCode::OK, None, text);
        self.say(&reply, State::ExpectCommand(Stage::Idle))
    }

    /// Appends the extensions, each on a line of its own.
    fn extensions(&self, text: &mut String) {
        let config = &self.config;
        let tls = self.client.tls.is_some();
        let mut offer = |keyword: &str| {
            text.push('\n');
            text.push_str(keyword);
        };
        offer("PIPELINING");
        offer("8BITMIME");
        offer("SMTPUTF8");
        offer("ENHANCEDSTATUSCODES");
        offer("CHUNKING");
        offer(&format!("SIZE {}", config.max_message_size));
        offer(&format!(
            "LIMITS MAILMAX={} RCPTMAX={}",
            config.max_messages, config.max_recipients
        ));
        if config.dsn {
            offer("DSN");
        }
        if config.binary_mime {
            offer("BINARYMIME");
        }
        if config.submission {
            let until = self.client.connected.checked_add(HOLD_MAX);
            let until = until.unwrap_or(self.client.connected);
            offer(&format!("FUTURERELEASE {} {until:.0}", HOLD_MAX.as_secs()));
            offer("MT-PRIORITY MIXER");
            offer(&format!("DELIVERBY {DELIVER_BY_MIN}"));
        }
        if config.require_tls_extension && tls {
            offer("REQUIRETLS");
        }
        if config.starttls && !tls {
            offer("STARTTLS");
        }
        if self.offers_auth() {
            offer(&format!("AUTH {}", self.mechanisms()));
        }
        if self.client.xclient {
            offer(&format!("XCLIENT {}", xclient::ATTRIBUTES));
        }
    }

    pub(super) fn start_tls(&mut self, stage: Stage) -> State {
        if !self.config.starttls || self.client.tls.is_some() {
            let reply = Reply::fixed(
                ReplyCode::BAD_SEQUENCE,
                Some(EnhancedCode::INVALID_COMMAND),
                "STARTTLS is not offered now",
            )
            .because(reason::NOT_OFFERED);
            return self.refuse(&reply, State::ExpectCommand(stage));
        }
        if !self.input.is_empty() {
            // These bytes were sent in clear. Under TLS they must not count as the client's (RFC
            // 3207 §4.2).
            self.input.clear();
            let reply = Reply::fixed(
                ReplyCode::TRANSACTION_FAILED,
                Some(EnhancedCode::INVALID_COMMAND),
                "nothing may follow STARTTLS, closing",
            )
            .because(reason::AFTER_STARTTLS);
            return self.refuse_and_close(&reply, About::sender_of(stage.transaction()));
        }
        let reply = Reply::fixed(ReplyCode::READY, Some(EnhancedCode::OK), "go ahead");
        self.say(&reply, State::ExpectTls { greeted: true })
    }

    /// The TLS handshake is done. The session forgets all that it learnt before (RFC 3207 §4.2).
    pub fn tls_started(&mut self, tls: TlsInfo, now: Instant) {
        let took = now.saturating_duration_since(self.since);
        self.happened(Event::Secured { took });
        self.client.tls = Some(tls);
        self.client.helo = None;
        self.client.esmtp = false;
        // The policy has to forget a login in clear as well.
        self.restart |= self.client.login.take().is_some();
        self.tls_proof = None;
        self.input.clear();
        self.since = now;
        self.change(|_, state| {
            let next = match state {
                State::ExpectTls { greeted: false } => State::AwaitGreeting { anew: false },
                State::ExpectTls { greeted: true } => State::ExpectCommand(Stage::Idle),
                state => state,
            };
            (next, ())
        });
    }
}

/// The input begins with a record of a TLS handshake (RFC 8446 §5.1). No command does.
pub(super) fn is_tls(input: &[u8]) -> bool {
    input.starts_with(&[0x16, 0x03])
}

/// The input begins with a request of HTTP.
fn is_http(input: &[u8]) -> bool {
    let line = input.split(|byte| *byte == b'\n').next();
    let mut words = line.unwrap_or_default().split(|byte| *byte == b' ');
    let method = words.next().unwrap_or_default();
    let is_method = std::str::from_utf8(method).is_ok_and(is_http_method);
    is_method && words.nth(1).is_some_and(|word| word.starts_with(b"HTTP/"))
}
