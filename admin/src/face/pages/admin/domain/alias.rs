//! One alias: its members, and what they and others may do.

use std::sync::Arc;

use askama::Template;

use super::{
    Head,
    aliases::{items, localpart, members},
};
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
            shown::counted,
        },
        path::segment,
    },
    op::config::aliases::{AddMembers, AliasItem, Remove, RemoveMembers, Update},
};

#[derive(Template)]
#[template(path = "admin/domain_alias.html")]
struct Alias {
    frame: Frame,
    domain: Head,
    alias: AliasItem,
    /// The path of the alias within the area.
    path: String,
    /// The members with the pages where they are removed.
    members: Vec<(String, String)>,
    typed: String,
    faults: Faults,
}

/// The alias of the path, and its path within the area.
async fn found(asked: &Asked, domain: &Head) -> Result<(AliasItem, String), Trouble> {
    let wanted = asked.element(1);
    let mut all = items(asked, domain).await?.into_iter();
    let alias = all.find(|alias| localpart(&alias.alias) == wanted);
    let path = domain.path(&format!("aliases/{}", segment(wanted)));
    Ok((alias.ok_or(Trouble::NoPage)?, path))
}

async fn page(asked: &Asked, domain: Head, faults: Faults) -> Result<Alias, Trouble> {
    let (alias, path) = found(asked, &domain).await?;
    let member = |member: &String| {
        let page = format!("{path}/members/{}/remove", segment(member));
        (member.clone(), asked.url(&page))
    };
    let command = AsCommand::cli(["config", "alias", "list", "--domain", domain.name()]);
    Ok(Alias {
        frame: asked.frame(&alias.alias).with(command),
        domain,
        members: alias.members.iter().map(member).collect(),
        typed: asked.form.shown("members").to_owned(),
        alias,
        path,
        faults,
    })
}

/// The alias.
pub(in crate::face::pages) async fn show(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let domain = Head::of(&asked).await?;
    Answer::page(&page(&asked, domain, Faults::default()).await?)
}

/// Sets what members and others may do.
pub(in crate::face::pages) async fn change(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let domain = Head::of(&asked).await?;
    let (alias, path) = found(&asked, &domain).await?;
    let update = Update {
        alias: alias.alias,
        post_public: Some(asked.form.flag("post_public")),
        list_members: Some(asked.form.flag("list_members")),
        allow_msg_from: Some(asked.form.flag("allow_msg_from")),
    };
    asked.run(update).await?;
    Ok(asked.done("Saved. It is in force.", &path))
}

/// Adds members.
pub(in crate::face::pages) async fn add_members(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let domain = Head::of(&asked).await?;
    let (alias, path) = found(&asked, &domain).await?;
    let new = members(&asked.form);
    let count = counted(new.len() as u64, "member", "members");
    let add = AddMembers {
        alias: alias.alias.clone(),
        members: new,
    };
    match asked.run(add).await {
        Ok(()) => Ok(asked.done(format!("{} has {count} more.", alias.alias), &path)),
        Err(error) if matches!(error.code, Code::Invalid | Code::Conflict) => {
            Answer::again(&page(&asked, domain, Faults::of(&error)).await?)
        }
        Err(error) => Err(error.into()),
    }
}

/// The member of the path.
fn member(asked: &Asked, alias: &AliasItem) -> Result<String, Trouble> {
    let wanted = asked.element(2);
    let found = alias.members.iter().find(|member| *member == wanted);
    found.cloned().ok_or(Trouble::NoPage)
}

/// Asks before a member is removed.
pub(in crate::face::pages) async fn ask_remove_member(
    asked: Arc<Asked>,
) -> Result<Answer, Trouble> {
    let domain = Head::of(&asked).await?;
    let (alias, path) = found(&asked, &domain).await?;
    let member = member(&asked, &alias)?;
    let action = asked.url(&format!("{path}/members/{}/remove", segment(&member)));
    let question = format!("Take {member} out of {}?", alias.alias);
    let words = ["config", "alias", "rm-members", &alias.alias, &member];
    let confirm = Confirm::new(&asked, &question, "Remove the member", &action)
        .effect(format!(
            "Mail to {} does not go to {member} any more.",
            alias.alias
        ))
        .back(asked.url(&path))
        .command(AsCommand::cli(words));
    Answer::page(&confirm)
}

/// Removes a member.
pub(in crate::face::pages) async fn remove_member(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let domain = Head::of(&asked).await?;
    let (alias, path) = found(&asked, &domain).await?;
    let member = member(&asked, &alias)?;
    let remove = RemoveMembers {
        alias: alias.alias.clone(),
        members: vec![member.clone()],
    };
    match asked.run(remove).await {
        Ok(()) => Ok(asked.done(format!("{member} is a member no more."), &path)),
        Err(error) if error.code == Code::Invalid => {
            Answer::again(&page(&asked, domain, Faults::of(&error.at(""))).await?)
        }
        Err(error) => Err(error.into()),
    }
}

/// Asks before an alias is removed.
pub(in crate::face::pages) async fn ask_remove(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let domain = Head::of(&asked).await?;
    let (alias, path) = found(&asked, &domain).await?;
    let action = asked.url(&format!("{path}/remove"));
    let question = format!("Remove the alias {}?", alias.alias);
    let count = counted(alias.members.len() as u64, "member", "members");
    let confirm = Confirm::new(&asked, &question, "Remove the alias", &action)
        .effect(format!(
            "Mail to it is refused. It has {count}, who keep their addresses."
        ))
        .examples(alias.members.iter().take(5).cloned().collect())
        .back(asked.url(&path))
        .command(AsCommand::cli(["config", "alias", "rm", &alias.alias]));
    Answer::page(&confirm)
}

/// Removes an alias.
pub(in crate::face::pages) async fn remove(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let domain = Head::of(&asked).await?;
    let (alias, _) = found(&asked, &domain).await?;
    let name = alias.alias.clone();
    asked.run(Remove { alias: alias.alias }).await?;
    Ok(asked.done(
        format!("The alias {name} is removed."),
        &domain.path("aliases"),
    ))
}
