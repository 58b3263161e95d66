//! How often something was refused, by the name of the reason.
//!
//! | names | of |
//! |---|---|
//! | [`postrider_smtp::reason`] | what a session refuses by itself |
//! | [`Refusal::name`](crate::decide::Refusal::name) | what the decision refuses |
//! | [`reason`] | what else is refused: failures of our own, texts that can't be taken, connections |
//!
//! A refusal is counted once, where its reply is written. Each name has a [`Meaning`]: the reason
//! that metrics and the log tell, of which there are few, and the event of a trace.

mod meaning;

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
};

use postrider_smtp::reason as protocol;

pub use self::meaning::Meaning;
use crate::decide;

/// The names of reasons that neither the protocol nor the decision has.
pub mod reason {
    postrider_smtp::reasons! {
        /// All places for connections are taken (`limits.connections`).
        CONNECTIONS = "connections";
        /// The network of the client has as many connections as it may
        /// (`limits.connections_per_network`).
        CONNECTIONS_PER_NETWORK = "connections_per_network";
        /// The connection comes from a peer that is no proxy of its listener.
        UNLISTED_PROXY = "unlisted_proxy";
        /// The proxy did not say for whom the connection comes.
        PROXY_HEADER = "proxy_header";
        /// The header section is larger than `limits.header_size`.
        HEADER_SIZE = "header_size";
        /// The header section is not made of lines.
        HEADER_LINES = "header_lines";
        /// A header section has too many fields.
        HEADER_FIELDS = "header_fields";
        /// The text has too many MIME parts, or they nest too deep.
        MIME = "mime";
        /// The texts that arrive take all memory (`limits.text_memory`).
        TEXT_MEMORY = "text_memory";
        /// The disk is full.
        DISK_FULL = "disk_full";
        /// The store failed.
        STORE = "store";
        /// A message was lost on its way in, by a fault of our own.
        MESSAGE_LOST = "message_lost";
        /// A limit of the account that submits.
        ACCOUNT_LIMIT = "account_limit";
        /// A submission that the queue does not take as it is.
        SUBMISSION = "submission";
        /// The application's own data in the header section of a submission are wrong.
        EXTRA_DATA = "extra_data";
        /// The wanted time of a delivery (FUTURERELEASE, DELIVERBY) can't be kept.
        DELIVERY_TIME = "delivery_time";
        /// The authorization server does not answer, so a token can't be checked.
        TOKEN_UNCHECKED = "token_unchecked";
        /// The store failed, so a login can't be checked.
        LOGIN_UNCHECKED = "login_unchecked";
    }
}

/// How often something was refused, for each reason.
#[derive(Debug)]
pub struct RefusalCounts(BTreeMap<&'static str, AtomicU64>);

impl Default for RefusalCounts {
    fn default() -> Self {
        let names = [protocol::ALL, decide::NAMES, reason::ALL];
        let names = names.into_iter().flatten();
        Self(names.map(|name| (*name, AtomicU64::new(0))).collect())
    }
}

impl RefusalCounts {
    /// Counts a refusal for a reason, and gives what it means. One that is not known counts as
    /// [`OTHER`](postrider_smtp::reason::OTHER).
    pub fn count(&self, reason: &str) -> Meaning {
        let count = self.0.get(reason).or_else(|| self.0.get(protocol::OTHER));
        if let Some(count) = count {
            count.fetch_add(1, Ordering::Relaxed);
        }
        Self::meaning(reason)
    }

    /// What the name of a reason means.
    #[must_use]
    pub fn meaning(reason: &str) -> Meaning {
        Meaning::of(reason).unwrap_or(Meaning::OTHER)
    }

    /// All reasons in the order of their names, with the number of refusals since the start.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.0.iter();
        counts.map(|(name, count)| (*name, count.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use postrider_observe::metrics::{Label, Reason};

    use super::*;

    fn counted(counts: &RefusalCounts) -> Vec<(&'static str, u64)> {
        counts.all().filter(|(_, count)| *count > 0).collect()
    }

    #[test]
    fn each_reason_has_a_count_of_its_own() {
        let counts = RefusalCounts::default();
        assert_eq!(counted(&counts), []);
        for reason in [
            "greylisted",
            "mail_loop",
            "bare_newline",
            "mail_loop",
            "disk_full",
        ] {
            counts.count(reason);
        }
        let expected = [
            ("bare_newline", 1),
            ("disk_full", 1),
            ("greylisted", 1),
            ("mail_loop", 2),
        ];
        assert_eq!(counted(&counts), expected);
    }

    #[test]
    fn each_reason_has_a_meaning() {
        let lists = [protocol::ALL, decide::NAMES, reason::ALL];
        for name in lists.into_iter().flatten() {
            assert!(Meaning::of(name).is_some(), "{name}");
        }
    }

    #[test]
    fn the_table_in_the_docs_has_all_meanings() {
        let docs = include_str!("../../docs/operations.md");
        let lists = [protocol::ALL, decide::NAMES, reason::ALL];
        for reason in Reason::ALL {
            let mut names: Vec<String> = Vec::new();
            for name in lists.into_iter().flatten() {
                let name = format!("`{name}`");
                let meaning = Meaning::of(name.trim_matches('`'));
                if meaning.is_some_and(|it| it.reason == *reason) && !names.contains(&name) {
                    names.push(name);
                }
            }
            let row = format!("| `{}` | {} |\n", reason.text(), names.join(", "));
            assert!(names.is_empty() || docs.contains(&row), "{row}");
        }
    }

    #[test]
    fn an_unknown_reason_is_counted_too() {
        let counts = RefusalCounts::default();
        counts.count("nobody knows it");
        assert_eq!(counted(&counts), [("other", 1)]);
    }

    /// The session and the decision give a few refusals for the same reason, and no others.
    #[test]
    fn one_name_means_one_reason() {
        let lists = [protocol::ALL, decide::NAMES, reason::ALL];
        let mut seen = BTreeSet::new();
        let names = lists.into_iter().flatten();
        let shared: Vec<_> = names.filter(|name| !seen.insert(**name)).collect();
        assert_eq!(shared, [&"bad_credentials", &"login_required"]);
        for name in reason::ALL {
            let fits = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
            assert!(!name.is_empty() && name.bytes().all(fits), "{name}");
        }
    }
}
