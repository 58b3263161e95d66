//! The classes of replies: the reason why a message was not delivered, in one word.

/// The reason why a message was not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// The mailbox does not exist.
    UnknownMailbox,
    /// The mailbox takes no mail: it is closed or suspended, or has moved.
    MailboxDisabled,
    /// The mailbox is full.
    MailboxFull,
    /// The message is too big for the mailbox or the server.
    TooBig,
    /// The transaction has too many recipients. Fewer at once may do.
    Split,
    /// This mailbox gets too much mail at once.
    RecipientRate,
    /// The server uses greylisting.
    Greylisted,
    /// Too much mail came from us at once.
    RateLimited,
    /// The server has a failure of its own, or takes no mail for now.
    System,
    /// Our host or address is blocked: block lists, reputation, dynamic addresses.
    Blocked,
    /// A rule of the server forbids the message. A refusal to relay is one.
    Policy,
    /// DMARC, SPF, DKIM or reverse DNS is wrong or missing.
    Authentication,
    /// The server takes the message for spam.
    Spam,
    /// The server does not want the content: a virus, a file type, a broken header.
    Content,
    /// The server refuses the sender's address or its domain.
    Sender,
    /// The server wants a login, or refuses ours.
    Login,
    /// The server did not understand a command, or we did not understand the server.
    Protocol,
    /// The recipient's domain does not exist, or takes no mail.
    Domain,
    /// The message is in a loop.
    Loop,
    /// There was no connection, or no reply in time.
    Network,
    /// TLS failed, or was not available.
    Tls,
    /// The DNS did not answer.
    Dns,
    /// Another reason, or none that is known.
    Unknown,
}

impl Class {
    /// All classes.
    pub const ALL: [Self; 23] = [
        Self::UnknownMailbox,
        Self::MailboxDisabled,
        Self::MailboxFull,
        Self::TooBig,
        Self::Split,
        Self::RecipientRate,
        Self::Greylisted,
        Self::RateLimited,
        Self::System,
        Self::Blocked,
        Self::Policy,
        Self::Authentication,
        Self::Spam,
        Self::Content,
        Self::Sender,
        Self::Login,
        Self::Protocol,
        Self::Domain,
        Self::Loop,
        Self::Network,
        Self::Tls,
        Self::Dns,
        Self::Unknown,
    ];

    /// The name in logs and APIs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::UnknownMailbox => "unknown_mailbox",
            Self::MailboxDisabled => "mailbox_disabled",
            Self::MailboxFull => "mailbox_full",
            Self::TooBig => "too_big",
            Self::Split => "split",
            Self::RecipientRate => "recipient_rate",
            Self::Greylisted => "greylisted",
            Self::RateLimited => "rate_limited",
            Self::System => "system",
            Self::Blocked => "blocked",
            Self::Policy => "policy",
            Self::Authentication => "authentication",
            Self::Spam => "spam",
            Self::Content => "content",
            Self::Sender => "sender",
            Self::Login => "login",
            Self::Protocol => "protocol",
            Self::Domain => "domain",
            Self::Loop => "loop",
            Self::Network => "network",
            Self::Tls => "tls",
            Self::Dns => "dns",
            Self::Unknown => "unknown",
        }
    }

    /// A later attempt may succeed, even if the server replies with 5xx.
    #[must_use]
    pub const fn waits(self) -> bool {
        matches!(
            self,
            Self::RecipientRate
                | Self::Greylisted
                | Self::RateLimited
                | Self::Login
                | Self::Network
                | Self::Tls
                | Self::Dns
        )
    }

    /// The reason lies in the recipient's address: its mailbox or its domain.
    pub(super) const fn is_of_recipient(self) -> bool {
        matches!(
            self,
            Self::UnknownMailbox
                | Self::MailboxDisabled
                | Self::MailboxFull
                | Self::RecipientRate
                | Self::Split
                | Self::Domain
        )
    }
}

/// Whether a final failure blames the recipient's address. If it does, mail to that address is a
/// waste and harms our reputation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The address cannot receive mail. One such failure is enough.
    Yes,
    /// The third such failure in a row blames the address. [`Yes`](Self::Yes) counts as one too.
    OnThird,
    /// The failure says nothing of the address: it is about us, the sender, the message, the
    /// connection, or this moment.
    No,
}
