//! Who gets mail for an address, who may log in with it, who may send from it, and by which transport it goes.
//!
//! Everything is found in hash maps made when the file is read; a look-up allocates only for a local-part with capitals.

use std::{
    borrow::Cow,
    collections::{HashMap, hash_map::Entry},
};

use postrider_smtp::{Address, Domain, Host, LocalPart};

use crate::{
    dynamics::{Account, Alias, Destination, DomainConfig, Dynamic, ReportAddress, Route},
    statics::Static,
    values::DestinationAddress,
};

/// What an address stands for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found<'a> {
    /// Its domain; `None` for postmaster at a hostname that is no domain of the configuration.
    pub domain: Option<&'a DomainConfig>,
    /// What stood behind the separator, as typed. The candidate of a fromid.
    pub tail: Option<&'a str>,
    /// Who gets the mail.
    pub target: Target<'a>,
}

impl<'a> Found<'a> {
    /// Whether the domain is disabled, so that no mail is taken for it now.
    #[must_use]
    pub fn disabled(&self) -> bool {
        self.domain.is_some_and(|domain| domain.disabled)
    }

    /// The account's name; `None` for an alias.
    #[must_use]
    pub const fn account(&self) -> Option<&'a str> {
        match self.target {
            Target::Account { name, .. } => Some(name),
            Target::Alias { .. } => None,
        }
    }
}

/// Who gets mail.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target<'a> {
    /// An account.
    Account {
        /// Its name.
        name: &'a str,
        /// Its configuration.
        account: &'a Account,
        /// Its destination that matched.
        destination: &'a Destination,
        /// Why it matched.
        by: Match,
    },
    /// The members of a list.
    Alias {
        /// Its local-part, as configured.
        local: &'a LocalPart,
        /// Its configuration.
        alias: &'a Alias,
    },
}

/// Why an account gets mail for an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// It is a destination.
    Exact,
    /// No destination is, and the account takes the rest of the domain.
    CatchAll,
    /// Reports of DMARC or TLS are sent there.
    Report,
    /// It is postmaster at the hostname, for which nobody may log in or send.
    Postmaster,
}

/// A login name that belongs to an account.
#[derive(Clone, Debug, PartialEq)]
pub struct LoginName<'a> {
    /// The account.
    pub account: &'a str,
    /// Its configuration; `login_disabled` is for the caller to look at, when the password was right.
    pub config: &'a Account,
    /// The address as typed, with its case and what stands behind a separator.
    pub address: Address,
}

/// Hash maps over a [`Dynamic`]. Names are kept, not references, so that the value can be cloned.
#[derive(Clone, Debug, Default)]
pub(crate) struct Index {
    domains: HashMap<Domain, DomainIndex>,
    hostname: Option<Domain>,
    postmaster: String,
    postmaster_destination: Destination,
}

#[derive(Clone, Debug, Default)]
struct DomainIndex {
    /// By folded local-part.
    locals: HashMap<Box<str>, Entity>,
    /// The account, and its destination's key.
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
pub(crate) enum Taken {
    /// It is not unique: who has it.
    By(String),
    /// Its domain is not configured.
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
        }
    }

    pub(crate) fn add_destination(
        &mut self,
        config: Option<&DomainConfig>,
        account: &str,
        key: &DestinationAddress,
    ) -> Result<(), Taken> {
        match key {
            DestinationAddress::CatchAll(domain) => {
                let index = self.domains.get_mut(domain).ok_or(Taken::NoDomain)?;
                match &index.catch_all {
                    Some((other, _)) => Err(Taken::By(format!("account {other:?} has it"))),
                    None => {
                        index.catch_all = Some((account.to_owned(), key.clone()));
                        Ok(())
                    }
                }
            }
            DestinationAddress::Address(address) => {
                let domain = address.host.domain().ok_or(Taken::NoDomain)?;
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
    ) -> Result<(), Taken> {
        self.add(Some(config), domain, local, Entity::Alias(local.clone()))
    }

    /// A report address may also be a destination of the same account, which then wins.
    pub(crate) fn add_report(
        &mut self,
        config: Option<&DomainConfig>,
        report: &ReportAddress,
    ) -> Result<(), Taken> {
        let index = self.domains.get(&report.domain).ok_or(Taken::NoDomain)?;
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

    /// The account whose own address it is. Report addresses are not for sending, and an alias belongs to several.
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

    /// Whether it is a destination of some account, by itself and not by a catch-all.
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
    ) -> Result<(), Taken> {
        let index = self.domains.get_mut(domain).ok_or(Taken::NoDomain)?;
        match index.locals.entry(fold(config, local.as_str()).into()) {
            Entry::Occupied(entry) => Err(Taken::By(entry.get().owner())),
            Entry::Vacant(entry) => {
                entry.insert(entity);
                Ok(())
            }
        }
    }
}

/// A local-part as it is compared in its domain.
fn fold<'a>(config: Option<&DomainConfig>, local: &'a str) -> Cow<'a, str> {
    let sensitive = config.is_some_and(|config| config.localpart_case_sensitive);
    let lower = |c: char| {
        if c.is_ascii() {
            !c.is_ascii_uppercase()
        } else {
            // What has no single lower-case form, or another one, takes the slow way.
            let mut lower = c.to_lowercase();
            lower.next() == Some(c) && lower.next().is_none()
        }
    };
    if sensitive || local.chars().all(lower) {
        Cow::Borrowed(local)
    } else {
        Cow::Owned(local.to_lowercase())
    }
}

/// Cuts at each separator in turn. A separator at the very beginning does not count, since nothing would be left.
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
    /// What an address stands for: the local-part is cut at the domain's separators in turn and, unless the domain says otherwise,
    /// compared without regard to case; then destinations and aliases count before the domain's catch-all.
    #[must_use]
    pub fn lookup<'a>(&'a self, address: &'a Address) -> Option<Found<'a>> {
        let domain = address.host.domain()?;
        self.lookup_configured(domain, &address.local)
            .or_else(|| self.lookup_postmaster(domain, &address.local))
    }

    /// Who gets mail to the empty `<postmaster>` (RFC 5321 §4.1.1.3).
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
                    by: Match::Report,
                })
            }
            Some(Entity::Alias(local)) => {
                let (local, alias) = config.aliases.get_key_value(local)?;
                found(Target::Alias { local, alias })
            }
            None => {
                let (account, key) = index.catch_all.as_ref()?;
                found(self.target(account, key, Match::CatchAll)?)
            }
        }
    }

    fn target(&self, account: &str, key: &DestinationAddress, by: Match) -> Option<Target<'_>> {
        let (name, account) = self.accounts.get_key_value(account)?;
        Some(Target::Account {
            name,
            account,
            destination: account.destinations.get(key)?,
            by,
        })
    }

    fn lookup_postmaster(&self, domain: &Domain, local: &LocalPart) -> Option<Found<'_>> {
        let own = self.index.hostname.as_ref() == Some(domain);
        (own && local.as_str().eq_ignore_ascii_case("postmaster"))
            .then(|| self.postmaster())
            .flatten()
            .map(|found| Found {
                domain: self.domains.get(domain),
                ..found
            })
    }

    /// The account that a login name belongs to: an address of it, also with something behind a separator, or one that its catch-all takes.
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

    /// The account whose own address it is.
    fn owner(&self, address: &Address) -> Option<&str> {
        let config = self.domains.get(address.host.domain()?)?;
        self.index.owner(config, address)
    }

    /// Whether an account may use an address as sender: its own addresses, and aliases with `allow_msg_from` of which it is a member.
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

    /// Whether a login with this address gives each message its own fromid: domains are compared as ever, the local-part exactly,
    /// with what stands behind a separator.
    #[must_use]
    pub fn uses_from_id(&self, account: &str, login: &Address) -> bool {
        self.accounts
            .get(account)
            .is_some_and(|account| account.from_id_login_addresses.contains(login))
    }

    /// The transport for an attempt: the first route that matches, of the account, then of the sender's domain, then of all.
    /// `None`: straight to the MX hosts. `from` is `None` for a null reverse-path, `to` for an address literal.
    #[must_use]
    pub fn routes_for(
        &self,
        account: &str,
        from: Option<&Domain>,
        to: Option<&Domain>,
        attempts: u32,
    ) -> Option<&str> {
        let of_account = self.accounts.get(account).map(|account| &account.routes);
        let of_domain = from
            .and_then(|domain| self.domains.get(domain))
            .map(|domain| &domain.routes);
        [of_account, of_domain, Some(&self.routes)]
            .into_iter()
            .flatten()
            .flatten()
            .find(|route| route.matches(from, to, attempts))
            .map(|route| route.transport.as_str())
    }

    /// Whether mail for a host comes here, so that it need not go through the queue to be delivered.
    #[must_use]
    pub fn is_local(&self, host: &Host) -> bool {
        host.domain()
            .is_some_and(|domain| self.domains.contains_key(domain))
    }
}

impl Route {
    fn matches(&self, from: Option<&Domain>, to: Option<&Domain>, attempts: u32) -> bool {
        let one_of = |patterns: &[crate::values::DomainPattern], domain: Option<&Domain>| {
            patterns.is_empty()
                || domain.is_some_and(|domain| patterns.iter().any(|p| p.matches(domain)))
        };
        attempts >= self.minimum_attempts
            && one_of(&self.from_domain, from)
            && one_of(&self.to_domain, to)
    }
}
