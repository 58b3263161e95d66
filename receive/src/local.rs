//! The session of localserve's SMTP port, for programs under development.
//!
//! The session begins as one with the MX, which takes any sender and recipient. After a login it is
//! a submission, as on the other ports: the message is queued, and has events.

use postrider_smtp::{
    Reply,
    sasl::{Login, ScramOffer, ScramRequest, Verdict},
    server::{Client, Handler, MailFrom, RcptTo, Transaction},
};

use crate::{MxSession, SessionContext, SubmissionSession};

/// The policy of one session.
#[derive(Debug)]
pub struct LocalSession {
    mx: MxSession,
    submission: SubmissionSession,
    logged_in: bool,
}

impl LocalSession {
    /// The policy of a new session.
    #[must_use]
    pub fn new(context: SessionContext, hostname: String) -> Self {
        Self {
            mx: MxSession::new(context.clone(), hostname.clone()),
            submission: SubmissionSession::new(context, hostname),
            logged_in: false,
        }
    }
}

/// Passes a question to the session that it concerns.
macro_rules! pass {
    ($session:ident.$question:ident($($argument:expr),*)) => {
        match $session.logged_in {
            true => $session.submission.$question($($argument),*).await,
            false => $session.mx.$question($($argument),*).await,
        }
    };
}

impl Handler for LocalSession {
    async fn greeting(&mut self, client: &Client) -> Result<(), Reply> {
        pass!(self.greeting(client))
    }

    async fn scram_keys(
        &mut self,
        client: &Client,
        request: &ScramRequest,
    ) -> Result<ScramOffer, Reply> {
        self.submission.scram_keys(client, request).await
    }

    async fn login(&mut self, client: &Client, login: &Login) -> Verdict {
        let user = self.submission.login(client, login).await?;
        self.logged_in = true;
        Ok(user)
    }

    async fn mail(&mut self, client: &Client, mail: &MailFrom) -> Result<(), Reply> {
        pass!(self.mail(client, mail))
    }

    async fn rcpt(
        &mut self,
        client: &Client,
        transaction: &Transaction,
        rcpt: &RcptTo,
    ) -> Result<(), Reply> {
        pass!(self.rcpt(client, transaction, rcpt))
    }

    async fn data(&mut self, client: &Client, transaction: &Transaction) -> Result<(), Reply> {
        pass!(self.data(client, transaction))
    }

    async fn text(&mut self, piece: &[u8]) -> Result<(), Reply> {
        pass!(self.text(piece))
    }

    async fn end(&mut self, client: &Client, transaction: &Transaction) -> Reply {
        pass!(self.end(client, transaction))
    }

    fn reset(&mut self) {
        self.mx.reset();
        self.submission.reset();
    }

    fn restart(&mut self) {
        self.mx.restart();
        self.submission.restart();
        self.logged_in = false;
    }

    fn refused(&mut self, reason: &'static str) {
        // Both count in the same place.
        self.mx.refused(reason);
    }
}
