//! The tables of `domains.conf` by the names of domains and accounts.

use std::collections::BTreeMap;

use postrider_smtp::Domain;

use crate::{reader::Reader, values::parse_domain};

/// The readers of all domains and accounts. The last checks need them all.
pub(crate) struct Tables<'a> {
    pub(crate) domains: BTreeMap<Domain, Reader<'a>>,
    pub(crate) accounts: BTreeMap<String, Reader<'a>>,
}

impl<'a> Tables<'a> {
    pub(crate) fn new(root: &Reader<'a>) -> Self {
        let section = root.section("domains");
        let mut domains: BTreeMap<Domain, Reader<'a>> = BTreeMap::new();
        for (name, reader) in section.named() {
            match parse_domain(name) {
                Err(message) => section.wrong(name, message),
                Ok(domain) if domains.contains_key(&domain) => {
                    section.wrong(
                        name,
                        format!("is {domain} in another spelling, and exists already; keep one"),
                    );
                }
                Ok(domain) => {
                    domains.insert(domain, reader);
                }
            }
        }
        let section = root.section("accounts");
        let mut accounts = BTreeMap::new();
        for (name, reader) in section.named() {
            if let Some(message) = account_name_problem(name) {
                section.wrong(name, message);
            }
            accounts.insert(name.to_owned(), reader);
        }
        Self { domains, accounts }
    }
}

/// The problem of an account name. Account names are used in paths, listings and commands.
fn account_name_problem(name: &str) -> Option<&'static str> {
    if name.is_empty() || name.starts_with('.') || name.trim() != name {
        Some(
            "is not an account name: it is empty, or begins with a dot or a space, or ends \
            with a space",
        )
    } else if name.contains(['/', '\\', '@', '"']) || name.chars().any(char::is_control) {
        Some(
            "is not an account name: it has one of the characters / \\ @ \" or a control character",
        )
    } else if name.len() > 128 {
        Some("is not an account name: it is longer than 128 bytes")
    } else {
        None
    }
}
