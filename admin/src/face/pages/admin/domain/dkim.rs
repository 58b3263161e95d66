//! The keys for DKIM of a domain, and their rotation, step by step. What the server knows tells how
//! far it is, so it can be left and taken up at any time.

use std::sync::Arc;

use askama::Template;
use jiff::Timestamp;
use serde_json::json;

use super::Head;
use crate::{
    AdminError, Code,
    face::{
        pages::{
            answer::{Answer, Trouble},
            asked::Asked,
            command::AsCommand,
            confirm::Confirm,
            form::Faults,
            frame::Frame,
            shown::When,
        },
        path::segment,
    },
    op::config::{
        dkim::{Add, Algorithm, KeyState, Part, Remove, Rotate, Rotation, Status, Step, Stop},
        domains::Set,
        settings::Setting,
    },
};

#[derive(Template)]
#[template(path = "admin/domain_dkim.html")]
struct Dkim {
    frame: Frame,
    domain: Head,
    rows: Vec<Row>,
    steps: Vec<StepShown>,
    /// The keys that sign next.
    waiting: Vec<Waiting>,
    /// DNS has the records of all keys that wait.
    ready: bool,
    /// Somebody asked DNS.
    looked: bool,
    /// The fields of the form.
    selector: String,
    algorithm: String,
    faults: Faults,
}

struct Row {
    state: KeyState,
    made: When,
    until: When,
    /// The key signed before, and is not needed any more.
    may_go: bool,
    url: String,
}

impl Row {
    fn part(&self) -> &'static str {
        match self.state.part {
            Part::Signs => "signs",
            Part::Waits => "signs next",
            Part::Idle => "does not sign",
        }
    }

    fn signs(&self) -> bool {
        self.state.part == Part::Signs
    }
}

/// A record of a key that waits.
struct Waiting {
    /// The name without a dot at its end.
    name: String,
    content: String,
    published: Option<bool>,
    problem: String,
}

/// A step of the rotation.
struct StepShown {
    title: &'static str,
    /// `done`, `now` or `later`.
    state: &'static str,
    text: String,
}

fn step(title: &'static str, done: bool, possible: bool, text: impl Into<String>) -> StepShown {
    StepShown {
        title,
        state: match (done, possible) {
            (true, _) => "done",
            (false, true) => "now",
            (false, false) => "later",
        },
        text: text.into(),
    }
}

/// The steps, by what there is.
fn steps(rotation: &Rotation, rows: &[Row]) -> Vec<StepShown> {
    let keys = || rotation.keys.iter();
    let made = keys().any(|key| key.part == Part::Waits);
    let mut waiting = keys().filter(|key| key.part == Part::Waits);
    let seen = made && waiting.all(|key| key.published == Some(true));
    let old: Vec<&Row> = rows
        .iter()
        .filter(|row| row.state.part == Part::Idle)
        .collect();
    let needed = old.iter().any(|row| !row.may_go);
    vec![
        step(
            "Make the next keys",
            made,
            !needed,
            "An Ed25519 key and an RSA key.",
        ),
        step(
            "Publish their records",
            seen,
            made,
            "Add the records below to DNS. This may take as long as you like.",
        ),
        step(
            "See them in DNS",
            seen,
            made,
            "The server looks whether resolvers have the records.",
        ),
        step(
            "Sign with them",
            false,
            seen,
            "They sign from then on, and the keys for the next rotation are made.",
        ),
        step(
            "Wait",
            !old.is_empty() && !needed,
            needed,
            "Mail that the old keys signed is still under way. Keep their records for 7 days, or \
             as long as the list above says.",
        ),
        step(
            "Remove the old keys",
            false,
            !old.is_empty() && !needed,
            "Here, and their records in DNS.",
        ),
    ]
}

async fn page(asked: &Asked, faults: Faults) -> Result<Dkim, Trouble> {
    let domain = Head::of(asked).await?;
    let looked = asked.query.flag("check");
    let status = Status {
        domain: domain.name().to_owned(),
        look: looked,
    };
    let rotation = asked.run(status).await?;
    let now = asked.now();
    let row = |state: &KeyState| {
        let until: Option<Timestamp> = state.needed_until.as_ref().and_then(|it| it.parse().ok());
        Row {
            made: When::maybe(state.made.as_ref(), now),
            until: When::maybe(state.needed_until.as_ref(), now),
            may_go: until.is_some_and(|until| until <= now.timestamp()),
            url: asked.url(&domain.path(&format!("dkim/{}", segment(&state.key.selector)))),
            state: state.clone(),
        }
    };
    let rows: Vec<Row> = rotation.keys.iter().map(row).collect();
    let waiting = rotation.keys.iter().filter(|key| key.part == Part::Waits);
    let waiting: Vec<Waiting> = waiting
        .map(|state| Waiting {
            name: state.key.name.trim_end_matches('.').to_owned(),
            content: state.key.content.clone(),
            published: state.published,
            problem: state.problem.clone(),
        })
        .collect();
    let is_seen = |waiting: &Waiting| waiting.published == Some(true);
    let command = AsCommand::cli(["config", "dkim", "list", domain.name()]);
    let rotate = AsCommand::cli(["config", "dkim", "rotate", domain.name()]);
    Ok(Dkim {
        frame: domain.frame(asked, "DKIM").with(command).with(rotate),
        steps: steps(&rotation, &rows),
        ready: !waiting.is_empty() && waiting.iter().all(is_seen),
        domain,
        rows,
        waiting,
        looked,
        selector: asked.form.shown("selector").to_owned(),
        algorithm: asked.form.shown("algorithm").to_owned(),
        faults,
    })
}

/// The keys, and how far their rotation is. With `check=1` DNS is asked for their records.
pub(in crate::face::pages) async fn show(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    Answer::page(&page(&asked, Faults::default()).await?)
}

/// Makes the next step of the rotation: makes the next keys, or lets them sign.
pub(in crate::face::pages) async fn rotate(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let domain = Head::of(&asked).await?;
    let rotate = Rotate {
        domain: domain.name().to_owned(),
    };
    let rotated = asked.run(rotate).await?;
    let told = match rotated.step {
        Step::Made => "The next keys are made. Next: publish their records.".to_owned(),
        Step::Unpublished => {
            let error = AdminError::invalid(format!(
                "nothing has changed: {}",
                rotated.problems.join("; ")
            ));
            return Answer::again(&page(&asked, Faults::of(&error)).await?);
        }
        Step::Switched => {
            let signing = names(rotated.signing.iter().map(|key| key.selector.clone()));
            match names(rotated.old.into_iter()).as_str() {
                "" => format!("{signing} sign now."),
                old => format!(
                    "{signing} sign now. Keep {old} until mail that they signed has arrived."
                ),
            }
        }
    };
    Ok(asked.done(told, &domain.path("dkim")))
}

fn names(names: impl Iterator<Item = String>) -> String {
    names.collect::<Vec<_>>().join(" and ")
}

/// Makes a key.
pub(in crate::face::pages) async fn add(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let domain = Head::of(&asked).await?;
    let add = Add {
        domain: domain.name().to_owned(),
        selector: asked.form.text("selector").map(str::to_owned),
        algorithm: match asked.form.text("algorithm") {
            Some("ed25519") => Algorithm::Ed25519,
            _ => Algorithm::Rsa,
        },
        sign: false,
        hash: None,
        canonicalization: None,
        headers: Vec::new(),
        dont_seal_headers: false,
        expiration: None,
    };
    match asked.run(add).await {
        Ok(added) => {
            let told = format!(
                "The key {} is made. Publish its record, then let it sign.",
                added.selector
            );
            Ok(asked.done(told, &domain.path("dkim")))
        }
        Err(error) if matches!(error.code, Code::Invalid | Code::Conflict) => {
            Answer::again(&page(&asked, Faults::of(&error)).await?)
        }
        Err(error) => Err(error.into()),
    }
}

/// The key of the path, and the selectors that sign. With `look` DNS is asked for its record.
async fn found(
    asked: &Asked,
    domain: &Head,
    look: bool,
) -> Result<(KeyState, Vec<String>), Trouble> {
    let status = Status {
        domain: domain.name().to_owned(),
        look,
    };
    let keys = asked.run(status).await?.keys;
    let signing = keys.iter().filter(|key| key.part == Part::Signs);
    let signing = signing.map(|key| key.key.selector.clone()).collect();
    let mut keys = keys.into_iter();
    let found = keys.find(|key| key.key.selector == asked.element(1));
    Ok((found.ok_or(Trouble::NoPage)?, signing))
}

/// The form was sent by the page that asks first.
const SURE: &str = "sure";

/// A page that asks first, and whose form says so.
fn sure(asked: &Asked, domain: &Head, question: &str, (button, word): (&str, &str)) -> Confirm {
    let path = format!("dkim/{}/{word}", segment(asked.element(1)));
    let action = asked.url(&domain.path(&path));
    let mut confirm = Confirm::new(asked, question, button, &action);
    confirm.fields.push((SURE.to_owned(), "yes".to_owned()));
    confirm.back(asked.url(&domain.path("dkim")))
}

/// Lets a key sign. If DNS does not have its record, the page asks first.
pub(in crate::face::pages) async fn sign(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let domain = Head::of(&asked).await?;
    let is_sure = asked.form.text(SURE).is_some();
    let (key, mut signing) = found(&asked, &domain, !is_sure).await?;
    let selector = key.key.selector;
    if key.published == Some(false) {
        let question = format!("Sign with {selector} although DNS does not have its record?");
        let confirm = sure(&asked, &domain, &question, ("Sign with it", "sign"))
            .effect(format!("In DNS: {}.", key.problem))
            .effect("Receivers can't check the signatures of this key, and may refuse the mail.");
        return Answer::page(&confirm);
    }
    if !signing.contains(&selector) {
        signing.push(selector.clone());
        let setting = Setting {
            key: "dkim.sign".to_owned(),
            value: Some(json!(signing).to_string()),
        };
        let set = Set {
            domain: domain.name().to_owned(),
            settings: vec![setting],
        };
        asked.run(set).await?;
    }
    let told = format!("The key {selector} signs now.");
    Ok(asked.done(told, &domain.path("dkim")))
}

/// Lets a key sign no more. Of the last one that signs, the page asks first.
pub(in crate::face::pages) async fn stop(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let domain = Head::of(&asked).await?;
    let (key, signing) = found(&asked, &domain, false).await?;
    let selector = key.key.selector;
    if signing.len() == 1 && asked.form.text(SURE).is_none() {
        let question = format!("Stop signing with {selector}?");
        let confirm = sure(&asked, &domain, &question, ("Stop signing", "stop"))
            .effect("It is the only key that signs: mail from the domain is signed no more.");
        return Answer::page(&confirm);
    }
    let stop = Stop {
        domain: domain.name().to_owned(),
        selector: selector.clone(),
    };
    asked.run(stop).await?;
    let told = format!(
        "The key {selector} signs no more. Keep it and its record until mail that it signed has \
         arrived."
    );
    Ok(asked.done(told, &domain.path("dkim")))
}

/// Asks before a key is removed.
pub(in crate::face::pages) async fn ask_remove(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let domain = Head::of(&asked).await?;
    let (key, signing) = found(&asked, &domain, false).await?;
    let selector = &key.key.selector;
    let action = asked.url(&domain.path(&format!("dkim/{}/remove", segment(selector))));
    let question = format!("Remove the key {selector} of {}?", domain.name());
    let mut confirm = Confirm::new(&asked, &question, "Remove the key", &action);
    if key.part == Part::Signs {
        confirm = confirm.effect(match signing.len() {
            1 => "It is the only key that signs: mail from the domain is signed no more.",
            _ => "It signs now. Mail is signed by the other keys only.",
        });
    }
    if let Some(until) = &key.needed_until {
        confirm = confirm.effect(format!(
            "It signed before. Mail that it signed may be under way until {until}: without the \
             record, receivers can't check its signature."
        ));
    }
    let confirm = confirm
        .effect("Its file goes to the folder \"old\" beside it.")
        .effect(format!(
            "Remove the record {} from DNS yourself.",
            key.key.name
        ))
        .back(asked.url(&domain.path("dkim")))
        .command(AsCommand::cli([
            "config",
            "dkim",
            "rm",
            domain.name(),
            selector,
        ]));
    Answer::page(&confirm)
}

/// Removes a key.
pub(in crate::face::pages) async fn remove(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let domain = Head::of(&asked).await?;
    let (key, _) = found(&asked, &domain, false).await?;
    let remove = Remove {
        domain: domain.name().to_owned(),
        selector: key.key.selector.clone(),
    };
    asked.run(remove).await?;
    let told = format!(
        "The key {} is removed. Remove the record {} from DNS too.",
        key.key.selector, key.key.name
    );
    Ok(asked.done(told, &domain.path("dkim")))
}
