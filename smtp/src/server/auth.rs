//! AUTH (RFC 4954): the exchanges of [`crate::sasl`] in lines of base64.

use base64::{Engine, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use super::{
    event::{RefusedLogin, shown_user},
    line::{self, LineError},
    replies::About,
    session::{Next, Session},
    state::{Stage, State},
    transaction::bad_sequence,
};
use crate::{
    EnhancedCode, Reply, ReplyCode, reason,
    sasl::{Exchange, Mechanism, Pending, ScramOffer, ScramStart, Step, Terms, TlsProof, Verdict},
};

/// The longest line of an exchange in bytes, with its CRLF (RFC 4954 §4).
pub(super) const LINE_MAX: usize = 12288;

/// The refusal of a line that is longer than [`LINE_MAX`] (RFC 4954 §6). An AUTH command is one,
/// too.
pub(super) const TOO_LONG: Reply = Reply::fixed(
    ReplyCode::SYNTAX_ERROR,
    Some(EnhancedCode::AUTH_LINE_TOO_LONG),
    "the line is too long",
)
.because(reason::LINE_TOO_LONG);

impl Session {
    /// The server has AUTH, perhaps only under TLS.
    pub(super) fn has_auth(&self) -> bool {
        self.config.auth
    }

    /// The server offers AUTH now.
    pub(super) fn offers_auth(&self) -> bool {
        self.config.auth && (self.client.tls.is_some() || !self.config.auth_requires_tls)
    }

    /// What TLS proved about the connection. Call it right after [`tls_started`].
    ///
    /// [`tls_started`]: Self::tls_started
    pub fn tls_proved(&mut self, proof: TlsProof) {
        self.tls_proof = Some(Box::new(proof));
    }

    fn terms(&self) -> Terms<'_> {
        Terms {
            scram: self.config.sasl.scram,
            oauth_scope: self.config.sasl.oauth_scope.as_deref(),
            tls: self.tls_proof.as_deref(),
        }
    }

    /// The names of the mechanisms that the server offers now, with blanks between them.
    pub(super) fn mechanisms(&self) -> String {
        let terms = self.terms();
        let offered = Mechanism::ALL.into_iter().filter(|it| terms.offers(*it));
        let names: Vec<&str> = offered.map(Mechanism::name).collect();
        names.join(" ")
    }

    /// The AUTH command.
    pub(super) fn auth(&mut self, mechanism: &str, initial: Option<&str>, stage: Stage) -> State {
        let reply = if !self.config.auth {
            Reply::fixed(
                ReplyCode::NOT_IMPLEMENTED,
                Some(EnhancedCode::INVALID_COMMAND),
                "AUTH is not offered",
            )
            .because(reason::NOT_OFFERED)
        } else if !self.offers_auth() {
            Reply::fixed(
                ReplyCode::ENCRYPTION_REQUIRED,
                Some(EnhancedCode::ENCRYPTION_REQUIRED),
                "use STARTTLS first",
            )
            .because(reason::LOGIN_WITHOUT_TLS)
        } else if self.client.helo.is_none()
            || self.client.login.is_some()
            || !matches!(stage, Stage::Idle)
        {
            bad_sequence("not now")
        } else {
            match Mechanism::of(mechanism).filter(|it| self.terms().offers(*it)) {
                Some(mechanism) => return self.begin(mechanism, initial),
                None => Reply::fixed(
                    ReplyCode::PARAMETER_NOT_IMPLEMENTED,
                    Some(EnhancedCode::INVALID_ARGUMENTS),
                    "that mechanism is not offered, see the reply to EHLO",
                )
                .because(reason::NOT_OFFERED),
            }
        };
        self.refuse(&reply, State::ExpectCommand(stage))
    }

    /// Begins an exchange. `=` is an empty first response (RFC 4954 §4).
    fn begin(&mut self, mechanism: Mechanism, initial: Option<&str>) -> State {
        self.mechanism = Some(mechanism);
        let exchange = Exchange::new(mechanism);
        match initial {
            None => {
                let challenge = exchange.first_challenge();
                self.progress(Step::Challenge(exchange, challenge.to_vec()))
            }
            Some("=") => self.respond(exchange, ""),
            Some(response) => self.respond(exchange, response),
        }
    }

    /// Takes a response in base64.
    fn respond(&mut self, exchange: Exchange, response: &str) -> State {
        if exchange.refusal().is_some() {
            return self.end_refused(exchange);
        }
        let fault = match STANDARD.decode(response).map(Zeroizing::new) {
            Ok(response) => {
                let step = exchange.respond(&response, self.terms());
                return self.progress(step);
            }
            Err(_) if response == "*" => {
                let reason = reason::LOGIN_GIVEN_UP;
                (EnhancedCode::SECURITY, "login given up", reason)
            }
            Err(_) => (EnhancedCode::SYNTAX, "not base64", reason::LOGIN_SYNTAX),
        };
        let (code, text, reason) = fault;
        let reply = Reply::fixed(ReplyCode::PARAMETER_ERROR, Some(code), text).because(reason);
        self.refuse_login("", &reply)
    }

    /// The login of this user, which the exchange is about.
    fn login_of(&self, user: &str) -> About {
        About {
            login: self.mechanism.map(|mechanism| RefusedLogin {
                mechanism,
                user: shown_user(user),
            }),
            ..About::default()
        }
    }

    /// Refuses a login. It may go on with another one.
    fn refuse_login(&mut self, user: &str, reply: &Reply) -> State {
        let idle = State::ExpectCommand(Stage::Idle);
        self.refuse_about(self.login_of(user), reply, idle)
    }

    /// Ends an exchange whose refusal is known and logged. Whatever the client answers to the error
    /// of the mechanism, the end is the same. A client may give up with `*` here.
    fn end_refused(&mut self, exchange: Exchange) -> State {
        match exchange.respond(b"", self.terms()) {
            Step::Refused { reply, .. } => {
                self.refuse_as(&reply, false, State::ExpectCommand(Stage::Idle))
            }
            step => self.progress(step),
        }
    }

    pub(super) fn expect_auth_line(&mut self, exchange: Box<Exchange>) -> (State, Next) {
        let line = match line::take(&mut self.input, LINE_MAX) {
            Ok(Some(line)) => line,
            Ok(None) => return (State::ExpectAuthLine(exchange), Next::Wait),
            Err(_) => return (self.close_too_long(self.login_of("")), Next::Again),
        };
        self.heard_more();
        let state = match line::text(&line, LINE_MAX) {
            Ok(line) => self.respond(*exchange, line),
            Err(error) => {
                let reply = match error {
                    LineError::TooLong => TOO_LONG,
                    error => error.reply(),
                };
                self.refuse_login("", &reply)
            }
        };
        (state, Next::Again)
    }

    fn progress(&mut self, step: Step) -> State {
        match step {
            Step::Challenge(exchange, challenge) => {
                // The client may leave now, and the log must have the refusal.
                if let Some((user, reply)) = exchange.refusal() {
                    self.note_refusal(reply, self.login_of(user));
                }
                let challenge = STANDARD.encode(challenge);
                let reply = Reply::new(ReplyCode::CHALLENGE, None, challenge);
                self.say(&reply, State::ExpectAuthLine(Box::new(exchange)))
            }
            Step::Keys(start) => State::AwaitKeys(start),
            Step::Decide(pending) => State::AwaitLogin(pending),
            Step::Done(user) => {
                self.client.login = Some(user);
                let code = Some(EnhancedCode::SECURITY_OK);
                let reply = Reply::fixed(ReplyCode::AUTHENTICATED, code, "logged in");
                self.say(&reply, State::ExpectCommand(Stage::Idle))
            }
            Step::Refused { user, reply } => self.refuse_login(&user, &reply),
        }
    }

    /// The keys for an exchange of SCRAM have come.
    pub(super) fn accept_keys(&mut self, start: ScramStart, offer: ScramOffer) -> State {
        let step = start.keys(offer);
        self.progress(step)
    }

    /// There are no keys for an exchange of SCRAM.
    pub(super) fn refuse_keys(&mut self, start: &ScramStart, reply: &Reply) -> State {
        self.refuse_login(&start.request().user, reply)
    }

    /// The verdict on a login has come.
    pub(super) fn decided(&mut self, pending: Pending, verdict: Verdict) -> State {
        let step = pending.verdict(verdict);
        self.progress(step)
    }
}
