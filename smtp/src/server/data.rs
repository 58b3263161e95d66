//! The message itself: DATA and BDAT.

use std::time::Instant;

use super::{
    command,
    handler::Transaction,
    replies::About,
    session::{Next, Session},
    state::{Chunk, Incoming, Stage, State},
    text::{Piece, TextError, TextLimits, TextReader},
    transaction::{MAIL_COMES_FIRST, bad_sequence},
};
use crate::{BodyType, EnhancedCode, Reply, ReplyCode, reason};

impl Session {
    pub(super) fn data(&mut self, stage: Stage) -> State {
        let (reply, stage) = match stage {
            Stage::Chunks(..) => (bad_sequence("the text comes by BDAT"), stage),
            Stage::Envelope(transaction) if is_binary(&transaction) => {
                // DATA needs lines (RFC 3030 §3).
                let reply = bad_sequence("a binary text comes by BDAT");
                (reply, Stage::Envelope(transaction))
            }
            Stage::Envelope(transaction) if transaction.recipients.is_empty() => {
                (NO_RECIPIENT, Stage::Envelope(transaction))
            }
            Stage::Envelope(transaction) => return State::AwaitData(transaction),
            Stage::Idle => (MAIL_COMES_FIRST, stage),
        };
        self.refuse(&reply, State::ExpectCommand(stage))
    }

    /// The policy is ready for a message by DATA.
    pub(super) fn accept_data(&mut self, transaction: Transaction, now: Instant) -> State {
        let reply = Reply::fixed(
            ReplyCode::START_DATA,
            None,
            "end with a dot on a line of its own",
        );
        let reader = TextReader::new(self.text_limits());
        self.say(
            &reply,
            State::ExpectText(transaction, Incoming::new(reader, now)),
        )
    }

    /// BDAT. The bytes of the chunk follow in any case, so a refused chunk is read too (RFC 3030
    /// §2).
    pub(super) fn bdat(&self, chunk: Chunk, stage: Stage) -> State {
        // The time of the command.
        let now = self.since;
        match stage {
            Stage::Chunks(transaction, incoming) => {
                State::ExpectChunk(transaction, incoming, chunk)
            }
            Stage::Envelope(transaction) if transaction.recipients.is_empty() => {
                State::ExpectChunkEnd(Stage::Envelope(transaction), chunk, NO_RECIPIENT, now)
            }
            Stage::Envelope(transaction) => State::AwaitBdat(transaction, chunk),
            Stage::Idle => State::ExpectChunkEnd(Stage::Idle, chunk, MAIL_COMES_FIRST, now),
        }
    }

    /// The policy is ready for a message by BDAT.
    pub(super) fn accept_bdat(
        &self,
        transaction: Transaction,
        chunk: Chunk,
        now: Instant,
    ) -> State {
        let limits = self.text_limits();
        let reader = if is_binary(&transaction) {
            TextReader::binary(limits)
        } else {
            TextReader::new(limits)
        };
        State::ExpectChunk(transaction, Incoming::new(reader, now), chunk)
    }

    fn text_limits(&self) -> TextLimits {
        TextLimits {
            size: self.config.max_message_size,
            line: self.config.max_line,
        }
    }

    pub(super) fn expect_text(
        &mut self,
        transaction: Transaction,
        mut incoming: Incoming,
    ) -> (State, Next) {
        let next = match incoming.reader.read_data(&mut self.input) {
            Piece::More => Next::Wait,
            Piece::Text(text) => incoming.pass_on(text),
            Piece::End => return (self.end_of_text(transaction, incoming), Next::Again),
        };
        (State::ExpectText(transaction, incoming), next)
    }

    pub(super) fn expect_chunk(
        &mut self,
        transaction: Transaction,
        mut incoming: Incoming,
        mut chunk: Chunk,
    ) -> (State, Next) {
        let next = match incoming.reader.read_chunk(&mut self.input, &mut chunk.left) {
            Piece::More => Next::Wait,
            Piece::Text(text) => incoming.pass_on(text),
            Piece::End => {
                let state = self.end_of_chunk(transaction, incoming, chunk);
                return (state, Next::Again);
            }
        };
        (State::ExpectChunk(transaction, incoming, chunk), next)
    }

    fn end_of_chunk(
        &mut self,
        transaction: Transaction,
        mut incoming: Incoming,
        chunk: Chunk,
    ) -> State {
        self.heard_more();
        if chunk.last {
            incoming.reader.finish_chunks();
        }
        if chunk.last || incoming.reader.error().is_some() || incoming.refusal.is_some() {
            return self.end_of_text(transaction, incoming);
        }
        let reply = Reply::fixed(ReplyCode::OK, Some(EnhancedCode::OK), "chunk taken");
        let stage = Stage::Chunks(transaction, incoming);
        self.say(&reply, State::ExpectCommand(stage))
    }

    /// Drops the bytes of a refused chunk, and refuses it at its end.
    pub(super) fn expect_chunk_end(
        &mut self,
        stage: Stage,
        mut chunk: Chunk,
        reply: Reply,
        started: Instant,
    ) -> (State, Next) {
        let there = usize::try_from(chunk.left)
            .unwrap_or(usize::MAX)
            .min(self.input.len());
        drop(self.input.split_to(there));
        chunk.left -= there as u64;
        if chunk.left > 0 {
            let state = State::ExpectChunkEnd(stage, chunk, reply, started);
            return (state, Next::Wait);
        }
        self.heard_more();
        let state = self.refuse(&reply, State::ExpectCommand(stage));
        (state, Next::Again)
    }

    /// The message is whole, or its transaction is over.
    fn end_of_text(&mut self, transaction: Transaction, incoming: Incoming) -> State {
        self.heard_more();
        let refusal = match incoming.reader.error() {
            None => incoming.refusal,
            Some(TextError::TooLarge) => Some(command::too_large(self.config.max_message_size)),
            Some(error) => {
                // A wrong line end is a fault of the protocol: DATA is made of lines.
                let (enhanced, reason) = match error {
                    TextError::BareCr | TextError::BareLf => {
                        (EnhancedCode::SYNTAX, reason::BARE_NEWLINE)
                    }
                    TextError::Nul => (EnhancedCode::CONTENT, reason::NUL),
                    TextError::LineTooLong => (EnhancedCode::CONTENT, reason::TEXT_LINE_TOO_LONG),
                    TextError::TooLarge => (EnhancedCode::CONTENT, reason::SIZE),
                };
                let reply = Reply::new(
                    ReplyCode::TRANSACTION_FAILED,
                    Some(enhanced),
                    format!("the message has {error}"),
                );
                Some(reply.because(reason))
            }
        };
        match refusal {
            None => State::AwaitEnd(transaction),
            Some(reply) => {
                let next = State::ExpectCommand(Stage::Idle);
                self.note_refusal(&reply, About::message(&transaction));
                self.refuse_as(&reply, transaction.mail.smtputf8, next)
            }
        }
    }

    /// The answer to the end of a message.
    pub(super) fn finish(&mut self, transaction: &Transaction, reply: &Reply) -> State {
        self.messages += 1;
        let (utf8, next) = (transaction.mail.smtputf8, State::ExpectCommand(Stage::Idle));
        if !reply.code().is_positive() {
            self.note_refusal(reply, About::message(transaction));
            return self.refuse_as(reply, utf8, next);
        }
        self.errors = 0;
        self.write(&reply.named(self.client.name()), utf8);
        match reply.closes() {
            true => State::Closing,
            false => next,
        }
    }
}

impl Incoming {
    const fn new(reader: TextReader, now: Instant) -> Self {
        Self {
            reader,
            refusal: None,
            started: now,
        }
    }

    /// Hands a piece to the policy, unless the policy has refused the message.
    fn pass_on(&self, text: bytes::Bytes) -> Next {
        match self.refusal {
            Some(_) => Next::Again,
            None => Next::Text(text),
        }
    }
}

/// RFC 5321 §3.3 allows 503 and 554. After 503 a client that pipelines sends no text (RFC 2920
/// §3.1).
const NO_RECIPIENT: Reply = bad_sequence("no recipient was accepted").because(reason::RCPT_FIRST);

/// The message need not be made of lines.
fn is_binary(transaction: &Transaction) -> bool {
    transaction.mail.body == BodyType::BinaryMime
}
