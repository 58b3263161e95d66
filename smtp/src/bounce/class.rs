//! The classes of replies: the reason why a message was not delivered, in one word.

/// Defines the classes with their names in logs, APIs and the configuration.
macro_rules! classes {
    ($(#[$meta:meta])* $name:ident { $($(#[$class_meta:meta])* $class:ident = $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name {
            $($(#[$class_meta])* $class,)+
        }

        impl $name {
            /// All classes.
            pub const ALL: &'static [Self] = &[$(Self::$class),+];
            /// Their names, in the same order.
            pub const NAMES: &'static [&'static str] = &[$($text),+];

            /// The name in logs, APIs and the configuration.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$class => $text,)+
                }
            }

            /// The class of this name.
            #[must_use]
            pub fn named(name: &str) -> Option<Self> {
                match name {
                    $($text => Some(Self::$class),)+
                    _ => None,
                }
            }
        }
    };
}

classes! {
    /// The reason why a message was not delivered.
    Class {
        /// The mailbox does not exist.
        UnknownMailbox = "unknown_mailbox",
        /// The mailbox takes no mail: it is closed or suspended, or has moved.
        MailboxDisabled = "mailbox_disabled",
        /// The mailbox is full.
        MailboxFull = "mailbox_full",
        /// The message is too big for the mailbox or the server.
        TooBig = "too_big",
        /// The transaction has too many recipients. Fewer at once may do.
        Split = "split",
        /// This mailbox gets too much mail at once.
        RecipientRate = "recipient_rate",
        /// The server uses greylisting.
        Greylisted = "greylisted",
        /// Too much mail came from us at once.
        RateLimited = "rate_limited",
        /// We have too many connections at once. Only a pattern of a known provider gives this
        /// class. [`classify`](super::classify()) gives [`RateLimited`](Self::RateLimited).
        Connections = "connections",
        /// The server has a failure of its own, or takes no mail for now.
        System = "system",
        /// Our host or address is blocked: block lists, reputation, dynamic addresses.
        Blocked = "blocked",
        /// A rule of the server forbids the message. A refusal to relay is one.
        Policy = "policy",
        /// DMARC, SPF, DKIM or reverse DNS is wrong or missing.
        Authentication = "authentication",
        /// The server takes the message for spam.
        Spam = "spam",
        /// The server does not want the content: a virus, a file type, a broken header.
        Content = "content",
        /// The server refuses the sender's address or its domain.
        Sender = "sender",
        /// The server wants a login, or refuses ours.
        Login = "login",
        /// The server did not understand a command, or we did not understand the server.
        Protocol = "protocol",
        /// The recipient's domain does not exist, or takes no mail.
        Domain = "domain",
        /// The message is in a loop.
        Loop = "loop",
        /// There was no connection, or no reply in time.
        Network = "network",
        /// TLS failed, or was not available.
        Tls = "tls",
        /// The DNS did not answer.
        Dns = "dns",
        /// Another reason, or none that is known.
        Unknown = "unknown",
    }
}

impl Class {
    /// A later attempt may succeed, even if the server replies with 5xx.
    #[must_use]
    pub const fn waits(self) -> bool {
        matches!(
            self,
            Self::RecipientRate
                | Self::Greylisted
                | Self::RateLimited
                | Self::Connections
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
