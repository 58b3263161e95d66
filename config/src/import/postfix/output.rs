//! The model of addresses, the routes and the services, written as our files.

use std::collections::HashMap;

use toml_edit::InlineTable;

use super::{
    addresses::{Account, Model},
    context::{Context, Place},
    relays::Relays,
    services::Services,
};
use crate::import::{
    Import,
    document::{Document, Table, array},
};

pub(super) fn write(
    context: Context<'_>,
    hostname: &str,
    model: &Model,
    relays: Relays,
    services: Services,
) -> Import {
    let mut statics = Document::new(&[
        "postrider.conf, made from the files of Postfix by \"postrider config import-postfix\".",
        "\"postrider config describe\" explains all keys.",
    ]);
    let mut plain = Table::new::<&str>(&[]);
    plain.set("hostname", hostname);
    plain.set("postmaster.account", &model.postmaster);
    if let Some(recipients) = services.recipients {
        plain.set("limits.recipients_per_message", recipients);
    }
    statics.push(plain);
    let tables = services.listeners.into_iter();
    for table in tables.chain(services.milters).chain(relays.transports) {
        statics.push(table);
    }
    let mut dynamic = Document::new(&[
        "domains.conf, made from the files of Postfix by \"postrider config import-postfix\".",
        "\"postrider config describe\" explains all keys. A change takes effect when the file is \
         saved.",
    ]);
    for route in relays.routes {
        dynamic.push(route);
    }
    let used = separators_in_use(model);
    for domain in &model.domains.all {
        dynamic.push(domain_table(&context, model, &used, domain));
    }
    for alias in &model.aliases {
        let path = ["domains", &alias.domain, "aliases", &alias.local];
        let mut table = Table::new(&path);
        table.set("addresses", array(&alias.members));
        table.set("post_public", true);
        dynamic.push(table);
    }
    for account in &model.accounts {
        dynamic.push(account_table(model, account));
    }
    if !model.accounts.is_empty() {
        let place = Place {
            key: String::new(),
            line: 0,
            ..context.place("")
        };
        context.changed(
            &place,
            "passwords are not taken; give each account one with \"postrider setpassword NAME\"",
        );
    }
    Import {
        statics: statics.text(),
        dynamic: dynamic.text(),
        files: Vec::new(),
        notes: context.into_notes().finish(),
    }
}

/// For each domain, the separators that are a part of one of its addresses, with that address.
fn separators_in_use(model: &Model) -> HashMap<(&str, char), String> {
    let mut used = HashMap::new();
    let destinations = model
        .accounts
        .iter()
        .flat_map(|account| &account.destinations);
    let own = destinations.filter_map(|destination| destination.address.rsplit_once('@'));
    let aliases = model.aliases.iter();
    let aliases = aliases.map(|alias| (alias.local.as_str(), alias.domain.as_str()));
    for (local, domain) in own.chain(aliases) {
        for separator in &model.domains.separators {
            if local.contains(*separator) {
                let address = format!("{local}@{domain}");
                used.entry((domain, *separator)).or_insert(address);
            }
        }
    }
    used
}

fn domain_table(
    context: &Context<'_>,
    model: &Model,
    used: &HashMap<(&str, char), String>,
    domain: &str,
) -> Table {
    let mut table = Table::new(&["domains", domain]);
    let mut separators = Vec::new();
    for separator in &model.domains.separators {
        match used.get(&(domain, *separator)) {
            None => separators.push(separator.to_string()),
            Some(address) => {
                let place = context.place("recipient_delimiter");
                let text = format!("{separator:?} is no separator of {domain}: {address} has it");
                context.changed(&place, text);
            }
        }
    }
    if !separators.is_empty() {
        table.set("localpart_catchall_separators", array(separators));
    }
    table
}

fn account_table(model: &Model, account: &Account) -> Table {
    let mut table = Table::new(&["accounts", &account.name]);
    table.set("domain", &account.domain);
    for destination in &account.destinations {
        let mut keys = InlineTable::new();
        let domain = destination
            .address
            .rsplit_once('@')
            .map_or("", |(_, domain)| domain);
        if !destination.forward.is_empty() {
            keys.insert("forward", array(&destination.forward));
        } else if let Some(transport) = model.lmtp.get(domain) {
            keys.insert("forward_lmtp", transport.into());
        }
        table.set_exact(&["destinations", &destination.address], keys);
    }
    table
}
