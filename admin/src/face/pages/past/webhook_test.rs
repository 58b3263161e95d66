//! Calls a webhook with an example, which can be changed before.

use std::sync::Arc;

use askama::Template;

use super::{
    super::{
        answer::{Answer, Trouble},
        asked::Asked,
        command::AsCommand,
        form::{Faults, Fields},
        frame::Frame,
    },
    calls::EVENTS,
    filter::{self, is_holder},
};
use crate::{
    AdminError, Code,
    op::webhook::{Example, ExampleItem, ReceiverItem, Receivers, Test, Tested},
};

/// The most accounts that can be chosen.
const ACCOUNTS: usize = 1000;

#[derive(Template)]
#[template(path = "past/webhook_test.html")]
struct Page {
    frame: Frame,
    faults: Faults,
    /// Accounts with webhooks, and whether each is the chosen one.
    accounts: Vec<(String, bool)>,
    /// Kinds of examples, and whether each is the chosen one.
    kinds: Vec<(&'static str, bool)>,
    account: String,
    kind: String,
    /// None: the account has no such webhook.
    example: Option<ExampleItem>,
    missing: String,
    body: String,
    tested: Option<Tested>,
    is_holder: bool,
}

async fn accounts(asked: &Asked) -> Result<Vec<String>, AdminError> {
    if is_holder(asked) {
        return Ok(vec![asked.account().to_owned()]);
    }
    let receivers = Receivers {
        account: None,
        after: None,
        limit: ACCOUNTS,
    };
    let receivers = asked.run(receivers).await?.receivers;
    let mut names: Vec<String> = receivers
        .into_iter()
        .map(|ReceiverItem { account, .. }| account)
        .collect();
    names.dedup();
    Ok(names)
}

async fn page(asked: &Asked, fields: &Fields, faults: Faults) -> Result<Page, Trouble> {
    let names = accounts(asked).await?;
    let account = filter::account(asked, fields).or_else(|| names.first().cloned());
    let account = account.unwrap_or_default();
    let kind = fields.text("kind").unwrap_or("delivered").to_owned();
    let (example, missing) = match asked.run(example(&account, &kind)).await {
        Ok(example) => (Some(example), String::new()),
        Err(error) if matches!(error.code, Code::NotFound | Code::Invalid) => (None, error.text),
        Err(error) => return Err(error.into()),
    };
    let made = example.as_ref().map(|example| example.sends.body.clone());
    let body = fields.raw("body").map(str::to_owned).or(made);
    let mut frame = asked.frame("Test a webhook");
    if !is_holder(asked) && !account.is_empty() && matches!(kind.as_str(), "incoming" | "delivered")
    {
        let mut command = AsCommand::cli(["queue", "webhook", "test", &account]);
        if kind == "incoming" {
            command = command.word("--incoming");
        }
        frame = frame.with(command);
    }
    let kinds = EVENTS.iter().map(|(name, _)| *name);
    let kinds = kinds.filter(|name| !name.is_empty());
    Ok(Page {
        frame,
        faults,
        accounts: names
            .into_iter()
            .map(|name| (name.clone(), name == account))
            .collect(),
        kinds: kinds.map(|name| (name, name == kind)).collect(),
        account,
        kind,
        example,
        missing,
        body: body.unwrap_or_default(),
        tested: None,
        is_holder: is_holder(asked),
    })
}

/// The event of a kind of example; None: a received message.
fn event(kind: &str) -> Option<String> {
    (kind != "incoming").then(|| kind.to_owned())
}

fn example(account: &str, kind: &str) -> Example {
    Example {
        account: account.to_owned(),
        incoming: kind == "incoming",
        event: event(kind),
    }
}

/// The example that a test sends.
pub(in super::super) async fn show(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    Answer::page(&page(&asked, &asked.query, Faults::default()).await?)
}

/// Makes the call, and shows the answer.
pub(in super::super) async fn act(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let form = &asked.form;
    let kind = form.text("kind").unwrap_or("delivered");
    let test = Test {
        account: filter::account(&asked, form).unwrap_or_default(),
        incoming: kind == "incoming",
        event: event(kind),
        body: form.raw("body").map(str::to_owned),
    };
    match asked.run(test).await {
        Ok(tested) => {
            let mut page = page(&asked, form, Faults::default()).await?;
            page.tested = Some(tested);
            Answer::page(&page)
        }
        Err(error) if matches!(error.code, Code::NotFound | Code::Invalid) => {
            Answer::again(&page(&asked, form, Faults::of(&error)).await?)
        }
        Err(error) => Err(error.into()),
    }
}
