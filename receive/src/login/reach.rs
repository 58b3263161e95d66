//! What a caller that manages things of others may see: everything, or things of some domains.

use std::collections::BTreeSet;

use postrider_config::{Account, DestinationAddress, Dynamic, Tenant};
use postrider_smtp::{Address, Domain};
use postrider_store::ApiKey;

/// The things that a caller sees. By default: everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// The domains of a tenant. Empty: all domains, unless there is a tenant.
    pub domains: BTreeSet<Domain>,
    /// The tenant whose present domains are among `domains`. It may have none.
    pub tenant: Option<Tenant>,
}

impl Reach {
    /// The things that a key sees now. None: its domains or its tenant can't be read. Such a key
    /// must not see everything.
    #[must_use]
    pub fn of_key(key: &ApiKey, config: &Dynamic) -> Option<Self> {
        let domains = key.domains.iter().map(|text| Domain::parse(text));
        let domains: BTreeSet<Domain> = domains.collect::<Result<_, _>>().ok()?;
        if key.tenant.is_empty() {
            let tenant = None;
            return Some(Self { domains, tenant });
        }
        let tenant = Tenant::parse(&key.tenant).ok()?;
        let mut reach = Self::of_tenant(tenant, config);
        reach.domains.extend(domains);
        Some(reach)
    }

    /// The things of a tenant: those of the domains that it has now.
    #[must_use]
    pub fn of_tenant(tenant: Tenant, config: &Dynamic) -> Self {
        let domains = config.domains.iter();
        let own = domains.filter(|(_, settings)| settings.tenant.as_ref() == Some(&tenant));
        Self {
            domains: own.map(|(domain, _)| domain.clone()).collect(),
            tenant: Some(tenant),
        }
    }

    /// The caller sees things of some domains only.
    #[must_use]
    pub fn is_tenant(&self) -> bool {
        self.tenant.is_some() || !self.domains.is_empty()
    }

    /// Whether the caller sees a domain.
    #[must_use]
    pub fn sees_domain(&self, domain: &Domain) -> bool {
        !self.is_tenant() || self.domains.contains(domain)
    }

    /// Whether the caller sees things of an address.
    #[must_use]
    pub fn sees_address(&self, address: &Address) -> bool {
        match address.host.domain() {
            Some(domain) => self.sees_domain(domain),
            None => !self.is_tenant(),
        }
    }

    /// Whether the caller sees an account. An account belongs to a tenant if all its addresses do.
    #[must_use]
    pub fn sees(&self, account: &Account) -> bool {
        let mut addresses = account.destinations.keys();
        self.sees_domain(&account.domain)
            && addresses.all(|address| match address {
                DestinationAddress::Address(address) => self.sees_address(address),
                DestinationAddress::CatchAll(domain) => self.sees_domain(domain),
            })
    }

    /// Whether a caller with this reach sees everything that one with another reach may ever see. A
    /// tenant gets domains later, so domains alone cover no tenant.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let is_own_tenant = other.tenant.is_none() || other.tenant == self.tenant;
        !self.is_tenant()
            || (other.is_tenant() && is_own_tenant && other.domains.is_subset(&self.domains))
    }
}

#[cfg(test)]
mod tests {
    use postrider_config::Static;
    use postrider_store::{ApiKeyId, Scope, Time};

    use super::*;

    fn config(domains: &str) -> Dynamic {
        let statics = "hostname = \"a.test\"\npostmaster.account = \"a\"\n[listeners.l]\n\
            ips = [\"127.0.0.1\"]\n";
        let statics = Static::parse(statics, "postrider.conf").unwrap();
        let text = format!(
            "{domains}\n[accounts.a]\ndomain = \"a.test\"\ndestinations.\"a@a.test\" = {{}}\n\
             [accounts.b]\ndomain = \"a.test\"\ndestinations.\"b@a.test\" = {{}}\n\
             destinations.\"b@b.test\" = {{}}\n"
        );
        Dynamic::parse(&text, "domains.conf", &statics).unwrap()
    }

    fn key(domains: &[&str], tenant: &str) -> ApiKey {
        ApiKey {
            id: ApiKeyId(1),
            name: "k".into(),
            account: String::new(),
            hash: [0; 32],
            scopes: vec![Scope::Manage],
            created: Time(0),
            expires: None,
            domains: domains.iter().map(|it| (*it).to_owned()).collect(),
            legacy_status: false,
            tenant: tenant.into(),
        }
    }

    #[test]
    fn a_key_with_a_tenant_has_the_domains_of_the_tenant_and_later_ones() {
        let plain = "[domains.\"a.test\"]\ntenant = 7\n[domains.\"b.test\"]\n";
        let before = config(plain);
        let after =
            config(&plain.replace("[domains.\"b.test\"]", "[domains.\"b.test\"]\ntenant = 7"));
        let sees = |domains: &[&str], tenant: &str, config: &Dynamic| -> Option<Vec<String>> {
            let reach = Reach::of_key(&key(domains, tenant), config)?;
            let domains = config.domains.keys().filter(|it| reach.sees_domain(it));
            let domains = domains.map(|it| it.ascii().to_owned());
            let accounts = config.accounts.iter().filter(|(_, it)| reach.sees(it));
            Some(
                domains
                    .chain(accounts.map(|(name, _)| name.clone()))
                    .collect(),
            )
        };
        let all = ["a.test", "b.test", "a", "b"];
        let some = |names: &[&str]| Some(names.iter().map(|it| (*it).to_owned()).collect());
        for (domains, tenant, config, expected) in [
            (&[][..], "", &before, some(&all)),
            (&[], "7", &before, some(&["a.test", "a"])),
            (&[], "7", &after, some(&all)),
            // A tenant without a domain sees nothing, and not everything.
            (&[], "8", &before, some(&[])),
            (&["b.test"], "7", &before, some(&all)),
            (&["b.test"], "", &before, some(&["b.test"])),
            (&["b test"], "", &before, None),
            (&[], "007", &before, None),
        ] {
            assert_eq!(
                sees(domains, tenant, config),
                expected,
                "{domains:?} {tenant}"
            );
        }
    }

    #[test]
    fn a_narrow_reach_covers_no_wider_one() {
        let config = config("[domains.\"a.test\"]\ntenant = 7\n[domains.\"b.test\"]\n");
        let reach =
            |domains: &[&str], tenant| Reach::of_key(&key(domains, tenant), &config).unwrap();
        let (all, a, both) = (
            reach(&[], ""),
            reach(&["a.test"], ""),
            reach(&["a.test", "b.test"], ""),
        );
        let (seven, eight) = (reach(&[], "7"), reach(&[], "8"));
        for (maker, made, expected) in [
            (&all, &all, true),
            (&all, &seven, true),
            (&a, &a, true),
            (&a, &both, false),
            (&both, &a, true),
            (&a, &all, false),
            (&a, &seven, false),
            (&seven, &seven, true),
            (&seven, &a, true),
            (&seven, &eight, false),
            (&eight, &all, false),
        ] {
            assert_eq!(maker.covers(made), expected, "{maker:?} {made:?}");
        }
    }
}
