//! Known providers: how the hosts of a large receiver want mail to be sent to them, and what their
//! replies mean.
//!
//! An entry comes in layers, and each layer sets keys of it: the data in the program
//! (`providers.toml`), then the file of `delivery.providers_file`, then `providers.NAME` of
//! `domains.conf`. The entry `default` has the figures of `queue.per_destination` and those for all
//! keys that another entry does not have.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, LazyLock, OnceLock},
    time::Duration,
};

use postrider_smtp::{Domain, bounce::Class};
use regex::bytes::{RegexSet, RegexSetBuilder};

use crate::{parse_providers, quantity::Rate, statics::PerDestination, words::words};

/// The shipped data.
pub(crate) const SHIPPED: &str = include_str!("providers.toml");
/// The name of the entry for hosts without an entry.
pub(crate) const DEFAULT: &str = "default";

words! {
    /// The TLS of connections to a provider.
    ProviderTls {
        /// TLS if the host offers it, with any certificate (RFC 7435).
        Opportunistic = "opportunistic",
        /// No TLS.
        None = "none",
        /// Only with TLS, with any certificate.
        Encrypt = "encrypt",
        /// Only with a valid certificate for the name of the host.
        Verify = "verify",
        /// Only with a certificate that the TLSA records of the host name (RFC 7672).
        Dane = "dane",
    }
}

words! {
    /// What a reply is about.
    ReplyScope {
        /// The address that we connect from.
        Source = "source",
        /// The domain of the sender: of its From field, of SPF or of DKIM.
        Domain = "domain",
        /// This message only.
        Message = "message",
    }
}

/// One of an entry's `reply`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplyRule {
    /// The regular expression, as written.
    pub pattern: String,
    /// The meaning of a reply that matches.
    pub class: Class,
    /// What the reply is about.
    pub scope: ReplyScope,
    /// How long nothing is sent to the site after the reply. None: as the class says.
    pub rest: Option<Duration>,
}

/// The rules for replies of an entry. Two are equal if their rules are.
///
/// The compiled patterns of all shipped entries take some 9 MB, and most servers never see a reply
/// of most providers. So the first reply compiles those of its entry.
#[derive(Clone, Debug, Default)]
pub struct ReplyRules {
    rules: Vec<ReplyRule>,
    patterns: OnceLock<RegexSet>,
}

impl ReplyRules {
    /// # Errors
    /// If a pattern is none, or all together are too large.
    pub(crate) fn new(rules: Vec<ReplyRule>) -> Result<Self, regex::Error> {
        compile(&rules)?;
        Ok(Self {
            rules,
            patterns: OnceLock::new(),
        })
    }

    /// The first rule that matches a reply. The reply is on one line with its codes, such as `421
    /// 4.7.28 slow down`.
    #[must_use]
    pub fn find(&self, reply: &str) -> Option<&ReplyRule> {
        // The same patterns compiled when the rules were made.
        let compiled = || compile(&self.rules).unwrap_or_default();
        let patterns = self.patterns.get_or_init(compiled);
        let first = patterns.matches(reply.as_bytes()).iter().next()?;
        self.rules.get(first)
    }

    /// The rules, the first one first.
    pub fn iter(&self) -> std::slice::Iter<'_, ReplyRule> {
        self.rules.iter()
    }
}

fn compile(rules: &[ReplyRule]) -> Result<RegexSet, regex::Error> {
    let patterns = |unicode| {
        let patterns = rules.iter().map(|rule| &rule.pattern);
        let mut builder = RegexSetBuilder::new(patterns);
        builder.case_insensitive(true).unicode(unicode).build()
    };
    // Replies are in ASCII, so most patterns need no tables of Unicode, and are smaller.
    patterns(false).or_else(|_| patterns(true))
}

impl<'a> IntoIterator for &'a ReplyRules {
    type Item = &'a ReplyRule;
    type IntoIter = std::slice::Iter<'a, ReplyRule>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl PartialEq for ReplyRules {
    fn eq(&self, other: &Self) -> bool {
        self.rules == other.rules
    }
}

impl Eq for ReplyRules {}

/// An entry with all its keys. The figures are for each address of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provider {
    /// The name of the entry.
    pub name: String,
    /// The MX hosts: these names, and all names below them.
    pub mx: Vec<Domain>,
    /// The domains of recipients.
    pub domains: Vec<Domain>,
    /// Whether all hosts of `mx` share the limits.
    pub rollup: bool,
    /// The most connections at once.
    pub connections: usize,
    /// The most messages on one connection.
    pub messages_per_connection: usize,
    /// The most recipients in a transaction.
    pub recipients_per_transaction: usize,
    /// The most messages in a time. None means no limit.
    pub rate: Option<Rate>,
    /// The most new connections in a time. None means no limit.
    pub connect_rate: Option<Rate>,
    /// The TLS of connections.
    pub tls: ProviderTls,
    /// Whether messages may go by BDAT.
    pub chunking: bool,
    /// The pool of addresses that mail comes from, by name. None: that of `delivery`.
    pub source_pool: Option<String>,
    /// Where the figures come from, for people. May be empty.
    pub from: String,
    /// The meaning of replies.
    pub replies: Arc<ReplyRules>,
}

impl Provider {
    /// Whether `mx` matches all these hosts. No hosts are not matched.
    #[must_use]
    pub fn has_all(&self, hosts: &[&str]) -> bool {
        self.match_length(hosts).is_some()
    }

    /// The length of the shortest name of `mx` that matches one of the hosts, where each host
    /// counts with the longest name that matches it. None if one is not matched.
    fn match_length(&self, hosts: &[&str]) -> Option<usize> {
        let lengths: Option<Vec<usize>> = hosts
            .iter()
            .map(|host| {
                let names = self.mx.iter().map(Domain::ascii);
                let matching = names.filter(|name| is_below(host, name));
                matching.map(str::len).max()
            })
            .collect();
        lengths?.into_iter().min()
    }
}

/// Whether a host has this name, or one below it.
fn is_below(host: &str, name: &str) -> bool {
    let left = host.strip_suffix(name);
    left.is_some_and(|left| left.is_empty() || left.ends_with('.'))
}

/// A layer of entries. A later layer is stronger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Layer {
    Shipped,
    File,
    Domains,
}

/// The keys of an entry that are set, in one layer or in several together.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Entry {
    pub(crate) mx: Option<(Layer, Vec<Domain>)>,
    pub(crate) domains: Option<(Layer, Vec<Domain>)>,
    pub(crate) rollup: Option<bool>,
    pub(crate) connections: Option<usize>,
    pub(crate) messages_per_connection: Option<usize>,
    pub(crate) recipients_per_transaction: Option<usize>,
    pub(crate) rate: Option<Option<Rate>>,
    pub(crate) connect_rate: Option<Option<Rate>>,
    pub(crate) tls: Option<ProviderTls>,
    pub(crate) chunking: Option<bool>,
    pub(crate) source_pool: Option<String>,
    pub(crate) from: Option<String>,
    pub(crate) replies: Option<Arc<ReplyRules>>,
}

impl Entry {
    /// This entry with the keys of a stronger one.
    fn under(self, stronger: Self) -> Self {
        Self {
            mx: stronger.mx.or(self.mx),
            domains: stronger.domains.or(self.domains),
            rollup: stronger.rollup.or(self.rollup),
            connections: stronger.connections.or(self.connections),
            messages_per_connection: stronger
                .messages_per_connection
                .or(self.messages_per_connection),
            recipients_per_transaction: stronger
                .recipients_per_transaction
                .or(self.recipients_per_transaction),
            rate: stronger.rate.or(self.rate),
            connect_rate: stronger.connect_rate.or(self.connect_rate),
            tls: stronger.tls.or(self.tls),
            chunking: stronger.chunking.or(self.chunking),
            source_pool: stronger.source_pool.or(self.source_pool),
            from: stronger.from.or(self.from),
            replies: stronger.replies.or(self.replies),
        }
    }

    /// The entry with all its keys. It takes those that are not set from `default`.
    fn resolved(&self, name: &str, default: &Provider) -> Provider {
        let names = |value: &Option<(Layer, Vec<Domain>)>| match value {
            Some((_, names)) => names.clone(),
            None => Vec::new(),
        };
        let replies = self.replies.as_ref().unwrap_or(&default.replies);
        Provider {
            name: name.to_owned(),
            mx: names(&self.mx),
            domains: names(&self.domains),
            rollup: self.rollup.unwrap_or(true),
            connections: self.connections.unwrap_or(default.connections),
            messages_per_connection: self
                .messages_per_connection
                .unwrap_or(default.messages_per_connection),
            recipients_per_transaction: self
                .recipients_per_transaction
                .unwrap_or(default.recipients_per_transaction),
            rate: self.rate.unwrap_or(default.rate),
            connect_rate: self.connect_rate.unwrap_or(default.connect_rate),
            tls: self.tls.unwrap_or(default.tls),
            chunking: self.chunking.unwrap_or(default.chunking),
            source_pool: self
                .source_pool
                .clone()
                .or_else(|| default.source_pool.clone()),
            from: self.from.clone().unwrap_or_default(),
            replies: Arc::clone(replies),
        }
    }
}

/// Entries by name.
pub(crate) type Entries = BTreeMap<String, Entry>;

/// The entries in the program.
#[expect(clippy::expect_used, reason = "a constant, which the tests parse")]
static SHIPPED_ENTRIES: LazyLock<Entries> =
    LazyLock::new(|| parse_providers::shipped().expect("providers.toml has no errors"));

/// All entries of a configuration. Two are equal if their entries are.
#[derive(Clone, Debug)]
pub struct Providers {
    entries: Entries,
    /// The figures of `queue.per_destination`.
    per_destination: Arc<Provider>,
    default: Arc<Provider>,
    resolved: BTreeMap<String, Arc<Provider>>,
    by_domain: HashMap<Domain, Arc<Provider>>,
    /// By the names in `mx`.
    by_host: HashMap<String, Arc<Provider>>,
}

impl PartialEq for Providers {
    fn eq(&self, other: &Self) -> bool {
        self.entries == other.entries && self.per_destination == other.per_destination
    }
}

impl Providers {
    /// The shipped entries, with the figures of `queue.per_destination` in `default`.
    pub(crate) fn shipped(limits: &PerDestination) -> Self {
        let per_destination = Provider {
            name: DEFAULT.to_owned(),
            mx: Vec::new(),
            domains: Vec::new(),
            rollup: false,
            connections: limits.connections,
            messages_per_connection: limits.messages_per_connection,
            recipients_per_transaction: limits.recipients_per_transaction,
            rate: None,
            connect_rate: None,
            tls: ProviderTls::Opportunistic,
            chunking: true,
            source_pool: None,
            from: String::new(),
            replies: Arc::default(),
        };
        Self::of(SHIPPED_ENTRIES.clone(), Arc::new(per_destination))
    }

    /// These entries under those of a stronger layer.
    pub(crate) fn under(&self, stronger: Entries) -> Self {
        let mut entries = self.entries.clone();
        for (name, entry) in stronger {
            let weaker = entries.remove(&name).unwrap_or_default();
            entries.insert(name, weaker.under(entry));
        }
        Self::of(entries, Arc::clone(&self.per_destination))
    }

    fn of(entries: Entries, per_destination: Arc<Provider>) -> Self {
        let default = match entries.get(DEFAULT) {
            Some(entry) => Provider {
                rollup: false,
                ..entry.resolved(DEFAULT, &per_destination)
            },
            None => Provider::clone(&per_destination),
        };
        let default = Arc::new(default);
        let resolved: BTreeMap<String, Arc<Provider>> = entries
            .iter()
            .filter(|(name, _)| *name != DEFAULT)
            .map(|(name, entry)| (name.clone(), Arc::new(entry.resolved(name, &default))))
            .collect();
        // What a stronger layer says of a name comes last, and stays.
        let mut hosts = Vec::new();
        let mut domains = Vec::new();
        for (name, provider) in &resolved {
            let entry = entries.get(name);
            let of_mx = entry.and_then(|entry| Some(entry.mx.as_ref()?.0));
            let of_domains = entry.and_then(|entry| Some(entry.domains.as_ref()?.0));
            hosts.extend(provider.mx.iter().map(|host| (of_mx, host, provider)));
            domains.extend(provider.domains.iter().map(|it| (of_domains, it, provider)));
        }
        hosts.sort_by_key(|(layer, ..)| *layer);
        domains.sort_by_key(|(layer, ..)| *layer);
        let hosts = hosts.into_iter();
        let domains = domains.into_iter();
        Self {
            by_host: hosts
                .map(|(_, host, provider)| (host.ascii().to_owned(), Arc::clone(provider)))
                .collect(),
            by_domain: domains
                .map(|(_, domain, provider)| (domain.clone(), Arc::clone(provider)))
                .collect(),
            entries,
            per_destination,
            default,
            resolved,
        }
    }

    /// The entry for mail to a domain with these MX hosts, in lower case: by the domain, else by
    /// the longest name that all hosts match, else `default`.
    #[must_use]
    pub fn find(&self, domain: &Domain, hosts: &[&str]) -> &Arc<Provider> {
        if let Some(provider) = self.by_domain.get(domain) {
            return provider;
        }
        let first = hosts.first().copied().unwrap_or("");
        let labels = first.match_indices('.').map(|(at, _)| at + 1);
        let names = std::iter::once(0).chain(labels);
        let names = names.filter_map(|at| first.get(at..));
        let candidates = names.filter_map(|name| self.by_host.get(name));
        candidates
            .filter_map(|provider| Some((provider.match_length(hosts)?, provider)))
            .max_by(|(a, one), (b, other)| a.cmp(b).then_with(|| other.name.cmp(&one.name)))
            .map_or(&self.default, |(_, provider)| provider)
    }

    /// The entry `default`, for hosts that no other entry is for.
    #[must_use]
    pub const fn default(&self) -> &Arc<Provider> {
        &self.default
    }

    /// The figures of `queue.per_destination`, for hosts that the configuration names. Other
    /// people's figures are not for them.
    #[must_use]
    pub const fn per_destination(&self) -> &Arc<Provider> {
        &self.per_destination
    }

    /// All entries but `default`, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Provider>> {
        self.resolved.values()
    }

    /// The names of all entries.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Whether there is an entry of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_ignore_case_also_those_that_need_the_tables_of_unicode() {
        for (pattern, reply, expected) in [
            (r"^4\d\d slow", "421 Slow down", true),
            (r"^4\d\d slow", "521 slow down", false),
            ("gesperrt für", "550 GESPERRT für 1 h", true),
            (r"\bgesperrt f[üu]r\b", "550 Gesperrt FÜR 1 h", true),
        ] {
            let rule = ReplyRule {
                pattern: pattern.to_owned(),
                class: Class::Blocked,
                scope: ReplyScope::Source,
                rest: None,
            };
            let rules = ReplyRules::new(vec![rule]).unwrap();
            assert_eq!(rules.find(reply).is_some(), expected, "{pattern} {reply}");
        }
    }
}
