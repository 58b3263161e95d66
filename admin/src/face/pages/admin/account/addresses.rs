//! The addresses of an account.

use std::sync::Arc;

use askama::Template;
use axum::http::Method;
use serde_json::json;

use crate::{
    Code,
    face::{
        pages::{
            answer::{Answer, Trouble},
            asked::Asked,
            command::AsCommand,
            confirm::Confirm,
            form::Faults,
            frame::Frame,
            owner::Owner,
        },
        path::segment,
    },
    op::config::{
        addresses::{Add, AddressItem, List, Remove},
        aliases,
    },
};

#[derive(Template)]
#[template(path = "admin/account_addresses.html")]
struct Addresses {
    frame: Frame,
    owner: Owner,
    rows: Vec<Row>,
    typed: String,
    faults: Faults,
}

struct Row {
    item: AddressItem,
    /// The aliases that the address is a member of.
    aliases: Vec<String>,
    url: String,
}

/// The aliases that an address is a member of.
async fn aliases_of(asked: &Asked) -> Result<Vec<aliases::AliasItem>, Trouble> {
    Ok(asked.list(aliases::List { domain: None }).await?)
}

fn members(aliases: &[aliases::AliasItem], address: &str) -> Vec<String> {
    let meant = aliases
        .iter()
        .filter(|alias| alias.members.iter().any(|member| member == address));
    meant.map(|alias| alias.alias.clone()).collect()
}

async fn page(asked: &Asked, faults: Faults) -> Result<Addresses, Trouble> {
    let owner = Owner::of(asked).await?;
    let list = List {
        account: Some(owner.account.clone()),
    };
    let items = asked.list(list).await?;
    let aliases = aliases_of(asked).await?;
    let row = |item: AddressItem| Row {
        aliases: members(&aliases, &item.address),
        url: asked.url(&owner.path(&format!("addresses/{}", segment(&item.address)))),
        item,
    };
    let words = ["config", "address", "list", "--account", &owner.account];
    let command = AsCommand::cli(words).get(&format!("/api/principal/{}", segment(&owner.account)));
    Ok(Addresses {
        frame: asked.frame(&owner.title("Addresses")).with(command),
        rows: items.into_iter().map(row).collect(),
        owner,
        typed: asked.form.shown("address").to_owned(),
        faults,
    })
}

/// The addresses, and the form for a new one.
pub(in crate::face::pages) async fn list(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    Answer::page(&page(&asked, Faults::default()).await?)
}

/// Adds an address.
pub(in crate::face::pages) async fn add(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let owner = Owner::of(&asked).await?;
    let address = asked.form.text("address").unwrap_or_default().to_owned();
    let add = Add {
        address: address.clone(),
        account: owner.account.clone(),
    };
    match asked.run(add).await {
        Ok(()) => {
            let told = format!("{} has the address {address}.", owner.account);
            Ok(asked.done(told, &owner.path("addresses")))
        }
        Err(error) if matches!(error.code, Code::Invalid | Code::Conflict | Code::NotFound) => {
            Answer::again(&page(&asked, Faults::of(&error)).await?)
        }
        Err(error) => Err(error.into()),
    }
}

/// The address of the path, which is one of the account.
fn own(asked: &Asked, owner: &Owner) -> Result<String, Trouble> {
    let address = owner.element(asked, 0);
    let mut addresses = owner.item.addresses.iter();
    let found = addresses.find(|known| *known == address).cloned();
    found.ok_or(Trouble::NoPage)
}

/// Asks before an address is removed.
pub(in crate::face::pages) async fn ask_remove(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let owner = Owner::of(&asked).await?;
    let address = own(&asked, &owner)?;
    let aliases = members(&aliases_of(&asked).await?, &address);
    let action = format!("addresses/{}/remove", segment(&address));
    let action = asked.url(&owner.path(&action));
    let question = format!("Remove the address {address}?");
    let body = json!([{"action": "removeItem", "field": "emails", "value": address}]);
    let command = AsCommand::cli(["config", "address", "rm", &address]).call(
        &Method::PATCH,
        &format!("/api/principal/{}", segment(&owner.account)),
        Some(&body),
    );
    let mut confirm = Confirm::new(&asked, &question, "Remove the address", &action)
        .effect("Mail to it is refused, unless a catch-all takes it.")
        .effect(format!(
            "Nobody can log in or send with it. Mail of {} stays.",
            owner.account
        ));
    if !aliases.is_empty() {
        confirm = confirm.effect(format!(
            "These aliases lose it as a member: {}.",
            aliases.join(", ")
        ));
    }
    let confirm = confirm
        .back(asked.url(&owner.path("addresses")))
        .command(command);
    Answer::page(&confirm)
}

/// Removes an address.
pub(in crate::face::pages) async fn remove(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let owner = Owner::of(&asked).await?;
    let address = own(&asked, &owner)?;
    let remove = Remove {
        address: address.clone(),
    };
    match asked.run(remove).await {
        Ok(()) => {
            let told = format!("{} has the address {address} no more.", owner.account);
            Ok(asked.done(told, &owner.path("addresses")))
        }
        Err(error) if error.code == Code::Invalid => {
            Answer::again(&page(&asked, Faults::of(&error.at(""))).await?)
        }
        Err(error) => Err(error.into()),
    }
}
