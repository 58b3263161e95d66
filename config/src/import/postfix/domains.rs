//! The domains of Postfix, and the separators in local-parts.

use std::collections::HashSet;

use postrider_smtp::Domain;

use super::{
    context::{Context, Found, Place},
    maps::{self, Form},
};

/// The domains for which Postfix is the last host. All are in lower case.
#[derive(Debug, Default)]
pub(super) struct Domains {
    /// All of them, in the order of the files.
    pub(super) all: Vec<String>,
    /// Those of `mydestination`. Their users are users of the system.
    pub(super) local: Vec<String>,
    /// `virtual_mailbox_domains`.
    pub(super) mailbox: Vec<String>,
    known: HashSet<String>,
    /// The domain of a name without one.
    pub(super) origin: String,
    /// The characters that separate an extension from a local-part.
    pub(super) separators: Vec<char>,
}

impl Domains {
    pub(super) fn is_ours(&self, domain: &str) -> bool {
        self.known.contains(domain)
    }

    pub(super) fn is_local(&self, domain: &str) -> bool {
        self.local.iter().any(|local| local == domain)
    }

    fn add(&mut self, context: &Context<'_>, name: &str, place: &Place) -> Option<String> {
        let name = name.to_ascii_lowercase();
        if Domain::parse(&name).is_err() {
            context.left(place, format!("{name:?} is not a domain name"));
            return None;
        }
        context.taken(place, format!("domains.{name:?}"));
        if self.known.insert(name.clone()) {
            self.all.push(name.clone());
        }
        Some(name)
    }
}

pub(super) fn read(context: &Context<'_>) -> Domains {
    let mut domains = Domains {
        origin: origin(context),
        ..Domains::default()
    };
    for (name, place) in maps::names(context, &context.get("mydestination")) {
        let lower = name.to_ascii_lowercase();
        if lower == "localhost" || lower.starts_with("localhost.") {
            context.changed(&place, format!("{name} is not a domain for mail here"));
        } else if let Some(name) = domains.add(context, &name, &place) {
            domains.local.push(name);
        }
    }
    if !domains.local.is_empty() {
        let text = "users of the system have accounts only where an alias names them; add an \
            account for each other user";
        context.changed(&context.place("mydestination"), text);
    }
    for (name, place) in maps::names(context, &context.get("virtual_mailbox_domains")) {
        if let Some(name) = domains.add(context, &name, &place) {
            domains.mailbox.push(name);
        }
    }
    for (name, place) in alias_domains(context) {
        domains.add(context, &name, &place);
    }
    separators(context, &mut domains);
    domains
}

/// `virtual_alias_domains`. If it is not set, the keys of `virtual_alias_maps` that are domains.
fn alias_domains(context: &Context<'_>) -> Vec<(String, Place)> {
    let set = context.get("virtual_alias_domains");
    if set.is_set && set.value != context.get("virtual_alias_maps").value {
        return maps::names(context, &set);
    }
    let entries = maps::read(context, &virtual_aliases(context), Form::Table);
    entries
        .into_iter()
        .filter(|entry| is_domain_key(&entry.key))
        .map(|entry| (entry.key, entry.place))
        .collect()
}

/// Whether the key of a virtual alias names a domain, and not an address or a user.
pub(super) fn is_domain_key(key: &str) -> bool {
    !key.contains('@') && key.contains('.') && Domain::parse(key).is_ok()
}

/// `virtual_alias_maps`, or its old name.
pub(super) fn virtual_aliases(context: &Context<'_>) -> Found {
    let old = context.get("virtual_maps");
    let found = context.get("virtual_alias_maps");
    if found.is_set || !old.is_set {
        found
    } else {
        old
    }
}

/// `myorigin`, which may be a file with the name.
fn origin(context: &Context<'_>) -> String {
    let found = context.get("myorigin");
    if !found.value.starts_with('/') {
        return found.value.to_ascii_lowercase();
    }
    let path = context.resolve(&found.value, found.is_set);
    match context.files.read(&path) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            let line = text.lines().map(str::trim).find(|line| !line.is_empty());
            line.unwrap_or_default().to_ascii_lowercase()
        }
        Err(error) => {
            let text = format!(
                "{} cannot be read: {error}; myhostname is used",
                path.display()
            );
            context.changed(&found.place, text);
            context.get("myhostname").value.to_ascii_lowercase()
        }
    }
}

fn separators(context: &Context<'_>, domains: &mut Domains) {
    let found = context.get("recipient_delimiter");
    for c in found.value.chars() {
        if c.is_whitespace() || c.is_control() || matches!(c, '@' | '.' | '"') {
            context.left(&found.place, format!("{c:?} can't be a separator here"));
        } else if !domains.separators.contains(&c) {
            domains.separators.push(c);
        }
    }
    if !domains.separators.is_empty() {
        let text = "localpart_catchall_separators of each domain";
        context.taken(&found.place, text);
    }
}
