//! The replies to the envelope of a message: MAIL, RCPT and RSET.

use super::{
    Again,
    session::{Session, unexpected},
    state::Step,
};
use crate::{
    DeliveryStatus, Reply, ReplyCode,
    bounce::{Class, Said, classify},
};

impl Session {
    /// A reply to a step of the envelope.
    pub(super) fn transaction(&mut self, step: Step, reply: &Reply) {
        self.pop();
        match step {
            Step::Mail(message) => {
                self.answered_mails = self.answered_mails.saturating_add(1);
                if !reply.code().is_positive() {
                    self.refuse(message, reply, step);
                }
            }
            Step::Rcpt(message, recipient) => self.recipient(message, recipient, reply),
            // Nothing depends on the reply to a text that nobody gets.
            Step::Dot(_) => {}
            Step::Rset if reply.code().is_positive() => {}
            _ => self.close_with(reply, step),
        }
    }

    /// The reply refuses the message for all recipients without a result. The session sends nothing
    /// more of it.
    pub(super) fn refuse(&mut self, message: usize, reply: &Reply, step: Step) {
        let status = if reply.code().is_positive() || reply.code().is_intermediate() {
            unexpected(reply, step.name())
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
        if message.is_probe {
            message.decide(
                recipient,
                DeliveryStatus::from_reply(reply, "RCPT"),
                Again::No,
            );
            return self.steps.push_back(Step::Rset);
        }
        if reply.code().is_positive() {
            message.accept(recipient);
            return;
        }
        let status = DeliveryStatus::from_reply(reply, "RCPT");
        let too_many = is_one_too_many(&status);
        let again = if too_many && message.accepted() > 0 {
            Again::NewTransaction
        } else {
            Again::No
        };
        // The limit may be one of the connection.
        let later = message.accepted() > 0 || self.succeeded;
        // By RFC 5321 §4.5.3.1.10 such a 552 is a 452. Other codes with x.5.3 or such words
        // mean the same.
        let status = DeliveryStatus {
            permanent: status.permanent && !(too_many && later),
            ..status
        };
        message.decide(recipient, status, again);
        if message.is_decided() {
            self.needs_reset = true;
            self.cancel(id);
        }
    }
}

/// The reply says that the transaction has too many recipients, and not that this mailbox is full:
/// by x.5.3 with any code, by words, or by 452 or 552 without an enhanced code.
fn is_one_too_many(status: &DeliveryStatus) -> bool {
    let codes = [ReplyCode::INSUFFICIENT_STORAGE, ReplyCode::STORAGE_EXCEEDED];
    let by_code = codes.iter().any(|code| code.get() == status.code);
    let by_code = by_code && status.enhanced.is_none();
    by_code || classify(&Said::from(status)) == Class::Split
}
