//! Hold rules: what they are, a new one, the end of one.

use std::sync::Arc;

use askama::Template;
use axum::http::Method;
use postrider_store::HoldRuleId;
use serde_json::json;

use super::super::{
    answer::{Answer, Trouble},
    asked::Asked,
    command::AsCommand,
    confirm::{Confirm, check_typed},
    form::{Faults, Fields, query},
    frame::Frame,
    shown::{Count, When, counted},
};
use crate::{
    AdminError, Code,
    op::{
        hold_rules::{Add, CountHeld, HeldCount, HoldRuleItem, List, Remove},
        overview::GetFigures,
    },
};

/// The fields of a rule: name and label.
const FIELDS: [(&str, &str); 5] = [
    ("account", "Account"),
    ("sender_domain", "Domain of the sender"),
    ("recipient_domain", "Domain of the recipient"),
    ("sender", "Address of the sender"),
    ("recipient", "Address of the recipient"),
];

/// The field of the question before a removal.
const RELEASE: &str = "release";
/// What has to be typed to hold everything.
const EVERYTHING: &str = "everything";

#[derive(Template)]
#[template(path = "admin/hold_rules.html")]
struct Rules {
    frame: Frame,
    rules: Vec<Row>,
    /// The fields of the form: name, label, and what was typed.
    fields: Vec<(&'static str, &'static str, String)>,
    faults: Faults,
}

struct Row {
    rule: HoldRuleItem,
    created: When,
    /// How many messages it holds now.
    held: String,
    /// The query that lists these messages, and perhaps some others.
    query: String,
}

/// How many messages a rule holds now, in words.
fn told(counts: &[HeldCount], rule: &HoldRuleItem) -> String {
    let Some(count) = counts.iter().find(|count| count.id == rule.id) else {
        return Count(0).to_string();
    };
    let held = Count(count.held);
    match count.more {
        true => format!("{held} or more"),
        false => held.to_string(),
    }
}

/// The query of the queue for the held messages that a rule can match.
fn held_query(rule: &HoldRuleItem) -> String {
    let one_of = |address: &str, domain: &str| match (address, domain) {
        ("", "") => String::new(),
        ("", domain) => format!("@{domain}"),
        (address, _) => address.to_owned(),
    };
    let fields = [
        ("hold", "yes".to_owned()),
        ("account", rule.account.clone()),
        ("from", one_of(&rule.sender, &rule.sender_domain)),
        ("to", one_of(&rule.recipient, &rule.recipient_domain)),
    ];
    let given = fields.iter().filter(|(_, value)| !value.is_empty());
    query(given.map(|(name, value)| (*name, value.as_str())))
}

async fn page(asked: &Asked, faults: Faults) -> Result<Rules, Trouble> {
    let rules = asked.list(List {}).await?;
    let counts = asked.list(CountHeld {}).await?;
    let now = asked.now();
    let row = |rule: HoldRuleItem| Row {
        created: When::new(&rule.created, now),
        held: told(&counts, &rule),
        query: held_query(&rule),
        rule,
    };
    let command = AsCommand::cli(["queue", "hold-rules", "list"]).get("/api/queue/hold-rules");
    let typed = |(name, label)| (name, label, asked.form.shown(name).to_owned());
    Ok(Rules {
        frame: asked.frame("Hold rules").with(command),
        rules: rules.into_iter().map(row).collect(),
        fields: FIELDS.map(typed).into(),
        faults,
    })
}

/// The rules, and the form for a new one.
pub(in super::super) async fn list(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    Answer::page(&page(&asked, Faults::default()).await?)
}

/// The rule that a form describes.
fn rule(fields: &Fields) -> Add {
    let text = |name| fields.text(name).map(str::to_owned);
    Add {
        account: text("account"),
        sender_domain: text("sender_domain"),
        recipient_domain: text("recipient_domain"),
        sender: text("sender"),
        recipient: text("recipient"),
    }
}

fn is_everything(fields: &Fields) -> bool {
    FIELDS.iter().all(|(name, _)| fields.text(name).is_none())
}

/// Asks before a rule holds everything.
fn holds_everything(asked: &Asked) -> Confirm {
    Confirm::new(
        asked,
        "Hold everything?",
        "Hold everything",
        &asked.url("hold-rules"),
    )
    .effect("Each queued message is held, and each message that is accepted from now on.")
    .effect("There are no attempts until you remove the rule and release the messages.")
    .typing(EVERYTHING)
    .back(asked.url("hold-rules"))
    .command(adding(&asked.form))
}

/// The command that adds the rule of a form.
fn adding(fields: &Fields) -> AsCommand {
    let mut command = AsCommand::cli(["queue", "hold-rules", "add"]);
    let mut body = serde_json::Map::new();
    for (name, _) in FIELDS {
        let value = fields.text(name);
        command = command.option(&format!("--{}", name.replace('_', "-")), value);
        if let Some(value) = value {
            body.insert(name.to_owned(), json!(value));
        }
    }
    command.call(&Method::POST, "/api/queue/hold-rules", Some(&body.into()))
}

/// Adds a rule.
pub(in super::super) async fn add(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    if is_everything(&asked.form)
        && let Err(error) = check_typed(&asked.form, EVERYTHING)
    {
        let mut ask = holds_everything(&asked);
        if asked.form.raw("typed").is_some() {
            ask.faults = Faults::of(&error);
        }
        return Answer::again(&ask);
    }
    match asked.run(rule(&asked.form)).await {
        Ok(added) => {
            let held = counted(added.held, "queued message", "queued messages");
            let told = format!("Rule {} holds {held}, and new ones.", added.id);
            Ok(asked.done(told, "hold-rules"))
        }
        Err(error) if error.code == Code::Invalid => {
            Answer::again(&page(&asked, Faults::of(&error)).await?)
        }
        Err(error) => Err(error.into()),
    }
}

/// Asks before a rule is removed.
pub(in super::super) async fn ask_remove(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let id = asked.number(0)?;
    let rules = asked.list(List {}).await?;
    let rule = rules.into_iter().find(|rule| rule.id == id);
    let missing = || AdminError::not_found(format!("there is no hold rule {id}"));
    let rule = rule.ok_or_else(missing)?;
    let held = told(&asked.list(CountHeld {}).await?, &rule);
    let action = asked.url(&format!("hold-rules/{id}/remove"));
    let question = format!("Remove hold rule {id}?");
    let text = id.to_string();
    let words = ["queue", "hold-rules", "remove", &text];
    let path = format!("/api/queue/hold-rules/{id}");
    let command = AsCommand::cli(words).call(&Method::DELETE, &path, None);
    let confirm = Confirm::new(&asked, &question, "Remove the rule", &action)
        .effect(format!("The rule holds {}: {held} now.", rule.holds))
        .effect("New messages are delivered again. Messages that it held stay held.")
        .choice(
            RELEASE,
            "Release the messages that it held, unless another rule holds them too",
        )
        .back(asked.url("hold-rules"))
        .command(command)
        .command(AsCommand::cli(words).word("--release"));
    Answer::page(&confirm)
}

/// Removes a rule.
pub(in super::super) async fn remove(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let id = asked.number(0)?;
    let release = asked.form.flag(RELEASE);
    let remove = Remove {
        id: HoldRuleId(id),
        release,
    };
    let released = asked.run(remove).await?.released;
    let rest = match release {
        true => format!(
            "{} released.",
            counted(released, "message is", "messages are")
        ),
        false => "Messages that it held stay held until you release them.".to_owned(),
    };
    let told = format!("Rule {id} is removed. {rest}");
    // What stays held is shown, so that nobody forgets it.
    let held = asked.run(GetFigures {}).await?.held;
    let next = match release || held == 0 {
        true => "hold-rules",
        false => "queue?chip=held",
    };
    Ok(asked.done(told, next))
}
