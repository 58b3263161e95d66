//! Shapes of new mail that earlier versions of operations have.

use serde::{Deserialize, Serialize};

use super::{Arrival, NewMail};
use crate::{TextSource, Time, Top};

/// New mail before version 8 of units. It had no summary.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct NewMailV7 {
    account: String,
    mailbox: String,
    top: Top,
    text: TextSource,
    size: u64,
    received: Time,
    flags: Vec<String>,
    dsn: bool,
    smtp: Option<Arrival>,
}

impl From<NewMailV7> for NewMail {
    fn from(old: NewMailV7) -> Self {
        Self {
            account: old.account,
            mailbox: old.mailbox,
            top: old.top,
            text: old.text,
            size: old.size,
            received: old.received,
            flags: old.flags,
            dsn: old.dsn,
            smtp: old.smtp,
            summary: None,
        }
    }
}

#[cfg(test)]
impl NewMailV7 {
    pub(crate) fn sample() -> Self {
        Self {
            account: "ann".into(),
            mailbox: "Inbox".into(),
            top: Top::EMPTY,
            text: TextSource::New,
            size: 3,
            received: Time(4),
            flags: vec!["\\seen".into()],
            dsn: true,
            smtp: None,
        }
    }
}
