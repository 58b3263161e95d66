//! Routes: the transports for messages. The first route that matches wins; those of the account
//! come first, then those of the sender's domain, then the global ones.

use postrider_config::{
    DomainPattern, Route,
    toml_edit::{Array, InlineTable},
};
use postrider_smtp::Domain;
use serde::{Deserialize, Serialize};

use super::{Edit, document, parse, parse_domain};
use crate::{
    AdminError, Context,
    op::{Listed as _, Operation, Single, Sink},
};

/// The routes of an account, of a domain, or the global ones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scope {
    /// The account.
    #[serde(default)]
    pub account: Option<String>,
    /// The domain of the sender.
    #[serde(default)]
    pub domain: Option<String>,
}

impl Scope {
    /// The routes, and the path of their array in the file.
    fn find<'a>(&self, edit: &Edit<'a>) -> Result<(&'a [Route], Vec<String>), AdminError> {
        let path = |path: &[&str]| path.iter().map(|name| (*name).to_owned()).collect();
        match (&self.account, &self.domain) {
            (None, None) => Ok((&edit.before.routes, path(&["routes"]))),
            (Some(account), None) => {
                let found = edit.account(account)?;
                Ok((&found.routes, path(&["accounts", account, "routes"])))
            }
            (None, Some(domain)) => {
                let (found, name) = edit.domain(&parse_domain(domain)?)?;
                Ok((&found.routes, path(&["domains", &name, "routes"])))
            }
            (Some(_), Some(_)) => {
                let text = "name an account or a domain, not both";
                Err(AdminError::invalid(text).at("domain"))
            }
        }
    }

    /// The target for the audit log.
    fn target(&self) -> String {
        match (&self.account, &self.domain) {
            (Some(account), _) => account.clone(),
            (None, Some(domain)) => super::target(domain),
            (None, None) => "global".to_owned(),
        }
    }
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    missing_docs,
    reason = "the names are those of the configuration, and say it"
)]
pub struct RouteItem {
    /// The account that the route is of; empty: it is not of an account.
    pub account: String,
    /// The domain that the route is of; empty: it is not of a domain.
    pub domain: String,
    /// The place of the route among the others of its account or domain, from 1.
    pub number: u64,
    pub from_domain: Vec<String>,
    pub to_domain: Vec<String>,
    pub minimum_attempts: u32,
    pub transport: String,
}

/// Lists all routes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {}

impl Operation for List {
    type Item = RouteItem;

    async fn run(
        self,
        context: &Context,
        items: &mut impl Sink<RouteItem>,
    ) -> Result<(), AdminError> {
        let config = context.config.load_full();
        let list = |routes: &[Route], account: &str, domain: &str| {
            let patterns = |patterns: &[DomainPattern]| {
                patterns.iter().map(DomainPattern::to_string).collect()
            };
            let item = |(number, route): (u64, &Route)| RouteItem {
                account: account.to_owned(),
                domain: domain.to_owned(),
                number,
                from_domain: patterns(&route.from_domain),
                to_domain: patterns(&route.to_domain),
                minimum_attempts: route.minimum_attempts,
                transport: route.transport.clone(),
            };
            (1..).zip(routes).map(item).collect::<Vec<_>>()
        };
        let mut listed = list(&config.routes, "", "");
        for (domain, settings) in &config.domains {
            listed.extend(list(&settings.routes, "", &Domain::unicode(domain)));
        }
        for (name, account) in &config.accounts {
            listed.extend(list(&account.routes, name, ""));
        }
        items.send(listed).await
    }
}

/// Adds a route.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Add {
    /// Where the route belongs.
    pub scope: Scope,
    /// The domains of the sender; empty: any. A leading dot includes subdomains.
    #[serde(default)]
    pub from_domain: Vec<String>,
    /// The domains of the recipient; empty: any. A leading dot includes subdomains.
    #[serde(default)]
    pub to_domain: Vec<String>,
    /// The least number of earlier attempts.
    #[serde(default)]
    pub minimum_attempts: u32,
    /// The name of a transport in postrider.conf.
    pub transport: String,
    /// The place of the route, from 1; None: behind the others.
    #[serde(default)]
    pub number: Option<usize>,
}

impl Single for Add {
    type Output = ();

    async fn answer(self, context: &Context) -> Result<(), AdminError> {
        let target = self.scope.target();
        let change = move |edit: &mut Edit<'_>| {
            let (routes, path) = self.scope.find(edit)?;
            let index = self
                .number
                .map(|number| check_number(number, routes.len() + 1));
            let index = index.transpose()?;
            if !edit.statics.transports.contains_key(&self.transport) {
                let known = edit.statics.transports.keys().cloned().collect::<Vec<_>>();
                let known = match known.as_slice() {
                    [] => "there are none; add a table [transports.NAME]".to_owned(),
                    known => format!("there are: {}", known.join(", ")),
                };
                let transport = &self.transport;
                let text =
                    format!("there is no transport {transport:?} in postrider.conf; {known}");
                return Err(AdminError::not_found(text).at("transport"));
            }
            let path: Vec<&str> = path.iter().map(String::as_str).collect();
            document::insert_element(edit.document, &path, index, self.content()?)
        };
        context.edit(Self::NAME, &target, change).await?;
        Ok(())
    }
}

impl Add {
    fn content(&self) -> Result<InlineTable, AdminError> {
        let mut content = InlineTable::new();
        for (key, domains) in [
            ("from_domain", &self.from_domain),
            ("to_domain", &self.to_domain),
        ] {
            for domain in domains {
                parse(domain, key, DomainPattern::parse)?;
            }
            if !domains.is_empty() {
                content.insert(key, domains.iter().collect::<Array>().into());
            }
        }
        if self.minimum_attempts > 0 {
            content.insert("minimum_attempts", i64::from(self.minimum_attempts).into());
        }
        content.insert("transport", self.transport.as_str().into());
        Ok(content)
    }
}

/// The index of a number from 1.
fn check_number(number: usize, max: usize) -> Result<usize, AdminError> {
    let index = number.checked_sub(1).filter(|index| *index < max);
    index.ok_or_else(|| {
        let text = format!("there is no place {number}; places are counted from 1, up to {max}");
        AdminError::not_found(text).at("number")
    })
}

/// Removes a route.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Remove {
    /// Where the route belongs.
    pub scope: Scope,
    /// The place of the route, from 1.
    pub number: usize,
}

impl Single for Remove {
    type Output = ();

    async fn answer(self, context: &Context) -> Result<(), AdminError> {
        let target = self.scope.target();
        let change = move |edit: &mut Edit<'_>| {
            let (routes, path) = self.scope.find(edit)?;
            let index = check_number(self.number, routes.len())?;
            let path: Vec<&str> = path.iter().map(String::as_str).collect();
            document::remove_at(edit.document, &path, index).map(drop)
        };
        context.edit(Self::NAME, &target, change).await?;
        Ok(())
    }
}
