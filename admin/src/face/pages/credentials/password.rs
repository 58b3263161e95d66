//! The password of an account: chosen, or made by the server.

use std::sync::Arc;

use askama::Template;

use super::{reveal, revealed};
use crate::{
    AdminError, Code,
    face::pages::{
        answer::{Answer, Trouble},
        asked::Asked,
        command::AsCommand,
        confirm::Confirm,
        form::Faults,
        frame::Frame,
        login,
        owner::Owner,
        shown::When,
    },
    op::{
        config::states::{AccountState, States},
        passwords::{Generate, MIN_LENGTH, Set},
    },
};

#[derive(Template)]
#[template(path = "setup/password.html")]
struct Password {
    frame: Frame,
    owner: Owner,
    state: AccountState,
    set: When,
    /// The visitor may choose a password.
    may_choose: bool,
    secret: Option<String>,
    min_length: usize,
    faults: Faults,
}

async fn page(asked: &Asked, owner: Owner, faults: Faults) -> Result<Password, Trouble> {
    let states = States {
        accounts: vec![owner.account.clone()],
    };
    let state = asked.list(states).await?.into_iter().next();
    let state = state.ok_or(Trouble::NoPage)?;
    let mut frame = asked.frame(&owner.title("Password"));
    if owner.by_admin {
        frame = frame.with(AsCommand::cli(["setpassword", &owner.account]));
    }
    Ok(Password {
        frame,
        set: When::maybe(state.password_set.as_ref(), asked.now()),
        may_choose: owner.by_admin || !state.no_custom_password,
        state,
        owner,
        secret: revealed(asked),
        min_length: MIN_LENGTH,
        faults,
    })
}

/// Whether there is a password, and the forms for a new one.
pub(in crate::face::pages) async fn show(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let owner = Owner::of(&asked).await?;
    Answer::page(&page(&asked, owner, Faults::default()).await?)
}

fn generation(asked: &Asked, owner: &Owner) -> Confirm {
    let action = asked.url(&owner.path("password/generate"));
    Confirm::new(asked, "Make a new password?", "Make it", &action)
        .effect("The server makes a long one by chance. You see it once.")
        .effect("Programs with the present password can't log in any more.")
        .effect("App passwords and keys stay as they are.")
        .proving()
        .back(asked.url(&owner.path("password")))
}

/// Asks before the server makes a password.
pub(in crate::face::pages) async fn ask_generate(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let owner = Owner::of(&asked).await?;
    Answer::page(&generation(&asked, &owner))
}

/// Lets the server make a password, and shows it once.
pub(in crate::face::pages) async fn generate(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let owner = Owner::of(&asked).await?;
    if let Err(error) = asked.prove().await {
        return generation(&asked, &owner).again(&error);
    }
    let account = owner.account.clone();
    let generated = asked.run(Generate { account }).await?;
    let path = owner.path("password");
    let answer = reveal(&asked, TOLD.to_owned(), generated.password, &path);
    login::stay(&asked, &owner.account, answer).await
}

/// Sets the password that was typed.
pub(in crate::face::pages) async fn set(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let owner = Owner::of(&asked).await?;
    let path = owner.path("password");
    match chosen(&asked, &owner).await {
        Ok(()) => {
            let answer = asked.done(TOLD, &path);
            login::stay(&asked, &owner.account, answer).await
        }
        Err(Trouble::Failed(error)) if error.code == Code::Invalid => {
            Answer::again(&page(&asked, owner, Faults::of(&error)).await?)
        }
        Err(trouble) => Err(trouble),
    }
}

/// What was done, for people.
const TOLD: &str = "The password is set. Sessions that began with the one before are over.";

async fn chosen(asked: &Asked, owner: &Owner) -> Result<(), Trouble> {
    let empty = page(asked, owner.clone(), Faults::default()).await?;
    if !empty.may_choose {
        let text = "the administrator lets this account have generated passwords only";
        return Err(AdminError::invalid(text).at("password").into());
    }
    let password = asked.form.shown("password").to_owned();
    if asked.form.shown("again") != password {
        let text = "the two passwords differ; type the same one twice";
        return Err(AdminError::invalid(text).at("again").into());
    }
    asked.prove().await?;
    let account = owner.account.clone();
    Ok(asked.run(Set { account, password }).await?)
}
