//! The server's side of a session: a function of bytes and time (RFC 5321 §4).
//!
//! A session has no socket, no clock and no policy. A driver calls it:
//!
//! | call | when |
//! |---|---|
//! | [`Session::receive`] | bytes came |
//! | [`Session::poll_output`] | after each other call, until it gives None |
//! | [`Session::answer`] | a question of [`Output::Ask`] is decided |
//! | [`Session::wrote`] | the bytes of [`Output::Send`] are written |
//! | [`Session::timeout`] | the time of [`Session::deadline`] has come |
//!
//! While a question is open the session looks at no further input. So pipelining (RFC 2920) needs
//! no care: replies gather, and leave in one write.
//!
//! The files `opening`, `xclient`, `auth`, `transaction` and `data` have the commands. Each takes
//! the state, or a part of it, by value, and gives the next one.
//!
//! Absent on purpose: ETRN, EXPN, TURN.

use std::{collections::VecDeque, sync::Arc, time::Instant};

use bytes::{Bytes, BytesMut};

use super::{
    auth::{LINE_MAX, TOO_LONG},
    command::{self, Command, MailFrom, Offered, RcptTo, RequireTls},
    config::SessionConfig,
    event::{Event, Verb},
    handler::{Client, NO_KEYS, Transaction},
    line::{self, LineError},
    opening::is_tls,
    replies::About,
    state::{Chunk, Stage, State},
};
use crate::{
    EnhancedCode, Reply, ReplyCode, reason,
    sasl::{Login, Mechanism, ScramOffer, ScramRequest, TlsProof, Verdict},
};

/// The longest command line in bytes, with its CRLF. RFC 5321 §4.5.3.1.4 asks for 512, and each
/// extension for more.
const COMMAND_MAX: usize = 2048;

/// A question to the policy. The answer goes to [`Session::answer`].
#[derive(Clone, Copy, Debug)]
pub enum Question<'a> {
    /// May this client talk to us?
    Greeting,
    /// May the client have this name?
    Hello(&'a str),
    /// What are the SCRAM keys of this user?
    ScramKeys(&'a ScramRequest),
    /// Is this login right?
    Login(&'a Login),
    /// May this sender send?
    Mail(&'a MailFrom),
    /// May this recipient be added to the transaction?
    Rcpt(&'a Transaction, &'a RcptTo),
    /// May the text of this transaction come?
    Data(&'a Transaction),
    /// The text has come whole. Is the message accepted?
    End(&'a Transaction),
}

/// The answer to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Yes, with the session's own reply. For [`Question::End`]: the message is safe.
    Accept,
    /// For [`Question::ScramKeys`]: the keys.
    Keys(ScramOffer),
    /// For [`Question::Login`]: yes, and this is the name of the user. [`Answer::Accept`] stands
    /// for the name that the client gave.
    LoggedIn(String),
    /// This reply. To [`Question::End`] it may be of any kind. To the other questions it is a
    /// refusal.
    Reply(Reply),
}

impl From<Result<(), Reply>> for Answer {
    fn from(verdict: Result<(), Reply>) -> Self {
        match verdict {
            Ok(()) => Self::Accept,
            Err(reply) => Self::Reply(reply),
        }
    }
}

impl From<Result<ScramOffer, Reply>> for Answer {
    fn from(offer: Result<ScramOffer, Reply>) -> Self {
        offer.map_or_else(Self::Reply, Self::Keys)
    }
}

impl From<Verdict> for Answer {
    fn from(verdict: Verdict) -> Self {
        verdict.map_or_else(Self::Reply, Self::LoggedIn)
    }
}

/// A request of the session to its driver.
#[derive(Debug)]
pub enum Output<'a> {
    /// Send these bytes, then call [`Session::wrote`].
    Send(Bytes),
    /// Decide, then call [`Session::answer`].
    Ask(&'a Client, Question<'a>),
    /// Keep this piece of the text. Call [`Session::refuse_text`] if that fails.
    Text(Bytes),
    /// Forget the text that came so far: its transaction is over.
    Reset,
    /// Forget the client: another one took its place.
    Restart,
    /// Something happened.
    Happened(&'a Client, Event),
    /// Make the TLS handshake, then call [`Session::tls_started`].
    StartTls,
    /// Close the connection.
    Closed,
}

/// The result of a step.
pub(super) enum Next {
    /// Another step.
    Again,
    /// A piece of text for the policy.
    Text(Bytes),
    /// The question that the state stands for.
    Ask,
    /// A wait for the client.
    Wait,
}

/// The server's side of one connection.
#[derive(Debug)]
pub struct Session {
    pub(super) config: Arc<SessionConfig>,
    /// In a box, so that its moves from future to future cost no memory in each of them.
    pub(super) client: Box<Client>,
    /// What TLS proved to SASL. None in clear.
    pub(super) tls_proof: Option<Box<TlsProof>>,
    state: State,
    pub(super) input: BytesMut,
    pub(super) output: BytesMut,
    /// The beginning of the wait that the deadline limits.
    pub(super) since: Instant,
    /// The number of messages that came whole.
    pub(super) messages: usize,
    /// The number of refused commands since the last message that was taken.
    pub(super) errors: u32,
    /// The policy has to forget a message.
    reset: bool,
    /// The policy has to forget the client.
    pub(super) restart: bool,
    /// What happened, and the policy does not know of yet.
    pub(super) events: VecDeque<Event>,
    /// The time of the last call.
    pub(super) now: Instant,
    /// The command that has no final reply yet.
    pub(super) verb: Option<Verb>,
    /// The time when that command, or the last part of it, had come.
    pub(super) heard: Instant,
    /// The number of transactions so far.
    pub(super) transactions: u32,
    /// The mechanism of the last exchange of a login.
    pub(super) mechanism: Option<Mechanism>,
}

impl Session {
    /// A session on a new connection. With `implicit_tls` it begins with the TLS handshake.
    #[must_use]
    pub fn new(
        config: Arc<SessionConfig>,
        client: impl Into<Box<Client>>,
        implicit_tls: bool,
        now: Instant,
    ) -> Self {
        Self {
            config,
            client: client.into(),
            tls_proof: None,
            state: if implicit_tls {
                State::ExpectTls { greeted: false }
            } else {
                State::AwaitGreeting { anew: false }
            },
            input: BytesMut::new(),
            output: BytesMut::new(),
            since: now,
            messages: 0,
            errors: 0,
            reset: false,
            restart: false,
            events: VecDeque::new(),
            now,
            verb: None,
            heard: now,
            transactions: 0,
            mechanism: None,
        }
    }

    /// What is known of the client.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Takes bytes from the client, in any split.
    ///
    /// A driver saves a copy if it reads into [`Self::buffer`] and then calls [`Self::received`].
    pub fn receive(&mut self, bytes: &[u8], now: Instant) {
        self.input.extend_from_slice(bytes);
        self.received(bytes.len(), now);
    }

    /// The buffer to read into: the new bytes belong at its end. It has room for that many bytes.
    pub fn buffer(&mut self, room: usize) -> &mut BytesMut {
        if self.input.capacity() > room {
            // A session that waits gives back the memory that a large text needed.
            self.release();
        }
        self.input.reserve(room);
        &mut self.input
    }

    /// Gives back the memory of the input, unless there is some.
    pub fn release(&mut self) {
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
    }

    /// That many bytes were read into [`Self::buffer`].
    pub fn received(&mut self, count: usize, now: Instant) {
        self.now = now;
        let progress = match &self.state {
            State::ExpectText(..) | State::ExpectChunk(..) | State::ExpectChunkEnd(..) => true,
            // The time for an exchange is for all of its lines.
            State::ExpectAuthLine(_) => false,
            // A part of a line is no progress. Otherwise a client could take a minute for each
            // byte.
            _ => {
                let old = self.input.len().saturating_sub(count);
                let new = self.input.get(old..).unwrap_or_default();
                memchr::memchr(b'\n', new).is_some()
            }
        };
        if progress {
            self.since = now;
        }
    }

    /// All bytes of the last [`Output::Send`] are written.
    pub const fn wrote(&mut self, now: Instant) {
        self.now = now;
        if !matches!(self.state, State::ExpectAuthLine(_)) {
            self.since = now;
        }
    }

    /// The next request to the driver. None: wait for bytes, or for [`Self::deadline`].
    pub fn poll_output(&mut self) -> Option<Output<'_>> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(Output::Happened(&self.client, event));
            }
            if std::mem::take(&mut self.reset) {
                return Some(Output::Reset);
            }
            if std::mem::take(&mut self.restart) {
                return Some(Output::Restart);
            }
            match self.change(Self::step) {
                Next::Again => {}
                Next::Text(text) => return Some(Output::Text(text)),
                Next::Ask => {
                    return self
                        .question()
                        .map(|question| Output::Ask(&self.client, question));
                }
                Next::Wait if !self.output.is_empty() => {
                    return Some(Output::Send(self.output.split().freeze()));
                }
                Next::Wait => {
                    return match self.state {
                        State::ExpectTls { .. } => Some(Output::StartTls),
                        State::Closing => Some(Output::Closed),
                        _ => None,
                    };
                }
            }
        }
    }

    /// The question that is open.
    fn question(&self) -> Option<Question<'_>> {
        match &self.state {
            State::AwaitGreeting { .. } => Some(Question::Greeting),
            State::AwaitHello(name, ..) => Some(Question::Hello(name)),
            State::AwaitKeys(start) => Some(Question::ScramKeys(start.request())),
            State::AwaitLogin(pending) => Some(Question::Login(pending.login())),
            State::AwaitMail(mail) => Some(Question::Mail(mail)),
            State::AwaitRcpt(transaction, rcpt) => Some(Question::Rcpt(transaction, rcpt)),
            State::AwaitData(transaction) | State::AwaitBdat(transaction, _) => {
                Some(Question::Data(transaction))
            }
            State::AwaitEnd(transaction) => Some(Question::End(transaction)),
            _ => None,
        }
    }

    /// Takes the answer to the open question. Without an open question nothing happens.
    pub fn answer(&mut self, answer: Answer, now: Instant) {
        (self.since, self.now) = (now, now);
        self.change(|session, state| (session.answered(state, answer, now), ()));
    }

    fn answered(&mut self, state: State, answer: Answer, now: Instant) -> State {
        let idle = State::ExpectCommand(Stage::Idle);
        let about = match &answer {
            Answer::Reply(_) => state.about(),
            Answer::Accept | Answer::Keys(_) | Answer::LoggedIn(_) => About::default(),
        };
        match (state, answer) {
            (State::AwaitGreeting { anew }, Answer::Accept) => self.greet(anew),
            (State::AwaitGreeting { .. }, Answer::Reply(reply)) => {
                self.refuse_and_close(&reply, About::default())
            }
            (State::AwaitHello(name, esmtp, _), Answer::Accept) => self.hello(name, esmtp),
            (State::AwaitHello(_, _, stage), Answer::Reply(reply)) => {
                self.refuse(&reply, State::ExpectCommand(stage))
            }
            (State::AwaitKeys(start), Answer::Keys(offer)) => self.accept_keys(*start, offer),
            (State::AwaitKeys(start), Answer::Reply(reply)) => self.refuse_keys(&start, &reply),
            (State::AwaitKeys(start), _) => self.refuse_keys(&start, &NO_KEYS),
            (State::AwaitLogin(pending), answer) => {
                let verdict = match answer {
                    Answer::LoggedIn(user) => Ok(user),
                    Answer::Reply(reply) => Err(reply),
                    Answer::Accept | Answer::Keys(_) => Ok(pending.login().user.clone()),
                };
                self.decided(*pending, verdict)
            }
            (State::AwaitMail(mail), Answer::Accept) => self.accept_mail(mail),
            (State::AwaitMail(_), Answer::Reply(reply)) => self.refuse_about(about, &reply, idle),
            (State::AwaitRcpt(transaction, rcpt), Answer::Accept) => {
                self.accept_rcpt(transaction, rcpt)
            }
            (State::AwaitData(transaction), Answer::Accept) => self.accept_data(transaction, now),
            (
                State::AwaitRcpt(transaction, _) | State::AwaitData(transaction),
                Answer::Reply(reply),
            ) => {
                let next = State::ExpectCommand(Stage::Envelope(transaction));
                self.refuse_about(about, &reply, next)
            }
            (State::AwaitBdat(transaction, chunk), Answer::Accept) => {
                self.accept_bdat(transaction, chunk, now)
            }
            (State::AwaitBdat(transaction, chunk), Answer::Reply(reply)) => {
                State::ExpectChunkEnd(Stage::Envelope(transaction), chunk, reply, now)
            }
            (State::AwaitEnd(transaction), Answer::Accept) => {
                self.finish(&transaction, &Reply::ok("message accepted"))
            }
            (State::AwaitEnd(transaction), Answer::Reply(reply)) => {
                self.finish(&transaction, &reply)
            }
            (state, _) => state,
        }
    }

    /// The policy refuses the message that is coming. The session reads it to its end and then
    /// sends this reply.
    pub fn refuse_text(&mut self, reply: Reply) {
        if let Some(incoming) = self.state.incoming() {
            incoming.refusal.get_or_insert(reply);
        }
    }

    /// A text is coming. Large reads are worth their memory.
    #[must_use]
    pub const fn in_text(&self) -> bool {
        matches!(self.state, State::ExpectText(..) | State::ExpectChunk(..))
    }

    /// The time to call [`Self::timeout`] at, if nothing happens until then. It limits a wait for
    /// the client, whether the client has to send or to read. None while a question is open.
    ///
    /// | wait | limit |
    /// |---|---|
    /// | for a command line, from the last reply on | `command_timeout` |
    /// | for an AUTH exchange, or a TLS handshake | `command_timeout` |
    /// | for each piece of a text (RFC 5321 §4.5.3.2.7) | `data_timeout` |
    /// | for a whole message | `message_timeout` |
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let wait = match &self.state {
            State::AwaitGreeting { .. }
            | State::AwaitHello(..)
            | State::AwaitKeys(_)
            | State::AwaitLogin(_)
            | State::AwaitMail(_)
            | State::AwaitRcpt(..)
            | State::AwaitData(_)
            | State::AwaitBdat(..)
            | State::AwaitEnd(_) => return None,
            State::ExpectText(..) | State::ExpectChunk(..) | State::ExpectChunkEnd(..) => {
                self.config.data_timeout
            }
            State::ExpectTls { .. }
            | State::ExpectCommand(_)
            | State::ExpectAuthLine(_)
            | State::Closing => self.config.command_timeout,
        };
        let deadline = self.since.checked_add(wait);
        let started = self.state.started();
        let whole = started.and_then(|started| started.checked_add(self.config.message_timeout));
        deadline.into_iter().chain(whole).min()
    }

    /// Ends the session if its deadline has come.
    pub fn timeout(&mut self, now: Instant) {
        if self.deadline().is_some_and(|deadline| now >= deadline) {
            let reply = Reply::fixed(
                ReplyCode::UNAVAILABLE,
                Some(EnhancedCode::BAD_CONNECTION),
                "you took too long, closing",
            );
            self.end(&reply.because(reason::TIMEOUT), now);
        }
    }

    /// Ends the session, since the server stops.
    pub fn shut_down(&mut self, now: Instant) {
        let reply = Reply::fixed(
            ReplyCode::UNAVAILABLE,
            Some(EnhancedCode::NOT_ACCEPTING),
            "the server is stopping, try again later",
        );
        self.end(&reply.because(reason::STOPPING), now);
    }

    fn end(&mut self, reply: &Reply, now: Instant) {
        (self.since, self.now) = (now, now);
        self.change(|session, state| match state {
            State::Closing => (state, ()),
            _ => {
                let about = About::sender_of(state.transaction());
                (session.refuse_and_close(reply, about), ())
            }
        });
    }

    /// Takes the state and puts the one that `step` makes of it in its place. It traces each
    /// change, and no other place changes the state.
    pub(super) fn change<T>(&mut self, step: impl FnOnce(&mut Self, State) -> (State, T)) -> T {
        let old = std::mem::replace(&mut self.state, State::Closing);
        let name = old.name();
        // The policy knows of the end of a message by itself.
        let unfinished = old.transaction().is_some() && !matches!(old, State::AwaitEnd(_));
        let (next, result) = step(self, old);
        if next.name() != name {
            tracing::trace!(remote = %self.client.remote, old = name, new = next.name(), "state");
        }
        self.reset |= unfinished && next.transaction().is_none();
        if next.transaction().is_none() && !matches!(next, State::AwaitMail(_)) {
            self.client.transaction = 0;
        }
        self.state = next;
        result
    }

    fn step(&mut self, state: State) -> (State, Next) {
        match state {
            State::ExpectCommand(stage) => self.expect_command(stage),
            State::ExpectAuthLine(exchange) => self.expect_auth_line(exchange),
            State::ExpectText(transaction, incoming) => self.expect_text(transaction, incoming),
            State::ExpectChunk(transaction, incoming, chunk) => {
                self.expect_chunk(transaction, incoming, chunk)
            }
            State::ExpectChunkEnd(stage, chunk, reply, started) => {
                self.expect_chunk_end(stage, chunk, reply, started)
            }
            State::ExpectTls { .. } | State::Closing => (state, Next::Wait),
            State::AwaitGreeting { .. }
            | State::AwaitHello(..)
            | State::AwaitKeys(_)
            | State::AwaitLogin(_)
            | State::AwaitMail(_)
            | State::AwaitRcpt(..)
            | State::AwaitData(_)
            | State::AwaitBdat(..)
            | State::AwaitEnd(_) => (state, Next::Ask),
        }
    }

    /// The longest line of the command that begins here. Tokens and certificates make the first
    /// response of AUTH long.
    fn command_max(&self) -> usize {
        let is_auth = |verb: &[u8]| verb.eq_ignore_ascii_case(b"AUTH ");
        match self.offers_auth() && self.input.get(..5).is_some_and(is_auth) {
            true => LINE_MAX,
            false => COMMAND_MAX,
        }
    }

    fn expect_command(&mut self, stage: Stage) -> (State, Next) {
        if is_tls(&self.input) {
            return (self.close_foreign(), Next::Again);
        }
        let max = self.command_max();
        let is_auth = max == LINE_MAX;
        let line = match line::take(&mut self.input, max) {
            Ok(Some(line)) => line,
            Ok(None) => return (State::ExpectCommand(stage), Next::Wait),
            Err(error) => {
                self.heard(Verb::of(&self.input));
                let state = match is_auth {
                    true => self.close_too_long(About::default()),
                    false => self.close_for(error),
                };
                return (state, Next::Again);
            }
        };
        self.heard(Verb::of(&line));
        self.trace_heard(&line);
        let offered = Offered {
            dsn: self.config.dsn,
            require_tls: match (self.config.require_tls_extension, &self.client.tls) {
                (false, _) => RequireTls::Unknown,
                (true, None) => RequireTls::NeedsTls,
                (true, Some(_)) => RequireTls::Offered,
            },
            binary_mime: self.config.binary_mime,
            xclient: self.client.xclient,
            submission: self.config.submission,
            smtputf8: stage.transaction().is_some_and(|it| it.mail.smtputf8),
            max_size: self.config.max_message_size,
        };
        let command = match line::text(&line, max) {
            Ok(line) => command::parse(line, offered),
            Err(LineError::Encoding) => command::parse_bytes(&line, offered)
                .unwrap_or_else(|| Err(LineError::Encoding.reply())),
            Err(LineError::TooLong) if is_auth => Err(TOO_LONG),
            Err(error) => Err(error.reply()),
        };
        let state = match command {
            Ok(command) => self.command(command, stage),
            // A chunk follows, and nobody knows its end. It must not be read as commands.
            Err(reply) if command::is_bdat(&line) => {
                self.input.clear();
                self.refuse_and_close(&reply, About::sender_of(stage.transaction()))
            }
            Err(reply) => {
                // A command at the wrong time is that first of all.
                let is_mail = command::is_mail(&line);
                let order = self.mail_refusal(&stage).filter(|_| is_mail);
                self.refuse(&order.unwrap_or(reply), State::ExpectCommand(stage))
            }
        };
        (state, Next::Again)
    }

    fn command(&mut self, command: Command, stage: Stage) -> State {
        let done = |code, enhanced, text| Reply::fixed(code, Some(enhanced), text);
        let reply = match command {
            Command::Ehlo(name) => return self.ask_hello(name, true, stage),
            Command::Helo(name) => return self.ask_hello(name, false, stage),
            Command::Mail(mail) => return self.mail(mail, stage),
            Command::Rcpt(rcpt) => return self.rcpt(rcpt, stage),
            Command::Data => return self.data(stage),
            Command::Bdat { size, last } => return self.bdat(Chunk { left: size, last }, stage),
            Command::StartTls => return self.start_tls(stage),
            Command::Auth { mechanism, initial } => {
                return self.auth(&mechanism, initial.as_deref(), stage);
            }
            Command::Xclient(told) => return self.xclient(*told, stage),
            Command::Rset => {
                let reply = done(ReplyCode::OK, EnhancedCode::OK, "reset");
                return self.say(&reply, State::ExpectCommand(Stage::Idle));
            }
            Command::Expn => {
                let (code, enhanced) = (ReplyCode::NOT_IMPLEMENTED, EnhancedCode::INVALID_COMMAND);
                let reply = done(code, enhanced, "EXPN is not offered");
                let reply = reply.because(reason::NOT_OFFERED);
                return self.refuse(&reply, State::ExpectCommand(stage));
            }
            Command::Quit => {
                let reply = done(ReplyCode::CLOSING, EnhancedCode::OK, "bye");
                return self.say(&reply, State::Closing);
            }
            Command::Http => return self.close_foreign(),
            Command::Noop => done(ReplyCode::OK, EnhancedCode::OK, "ok"),
            Command::Help => done(ReplyCode::HELP, EnhancedCode::OK, "see RFC 5321"),
            Command::Vrfy => done(
                ReplyCode::CANNOT_VERIFY,
                EnhancedCode::PROTOCOL_OK,
                "cannot verify, try to send to it",
            ),
        };
        self.say(&reply, State::ExpectCommand(stage))
    }

    /// Another client took the place of the one so far. Its session has all limits for itself.
    pub(super) fn begin_anew(&mut self) {
        (self.messages, self.errors) = (0, 0);
        self.restart = true;
        self.happened(Event::Replaced);
    }
}
