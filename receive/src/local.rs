//! The session of localserve's SMTP port, for programs under development.
//!
//! The session begins as one with the MX, which takes any sender and recipient. After a login it is
//! a submission, as on the other ports: the message is queued, and has events.

use std::sync::Arc;

use postrider_smtp::{
    Reply,
    sasl::{Login, ScramOffer, ScramRequest, Verdict},
    server::{Client, Event, Handler, MailFrom, RcptTo, Transaction},
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

    /// The session is one for others, whichever of the two answers. The one that does has the
    /// observer and the outside programs of the session.
    const fn swap_observers(&mut self) {
        std::mem::swap(&mut self.mx.observer, &mut self.submission.observer);
        std::mem::swap(&mut self.mx.hooks, &mut self.submission.hooks);
    }

    /// The session is one of this listener.
    #[must_use]
    pub fn at_listener(self, listener: &Arc<str>) -> Self {
        Self {
            mx: self.mx.at_listener(listener),
            ..self
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

    async fn hello(&mut self, client: &Client, name: &str) -> Result<(), Reply> {
        pass!(self.hello(client, name))
    }

    async fn scram_keys(
        &mut self,
        client: &Client,
        request: &ScramRequest,
    ) -> Result<ScramOffer, Reply> {
        self.submission.scram_keys(client, request).await
    }

    async fn login(&mut self, client: &Client, login: &Login) -> Verdict {
        self.swap_observers();
        let verdict = self.submission.login(client, login).await;
        match verdict.is_ok() {
            true => self.logged_in = true,
            false => self.swap_observers(),
        }
        verdict
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
        if std::mem::take(&mut self.logged_in) {
            self.swap_observers();
        }
    }

    fn happened(&mut self, client: &Client, event: &Event) {
        match self.logged_in {
            true => self.submission.happened(client, event),
            false => self.mx.happened(client, event),
        }
    }
}
