//! What a caller may do and see.

use std::collections::BTreeSet;

use postrider_config::{Account, Dynamic};
use postrider_receive::login::Reach;
use postrider_smtp::{Address, Domain};
use postrider_store::{ApiKeyId, Scope};

use super::{
    problem::Problem,
    table::{Area, Call},
};

/// The way in which a caller logged in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Proof {
    /// A key.
    #[default]
    Key,
    /// The main password, with a code if the account has codes.
    Password,
    /// An app password.
    AppPassword,
}

/// What a caller may do and see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Access {
    /// The name of the caller for limits and for repeated requests: `admin`, `key N` or
    /// `account NAME`.
    pub(super) name: String,
    /// The key; None: the caller gave a password.
    pub(super) key: Option<ApiKeyId>,
    /// The scopes of the key; None: all.
    pub(super) scopes: Option<Vec<Scope>>,
    /// The caller is the holder of `account`, and may only manage that.
    pub(super) only_account: bool,
    /// The account that calls below `/api/account` are about.
    pub(super) account: Option<String>,
    /// The way in which the caller logged in.
    pub(super) by: Proof,
    /// The things that the caller sees.
    pub(super) reach: Reach,
    /// Some errors have status 200.
    pub(super) legacy_status: bool,
}

impl Access {
    /// Whether the caller may make a call.
    pub(super) fn check(&self, call: &Call) -> Result<(), Problem> {
        if self.only_account && call.area != Area::Account {
            let text = "a login of an account may only make calls below /api/account";
            return Err(Problem::forbidden(text));
        }
        if let Some(scopes) = &self.scopes {
            let enough = |scope: &Scope| {
                *scope == Scope::Manage
                    || (*scope == Scope::ManageRead && call.reads)
                    || call.area.scope(call.reads) == Some(*scope)
            };
            if !scopes.iter().any(enough) {
                let text = "the key has no scope for this call";
                return Err(Problem::forbidden(text));
            }
        }
        if self.is_tenant() && !call.for_tenants {
            let text = "this call is not for keys with domains";
            return Err(Problem::forbidden(text));
        }
        Ok(())
    }

    /// The caller sees only things of its domains.
    pub(super) fn is_tenant(&self) -> bool {
        self.reach.is_tenant()
    }

    pub(super) fn sees_domain(&self, domain: &Domain) -> bool {
        self.reach.sees_domain(domain)
    }

    pub(super) fn sees_address(&self, address: &Address) -> bool {
        self.reach.sees_address(address)
    }

    /// An account belongs to a tenant if all its addresses do.
    pub(super) fn sees(&self, account: &Account) -> bool {
        self.reach.sees(account)
    }

    /// Whether the caller sees things of an account. Things of an account that is gone are for
    /// those who see everything.
    pub(super) fn sees_account(&self, config: &Dynamic, name: &str) -> bool {
        let account = config.accounts.get(name);
        !self.is_tenant() || account.is_some_and(|account| self.sees(account))
    }

    /// The accounts of a tenant; None: all accounts, also those that are gone.
    pub(super) fn accounts(&self, config: &Dynamic) -> Option<BTreeSet<String>> {
        self.is_tenant().then(|| {
            let accounts = config.accounts.iter();
            let seen = accounts.filter(|(_, account)| self.sees(account));
            seen.map(|(name, _)| name.clone()).collect()
        })
    }

    /// Whether a key with these scopes and this reach may do no more than this caller.
    pub(super) fn covers(&self, scopes: &[Scope], reach: &Reach) -> bool {
        let has = |scope: &Scope| {
            let own = self.scopes.as_deref();
            own.is_none_or(|own| own.contains(&Scope::Manage) || own.contains(scope))
        };
        scopes.iter().all(has) && self.reach.covers(reach)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_gives_no_more_than_its_maker_has() {
        let domain = |text: &str| Domain::parse(text).unwrap();
        let reach = |domains: &[&str]| Reach {
            domains: domains.iter().map(|it| domain(it)).collect(),
            tenant: None,
        };
        let tenant = Access {
            scopes: Some(vec![Scope::ManageQueue, Scope::ManageAccounts]),
            reach: reach(&["a.test", "b.test"]),
            ..Access::default()
        };
        let covers = |scopes: &[Scope], domains: &[&str]| tenant.covers(scopes, &reach(domains));
        assert!(covers(&[Scope::ManageQueue], &["a.test"]));
        assert!(!covers(&[Scope::ManageQueue], &[]));
        assert!(!covers(&[Scope::ManageQueue], &["a.test", "c.test"]));
        assert!(!covers(&[Scope::Manage], &["a.test"]));
        assert!(Access::default().covers(&[Scope::Manage], &Reach::default()));
    }
}
