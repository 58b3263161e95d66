//! The server's side of a session, as a function of bytes: no sockets, no clock, no policy (RFC 5321 §4).
//!
//! A driver feeds what it read, asks [`Session::poll`] what is next, and does that. While a [`Question`] is open nothing
//! further is looked at, so pipelining (RFC 2920) needs no care: replies gather and leave in one write.
//!
//! Absent on purpose: ETRN, EXPN, TURN.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use memchr::memchr;

use super::{
    auth::{Exchange, Progress},
    command::{self, Command, MailFrom, Offered, RcptTo},
    data::{Piece, TextError, TextLimits, TextReader},
    handler::{Login, Transaction},
};
use crate::{BodyType, Domain, EnhancedCode, Reply, ReplyCode};

/// The longest command line, CRLF included. RFC 5321 §4.5.3.1.4 asks for 512 and more with each extension.
const COMMAND_MAX: usize = 2048;
/// The longest line of an authentication exchange (RFC 4954 §4).
const AUTH_LINE_MAX: usize = 12288;

/// How sessions of a listener behave.
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// What the server calls itself.
    pub hostname: Domain,
    /// SIZE: the largest message in bytes.
    pub max_message_size: u64,
    /// The longest line of a message in bytes, without its CRLF. RFC 5321 §4.5.3.1.6 says 998; much real mail has longer ones.
    pub max_line: usize,
    /// STARTTLS is offered.
    pub starttls: bool,
    /// AUTH is offered, and needed for MAIL.
    pub auth: bool,
    /// ... but only under TLS.
    pub auth_requires_tls: bool,
    /// MAIL only under TLS.
    pub require_tls: bool,
    /// REQUIRETLS is offered under TLS (RFC 8689).
    pub require_tls_extension: bool,
    /// DSN is offered (RFC 3461).
    pub dsn: bool,
    /// BINARYMIME is offered (RFC 3030). Only where texts stay: one that is not made of lines can't be passed on to all.
    pub binary_mime: bool,
    /// Recipients of a transaction.
    pub max_recipients: usize,
    /// Transactions of a connection.
    pub max_messages: usize,
    /// Refused commands of a connection.
    pub max_errors: usize,
    /// How long to wait for a command.
    pub command_timeout: Duration,
    /// How long to wait for more of a text.
    pub data_timeout: Duration,
}

/// What policy is to decide. Answered with [`Session::answer`].
#[derive(Clone, Debug)]
pub enum Question {
    /// May this client talk to us?
    Greeting,
    /// Is this login right?
    Login(Login),
    /// May this sender send?
    Mail(MailFrom),
    /// Is this recipient taken?
    Rcpt(RcptTo),
    /// A text is about to come: get ready.
    Data,
    /// The text has come whole. Answered with [`Session::finish`].
    End,
}

/// What a driver is to do next.
#[derive(Debug)]
pub enum Step {
    /// Send the output and feed more input.
    Read,
    /// Decide.
    Ask(Question),
    /// Keep this piece of the text.
    Body(Bytes),
    /// Forget what came of the text so far: the transaction is over.
    Forget,
    /// Send the output, then do the TLS handshake and call [`Session::tls_started`].
    StartTls,
    /// Send the output and close.
    Close,
}

#[derive(Debug)]
enum State {
    /// The greeting was not sent yet.
    ExpectVerdict,
    Ready,
    Auth(Exchange),
    /// A text by DATA.
    Text(TextReader),
    /// A text by BDAT: within a chunk.
    Chunk {
        left: u64,
        last: bool,
    },
    /// A chunk that nobody wants, and what to say at its end.
    Discard {
        left: u64,
        reply: Reply,
    },
    ExpectTls,
    Closing,
}

/// What a question was asked for.
#[derive(Debug)]
enum Pending {
    Greeting,
    Login { user: String },
    Mail(MailFrom),
    Rcpt(RcptTo),
    Data,
    Bdat { size: u64, last: bool },
    End,
}

/// The server's side of one connection.
#[derive(Debug)]
pub struct Session {
    config: Arc<SessionConfig>,
    state: State,
    pending: Option<Pending>,
    input: BytesMut,
    output: BytesMut,
    tls: bool,
    helo: Option<(String, bool)>,
    login: Option<String>,
    transaction: Option<Transaction>,
    /// The text by BDAT, over its chunks.
    chunks: Option<TextReader>,
    /// Why the text can't be taken: policy said so while it came.
    refusal: Option<Reply>,
    forget: bool,
    messages: usize,
    errors: usize,
}

const fn permanent(code: ReplyCode, subject: u16, detail: u16, text: &'static str) -> Reply {
    Reply::fixed(code, Some(EnhancedCode::permanent(subject, detail)), text)
}

const BAD_SEQUENCE: EnhancedCode = EnhancedCode::permanent(5, 1);

impl Session {
    /// A session that begins; `tls` if its connection speaks TLS from the start.
    #[must_use]
    pub fn new(config: Arc<SessionConfig>, tls: bool) -> Self {
        Self {
            config,
            state: State::ExpectVerdict,
            pending: None,
            input: BytesMut::new(),
            output: BytesMut::new(),
            tls,
            helo: None,
            login: None,
            transaction: None,
            chunks: None,
            refusal: None,
            forget: false,
            messages: 0,
            errors: 0,
        }
    }

    /// What was read goes to the end of this.
    pub const fn input(&mut self) -> &mut BytesMut {
        &mut self.input
    }

    /// Takes what is to be sent.
    pub fn take_output(&mut self) -> BytesMut {
        self.output.split()
    }

    /// The name that the client gave, and whether by EHLO.
    #[must_use]
    pub fn helo(&self) -> Option<(&str, bool)> {
        self.helo
            .as_ref()
            .map(|(name, esmtp)| (name.as_str(), *esmtp))
    }

    /// Who logged in.
    #[must_use]
    pub fn login(&self) -> Option<&str> {
        self.login.as_deref()
    }

    /// The transaction that is under way.
    #[must_use]
    pub const fn transaction(&self) -> Option<&Transaction> {
        self.transaction.as_ref()
    }

    /// A text is coming: larger reads are worth their memory.
    #[must_use]
    pub const fn in_text(&self) -> bool {
        matches!(self.state, State::Text(_) | State::Chunk { .. })
    }

    /// How long to wait for input in this state (RFC 5321 §4.5.3.2.7).
    #[must_use]
    pub fn read_timeout(&self) -> Duration {
        if self.in_text() {
            self.config.data_timeout
        } else {
            self.config.command_timeout
        }
    }

    /// The client took too long.
    pub fn timed_out(&mut self) {
        self.close(&Reply::fixed(
            ReplyCode::UNAVAILABLE,
            Some(EnhancedCode::transient(4, 2)),
            "you took too long, closing",
        ));
    }

    /// The server stops. A text that is coming is read to its end first.
    pub fn shut_down(&mut self) {
        self.close(&Reply::fixed(
            ReplyCode::UNAVAILABLE,
            Some(EnhancedCode::transient(3, 2)),
            "the server is stopping, try again later",
        ));
    }

    fn close(&mut self, reply: &Reply) {
        reply.write_to(&mut self.output);
        self.reset();
        self.state = State::Closing;
    }

    /// The handshake was done: all that was learnt in clear is forgotten (RFC 3207 §4.2).
    pub fn tls_started(&mut self) {
        self.tls = true;
        self.helo = None;
        self.login = None;
        self.input.clear();
        self.reset();
        self.state = State::Ready;
    }

    /// What is next.
    pub fn poll(&mut self) -> Step {
        loop {
            if std::mem::take(&mut self.forget) {
                return Step::Forget;
            }
            let step = match &mut self.state {
                State::ExpectVerdict if self.pending.is_none() => {
                    self.ask(Pending::Greeting, Question::Greeting)
                }
                State::ExpectVerdict | State::ExpectTls => Some(Step::Read),
                State::Closing => Some(Step::Close),
                State::Text(_) => self.poll_text(),
                State::Chunk { .. } => self.poll_chunk(),
                State::Discard { .. } => self.poll_discard(),
                State::Ready | State::Auth(_) => self.poll_line(),
            };
            if let Some(step) = step {
                return step;
            }
        }
    }

    fn ask(&mut self, pending: Pending, question: Question) -> Option<Step> {
        self.pending = Some(pending);
        Some(Step::Ask(question))
    }

    /// The answer to the open question, other than [`Question::End`].
    pub fn answer(&mut self, answer: Result<(), Reply>) {
        let Some(pending) = self.pending.take() else {
            return;
        };
        match (pending, answer) {
            (Pending::Greeting, Ok(())) => {
                let greeting = format!("{} ESMTP postrider", self.config.hostname.ascii());
                Reply::new(ReplyCode::READY, None, greeting).write_to(&mut self.output);
                self.state = State::Ready;
            }
            (Pending::Greeting, Err(reply)) => self.close(&reply),
            (Pending::Login { user }, Ok(())) => {
                self.login = Some(user);
                self.state = State::Ready;
                let done = EnhancedCode::success(7, 0);
                Reply::fixed(ReplyCode::AUTHENTICATED, Some(done), "logged in")
                    .write_to(&mut self.output);
            }
            (Pending::Login { .. }, Err(reply)) => {
                self.state = State::Ready;
                self.refuse(&reply);
            }
            (Pending::Mail(mail), Ok(())) => {
                self.transaction = Some(Transaction {
                    mail,
                    recipients: Vec::new(),
                });
                let done = EnhancedCode::success(1, 0);
                Reply::fixed(ReplyCode::OK, Some(done), "sender ok").write_to(&mut self.output);
            }
            (Pending::Rcpt(rcpt), Ok(())) => {
                if let Some(transaction) = &mut self.transaction {
                    transaction.recipients.push(rcpt);
                }
                let done = EnhancedCode::success(1, 5);
                Reply::fixed(ReplyCode::OK, Some(done), "recipient ok").write_to(&mut self.output);
            }
            (Pending::Mail(_) | Pending::Rcpt(_) | Pending::Data, Err(reply)) => {
                self.refuse(&reply)
            }
            (Pending::Data, Ok(())) => {
                Reply::fixed(
                    ReplyCode::START_DATA,
                    None,
                    "end with a dot on a line of its own",
                )
                .write_to(&mut self.output);
                self.state = State::Text(TextReader::new(self.text_limits()));
            }
            (Pending::Bdat { size, last }, Ok(())) => {
                let limits = self.text_limits();
                self.chunks = Some(if self.is_binary() {
                    TextReader::binary(limits)
                } else {
                    TextReader::new(limits)
                });
                self.state = State::Chunk { left: size, last };
            }
            (Pending::Bdat { size, .. }, Err(reply)) => {
                self.state = State::Discard { left: size, reply }
            }
            (Pending::End, _) => {}
        }
    }

    /// Policy can't take the text that is coming: it is read to its end and then refused with `reply`.
    pub fn refuse_text(&mut self, reply: Reply) {
        self.refusal.get_or_insert(reply);
    }

    /// The answer to [`Question::End`].
    pub fn finish(&mut self, reply: &Reply) {
        self.pending = None;
        self.transaction = None;
        self.chunks = None;
        self.refusal = None;
        self.messages += 1;
        self.respond(reply);
    }

    fn text_limits(&self) -> TextLimits {
        TextLimits {
            size: self.config.max_message_size,
            line: self.config.max_line,
        }
    }

    fn respond(&mut self, reply: &Reply) {
        let utf8 = self
            .transaction
            .as_ref()
            .is_some_and(|transaction| transaction.mail.smtputf8);
        if utf8 {
            reply.write_utf8_to(&mut self.output)
        } else {
            reply.write_to(&mut self.output)
        }
    }

    /// A refusal counts as an error of the client's; too many end the connection. 421 ends it in any case.
    fn refuse(&mut self, reply: &Reply) {
        if reply.code() == ReplyCode::UNAVAILABLE {
            self.close(reply);
            return;
        }
        self.respond(reply);
        if reply.code().is_permanent() {
            self.errors += 1;
            if self.errors > self.config.max_errors {
                let code = Some(EnhancedCode::transient(7, 0));
                self.close(&Reply::fixed(
                    ReplyCode::UNAVAILABLE,
                    code,
                    "too many errors, closing",
                ));
            }
        }
    }

    /// Ends the transaction.
    fn reset(&mut self) {
        if self.transaction.take().is_some() {
            self.forget = true;
        }
        self.chunks = None;
        self.refusal = None;
        self.pending = None;
    }

    fn poll_text(&mut self) -> Option<Step> {
        let State::Text(reader) = &mut self.state else {
            return None;
        };
        match reader.read_data(&mut self.input) {
            Piece::More => Some(Step::Read),
            Piece::Text(_) if self.refusal.is_some() => None,
            Piece::Text(text) => Some(Step::Body(text)),
            Piece::End => {
                let error = reader.error();
                self.state = State::Ready;
                self.end_of_text(error)
            }
        }
    }

    fn poll_chunk(&mut self) -> Option<Step> {
        let State::Chunk { left, last } = &mut self.state else {
            return None;
        };
        let Some(reader) = &mut self.chunks else {
            self.state = State::Ready;
            return None;
        };
        match reader.read_chunk(&mut self.input, left) {
            Piece::More => return Some(Step::Read),
            Piece::Text(_) if self.refusal.is_some() => return None,
            Piece::Text(text) => return Some(Step::Body(text)),
            Piece::End => {}
        }
        let last = *last;
        if last {
            reader.finish_chunks();
        }
        let error = reader.error();
        self.state = State::Ready;
        if last || error.is_some() || self.refusal.is_some() {
            return self.end_of_text(error);
        }
        Reply::ok("chunk taken").write_to(&mut self.output);
        None
    }

    fn poll_discard(&mut self) -> Option<Step> {
        let State::Discard { left, reply } = &mut self.state else {
            return None;
        };
        let there = usize::try_from(*left)
            .unwrap_or(usize::MAX)
            .min(self.input.len());
        drop(self.input.split_to(there));
        *left -= there as u64;
        if *left > 0 {
            return Some(Step::Read);
        }
        let reply = reply.clone();
        self.state = State::Ready;
        self.refuse(&reply);
        None
    }

    fn end_of_text(&mut self, error: Option<TextError>) -> Option<Step> {
        let refusal = match error {
            None => self.refusal.take(),
            Some(TextError::TooLarge) => Some(command::too_large(self.config.max_message_size)),
            Some(error) => Some(Reply::new(
                ReplyCode::TRANSACTION_FAILED,
                Some(EnhancedCode::permanent(6, 0)),
                format!("the message has {error}"),
            )),
        };
        match refusal {
            None => self.ask(Pending::End, Question::End),
            Some(reply) => {
                self.refuse(&reply);
                self.reset();
                None
            }
        }
    }

    /// The next line of a command or an authentication exchange.
    fn poll_line(&mut self) -> Option<Step> {
        let max = if matches!(self.state, State::Auth(_)) {
            AUTH_LINE_MAX
        } else {
            COMMAND_MAX
        };
        let Some(end) = memchr(b'\n', &self.input) else {
            if self.input.len() < max {
                return Some(Step::Read);
            }
            // What comes is not a command; its rest must not become one.
            self.input.clear();
            let code = Some(EnhancedCode::permanent(5, 2));
            self.close(&Reply::fixed(
                ReplyCode::SYNTAX_ERROR,
                code,
                "the line is too long, closing",
            ));
            return None;
        };
        let line = self.input.split_to(end + 1).freeze();
        let text = line
            .strip_suffix(b"\r\n")
            .filter(|text| memchr(b'\r', text).is_none());
        let Some(text) = text.filter(|text| memchr(0, text).is_none()) else {
            self.state = State::Ready;
            self.refuse(&permanent(
                ReplyCode::SYNTAX_ERROR,
                5,
                2,
                "a line ends with CRLF and has no other CR, LF or NUL",
            ));
            return None;
        };
        if line.len() > max {
            self.state = State::Ready;
            self.refuse(&permanent(
                ReplyCode::SYNTAX_ERROR,
                5,
                2,
                "the line is too long",
            ));
            return None;
        }
        let Ok(text) = std::str::from_utf8(text) else {
            self.refuse(&permanent(
                ReplyCode::SYNTAX_ERROR,
                5,
                2,
                "the line is not UTF-8",
            ));
            return None;
        };
        if matches!(self.state, State::Auth(_)) {
            return self.auth_line(text);
        }
        let offered = Offered {
            dsn: self.config.dsn,
            require_tls: self.config.require_tls_extension && self.tls,
            binary_mime: self.config.binary_mime,
            max_size: self.config.max_message_size,
        };
        match command::parse(text, offered) {
            Ok(command) => self.command(command),
            Err(reply) => {
                self.refuse(&reply);
                None
            }
        }
    }

    fn command(&mut self, command: Command) -> Option<Step> {
        match command {
            Command::Ehlo(name) => self.hello(name, true),
            Command::Helo(name) => self.hello(name, false),
            Command::Mail(mail) => return self.mail(mail),
            Command::Rcpt(rcpt) => return self.rcpt(rcpt),
            Command::Data => return self.data(),
            Command::Bdat { size, last } => return self.bdat(size, last),
            Command::Rset => {
                self.reset();
                Reply::ok("reset").write_to(&mut self.output);
            }
            Command::Noop => Reply::ok("ok").write_to(&mut self.output),
            Command::Vrfy => Reply::fixed(
                ReplyCode::CANNOT_VERIFY,
                Some(EnhancedCode::success(5, 0)),
                "cannot verify, try to send to it",
            )
            .write_to(&mut self.output),
            Command::Expn => self.refuse(&permanent(
                ReplyCode::NOT_IMPLEMENTED,
                5,
                1,
                "EXPN is not offered",
            )),
            Command::Help => {
                Reply::fixed(
                    ReplyCode::HELP,
                    Some(EnhancedCode::success(0, 0)),
                    "see RFC 5321",
                )
                .write_to(&mut self.output);
            }
            Command::Quit => self.close(&Reply::fixed(
                ReplyCode::CLOSING,
                Some(EnhancedCode::OK),
                "bye",
            )),
            Command::StartTls => return self.start_tls(),
            Command::Auth { mechanism, initial } => {
                return self.auth(&mechanism, initial.as_deref());
            }
            Command::Http => {
                let code = Some(EnhancedCode::transient(7, 0));
                self.close(&Reply::fixed(
                    ReplyCode::UNAVAILABLE,
                    code,
                    "this is a mail server",
                ));
            }
        }
        None
    }

    /// Says hello; also ends a transaction (RFC 5321 §4.1.4).
    fn hello(&mut self, name: String, esmtp: bool) {
        self.reset();
        let mut text = self.config.hostname.ascii().to_owned();
        if esmtp {
            for extension in self.extensions() {
                text.push('\n');
                text.push_str(&extension);
            }
        }
        Reply::new(ReplyCode::OK, None, text).write_to(&mut self.output);
        self.helo = Some((name, esmtp));
    }

    fn extensions(&self) -> Vec<String> {
        let config = &self.config;
        let mut offered: Vec<String> = [
            "PIPELINING",
            "8BITMIME",
            "SMTPUTF8",
            "ENHANCEDSTATUSCODES",
            "CHUNKING",
        ]
        .map(str::to_owned)
        .into();
        offered.push(format!("SIZE {}", config.max_message_size));
        offered.push(format!(
            "LIMITS MAILMAX={} RCPTMAX={}",
            config.max_messages, config.max_recipients
        ));
        if config.dsn {
            offered.push("DSN".to_owned());
        }
        if config.binary_mime {
            offered.push("BINARYMIME".to_owned());
        }
        if config.require_tls_extension && self.tls {
            offered.push("REQUIRETLS".to_owned());
        }
        if config.starttls && !self.tls {
            offered.push("STARTTLS".to_owned());
        }
        if self.offers_auth() {
            offered.push("AUTH PLAIN LOGIN".to_owned());
        }
        offered
    }

    fn offers_auth(&self) -> bool {
        self.config.auth && (self.tls || !self.config.auth_requires_tls)
    }

    fn mail(&mut self, mail: MailFrom) -> Option<Step> {
        let refusal = if self.helo.is_none() {
            Reply::fixed(
                ReplyCode::BAD_SEQUENCE,
                Some(BAD_SEQUENCE),
                "say EHLO first",
            )
        } else if self.transaction.is_some() {
            Reply::fixed(
                ReplyCode::BAD_SEQUENCE,
                Some(BAD_SEQUENCE),
                "a transaction is under way",
            )
        } else if self.config.require_tls && !self.tls {
            permanent(
                ReplyCode::AUTHENTICATION_REQUIRED,
                7,
                0,
                "use STARTTLS first",
            )
        } else if self.config.auth && self.login.is_none() {
            permanent(ReplyCode::AUTHENTICATION_REQUIRED, 7, 0, "log in first")
        } else if self.messages >= self.config.max_messages {
            let code = Some(EnhancedCode::transient(7, 0));
            Reply::fixed(
                ReplyCode::UNAVAILABLE,
                code,
                "enough messages on this connection, open another",
            )
        } else {
            return self.ask(Pending::Mail(mail.clone()), Question::Mail(mail));
        };
        self.refuse(&refusal);
        None
    }

    fn rcpt(&mut self, rcpt: RcptTo) -> Option<Step> {
        let refusal = match &self.transaction {
            None => Reply::fixed(
                ReplyCode::BAD_SEQUENCE,
                Some(BAD_SEQUENCE),
                "MAIL comes first",
            ),
            Some(_) if self.chunks.is_some() => Reply::fixed(
                ReplyCode::BAD_SEQUENCE,
                Some(BAD_SEQUENCE),
                "the text has begun",
            ),
            // RFC 5321 §4.5.3.1.10 wants 452, so that the client sends the rest in another transaction.
            Some(transaction) if transaction.recipients.len() >= self.config.max_recipients => {
                Reply::fixed(
                    ReplyCode::INSUFFICIENT_STORAGE,
                    Some(EnhancedCode::transient(5, 3)),
                    "too many recipients, send the rest in another transaction",
                )
            }
            Some(transaction) => match command::check_smtputf8(&rcpt, transaction.mail.smtputf8) {
                Ok(()) => return self.ask(Pending::Rcpt(rcpt.clone()), Question::Rcpt(rcpt)),
                Err(reply) => reply,
            },
        };
        self.refuse(&refusal);
        None
    }

    /// Whether the text that is to come need not be made of lines.
    fn is_binary(&self) -> bool {
        let transaction = self.transaction.as_ref();
        transaction.is_some_and(|transaction| transaction.mail.body == BodyType::BinaryMime)
    }

    /// Why no text may come now.
    fn text_refusal(&self) -> Option<Reply> {
        match &self.transaction {
            None => Some(Reply::fixed(
                ReplyCode::BAD_SEQUENCE,
                Some(BAD_SEQUENCE),
                "MAIL comes first",
            )),
            // RFC 5321 §3.3: 503 or 554; 503 keeps pipelining clients (RFC 2920 §3.1) from sending a text.
            Some(transaction) if transaction.recipients.is_empty() => Some(Reply::fixed(
                ReplyCode::BAD_SEQUENCE,
                Some(BAD_SEQUENCE),
                "no recipient was accepted",
            )),
            Some(_) => None,
        }
    }

    fn data(&mut self) -> Option<Step> {
        let refusal = if self.chunks.is_some() {
            Some(Reply::fixed(
                ReplyCode::BAD_SEQUENCE,
                Some(BAD_SEQUENCE),
                "the text comes by BDAT",
            ))
        } else if self.is_binary() {
            // RFC 3030 §3: DATA would need lines.
            Some(Reply::fixed(
                ReplyCode::BAD_SEQUENCE,
                Some(BAD_SEQUENCE),
                "a binary text comes by BDAT",
            ))
        } else {
            self.text_refusal()
        };
        match refusal {
            None => self.ask(Pending::Data, Question::Data),
            Some(reply) => {
                self.refuse(&reply);
                None
            }
        }
    }

    /// The bytes of a chunk follow in any case, so they are read even when it is refused (RFC 3030 §2).
    fn bdat(&mut self, size: u64, last: bool) -> Option<Step> {
        if let Some(reply) = self.text_refusal() {
            self.state = State::Discard { left: size, reply };
        } else if self.chunks.is_some() {
            self.state = State::Chunk { left: size, last };
        } else {
            return self.ask(Pending::Bdat { size, last }, Question::Data);
        }
        None
    }

    fn start_tls(&mut self) -> Option<Step> {
        if !self.config.starttls || self.tls {
            self.refuse(&permanent(
                ReplyCode::BAD_SEQUENCE,
                5,
                1,
                "STARTTLS is not offered now",
            ));
            return None;
        }
        if !self.input.is_empty() {
            // Whatever came behind it was sent in clear and must not be taken for something said under TLS.
            self.input.clear();
            self.close(&permanent(
                ReplyCode::BAD_SEQUENCE,
                5,
                1,
                "nothing may follow STARTTLS, closing",
            ));
            return None;
        }
        Reply::fixed(ReplyCode::READY, Some(EnhancedCode::OK), "go ahead")
            .write_to(&mut self.output);
        self.state = State::ExpectTls;
        Some(Step::StartTls)
    }

    fn auth(&mut self, mechanism: &str, initial: Option<&str>) -> Option<Step> {
        let refusal = if !self.config.auth {
            permanent(ReplyCode::NOT_IMPLEMENTED, 5, 1, "AUTH is not offered")
        } else if !self.offers_auth() {
            let code = ReplyCode::new(538).unwrap_or(ReplyCode::BAD_SEQUENCE);
            permanent(code, 7, 11, "use STARTTLS first")
        } else if self.helo.is_none() || self.login.is_some() || self.transaction.is_some() {
            Reply::fixed(ReplyCode::BAD_SEQUENCE, Some(BAD_SEQUENCE), "not now")
        } else {
            match Exchange::new(mechanism) {
                Some(exchange) => return self.auth_progress(exchange.begin(initial)),
                None => permanent(
                    ReplyCode::PARAMETER_NOT_IMPLEMENTED,
                    5,
                    4,
                    "use AUTH PLAIN or LOGIN",
                ),
            }
        };
        self.refuse(&refusal);
        None
    }

    fn auth_line(&mut self, line: &str) -> Option<Step> {
        match std::mem::replace(&mut self.state, State::Ready) {
            State::Auth(exchange) => self.auth_progress(exchange.line(line)),
            _ => None,
        }
    }

    fn auth_progress(&mut self, progress: Progress) -> Option<Step> {
        match progress {
            Progress::Challenge(exchange, challenge) => {
                Reply::fixed(ReplyCode::CHALLENGE, None, challenge).write_to(&mut self.output);
                self.state = State::Auth(exchange);
                None
            }
            Progress::Done(login) => self.ask(
                Pending::Login {
                    user: login.user.clone(),
                },
                Question::Login(login),
            ),
            Progress::Failed(reply) => {
                self.refuse(&reply);
                None
            }
        }
    }
}
