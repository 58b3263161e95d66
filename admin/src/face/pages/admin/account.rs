//! One account for the administrator: what it is, its end, and that nobody logs in to it.
//!
//! The pages that its holder has too are in `credentials` and `settings`.

pub(in crate::face::pages) mod addresses;

use std::sync::Arc;

use askama::Template;
use axum::http::Method;
use serde_json::Value;

use crate::{
    AdminError, Code,
    face::{
        pages::{
            answer::{Answer, Trouble},
            asked::Asked,
            command::AsCommand,
            confirm::{Confirm, check_typed},
            frame::Frame,
            owner::Owner,
            shown::{Bytes, Count, When, counted},
        },
        path::segment,
    },
    op::config::{
        accounts::{Remove, Removed, Suspend, Unsuspend},
        states::{AccountState, States},
    },
};

#[derive(Template)]
#[template(path = "admin/account.html")]
struct Account {
    frame: Frame,
    owner: Owner,
    state: AccountState,
    password_set: When,
}

/// What an account has used of its limits, and how it logs in.
pub(in crate::face::pages) async fn state(
    asked: &Asked,
    owner: &Owner,
) -> Result<AccountState, Trouble> {
    let states = States {
        accounts: vec![owner.account.clone()],
    };
    let found = asked.list(states).await?.into_iter().next();
    found.ok_or(Trouble::NoPage)
}

/// What the account is.
pub(in crate::face::pages) async fn show(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let owner = Owner::of(&asked).await?;
    let state = state(&asked, &owner).await?;
    let call = format!("/api/principal/{}", segment(&owner.account));
    let command = AsCommand::cli(["config", "account", "get", &owner.account]).get(&call);
    Answer::page(&Account {
        frame: asked.frame(&owner.title("Overview")).with(command),
        password_set: When::maybe(state.password_set.as_ref(), asked.now()),
        state,
        owner,
    })
}

/// The text for those who log in, where the administrator writes none.
const MESSAGE: &str = "this account is suspended";

/// Asks before nobody can log in to an account.
pub(in crate::face::pages) async fn ask_suspend(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let owner = Owner::of(&asked).await?;
    let name = &owner.account;
    let action = asked.url(&owner.path("suspend"));
    let question = format!("Disable the login of {name}?");
    let call = format!("/api/principal/{}/suspend", segment(name));
    let command =
        AsCommand::cli(["config", "account", "suspend", name]).call(&Method::POST, &call, None);
    let confirm = Confirm::new(&asked, &question, "Disable the login", &action)
        .effect("Programs and people can't log in, with passwords and with keys.")
        .effect("The account still receives mail, and its queued mail is delivered.")
        .effect(format!("Those who log in read: {MESSAGE}."))
        .back(asked.url(&owner.path("")))
        .command(command);
    Answer::page(&confirm)
}

/// Lets nobody log in to an account.
pub(in crate::face::pages) async fn suspend(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let owner = Owner::of(&asked).await?;
    let suspend = Suspend {
        account: owner.account.clone(),
        message: Some(MESSAGE.to_owned()),
    };
    asked.run(suspend).await?;
    let told = format!("Nobody can log in to {} from now on.", owner.account);
    Ok(asked.done(told, &owner.path("")))
}

/// Lets an account log in again.
pub(in crate::face::pages) async fn unsuspend(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let owner = Owner::of(&asked).await?;
    let account = owner.account.clone();
    asked.run(Unsuspend { account }).await?;
    let told = format!("{} can log in again.", owner.account);
    Ok(asked.done(told, &owner.path("")))
}

fn removal(asked: &Asked, owner: &Owner) -> Confirm {
    let name = &owner.account;
    let action = asked.url(&owner.path("remove"));
    let question = format!("Remove the account {name}?");
    let command = AsCommand::cli(["config", "account", "rm", name]).call(
        &Method::DELETE,
        &format!("/api/principal/{}", segment(name)),
        None::<&Value>,
    );
    let mut confirm = Confirm::new(asked, &question, "Remove the account", &action)
        .effect("Its queued messages fail. Their senders are told.")
        .effect("Its mail, password, keys, history and suppressed addresses are removed for good.")
        .effect("Mail to its addresses is refused from then on.");
    if !owner.item.aliases.is_empty() {
        let left = counted(owner.item.aliases.len() as u64, "alias", "aliases");
        confirm = confirm.effect(format!(
            "It leaves {left}: {}. An alias without another member is in the way.",
            owner.item.aliases.join(", ")
        ));
    }
    confirm
        .examples(owner.item.addresses.iter().take(5).cloned().collect())
        .typing(name)
        .back(asked.url(&owner.path("")))
        .command(command)
}

/// Asks before an account is removed.
pub(in crate::face::pages) async fn ask_remove(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let owner = Owner::of(&asked).await?;
    Answer::page(&removal(&asked, &owner))
}

/// Removes an account.
pub(in crate::face::pages) async fn remove(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let owner = Owner::of(&asked).await?;
    match removed(&asked, &owner).await {
        Ok(removed) => Ok(asked.done(told(&owner.account, removed), "accounts")),
        Err(error) if error.code == Code::Invalid => removal(&asked, &owner).again(&error),
        Err(error) => Err(error.into()),
    }
}

async fn removed(asked: &Asked, owner: &Owner) -> Result<Removed, AdminError> {
    check_typed(&asked.form, &owner.account)?;
    let account = owner.account.clone();
    asked.run(Remove { account }).await
}

fn told(account: &str, removed: Removed) -> String {
    let failed = counted(
        removed.failed,
        "queued message failed",
        "queued messages failed",
    );
    let mails = counted(removed.mails, "mail", "mails");
    let mut told = format!("The account {account} is removed. {failed}, and {mails} went with it.");
    if removed.in_delivery > 0 {
        let count = counted(removed.in_delivery, "message is", "messages are");
        told.push_str(&format!(" {count} being delivered at this moment."));
    }
    told
}
