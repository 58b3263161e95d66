//! Keys that are derived from messages. They are part of the stored format: whoever changes one
//! raises [`VERSION`].

use std::sync::Arc;

use postrider_smtp::{Address, Host};

use super::{QueueId, Queued, Retired};
use crate::table::key::Name;

/// The version of these keys, and of the names of lanes. In version 1, a lane was a destination.
pub(crate) const VERSION: u8 = 2;

/// A message is found by at most so many entries of the application's own data, in the order of
/// their keys.
const EXTRA_NAMES: usize = 5;
/// An entry with more bytes than this is not among them.
const EXTRA_NAME_MAX: usize = 200;

/// A reference by which a report or an application names a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reference<'a> {
    /// The unique part of the reverse-path.
    FromId(&'a str),
    /// The submitter's ENVID.
    Envid(&'a str),
    /// The ENVID of one of our own transactions.
    Transaction(&'a str),
    /// The Message-ID of the message with `<` and `>`.
    MessageId(&'a str),
    /// An entry of the application's own data: one of the first five with at most 200 bytes.
    Extra {
        /// The account of the application.
        account: &'a str,
        /// The key of the entry.
        key: &'a str,
        /// The value of the entry.
        value: &'a str,
    },
}

/// The name of a reference in the table of references.
pub(crate) fn reference_key(reference: Reference<'_>) -> Name {
    match reference {
        Reference::FromId(id) => format!("f{id}"),
        Reference::Envid(id) => format!("e{id}"),
        Reference::Transaction(id) => format!("t{id}"),
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

/// The name of a message's recipient in the table of references.
pub(crate) fn recipient_key(message: &Queued) -> Name {
    message.recipient.unicode().to_lowercase().into()
}

/// The keys of a message in the table of references.
pub(crate) fn reference_keys(message: &Queued) -> Vec<(Name, Name, QueueId)> {
    let recipient = recipient_key(message);
    message
        .references()
        .map(reference_key)
        .map(|name| (name, Arc::clone(&recipient), message.id))
        .collect()
}

impl Queued {
    /// The references of the message. A report names a message by fromid, ENVID or Message-ID; a
    /// fromid makes the submitter's ENVID needless. An application names it by its own data, as far
    /// as that is short.
    pub(crate) fn references(&self) -> impl Iterator<Item = Reference<'_>> {
        let by_id = (!self.from_id.is_empty()).then_some(Reference::FromId(&self.from_id));
        let envid = self.common.envid.as_str();
        let envid = (self.from_id.is_empty() && !envid.is_empty()).then_some(envid);
        let envid = envid.map(Reference::Envid);
        let own = self.envids.iter();
        let own = own.map(|envid| Reference::Transaction(envid));
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
            .chain(own)
            .chain(message_id)
            .chain(extra)
    }
}

/// Messages that can be listed without a look at others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    Account(String),
    /// By the domain of the reverse-path, in A-labels.
    FromDomain(String),
    /// By the domain of the recipient, in A-labels.
    ToDomain(String),
    /// By the recipient in Unicode form.
    Recipient(String),
    Transport(String),
    Held,
    Failed,
}

impl Group {
    /// The name of the group in the index.
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

    /// Whether a queued message is in the group with this name. Says the same as
    /// [`of_queued`](Self::of_queued), without making all names.
    pub(crate) fn has_queued(name: &str, queued: &Queued) -> bool {
        match name.split_at_checked(1) {
            Some(("h", "")) => queued.hold,
            Some((kind, of)) => Self::has_message(kind, of, queued),
            None => false,
        }
    }

    /// Whether a message of the history is in the group with this name.
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

    /// The groups of a queued message.
    pub(crate) fn of_queued(queued: &Queued) -> Vec<Self> {
        let mut groups = Self::of_message(queued);
        if queued.hold {
            groups.push(Self::Held);
        }
        groups
    }

    /// The groups of a message in the history.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Retired, TextId,
        table::key::Key,
        tests::samples::{at, common, recipient},
    };

    fn queued() -> Queued {
        let mut common = common();
        common.envid = "given".into();
        let mut new = recipient("X@b\u{fc}cher.example", at(1));
        new.transport = "relay".into();
        new.hold = true;
        let common = Arc::new(common);
        let id = QueueId(7);
        Queued {
            envids: vec!["own".into()],
            ..new.queued(id, id, crate::Top::EMPTY, TextId(1), common)
        }
    }

    /// These are stored keys: other forms need another [`VERSION`].
    #[test]
    fn the_references_of_a_message_are_fixed() {
        assert_eq!(VERSION, 2);
        let mut bytes = Vec::new();
        for key in reference_keys(&queued()) {
            key.encode(&mut bytes);
            bytes.push(b'|');
        }
        let to = "x@b\u{fc}cher.example\0\0\0\0\0\0\0\0\0\u{7}";
        let expected =
            format!("egiven\0\0{to}|town\0\0{to}|m<1@example.org>\0\0{to}|x3.1.annkv\0\0{to}|");
        assert_eq!(String::from_utf8(bytes).unwrap(), expected);
        assert_eq!(&*reference_key(Reference::FromId("id1")), "fid1");
    }

    #[test]
    fn the_groups_of_a_message_are_fixed() {
        let queued = queued();
        assert_eq!(
            names(&Group::of_queued(&queued)),
            [
                "aann",
                "txn--bcher-kva.example",
                "fexample.org",
                "xrelay",
                "h"
            ]
        );
        let retired = Retired {
            message: queued,
            success: false,
            last_activity: at(1),
            keep_until: at(2),
        };
        assert_eq!(
            names(&Group::of_retired(&retired)),
            [
                "aann",
                "txn--bcher-kva.example",
                "fexample.org",
                "xrelay",
                "rX@b\u{fc}cher.example",
                "!"
            ]
        );
        for name in names(&Group::of_retired(&retired)) {
            assert!(Group::has_retired(&name, &retired), "{name}");
        }
    }
}
