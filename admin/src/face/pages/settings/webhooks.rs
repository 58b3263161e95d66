//! The webhooks of an account: where events go, how calls are signed, and a test.

use std::{collections::BTreeMap, sync::Arc};

use askama::Template;

use super::{Of, SettingsForm, save, told, values};
use crate::{
    Code,
    face::pages::{
        answer::{Answer, Trouble, sentence},
        asked::Asked,
        command::AsCommand,
        confirm::Confirm,
        credentials::{reveal, revealed},
        frame::Frame,
        owner::Owner,
    },
    op::{
        config::webhook_secret::Rotate,
        webhook::{HookAttemptItem, Test},
    },
};

const KEYS: &[(&str, &str)] = &[
    ("outgoing_webhook.url", "URL for events of sent messages"),
    (
        "outgoing_webhook.authorization",
        "Authorization of calls for events",
    ),
    ("outgoing_webhook.events", "Only these events"),
    ("outgoing_webhook.version", "Version of the payloads"),
    ("incoming_webhook.url", "URL for received messages"),
    (
        "incoming_webhook.authorization",
        "Authorization of calls for received messages",
    ),
];

/// One of the two webhooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kind {
    incoming: bool,
}

impl Kind {
    const BOTH: [Self; 2] = [Self { incoming: false }, Self { incoming: true }];

    /// The webhook that a path names.
    fn named(name: &str) -> Result<Self, Trouble> {
        let mut kinds = Self::BOTH.into_iter();
        kinds
            .find(|kind| kind.name() == name)
            .ok_or(Trouble::NoPage)
    }

    const fn name(self) -> &'static str {
        match self.incoming {
            false => "outgoing",
            true => "incoming",
        }
    }

    const fn title(self) -> &'static str {
        match self.incoming {
            false => "Events of sent messages",
            true => "Received messages",
        }
    }
}

#[derive(Template)]
#[template(path = "setup/webhooks.html")]
struct Webhooks {
    frame: Frame,
    owner: Owner,
    /// The path of the page.
    url: String,
    form: SettingsForm,
    /// The webhooks that there are.
    hooks: Vec<Hook>,
    secret: Option<String>,
}

/// The path within the area of these pages. Below `/account/webhooks` are the calls.
fn place(owner: &Owner, rest: &str) -> String {
    let page = match owner.by_admin {
        true => "webhooks",
        false => "webhooks/settings",
    };
    owner.path(&format!("{page}{rest}"))
}

struct Hook {
    kind: Kind,
    /// How many secrets sign its calls.
    secrets: usize,
    test: Option<Tested>,
}

/// The result of a test.
struct Tested {
    url: String,
    attempt: Option<HookAttemptItem>,
    error: String,
}

impl Hook {
    /// A webhook by the values of its account. None: there is none of this kind.
    fn of(kind: Kind, values: &BTreeMap<String, String>) -> Option<Self> {
        let name = kind.name();
        if !values.contains_key(&format!("{name}_webhook.url")) {
            return None;
        }
        let secret = format!("{name}_webhook.secret");
        let below = format!("{secret}.");
        let is_secret = |key: &&String| **key == secret || key.starts_with(&below);
        Some(Self {
            kind,
            secrets: values.keys().filter(is_secret).count(),
            test: None,
        })
    }
}

/// The form and the webhooks, as they are now.
async fn read(asked: &Asked, owner: &Owner) -> Result<(SettingsForm, Vec<Hook>), Trouble> {
    let of = Of::Account(&owner.account);
    let values = values(asked, of).await?;
    let hooks = Kind::BOTH.into_iter();
    let hooks = hooks.filter_map(|kind| Hook::of(kind, &values));
    Ok((SettingsForm::new(of, KEYS, &values), hooks.collect()))
}

fn page(asked: &Asked, owner: Owner, form: SettingsForm, hooks: Vec<Hook>) -> Webhooks {
    let mut frame = asked.frame(&owner.title("Webhooks"));
    if owner.by_admin {
        let words = ["config", "account", "get", &owner.account];
        frame = frame.with(AsCommand::cli(words));
    }
    Webhooks {
        frame,
        url: asked.url(&place(&owner, "")),
        owner,
        form,
        hooks,
        secret: revealed(asked),
    }
}

/// The webhooks.
pub(in crate::face::pages) async fn show(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let owner = Owner::of(&asked).await?;
    let (form, hooks) = read(&asked, &owner).await?;
    Answer::page(&page(&asked, owner, form, hooks))
}

/// Saves the webhooks.
pub(in crate::face::pages) async fn change(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let owner = Owner::of(&asked).await?;
    let (form, hooks) = read(&asked, &owner).await?;
    let changes = form.changes(&asked.form);
    let saved = match asked.prove().await {
        Ok(()) => save(&asked, Of::Account(&owner.account), changes).await,
        Err(error) => Err(error),
    };
    match saved {
        Ok(count) => Ok(asked.done(told(count), &place(&owner, ""))),
        Err(error) if error.code == Code::Invalid => {
            let form = form.again(&asked.form, error);
            Answer::again(&page(&asked, owner, form, hooks))
        }
        Err(error) => Err(error.into()),
    }
}

/// Calls a webhook with an example, and shows what came of it.
pub(in crate::face::pages) async fn test(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let owner = Owner::of(&asked).await?;
    let kind = Kind::named(owner.element(&asked, 0))?;
    let test = Test {
        account: owner.account.clone(),
        incoming: kind.incoming,
        event: None,
        body: None,
    };
    let tested = match asked.run(test).await {
        Ok(tested) => Tested {
            url: tested.url,
            attempt: Some(tested.attempt),
            error: String::new(),
        },
        Err(error) => Tested {
            url: String::new(),
            attempt: None,
            error: sentence(&error.text),
        },
    };
    let (form, mut hooks) = read(&asked, &owner).await?;
    let shown = hooks.iter_mut().find(|hook| hook.kind == kind);
    if let Some(hook) = shown {
        hook.test = Some(tested);
    }
    Answer::page(&page(&asked, owner, form, hooks))
}

/// What a step of a change of secrets does, by how many there are.
fn step(asked: &Asked, owner: &Owner, kind: Kind, present: usize) -> Confirm {
    let action = asked.url(&place(owner, &format!("/{}/secret", kind.name())));
    let (question, button, effects) = match present {
        0 => (
            "Make a secret?",
            "Make it",
            ["Calls are signed with it from then on.", "You see it once."],
        ),
        1 => (
            "Make a second secret?",
            "Make it",
            [
                "Calls are signed with both, until you drop the older.",
                "You see it once.",
            ],
        ),
        _ => (
            "Drop the older secret?",
            "Drop it",
            [
                "Calls are signed with the newer secret only.",
                "A receiver that does not know it refuses them.",
            ],
        ),
    };
    let mut confirm = Confirm::new(asked, question, button, &action)
        .proving()
        .back(asked.url(&place(owner, "")));
    for effect in effects {
        confirm = confirm.effect(effect);
    }
    confirm
        .fields
        .push(("present".to_owned(), present.to_string()));
    confirm
}

/// Asks before a secret is made, or the older of two goes.
pub(in crate::face::pages) async fn ask_rotate(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let owner = Owner::of(&asked).await?;
    let kind = Kind::named(owner.element(&asked, 0))?;
    let values = values(&asked, Of::Account(&owner.account)).await?;
    let hook = Hook::of(kind, &values).ok_or(Trouble::NoPage)?;
    Answer::page(&step(&asked, &owner, kind, hook.secrets))
}

/// Makes a secret, or drops the older of two.
pub(in crate::face::pages) async fn rotate(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let owner = Owner::of(&asked).await?;
    let kind = Kind::named(owner.element(&asked, 0))?;
    let present = asked.form.parsed("present", "a number")?.unwrap_or(0);
    if let Err(error) = asked.prove().await {
        return step(&asked, &owner, kind, present).again(&error);
    }
    let rotate = Rotate {
        account: owner.account.clone(),
        incoming: kind.incoming,
        present,
    };
    let rotated = asked.run(rotate).await?;
    let path = place(&owner, "");
    Ok(match rotated.secret {
        Some(secret) => {
            let told = match rotated.present {
                1 => "The secret is made. Calls are signed with it.",
                _ => "The second secret is made. Calls are signed with both.",
            };
            reveal(&asked, told.to_owned(), secret, &path)
        }
        None => asked.done("The older secret is dropped.", &path),
    })
}
