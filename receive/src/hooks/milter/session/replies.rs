//! What a reply of the filter means, by the command that it answers.

use postrider_config::HookStage;
use postrider_smtp::{EnhancedCode, Reply, ReplyCode};

use super::{
    super::{
        super::answer::{Answer, Failure, Vote},
        changes::Terms,
        code,
        options::Stage,
        reply::{FilterReply, Modification},
    },
    MilterSession, Question, Todo, answer, is_last_rcpt,
};

/// The reply for a refusal for now.
pub(super) const LATER: Reply = Reply::fixed(
    ReplyCode::LOCAL_ERROR,
    Some(EnhancedCode::NOT_AUTHORIZED),
    "Try again later.",
);

/// The reply behind which the connection closes.
pub(super) const CLOSING: Reply = Reply::fixed(
    ReplyCode::UNAVAILABLE,
    Some(EnhancedCode::NOT_ACCEPTING),
    "Service not available, closing connection.",
);

impl MilterSession {
    /// Takes a reply. The answer is None if the conversation goes on.
    pub(super) fn take(
        &mut self,
        todo: Todo,
        reply: FilterReply,
        question: &Question<'_>,
    ) -> Result<Option<Answer>, Failure> {
        let is_message = !matches!(todo, Todo::Connect | Todo::Helo);
        match reply {
            FilterReply::Progress => {
                self.waits = self.waits.wrapping_add(1);
                Ok(None)
            }
            FilterReply::Continue | FilterReply::Accept if todo == Todo::EndOfMessage => {
                Ok(Some(self.finish()))
            }
            FilterReply::Continue => {
                self.awaits = None;
                Ok(None)
            }
            FilterReply::Accept => {
                self.decide(todo, Vote::Accept);
                Ok(Some(Answer::ACCEPT))
            }
            FilterReply::Reject => Ok(Some(self.refuse(todo, Vote::reject(), question))),
            FilterReply::Tempfail => Ok(Some(self.refuse(todo, Vote::Refuse(LATER), question))),
            FilterReply::Code(code) => {
                let reply = code::read(&code)?;
                Ok(Some(self.refuse(todo, Vote::Refuse(reply), question)))
            }
            FilterReply::Discard if is_message => {
                self.decide(todo, Vote::discard());
                Ok(Some(Answer::of(Vote::discard())))
            }
            FilterReply::Shutdown | FilterReply::ConnectionFailure => {
                Ok(Some(self.refuse(todo, Vote::Refuse(CLOSING), question)))
            }
            FilterReply::Skip if todo.stage() == Stage::Body && self.agreed.skips() => {
                self.awaits = None;
                if let Some(message) = &mut self.message {
                    message.skips_body = true;
                }
                Ok(None)
            }
            FilterReply::Modify(modification) if todo == Todo::EndOfMessage => {
                self.modify(modification, question)?;
                Ok(None)
            }
            reply => Err(Failure::invalid(format_args!(
                "the filter replies with \"{}\" to \"{}\"",
                reply.letter(),
                char::from(todo.stage().command())
            ))),
        }
    }

    fn modify(
        &mut self,
        modification: Modification,
        question: &Question<'_>,
    ) -> Result<(), Failure> {
        let terms = Terms {
            agreed: &self.agreed,
            body_max: self.body_max,
            // Filters expect one field above those that they see, the Received field of the server.
            above: usize::from(!question.asked.added.is_empty()),
        };
        match &mut self.message {
            Some(message) => message.changes.add(modification, &terms),
            None => Ok(()),
        }
    }

    /// The answer at the end of a message that is not refused.
    fn finish(&mut self) -> Answer {
        let message = self.message.take().unwrap_or_default();
        let (changes, quarantine) = message.changes.finish();
        Answer {
            changes,
            ..Answer::of(quarantine.map_or(Vote::Accept, Vote::Quarantine))
        }
    }

    /// Remembers what the filter has said of the whole connection or of the whole message.
    fn decide(&mut self, todo: Todo, vote: Vote) {
        match todo {
            Todo::Connect | Todo::Helo => self.connection = Some(vote),
            Todo::Mail | Todo::Rcpt(_) => {
                if let Some(message) = &mut self.message {
                    message.decided = Some(vote);
                }
            }
            // The filter has forgotten the message.
            Todo::EndOfMessage => self.message = None,
            // The question is about the whole message, and this is its answer.
            _ => self.abort(),
        }
    }

    /// The answer with a refusal.
    fn refuse(&mut self, todo: Todo, vote: Vote, question: &Question<'_>) -> Answer {
        let answer = answer(vote);
        let asked = question.asked;
        if answer.closes {
            self.connection = Some(answer.vote.clone());
        }
        match (todo, asked.stage) {
            (Todo::Mail, HookStage::Mail) => self.abort(),
            // The message goes on without this recipient.
            (Todo::Rcpt(_), HookStage::Rcpt) if is_last_rcpt(todo, asked) => {}
            _ => self.decide(todo, answer.vote.clone()),
        }
        answer
    }
}
