//! The states of a session.
//!
//! A state has its data, which exist in no other state. A state `Expect...` waits for the client, a
//! state `Await...` for the answer to a question.

use std::time::Instant;

use super::{
    command::{MailFrom, RcptTo},
    handler::Transaction,
    replies::About,
    text::TextReader,
};
use crate::{
    Reply,
    sasl::{Exchange, Pending, ScramStart},
};

/// The state of a session. Its name tells the event that the session waits for.
#[derive(Debug)]
pub(super) enum State {
    /// The TLS handshake. It comes before the greeting or after STARTTLS.
    ExpectTls { greeted: bool },
    /// The verdict on the client. `anew`: it took the place of another one.
    AwaitGreeting { anew: bool },
    /// A command.
    ExpectCommand(Stage),
    /// The verdict on EHLO or HELO: the name, whether it was EHLO, and the stage before it.
    AwaitHello(String, bool, Stage),
    /// The next line of an authentication exchange.
    ExpectAuthLine(Box<Exchange>),
    /// The SCRAM keys of a user.
    AwaitKeys(Box<ScramStart>),
    /// The verdict on a login.
    AwaitLogin(Box<Pending>),
    /// The verdict on a sender.
    AwaitMail(MailFrom),
    /// The verdict on a recipient.
    AwaitRcpt(Transaction, RcptTo),
    /// The verdict on DATA.
    AwaitData(Transaction),
    /// The verdict on the first BDAT.
    AwaitBdat(Transaction, Chunk),
    /// More of a message that comes by DATA.
    ExpectText(Transaction, Incoming),
    /// More of a chunk.
    ExpectChunk(Transaction, Incoming, Chunk),
    /// The end of a chunk that was refused. The reply is for that end. The time is that of the
    /// BDAT.
    ExpectChunkEnd(Stage, Chunk, Reply, Instant),
    /// The verdict on a whole message.
    AwaitEnd(Transaction),
    /// Nothing more: the connection closes when the output is sent.
    Closing,
}

/// How far a transaction has come when a command is expected.
#[derive(Debug)]
pub(super) enum Stage {
    /// No transaction is open.
    Idle,
    /// MAIL was accepted.
    Envelope(Transaction),
    /// A chunk was accepted, and it was not the last.
    Chunks(Transaction, Incoming),
}

/// A message that is coming in.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) reader: TextReader,
    /// The policy refused the message while it came. This is the reply at its end.
    pub(super) refusal: Option<Reply>,
    /// The time of the 354, or of the first BDAT.
    pub(super) started: Instant,
}

/// A chunk of BDAT.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chunk {
    /// The bytes that are still to come.
    pub(super) left: u64,
    pub(super) last: bool,
}

impl Stage {
    pub(super) const fn transaction(&self) -> Option<&Transaction> {
        match self {
            Self::Idle => None,
            Self::Envelope(transaction) | Self::Chunks(transaction, _) => Some(transaction),
        }
    }
}

impl State {
    /// The name of the state in traces.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::ExpectTls { .. } => "ExpectTls",
            Self::AwaitGreeting { .. } => "AwaitGreeting",
            Self::ExpectCommand(Stage::Idle) => "ExpectCommand",
            Self::ExpectCommand(Stage::Envelope(_)) => "ExpectCommand in a transaction",
            Self::ExpectCommand(Stage::Chunks(..)) => "ExpectCommand between chunks",
            Self::AwaitHello(..) => "AwaitHello",
            Self::ExpectAuthLine(_) => "ExpectAuthLine",
            Self::AwaitKeys(_) => "AwaitKeys",
            Self::AwaitLogin(_) => "AwaitLogin",
            Self::AwaitMail(_) => "AwaitMail",
            Self::AwaitRcpt(..) => "AwaitRcpt",
            Self::AwaitData(_) => "AwaitData",
            Self::AwaitBdat(..) => "AwaitBdat",
            Self::ExpectText(..) => "ExpectText",
            Self::ExpectChunk(..) => "ExpectChunk",
            Self::ExpectChunkEnd(..) => "ExpectChunkEnd",
            Self::AwaitEnd(_) => "AwaitEnd",
            Self::Closing => "Closing",
        }
    }

    /// The transaction that is open.
    pub(super) const fn transaction(&self) -> Option<&Transaction> {
        match self {
            Self::ExpectCommand(stage)
            | Self::AwaitHello(_, _, stage)
            | Self::ExpectChunkEnd(stage, ..) => stage.transaction(),
            Self::AwaitRcpt(transaction, _)
            | Self::AwaitData(transaction)
            | Self::AwaitBdat(transaction, _)
            | Self::ExpectText(transaction, _)
            | Self::ExpectChunk(transaction, ..)
            | Self::AwaitEnd(transaction) => Some(transaction),
            Self::ExpectTls { .. }
            | Self::AwaitGreeting { .. }
            | Self::ExpectAuthLine(_)
            | Self::AwaitKeys(_)
            | Self::AwaitLogin(_)
            | Self::AwaitMail(_)
            | Self::Closing => None,
        }
    }

    /// Whom the open question is about: the sender, or a recipient of the sender's message.
    pub(super) fn about(&self) -> About {
        match self {
            Self::AwaitMail(mail) => About {
                from: mail.reverse_path.to_string(),
                ..About::default()
            },
            Self::AwaitRcpt(transaction, rcpt) => About {
                to: rcpt.forward_path.to_string(),
                ..About::sender(transaction)
            },
            Self::AwaitData(transaction) => About::message(transaction),
            _ => About::default(),
        }
    }

    /// The time when the message began that is coming in.
    pub(super) const fn started(&self) -> Option<Instant> {
        match self {
            Self::ExpectText(_, incoming)
            | Self::ExpectChunk(_, incoming, _)
            | Self::ExpectCommand(Stage::Chunks(_, incoming)) => Some(incoming.started),
            Self::ExpectChunkEnd(.., started) => Some(*started),
            _ => None,
        }
    }

    /// The message that is coming in.
    pub(super) const fn incoming(&mut self) -> Option<&mut Incoming> {
        match self {
            Self::ExpectText(_, incoming)
            | Self::ExpectChunk(_, incoming, _)
            | Self::ExpectCommand(Stage::Chunks(_, incoming)) => Some(incoming),
            _ => None,
        }
    }
}
