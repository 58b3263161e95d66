//! The states of a session, and the steps of its dialog.

use std::time::Duration;

use super::{Timeouts, text::Stuffer};
use crate::DeliveryStatus;

/// The state of a session.
#[derive(Debug)]
pub(super) enum State {
    /// Greeting, EHLO, STARTTLS and AUTH are under way.
    Opening,
    /// The driver makes the TLS handshake.
    ExpectTls,
    /// The session can take messages.
    Ready,
    /// Messages are being sent.
    Sending(Batch),
    /// QUIT is under way.
    Quitting,
    /// The connection is over. This is the reason.
    Closed(DeliveryStatus),
}

impl State {
    /// The name of the state in traces.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Opening => "Opening",
            Self::ExpectTls => "ExpectTls",
            Self::Ready => "Ready",
            Self::Sending(_) => "Sending",
            Self::Quitting => "Quitting",
            Self::Closed(_) => "Closed",
        }
    }
}

/// The progress of the submitted messages.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// The first message without steps.
    pub(super) next: usize,
    /// The text that is being sent.
    pub(super) text: Option<OpenText>,
}

/// A text, or a chunk of it, that is being sent.
#[derive(Debug)]
pub(super) struct OpenText {
    pub(super) message: usize,
    /// The next byte to send.
    pub(super) offset: u64,
    pub(super) end: u64,
    /// None for BDAT, which sends the bytes as they are.
    pub(super) stuffer: Option<Stuffer>,
}

/// A step of the dialog: a command or a text, and its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Greeting,
    Ehlo,
    Helo,
    StartTls,
    /// A line of the login: the command or a response.
    Auth,
    Rset,
    Mail(usize),
    Rcpt(usize, usize),
    Data(usize),
    /// The text after DATA, with its end.
    Text(usize),
    /// The end of data alone. Nobody gets the text, but the server waits for one (RFC 2920 §3.1).
    Dot(usize),
    /// The chunk of the text that begins at this offset.
    Bdat(usize, u64),
    Quit,
}

impl Step {
    /// Nothing may follow the step before its reply: RFC 2920 §3.1 allows it only as the last of a
    /// group.
    pub(super) const fn ends_group(self) -> bool {
        matches!(
            self,
            Self::Greeting
                | Self::Ehlo
                | Self::Helo
                | Self::StartTls
                | Self::Auth
                | Self::Data(_)
                | Self::Quit
        )
    }

    /// The message of the step.
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

    /// The name of the step in [`DeliveryStatus::command`].
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Greeting => "greeting",
            Self::Ehlo => "EHLO",
            Self::Helo => "HELO",
            Self::StartTls => "STARTTLS",
            Self::Auth => "AUTH",
            Self::Rset => "RSET",
            Self::Mail(_) => "MAIL",
            Self::Rcpt(..) => "RCPT",
            Self::Data(_) => "DATA",
            Self::Text(_) | Self::Dot(_) => "end of data",
            Self::Bdat(..) => "BDAT",
            Self::Quit => "QUIT",
        }
    }

    /// The time for the reply.
    pub(super) const fn timeout(self, timeouts: &Timeouts) -> Duration {
        match self {
            Self::Greeting => timeouts.greeting,
            Self::Ehlo | Self::Helo | Self::StartTls | Self::Auth | Self::Rset => timeouts.helo,
            Self::Mail(_) => timeouts.mail,
            Self::Rcpt(..) => timeouts.rcpt,
            Self::Data(_) => timeouts.data,
            Self::Text(_) | Self::Dot(_) | Self::Bdat(..) => timeouts.dot,
            Self::Quit => timeouts.quit,
        }
    }
}
