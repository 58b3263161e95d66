//! The aliases of a domain: addresses whose mail goes to all members.

use std::sync::Arc;

use askama::Template;

use super::Head;
use crate::{
    Code,
    face::{
        pages::{
            answer::{Answer, Trouble},
            asked::Asked,
            command::AsCommand,
            form::{Faults, Fields},
            frame::Frame,
            list::{Links, Listing},
        },
        path::segment,
    },
    op::config::aliases::{Add, AliasItem, List},
};

#[derive(Template)]
#[template(path = "admin/domain_aliases.html")]
struct Aliases {
    frame: Frame,
    domain: Head,
    rows: Vec<Row>,
    links: Links,
    form: NewAlias,
    faults: Faults,
}

struct Row {
    alias: AliasItem,
    url: String,
}

/// What was typed.
struct NewAlias {
    localpart: String,
    members: String,
    post_public: bool,
    list_members: bool,
    allow_msg_from: bool,
}

/// The part of an address before the last `@`.
pub(super) fn localpart(address: &str) -> &str {
    address.rsplit_once('@').map_or(address, |(local, _)| local)
}

/// The aliases of a domain.
pub(super) async fn items(asked: &Asked, domain: &Head) -> Result<Vec<AliasItem>, Trouble> {
    let list = List {
        domain: Some(domain.name().to_owned()),
    };
    Ok(asked.list(list).await?)
}

async fn page(asked: &Asked, domain: Head, faults: Faults) -> Result<Aliases, Trouble> {
    let all = items(asked, &domain).await?;
    let (items, links) = Listing::new(&asked.query).part(all, |alias| alias.alias.clone());
    let row = |alias: AliasItem| Row {
        url: asked.url(&domain.path(&format!("aliases/{}", segment(localpart(&alias.alias))))),
        alias,
    };
    let form = &asked.form;
    let command = AsCommand::cli(["config", "alias", "list", "--domain", domain.name()])
        .get("/api/principal?types=list");
    Ok(Aliases {
        frame: domain.frame(asked, "Aliases").with(command),
        rows: items.into_iter().map(row).collect(),
        domain,
        links,
        form: NewAlias {
            localpart: form.shown("localpart").to_owned(),
            members: form.shown("members").to_owned(),
            post_public: form.flag("post_public"),
            list_members: form.flag("list_members"),
            allow_msg_from: form.flag("allow_msg_from"),
        },
        faults,
    })
}

/// The aliases, and the form for a new one.
pub(in crate::face::pages) async fn list(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let domain = Head::of(&asked).await?;
    Answer::page(&page(&asked, domain, Faults::default()).await?)
}

/// The addresses in a text area.
pub(super) fn members(form: &Fields) -> Vec<String> {
    let texts = form
        .shown("members")
        .split([',', '\n', '\r'])
        .map(str::trim);
    texts
        .filter(|it| !it.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Adds an alias.
pub(in crate::face::pages) async fn add(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let domain = Head::of(&asked).await?;
    let local = asked.form.text("localpart").unwrap_or_default();
    let alias = format!("{local}@{}", domain.name());
    let add = Add {
        alias: alias.clone(),
        members: members(&asked.form),
        post_public: asked.form.flag("post_public"),
        list_members: asked.form.flag("list_members"),
        allow_msg_from: asked.form.flag("allow_msg_from"),
    };
    match asked.run(add).await {
        Ok(()) => Ok(asked.done(
            format!("The alias {alias} is added."),
            &domain.path("aliases"),
        )),
        Err(error) if matches!(error.code, Code::Invalid | Code::Conflict) => {
            let error = match error.field.as_deref() {
                Some("alias") => error.at("localpart"),
                _ => error,
            };
            Answer::again(&page(&asked, domain, Faults::of(&error)).await?)
        }
        Err(error) => Err(error.into()),
    }
}
