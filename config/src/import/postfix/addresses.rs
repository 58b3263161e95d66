//! Accounts, destinations and aliases from the tables of Postfix.

use std::collections::{HashMap, HashSet};

use postrider_smtp::Address;

use super::{
    context::{Context, Place},
    domains::Domains,
    maps::{self, Form},
    resolve::{Aliases, Ends},
};

/// The account of addresses whose mail goes elsewhere only.
const FORWARDS: &str = "forwards";

/// An address of an account, or `@domain`.
#[derive(Debug)]
pub(super) struct Destination {
    pub(super) address: String,
    /// Addresses elsewhere that get the mail.
    pub(super) forward: Vec<String>,
}

#[derive(Debug)]
pub(super) struct Account {
    pub(super) name: String,
    pub(super) domain: String,
    pub(super) destinations: Vec<Destination>,
}

#[derive(Debug)]
pub(super) struct Alias {
    pub(super) domain: String,
    pub(super) local: String,
    pub(super) members: Vec<String>,
}

/// Everything about addresses that goes into `domains.conf`.
#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) domains: Domains,
    pub(super) accounts: Vec<Account>,
    pub(super) aliases: Vec<Alias>,
    /// The transport that gets the mail of a domain instead of the mailboxes.
    pub(super) lmtp: HashMap<String, String>,
    /// The account of the postmaster. There is one.
    pub(super) postmaster: String,
    names: HashSet<String>,
    /// The place in `accounts` of the account for addresses whose mail goes elsewhere only.
    forwards: Option<usize>,
    /// The place in `accounts` of each destination.
    owners: HashMap<String, usize>,
}

pub(super) fn read(context: &Context<'_>, domains: Domains) -> Model {
    let mut model = Model {
        domains,
        ..Model::default()
    };
    let aliases = Aliases::read(context, &model.domains);
    mailboxes(context, &mut model);
    let mailboxes: HashSet<String> = model.owners.keys().cloned().collect();
    for address in &aliases.order {
        let ends = aliases.ends(address, &model.domains, |name| mailboxes.contains(name));
        if let Some(definition) = aliases.get(address) {
            let mut linker = Linker {
                context,
                aliases: &aliases,
                model: &mut model,
                place: &definition.place,
            };
            linker.link(address, ends);
        }
    }
    postmaster(context, &mut model);
    model
}

/// `virtual_mailbox_maps`: an account for each.
fn mailboxes(context: &Context<'_>, model: &mut Model) {
    let found = context.get("virtual_mailbox_maps");
    for entry in maps::read(context, &found, Form::Table) {
        let address = entry.key.to_lowercase();
        let Some((local, domain)) = address.rsplit_once('@') else {
            context.left(&entry.place, "is not an address");
            continue;
        };
        if !model.domains.is_ours(domain) {
            context.left(
                &entry.place,
                format!("{domain} is not one of the domains here"),
            );
        } else if !local.is_empty() && Address::parse(&address).is_err() {
            context.left(&entry.place, format!("{address:?} is not a mail address"));
        } else {
            let wanted = if local.is_empty() { "catchall" } else { local };
            let account = model.account(wanted, domain);
            model.own(account, &address, Vec::new());
            let name = model.name(account);
            context.taken(&entry.place, format!("accounts.{name}"));
        }
    }
}

impl Model {
    pub(super) fn name(&self, account: usize) -> &str {
        self.accounts
            .get(account)
            .map_or("", |account| account.name.as_str())
    }

    /// A new account, named after a local-part.
    fn account(&mut self, wanted: &str, domain: &str) -> usize {
        let name = self.unused_name(wanted, domain);
        self.names.insert(name.clone());
        self.accounts.push(Account {
            name,
            domain: domain.to_owned(),
            destinations: Vec::new(),
        });
        self.accounts.len() - 1
    }

    fn unused_name(&self, wanted: &str, domain: &str) -> String {
        let clean: String = wanted
            .chars()
            .map(|c| match c {
                '/' | '\\' | '@' | '"' => '-',
                c if c.is_control() || c.is_whitespace() => '-',
                c => c,
            })
            .take(60)
            .collect();
        let clean = match clean.trim_start_matches('.') {
            "" => "account",
            clean => clean,
        };
        let long = format!("{clean}.{domain}");
        let short: String = long.chars().take(100).collect();
        [clean.to_owned(), short.clone()]
            .into_iter()
            .chain((self.names.len()..).map(|number| format!("{short}.{number}")))
            .find(|name| !self.names.contains(name))
            .unwrap_or(short)
    }

    /// Gives an address to an account, unless it has an owner.
    fn own(&mut self, account: usize, address: &str, forward: Vec<String>) -> bool {
        if self.owners.contains_key(address) {
            return false;
        }
        let Some(owner) = self.accounts.get_mut(account) else {
            return false;
        };
        owner.destinations.push(Destination {
            address: address.to_owned(),
            forward,
        });
        self.owners.insert(address.to_owned(), account);
        true
    }

    /// The first address of an account that is no catch-all.
    fn address(&self, account: usize) -> Option<&str> {
        let destinations = self.accounts.get(account)?.destinations.iter();
        let mut addresses = destinations.map(|destination| destination.address.as_str());
        addresses.find(|address| !address.starts_with('@'))
    }

    /// The account of addresses whose mail goes elsewhere.
    fn forwards(&mut self, domain: &str) -> usize {
        match self.forwards {
            Some(account) => account,
            None => {
                let account = self.account(FORWARDS, domain);
                self.forwards = Some(account);
                account
            }
        }
    }
}

/// Connects one alias with accounts.
struct Linker<'a> {
    context: &'a Context<'a>,
    aliases: &'a Aliases,
    model: &'a mut Model,
    place: &'a Place,
}

impl Linker<'_> {
    fn left(&self, text: impl Into<String>) {
        self.context.left(self.place, text);
    }

    fn link(&mut self, address: &str, mut ends: Ends) {
        let (local, domain) = address.rsplit_once('@').unwrap_or((address, ""));
        if !local.is_empty() && Address::parse(address).is_err() {
            self.left(format!("{address:?} is not a mail address"));
            return;
        }
        if ends.cut {
            self.left("leads through too many addresses; the last ones are left out");
        }
        ends.outside.retain(|target| {
            let valid = Address::parse(target).is_ok();
            if !valid {
                self.context
                    .left(self.place, format!("{target:?} is not a mail address"));
            }
            valid
        });
        let mut accounts: Vec<usize> = Vec::new();
        let mut seen = HashSet::new();
        let mut unknown = false;
        for end in &ends.ours {
            match self.owner(end, address) {
                Some(account) if seen.insert(account) => accounts.push(account),
                Some(_) => {}
                None => {
                    unknown = true;
                    self.left(format!("leads to {end}, which does not exist"));
                }
            }
        }
        if self.model.owners.contains_key(address) {
            self.itself(address, &accounts, &ends);
            return;
        }
        match (accounts.as_slice(), ends.outside.as_slice()) {
            ([], []) if unknown => {}
            ([], []) => self.left("leads to no mailbox and to no address elsewhere"),
            ([account], []) => self.destination(address, *account, Vec::new()),
            ([], _) => {
                let account = self.model.forwards(domain);
                self.destination(address, account, ends.outside);
            }
            _ if local.is_empty() => {
                self.left("a catch-all has one account here, and can't lead to several addresses");
            }
            (accounts, outside) => self.alias((local, domain), accounts, outside),
        }
    }

    /// The account of an address of ours. Users of the system get one.
    fn owner(&mut self, end: &str, alias: &str) -> Option<usize> {
        if let Some(owner) = self.model.owners.get(end) {
            return Some(*owner);
        }
        let (local, domain) = end.rsplit_once('@')?;
        let lone = self.model.domains.local.is_empty();
        let is_user = self.model.domains.is_local(domain) || lone;
        if !is_user || local.is_empty() || Address::parse(end).is_err() {
            return None;
        }
        let account = self.model.account(local, domain);
        let mut domains = self.model.domains.local.clone();
        if lone {
            domains.push(domain.to_owned());
        }
        for domain in domains {
            let address = format!("{local}@{domain}");
            if address == end || address == alias || self.aliases.get(&address).is_none() {
                self.model.own(account, &address, Vec::new());
            }
        }
        let name = self.model.name(account);
        let text = format!("{local} was a user of the system; now accounts.{name} is there");
        self.context.changed(self.place, text);
        Some(account)
    }

    /// An alias with the address of a mailbox.
    fn itself(&self, address: &str, accounts: &[usize], ends: &Ends) {
        let own = self.model.owners.get(address);
        match own {
            Some(own) if accounts == [*own] && ends.outside.is_empty() => {
                let name = self.model.name(*own);
                self.context
                    .taken(self.place, format!("accounts.{name}.destinations"));
            }
            _ => self.left(format!(
                "mail to {address} goes to its mailbox only: an address is either a mailbox or \
                 an alias here"
            )),
        }
    }

    fn destination(&mut self, address: &str, account: usize, forward: Vec<String>) {
        let kind = if forward.is_empty() { "" } else { ".forward" };
        self.model.own(account, address, forward);
        let name = self.model.name(account);
        let text = format!("accounts.{name}.destinations.{address:?}{kind}");
        self.context.taken(self.place, text);
    }

    fn alias(&mut self, (local, domain): (&str, &str), accounts: &[usize], outside: &[String]) {
        let mut members: Vec<String> = Vec::new();
        for account in accounts {
            match self.model.address(*account) {
                Some(address) => members.push(address.to_owned()),
                None => self.left("a member has a catch-all only, and can't be a member"),
            }
        }
        if !outside.is_empty() {
            // The members of an alias are destinations, so outside addresses get one.
            let address = format!("{local}.forward@{domain}");
            let account = self.model.forwards(domain);
            if self.model.own(account, &address, outside.to_vec()) {
                let text = format!("{address} forwards to the members outside");
                self.context.changed(self.place, text);
                members.push(address);
            } else {
                self.left(format!("{address} exists, so members outside are left out"));
            }
        }
        let text = format!("domains.{domain:?}.aliases.{local:?}");
        self.context.taken(self.place, text);
        self.model.aliases.push(Alias {
            domain: domain.to_owned(),
            local: local.to_owned(),
            members,
        });
    }
}

/// Finds an account for the postmaster, or makes one.
fn postmaster(context: &Context<'_>, model: &mut Model) {
    let domains = model.domains.local.iter().chain(&model.domains.all);
    let mut owners = domains.filter_map(|domain| {
        let address = format!("postmaster@{domain}");
        model.owners.get(&address).copied()
    });
    let found = owners.next();
    let place = context.place("");
    let account = match found {
        Some(account) => account,
        None if (0..model.accounts.len()).any(|account| model.forwards != Some(account)) => {
            let account = usize::from(model.forwards == Some(0));
            let name = model.name(account);
            context.changed(
                &place,
                format!("no address postmaster was found, so postmaster.account is {name:?}"),
            );
            account
        }
        None => {
            if model.domains.all.is_empty() {
                let name = context.get("myhostname").value.to_ascii_lowercase();
                let text = format!("no domain was found, so there is one: {name}");
                context.changed(&place, text);
                model.domains.all.push(name);
            }
            let domain = model.domains.all.first().cloned().unwrap_or_default();
            let account = model.account("postmaster", &domain);
            model.own(account, &format!("postmaster@{domain}"), Vec::new());
            context.changed(
                &place,
                "no mailbox was found, so accounts.postmaster is there",
            );
            account
        }
    };
    model.postmaster = model.name(account).to_owned();
}
