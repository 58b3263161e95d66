//! The filter of one SMTP session. Its connection is made at the first question.

use postrider_config::{Milter, Static};
use postrider_smtp::Reply;

use super::{
    super::{
        answer::{Answer, Failure},
        asked::Asked,
    },
    connection::MilterConnection,
};

/// What a session needs to ask a filter.
///
/// A failure ends the connection. The next question makes another one, and the filter hears all
/// that it must know again. At the end of the session the filter gets QUIT.
#[derive(Debug)]
pub struct MilterClient {
    milter: Milter,
    /// The most bytes of a body that the filter may give.
    body_max: usize,
    connection: Option<Box<MilterConnection>>,
}

impl MilterClient {
    /// No connection yet. A new body has at most as many bytes as the largest message that a
    /// listener takes.
    #[must_use]
    pub fn new(milter: &Milter, statics: &Static) -> Self {
        let sizes = statics.listeners.values();
        let largest = sizes.map(|listener| listener.max_message_size.0).max();
        let largest = usize::try_from(largest.unwrap_or_default());
        Self {
            milter: milter.clone(),
            body_max: largest.unwrap_or(usize::MAX),
            connection: None,
        }
    }

    /// Another client takes the place of the one before. The filter gets another connection.
    pub fn restart(&mut self) {
        self.connection = None;
    }

    /// Connects to the filter and negotiates. Then the conversation is over.
    ///
    /// # Errors
    /// As for [`MilterConnection::connect`].
    pub async fn reach(&mut self) -> Result<(), Failure> {
        self.connected().await?;
        self.connection = None;
        Ok(())
    }

    /// Asks the filter. What it has not been told yet goes first.
    ///
    /// # Errors
    /// As for [`MilterConnection::ask`].
    pub async fn ask(&mut self, asked: &Asked<'_>) -> Result<Answer, Failure> {
        let answer = self.connected().await?.ask(asked).await;
        if answer.is_err() {
            self.connection = None;
        }
        answer
    }

    /// Whether the filter may want to be told of recipients that were refused. It is not known
    /// before there is a connection.
    #[must_use]
    pub fn may_want_rejected(&self) -> bool {
        let connection = self.connection.as_ref();
        connection.is_none_or(|connection| connection.wants_rejected())
    }

    /// Tells the filter of the last recipient of `asked`, which was refused with this reply, if it
    /// wants to know.
    ///
    /// # Errors
    /// As for [`MilterConnection::ask`].
    pub async fn tell_rejected(&mut self, asked: &Asked<'_>, reply: &Reply) -> Result<(), Failure> {
        let told = self.connected().await?.tell_rejected(asked, reply).await;
        if told.is_err() {
            self.connection = None;
        }
        told
    }

    async fn connected(&mut self) -> Result<&mut MilterConnection, Failure> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => Box::new(MilterConnection::connect(&self.milter, self.body_max).await?),
        };
        Ok(self.connection.insert(connection))
    }
}
