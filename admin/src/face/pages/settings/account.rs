//! Settings of an account: limits for the administrator, the rest for its holder too.

use std::sync::Arc;

use askama::Template;

use super::{Of, SettingsForm, save, told};
use crate::{
    Code,
    face::pages::{
        answer::{Answer, Trouble},
        asked::Asked,
        command::{self, AsCommand},
        frame::Frame,
        owner::Owner,
        shown::{Bytes, Count},
    },
    op::config::states::{AccountState, States},
};

/// Keys with their labels.
type Keys = &'static [(&'static str, &'static str)];

/// What the holder of an account may set.
const OWN: Keys = &[
    ("full_name", "Name beside the address"),
    ("failure_dsn", "Failed deliveries are told by"),
    (
        "keep_retired_message_period",
        "Keep the history of sent messages for",
    ),
    (
        "keep_retired_webhook_period",
        "Keep the history of webhook calls for",
    ),
    (
        "from_id_login_addresses",
        "Logins whose messages get a fromid",
    ),
];

/// What the holder may set of junk and refused mail.
const JUNK: Keys = &[
    ("junk_filter", "Judge mail by its words"),
    ("junk_mailbox", "Mailbox for junk"),
    ("rejects_mailbox", "Mailbox for refused mail"),
    ("keep_rejects", "Keep refused mail"),
];

/// What only the administrator sets.
const BY_ADMIN: Keys = &[
    ("description", "Description"),
    ("suppress_policy_blocks", "Suppress after policy blocks"),
    ("suppression_period", "Suppress for"),
    ("source_pool", "Pool of addresses"),
    ("no_custom_password", "Generated passwords only"),
    ("first_time_delay", "Let strangers wait"),
];

const LIMITS: Keys = &[
    ("max_outgoing_messages_per_day", "Recipients in 24 hours"),
    (
        "max_first_time_recipients_per_day",
        "New recipients in 24 hours",
    ),
    ("quota", "Quota for mail"),
];

#[derive(Template)]
#[template(path = "setup/account_settings.html")]
struct Settings {
    frame: Frame,
    owner: Owner,
    form: SettingsForm,
    /// The history keeps nothing, so these do not work.
    stops: Vec<&'static str>,
}

#[derive(Template)]
#[template(path = "admin/account_limits.html")]
struct Limits {
    frame: Frame,
    owner: Owner,
    state: AccountState,
    form: SettingsForm,
}

/// The command that shows the settings of an account.
fn shows(owner: &Owner) -> AsCommand {
    let key = Of::Account(&owner.account).key();
    let call = command::path("/api/settings/list", &[("prefix", Some(&key))]);
    AsCommand::cli(["config", "get", &key]).get(&call)
}

fn framed(asked: &Asked, owner: &Owner, title: &str) -> Frame {
    let frame = asked.frame(&owner.title(title));
    match owner.by_admin {
        true => frame.with(shows(owner)),
        false => frame,
    }
}

async fn form(asked: &Asked, owner: &Owner) -> Result<SettingsForm, Trouble> {
    let more = if owner.by_admin { BY_ADMIN } else { &[] };
    let keys = [OWN, JUNK, more].concat();
    let form = SettingsForm::read(asked, Of::Account(&owner.account), &keys).await?;
    let form = form.section(JUNK, "Junk and refused mail");
    Ok(form.section(BY_ADMIN, "For the administrator"))
}

fn settings(asked: &Asked, owner: Owner, form: SettingsForm) -> Settings {
    let keeps = |key: &str| {
        let mut fields = form.fields.iter();
        let field = fields.find(|field| field.key == key);
        let value = field.map_or("", |field| field.value.trim());
        value.bytes().any(|byte| (b'1'..=b'9').contains(&byte))
    };
    let mut stops = Vec::new();
    if !keeps("keep_retired_message_period") {
        stops.push(
            "Sent messages have no history: they are not listed or sent again, and reports that \
            come back later are matched to nothing.",
        );
    }
    if !keeps("keep_retired_webhook_period") {
        stops.push("Webhook calls have no history: they can't be replayed.");
    }
    Settings {
        frame: framed(asked, &owner, "Settings"),
        owner,
        form,
        stops,
    }
}

/// The settings.
pub(in crate::face::pages) async fn show(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let owner = Owner::of(&asked).await?;
    let form = form(&asked, &owner).await?;
    Answer::page(&settings(&asked, owner, form))
}

/// Saves the settings.
pub(in crate::face::pages) async fn change(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let owner = Owner::of(&asked).await?;
    let form = form(&asked, &owner).await?;
    let changes = form.changes(&asked.form);
    match save(&asked, Of::Account(&owner.account), changes).await {
        Ok(count) => Ok(asked.done(told(count), &owner.path("settings"))),
        Err(error) if error.code == Code::Invalid => {
            let form = form.again(&asked.form, error);
            Answer::again(&settings(&asked, owner, form))
        }
        Err(error) => Err(error.into()),
    }
}

async fn limits(asked: &Asked, owner: Owner, form: SettingsForm) -> Result<Limits, Trouble> {
    let states = States {
        accounts: vec![owner.account.clone()],
    };
    let state = asked.list(states).await?.into_iter().next();
    Ok(Limits {
        frame: framed(asked, &owner, "Limits"),
        state: state.ok_or(Trouble::NoPage)?,
        owner,
        form,
    })
}

/// The limits, and what is used of them.
pub(in crate::face::pages) async fn show_limits(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let owner = Owner::of(&asked).await?;
    let form = SettingsForm::read(&asked, Of::Account(&owner.account), LIMITS).await?;
    Answer::page(&limits(&asked, owner, form).await?)
}

/// Saves the limits.
pub(in crate::face::pages) async fn change_limits(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let owner = Owner::of(&asked).await?;
    let form = SettingsForm::read(&asked, Of::Account(&owner.account), LIMITS).await?;
    let changes = form.changes(&asked.form);
    match save(&asked, Of::Account(&owner.account), changes).await {
        Ok(count) => Ok(asked.done(told(count), &owner.path("limits"))),
        Err(error) if error.code == Code::Invalid => {
            let form = form.again(&asked.form, error);
            Answer::again(&limits(&asked, owner, form).await?)
        }
        Err(error) => Err(error.into()),
    }
}
