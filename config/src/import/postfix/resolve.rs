//! Aliases of Postfix, and the mailboxes and outside addresses at their ends.

use std::collections::{HashMap, HashSet};

use super::{
    context::{Context, Place},
    domains::{Domains, is_domain_key, virtual_aliases},
    maps::{self, Entry, Form},
};

/// The most addresses through which one alias may lead, beside those that it names itself.
const LONGEST: usize = 50;

/// An alias: where mail to an address goes.
#[derive(Debug)]
pub(super) struct Definition {
    /// Addresses. The domains are in lower case.
    pub(super) targets: Vec<String>,
    pub(super) place: Place,
}

impl Definition {
    /// Its targets, the last one first, each with the name of the alias.
    fn named_by(&self, alias: &str) -> impl Iterator<Item = (&str, String)> {
        let targets = self.targets.iter().rev();
        targets.map(move |target| (target.as_str(), alias.to_owned()))
    }
}

/// All aliases by address, or by `@domain`, in lower case.
#[derive(Debug, Default)]
pub(super) struct Aliases {
    by_address: HashMap<String, Definition>,
    /// The addresses in the order of the files.
    pub(super) order: Vec<String>,
}

/// The ends of an alias.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Ends {
    /// Addresses of our domains, in lower case, or `@domain` for a catch-all.
    pub(super) ours: Vec<String>,
    /// Addresses elsewhere.
    pub(super) outside: Vec<String>,
    /// The alias leads through too many addresses, so some ends are missing.
    pub(super) cut: bool,
}

impl Aliases {
    /// Reads `virtual_alias_maps` and `alias_maps`. The former go first.
    pub(super) fn read(context: &Context<'_>, domains: &Domains) -> Self {
        let mut aliases = Self::default();
        for entry in maps::read(context, &virtual_aliases(context), Form::Table) {
            aliases.add_virtual(context, domains, &entry);
        }
        for entry in maps::read(context, &context.get("alias_maps"), Form::Aliases) {
            aliases.add_local(context, domains, &entry);
        }
        aliases
    }

    pub(super) fn get(&self, address: &str) -> Option<&Definition> {
        self.by_address.get(address)
    }

    fn add(&mut self, address: String, targets: Vec<String>, place: &Place) {
        if targets.is_empty() || self.by_address.contains_key(&address) {
            return;
        }
        self.order.push(address.clone());
        let place = place.clone();
        self.by_address
            .insert(address, Definition { targets, place });
    }

    fn add_virtual(&mut self, context: &Context<'_>, domains: &Domains, entry: &Entry) {
        let key = entry.key.to_lowercase();
        if is_domain_key(&key) && domains.is_ours(&key) {
            return;
        }
        let targets = targets(context, domains, entry);
        match key.rsplit_once('@') {
            None => {
                for domain in &domains.local {
                    self.add(format!("{key}@{domain}"), targets.clone(), &entry.place);
                }
                if domains.local.is_empty() {
                    context.left(&entry.place, "no domain has users of the system");
                }
            }
            Some((_, domain)) if domains.is_ours(domain) => self.add(key, targets, &entry.place),
            Some((_, domain)) => {
                let text = format!("{domain} is not one of the domains here");
                context.left(&entry.place, text);
            }
        }
    }

    fn add_local(&mut self, context: &Context<'_>, domains: &Domains, entry: &Entry) {
        let targets = targets(context, domains, entry);
        if domains.local.is_empty() {
            context.left(
                &entry.place,
                "no domain of mydestination can have this alias",
            );
        }
        for domain in &domains.local {
            let address = format!("{}@{domain}", entry.key.to_lowercase());
            self.add(address, targets.clone(), &entry.place);
        }
    }

    /// Where mail to an address goes in the end. `is_mailbox` tells whether an address, or
    /// `@domain`, is a mailbox.
    pub(super) fn ends(
        &self,
        address: &str,
        domains: &Domains,
        is_mailbox: impl Fn(&str) -> bool,
    ) -> Ends {
        let mut ends = Ends::default();
        let Some(start) = self.get(address) else {
            return ends;
        };
        let mut seen: HashSet<String> = HashSet::from([address.to_owned()]);
        // Each target with the alias that names it.
        let mut waiting: Vec<(&str, String)> = Vec::new();
        waiting.extend(start.named_by(address));
        let mut left = LONGEST + waiting.len();
        let mut found_ends: HashSet<String> = HashSet::new();
        let mut push = |list: &mut Vec<String>, end: String| {
            if found_ends.insert(end.clone()) {
                list.push(end);
            }
        };
        while let Some((target, alias)) = waiting.pop() {
            if left == 0 {
                ends.cut = true;
                break;
            }
            left -= 1;
            let lower = target.to_lowercase();
            // A target that repeats its alias means the mailbox behind it.
            if lower == alias {
                push(&mut ends.ours, lower);
                continue;
            }
            if !seen.insert(lower.clone()) {
                continue;
            }
            let (local, domain) = lower.rsplit_once('@').unwrap_or((&lower, ""));
            let base = domains
                .separators
                .iter()
                .find_map(|separator| Some(local.split_once(*separator)?.0))
                .filter(|base| !base.is_empty())
                .map(|base| format!("{base}@{domain}"));
            let catch_all = format!("@{domain}");
            let further = [Some(&lower), base.as_ref(), Some(&catch_all)];
            let mut further = further.into_iter().flatten();
            if !domains.is_ours(domain) {
                push(&mut ends.outside, target.to_owned());
            } else if let Some(found) = further
                .clone()
                .find(|name| self.by_address.contains_key(*name) || is_mailbox(name))
            {
                match self.get(found).filter(|_| found != address) {
                    Some(alias) if *found == lower || seen.insert(found.clone()) => {
                        waiting.extend(alias.named_by(found));
                    }
                    Some(_) => {}
                    None => push(&mut ends.ours, found.clone()),
                }
            } else {
                // A user of the system, or nobody.
                further
                    .next()
                    .into_iter()
                    .for_each(|name| push(&mut ends.ours, name.clone()));
            }
        }
        ends
    }
}

/// The addresses of an entry. Notes programs, files and lists.
fn targets(context: &Context<'_>, domains: &Domains, entry: &Entry) -> Vec<String> {
    let mut targets = Vec::new();
    let value = entry.value.as_str();
    for word in split(value) {
        let bare = word.trim_matches('"');
        if bare.starts_with('|') {
            context.left(
                &entry.place,
                "a program gets this mail; use an incoming webhook",
            );
        } else if bare.starts_with('/') {
            context.left(
                &entry.place,
                format!("mail is not written to the file {bare}"),
            );
        } else if bare.starts_with(":include:") {
            let text = format!("the members of the list {bare} are not read");
            context.left(&entry.place, text);
        } else if bare.starts_with('@') {
            let text = format!("all addresses of a domain can't be turned into those of {bare}");
            context.left(&entry.place, text);
        } else {
            targets.push(qualified(domains, word.trim_start_matches('\\')));
        }
    }
    targets
}

/// The words between commas and white space. Quotes keep them together.
fn split(text: &str) -> Vec<&str> {
    let mut quoted = false;
    text.split(|c: char| {
        if c == '"' {
            quoted = !quoted;
        }
        !quoted && (c == ',' || c.is_whitespace())
    })
    .filter(|word| !word.is_empty())
    .collect()
}

/// An address with its domain. Users of `localhost` are those of the local domains.
fn qualified(domains: &Domains, word: &str) -> String {
    let (local, domain) = match word.rsplit_once('@') {
        Some((local, domain)) => (local, domain.to_ascii_lowercase()),
        None => (word, domains.origin.clone()),
    };
    let here = domain == "localhost" || domain.starts_with("localhost.");
    match domains.local.first().or_else(|| domains.all.first()) {
        Some(first) if here => format!("{local}@{first}"),
        _ => format!("{local}@{domain}"),
    }
}
