//! Keys that are derived from messages. They are part of the stored format: whoever changes one raises [`VERSION`].

use std::sync::Arc;

use postrider_smtp::{Address, Host};

use super::{QueueId, Queued, Retired};
use crate::table::key::Name;

/// The version of these keys.
pub(crate) const VERSION: u8 = 1;

/// A message is found by at most so many entries of the application's own data, in the order of their keys.
const EXTRA_NAMES: usize = 5;
/// An entry with more bytes than this is not among them.
const EXTRA_NAME_MAX: usize = 200;

/// A name by which what comes back calls a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reference<'a> {
    /// The unique part of its reverse-path.
    FromId(&'a str),
    /// The ENVID it was sent with.
    Envid(&'a str),
    /// Its Message-ID with `<` and `>`.
    MessageId(&'a str),
    /// An entry of the application's own data: of the first five that have 200 bytes at most.
    Extra {
        /// Whose application.
        account: &'a str,
        /// Its key.
        key: &'a str,
        /// Its value.
        value: &'a str,
    },
}


/// The name of a reference in the table of references.
pub(crate) fn reference_key(reference: Reference<'_>) -> Name {
    match reference {
        Reference::FromId(id) => format!("f{id}"),
        Reference::Envid(id) => format!("e{id}"),
        Reference::MessageId(id) => format!("m{id}"),
        // With lengths, so that no two are written alike.
        Reference::Extra {
            account,
            key,
            value,
        } => format!("x{}.{}.{account}{key}{value}", account.len(), key.len()),
    }
    .into()
}

/// The keys of a message in the table of references.
pub(crate) fn reference_keys(message: &Queued) -> Vec<(Name, Name, QueueId)> {
    let recipient = Name::from(message.recipient.unicode().to_lowercase());
    message
        .references()
        .map(reference_key)
        .map(|name| (name, Arc::clone(&recipient), message.id))
        .collect()
}

impl Queued {
    /// The names by which it is looked up: those by which an answer to it may call it, where a fromid makes an ENVID needless, and the
    /// application's own data, as far as it is short.
    pub(crate) fn references(&self) -> impl Iterator<Item = Reference<'_>> {
        let by_id = (!self.from_id.is_empty()).then_some(Reference::FromId(&self.from_id));
        let otherwise = self.from_id.is_empty();
        let envid = [self.common.envid.as_str(), &self.common.own_envid]
            .into_iter()
            .find(|envid| otherwise && !envid.is_empty())
            .map(Reference::Envid);
        let message_id = (!self.common.message_id.is_empty())
            .then_some(Reference::MessageId(&self.common.message_id));
        let account = self.common.account.as_str();
        let extra = self.common.extra.iter();
        let extra = extra
            .filter(|(key, value)| key.len() + value.len() <= EXTRA_NAME_MAX)
            .take(EXTRA_NAMES)
            .map(move |(key, value)| Reference::Extra {
                account,
                key,
                value,
            });
        by_id
            .into_iter()
            .chain(envid)
            .chain(message_id)
            .chain(extra)
    }
}

/// Messages that can be listed without looking at others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    Account(String),
    /// By the reverse-path's domain in A-labels.
    FromDomain(String),
    /// By the recipient's.
    ToDomain(String),
    /// In Unicode form.
    Recipient(String),
    Transport(String),
    Held,
    Failed,
}

impl Group {
    /// As in an index.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Account(name) => format!("a{name}"),
            Self::FromDomain(name) => format!("f{name}"),
            Self::ToDomain(name) => format!("t{name}"),
            Self::Recipient(name) => format!("r{name}"),
            Self::Transport(name) => format!("x{name}"),
            Self::Held => "h".to_owned(),
            Self::Failed => "!".to_owned(),
        }
    }

    /// Whether a queued message is in the group of this name: as [`of_queued`](Self::of_queued) says, but without making
    /// all names.
    pub(crate) fn has_queued(name: &str, queued: &Queued) -> bool {
        match name.split_at_checked(1) {
            Some(("h", "")) => queued.hold,
            Some((kind, of)) => Self::has_message(kind, of, queued),
            None => false,
        }
    }

    /// Likewise one in the history.
    pub(crate) fn has_retired(name: &str, retired: &Retired) -> bool {
        match name.split_at_checked(1) {
            Some(("!", "")) => !retired.success,
            Some(("r", of)) => is_address(&retired.message.recipient, of),
            Some((kind, of)) => Self::has_message(kind, of, &retired.message),
            None => false,
        }
    }

    fn has_message(kind: &str, of: &str, message: &Queued) -> bool {
        match kind {
            "a" => message.common.account == of,
            "t" => is_host(&message.recipient.host, of),
            "f" => {
                let sender = message.reverse_path.address();
                sender.is_some_and(|sender| is_host(&sender.host, of))
            }
            "x" => message.transport == of,
            _ => false,
        }
    }

    /// Those of a queued message.
    pub(crate) fn of_queued(queued: &Queued) -> Vec<Self> {
        let mut groups = Self::of_message(queued);
        if queued.hold {
            groups.push(Self::Held);
        }
        groups
    }

    /// Those of one in the history.
    pub(crate) fn of_retired(retired: &Retired) -> Vec<Self> {
        let mut groups = Self::of_message(&retired.message);
        groups.push(Self::Recipient(retired.message.recipient.unicode()));
        if !retired.success {
            groups.push(Self::Failed);
        }
        groups
    }

    fn of_message(message: &Queued) -> Vec<Self> {
        let mut groups = vec![
            Self::Account(message.common.account.clone()),
            Self::ToDomain(message.destination()),
        ];
        let sender = message.reverse_path.address();
        groups.extend(sender.map(|sender| Self::FromDomain(sender.host.ascii())));
        if !message.transport.is_empty() {
            groups.push(Self::Transport(message.transport.clone()));
        }
        groups
    }
}

fn is_host(host: &Host, ascii: &str) -> bool {
    match host.domain() {
        Some(domain) => domain.ascii() == ascii,
        None => host.ascii() == ascii,
    }
}

/// Whether this is the address's Unicode form.
fn is_address(address: &Address, unicode: &str) -> bool {
    let maybe = address
        .host
        .domain()
        .is_none_or(|domain| domain.ascii().contains("xn--") || unicode.ends_with(domain.ascii()));
    maybe && address.unicode() == unicode
}


/// The names of these groups in the index.
pub(crate) fn names(groups: &[Group]) -> Vec<String> {
    groups.iter().map(Group::name).collect()
}
