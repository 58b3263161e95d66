//! What the policies of MX and submission share: the server's parts, and replies for our own troubles.

use std::{borrow::Cow, sync::Arc};

use postrider_config::{Dynamic, Live, Static};
use postrider_queue::{Queue, simulate};
use postrider_smtp::{EnhancedCode, LocalPart, Reply, ReplyCode};
use postrider_store::{Clock, Store, StoreError};
use tracing::error;

use crate::{
    intake::IntakeError,
    login::{LoginLimiter, Logins},
};

/// What every session's policy may use.
#[derive(Clone)]
pub struct SessionContext {
    /// The static configuration.
    pub statics: Arc<Static>,
    /// The dynamic configuration as it is now.
    pub config: Live,
    /// The store.
    pub store: Store,
    /// The way to the outside.
    pub queue: Arc<Queue>,
    /// Remembered logins.
    pub logins: Arc<Logins>,
    /// Failed logins per network.
    pub limiter: Arc<LoginLimiter>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// This is localserve without `--deliver`: any recipient is taken, and some local-parts fail as they are named.
    pub simulate: bool,
}

impl SessionContext {
    /// The dynamic configuration of this moment; held for one command, so that a command sees one version.
    #[must_use]
    pub fn dynamic(&self) -> Arc<Dynamic> {
        self.config.load_full()
    }

    /// The reply that this local-part asks localserve for at this place of a session, if any.
    #[must_use]
    pub fn simulated(&self, local: &LocalPart, stage: simulate::Stage) -> Option<Reply> {
        if !self.simulate {
            return None;
        }
        let failure = simulate::failure(local.as_str())?;
        (failure.stage == stage).then(|| failure.reply())
    }
}

/// A reply of this code, with the subject and detail of its enhanced code.
#[must_use]
pub fn reply(
    code: u16,
    (subject, detail): (u16, u16),
    text: impl Into<Cow<'static, str>>,
) -> Reply {
    let code = ReplyCode::new(code).unwrap_or(ReplyCode::LOCAL_ERROR);
    // The class of the enhanced code follows that of the reply code.
    Reply::new(code, Some(EnhancedCode::transient(subject, detail)), text)
}

/// The answer to a failure of the store: the sender is to try again (RFC 5321 §4.2.2: 452, 451).
#[must_use]
pub fn store_reply(error: &StoreError) -> Reply {
    match error {
        StoreError::Full => reply(452, (3, 1), "not enough storage just now, try again later"),
        other => {
            error!(error = %other, "failed to store a message");
            reply(451, (3, 0), "could not store the message, try again later")
        }
    }
}

impl From<IntakeError> for Reply {
    fn from(error: IntakeError) -> Self {
        match error {
            IntakeError::HeaderTooLarge { max } => reply(
                552,
                (3, 4),
                format!("the header section is larger than {max} bytes"),
            ),
            IntakeError::Store(error) => store_reply(&error),
        }
    }
}

/// The answer to a message that has been round too often (RFC 5321 §6.3).
#[must_use]
pub fn loop_reply() -> Reply {
    reply(
        554,
        (4, 6),
        "too many Received fields: the message is in a mail loop",
    )
}

/// The answer to a body or an end of data for which nothing was begun; a session never gets here.
#[must_use]
pub fn no_message_reply() -> Reply {
    reply(451, (3, 0), "the message was lost on its way in, try again")
}
