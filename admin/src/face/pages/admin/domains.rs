//! Domains: the list, and a new one.

use std::{collections::BTreeMap, sync::Arc};

use askama::Template;

use crate::{
    Code,
    face::{
        pages::{
            answer::{Answer, Trouble},
            asked::Asked,
            command::{self, AsCommand},
            form::Faults,
            frame::Frame,
            list::{Links, Listing},
            shown::{When, counted},
        },
        path::segment,
    },
    op::{
        config::domains::{Add, Added, DomainItem, List},
        dns::{ListVerdicts, VerdictItem},
    },
};

#[derive(Template)]
#[template(path = "admin/domains.html")]
struct Domains {
    frame: Frame,
    rows: Vec<Row>,
    links: Links,
    /// What the list is searched for.
    words: String,
    /// How many domains there are in all.
    total: usize,
}

struct Row {
    domain: DomainItem,
    /// What the last check of its records said; None: nobody checked them yet.
    verdict: Option<VerdictItem>,
    checked: When,
    url: String,
}

impl Row {
    /// The worst of the verdicts: how it looks, and in words.
    fn worst(&self) -> (&'static str, String) {
        match &self.verdict {
            None => ("", "not checked yet".to_owned()),
            Some(it) if it.wrong > 0 => ("bad", format!("{} to mend", it.wrong)),
            Some(it) if it.unknown > 0 => ("warn", format!("{} not known", it.unknown)),
            Some(it) if it.warnings > 0 => ("warn", counted(it.warnings, "warning", "warnings")),
            Some(_) => ("good", "all right".to_owned()),
        }
    }
}

/// The list.
pub(in crate::face::pages) async fn list(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let all = asked.list(List { domain: None }).await?;
    let total = all.len();
    let words = asked.query.shown("q").trim().to_owned();
    let wanted = |domain: &DomainItem| has_words(&words, [&domain.name, &domain.description]);
    let all = all.into_iter().filter(wanted).collect();
    let (items, links) = Listing::new(&asked.query).part(all, |domain| domain.name.clone());
    let verdicts = asked.list(ListVerdicts {}).await?.into_iter();
    let mut verdicts: BTreeMap<String, VerdictItem> =
        verdicts.map(|item| (item.domain.clone(), item)).collect();
    let now = asked.now();
    let row = |domain: DomainItem| Row {
        checked: When::maybe(verdicts.get(&domain.name).map(|it| &it.checked), now),
        verdict: verdicts.remove(&domain.name),
        url: asked.url(&format!("domains/{}", segment(&domain.name))),
        domain,
    };
    let (command, wanted) = match words.as_str() {
        "" => (AsCommand::cli(["config", "domain", "list"]), None),
        words => (AsCommand::none(), Some(words)),
    };
    let call = [("types", Some("domain")), ("filter", wanted)];
    let command = command.get(&command::path("/api/principal", &call));
    Answer::page(&Domains {
        frame: asked.frame("Domains").with(command),
        rows: items.into_iter().map(row).collect(),
        links,
        words,
        total,
    })
}

/// Whether all words are in one of the texts. Case does not count.
pub(super) fn has_words<'a>(words: &str, texts: impl IntoIterator<Item = &'a String>) -> bool {
    let texts: Vec<String> = texts.into_iter().map(|text| text.to_lowercase()).collect();
    let words = words.to_lowercase();
    let mut words = words.split_whitespace();
    words.all(|word| texts.iter().any(|text| text.contains(word)))
}

#[derive(Template)]
#[template(path = "admin/domains_add.html")]
struct NewDomain {
    frame: Frame,
    domain: String,
    account: String,
    localpart: String,
    disabled: bool,
    faults: Faults,
}

fn form(asked: &Asked, faults: Faults) -> NewDomain {
    let words = ["config", "domain", "add"];
    let word = |name, example: &str| asked.form.text(name).unwrap_or(example).to_owned();
    let mut command = AsCommand::cli(words)
        .word(&word("domain", "DOMAIN"))
        .word(&word("account", "ACCOUNT"));
    if let Some(localpart) = asked.form.text("localpart") {
        command = command.word(localpart);
    }
    if asked.form.flag("disabled") {
        command = command.word("--disabled");
    }
    NewDomain {
        frame: asked.frame("A new domain").with(command),
        domain: asked.form.shown("domain").to_owned(),
        account: asked.form.shown("account").to_owned(),
        localpart: asked.form.shown("localpart").to_owned(),
        disabled: asked.form.flag("disabled"),
        faults,
    }
}

/// The form for a new domain.
pub(in crate::face::pages) async fn ask_add(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    Answer::page(&form(&asked, Faults::default()))
}

/// Adds a domain.
pub(in crate::face::pages) async fn add(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let add = Add {
        domain: asked.form.text("domain").unwrap_or_default().to_owned(),
        account: asked.form.text("account").unwrap_or_default().to_owned(),
        localpart: asked.form.text("localpart").map(str::to_owned),
        disabled: asked.form.flag("disabled"),
        tenant: String::new(),
    };
    match asked.run(add).await {
        Ok(added) => {
            let next = format!("domains/{}/dns", segment(&added.domain));
            Ok(asked.done(told(&added), &next))
        }
        Err(error) if matches!(error.code, Code::Invalid | Code::Conflict) => {
            Answer::again(&form(&asked, Faults::of(&error)))
        }
        Err(error) => Err(error.into()),
    }
}

fn told(added: &Added) -> String {
    let mut told = format!("The domain {} is added", added.domain);
    if let Some(address) = &added.address {
        told.push_str(&format!(", with the address {address}"));
        if added.new_account {
            told.push_str(" of a new account, which has no password yet");
        }
    }
    told.push_str(". ");
    match (&added.published, &added.publish_problem) {
        (Some(published), _) => {
            let count = published.changes.len() as u64;
            let changes = counted(count, "change", "changes");
            told.push_str(&format!(
                "Its records are published by {changes} of the zone."
            ));
        }
        (None, Some(problem)) => {
            told.push_str(&format!("Its records are not published: {problem}."));
        }
        (None, None) => told.push_str("Next: add its records to DNS."),
    }
    told
}
