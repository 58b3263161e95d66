//! What the replies to MAIL, RCPT, DATA and the text mean for a message.

use super::{
    Again,
    session::{Session, Step},
};
use crate::{Cause, DeliveryStatus, EnhancedCode, Reply, ReplyCode};

impl Session {
    /// A reply to a step of a transaction.
    pub(super) fn transaction(&mut self, step: Step, reply: &Reply) {
        if !matches!(step, Step::Text(_)) {
            self.pop();
        }
        match step {
            Step::Mail(message) => {
                self.answered_mails = self.answered_mails.saturating_add(1);
                if !reply.code().is_positive() {
                    self.refuse(message, reply, step);
                }
            }
            Step::Rcpt(message, recipient) => self.recipient(message, recipient, reply),
            Step::Data(message) => self.data(message, reply),
            Step::Text(message) => self.end_of_text(message, reply),
            Step::Bdat(message, _) => self.chunk(message, reply, step),
            // Nobody waits for what it says.
            Step::Dot(_) => {}
            Step::Rset if reply.code().is_positive() => {}
            _ => self.close_with(reply, step),
        }
    }

    /// The message is refused for all recipients that have no result yet, and nothing more is sent of it.
    fn refuse(&mut self, message: usize, reply: &Reply, step: Step) {
        let status = if reply.code().is_positive() || reply.code().is_intermediate() {
            let text = format!("unexpected reply: {reply}");
            DeliveryStatus::transient(Cause::Protocol, EnhancedCode::PROTOCOL, text)
                .with_command(step.name())
        } else {
            DeliveryStatus::from_reply(reply, step.name())
        };
        if let Some(message) = self.messages.get_mut(message) {
            message.decide_rest(&status, Again::No);
        }
        self.cancel(message);
    }

    fn recipient(&mut self, id: usize, recipient: usize, reply: &Reply) {
        let Some(message) = self.messages.get_mut(id) else {
            return;
        };
        if reply.code().is_positive() {
            message.accept(recipient);
            return;
        }
        let again = if message.accepted() > 0 && is_one_too_many(reply) {
            Again::NewTransaction
        } else {
            Again::No
        };
        let status = DeliveryStatus::from_reply(reply, "RCPT");
        // By RFC 5321 §4.5.3.1.10 such a 552 is a 452.
        let status = DeliveryStatus {
            permanent: status.permanent && again == Again::No,
            ..status
        };
        message.decide(recipient, status, again);
        if message.is_decided() {
            self.needs_reset = true;
            self.cancel(id);
        }
    }

    fn data(&mut self, id: usize, reply: &Reply) {
        let decided = self
            .messages
            .get(id)
            .is_none_or(|message| message.is_decided());
        match (reply.code().is_intermediate(), decided) {
            (true, false) => {}
            (true, true) => {
                // The text is awaited for nobody (RFC 2920 §3.1). With LMTP the number of replies would not be known.
                self.cancel(id);
                self.needs_reset = true;
                if self.config.lmtp {
                    return self.close_with(reply, Step::Data(id));
                }
                self.send_next(Step::Dot(id));
            }
            (false, _) => {
                self.needs_reset = true;
                self.refuse(id, reply, Step::Data(id));
            }
        }
    }

    fn end_of_text(&mut self, id: usize, reply: &Reply) {
        let step = Step::Text(id);
        let Some(message) = self.messages.get_mut(id) else {
            return self.pop();
        };
        if !self.config.lmtp {
            self.pop();
            return self.final_reply(id, reply, step);
        }
        let status = DeliveryStatus::from_reply(reply, step.name());
        if let Some(recipient) = message.first_accepted() {
            message.decide(recipient, status, Again::No);
        }
        if message.first_accepted().is_none() {
            self.pop();
        }
    }

    fn chunk(&mut self, id: usize, reply: &Reply, step: Step) {
        let more = self
            .steps
            .iter()
            .any(|step| matches!(step, Step::Bdat(message, _) if *message == id));
        if !reply.code().is_positive() {
            // RFC 3030 §2: no more of it, and RSET before the next.
            self.needs_reset = true;
            self.refuse(id, reply, step);
        } else if !more {
            self.final_reply(id, reply, step);
        }
    }

    /// The reply by which the server takes responsibility, or not.
    fn final_reply(&mut self, id: usize, reply: &Reply, step: Step) {
        if !reply.code().is_positive() {
            return self.refuse(id, reply, step);
        }
        if let Some(message) = self.messages.get_mut(id) {
            message.decide_rest(&DeliveryStatus::from_reply(reply, step.name()), Again::No);
        }
    }
}

/// The reply to a later recipient of a transaction says that there are too many, and not that this mailbox is full.
fn is_one_too_many(reply: &Reply) -> bool {
    let code = matches!(
        reply.code(),
        ReplyCode::INSUFFICIENT_STORAGE | ReplyCode::STORAGE_EXCEEDED
    );
    code && reply
        .enhanced()
        .is_none_or(|code| (code.subject, code.detail) == (5, 3))
}
