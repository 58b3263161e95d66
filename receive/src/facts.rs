//! The facts of a session and of its message, collected stage by stage.
//!
//! A session adds to [`Facts`] as it learns; [`decide`](crate::decide::decide) reads them. Facts
//! carry no opinion: a fact says that a domain is not ours, and the decision says that its mail is
//! refused.

use postrider_config::{Account, Destination, DestinationAddress, Dynamic, HookQuarantine};
use postrider_queue::header::Header;
use postrider_smtp::{Address, Reply};

pub use crate::checks::{Author, AuthorFault};
use crate::{
    checks::{results::AuthenticationResults, sender::SenderDomain},
    junk::JunkFacts,
    login::PasswordCheck,
};

/// Everything known so far about a session and the message in progress.
#[derive(Debug, Default)]
pub struct Facts {
    /// The login of the client. None before a successful AUTH.
    pub login: Option<LoggedIn>,
    /// One entry for each accepted RCPT command, in their order.
    pub recipients: Vec<RecipientFacts>,
    /// The size of the message in bytes: as the client declared it in MAIL, and from the end of the
    /// text on as it is. None: it is not known yet.
    pub size: Option<u64>,
    /// The header section as it is sent on. None before it is complete.
    pub header: Option<Header>,
    /// The fields of the header section, for rulesets. Empty if no ruleset of the recipients asks
    /// for fields.
    pub fields: Vec<PlainField>,
    /// The author in the From field of a submission. None before the header section is complete,
    /// and without a From field.
    pub author: Option<Result<Author, AuthorFault>>,
    /// The reverse-path is null: the message is a report.
    pub has_null_path: bool,
    /// The listener takes mail over TLS only, and the client came without.
    pub needs_tls: bool,
    /// What DNS says about the domain of the reverse-path. None if nobody asked.
    pub sender: Option<SenderDomain>,
    /// The client is on this machine, and passes on the mail of others. So SPF is not checked.
    pub client_is_local: bool,
    /// An account of ours sent the message, or the server wrote it. So its senders need no proof.
    pub is_ours: bool,
    /// The server wrote the message as a report of its own to a domain.
    pub is_our_report: bool,
    /// Somebody stands behind the reverse-path of a message that was passed on to here, as was
    /// found out when it came in.
    pub sender_was_proven: bool,
    /// The results of the checks of an incoming message. None before the end of its text.
    pub authentication: Option<Box<AuthenticationResults>>,
    /// What outside programs said of the message, beside refusals.
    pub hooks: HookFacts,
}

/// What outside programs said of a message, beside refusals.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HookFacts {
    /// The message is dropped, and the client gets this reply.
    pub discard: Option<Reply>,
    /// The message is taken, and nobody gets it as good mail.
    pub quarantine: Option<HookQuarantine>,
    /// The message gets the field by which it shows that a program wanted it in quarantine.
    pub is_marked: bool,
    /// The reply to a message that is taken. None: the usual one.
    pub reply: Option<Reply>,
    /// The connection closes behind the reply to a message that is taken.
    pub closes: bool,
}

impl HookFacts {
    /// The reply to a message that is taken. `usual` is that without any program.
    pub(crate) fn reply_or(&mut self, usual: impl FnOnce() -> Reply) -> Reply {
        let reply = self.reply.take().unwrap_or_else(usual);
        match self.closes {
            true => reply.closing(),
            false => reply,
        }
    }
}

impl Facts {
    /// The accounts of the recipients, each once. Those that take all mail for the recipient are
    /// left out.
    pub(crate) fn limited_accounts(&self) -> Vec<&str> {
        let recipients = self.recipients.iter().filter(|recipient| {
            let is_return = matches!(recipient.resolution, Resolution::Return { .. });
            !is_return && !recipient.answers_our_mail
        });
        let targets = recipients.flat_map(RecipientFacts::targets);
        let limited = targets.filter(|target| !target.takes_all);
        let mut accounts: Vec<_> = limited.map(|target| target.account.as_str()).collect();
        accounts.sort_unstable();
        accounts.dedup();
        accounts
    }

    /// Forgets the message. The login stays.
    pub fn reset(&mut self) {
        self.recipients.clear();
        self.size = None;
        self.header = None;
        self.fields.clear();
        self.author = None;
        self.has_null_path = false;
        self.needs_tls = false;
        self.sender = None;
        self.client_is_local = false;
        self.is_ours = false;
        self.is_our_report = false;
        self.sender_was_proven = false;
        self.authentication = None;
        self.hooks = HookFacts::default();
    }
}

/// A field of a header section in the form in which rulesets look at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlainField {
    /// The name, in lower case.
    pub name: String,
    /// The value as a reader sees it: unfolded and decoded, in lower case, without white space
    /// around it.
    pub value: String,
}

impl PlainField {
    /// The bytes that it takes in memory, about.
    #[must_use]
    pub fn size(&self) -> usize {
        size_of::<Self>() + self.name.len() + self.value.len()
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecipientFacts {
    /// The address. The bare `<postmaster>` stands for postmaster at our host name (RFC 5321
    /// §4.5.1).
    pub address: Address,
    /// The meaning of the address in the configuration.
    pub resolution: Resolution,
    /// The message is a report about one that the account of the address sent: the address is the
    /// return address of that message, or the report has its ENVID. Known at the end of the text.
    pub answers_our_mail: bool,
    /// The message came as a report does, to such a return address. What it says may be anything.
    /// Known at the end of the text.
    pub may_answer_our_mail: bool,
    /// The name of the mailing list, in one form for all spellings of its address. None if the
    /// address is none.
    pub list: Option<String>,
    /// The place of an earlier recipient that is the same list. It has the targets, and this one
    /// has none. None for all others.
    pub same_as: Option<usize>,
}

impl RecipientFacts {
    /// The facts that are known at RCPT.
    #[must_use]
    pub const fn new(address: Address, resolution: Resolution) -> Self {
        Self {
            address,
            resolution,
            answers_our_mail: false,
            may_answer_our_mail: false,
            list: None,
            same_as: None,
        }
    }

    /// Leaves the targets to an earlier recipient that is the same list. A list may be named by
    /// many addresses, since the part behind a separator does not count.
    #[must_use]
    pub fn joined(self, earlier: &[Self]) -> Self {
        let named = |it: &Self| it.list.is_some() && it.list == self.list && it.same_as.is_none();
        match earlier.iter().position(named) {
            Some(at) => Self {
                resolution: Resolution::List(Vec::new()),
                same_as: Some(at),
                ..self
            },
            None => self,
        }
    }

    /// Whether the address is a mailing list.
    #[must_use]
    pub const fn is_list(&self) -> bool {
        matches!(self.resolution, Resolution::List(_))
    }

    /// The targets, to add facts to them.
    pub fn targets_mut(&mut self) -> &mut [Target] {
        match &mut self.resolution {
            Resolution::Account(target) => std::slice::from_mut(target),
            Resolution::List(targets) => targets,
            _ => &mut [],
        }
    }

    /// The targets of the recipient. Empty if the address is not ours.
    #[must_use]
    pub fn targets(&self) -> &[Target] {
        match &self.resolution {
            Resolution::Account(target) | Resolution::Return { target, .. } => {
                std::slice::from_ref(target)
            }
            Resolution::List(targets) => targets,
            _ => &[],
        }
    }
}

/// The meaning of a recipient address in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// An account.
    Account(Target),
    /// A mailing list, with its members.
    List(Vec<Target>),
    /// The sender of a message that we forwarded: it gets the report that comes in.
    Return {
        /// The account that answers for the report: that of the postmaster.
        target: Target,
        /// The address of the sender.
        to: Address,
    },
    /// The address has the form of a sender that we rewrote, and leads nowhere.
    BadReturn(ReturnFault),
    /// The domain is ours, and is disabled for now.
    DisabledDomain,
    /// The domain is ours, the local-part is not.
    UnknownLocalPart,
    /// The domain is not ours.
    NotLocal,
}

/// Why an address in the form of a rewritten sender leads nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReturnFault {
    /// The message is no report: it has a reverse-path.
    NoReport,
    /// We did not write the address.
    Forged,
    /// We wrote it too long ago.
    Old,
}

/// An account that gets mail for a recipient, with what it knows of the message. Each target has a
/// verdict of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The name of the account.
    pub account: String,
    /// The destination of the account. None for mail that no destination is configured for: that of
    /// the postmaster, and reports.
    pub destination: Option<DestinationAddress>,
    /// The mailbox for mail that no ruleset takes, for example `Inbox`.
    pub mailbox: String,
    /// The account gets all mail for this address, at worst as junk: it is for the postmaster, or
    /// for reports.
    pub takes_all: bool,
    /// The address of the account as a member of the list. None if the recipient is no list.
    pub member: Option<Address>,
    /// What the account's junk filter knows of the message. None before the end of the text, and
    /// for a message that no filter looks at.
    pub junk: Option<Box<JunkFacts>>,
    /// The bytes of all mail of the account. None if the account has no quota.
    pub used: Option<u64>,
}

impl Target {
    /// The destination of the target in a configuration. None also if it was removed.
    #[must_use]
    pub fn destination_in<'a>(&self, config: &'a Dynamic) -> Option<&'a Destination> {
        let account = config.accounts.get(&self.account)?;
        account.destinations.get(self.destination.as_ref()?)
    }
}
