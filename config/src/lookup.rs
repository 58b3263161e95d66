//! Questions to the configuration about an address: the account or alias that gets its mail, the
//! account that may log in with it or send from it, and the transport of a message.
//!
//! The hash maps are made when the file is read. A look-up allocates only for a local-part with
//! capitals.

use std::{
    borrow::Cow,
    collections::{HashMap, hash_map::Entry},
};

use postrider_smtp::{Address, Domain, Host, LocalPart};
use unicode_normalization::UnicodeNormalization;

use crate::{
    dynamics::{Account, Alias, Destination, DomainConfig, Dynamic, ReportAddress},
    statics::Static,
    values::DestinationAddress,
};

/// The result of a look-up of an address.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found<'a> {
    /// The domain of the address. None for postmaster at a hostname that is not a configured
    /// domain.
    pub domain: Option<&'a DomainConfig>,
    /// The part behind the separator, as typed. It may be a fromid.
    pub tail: Option<&'a str>,
    /// The account or alias that gets the mail.
    pub target: Target<'a>,
}

impl<'a> Found<'a> {
    /// Whether the domain is disabled. Then it receives no mail.
    #[must_use]
    pub fn disabled(&self) -> bool {
        self.domain.is_some_and(|domain| domain.disabled)
    }

    /// The name of the account. None for an alias.
    #[must_use]
    pub const fn account(&self) -> Option<&'a str> {
        match self.target {
            Target::Account { name, .. } => Some(name),
            Target::Alias { .. } => None,
        }
    }
}

/// An account or an alias that gets mail.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target<'a> {
    /// An account.
    Account {
        /// Its name.
        name: &'a str,
        /// Its configuration.
        account: &'a Account,
        /// The destination that matched.
        destination: &'a Destination,
        /// The key of the destination. None if the account has no such destination: for mail to the
        /// postmaster, and for reports.
        key: Option<&'a DestinationAddress>,
        /// Why the account gets the mail.
        by: Match,
    },
    /// The members of an alias.
    Alias {
        /// The local-part of the alias, as configured.
        local: &'a LocalPart,
        /// Its configuration.
        alias: &'a Alias,
    },
}

/// Why an account gets mail for an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// The address is a destination of the account.
    Exact,
    /// No account has the address as destination, and the account has the catch-all of the domain.
    CatchAll,
    /// The address receives DMARC or TLS reports, about a domain or about the server itself.
    Report,
    /// The address is postmaster or abuse at a domain without such an address, and the postmaster
    /// of the server gets the mail. The address is not valid for a login or as sender.
    Postmaster,
}

/// A login name with its account.
#[derive(Clone, Debug, PartialEq)]
pub struct LoginName<'a> {
    /// The account.
    pub account: &'a str,
    /// The configuration of the account. The caller checks `login_disabled` after the password.
    pub config: &'a Account,
    /// The address as typed, with its case and the part behind a separator.
    pub address: Address,
}

/// Hash maps over a [`Dynamic`]. They hold names and not references, so that the value can be
/// cloned.
#[derive(Clone, Debug, Default)]
pub(crate) struct Index {
    domains: HashMap<Domain, DomainIndex>,
    hostname: Option<Domain>,
    postmaster: String,
    postmaster_destination: Destination,
    host_reports: Option<HostReportIndex>,
}

/// The address for reports at the hostname.
#[derive(Clone, Debug)]
struct HostReportIndex {
    localpart: LocalPart,
    account: String,
    destination: Destination,
}

#[derive(Clone, Debug, Default)]
struct DomainIndex {
    /// The owner of each local-part, by folded local-part.
    locals: HashMap<Box<str>, Entity>,
    /// The account with the catch-all, and the key of the destination.
    catch_all: Option<(String, DestinationAddress)>,
}

#[derive(Clone, Debug)]
enum Entity {
    Destination {
        account: String,
        key: DestinationAddress,
    },
    Report {
        account: String,
        destination: Box<Destination>,
    },
    Alias(LocalPart),
}

/// Why an address cannot be added to an index.
#[derive(Debug)]
pub(crate) enum AddressConflict {
    /// The address is not unique. The text names its owner.
    By(String),
    /// The domain of the address is not configured.
    NoDomain,
}

impl Entity {
    fn owner(&self) -> String {
        match self {
            Self::Destination { account, key } => {
                format!("account {account:?} has it as destination \"{key}\"")
            }
            Self::Report { account, .. } => {
                format!("it is the address for reports to account {account:?}")
            }
            Self::Alias(local) => format!("alias \"{local}\" of its domain has it"),
        }
    }
}

impl Index {
    pub(crate) fn new<'a>(statics: &Static, domains: impl Iterator<Item = &'a Domain>) -> Self {
        Self {
            domains: domains
                .map(|domain| (domain.clone(), DomainIndex::default()))
                .collect(),
            hostname: Some(statics.hostname.clone()),
            postmaster: statics.postmaster.account.clone(),
            postmaster_destination: Destination {
                mailbox: statics.postmaster.mailbox.clone(),
                ..Destination::default()
            },
            host_reports: statics
                .host_tls_rpt
                .as_ref()
                .map(|reports| HostReportIndex {
                    localpart: reports.localpart.clone(),
                    account: reports.account.clone(),
                    destination: Destination {
                        mailbox: reports.mailbox.clone(),
                        ..Destination::default()
                    },
                }),
        }
    }

    pub(crate) fn add_destination(
        &mut self,
        config: Option<&DomainConfig>,
        account: &str,
        key: &DestinationAddress,
    ) -> Result<(), AddressConflict> {
        match key {
            DestinationAddress::CatchAll(domain) => {
                let index = self
                    .domains
                    .get_mut(domain)
                    .ok_or(AddressConflict::NoDomain)?;
                match &index.catch_all {
                    Some((other, _)) => {
                        Err(AddressConflict::By(format!("account {other:?} has it")))
                    }
                    None => {
                        index.catch_all = Some((account.to_owned(), key.clone()));
                        Ok(())
                    }
                }
            }
            DestinationAddress::Address(address) => {
                let domain = address.host.domain().ok_or(AddressConflict::NoDomain)?;
                self.add(
                    config,
                    domain,
                    &address.local,
                    Entity::Destination {
                        account: account.to_owned(),
                        key: key.clone(),
                    },
                )
            }
        }
    }

    pub(crate) fn add_alias(
        &mut self,
        config: &DomainConfig,
        domain: &Domain,
        local: &LocalPart,
    ) -> Result<(), AddressConflict> {
        self.add(Some(config), domain, local, Entity::Alias(local.clone()))
    }

    /// Adds a report address. It may also be a destination of the same account. Then the
    /// destination wins.
    pub(crate) fn add_report(
        &mut self,
        config: Option<&DomainConfig>,
        report: &ReportAddress,
    ) -> Result<(), AddressConflict> {
        let index = self
            .domains
            .get(&report.domain)
            .ok_or(AddressConflict::NoDomain)?;
        let local = fold(config, report.localpart.as_str());
        match index.locals.get(&*local) {
            Some(Entity::Destination { account, .. } | Entity::Report { account, .. })
                if *account == report.account =>
            {
                Ok(())
            }
            _ => self.add(
                config,
                &report.domain,
                &report.localpart,
                Entity::Report {
                    account: report.account.clone(),
                    destination: Box::new(Destination {
                        mailbox: report.mailbox.clone(),
                        ..Destination::default()
                    }),
                },
            ),
        }
    }

    /// The account that owns an address. A report address has no owner, and an alias belongs to
    /// several accounts.
    pub(crate) fn owner(&self, config: &DomainConfig, address: &Address) -> Option<&str> {
        let index = self.domains.get(address.host.domain()?)?;
        let (base, _) = cut(config, address.local.as_str());
        match index.locals.get(&*fold(Some(config), base)) {
            Some(Entity::Destination { account, .. }) => Some(account),
            Some(Entity::Report { .. } | Entity::Alias(_)) => None,
            None => index
                .catch_all
                .as_ref()
                .map(|(account, _)| account.as_str()),
        }
    }

    /// The key of the destination that gets mail for an address. None if there is none.
    pub(crate) fn key_of(
        &self,
        config: &DomainConfig,
        address: &Address,
    ) -> Option<&DestinationAddress> {
        let index = self.domains.get(address.host.domain()?)?;
        let (base, _) = cut(config, address.local.as_str());
        match index.locals.get(&*fold(Some(config), base)) {
            Some(Entity::Destination { key, .. }) => Some(key),
            Some(Entity::Report { .. } | Entity::Alias(_)) => None,
            None => index.catch_all.as_ref().map(|(_, key)| key),
        }
    }

    /// Whether an address is a destination of an account. A catch-all does not count.
    pub(crate) fn is_destination(&self, config: Option<&DomainConfig>, address: &Address) -> bool {
        let index = address
            .host
            .domain()
            .and_then(|domain| self.domains.get(domain));
        index.is_some_and(|index| {
            let entity = index.locals.get(&*fold(config, address.local.as_str()));
            matches!(entity, Some(Entity::Destination { .. }))
        })
    }

    fn add(
        &mut self,
        config: Option<&DomainConfig>,
        domain: &Domain,
        local: &LocalPart,
        entity: Entity,
    ) -> Result<(), AddressConflict> {
        let index = self
            .domains
            .get_mut(domain)
            .ok_or(AddressConflict::NoDomain)?;
        match index.locals.entry(fold(config, local.as_str()).into()) {
            Entry::Occupied(entry) => Err(AddressConflict::By(entry.get().owner())),
            Entry::Vacant(entry) => {
                entry.insert(entity);
                Ok(())
            }
        }
    }
}

/// The form of a local-part in which its domain compares it: NFC, and in lower case unless the
/// domain is case-sensitive. The names that each domain has are without case everywhere (RFC 5321
/// §4.5.1).
fn fold<'a>(config: Option<&DomainConfig>, local: &'a str) -> Cow<'a, str> {
    let sensitive = config.is_some_and(|config| config.localpart_case_sensitive);
    let sensitive = sensitive && !is_required(local);
    if local.is_ascii() {
        return match sensitive || !local.bytes().any(|byte| byte.is_ascii_uppercase()) {
            true => Cow::Borrowed(local),
            false => Cow::Owned(local.to_ascii_lowercase()),
        };
    }
    let text = match sensitive {
        true => local.nfc().collect(),
        // A letter in lower case may compose with what follows.
        false => local.to_lowercase().nfc().collect(),
    };
    Cow::Owned(text)
}

/// Whether each domain takes mail for a local-part: postmaster (RFC 5321 §4.5.1) and abuse (RFC
/// 2142 §2). Without an address of that name, the postmaster of the server gets the mail.
fn is_required(local: &str) -> bool {
    let names = ["postmaster", "abuse"];
    names.iter().any(|name| local.eq_ignore_ascii_case(name))
}

/// Cuts a local-part at each separator in turn. A separator at the beginning does not count,
/// because nothing would be left.
fn cut<'a>(config: &DomainConfig, local: &'a str) -> (&'a str, Option<&'a str>) {
    let mut base = local;
    let mut tail = None;
    for separator in &config.localpart_catchall_separators {
        if let Some(at) = base.find(separator.as_str()).filter(|at| *at > 0) {
            tail = local.get(at + separator.len()..);
            base = base.get(..at).unwrap_or(base);
        }
    }
    (base, tail)
}

impl Dynamic {
    /// The account or alias that gets mail for an address.
    ///
    /// The local-part is cut at the domain's separators in turn. It is compared without regard to
    /// case, unless the domain is case-sensitive. Destinations and aliases come before the
    /// catch-all of the domain. Without these, the postmaster of the server gets the mail for
    /// postmaster and abuse.
    #[must_use]
    pub fn lookup<'a>(&'a self, address: &'a Address) -> Option<Found<'a>> {
        let domain = address.host.domain()?;
        self.lookup_configured(domain, &address.local)
            .or_else(|| self.lookup_host_reports(domain, &address.local))
            .or_else(|| self.lookup_postmaster(domain, &address.local))
    }

    /// The account that gets mail to `<postmaster>` without a domain (RFC 5321 §4.1.1.3).
    #[must_use]
    pub fn postmaster(&self) -> Option<Found<'_>> {
        let (name, account) = self.accounts.get_key_value(&self.index.postmaster)?;
        Some(Found {
            domain: None,
            tail: None,
            target: Target::Account {
                name,
                account,
                destination: &self.index.postmaster_destination,
                key: None,
                by: Match::Postmaster,
            },
        })
    }

    fn lookup_configured<'a>(&'a self, domain: &Domain, local: &'a LocalPart) -> Option<Found<'a>> {
        let index = self.index.domains.get(domain)?;
        let config = self.domains.get(domain)?;
        let (base, tail) = cut(config, local.as_str());
        let found = |target| {
            Some(Found {
                domain: Some(config),
                tail,
                target,
            })
        };
        match index.locals.get(&*fold(Some(config), base)) {
            Some(Entity::Destination { account, key }) => {
                found(self.target(account, key, Match::Exact)?)
            }
            Some(Entity::Report {
                account,
                destination,
            }) => {
                let (name, account) = self.accounts.get_key_value(account)?;
                found(Target::Account {
                    name,
                    account,
                    destination,
                    key: None,
                    by: Match::Report,
                })
            }
            Some(Entity::Alias(local)) => {
                let (local, alias) = config.aliases.get_key_value(local)?;
                found(Target::Alias { local, alias })
            }
            None => match &index.catch_all {
                Some((account, key)) => found(self.target(account, key, Match::CatchAll)?),
                None if is_required(base) => found(self.postmaster()?.target),
                None => None,
            },
        }
    }

    fn target(&self, account: &str, key: &DestinationAddress, by: Match) -> Option<Target<'_>> {
        let (name, account) = self.accounts.get_key_value(account)?;
        let (key, destination) = account.destinations.get_key_value(key)?;
        Some(Target::Account {
            name,
            account,
            destination,
            key: Some(key),
            by,
        })
    }

    /// The account for reports at the hostname, which need not be a configured domain.
    fn lookup_host_reports(&self, domain: &Domain, local: &LocalPart) -> Option<Found<'_>> {
        let reports = self.index.host_reports.as_ref()?;
        let own = self.index.hostname.as_ref() == Some(domain);
        let same = reports.localpart.as_str().to_lowercase() == local.as_str().to_lowercase();
        let (name, account) = self.accounts.get_key_value(&reports.account)?;
        (own && same).then_some(Found {
            domain: self.domains.get(domain),
            tail: None,
            target: Target::Account {
                name,
                account,
                destination: &reports.destination,
                key: None,
                by: Match::Report,
            },
        })
    }

    fn lookup_postmaster(&self, domain: &Domain, local: &LocalPart) -> Option<Found<'_>> {
        let own = self.index.hostname.as_ref() == Some(domain);
        (own && is_required(local.as_str()))
            .then(|| self.postmaster())
            .flatten()
            .map(|found| Found {
                domain: self.domains.get(domain),
                ..found
            })
    }

    /// The account of a login name. The name is an address of the account, perhaps with a part
    /// behind a separator, or an address of its catch-all.
    #[must_use]
    pub fn login(&self, user: &str) -> Option<LoginName<'_>> {
        let address = Address::parse(user).ok()?;
        let account = self.owner(&address)?;
        let (account, config) = self.accounts.get_key_value(account)?;
        Some(LoginName {
            account,
            config,
            address,
        })
    }

    /// The account that owns an address: as a destination, perhaps with a part behind a separator,
    /// or by the catch-all of the domain. A report address has no owner, and an alias belongs to
    /// several accounts.
    #[must_use]
    pub fn owner(&self, address: &Address) -> Option<&str> {
        let config = self.domains.get(address.host.domain()?)?;
        self.index.owner(config, address)
    }

    /// The account and the key of the destination with exactly this address. Case does not count,
    /// unless the domain is case-sensitive. A part behind a separator and the catch-all do not
    /// match.
    #[must_use]
    pub fn destination(&self, address: &Address) -> Option<(&str, &DestinationAddress)> {
        match self.entity(address)? {
            Entity::Destination { account, key } => Some((account, key)),
            Entity::Report { .. } | Entity::Alias(_) => None,
        }
    }

    /// Why an address can't be a new destination or alias, as a clause about the address. None if
    /// it can.
    #[must_use]
    pub fn taken(&self, address: &Address) -> Option<String> {
        self.entity(address).map(Entity::owner)
    }

    /// The form in which an address is compared with others of its domain: without the part behind
    /// a separator, and in lower case unless the domain is case-sensitive. None if the domain is
    /// not configured.
    #[must_use]
    pub fn canonical(&self, address: &Address) -> Option<String> {
        let domain = address.host.domain()?;
        let config = self.domains.get(domain)?;
        let (base, _) = cut(config, address.local.as_str());
        Some(format!("{}@{}", fold(Some(config), base), domain.ascii()))
    }

    /// Whether two addresses are the same to their domain: case may not count.
    #[must_use]
    pub fn is_same(&self, one: &Address, other: &Address) -> bool {
        one.host == other.host && self.plain(one) == self.plain(other)
    }

    /// The form of an address that all spellings of it have in common, to their domain. A part
    /// behind a separator stays.
    #[must_use]
    pub fn plain(&self, address: &Address) -> String {
        let domain = address.host.domain();
        let config = domain.and_then(|domain| self.domains.get(domain));
        let local = fold(config, address.local.as_str());
        format!("{local}@{}", address.host)
    }

    /// The owner of exactly this address.
    fn entity(&self, address: &Address) -> Option<&Entity> {
        let domain = address.host.domain()?;
        let local = fold(self.domains.get(domain), address.local.as_str());
        self.index.domains.get(domain)?.locals.get(&*local)
    }

    /// Whether an account may use an address as sender. It may use its own addresses, and the
    /// aliases with `allow_msg_from` that it is a member of.
    #[must_use]
    pub fn may_send_from(&self, account: &str, address: &Address) -> bool {
        if self.owner(address).is_some_and(|owner| owner == account) {
            return true;
        }
        match self.lookup(address).map(|found| found.target) {
            Some(Target::Alias { alias, .. }) => {
                alias.allow_msg_from
                    && alias
                        .addresses
                        .iter()
                        .any(|member| self.owner(member).is_some_and(|owner| owner == account))
            }
            _ => false,
        }
    }

    /// A sentence for a sender whose account may not use an address: the lines of domains.conf that
    /// would allow it.
    #[must_use]
    pub fn sender_advice(&self, account: &str, address: &Address) -> String {
        let shown = address.unicode();
        let domain = match address.host.domain() {
            Some(domain) if !self.domains.contains_key(domain) => {
                format!("[domains.{:?}] and ", domain.unicode())
            }
            _ => String::new(),
        };
        format!(
            "your account may not send from {shown}; {domain}accounts.{account}.destinations.{shown:?} = {{}} in \
             domains.conf would allow it"
        )
    }

    /// Whether each message from a login with this address gets its own fromid. The local-part must
    /// be the same in every character, the part behind a separator included.
    #[must_use]
    pub fn uses_from_id(&self, account: &str, login: &Address) -> bool {
        self.accounts
            .get(account)
            .is_some_and(|account| account.from_id_login_addresses.contains(login))
    }

    /// Whether mail for a host is delivered on this server, unless a route leads it elsewhere.
    #[must_use]
    pub fn is_local(&self, host: &Host) -> bool {
        host.domain()
            .is_some_and(|domain| self.domains.contains_key(domain))
    }
}
