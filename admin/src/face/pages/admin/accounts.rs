//! Accounts: the list, and a new one.

use std::{collections::BTreeMap, sync::Arc};

use askama::Template;
use axum::http::Method;
use serde_json::json;

use super::domains::has_words;
use crate::{
    AdminError, Code,
    face::{
        pages::{
            answer::{Answer, Trouble},
            asked::Asked,
            command::AsCommand,
            form::Faults,
            frame::Frame,
            list::{Links, Listing},
            shown::{Bytes, Count},
        },
        path::segment,
    },
    op::config::{
        accounts::{AccountItem, Add, List, Set},
        settings::Setting,
        states::{AccountState, States},
    },
};

#[derive(Template)]
#[template(path = "admin/accounts.html")]
struct Accounts {
    frame: Frame,
    rows: Vec<Row>,
    links: Links,
    words: String,
    total: usize,
}

struct Row {
    account: AccountItem,
    state: Option<AccountState>,
    url: String,
}

impl Row {
    /// The first addresses, and how many there are beyond.
    fn addresses(&self) -> (&[String], usize) {
        const SHOWN: usize = 2;
        let all = self.account.addresses.as_slice();
        let shown = all.get(..SHOWN.min(all.len())).unwrap_or(all);
        (shown, all.len() - shown.len())
    }

    /// How it logs in, and whether that is good.
    fn login(&self) -> (&'static str, &'static str) {
        let state = self.state.as_ref();
        match (
            self.account.suspended,
            state.is_some_and(|it| it.has_password),
        ) {
            (true, _) => ("warn", "disabled"),
            (false, false) => ("warn", "no password"),
            (false, true) => ("good", "password"),
        }
    }
}

/// The list.
pub(in crate::face::pages) async fn list(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let all = asked.list(List { account: None }).await?;
    let total = all.len();
    let words = asked.query.shown("q").trim().to_owned();
    let wanted = |account: &AccountItem| {
        let names = [&account.name, &account.description, &account.full_name];
        has_words(&words, account.addresses.iter().chain(names))
    };
    let all = all.into_iter().filter(wanted).collect();
    let (items, links) = Listing::new(&asked.query).part(all, |account| account.name.clone());
    let states = States {
        accounts: items.iter().map(|account| account.name.clone()).collect(),
    };
    // An account that is gone meanwhile leaves the others without figures.
    let states = asked.list(states).await.unwrap_or_default().into_iter();
    let mut states: BTreeMap<String, AccountState> =
        states.map(|state| (state.account.clone(), state)).collect();
    let row = |account: AccountItem| Row {
        url: asked.url(&format!("accounts/{}", segment(&account.name))),
        state: states.remove(&account.name),
        account,
    };
    let rows = items.into_iter().map(row).collect();
    let mut frame = asked.frame("Accounts");
    // Neither the command nor the call searches all that the page does.
    if words.is_empty() {
        let command = AsCommand::cli(["config", "account", "list"]);
        frame = frame.with(command.get("/api/principal?types=individual"));
    }
    Answer::page(&Accounts {
        frame,
        rows,
        links,
        words,
        total,
    })
}

#[derive(Template)]
#[template(path = "admin/accounts_add.html")]
struct NewAccount {
    frame: Frame,
    account: String,
    address: String,
    /// The times for which a history can be kept: in the configuration, and in words.
    periods: &'static [(&'static str, &'static str)],
    /// The chosen one.
    period: String,
    faults: Faults,
}

/// The times for which the history of a new account can be kept; the first one is offered.
const PERIODS: &[(&str, &str)] = &[
    ("168h", "7 days"),
    ("720h", "30 days"),
    ("0s", "no history: no past messages, no events"),
];

fn form(asked: &Asked, faults: Faults) -> NewAccount {
    let word = |name, example: &str| asked.form.text(name).unwrap_or(example).to_owned();
    let (account, address) = (word("account", "NAME"), word("address", "ADDRESS"));
    let body = json!({"type": "individual", "name": account, "emails": [address]});
    let command = AsCommand::cli(["config", "account", "add", &account, &address]).call(
        &Method::POST,
        "/api/principal",
        Some(&body),
    );
    NewAccount {
        frame: asked.frame("A new account").with(command),
        account: asked.form.shown("account").to_owned(),
        address: asked.form.shown("address").to_owned(),
        periods: PERIODS,
        period: asked.form.shown("period").to_owned(),
        faults,
    }
}

/// The form for a new account.
pub(in crate::face::pages) async fn ask_add(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    Answer::page(&form(&asked, Faults::default()))
}

/// Adds an account.
pub(in crate::face::pages) async fn add(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let account = asked.form.text("account").unwrap_or_default().to_owned();
    let add = Add {
        account: account.clone(),
        address: asked.form.text("address").unwrap_or_default().to_owned(),
    };
    match asked.run(add).await {
        Ok(()) => {
            keep_history(&asked, &account).await?;
            let told = format!("The account {account} is added. Next: give it a password.");
            let next = format!("accounts/{}/password", segment(&account));
            Ok(asked.done(told, &next))
        }
        Err(error) if error.code != Code::Internal && error.code != Code::Unavailable => {
            Answer::again(&form(&asked, Faults::of(&error)))
        }
        Err(error) => Err(error.into()),
    }
}

/// Lets a new account keep its past messages and calls for the chosen time.
async fn keep_history(asked: &Asked, account: &str) -> Result<(), AdminError> {
    let chosen = asked.form.text("period");
    let known = PERIODS.iter().find(|(period, _)| Some(*period) == chosen);
    let Some((period, _)) = known.filter(|(period, _)| *period != "0s") else {
        return Ok(());
    };
    let keys = ["keep_retired_message_period", "keep_retired_webhook_period"];
    let setting = |key: &str| Setting {
        key: key.to_owned(),
        value: Some((*period).to_owned()),
    };
    let set = Set {
        account: account.to_owned(),
        settings: keys.map(setting).to_vec(),
    };
    asked.run(set).await
}
