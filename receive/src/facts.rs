//! The facts of a session and of its message, collected stage by stage.
//!
//! A session adds to [`Facts`] as it learns; [`decide`](crate::decide::decide) reads them. Facts
//! carry no opinion: a fact says that a domain is not ours, and the decision says that its mail is
//! refused.

use postrider_config::Account;
use postrider_queue::header::Header;
use postrider_smtp::Address;

pub use crate::checks::{Author, AuthorFault};
use crate::{checks::results::AuthenticationResults, login::PasswordCheck};

/// Everything known so far about a session and the message in progress.
#[derive(Debug, Default)]
pub struct Facts {
    /// The login of the client. None before a successful AUTH.
    pub login: Option<LoggedIn>,
    /// One entry for each accepted RCPT command, in their order.
    pub recipients: Vec<RecipientFacts>,
    /// The header section as it is sent on. None before it is complete.
    pub header: Option<Header>,
    /// The author in the From field of a submission. None before the header section is complete,
    /// and without a From field.
    pub author: Option<Result<Author, AuthorFault>>,
    /// The results of the checks of an incoming message. None before the end of its text.
    pub authentication: Option<AuthenticationResults>,
    /// The message is a report, and a recipient is the return address of a message that we sent.
    pub answers_our_mail: bool,
}

impl Facts {
    /// Forgets the message. The login stays.
    pub fn reset(&mut self) {
        self.recipients.clear();
        self.header = None;
        self.author = None;
        self.authentication = None;
        self.answers_our_mail = false;
    }
}

/// A client with a valid login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedIn {
    /// The name of the account.
    pub account: String,
    /// The login address as the client typed it.
    pub address: Address,
}

/// The facts of one AUTH exchange.
#[derive(Clone, Copy, Debug)]
pub struct LoginFacts<'a> {
    /// The configuration of the account with this login name. None: no account has the name.
    pub account: Option<&'a Account>,
    /// The result of the password check.
    pub check: PasswordCheck,
    /// The client asked to act as a user of another account (RFC 4616 authorization identity).
    pub acts_as_other: bool,
}

/// The facts of one recipient.
#[derive(Debug, PartialEq, Eq)]
pub struct RecipientFacts {
    /// The meaning of the address in the configuration.
    pub resolution: Resolution,
}

impl RecipientFacts {
    /// The mailboxes that get the message; empty if the recipient was refused.
    #[must_use]
    pub fn mailboxes(&self) -> &[Mailbox] {
        match &self.resolution {
            Resolution::Mailboxes(mailboxes) | Resolution::List { mailboxes, .. } => mailboxes,
            _ => &[],
        }
    }
}

/// The meaning of a recipient address in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// Mailboxes of one account.
    Mailboxes(Vec<Mailbox>),
    /// A mailing list.
    List {
        /// The mailboxes of the members that take mail.
        mailboxes: Vec<Mailbox>,
        /// The sender may post: the list is public, or the reverse-path belongs to a member.
        sender_may_post: bool,
    },
    /// A destination that refuses mail with its own reply.
    Refusing {
        /// The configured SMTP reply code.
        code: u16,
        /// The configured text; empty: a default text.
        text: String,
    },
    /// The domain is ours, and is disabled for now.
    DisabledDomain,
    /// The domain is ours, the local-part is not.
    UnknownLocalPart,
    /// The domain is not ours.
    NotLocal,
}

/// A mailbox of an account.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Mailbox {
    /// The name of the account.
    pub account: String,
    /// The name of the mailbox, for example `Inbox`.
    pub mailbox: String,
}
