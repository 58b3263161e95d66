//! Routes: the transport of a message, by its account, its sender, its recipient and its earlier
//! attempts.

use postrider_smtp::Domain;

use crate::{
    dynamics::{Dynamic, Route},
    values::DomainPattern,
};

impl Dynamic {
    /// The transport for an attempt. None means directly to the MX hosts.
    ///
    /// The first route that matches names it. The routes of the account come first, then the routes
    /// of the sender's domain, then the global routes. `from` is None for a null reverse-path. `to`
    /// is None for an address literal.
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

    /// Whether another configuration has the same routes.
    #[must_use]
    pub fn has_routes_of(&self, other: &Self) -> bool {
        self.routes == other.routes && self.routes_are_in(other) && other.routes_are_in(self)
    }

    /// Whether another configuration has the routes of all accounts and domains of this one.
    fn routes_are_in(&self, other: &Self) -> bool {
        let accounts = self.accounts.iter();
        let mut accounts = accounts.filter(|(_, account)| !account.routes.is_empty());
        let domains = self.domains.iter();
        let mut domains = domains.filter(|(_, domain)| !domain.routes.is_empty());
        accounts.all(|(name, account)| {
            let same = other.accounts.get(name);
            same.is_some_and(|same| same.routes == account.routes)
        }) && domains.all(|(name, domain)| {
            let same = other.domains.get(name);
            same.is_some_and(|same| same.routes == domain.routes)
        })
    }
}

/// What routes say of messages of which only account and recipient are known.
#[derive(Debug)]
pub struct CertainRoutes<'a> {
    config: &'a Dynamic,
    of_domains: Vec<&'a Route>,
}

impl<'a> CertainRoutes<'a> {
    /// The routes of this configuration.
    #[must_use]
    pub fn of(config: &'a Dynamic) -> Self {
        let domains = config.domains.values();
        Self {
            config,
            of_domains: domains.flat_map(|domain| &domain.routes).collect(),
        }
    }

    /// The name of the transport of all messages of an account to a domain, empty for none. `to` is
    /// None for an address literal. The result is None if it depends on the sender, or on the
    /// earlier attempts.
    #[must_use]
    pub fn transport(&self, account: &str, to: Option<&Domain>) -> Option<&'a str> {
        let of_account = self.config.accounts.get(account);
        let of_account = of_account.into_iter().flat_map(|account| &account.routes);
        let of_domains = self.of_domains.iter().copied();
        let always = of_account.map(|route| (route, true));
        let sometimes = of_domains.map(|route| (route, false));
        let last = self.config.routes.iter().map(|route| (route, true));
        let first = always
            .chain(sometimes)
            .chain(last)
            .find(|(route, _)| is_one_of(&route.to_domain, to));
        match first {
            None => Some(""),
            Some((route, true)) if route.minimum_attempts == 0 && route.from_domain.is_empty() => {
                Some(&route.transport)
            }
            Some(_) => None,
        }
    }
}

impl Route {
    fn matches(&self, from: Option<&Domain>, to: Option<&Domain>, attempts: u32) -> bool {
        attempts >= self.minimum_attempts
            && is_one_of(&self.from_domain, from)
            && is_one_of(&self.to_domain, to)
    }
}

/// Whether a domain is one of these. All are, if there are none.
fn is_one_of(patterns: &[DomainPattern], domain: Option<&Domain>) -> bool {
    patterns.is_empty()
        || domain.is_some_and(|domain| patterns.iter().any(|pattern| pattern.matches(domain)))
}
