//! `config domain ...`

use std::io::{self, Write};

use postrider_admin::op::{
    config::{
        domains::{Add, Added, DomainItem, List, Remove, Set},
        settings::Setting,
    },
    dns::RecordItem,
};

use super::settings::changes;
use crate::{
    cli::Domain,
    command::{
        desk::Desk,
        dns,
        output::{count, print, print_json},
        visible,
    },
};

pub(super) fn run(desk: &Desk, command: Domain) -> anyhow::Result<()> {
    match command {
        Domain::Add {
            domain,
            account,
            localpart,
            disabled,
            tenant,
            json,
        } => {
            let added = desk.ask(&Add {
                domain,
                account: account.clone(),
                localpart,
                disabled,
                tenant: tenant.unwrap_or_default(),
            })?;
            match json {
                true => print_json(&added),
                false => print(&told(&visible::value(&added)?, &account)),
            }
        }
        Domain::Rm { domain } => {
            let said = format!("domain {domain} removed\n");
            let removed = desk.ask(&Remove { domain })?;
            let files = removed.files.iter();
            let files: String = files.map(|file| format!("key moved to {file}\n")).collect();
            print(&format!("{said}{files}"))
        }
        Domain::List { json } => {
            let list = List { domain: None };
            desk.print_list(&list, json, "there are no domains", row)
        }
        Domain::Get { domain, json } => {
            let domain = Some(domain);
            desk.print_list(&List { domain }, json, "there is no such domain", lines)
        }
        Domain::Set { domain, settings } => {
            let said = format!("domain {domain} changed\n");
            let settings = changes(settings)?;
            desk.ask(&Set { domain, settings })?;
            print(&said)
        }
        Domain::Enable { domain } => {
            let said = format!("domain {domain} enabled\n");
            desk.ask(&disabled(domain, None))?;
            print(&said)
        }
        Domain::Disable { domain } => {
            let said = format!("domain {domain} disabled\n");
            desk.ask(&disabled(domain, Some("true".to_owned())))?;
            print(&said)
        }
    }
}

fn disabled(domain: String, value: Option<String>) -> Set {
    let key = "disabled".to_owned();
    let settings = vec![Setting { key, value }];
    Set { domain, settings }
}

/// The text about a new domain.
fn told(added: &Added, account: &str) -> String {
    let mut text = format!("domain {} added\n", added.domain);
    if let Some(address) = &added.address {
        text += &format!("{address} is an address of account {account}\n");
    }
    if added.new_account {
        text += &format!(
            "account {account} is new; set its password: postrider setpassword {account}\n"
        );
    }
    text += &format!("\nrecords for DNS:\n{}", RecordItem::text(&added.records));
    if let Some(published) = &added.published {
        text += &format!("\npublished:\n{}", dns::published_text(published));
    }
    if let Some(problem) = &added.publish_problem {
        text += &format!(
            "\nthe records could not be published: {problem}\nto try again: postrider dns publish {}\n",
            added.domain
        );
    }
    text
}

fn row(out: &mut dyn Write, _: u64, item: &DomainItem) -> io::Result<()> {
    let state = match item.disabled {
        true => "  (disabled)",
        false => "",
    };
    writeln!(
        out,
        "{:<30}  {}, {}{state}",
        item.name,
        count(item.addresses, "address", "addresses"),
        count(item.aliases, "alias", "aliases"),
    )
}

fn lines(out: &mut dyn Write, _: u64, item: &DomainItem) -> io::Result<()> {
    let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "none".to_owned());
    writeln!(out, "domain        {}", item.name)?;
    writeln!(out, "disabled      {}", item.disabled)?;
    writeln!(out, "description   {}", item.description)?;
    writeln!(out, "mail programs {}", item.client_settings_domain)?;
    let separators = item.localpart_catchall_separators.join(" ");
    writeln!(out, "separators    {separators}")?;
    writeln!(out, "addresses     {}", item.addresses)?;
    writeln!(out, "aliases       {}", item.aliases)?;
    writeln!(out, "signs with    {}", item.signing.join(" "))?;
    writeln!(out, "DMARC reports {}", or_none(&item.dmarc))?;
    writeln!(out, "TLS reports   {}", or_none(&item.tls_rpt))?;
    writeln!(out, "MTA-STS       {}", or_none(&item.mta_sts))?;
    writeln!(out, "tenant        {}", or_none(&item.tenant))
}
