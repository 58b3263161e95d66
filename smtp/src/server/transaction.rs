//! The envelope of a message: MAIL and RCPT.

use super::{
    command::{self, MailFrom, RcptTo},
    handler::Transaction,
    replies::About,
    session::Session,
    state::{Stage, State},
};
use crate::{EnhancedCode, Reply, ReplyCode, reason};

pub(super) const MAIL_COMES_FIRST: Reply =
    bad_sequence("MAIL comes first").because(reason::MAIL_FIRST);

/// The refusal of a command that comes at the wrong time.
pub(super) const fn bad_sequence(text: &'static str) -> Reply {
    Reply::fixed(
        ReplyCode::BAD_SEQUENCE,
        Some(EnhancedCode::INVALID_COMMAND),
        text,
    )
    .because(reason::SEQUENCE)
}

impl Session {
    pub(super) fn mail(&mut self, mail: MailFrom, stage: Stage) -> State {
        match self.mail_refusal(&stage) {
            None => {
                self.begin_transaction();
                State::AwaitMail(mail)
            }
            Some(reply) => self.refuse(&reply, State::ExpectCommand(stage)),
        }
    }

    pub(super) fn mail_refusal(&self, stage: &Stage) -> Option<Reply> {
        if self.client.helo.is_none() {
            Some(bad_sequence("say EHLO first").because(reason::EHLO_FIRST))
        } else if !matches!(stage, Stage::Idle) {
            Some(bad_sequence("a transaction is under way").because(reason::SECOND_MAIL))
        } else if self.config.auth_required && self.client.login.is_none() {
            let reply = Reply::fixed(
                ReplyCode::AUTHENTICATION_REQUIRED,
                Some(EnhancedCode::SECURITY),
                "log in first",
            );
            Some(reply.because(reason::LOGIN_REQUIRED))
        } else if self.messages >= self.config.max_messages {
            let reply = Reply::fixed(
                ReplyCode::UNAVAILABLE,
                Some(EnhancedCode::SECURITY_TRANSIENT),
                "enough messages on this connection, open another",
            );
            Some(reply.because(reason::CONNECTION_MESSAGES))
        } else {
            None
        }
    }

    /// The sender is accepted.
    pub(super) fn accept_mail(&mut self, mail: MailFrom) -> State {
        let transaction = Transaction {
            mail,
            recipients: Vec::new(),
        };
        let reply = Reply::fixed(ReplyCode::OK, Some(EnhancedCode::SENDER_OK), "sender ok");
        self.say(&reply, State::ExpectCommand(Stage::Envelope(transaction)))
    }

    pub(super) fn rcpt(&mut self, rcpt: RcptTo, stage: Stage) -> State {
        let (reply, stage) = match stage {
            Stage::Envelope(transaction) => match self.rcpt_refusal(&rcpt, &transaction) {
                None => return State::AwaitRcpt(transaction, rcpt),
                Some(reply) => (reply, Stage::Envelope(transaction)),
            },
            Stage::Chunks(..) => (bad_sequence("the text has begun"), stage),
            Stage::Idle => (MAIL_COMES_FIRST, stage),
        };
        let about = About {
            to: rcpt.forward_path.to_string(),
            ..About::sender_of(stage.transaction())
        };
        self.refuse_about(about, &reply, State::ExpectCommand(stage))
    }

    fn rcpt_refusal(&self, rcpt: &RcptTo, transaction: &Transaction) -> Option<Reply> {
        if transaction.recipients.len() >= self.config.max_recipients {
            // RFC 5321 §4.5.3.1.10 asks for 452. Then the client sends the rest in another
            // transaction.
            let reply = Reply::fixed(
                ReplyCode::INSUFFICIENT_STORAGE,
                Some(EnhancedCode::TOO_MANY_RECIPIENTS),
                "too many recipients, send the rest in another transaction",
            );
            return Some(reply.because(reason::MESSAGE_RECIPIENTS));
        }
        command::check_smtputf8(rcpt, transaction.mail.smtputf8).err()
    }

    /// The recipient is accepted.
    pub(super) fn accept_rcpt(&mut self, mut transaction: Transaction, rcpt: RcptTo) -> State {
        transaction.recipients.push(rcpt);
        let code = Some(EnhancedCode::RECIPIENT_OK);
        let reply = Reply::fixed(ReplyCode::OK, code, "recipient ok");
        self.say(&reply, State::ExpectCommand(Stage::Envelope(transaction)))
    }
}
