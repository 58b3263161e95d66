//! Operations that change `domains.conf`.
//!
//! Each operation is one change of the file: it takes effect as a whole, or it is refused and
//! leaves the file as it was. Comments and order stay. Each change has an entry in the audit log,
//! also a refused one.
//!
//! - [`domains`], [`accounts`], [`addresses`], [`aliases`], [`dkim`], [`routes`]: the things in the
//!   file.
//! - [`principals`]: all changes of one of them at once, and the removal of many.
//! - [`settings`]: any value of the file by its key.
//! - [`states`]: what accounts have used of their limits, and how they log in.
//! - [`webhook_secret`]: the secrets that sign webhook calls.
//! - [`hooks`]: hooks and milters of another server, which go to `postrider.conf`.
//! - [`mod@file`]: both files as texts, and earlier texts.
//! - `document`: how the text of the file changes.
//! - [`keyfile`]: the files with private keys.

pub mod accounts;
pub mod addresses;
pub mod aliases;
pub mod dkim;
mod document;
pub mod domains;
pub mod file;
pub mod hooks;
pub mod keyfile;
pub mod principals;
pub mod routes;
pub mod settings;
pub mod states;
pub mod webhook_secret;

use std::{fmt::Display, sync::Arc};

use postrider_config::{
    Account, Changed, DestinationAddress, DomainConfig, DomainsFile, Dynamic, Static,
    toml_edit::DocumentMut,
};
use postrider_smtp::{Address, Domain, LocalPart};

use crate::{AdminError, Context};

/// A change of the file that is being made.
struct Edit<'a> {
    /// The document.
    document: &'a mut DocumentMut,
    /// The configuration before the change.
    before: &'a Dynamic,
    /// The static configuration.
    statics: &'a Static,
}

impl Context {
    /// Changes the file with a function. See [`Context::change_domains`].
    async fn edit<T: Send + 'static>(
        &self,
        operation: &'static str,
        target: &str,
        change: impl Fn(&mut Edit<'_>) -> Result<T, AdminError> + Send + 'static,
    ) -> Result<Changed<T>, AdminError> {
        let (context, target) = (self.clone(), target.to_owned());
        let change = editing(Arc::clone(&self.domains), change);
        let work = async move { context.change_domains(operation, &target, change).await };
        to_its_end(work).await
    }

    /// The same without an entry in the audit log, which the caller adds.
    async fn edit_unaudited<T: Send + 'static>(
        &self,
        operation: &'static str,
        change: impl Fn(&mut Edit<'_>) -> Result<T, AdminError> + Send + 'static,
    ) -> Result<Changed<T>, AdminError> {
        let context = self.clone();
        let change = editing(Arc::clone(&self.domains), change);
        let work = async move { context.change_quietly(operation, change).await };
        to_its_end(work).await
    }
}

/// A change of the document that runs a change of the file.
fn editing<T>(
    file: Arc<DomainsFile>,
    change: impl Fn(&mut Edit<'_>) -> Result<T, AdminError>,
) -> impl Fn(&mut DocumentMut) -> Result<T, AdminError> {
    move |document| {
        let text = document.to_string();
        let mut before = file.live().load_full();
        if before.text() != text {
            // An editor saved the file, and the server has not read it yet.
            let read = Dynamic::parse(&text, file.path(), file.statics());
            before = Arc::new(read.map_err(AdminError::invalid)?);
        }
        change(&mut Edit {
            document,
            before: &before,
            statics: file.statics(),
        })
    }
}

impl<'a> Edit<'a> {
    /// The configuration of a domain, and its name as the file spells it.
    fn domain(&self, domain: &Domain) -> Result<(&'a DomainConfig, String), AdminError> {
        let missing = || missing_domain(self.before, domain);
        let config = self.before.domains.get(domain).ok_or_else(missing)?;
        let is_meant = |name: &str| Domain::parse(name).is_ok_and(|name| name == *domain);
        let spelled = document::spelled(self.document, &["domains"], is_meant);
        Ok((config, spelled.ok_or_else(missing)?))
    }

    /// The configuration of an account.
    fn account(&self, name: &str) -> Result<&'a Account, AdminError> {
        let account = self.before.accounts.get(name);
        account.ok_or_else(|| missing_account(self.before, name))
    }

    /// The name of a destination, as the file spells it.
    fn destination(&self, account: &str, key: &DestinationAddress) -> Option<String> {
        let path = ["accounts", account, "destinations"];
        let is_meant = |name: &str| match (DestinationAddress::parse(name), key) {
            (Ok(DestinationAddress::Address(name)), DestinationAddress::Address(key)) => {
                self.before.is_same(&name, key)
            }
            (Ok(name), key) => name == *key,
            (Err(_), _) => false,
        };
        document::spelled(self.document, &path, is_meant)
    }

    /// Checks that an address can be a new destination or alias.
    fn check_available(&self, address: &Address, field: &str) -> Result<(), AdminError> {
        let shown = address.unicode();
        let domain = address.host.domain().ok_or_else(|| {
            let text = format!("{shown} is at an IP address; it must be at a domain");
            AdminError::invalid(text).at(field)
        })?;
        let (config, _) = self.domain(domain).map_err(|error| error.at(field))?;
        let separators = &config.localpart_catchall_separators;
        let local = address.local.as_str();
        if let Some(separator) = separators.iter().find(|it| local.contains(it.as_str())) {
            let text = format!(
                "{shown} has the separator {separator:?} of its domain, so mail to it would go to the \
                 address without the part from there on"
            );
            return Err(AdminError::invalid(text).at(field));
        }
        match self.before.taken(address) {
            Some(owner) => {
                Err(AdminError::conflict(format!("{shown} is taken: {owner}")).at(field))
            }
            None => Ok(()),
        }
    }

    /// Takes an address out of all aliases. Refuses if it is the last member of one.
    fn leave_aliases(&mut self, leaves: impl Fn(&Address) -> bool) -> Result<(), AdminError> {
        self.leave_aliases_but(leaves, |_, _| false)
    }

    /// The same for all aliases but those that the document does not have any more.
    fn leave_aliases_but(
        &mut self,
        leaves: impl Fn(&Address) -> bool,
        is_gone: impl Fn(&Domain, &LocalPart) -> bool,
    ) -> Result<(), AdminError> {
        let before = self.before;
        for (domain, config) in &before.domains {
            for (local, alias) in &config.aliases {
                if is_gone(domain, local) {
                    continue;
                }
                if !alias.addresses.iter().any(&leaves) {
                    continue;
                }
                if alias.addresses.iter().all(&leaves) {
                    let alias = format!("{local}@{}", domain.unicode());
                    return Err(AdminError::invalid(format!(
                        "the alias {alias} would have no member; remove the alias first, or add \
                         another member"
                    )));
                }
                let path = self.alias(domain, local)?;
                let path: Vec<&str> = path
                    .iter()
                    .map(String::as_str)
                    .chain(["addresses"])
                    .collect();
                document::change_array(self.document, &path, |members| {
                    document::remove_elements(members, |member| {
                        let member = member.as_str().map(Address::parse);
                        member.is_some_and(|member| member.is_ok_and(|it| leaves(&it)))
                    });
                })?;
            }
        }
        Ok(())
    }

    /// The path of an alias in the file.
    fn alias(&self, domain: &Domain, local: &LocalPart) -> Result<[String; 4], AdminError> {
        let (_, spelled) = self.domain(domain)?;
        let wanted = address(local, domain);
        let is_meant = |name: &str| {
            let named = LocalPart::parse(name).map(|local| address(&local, domain));
            named.is_ok_and(|named| self.before.is_same(&named, &wanted))
        };
        let name = document::spelled(self.document, &["domains", &spelled, "aliases"], is_meant);
        let name = name.ok_or_else(|| {
            let text = format!("there is no alias {}", wanted.unicode());
            AdminError::not_found(text).at("alias")
        })?;
        Ok(["domains".into(), spelled, "aliases".into(), name])
    }
}

/// Does work to its end, also if the caller goes away meanwhile: a change without its entry in the
/// audit log, or a key file that is removed although the file names it, would be wrong.
async fn to_its_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, AdminError>> + Send + 'static,
) -> Result<T, AdminError> {
    tokio::spawn(work).await.map_err(AdminError::internal)?
}

/// The address of a local-part at a domain.
fn address(local: &LocalPart, domain: &Domain) -> Address {
    Address {
        local: local.clone(),
        host: domain.clone().into(),
    }
}

/// The error for a thing that is not in the file.
fn missing(kind: &str, name: &str, known: impl Iterator<Item = String>) -> AdminError {
    /// A longer list helps nobody.
    const SHOWN: usize = 10;
    let mut known: Vec<String> = known.take(SHOWN + 1).collect();
    if known.len() > SHOWN {
        known.truncate(SHOWN);
        known.push("...".to_owned());
    }
    AdminError::not_found(match known.as_slice() {
        [] => format!("there is no {kind} {name} in domains.conf; there are none"),
        known => format!(
            "there is no {kind} {name} in domains.conf; there are: {}",
            known.join(", ")
        ),
    })
}

fn missing_account(config: &Dynamic, name: &str) -> AdminError {
    missing("account", name, config.accounts.keys().cloned()).at("account")
}

fn missing_domain(config: &Dynamic, domain: &Domain) -> AdminError {
    let known = config.domains.keys().map(Domain::unicode);
    missing("domain", &domain.unicode(), known).at("domain")
}

/// Reads a field of an input.
fn parse<T, E: Display>(
    text: &str,
    field: &str,
    read: impl FnOnce(&str) -> Result<T, E>,
) -> Result<T, AdminError> {
    read(text).map_err(|error| {
        let shown = match text {
            "" => "it is empty".to_owned(),
            _ => error.to_string(),
        };
        let field_in_words = field.replace('_', " ");
        AdminError::invalid(format!("{field_in_words} {text:?}: {shown}")).at(field)
    })
}

pub(in crate::op) fn parse_domain(text: &str) -> Result<Domain, AdminError> {
    parse(text, "domain", Domain::parse)
}

/// A domain as a target in the audit log: in its Unicode form, so that all its entries have one
/// name.
fn target(domain: &str) -> String {
    Domain::parse(domain).map_or_else(|_| domain.to_owned(), |domain| domain.unicode())
}

/// Reads a list of addresses. Each may be there only once.
fn parse_addresses(texts: &[String], field: &str) -> Result<Vec<Address>, AdminError> {
    if texts.is_empty() {
        return Err(AdminError::invalid("name at least one address").at(field));
    }
    texts
        .iter()
        .map(|text| parse(text, field, Address::parse))
        .collect()
}
