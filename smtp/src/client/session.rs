//! The client session: what to send and what the replies mean, without a socket.
//!
//! There is one list of steps with two cursors. Steps before the sending cursor are sent and await their replies; the
//! receiving cursor is the front of the list, since replies come in order. Whether the server offers PIPELINING only decides
//! how far the one may run ahead of the other; what replies mean is the same code. A message's steps are put on the list when
//! the sending cursor has reached its end, so the list stays short.
//!
//! [`super::opening`] has what comes before the first message, [`super::transaction`] what replies do to a message.

use std::{collections::VecDeque, fmt::Write as _, time::Instant};

use bytes::{Bytes, BytesMut};

use super::{
    Again, Envelope, Extensions, Login, OutgoingResult, ReplyError, ReplyParser, Timeouts,
    message::Message, opening::AuthStep, stuffing::Stuffer,
};
use crate::{Cause, DeliveryStatus, EnhancedCode, Reply, ReplyCode};

/// No more is prepared while this much waits to be sent; also the largest piece of a text that is asked for.
const OUTPUT_MAX: usize = 64 * 1024;
/// The size of a BDAT chunk. Only the last one of a text is smaller.
const CHUNK: u64 = 1024 * 1024;
/// A text of up to this many bytes is sent by BDAT before the replies to its recipients are known: if all are refused, that
/// was less wasted than the wait.
const EAGER_MAX: u64 = 64 * 1024;
/// How many steps may await their replies.
const WINDOW: usize = 256;

/// What a session has to know; like [`super::Options`], without what only a driver needs.
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// What we call ourselves.
    pub helo: String,
    /// The host at the other end, as `name [ip]`.
    pub remote: String,
    /// What becomes of TLS.
    pub security: Security,
    /// With whose credentials.
    pub login: Option<Login>,
    /// How long to wait.
    pub timeouts: Timeouts,
    /// LMTP instead of SMTP.
    pub lmtp: bool,
    /// Use BDAT where CHUNKING is offered.
    pub chunking: bool,
}

/// What becomes of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    /// It is not used.
    Never,
    /// STARTTLS when offered.
    Opportunistic,
    /// STARTTLS, or no mail.
    Required,
    /// It is there already.
    Active,
}

/// What a session wants of its driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send these bytes. Ask for more output only when they are sent.
    Send(Bytes),
    /// Answer with [`Session::text`], now.
    Read {
        /// Which of the messages of [`Session::submit`].
        message: usize,
        /// From here.
        offset: u64,
        /// At most this much.
        max: usize,
    },
    /// Make the TLS handshake, then call [`Session::tls_started`].
    StartTls,
    /// The opening is done: messages can be submitted.
    Ready,
    /// All submitted messages have their results.
    Done,
    /// The connection is over, and nothing else is left to be told. See [`Session::closed`].
    Closed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Greeting,
    Ehlo,
    Helo,
    StartTls,
    Auth(AuthStep),
    Rset,
    Mail(usize),
    Rcpt(usize, usize),
    Data(usize),
    /// The text after DATA, with its end.
    Text(usize),
    /// The end of data alone: nobody wants the text, but the server waits for one (RFC 2920 §3.1).
    Dot(usize),
    /// A chunk of the text, from this offset on.
    Bdat(usize, u64),
    Quit,
}

impl Step {
    /// Nothing may be sent behind it before its reply is there: RFC 2920 §3.1 allows it only last in a group.
    const fn ends_group(self) -> bool {
        matches!(
            self,
            Self::Greeting
                | Self::Ehlo
                | Self::Helo
                | Self::StartTls
                | Self::Auth(_)
                | Self::Data(_)
                | Self::Quit
        )
    }

    pub(super) const fn message(self) -> Option<usize> {
        match self {
            Self::Mail(message)
            | Self::Rcpt(message, _)
            | Self::Data(message)
            | Self::Text(message)
            | Self::Dot(message)
            | Self::Bdat(message, _) => Some(message),
            _ => None,
        }
    }

    /// As [`DeliveryStatus::command`] has it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Greeting => "greeting",
            Self::Ehlo => "EHLO",
            Self::Helo => "HELO",
            Self::StartTls => "STARTTLS",
            Self::Auth(_) => "AUTH",
            Self::Rset => "RSET",
            Self::Mail(_) => "MAIL",
            Self::Rcpt(..) => "RCPT",
            Self::Data(_) => "DATA",
            Self::Text(_) | Self::Dot(_) => "end of data",
            Self::Bdat(..) => "BDAT",
            Self::Quit => "QUIT",
        }
    }
}

/// A text that is being sent.
#[derive(Debug)]
struct Stream {
    message: usize,
    offset: u64,
    end: u64,
    /// None for BDAT, whose bytes go as they are.
    stuffer: Option<Stuffer>,
}

/// A client's side of a connection.
#[derive(Debug)]
pub struct Session {
    pub(super) config: SessionConfig,
    pub(super) extensions: Extensions,
    pub(super) tls: bool,
    pub(super) parser: ReplyParser,
    pub(super) steps: VecDeque<Step>,
    /// The sending cursor: this many of the steps are sent.
    pub(super) sent: usize,
    pub(super) messages: Vec<Message>,
    /// The first message that has no steps yet.
    next_message: usize,
    /// A transaction may be open at the server, and no message of ours is in it.
    pub(super) needs_reset: bool,
    /// MAIL commands on this connection, sent and answered.
    mails: u32,
    pub(super) answered_mails: u32,
    stream: Option<Stream>,
    out: BytesMut,
    event: Option<Output>,
    /// Messages wait for their results.
    busy: bool,
    closed: Option<DeliveryStatus>,
    last_progress: Instant,
}

impl Session {
    /// A session on a new connection, which awaits the greeting.
    #[must_use]
    pub fn new(config: SessionConfig, now: Instant) -> Self {
        Self {
            tls: config.security == Security::Active,
            config,
            extensions: Extensions::default(),
            parser: ReplyParser::new(),
            steps: VecDeque::from([Step::Greeting]),
            sent: 1,
            messages: Vec::new(),
            next_message: 0,
            needs_reset: false,
            mails: 0,
            answered_mails: 0,
            stream: None,
            out: BytesMut::new(),
            event: None,
            busy: false,
            closed: None,
            last_progress: now,
        }
    }

    /// As given.
    #[must_use]
    pub const fn config(&self) -> &SessionConfig {
        &self.config
    }

    /// What the server offers, once ready.
    #[must_use]
    pub const fn extensions(&self) -> &Extensions {
        &self.extensions
    }

    /// The connection is over, and why.
    #[must_use]
    pub const fn closed(&self) -> Option<&DeliveryStatus> {
        self.closed.as_ref()
    }

    /// It can take more messages: it is open, and the server's limit (LIMITS MAILMAX) is not reached.
    #[must_use]
    pub fn usable(&self) -> bool {
        self.closed.is_none() && !self.mails_exhausted()
    }

    fn mails_exhausted(&self) -> bool {
        self.extensions
            .mail_max
            .is_some_and(|max| self.mails >= max)
    }

    /// Takes messages to send: envelopes, and the bytes of their texts. Only when ready, and when the last ones are done.
    pub fn submit(&mut self, messages: impl IntoIterator<Item = (Envelope, u64)>, now: Instant) {
        debug_assert!(!self.busy, "the last messages are not done");
        self.messages = messages
            .into_iter()
            .map(|(envelope, size)| Message::new(envelope, size))
            .collect();
        self.next_message = 0;
        self.busy = true;
        self.last_progress = now;
        for message in &mut self.messages {
            message.check(&self.extensions, self.tls);
        }
        if let Some(status) = &self.closed {
            for message in &mut self.messages {
                message.decide_rest(status, Again::NewConnection);
            }
        }
        self.settle();
    }

    /// The results of the submitted messages, in their order, once done.
    pub fn results(&mut self) -> Vec<OutgoingResult> {
        std::mem::take(&mut self.messages)
            .into_iter()
            .map(|message| message.finish(&self.config.remote))
            .collect()
    }

    /// Ends the session: QUIT is sent. `Closed` follows when it is answered or can't be.
    pub fn quit(&mut self, now: Instant) {
        if self.closed.is_none() {
            self.last_progress = now;
            self.steps.push_back(Step::Quit);
        }
    }

    /// What to do next. None: wait for bytes, or for [`Self::deadline`].
    pub fn poll_output(&mut self) -> Option<Output> {
        if let Some(event) = self.event.take() {
            return Some(event);
        }
        while self.closed.is_none() && self.out.len() < OUTPUT_MAX {
            if let Some(stream) = &self.stream {
                let left =
                    usize::try_from(stream.end.saturating_sub(stream.offset)).unwrap_or(usize::MAX);
                let (message, offset) = (stream.message, stream.offset);
                return Some(Output::Read {
                    message,
                    offset,
                    max: left.min(OUTPUT_MAX),
                });
            }
            if self.sent == self.steps.len() && !self.plan() {
                break;
            }
            let Some(step) = self
                .steps
                .get(self.sent)
                .copied()
                .filter(|step| self.may_send(*step))
            else {
                break;
            };
            self.send(step);
        }
        // Planning may have found that nothing is left to be done.
        if let Some(event) = self.event.take() {
            return Some(event);
        }
        if self.closed.is_some() {
            return Some(Output::Closed);
        }
        (!self.out.is_empty()).then(|| Output::Send(self.out.split().freeze()))
    }

    /// Puts the next message's steps on the list. False if there is none, or it is not its time yet.
    fn plan(&mut self) -> bool {
        // What comes before may still turn out to need RSET.
        let wait = |last: &Step| last.ends_group() || !self.extensions.pipelining;
        if self.steps.back().is_some_and(wait) {
            return false;
        }
        while let Some(message) = self.messages.get_mut(self.next_message) {
            let id = self.next_message;
            self.next_message += 1;
            if message.is_decided() {
                continue;
            }
            if self
                .extensions
                .mail_max
                .is_some_and(|max| self.mails >= max)
            {
                let text = "the server's limit of messages on a connection is reached";
                let status = DeliveryStatus::transient(
                    Cause::Local,
                    EnhancedCode::TOO_MANY_RECIPIENTS,
                    text,
                );
                message.decide_rest(&status, Again::NewConnection);
                continue;
            }
            self.mails = self.mails.saturating_add(1);
            let (size, recipients) = (message.size, message.open_recipients());
            let bdat =
                self.config.chunking && self.extensions.chunking && self.extensions.pipelining;
            let bdat = (bdat && !self.config.lmtp) || message.needs_bdat();
            // A BDAT that is refused leaves the transaction in an unknown state (RFC 3030 §2), and we do not wait to see.
            if std::mem::take(&mut self.needs_reset) || (bdat && !self.steps.is_empty()) {
                self.steps.push_back(Step::Rset);
            }
            self.steps.push_back(Step::Mail(id));
            self.steps.extend(
                recipients
                    .into_iter()
                    .map(|recipient| Step::Rcpt(id, recipient)),
            );
            if bdat {
                let chunks = size.div_ceil(CHUNK).max(1);
                self.steps
                    .extend((0..chunks).map(|chunk| Step::Bdat(id, chunk.saturating_mul(CHUNK))));
            } else {
                self.steps.extend([Step::Data(id), Step::Text(id)]);
            }
            return true;
        }
        self.settle();
        false
    }

    fn may_send(&self, step: Step) -> bool {
        let Some(last) = self
            .sent
            .checked_sub(1)
            .and_then(|last| self.steps.get(last))
        else {
            return true;
        };
        if !self.extensions.pipelining || last.ends_group() || self.sent >= WINDOW {
            return false;
        }
        match step {
            Step::Bdat(message, _)
                if self
                    .messages
                    .get(message)
                    .is_some_and(|message| message.size > EAGER_MAX) =>
            {
                let unanswered = self.steps.iter().take(self.sent);
                !unanswered
                    .copied()
                    .any(|step| step.message() == Some(message) && !matches!(step, Step::Bdat(..)))
            }
            _ => true,
        }
    }

    /// Writes what the step sends; texts only begin.
    fn send(&mut self, step: Step) {
        let Self {
            out,
            extensions,
            messages,
            ..
        } = self;
        let message = step.message().and_then(|message| messages.get_mut(message));
        // Writing into memory cannot fail.
        let _ = match (step, message) {
            (Step::Ehlo, _) if self.config.lmtp => write!(out, "LHLO {}\r\n", self.config.helo),
            (Step::Ehlo, _) => write!(out, "EHLO {}\r\n", self.config.helo),
            (Step::Helo, _) => write!(out, "HELO {}\r\n", self.config.helo),
            (Step::StartTls, _) => out.write_str("STARTTLS\r\n"),
            (Step::Auth(auth), _) => auth.write(self.config.login.as_ref(), out),
            (Step::Rset, _) => out.write_str("RSET\r\n"),
            (Step::Mail(_), Some(message)) => message.write_mail(extensions, out),
            (Step::Rcpt(_, recipient), Some(message)) => {
                message.write_rcpt(recipient, extensions, out)
            }
            (Step::Data(_), _) => out.write_str("DATA\r\n"),
            (Step::Dot(_), _) => out.write_str(".\r\n"),
            (Step::Quit, _) => out.write_str("QUIT\r\n"),
            (Step::Text(id), Some(message)) => {
                let stuffer = Some(Stuffer::new());
                self.stream = Some(Stream {
                    message: id,
                    offset: 0,
                    end: message.size,
                    stuffer,
                });
                Ok(())
            }
            (Step::Bdat(id, offset), Some(message)) => {
                let end = message.size.min(offset.saturating_add(CHUNK));
                let last = if end == message.size { " LAST" } else { "" };
                self.stream = Some(Stream {
                    message: id,
                    offset,
                    end,
                    stuffer: None,
                });
                write!(out, "BDAT {}{last}\r\n", end.saturating_sub(offset))
            }
            (_, _) => Ok(()),
        };
        match &self.stream {
            Some(stream) if stream.offset >= stream.end => self.finish_stream(),
            Some(_) => {}
            None => self.sent += 1,
        }
    }

    /// The piece of a text that was asked for; None if it can't be read. Then the connection is over, since there is no other
    /// way to take back a text that is half sent.
    pub fn text(&mut self, piece: Option<&[u8]>) {
        let Some(stream) = &mut self.stream else {
            return;
        };
        let left = stream.end.saturating_sub(stream.offset);
        let length = piece
            .and_then(|piece| u64::try_from(piece.len()).ok())
            .filter(|length| (1..=left).contains(length));
        let (Some(piece), Some(length)) = (piece, length) else {
            let text = "the message could not be read";
            self.close(DeliveryStatus::transient(
                Cause::Local,
                EnhancedCode::SYSTEM_TRANSIENT,
                text,
            ));
            return;
        };
        match &mut stream.stuffer {
            Some(stuffer) => stuffer.push(piece, &mut self.out),
            None => self.out.extend_from_slice(piece),
        }
        stream.offset = stream.offset.saturating_add(length);
        if stream.offset >= stream.end {
            self.finish_stream();
        }
    }

    fn finish_stream(&mut self) {
        let Some(stream) = self.stream.take() else {
            return;
        };
        if let Some(stuffer) = stream.stuffer {
            stuffer.finish(&mut self.out);
        }
        if let Some(message) = self.messages.get_mut(stream.message) {
            message.end_sent = stream.end >= message.size;
        }
        self.sent += 1;
    }

    /// Some of the bytes to be sent were taken by the network.
    pub const fn wrote(&mut self, now: Instant) {
        self.last_progress = now;
    }

    /// Takes bytes from the server, in any split.
    pub fn receive(&mut self, bytes: &[u8], now: Instant) {
        if self.closed.is_some() {
            return;
        }
        self.parser.push(bytes);
        while self.closed.is_none() {
            match self.parser.next() {
                Ok(Some(reply)) => self.reply(&reply, now),
                Ok(None) => return,
                Err(error) => self.close_for(&error),
            }
        }
    }

    fn reply(&mut self, reply: &Reply, now: Instant) {
        self.last_progress = now;
        let step = self.steps.front().copied();
        tracing::trace!(remote = self.config.remote, ?step, %reply, "reply");
        let step = match step {
            Some(Step::Quit) => return self.close_with(reply, Step::Quit),
            // RFC 5321 §3.8: it may come as the answer to anything, and the server closes.
            _ if reply.code() == ReplyCode::UNAVAILABLE => {
                let status =
                    DeliveryStatus::from_reply(reply, step.map_or("connection", Step::name));
                return self.close(status);
            }
            Some(step) if self.sent > 0 => step,
            // The server gave up on a text that is still being sent. There is no way to end it without its being taken.
            Some(step) if self.stream.is_some() && !reply.code().is_positive() => {
                return self.close_with(reply, step);
            }
            _ => return self.close(unexpected(reply, step)),
        };
        match step {
            Step::Greeting | Step::Ehlo | Step::Helo | Step::StartTls | Step::Auth(_) => {
                self.opening(step, reply)
            }
            _ => self.transaction(step, reply),
        }
        self.settle();
    }

    /// The front step is answered.
    pub(super) fn pop(&mut self) {
        self.steps.pop_front();
        self.sent = self.sent.saturating_sub(1);
    }

    /// Puts a step at the front, to be sent next. Only when none awaits its reply.
    pub(super) fn send_next(&mut self, step: Step) {
        debug_assert_eq!(self.sent, 0, "steps are awaiting replies");
        self.steps.push_front(step);
    }

    /// Takes the steps of a message that are not sent off the list. A chunk that has begun is not one of them.
    pub(super) fn cancel(&mut self, message: usize) {
        let keep = self.sent + usize::from(self.stream.is_some());
        while self.steps.len() > keep
            && self
                .steps
                .back()
                .is_some_and(|step| step.message() == Some(message))
        {
            self.steps.pop_back();
        }
    }

    pub(super) fn emit(&mut self, event: Output) {
        self.event = Some(event);
    }

    /// Tells when the submitted messages are done.
    fn settle(&mut self) {
        let all = self
            .messages
            .get(self.next_message..)
            .unwrap_or_default()
            .iter()
            .all(Message::is_decided);
        if self.busy && all && self.steps.is_empty() {
            self.busy = false;
            self.event = Some(Output::Done);
        }
    }

    /// The bytes are no reply.
    fn close_for(&mut self, error: &ReplyError) {
        let command = self.steps.front().map_or("connection", |step| step.name());
        let status =
            DeliveryStatus::transient(Cause::Protocol, EnhancedCode::PROTOCOL, error.to_string());
        self.close(status.with_command(command));
    }

    pub(super) fn close_with(&mut self, reply: &Reply, step: Step) {
        self.close(DeliveryStatus::from_reply(reply, step.name()));
    }

    /// The connection is lost: an error of the network, or its end when `error` is empty.
    pub fn lost(&mut self, error: &str) {
        let command = self.steps.front().map_or("connection", |step| step.name());
        let text = if error.is_empty() {
            "connection closed by the server"
        } else {
            error
        };
        let status = DeliveryStatus::transient(Cause::Lost, EnhancedCode::BAD_CONNECTION, text);
        self.close(status.with_command(command));
    }

    /// When to call [`Self::timeout`], if nothing happens until then.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        if self.closed.is_some() || self.event.is_some() {
            return None;
        }
        let timeouts = &self.config.timeouts;
        let wait = match self.steps.front() {
            _ if self.stream.is_some() => timeouts.block,
            Some(_) if self.sent == 0 => return None,
            None => return None,
            Some(Step::Greeting) => timeouts.greeting,
            Some(Step::Ehlo | Step::Helo | Step::StartTls | Step::Auth(_) | Step::Rset) => {
                timeouts.helo
            }
            Some(Step::Mail(_)) => timeouts.mail,
            Some(Step::Rcpt(..)) => timeouts.rcpt,
            Some(Step::Data(_)) => timeouts.data,
            Some(Step::Text(_) | Step::Dot(_) | Step::Bdat(..)) => timeouts.dot,
            Some(Step::Quit) => timeouts.quit,
        };
        self.last_progress.checked_add(wait)
    }

    /// Ends the session if its deadline has come.
    pub fn timeout(&mut self, now: Instant) {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        let command = self.steps.front().map_or("connection", |step| step.name());
        let text = if self.stream.is_some() {
            "the server did not take the message in time"
        } else {
            "the server did not reply in time"
        };
        self.close(
            DeliveryStatus::transient(Cause::Timeout, EnhancedCode::BAD_CONNECTION, text)
                .with_command(command),
        );
    }

    /// The connection is over. Each message that is not decided gets its result by how far it had come.
    pub(super) fn close(&mut self, status: DeliveryStatus) {
        if self.closed.is_some() {
            return;
        }
        let front = self.steps.front().copied();
        let elsewhere = DeliveryStatus {
            permanent: false,
            ..status.clone()
        };
        // A server may end a connection between two messages, for idleness or for their number. That says nothing about the next.
        let between =
            self.answered_mails > 0 && matches!(front, None | Some(Step::Rset | Step::Mail(_)));
        for (id, message) in self.messages.iter_mut().enumerate() {
            let at_front = front.and_then(Step::message) == Some(id);
            if message.end_sent && !(at_front && status.cause == Cause::Reply) {
                let text = format!("{}; the message may have been delivered", status.text);
                let status = DeliveryStatus {
                    text,
                    permanent: false,
                    ..status.clone()
                };
                message.decide_rest(&status, Again::No);
            } else if at_front && !between {
                message.decide_rest(&status, Again::No);
            } else {
                message.decide_rest(&elsewhere, Again::NewConnection);
            }
        }
        self.steps.clear();
        self.sent = 0;
        self.stream = None;
        self.out.clear();
        self.closed = Some(status.with_remote(&self.config.remote));
        self.event = Some(if std::mem::take(&mut self.busy) {
            Output::Done
        } else {
            Output::Closed
        });
    }
}

fn unexpected(reply: &Reply, step: Option<Step>) -> DeliveryStatus {
    let text = format!("unexpected reply: {reply}");
    DeliveryStatus::transient(Cause::Protocol, EnhancedCode::PROTOCOL, text)
        .with_command(step.map_or("connection", Step::name))
}
