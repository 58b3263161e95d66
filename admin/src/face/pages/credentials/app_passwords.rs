//! App passwords: passwords of an account for one program each.

use std::sync::Arc;

use askama::Template;
use serde_json::json;

use super::{last_used, reveal, revealed};
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
            shown::When,
            webapi,
        },
        path::segment,
    },
    op::credentials::{AddAppPassword, AppPasswordItem, ListAppPasswords, RemoveAppPassword},
};

#[derive(Template)]
#[template(path = "setup/app_passwords.html")]
struct AppPasswords {
    frame: Frame,
    owner: Owner,
    rows: Vec<Row>,
    secret: Option<String>,
    typed: String,
    faults: Faults,
}

struct Row {
    name: String,
    created: When,
    used: When,
    url: String,
}

async fn items(asked: &Asked, owner: &Owner) -> Result<Vec<AppPasswordItem>, Trouble> {
    let list = ListAppPasswords {
        account: Some(owner.account.clone()),
    };
    Ok(asked.list(list).await?)
}

async fn page(asked: &Asked, owner: Owner, faults: Faults) -> Result<AppPasswords, Trouble> {
    let now = asked.now();
    let row = |item: AppPasswordItem| Row {
        created: When::new(&item.created, now),
        used: When::maybe(item.last_used.as_ref(), now),
        url: asked.url(&owner.path(&format!("app-passwords/{}", segment(&item.name)))),
        name: item.name,
    };
    let rows = items(asked, &owner).await?.into_iter().map(row).collect();
    let frame = asked.frame(&owner.title("App passwords"));
    let frame = frame.with(match owner.by_admin {
        true => AsCommand::cli(["apppassword", "list", "--account", &owner.account]),
        false => webapi::auth(asked, None),
    });
    Ok(AppPasswords {
        frame,
        rows,
        owner,
        secret: revealed(asked),
        typed: asked.form.shown("name").to_owned(),
        faults,
    })
}

/// The app passwords, and the form for a new one.
pub(in crate::face::pages) async fn list(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let owner = Owner::of(&asked).await?;
    Answer::page(&page(&asked, owner, Faults::default()).await?)
}

/// Makes an app password, and shows it once.
pub(in crate::face::pages) async fn add(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let owner = Owner::of(&asked).await?;
    let name = asked.form.text("name").unwrap_or_default().to_owned();
    let add = AddAppPassword {
        account: owner.account.clone(),
        name: name.clone(),
    };
    match asked.run_proven(add).await {
        Ok(added) => {
            let told = format!("The app password {name:?} is made.");
            let path = owner.path("app-passwords");
            Ok(reveal(&asked, told, added.password, &path))
        }
        Err(error) if matches!(error.code, Code::Invalid | Code::Conflict) => {
            Answer::again(&page(&asked, owner, Faults::of(&error)).await?)
        }
        Err(error) => Err(error.into()),
    }
}

/// The app password of the path.
async fn own(asked: &Asked, owner: &Owner) -> Result<AppPasswordItem, Trouble> {
    let name = owner.element(asked, 0);
    let mut items = items(asked, owner).await?.into_iter();
    items.find(|item| item.name == name).ok_or(Trouble::NoPage)
}

fn removal(asked: &Asked, owner: &Owner, item: &AppPasswordItem) -> Confirm {
    let path = format!("app-passwords/{}/remove", segment(&item.name));
    let action = asked.url(&owner.path(&path));
    let question = format!("Remove the app password {:?}?", item.name);
    let command = match owner.by_admin {
        true => AsCommand::cli(["apppassword", "rm", &owner.account, &item.name]),
        false => {
            let change = json!([{"type": "removeAppPassword", "name": item.name}]);
            webapi::auth(asked, Some(&change))
        }
    };
    Confirm::new(asked, &question, "Remove it", &action)
        .effect("The program that has it can't log in any more.")
        .effect(last_used(item.last_used.as_ref()))
        .proving()
        .back(asked.url(&owner.path("app-passwords")))
        .command(command)
}

/// Asks before an app password is removed.
pub(in crate::face::pages) async fn ask_remove(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let owner = Owner::of(&asked).await?;
    let item = own(&asked, &owner).await?;
    Answer::page(&removal(&asked, &owner, &item))
}

/// Removes an app password.
pub(in crate::face::pages) async fn remove(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let owner = Owner::of(&asked).await?;
    let item = own(&asked, &owner).await?;
    if let Err(error) = asked.prove().await {
        return removal(&asked, &owner, &item).again(&error);
    }
    let name = item.name;
    let remove = RemoveAppPassword {
        account: owner.account.clone(),
        name: name.clone(),
    };
    asked.run(remove).await?;
    let told = format!("The app password {name:?} is removed.");
    Ok(asked.done(told, &owner.path("app-passwords")))
}
