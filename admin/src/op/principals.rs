//! Principals: accounts, lists (aliases), domains and keys of the management API, each with a
//! number that never changes.

use std::collections::BTreeMap;

use postrider_config::{Account, DestinationAddress, Dynamic, Right, Tenant};
use postrider_receive::login::Reach;
use postrider_smtp::{Address, Domain};
use postrider_store::{ApiKey, PrincipalKind, PrincipalName, Scope};
use serde::{Deserialize, Serialize};

use super::{Operation, Sink};
use crate::{AdminError, Context};

/// The type of a shared mailbox in the management API: an account in which nobody logs in.
pub const SHARED: &str = "group";

/// The message for those who log in to a shared mailbox. An account that has it is one.
pub const SHARED_MAILBOX: &str = "this is a shared mailbox";

/// The kinds of principals, by the names that clients know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// An account.
    Individual,
    /// An alias with members.
    List,
    /// A domain.
    Domain,
    /// A key for the management API.
    ApiKey,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Individual, Self::List, Self::Domain, Self::ApiKey];

    /// The name in the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Individual => "individual",
            Self::List => "list",
            Self::Domain => "domain",
            Self::ApiKey => "apiKey",
        }
    }

    /// The name by which the store knows the number of a principal. `handle` is that of
    /// [`PrincipalItem::handle`], and the id of a key.
    pub(crate) fn known_as(self, handle: &str) -> PrincipalName {
        let address = || Address::parse(handle).map(|address| address.to_string());
        let domain = || Domain::parse(handle).map(|domain| domain.ascii().to_owned());
        let (kind, name) = match self {
            Self::Individual => (PrincipalKind::Account, None),
            Self::List => (PrincipalKind::List, address().ok()),
            Self::Domain => (PrincipalKind::Domain, domain().ok()),
            Self::ApiKey => (PrincipalKind::Key, None),
        };
        PrincipalName {
            kind,
            name: name.unwrap_or_else(|| handle.to_owned()),
        }
    }
}

/// A principal. Addresses are in their Unicode form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrincipalItem {
    /// The number. No other principal ever has the same one.
    pub id: u64,
    /// The kind.
    pub kind: Kind,
    /// The name of an account or a key, the name of a list or else its address, or a domain.
    pub name: String,
    /// The description.
    pub description: String,
    /// The addresses. The first is the main one.
    pub emails: Vec<String>,
    /// The largest size of all mail in bytes; 0: no limit.
    pub quota: u64,
    /// The lists that an account is a member of.
    pub lists: Vec<String>,
    /// The accounts that are members of a list, or that may send in the name of a shared mailbox.
    pub members: Vec<String>,
    /// The account is a shared mailbox, in which nobody logs in.
    #[serde(default)]
    pub shared: bool,
    /// Web pages about an account or a list.
    #[serde(default)]
    pub urls: Vec<String>,
    /// How many addresses a domain has.
    pub addresses: u64,
    /// Whether logins of an account are refused.
    pub suspended: bool,
    /// The scopes of a key.
    pub scopes: Vec<Scope>,
    /// The domains of the key of a tenant.
    pub domains: Vec<String>,
    /// The tenant whose domains the key has, or whose domain it is; empty: none.
    #[serde(default)]
    pub tenant: String,
}

impl PrincipalItem {
    fn new(kind: Kind, name: String) -> Self {
        Self {
            id: 0,
            kind,
            name,
            description: String::new(),
            emails: Vec::new(),
            quota: 0,
            lists: Vec::new(),
            members: Vec::new(),
            shared: false,
            urls: Vec::new(),
            addresses: 0,
            suspended: false,
            scopes: Vec::new(),
            domains: Vec::new(),
            tenant: String::new(),
        }
    }

    fn account(name: &str, account: &Account) -> Self {
        // The address that begins with the name is the main one.
        let mut emails: Vec<String> = account.destinations.keys().map(shown).collect();
        let own = format!("{name}@{}", account.domain.unicode());
        emails.sort_by_key(|email| *email != own);
        let shared = account.login_disabled == SHARED_MAILBOX;
        let shares = account.shared_with.iter();
        let senders = shares.filter(|(_, right)| **right == Right::Send);
        Self {
            description: account.description.clone(),
            emails,
            quota: account.quota.map_or(0, |quota| quota.0),
            urls: account.urls.clone(),
            members: match shared {
                true => senders.map(|(name, _)| name.clone()).collect(),
                false => Vec::new(),
            },
            shared,
            suspended: !shared && !account.login_disabled.is_empty(),
            ..Self::new(Kind::Individual, name.to_owned())
        }
    }

    /// The type in the management API.
    #[must_use]
    pub const fn type_name(&self) -> &'static str {
        match self.shared {
            true => SHARED,
            false => self.kind.name(),
        }
    }

    /// The name by which operations know the principal: the address of a list, else the name.
    #[must_use]
    pub fn handle(&self) -> &str {
        match (self.kind, self.emails.first()) {
            (Kind::List, Some(address)) => address,
            _ => &self.name,
        }
    }

    /// The things that a key sees, without the present domains of its tenant. None: they can't be
    /// read, and may be everything.
    pub(crate) fn reach(&self) -> Option<Reach> {
        let domains = self.domains.iter().map(|it| Domain::parse(it));
        let tenant = match self.tenant.as_str() {
            "" => None,
            tenant => Some(Tenant::parse(tenant).ok()?),
        };
        Some(Reach {
            domains: domains.collect::<Result<_, _>>().ok()?,
            tenant,
        })
    }

    /// Whether all words are in the name, an address or the description. Case does not count.
    #[must_use]
    pub fn has_words(&self, words: &str) -> bool {
        let texts = self.emails.iter().chain([&self.name, &self.description]);
        let texts: Vec<String> = texts.map(|text| text.to_lowercase()).collect();
        let words = words.to_lowercase();
        let mut words = words.split_whitespace();
        words.all(|word| texts.iter().any(|text| text.contains(word)))
    }

    fn key(key: &ApiKey) -> Self {
        Self {
            scopes: key.scopes.clone(),
            domains: key.domains.clone(),
            tenant: key.tenant.clone(),
            ..Self::new(Kind::ApiKey, key.name.clone())
        }
    }
}

fn shown(address: &DestinationAddress) -> String {
    match address {
        DestinationAddress::Address(address) => address.unicode(),
        DestinationAddress::CatchAll(domain) => format!("@{}", domain.unicode()),
    }
}

/// Lists principals, by their numbers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// Principals of these kinds; empty: of all kinds.
    pub kinds: Vec<Kind>,
}

impl Operation for List {
    type Item = PrincipalItem;

    async fn run(
        self,
        context: &Context,
        items: &mut impl Sink<PrincipalItem>,
    ) -> Result<(), AdminError> {
        let config = context.config.load_full();
        let mut named = of_config(&config);
        for key in context.store.api_keys().await? {
            if key.scopes.iter().any(|scope| scope.is_management()) {
                named.push((key.id.to_string(), PrincipalItem::key(&key)));
            }
        }
        let wanted = |kind| self.kinds.is_empty() || self.kinds.contains(&kind);
        named.retain(|(_, item)| wanted(item.kind));
        let names: Vec<PrincipalName> = named
            .iter()
            .map(|(handle, item)| item.kind.known_as(handle))
            .collect();
        let ids = context.store.principal_ids(&names).await?;
        let with_ids = named.into_iter().zip(ids);
        let mut listed: Vec<PrincipalItem> = with_ids
            .map(|((_, item), id)| PrincipalItem { id: id.0, ..item })
            .collect();
        listed.sort_by_key(|item| item.id);
        items.send(listed).await
    }
}

/// The principals of the configuration, each with the name by which its number is known.
fn of_config(config: &Dynamic) -> Vec<(String, PrincipalItem)> {
    let accounts = config.accounts.iter();
    let mut accounts: BTreeMap<&str, PrincipalItem> = accounts
        .map(|(name, account)| (name.as_str(), PrincipalItem::account(name, account)))
        .collect();
    let mut named = Vec::new();
    for (domain, settings) in &config.domains {
        let name = domain.unicode();
        let mut item = PrincipalItem::new(Kind::Domain, name);
        item.description.clone_from(&settings.description);
        item.addresses = addresses(config, domain);
        item.tenant = settings
            .tenant
            .as_ref()
            .map_or_else(String::new, ToString::to_string);
        named.push((domain.ascii().to_owned(), item));
        for (local, alias) in &settings.aliases {
            let address = Address {
                local: local.clone(),
                host: domain.clone().into(),
            };
            let name = alias.name.clone().unwrap_or_else(|| address.unicode());
            let mut item = PrincipalItem::new(Kind::List, name.clone());
            item.description.clone_from(&alias.description);
            item.urls.clone_from(&alias.urls);
            for member in &alias.addresses {
                let owner = config.destination(member).map(|(owner, _)| owner);
                let owner = owner.and_then(|owner| accounts.get_mut(owner));
                if let Some(owner) = owner.filter(|owner| !owner.lists.contains(&name)) {
                    owner.lists.push(name.clone());
                    item.members.push(owner.name.clone());
                }
            }
            item.emails.push(address.unicode());
            named.push((address.to_string(), item));
        }
    }
    let accounts = accounts.into_iter();
    named.extend(accounts.map(|(name, item)| (name.to_owned(), item)));
    named
}

/// How many addresses of accounts a domain has.
fn addresses(config: &Dynamic, domain: &Domain) -> u64 {
    let keys = config.accounts.values();
    let keys = keys.flat_map(|account| account.destinations.keys());
    let own = keys.filter(|key| match key {
        DestinationAddress::Address(address) => address.host.domain() == Some(domain),
        DestinationAddress::CatchAll(of) => of == domain,
    });
    own.count() as u64
}

/// Asks how many bytes the mail of an account takes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Usage {
    /// The account.
    pub account: String,
}

/// The size of the mail of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    /// In bytes.
    pub bytes: u64,
}

impl super::Single for Usage {
    type Output = Used;

    async fn answer(self, context: &Context) -> Result<Used, AdminError> {
        let usage = context.store.mail_usage(&self.account).await?;
        Ok(Used { bytes: usage.bytes })
    }
}
