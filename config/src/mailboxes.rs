//! Settings of mailboxes: the mailbox API, and mail that was deleted.

use std::time::Duration;

use crate::{
    dynamics::Account,
    origin::Origin,
    quantity::Size,
    schema::{Default::Value, Key, Kind::List, Section, key},
};

/// `mail_api`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MailApi {
    /// The origins whose web pages may call the mailbox API from a browser. Empty: none.
    pub origins: Vec<Origin>,
}

/// `undelete`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Undelete {
    /// How long mail that a user deletes can come back. Zero: it goes at once.
    pub keep: Duration,
    /// The most deleted mail of an account.
    pub max_size: Size,
}

impl Undelete {
    /// How long the deleted mail of an account is kept.
    #[must_use]
    pub fn period_of(&self, account: Option<&Account>) -> Duration {
        let own = account.and_then(|account| account.undelete_period);
        own.unwrap_or(self.keep)
    }
}

pub(crate) const SECTION: Section = Section {
    title: "Mailbox API: `mail_api`",
    intro: "Listeners with `mail_api_http` or `mail_api_https` serve it.",
    keys: &[KEYS],
};

static KEYS: &[Key] = &[key(
    "mail_api.origins",
    List(&crate::schema::Kind::Origin),
    Value("[]"),
    "The origins whose web pages may call the mailbox API from a browser, such as \
        \"https://app.example.com\".",
)];
