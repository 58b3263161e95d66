//! What a session gives its recorder.

use super::{
    session::Session,
    state::{OpenText, Step},
};
use crate::{Cause, DeliveryStatus, Reply, ReplyCode};

/// What stands for a secret.
const HIDDEN: &[u8] = b"***";

impl Session {
    /// The command of a step is in the output, from this byte on.
    pub(super) fn record_command(&self, step: Step, begin: usize) {
        let Some(recorder) = &self.config.recorder else {
            return;
        };
        let line = self.output.get(begin..).unwrap_or_default();
        let line = line.trim_ascii_end();
        let (name, message) = (step.name(), step.message());
        if step != Step::Auth {
            return recorder.command(name, message, line, self.since);
        }
        // The command names the mechanism. A response is on a line of its own.
        let mut words = line.split(|byte| *byte == b' ');
        match (words.next(), words.next(), words.next()) {
            (Some(command @ b"AUTH"), Some(mechanism), response) => {
                let words = [command, mechanism, HIDDEN];
                let shown = words.get(..2 + usize::from(response.is_some()));
                let shown = shown.unwrap_or_default().join(&b' ');
                recorder.command(name, message, &shown, self.since);
            }
            _ => recorder.command(name, message, HIDDEN, self.since),
        }
    }

    /// The text of a message is handed out to be sent.
    pub(super) fn record_text(&self, text: &OpenText) {
        let size = self.messages.get(text.message).map_or(0, |it| it.size);
        if let Some(recorder) = &self.config.recorder {
            let shown = format_args!("({size} bytes of text)");
            recorder.text(text.message, shown, self.since);
        }
    }

    /// A reply came to a step. What a server says in a login can have secrets in it.
    pub(super) fn record_reply(&self, step: Option<Step>, reply: &Reply) {
        let Some(recorder) = &self.config.recorder else {
            return;
        };
        let name = step.map_or("connection", Step::name);
        // It ends the connection for all messages.
        let of_all = reply.code() == ReplyCode::UNAVAILABLE;
        let message = step.and_then(Step::message).filter(|_| !of_all);
        let hidden = step == Some(Step::Auth) && self.is_secret(reply);
        recorder.reply(name, message, (reply, hidden), self.since);
    }

    /// A challenge, or a reply that repeats what we sent.
    fn is_secret(&self, reply: &Reply) -> bool {
        let sent = self.auth.as_ref().map(|auth| auth.response());
        let sent = sent.filter(|sent| !sent.is_empty());
        reply.code().is_intermediate() || sent.is_some_and(|sent| reply.text().contains(sent))
    }

    /// The connection is over.
    pub(super) fn record_end(&self, status: &DeliveryStatus) {
        let Some(recorder) = &self.config.recorder else {
            return;
        };
        if let Some(text) = self.open_text() {
            let shown = format_args!("(text, ended at byte {} of {})", text.offset, text.end);
            recorder.text(text.message, shown, self.since);
        }
        recorder.closed(status, status.cause == Cause::Reply, self.since);
    }
}
