//! The conversation about one client, without I/O.
//!
//! [`MilterSession::decided`] knows what the filter has said for good. [`MilterSession::begin`]
//! takes another question, and [`MilterSession::poll`] says what is to be done until there is an
//! answer. What the filter has not been told yet goes before the command in
//! question: a filter may be asked for the first time at the end of a message.
//!
//! A refusal of the connection is for good, as the library of Sendmail has it. A refusal of
//! something that the client was told is accepted refuses the whole message.

mod replies;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use bytes::BytesMut;
use postrider_config::HookStage;
use postrider_smtp::{Reply, ReplyCode, server::MailFrom};

use super::{
    super::{
        answer::{Answer, Failure, Vote},
        asked::Asked,
        draft::Draft,
    },
    changes::Changes,
    command::{self, Strings},
    macros::Known,
    options::{Agreed, Stage},
    packet::{self, PacketReader},
    reply::FilterReply,
};

/// A question to the filter.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The session.
    pub asked: &'a Asked<'a>,
    /// The refusal that the last recipient has got already. None: it is not refused.
    pub refused: Option<&'a Reply>,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send what [`MilterSession::output`] has, and wait for bytes of the filter.
    Wait(Wait),
    /// Send what [`MilterSession::output`] has, and [give](MilterSession::give) a piece of the
    /// body.
    Piece {
        /// The place of the piece in the body.
        at: u64,
        /// The most bytes.
        max: u64,
    },
    /// This is the answer. Send what [`MilterSession::output`] has.
    Done(Answer),
}

/// A wait for the filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// The wait is about a piece of the body or the end of the message, and may take longer.
    pub content: bool,
    /// Each wait has another number, and so has one for which the filter asked for more time.
    pub number: u32,
}

/// The conversation about one client.
#[derive(Debug)]
pub struct MilterSession {
    agreed: Agreed,
    reader: PacketReader,
    output: BytesMut,
    body_max: usize,
    todo: VecDeque<Todo>,
    /// The command whose reply is awaited.
    awaits: Option<Todo>,
    waits: u32,
    told_connect: bool,
    /// The name in EHLO that the filter was told, and whether there was TLS.
    told_helo: Option<(String, bool)>,
    /// What the filter has said of the whole connection.
    connection: Option<Vote>,
    message: Option<Message>,
    failure: Option<Failure>,
}

/// A message that the filter was told of.
#[derive(Debug, Default)]
struct Message {
    /// The number of its transaction.
    transaction: u32,
    /// What the filter has said of the whole message.
    decided: Option<Vote>,
    skips_body: bool,
    changes: Changes,
}

/// A command that is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Todo {
    Connect,
    Helo,
    Mail,
    /// The recipient with this index.
    Rcpt(usize),
    Data,
    /// The field with this index.
    Header(usize),
    EndOfHeader,
    /// The piece of the body from this place on.
    Body(u64),
    EndOfMessage,
}

impl Todo {
    const fn stage(self) -> Stage {
        match self {
            Self::Connect => Stage::Connect,
            Self::Helo => Stage::Helo,
            Self::Mail => Stage::Mail,
            Self::Rcpt(_) => Stage::Rcpt,
            Self::Data => Stage::Data,
            Self::Header(_) => Stage::Header,
            Self::EndOfHeader => Stage::EndOfHeader,
            Self::Body(_) => Stage::Body,
            Self::EndOfMessage => Stage::EndOfMessage,
        }
    }
}

impl MilterSession {
    pub(super) fn new(agreed: Agreed, reader: PacketReader, body_max: usize) -> Self {
        Self {
            agreed,
            reader,
            output: BytesMut::new(),
            body_max,
            todo: VecDeque::new(),
            awaits: None,
            waits: 0,
            told_connect: false,
            told_helo: None,
            connection: None,
            message: None,
            failure: None,
        }
    }

    /// The answer, if the filter has said enough already to a question at an earlier stage. It is
    /// told nothing then.
    ///
    /// # Errors
    /// If the conversation has failed.
    pub fn decided(&mut self, question: &Question<'_>) -> Result<Option<Answer>, Failure> {
        self.check()?;
        let asked = question.asked;
        if asked.stage == HookStage::Auth {
            return Ok(Some(Answer::ACCEPT));
        }
        if let Some(vote) = &self.connection {
            return Ok(Some(answer(vote.clone())));
        }
        let is_over = asked.stage == HookStage::Data;
        if !is_over && asked.stage != HookStage::Rcpt {
            return Ok(None);
        }
        let message = self.message.as_ref();
        let message = message.filter(|it| it.transaction == asked.client.transaction);
        let Some(vote) = message.and_then(|message| message.decided.clone()) else {
            return Ok(None);
        };
        if is_over {
            self.abort();
        }
        Ok(Some(match vote {
            // The recipients of a message that will be dropped do not matter.
            Vote::Discard(_) if !is_over => Answer::ACCEPT,
            vote => answer(vote),
        }))
    }

    /// Takes a question that is not [decided](Self::decided).
    ///
    /// # Errors
    /// If the conversation has failed, the filter spoke without being asked, or an earlier question
    /// has no answer.
    pub fn begin(&mut self, question: &Question<'_>) -> Result<(), Failure> {
        self.check()?;
        if self.awaits.is_some() || !self.todo.is_empty() {
            let broken = "an earlier question to the filter was broken off";
            return Err(self.fail(Failure::Unavailable(broken.to_owned())));
        }
        self.silence().map_err(|failure| self.fail(failure))?;
        self.plan(question);
        Ok(())
    }

    /// Notes what the filter is to be told.
    fn plan(&mut self, question: &Question<'_>) {
        let asked = question.asked;
        if !self.told_connect {
            self.todo.push_back(Todo::Connect);
        }
        match asked.stage {
            HookStage::Connect | HookStage::Auth => {}
            HookStage::Ehlo => {
                self.abort();
                self.todo.push_back(Todo::Helo);
            }
            HookStage::Mail => self.plan_mail(asked),
            HookStage::Rcpt => {
                self.plan_envelope(asked, asked.to().len().saturating_sub(1));
                if let Some(last) = asked.to().len().checked_sub(1) {
                    self.todo.push_back(Todo::Rcpt(last));
                }
            }
            HookStage::Data => {
                self.plan_envelope(asked, asked.to().len());
                self.todo.push_back(Todo::Data);
                self.todo.push_back(Todo::Header(0));
            }
        }
    }

    fn plan_mail(&mut self, asked: &Asked<'_>) {
        let helo = helo(asked);
        if helo.is_some() && helo != self.told_helo {
            self.todo.push_back(Todo::Helo);
        }
        self.abort();
        self.todo.push_back(Todo::Mail);
    }

    /// Notes the envelope with so many recipients, if the filter does not know this message.
    fn plan_envelope(&mut self, asked: &Asked<'_>, recipients: usize) {
        let transaction = asked.client.transaction;
        let message = self.message.as_ref();
        if message.is_none_or(|message| message.transaction != transaction) {
            self.plan_mail(asked);
            self.todo.extend((0..recipients).map(Todo::Rcpt));
        }
    }

    /// The next thing to be done for the question that was taken last.
    ///
    /// # Errors
    /// If the filter speaks out of turn, or sends what makes no sense. The conversation is over
    /// then.
    pub fn poll(&mut self, question: &Question<'_>) -> Result<Output, Failure> {
        self.check()?;
        self.advance(question).map_err(|failure| self.fail(failure))
    }

    fn advance(&mut self, question: &Question<'_>) -> Result<Output, Failure> {
        loop {
            if let Some(todo) = self.awaits {
                let Some(packet) = self.reader.next()? else {
                    return Ok(Output::Wait(Wait {
                        content: matches!(todo, Todo::Body(_) | Todo::EndOfMessage),
                        number: self.waits,
                    }));
                };
                let reply = FilterReply::read(packet)?;
                if let Some(answer) = self.take(todo, reply, question)? {
                    self.awaits = None;
                    self.todo.clear();
                    return Ok(Output::Done(answer));
                }
                continue;
            }
            self.silence()?;
            let Some(todo) = self.todo.pop_front() else {
                return Ok(Output::Done(Answer::ACCEPT));
            };
            if let Some(output) = self.tell(todo, question) {
                return Ok(output);
            }
        }
    }

    /// The bytes that are to be sent.
    #[must_use]
    pub fn output(&mut self) -> BytesMut {
        self.output.split()
    }

    /// Takes bytes of the filter.
    pub fn receive(&mut self, bytes: &[u8]) {
        self.reader.push(bytes);
    }

    /// Takes the piece of the body that was asked for. An empty piece is the end of the body.
    pub fn give(&mut self, piece: &[u8]) {
        let Some(Todo::Body(at)) = self.todo.front().copied() else {
            return;
        };
        self.todo.pop_front();
        if piece.is_empty() {
            self.todo.push_front(Todo::EndOfMessage);
            return;
        }
        packet::write(&mut self.output, Stage::Body.command(), &[piece]);
        self.todo
            .push_front(Todo::Body(at.saturating_add(piece.len() as u64)));
        self.sent(Todo::Body(at));
    }

    /// The transaction of the client is over without its data. The filter forgets the message.
    pub fn abort(&mut self) {
        if self.message.take().is_some() {
            packet::write(&mut self.output, b'A', &[]);
        }
    }

    /// The client is gone.
    pub fn quit(&mut self) {
        self.abort();
        packet::write(&mut self.output, b'Q', &[]);
    }

    /// Whether a command has no reply yet, so that no other one can be sent.
    #[must_use]
    pub const fn is_waiting(&self) -> bool {
        self.awaits.is_some()
    }

    /// Whether the filter is told of recipients that were refused already.
    #[must_use]
    pub const fn wants_rejected(&self) -> bool {
        self.agreed.wants_rejected()
    }

    /// Ends the conversation. Every later question has this failure too.
    pub fn fail(&mut self, failure: Failure) -> Failure {
        self.failure.get_or_insert(failure).clone()
    }

    fn check(&self) -> Result<(), Failure> {
        self.failure.clone().map_or(Ok(()), Err)
    }

    /// Checks that the filter says nothing without being asked. That it works on does not count.
    fn silence(&mut self) -> Result<(), Failure> {
        while let Some(packet) = self.reader.next()? {
            match FilterReply::read(packet)? {
                FilterReply::Progress => {}
                reply => {
                    return Err(Failure::invalid(format_args!(
                        "the filter sends \"{}\" without being asked",
                        reply.letter()
                    )));
                }
            }
        }
        Ok(())
    }

    /// Sends a command, or goes past it if the filter does not want it.
    fn tell(&mut self, todo: Todo, question: &Question<'_>) -> Option<Output> {
        let asked = question.asked;
        match todo {
            Todo::Connect => {
                self.told_connect = true;
                self.send(todo, question, &command::connect(asked));
            }
            Todo::Helo => {
                self.told_helo = helo(asked);
                self.send(todo, question, &command::helo(asked));
            }
            Todo::Mail => {
                self.message = Some(Message {
                    transaction: asked.client.transaction,
                    ..Message::default()
                });
                if let Some(mail) = mail(asked) {
                    self.send(todo, question, &command::mail(mail));
                }
            }
            Todo::Rcpt(index) => {
                if let Some(rcpt) = asked.to().get(index) {
                    self.send(todo, question, &command::rcpt(rcpt));
                }
            }
            Todo::Data | Todo::EndOfMessage => self.send(todo, question, &Strings::default()),
            Todo::Header(index) => self.tell_header(index, question),
            Todo::EndOfHeader => {
                self.todo.push_front(Todo::Body(0));
                self.send(todo, question, &Strings::default());
            }
            Todo::Body(at) => return self.ask_for_body(at, asked.draft),
        }
        None
    }

    fn tell_header(&mut self, index: usize, question: &Question<'_>) {
        let draft = question.asked.draft;
        let mut fields = draft.into_iter().flat_map(|draft| draft.section.fields());
        let wanted = self.agreed.wants(Stage::Header);
        let Some(written) = fields.nth(index).filter(|_| wanted) else {
            self.todo.push_front(Todo::EndOfHeader);
            return;
        };
        self.todo.push_front(Todo::Header(index + 1));
        let (size, space) = (self.agreed.data_size(), self.agreed.keeps_space());
        if let Some(field) = command::header(written, size, space) {
            self.send(Todo::Header(index), question, &field);
        }
    }

    fn ask_for_body(&mut self, at: u64, draft: Option<&Draft>) -> Option<Output> {
        let skips = self.message.as_ref().is_some_and(|it| it.skips_body);
        let is_over = draft.is_none_or(|draft| at >= draft.body.len());
        if skips || is_over || !self.agreed.wants(Stage::Body) {
            self.todo.push_front(Todo::EndOfMessage);
            return None;
        }
        self.todo.push_front(Todo::Body(at));
        let max = self.agreed.data_size() as u64;
        Some(Output::Piece { at, max })
    }

    /// Sends the macros of a command, also if the filter does not want the command itself, and the
    /// command.
    fn send(&mut self, todo: Todo, question: &Question<'_>, data: &Strings) {
        let stage = todo.stage();
        if let Some(macros) = self.agreed.macros(stage) {
            let rcpt = match todo {
                Todo::Rcpt(index) => question.asked.to().get(index),
                _ => None,
            };
            let is_last = is_last_rcpt(todo, question.asked);
            let known = Known {
                asked: question.asked,
                rcpt,
                refused: question.refused.filter(|_| is_last),
            };
            let values = command::macros(stage, macros, &known);
            if let Some(values) = values {
                packet::write(&mut self.output, b'D', &[values.bytes()]);
            }
        }
        if self.agreed.wants(stage) {
            packet::write(&mut self.output, stage.command(), &[data.bytes()]);
            self.sent(todo);
        }
    }

    /// Waits for the reply to a command, if there will be one.
    fn sent(&mut self, todo: Todo) {
        if self.agreed.replies(todo.stage()) {
            self.awaits = Some(todo);
            self.waits = self.waits.wrapping_add(1);
        }
    }
}

/// Whether the command is about the last recipient.
fn is_last_rcpt(todo: Todo, asked: &Asked<'_>) -> bool {
    matches!(todo, Todo::Rcpt(index) if index + 1 == asked.to().len())
}

/// The name in EHLO, and whether there is TLS.
fn helo(asked: &Asked<'_>) -> Option<(String, bool)> {
    Some((asked.helo?.to_owned(), asked.client.tls.is_some()))
}

/// The command MAIL of the message.
fn mail<'a>(asked: &Asked<'a>) -> Option<&'a MailFrom> {
    asked.draft.map(|draft| &draft.mail).or(asked.mail)
}

/// The answer with this vote. The connection closes behind a 421.
fn answer(vote: Vote) -> Answer {
    let closes = match &vote {
        Vote::Refuse(reply) => reply.code() == ReplyCode::UNAVAILABLE,
        _ => false,
    };
    Answer {
        closes,
        ..Answer::of(vote)
    }
}
