//! The thing that a path names: a domain, an account or an alias, by its number or its name. A
//! thing that the caller does not see is as if it was absent.

use postrider_config::Dynamic;
use postrider_receive::login::Reach;
use postrider_smtp::{Address, Domain};

use super::caller::Who;
use crate::{Context, face::http::problem::Problem, op::principals};

/// A kind of things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Domain,
    Account,
    Alias,
}

/// A thing, with its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// The path names none.
    None,
    Domain(u64, Domain),
    /// By its name.
    Account(u64, String),
    Alias(u64, Address),
}

impl Target {
    /// Finds the thing that a caller means.
    pub(super) async fn find(
        context: &Context,
        who: &Who,
        kind: Option<Kind>,
        wanted: &str,
    ) -> Result<Self, Problem> {
        let Some(kind) = kind else {
            return Ok(Self::None);
        };
        let config = context.config.load_full();
        let all = Reach::default();
        let reach = match who {
            Who::Manager(manager) => &manager.reach,
            _ => &all,
        };
        let found = match kind {
            Kind::Domain => domain(context, &config, reach, wanted).await?,
            Kind::Account => account(context, &config, reach, wanted).await?,
            Kind::Alias => alias(context, &config, reach, wanted).await?,
        };
        found.ok_or_else(|| {
            let name = match kind {
                Kind::Domain => "domain",
                Kind::Account => "account",
                Kind::Alias => "alias",
            };
            Problem::missing(wanted, format!("there is no {name} {wanted}"))
        })
    }

    /// The domain of the path.
    pub(super) fn domain(self) -> Result<(u64, Domain), Problem> {
        match self {
            Self::Domain(id, domain) => Ok((id, domain)),
            _ => Err(Problem::internal("the path names no domain")),
        }
    }

    /// The account of the path.
    pub(super) fn account(self) -> Result<(u64, String), Problem> {
        match self {
            Self::Account(id, account) => Ok((id, account)),
            _ => Err(Problem::internal("the path names no account")),
        }
    }

    /// The alias of the path.
    pub(super) fn alias(self) -> Result<(u64, Address), Problem> {
        match self {
            Self::Alias(id, alias) => Ok((id, alias)),
            _ => Err(Problem::internal("the path names no alias")),
        }
    }
}

/// These things by their numbers, the lowest first. `handle` is the name by which operations know a
/// thing.
pub(super) async fn numbered<T>(
    context: &Context,
    kind: principals::Kind,
    things: Vec<T>,
    handle: impl Fn(&T) -> String,
) -> Result<Vec<(u64, T)>, Problem> {
    let names: Vec<_> = things.iter().map(|it| kind.known_as(&handle(it))).collect();
    let ids = context.store.principal_ids(&names).await?;
    let mut numbered: Vec<(u64, T)> = ids.iter().map(|id| id.0).zip(things).collect();
    numbered.sort_by_key(|(id, _)| *id);
    Ok(numbered)
}

/// The number of a text that is one. No thing has a name of digits only.
fn number(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u64::MAX))
}

async fn domain(
    context: &Context,
    config: &Dynamic,
    reach: &Reach,
    wanted: &str,
) -> Result<Option<Target>, Problem> {
    let kind = principals::Kind::Domain;
    let seen = config.domains.keys().filter(|it| reach.sees_domain(it));
    let id = number(wanted);
    let meant: Vec<Domain> = match (id, Domain::parse(wanted)) {
        (Some(_), _) => seen.cloned().collect(),
        (None, Ok(named)) => seen.filter(|it| **it == named).cloned().collect(),
        (None, Err(_)) => Vec::new(),
    };
    let mut meant = numbered(context, kind, meant, |it| it.ascii().to_owned()).await?;
    meant.retain(|(it, _)| id.is_none_or(|id| id == *it));
    let found = meant.pop();
    Ok(found.map(|(id, domain)| Target::Domain(id, domain)))
}

async fn account(
    context: &Context,
    config: &Dynamic,
    reach: &Reach,
    wanted: &str,
) -> Result<Option<Target>, Problem> {
    let kind = principals::Kind::Individual;
    let seen = config.accounts.iter().filter(|(_, it)| reach.sees(it));
    let seen = seen.map(|(name, _)| name.as_str());
    let id = number(wanted);
    let lower = wanted.to_lowercase();
    let by_address = Address::parse(wanted).ok();
    let by_address = by_address.and_then(|it| config.destination(&it).map(|(owner, _)| owner));
    let is_meant = |name: &&str| *name == wanted || *name == lower || by_address == Some(name);
    let meant: Vec<String> = match id {
        Some(_) => seen.map(str::to_owned).collect(),
        None => seen.filter(is_meant).map(str::to_owned).collect(),
    };
    let mut meant = numbered(context, kind, meant, Clone::clone).await?;
    meant.retain(|(it, _)| id.is_none_or(|id| id == *it));
    // The exact name comes before another spelling of it.
    meant.sort_by_key(|(_, name)| name == wanted);
    let found = meant.pop();
    Ok(found.map(|(id, name)| Target::Account(id, name)))
}

async fn alias(
    context: &Context,
    config: &Dynamic,
    reach: &Reach,
    wanted: &str,
) -> Result<Option<Target>, Problem> {
    let kind = principals::Kind::List;
    let domains = config.domains.iter();
    let domains = domains.filter(|(domain, _)| reach.sees_domain(domain));
    let all = domains.flat_map(|(domain, settings)| {
        let aliases = settings.aliases.keys();
        aliases.map(|local| Address {
            local: local.clone(),
            host: domain.clone().into(),
        })
    });
    let (id, named) = (number(wanted), Address::parse(wanted).ok());
    let is_meant = |address: &Address| {
        let named = named.as_ref();
        id.is_some() || named.is_some_and(|named| config.is_same(named, address))
    };
    let meant = all.filter(is_meant).collect();
    let mut meant = numbered(context, kind, meant, ToString::to_string).await?;
    meant.retain(|(it, _)| id.is_none_or(|id| id == *it));
    let found = meant.pop();
    Ok(found.map(|(id, address)| Target::Alias(id, address)))
}
