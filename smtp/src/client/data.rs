//! The replies to the message itself: DATA, the end of the text, and BDAT.

use super::{Again, session::Session, state::Step};
use crate::{DeliveryStatus, Reply};

impl Session {
    /// The reply to DATA.
    pub(super) fn data(&mut self, id: usize, reply: &Reply) {
        self.pop();
        let decided = self
            .messages
            .get(id)
            .is_none_or(|message| message.is_decided());
        if !reply.code().is_intermediate() {
            self.needs_reset = true;
            return self.refuse(id, reply, Step::Data(id));
        }
        if !decided {
            return;
        }
        // The server waits for a text that nobody gets (RFC 2920 §3.1). With LMTP the number of
        // replies to its end would not be known.
        self.cancel(id);
        self.needs_reset = true;
        if self.config.lmtp {
            self.close_with(reply, Step::Data(id));
        } else {
            self.send_next(Step::Dot(id));
        }
    }

    /// A reply to the end of the text. With LMTP there is one for each accepted recipient.
    pub(super) fn end_of_text(&mut self, id: usize, reply: &Reply) {
        let step = Step::Text(id);
        let Some(message) = self.messages.get_mut(id) else {
            return self.pop();
        };
        if !self.config.lmtp {
            self.pop();
            return self.final_reply(id, reply, step);
        }
        let status = DeliveryStatus::from_reply(reply, step.name());
        self.succeeded |= status.is_success();
        if let Some(recipient) = message.first_accepted() {
            message.decide(recipient, status, Again::No);
        }
        if message.first_accepted().is_none() {
            self.pop();
        }
    }

    /// The reply to a chunk.
    pub(super) fn chunk(&mut self, id: usize, reply: &Reply, step: Step) {
        self.pop();
        let of_message = |step: &Step| matches!(step, Step::Bdat(message, _) if *message == id);
        if !reply.code().is_positive() {
            // RFC 3030 §2: no more chunks, and RSET before the next message.
            self.needs_reset = true;
            self.refuse(id, reply, step);
        } else if !self.steps.iter().any(of_message) {
            self.final_reply(id, reply, step);
        }
    }

    /// The reply by which the server takes responsibility for the message, or refuses it.
    fn final_reply(&mut self, id: usize, reply: &Reply, step: Step) {
        if !reply.code().is_positive() {
            return self.refuse(id, reply, step);
        }
        self.succeeded = true;
        if let Some(message) = self.messages.get_mut(id) {
            message.decide_rest(&DeliveryStatus::from_reply(reply, step.name()), Again::No);
        }
    }
}
