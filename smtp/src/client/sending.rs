//! The steps of a session on their way out: which step may be sent, and its bytes.

use std::{fmt::Write as _, time::Instant};

use super::{
    Again,
    session::{PieceRequest, Session},
    state::{OpenText, Step},
    text::Stuffer,
};
use crate::{Cause, DeliveryStatus, EnhancedCode};

/// The session makes no more output while this much waits to be sent. It is also the largest piece
/// of a text that the session asks for.
const OUTPUT_MAX: usize = 64 * 1024;
/// The size of a BDAT chunk. Only the last chunk of a text is smaller.
const CHUNK: u64 = 256 * 1024;
/// The most chunks of a text that await their replies.
const CHUNKS_MAX: usize = 2;
/// The session sends a text of up to this size by BDAT before it knows the replies to the
/// recipients. If the server refuses them all, that wastes less than the wait.
const EAGER_MAX: u64 = 64 * 1024;
/// The most steps that may await their replies.
const WINDOW: usize = 256;
/// The most RCPT commands that may await their replies.
const RCPTS_MAX: usize = 100;
/// The most bytes of commands that may await their replies. A server that writes its replies before
/// it reads on finds room for these in its buffers.
const COMMANDS_MAX: usize = 16 * 1024;

impl Session {
    /// Makes output. A request: the next output is this piece of a text.
    pub(super) fn fill_output(&mut self) -> Option<PieceRequest> {
        while self.closed().is_none() && self.output.len() < OUTPUT_MAX {
            if let Some(text) = self.open_text() {
                let left = text.end.saturating_sub(text.offset);
                return Some(PieceRequest {
                    message: text.message,
                    offset: text.offset,
                    max: usize::try_from(left).unwrap_or(usize::MAX).min(OUTPUT_MAX),
                });
            }
            if self.sent == self.steps.len() && !self.plan() {
                break;
            }
            let step = self.steps.get(self.sent).copied();
            let Some(step) = step.filter(|step| self.may_send(*step)) else {
                break;
            };
            if !self.send(step) {
                break;
            }
        }
        None
    }

    /// Puts the steps of the next message on the list. False if there is no message, or it has to
    /// wait.
    fn plan(&mut self) -> bool {
        // A step before it may still turn out to need RSET. Whether the server can take commands
        // behind a text shows with its first success.
        let wait =
            |last: &Step| last.ends_group() || !self.extensions.pipelining || !self.succeeded;
        if self.steps.back().is_some_and(wait) {
            return false;
        }
        let (refusal, may_begin) = (self.no_further_message(), self.may_begin.clone());
        while let Some((batch, messages)) = self.sending() {
            let id = batch.next;
            let Some(message) = messages.get_mut(id) else {
                break;
            };
            batch.next += 1;
            if message.is_decided() {
                continue;
            }
            if let Some(status) = &refusal {
                message.decide_rest(status, Again::NewConnection);
                continue;
            }
            if may_begin.as_ref().is_some_and(|it| !it.ask(id)) {
                let text = "the message is not to begin any more";
                let code = EnhancedCode::SYSTEM_TRANSIENT;
                let status = DeliveryStatus::transient(Cause::Local, code, text);
                message.decide_rest(&status, Again::NewConnection);
                continue;
            }
            let recipients = message.open_recipients();
            let text = message.text();
            self.plan_message(id, recipients, text);
            return true;
        }
        self.settle();
        false
    }

    /// Why no message begins any more on this connection. None: messages may begin.
    fn no_further_message(&self) -> Option<DeliveryStatus> {
        let status = |code, text| Some(DeliveryStatus::transient(Cause::Local, code, text));
        if self.mails_exhausted() {
            let text = "the server's limit of messages on a connection is reached";
            return status(EnhancedCode::TOO_MANY_RECIPIENTS, text);
        }
        if self.is_too_old(self.since) {
            let text = "the time for messages on a connection is over";
            return status(EnhancedCode::SYSTEM_TRANSIENT, text);
        }
        // A message begins after a reply, or when the bytes before it are written.
        if self.last_begin.is_some_and(|last| self.since > last) {
            let text = "the time for the messages of this connection is over";
            return status(EnhancedCode::SYSTEM_TRANSIENT, text);
        }
        None
    }

    /// `text`: the size of the text, and whether DATA would damage it. None: no text is sent.
    fn plan_message(&mut self, id: usize, recipients: Vec<usize>, text: Option<(u64, bool)>) {
        self.mails = self.mails.saturating_add(1);
        let bdat = self.config.chunking && self.extensions.chunking && !self.config.lmtp;
        let bdat = text.is_some_and(|(_, needs_bdat)| bdat || needs_bdat);
        // A refused BDAT leaves the transaction in an unknown state (RFC 3030 §2), and the session
        // does not wait for the reply.
        if std::mem::take(&mut self.needs_reset) || (bdat && !self.steps.is_empty()) {
            self.steps.push_back(Step::Rset);
        }
        self.steps.push_back(Step::Mail(id));
        let recipients = recipients.into_iter();
        self.steps
            .extend(recipients.map(|recipient| Step::Rcpt(id, recipient)));
        match text {
            Some((size, _)) if bdat => {
                let chunks = size.div_ceil(CHUNK).max(1);
                self.steps
                    .extend((0..chunks).map(|chunk| Step::Bdat(id, chunk.saturating_mul(CHUNK))));
            }
            Some(_) => self.steps.extend([Step::Data(id), Step::Text(id)]),
            None => {}
        }
    }

    /// The step may be sent before the replies to the steps before it.
    fn may_send(&self, step: Step) -> bool {
        let last = self.sent.checked_sub(1);
        let Some(last) = last.and_then(|last| self.steps.get(last)) else {
            return true;
        };
        if !self.extensions.pipelining || last.ends_group() || self.sent >= WINDOW {
            return false;
        }
        match step {
            Step::Rcpt(..) => self.open_rcpts < RCPTS_MAX,
            Step::Bdat(id, _)
                if self
                    .messages
                    .get(id)
                    .is_some_and(|message| message.size > EAGER_MAX) =>
            {
                let open = || self.steps.iter().take(self.sent);
                let envelope =
                    |step: &Step| step.message() == Some(id) && !matches!(step, Step::Bdat(..));
                let chunk = |step: &&Step| matches!(step, Step::Bdat(message, _) if *message == id);
                !open().any(envelope) && open().filter(chunk).count() < CHUNKS_MAX
            }
            _ => true,
        }
    }

    /// Writes a command, or begins a text. False: the command is too much for now.
    fn send(&mut self, step: Step) -> bool {
        if matches!(step, Step::Text(_) | Step::Bdat(..)) {
            self.rate.begin_text();
        }
        let size = |id: usize| self.messages.get(id).map_or(0, |message| message.size);
        match step {
            Step::Text(id) => {
                let text = OpenText {
                    message: id,
                    offset: 0,
                    end: size(id),
                    stuffer: Some(Stuffer::new()),
                };
                self.go_on(text);
            }
            Step::Bdat(id, offset) => {
                let size = size(id);
                let end = size.min(offset.saturating_add(CHUNK));
                let last = if end == size { " LAST" } else { "" };
                let length = end.saturating_sub(offset);
                // Writing into memory cannot fail.
                let before = self.output.len();
                let _ = write!(self.output, "BDAT {length}{last}\r\n");
                self.record_command(step, before);
                self.go_on(OpenText {
                    message: id,
                    offset,
                    end,
                    stuffer: None,
                });
            }
            _ => {
                let before = self.output.len();
                self.write_command(step);
                let length = self.output.len().saturating_sub(before);
                if self.sent > 0 && self.open_bytes.saturating_add(length) > COMMANDS_MAX {
                    self.output.truncate(before);
                    return false;
                }
                self.record_command(step, before);
                self.sent_step(step, length);
            }
        }
        true
    }

    /// A step is written. Its command has this length.
    fn sent_step(&mut self, step: Step, length: usize) {
        self.sent += 1;
        self.open_rcpts += usize::from(matches!(step, Step::Rcpt(..)));
        self.open_bytes = self.open_bytes.saturating_add(length);
        self.lengths.push_back(length);
    }

    /// Keeps a text for its next piece, or ends it.
    fn go_on(&mut self, text: OpenText) {
        if text.offset >= text.end {
            self.finish_text(text);
        } else if let Some((batch, _)) = self.sending() {
            batch.text = Some(text);
        }
    }

    fn write_command(&mut self, step: Step) {
        let (config, extensions) = (&self.config, &self.extensions);
        let message = step.message().and_then(|id| self.messages.get(id));
        let out = &mut self.output;
        // Writing into memory cannot fail.
        let _ = match (step, message) {
            (Step::Ehlo, _) if config.lmtp => write!(out, "LHLO {}\r\n", config.helo),
            (Step::Ehlo, _) => write!(out, "EHLO {}\r\n", config.helo),
            (Step::Helo, _) => write!(out, "HELO {}\r\n", config.helo),
            (Step::StartTls, _) => out.write_str("STARTTLS\r\n"),
            (Step::Auth, _) => match &self.auth {
                Some(auth) => auth.write(out),
                None => Ok(()),
            },
            (Step::Rset, _) => out.write_str("RSET\r\n"),
            (Step::Mail(_), Some(message)) => {
                message.envelope.write_mail(message.size, extensions, out)
            }
            (Step::Rcpt(_, recipient), Some(message)) => {
                message.envelope.write_rcpt(recipient, extensions, out)
            }
            (Step::Data(_), _) => out.write_str("DATA\r\n"),
            (Step::Dot(_), _) => out.write_str(".\r\n"),
            (Step::Quit, _) => out.write_str("QUIT\r\n"),
            (Step::Greeting | Step::Text(_) | Step::Bdat(..), _)
            | (Step::Mail(_) | Step::Rcpt(..), None) => Ok(()),
        };
    }

    /// Takes the piece of a text that the session asked for. None: it cannot be read. Then the
    /// connection is over, since there is no other way to take back a text that is half sent.
    pub fn answer(&mut self, piece: Option<&[u8]>, now: Instant) {
        self.since = now;
        self.rate.take_text(now);
        let Some(mut text) = self.sending().and_then(|(batch, _)| batch.text.take()) else {
            return;
        };
        let left = text.end.saturating_sub(text.offset);
        let length = piece
            .and_then(|piece| u64::try_from(piece.len()).ok())
            .filter(|length| (1..=left).contains(length));
        let (Some(piece), Some(length)) = (piece, length) else {
            let text = "the message could not be read";
            let code = EnhancedCode::SYSTEM_TRANSIENT;
            return self.close(DeliveryStatus::transient(Cause::Local, code, text));
        };
        match &mut text.stuffer {
            Some(stuffer) => stuffer.push(piece, &mut self.output),
            None => self.output.extend_from_slice(piece),
        }
        text.offset = text.offset.saturating_add(length);
        self.go_on(text);
    }

    /// The text, or the chunk, is handed out to be sent.
    fn finish_text(&mut self, text: OpenText) {
        if text.stuffer.is_some() {
            self.record_text(&text);
        }
        if let Some(stuffer) = text.stuffer {
            stuffer.finish(&mut self.output);
        }
        if let Some(message) = self.messages.get_mut(text.message) {
            message.end_sent = text.end >= message.size;
        }
        // The length of a text is limited in other ways.
        if let Some(step) = self.steps.get(self.sent).copied() {
            self.sent_step(step, 0);
        }
    }

    /// Takes the unsent steps of a message off the list. A chunk that has begun stays.
    pub(super) fn cancel(&mut self, message: usize) {
        let keep = self.sent + usize::from(self.open_text().is_some());
        let of_message = |step: &Step| step.message() == Some(message);
        while self.steps.len() > keep && self.steps.back().is_some_and(of_message) {
            self.steps.pop_back();
        }
    }
}
