//! The client's side of a session: a function of bytes and time (RFC 5321 §4, RFC 2033).
//!
//! A session has no socket and no clock. A driver calls it:
//!
//! | call | when |
//! |---|---|
//! | [`Session::submit`], [`Session::probe`] | there are messages to send, or an address to ask for |
//! | [`Session::receive`] | bytes came |
//! | [`Session::poll_output`] | after each other call, until it gives None |
//! | [`Session::answer`] | a piece of text of [`Output::Ask`] is read |
//! | [`Session::wrote_some`] | a part of the bytes of [`Output::Send`] is written |
//! | [`Session::wrote`] | the bytes of [`Output::Send`] are written |
//! | [`Session::timeout`] | the time of [`Session::deadline`] has come |
//! | [`Session::lost`] | the connection broke |
//!
//! The dialog is one list of steps with two cursors. The steps before the sending cursor are sent.
//! The receiving cursor is the front of the list, since replies come in order. PIPELINING only
//! decides how far the one may run ahead of the other. The meaning of a reply is the same with and
//! without it.
//!
//! The file `sending` has the steps on their way out. The files `opening`, `auth`, `transaction`
//! and `data` have the replies. The file `recording` has what a recorder gets.

use std::{collections::VecDeque, fmt, sync::Arc, time::Instant};

use bytes::{Bytes, BytesMut};

use super::{
    Again, Envelope, Extensions, OutgoingResult, ReplyError, ReplyParser, TlsFaultKind,
    auth::Auth,
    config::{Security, SessionConfig},
    message::Message,
    rate::Rate,
    state::{Batch, OpenText, State, Step},
};
use crate::{Address, Cause, DeliveryStatus, EnhancedCode, Reply, ReplyCode, ReversePath};

/// A request for a piece of a message. The answer goes to [`Session::answer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PieceRequest {
    /// The index of the message in the last [`Session::submit`].
    pub message: usize,
    /// The first byte.
    pub offset: u64,
    /// The most bytes.
    pub max: usize,
}

/// A request of the session to its driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send these bytes, then call [`Session::wrote`]. Ask for no more output before that.
    Send(Bytes),
    /// Read this piece, then call [`Session::answer`].
    Ask(PieceRequest),
    /// Make the TLS handshake, then call [`Session::tls_started`].
    StartTls,
    /// The opening is done. The session can take messages.
    Ready,
    /// All submitted messages have their results.
    Done,
    /// Close the connection. [`Session::closed`] has the reason.
    Closed,
}

/// Whether a message may begin, by its index in the list that is sent.
#[derive(Clone)]
pub struct MayBegin(Arc<dyn Fn(usize) -> bool + Send + Sync>);

impl MayBegin {
    /// The answer that a function gives. It is called just before MAIL, and does not wait.
    pub fn new(may_begin: impl Fn(usize) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(may_begin))
    }

    pub(super) fn ask(&self, message: usize) -> bool {
        (self.0)(message)
    }
}

impl fmt::Debug for MayBegin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MayBegin")
    }
}

/// The client's side of one connection.
#[derive(Debug)]
pub struct Session {
    pub(super) config: SessionConfig,
    state: State,
    pub(super) extensions: Extensions,
    pub(super) tls: bool,
    /// The tls-exporter value of the connection.
    pub(super) channel: Option<[u8; 32]>,
    /// The login under way.
    pub(super) auth: Option<Auth>,
    pub(super) parser: ReplyParser,
    pub(super) steps: VecDeque<Step>,
    /// The sending cursor: the number of steps that are sent.
    pub(super) sent: usize,
    /// The lengths of the commands of the sent steps, in their order, and their sum.
    pub(super) lengths: VecDeque<usize>,
    pub(super) open_bytes: usize,
    /// The RCPT commands among the sent steps.
    pub(super) open_rcpts: usize,
    /// The server took a message on this connection.
    pub(super) succeeded: bool,
    /// The end of the opening. None before.
    ready: Option<Instant>,
    /// The messages of the last [`Self::submit`].
    pub(super) messages: Vec<Message>,
    /// A transaction may be open at the server, and no message of ours is in it.
    pub(super) needs_reset: bool,
    /// The number of MAIL commands on the list so far.
    pub(super) mails: u32,
    pub(super) answered_mails: u32,
    pub(super) output: BytesMut,
    /// The request that the last change of the state leads to.
    event: Option<Output>,
    /// The beginning of the wait that the deadline limits.
    pub(super) since: Instant,
    /// The message of the front step, and the moment when it came to the front.
    front: Option<(usize, Instant)>,
    /// How fast the server takes the text.
    pub(super) rate: Rate,
    /// No message begins after it.
    pub(super) last_begin: Option<Instant>,
    /// Whether a message may begin.
    pub(super) may_begin: Option<MayBegin>,
    /// The reason for the end, if it is about TLS.
    pub(super) tls_fault: Option<TlsFaultKind>,
}

impl Session {
    /// A session on a new connection. It awaits the greeting.
    #[must_use]
    pub fn new(config: SessionConfig, now: Instant) -> Self {
        Self {
            tls: config.security == Security::Active,
            config,
            state: State::Opening,
            channel: None,
            auth: None,
            extensions: Extensions::default(),
            parser: ReplyParser::new(),
            steps: VecDeque::from([Step::Greeting]),
            sent: 1,
            lengths: VecDeque::from([0]),
            open_bytes: 0,
            open_rcpts: 0,
            succeeded: false,
            ready: None,
            messages: Vec::new(),
            needs_reset: false,
            mails: 0,
            answered_mails: 0,
            output: BytesMut::new(),
            event: None,
            since: now,
            front: None,
            rate: Rate::new(now),
            last_begin: None,
            may_begin: None,
            tls_fault: None,
        }
    }

    /// Tells the tls-exporter value (RFC 9266) of the connection, to which a login is bound then.
    /// None: it has none. The call comes after the handshake, before the bytes of the server.
    pub const fn bind_channel(&mut self, channel: Option<[u8; 32]>) {
        self.channel = channel;
    }

    /// From now on, no message begins after this moment: its MAIL is not sent, and its result is
    /// [`Again::NewConnection`]. A message that began goes on.
    pub const fn begin_none_after(&mut self, last: Instant) {
        self.last_begin = Some(last);
    }

    /// From now on, `may_begin` is asked just before the MAIL of each message, by its index among
    /// those that were submitted. If it says no, the message does not begin, and its result is
    /// [`Again::NewConnection`].
    pub fn begin_if(&mut self, may_begin: MayBegin) {
        self.may_begin = Some(may_begin);
    }

    /// The configuration.
    #[must_use]
    pub const fn config(&self) -> &SessionConfig {
        &self.config
    }

    /// The extensions of the server. Empty before the session is ready.
    #[must_use]
    pub const fn extensions(&self) -> &Extensions {
        &self.extensions
    }

    /// The reason why the connection is over. None while it is not.
    #[must_use]
    pub const fn closed(&self) -> Option<&DeliveryStatus> {
        match &self.state {
            State::Closed(status) => Some(status),
            _ => None,
        }
    }

    /// What is wrong with TLS, if the connection is over for that.
    #[must_use]
    pub const fn tls_fault(&self) -> Option<TlsFaultKind> {
        self.tls_fault
    }

    /// The session can take more messages now: the connection is open and not too old
    /// ([`Timeouts::connection`]), and the server's limit of messages (LIMITS MAILMAX, RFC 9422) is
    /// not reached.
    ///
    /// [`Timeouts::connection`]: super::Timeouts::connection
    #[must_use]
    pub fn usable(&self, now: Instant) -> bool {
        self.closed().is_none() && !self.mails_exhausted() && !self.is_too_old(now)
    }

    /// The connection takes no further message for its age.
    pub(super) fn is_too_old(&self, now: Instant) -> bool {
        let age = self.ready.map(|ready| now.saturating_duration_since(ready));
        age.is_some_and(|age| age >= self.config.timeouts.connection)
    }

    pub(super) fn mails_exhausted(&self) -> bool {
        self.extensions
            .mail_max
            .is_some_and(|max| self.mails >= max)
    }

    /// Takes messages to send, as envelopes and sizes. The session must be ready.
    pub fn submit(&mut self, messages: impl IntoIterator<Item = (Envelope, u64)>, now: Instant) {
        let messages = messages.into_iter();
        let messages = messages.map(|(envelope, size)| Message::new(envelope, size));
        self.begin(messages.collect(), now);
    }

    /// Asks whether the server takes mail for a recipient: sends MAIL, RCPT and RSET, and no
    /// message. The session must be ready. The results are those of one message, whose one
    /// recipient has the reply at RCPT.
    pub fn probe(&mut self, from: ReversePath, to: Address, now: Instant) {
        self.begin(vec![Message::probe(from, to)], now);
    }

    fn begin(&mut self, messages: Vec<Message>, now: Instant) {
        self.messages = messages;
        if let Some(recorder) = &self.config.recorder {
            recorder.begin_batch();
        }
        self.since = now;
        self.front = None;
        for message in &mut self.messages {
            message.check(&self.extensions, self.tls, self.config.lmtp);
        }
        let refusal = match &self.state {
            State::Ready => {
                self.enter(State::Sending(Batch::default()));
                return self.settle();
            }
            State::Closed(status) => status.clone(),
            state => {
                let text = format!("no message can be sent in the state {}", state.name());
                DeliveryStatus::transient(Cause::Local, EnhancedCode::SYSTEM_TRANSIENT, text)
            }
        };
        for message in &mut self.messages {
            message.decide_rest(&refusal, Again::NewConnection);
        }
        self.event = Some(Output::Done);
    }

    /// The results of the submitted messages, in their order.
    pub fn results(&mut self) -> Vec<OutgoingResult> {
        std::mem::take(&mut self.messages)
            .into_iter()
            .map(|message| message.finish(&self.config.remote))
            .collect()
    }

    /// Sends QUIT, if the session is ready. `Closed` follows.
    pub fn quit(&mut self, now: Instant) {
        if matches!(self.state, State::Ready) {
            self.since = now;
            self.steps.push_back(Step::Quit);
            self.enter(State::Quitting);
        }
    }

    /// The next request to the driver. None: wait for bytes, or for [`Self::deadline`].
    pub fn poll_output(&mut self) -> Option<Output> {
        if let Some(event) = self.event.take() {
            return Some(event);
        }
        if let Some(request) = self.fill_output() {
            return Some(Output::Ask(request));
        }
        // The session may have found that nothing is left to send.
        if let Some(event) = self.event.take() {
            return Some(event);
        }
        if self.closed().is_some() {
            return Some(Output::Closed);
        }
        if self.output.is_empty() {
            return None;
        }
        self.rate.hand_out(self.output.len());
        Some(Output::Send(self.output.split().freeze()))
    }

    /// So many bytes of the last [`Output::Send`] are written, and not all.
    pub fn wrote_some(&mut self, bytes: usize, now: Instant) {
        self.rate.wrote(bytes, self.config.timeouts.min_rate, now);
    }

    /// All bytes of the last [`Output::Send`] are written.
    pub fn wrote(&mut self, now: Instant) {
        self.since = now;
        let more = self.open_text().is_some();
        self.rate
            .wrote_all(more, self.config.timeouts.min_rate, now);
        self.note_front(now);
    }

    /// The time for a message begins when its first step is the front step.
    fn note_front(&mut self, now: Instant) {
        let id = self.steps.front().copied().and_then(Step::message);
        if self.front.map(|(id, _)| id) != id {
            self.front = id.map(|id| (id, now));
        }
    }

    /// Takes bytes from the server, in any split.
    pub fn receive(&mut self, bytes: &[u8], now: Instant) {
        if self.closed().is_some() {
            return;
        }
        self.parser.push(bytes);
        while self.closed().is_none() {
            match self.parser.next() {
                Ok(Some(reply)) => self.reply(&reply, now),
                Ok(None) => return,
                Err(error) => self.close_for(&error),
            }
        }
    }

    fn reply(&mut self, reply: &Reply, now: Instant) {
        self.since = now;
        let step = self.steps.front().copied();
        tracing::trace!(remote = self.config.remote, ?step, %reply, "reply");
        self.record_reply(step, reply);
        let step = match step {
            Some(Step::Quit) => return self.close_with(reply, Step::Quit),
            // RFC 5321 §3.8: a server may answer anything with 421, and then closes.
            _ if reply.code() == ReplyCode::UNAVAILABLE => {
                let command = step.map_or("connection", Step::name);
                return self.close(DeliveryStatus::from_reply(reply, command));
            }
            Some(step) if self.sent > 0 => step,
            // The server gave up on a text that is being sent, or comes next. The text cannot end
            // without being taken. A server may even say 354 and 554 in one breath.
            Some(step @ (Step::Text(_) | Step::Bdat(..))) if reply.code().class() >= 4 => {
                return self.close_with(reply, step);
            }
            _ => {
                let status = unexpected(reply, step.map_or("connection", Step::name));
                return self.close(status);
            }
        };
        match step {
            Step::Greeting | Step::Ehlo | Step::Helo | Step::StartTls => self.opening(step, reply),
            Step::Auth => self.authenticating(reply),
            Step::Data(message) => self.data(message, reply),
            Step::Text(message) => self.end_of_text(message, reply),
            Step::Bdat(message, _) => self.chunk(message, reply, step),
            Step::Rset | Step::Mail(_) | Step::Rcpt(..) | Step::Dot(_) | Step::Quit => {
                self.transaction(step, reply)
            }
        }
        self.settle();
        self.note_front(now);
    }

    /// The front step is answered.
    pub(super) fn pop(&mut self) {
        let step = self.steps.pop_front();
        if self.sent == 0 {
            return;
        }
        self.sent -= 1;
        let length = self.lengths.pop_front().unwrap_or_default();
        self.open_bytes = self.open_bytes.saturating_sub(length);
        if matches!(step, Some(Step::Rcpt(..))) {
            self.open_rcpts = self.open_rcpts.saturating_sub(1);
        }
    }

    /// Puts a step at the front, to be sent next. No step may await its reply.
    pub(super) fn send_next(&mut self, step: Step) {
        debug_assert_eq!(self.sent, 0, "steps are awaiting replies");
        self.steps.push_front(step);
    }

    /// Ends a batch when all its messages have their results.
    pub(super) fn settle(&mut self) {
        let State::Sending(batch) = &self.state else {
            return;
        };
        let rest = self.messages.get(batch.next..).unwrap_or_default();
        if self.steps.is_empty() && rest.iter().all(Message::is_decided) {
            self.enter(State::Ready);
        }
    }

    /// The text that is being sent.
    pub(super) const fn open_text(&self) -> Option<&OpenText> {
        match &self.state {
            State::Sending(batch) => batch.text.as_ref(),
            _ => None,
        }
    }

    /// The messages that are being sent, and their progress.
    pub(super) const fn sending(&mut self) -> Option<(&mut Batch, &mut Vec<Message>)> {
        match &mut self.state {
            State::Sending(batch) => Some((batch, &mut self.messages)),
            _ => None,
        }
    }

    /// The time to call [`Self::timeout`] at, if nothing happens until then. A reply has to be
    /// whole before it, a text has to be taken fast enough, and a message has to be done. None if
    /// the session waits for nothing.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.limit().map(|(deadline, _)| deadline)
    }

    /// The next time limit, and what it limits.
    fn limit(&self) -> Option<(Instant, Limited)> {
        if self.closed().is_some() || self.event.is_some() {
            return None;
        }
        let timeouts = &self.config.timeouts;
        let step = match self.steps.front() {
            _ if self.rate.is_text() || self.open_text().is_some() => {
                let block = self.since.checked_add(timeouts.block);
                let rate = self.rate.deadline();
                block.min(rate.or(block)).map(|at| (at, Limited::Text))
            }
            Some(step) if self.sent > 0 => {
                let reply = self.since.checked_add(step.timeout(timeouts));
                reply.map(|at| (at, Limited::Reply))
            }
            _ => return None,
        };
        let message = self.front.and_then(|(id, since)| {
            let size = self.messages.get(id).map_or(0, |message| message.size);
            let limit = timeouts.for_message(size);
            since.checked_add(limit).map(|at| (at, Limited::Message))
        });
        step.into_iter().chain(message).min_by_key(|(at, _)| *at)
    }

    /// Ends the session if its deadline has come.
    pub fn timeout(&mut self, now: Instant) {
        let limited = match self.limit() {
            Some((deadline, limited)) if now >= deadline => limited,
            _ => return,
        };
        let text = match limited {
            Limited::Reply => "the server did not reply in time",
            Limited::Text => "the server did not take the message in time",
            Limited::Message => "the message took too long as a whole",
        };
        let status = DeliveryStatus::transient(Cause::Timeout, EnhancedCode::BAD_CONNECTION, text);
        self.since = now;
        self.close(status.with_command(self.command()));
    }

    /// The connection broke with this error of the network. Empty: the server closed it.
    pub fn lost(&mut self, error: &str) {
        let text = if error.is_empty() {
            "connection closed by the server"
        } else {
            error
        };
        let status = DeliveryStatus::transient(Cause::Lost, EnhancedCode::BAD_CONNECTION, text);
        self.close(status.with_command(self.command()));
    }

    /// The bytes of the server are not a reply.
    fn close_for(&mut self, error: &ReplyError) {
        let status =
            DeliveryStatus::transient(Cause::Protocol, EnhancedCode::PROTOCOL, error.to_string());
        self.close(status.with_command(self.command()));
    }

    /// The command whose reply comes next.
    fn command(&self) -> &'static str {
        self.steps.front().map_or("connection", |step| step.name())
    }

    pub(super) fn close_with(&mut self, reply: &Reply, step: Step) {
        self.close(DeliveryStatus::from_reply(reply, step.name()));
    }

    /// The connection is over. Each message without a result gets one by how far it has come.
    pub(super) fn close(&mut self, status: DeliveryStatus) {
        if self.closed().is_some() {
            return;
        }
        self.record_end(&status);
        let front = self.steps.front().copied();
        let elsewhere = DeliveryStatus {
            permanent: false,
            ..status.clone()
        };
        // A server may end a connection between two messages, for idleness or for their number.
        // That says nothing of the next message.
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
        self.lengths.clear();
        (self.open_bytes, self.open_rcpts) = (0, 0);
        self.output.clear();
        self.enter(State::Closed(status.with_remote(&self.config.remote)));
    }

    /// Goes to the next state. It traces the change and tells the driver. No other place changes
    /// the state.
    pub(super) fn enter(&mut self, next: State) {
        tracing::trace!(
            remote = self.config.remote,
            old = self.state.name(),
            new = next.name(),
            "state"
        );
        self.event = match (&self.state, &next) {
            (_, State::ExpectTls) => Some(Output::StartTls),
            (State::Sending(_), State::Ready | State::Closed(_)) => Some(Output::Done),
            (_, State::Ready) => Some(Output::Ready),
            (_, State::Closed(_)) => Some(Output::Closed),
            (_, State::Opening | State::Sending(_) | State::Quitting) => None,
        };
        if matches!(next, State::Ready) && self.output.is_empty() {
            // A connection may be idle for long, with nothing to send.
            self.output = BytesMut::new();
        }
        if matches!(next, State::Ready) && self.ready.is_none() {
            self.ready = Some(self.since);
            if let Some(recorder) = &self.config.recorder {
                recorder.opened();
            }
        }
        self.state = next;
    }
}

/// The part of a session that a time limit is for.
#[derive(Clone, Copy, Debug)]
enum Limited {
    /// A reply as a whole.
    Reply,
    /// The text, or a block of it.
    Text,
    /// A message, from its MAIL to its last reply.
    Message,
}

/// The status of a reply that does not fit its command.
pub(super) fn unexpected(reply: &Reply, command: &'static str) -> DeliveryStatus {
    let text = format!("unexpected reply: {reply}");
    DeliveryStatus::transient(Cause::Protocol, EnhancedCode::PROTOCOL, text).with_command(command)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Timeouts;

    /// What the session gives until it waits. Each output is written, and each piece is read.
    fn drain(session: &mut Session, now: Instant) -> Vec<Output> {
        let mut outputs = Vec::new();
        while let Some(output) = session.poll_output() {
            match &output {
                Output::Send(_) => session.wrote(now),
                Output::Ask(piece) => session.answer(Some(&vec![b'x'; piece.max]), now),
                _ => {}
            }
            outputs.push(output);
        }
        outputs
    }

    #[test]
    fn an_idle_session_has_no_memory_for_output() {
        let now = Instant::now();
        let config = SessionConfig {
            helo: "client.example".into(),
            remote: "mx.test".into(),
            security: Security::Never,
            login: None,
            timeouts: Timeouts::default(),
            lmtp: false,
            chunking: false,
            recorder: None,
        };
        let mut session = Session::new(config, now);
        for replies in ["220 mx.test\r\n", "250-mx.test\r\n250 PIPELINING\r\n"] {
            session.receive(replies.as_bytes(), now);
            drain(&mut session, now);
        }
        let envelope = Envelope {
            reverse_path: ReversePath::Null,
            body_type: crate::BodyType::SevenBit,
            smtputf8: false,
            require_tls: false,
            delivery: Default::default(),
            ret: None,
            envid: None,
            recipients: vec!["a@b.test".parse::<Address>().unwrap().into()],
        };
        session.submit([(envelope, 50_000)], now);
        drain(&mut session, now);
        session.receive(b"250 ok\r\n250 ok\r\n354 go on\r\n", now);
        drain(&mut session, now);
        assert!(session.output.capacity() > 0);
        session.receive(b"250 ok\r\n", now);
        assert_eq!(drain(&mut session, now), [Output::Done]);
        assert_eq!(session.output.capacity(), 0);
    }
}
