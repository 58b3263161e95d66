//! One domain: what it is, its end, and that it takes no mail for a time.
//!
//! - `dns`: its records. `dkim`: its keys. `mta_sts`: its policy.
//! - `aliases`, `alias`: its aliases. `routes`: the transports of its mail. `settings`: the rest.

pub(in crate::face::pages) mod alias;
pub(in crate::face::pages) mod aliases;
pub(in crate::face::pages) mod dkim;
pub(in crate::face::pages) mod dns;
pub(in crate::face::pages) mod mta_sts;
pub(in crate::face::pages) mod routes;
pub(in crate::face::pages) mod settings;

use std::sync::Arc;

use askama::Template;

use crate::{
    Code,
    face::{
        pages::{
            answer::{Answer, Trouble},
            asked::Asked,
            command::AsCommand,
            confirm::{Confirm, check_typed},
            form::query,
            frame::Frame,
            shown::counted,
            tabs::{Tab, tabs},
        },
        path::segment,
    },
    op::config::{
        addresses,
        domains::{DomainItem, List, Remove, Set},
        settings::Setting,
    },
};

/// The tabs of a domain: title, and path below the domain.
const TABS: [(&str, &str); 7] = [
    ("Domain", ""),
    ("DNS", "dns"),
    ("DKIM", "dkim"),
    ("MTA-STS", "mta-sts"),
    ("Aliases", "aliases"),
    ("Routes", "routes"),
    ("Settings", "settings"),
];

/// Pages with reports about domains: title, and path below the reports.
const REPORTS: [(&str, &str); 2] = [("DMARC reports", "dmarc"), ("TLS reports", "tls")];

/// The domain that a page is about.
pub(in crate::face::pages) struct Head {
    pub(in crate::face::pages) item: DomainItem,
    pub(in crate::face::pages) tabs: Vec<Tab>,
    /// The path within the area, without a slash at its end.
    base: String,
}

impl Head {
    /// The domain of the path.
    ///
    /// # Errors
    /// If there is no such domain.
    async fn of(asked: &Asked) -> Result<Self, Trouble> {
        let list = List {
            domain: Some(asked.element(0).to_owned()),
        };
        let found = asked.list(list).await.map_err(|error| match error.code {
            Code::NotFound | Code::Invalid => Trouble::NoPage,
            _ => error.into(),
        })?;
        let item = found.into_iter().next().ok_or(Trouble::NoPage)?;
        let base = format!("domains/{}", segment(asked.element(0)));
        Ok(Self {
            item,
            tabs: tabs(asked, &base, &TABS),
            base,
        })
    }

    fn name(&self) -> &str {
        &self.item.name
    }

    /// The path within the area of a page of the domain.
    fn path(&self, rest: &str) -> String {
        match rest {
            "" => self.base.clone(),
            rest => format!("{}/{rest}", self.base),
        }
    }

    /// The path of a page of the domain, for links in templates.
    fn url(&self, frame: &Frame, rest: &str) -> String {
        frame.url(&self.path(rest))
    }

    fn frame(&self, asked: &Asked, title: &str) -> Frame {
        asked.frame(&format!("{title} of {}", self.name()))
    }
}

#[derive(Template)]
#[template(path = "admin/domain.html")]
struct DomainPage {
    frame: Frame,
    domain: Head,
    /// Pages with reports about the domain, and their query.
    reports: Vec<Tab>,
    query: String,
}

/// What the domain is.
pub(in crate::face::pages) async fn show(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let domain = Head::of(&asked).await?;
    let words = ["config", "domain", "get", domain.name()];
    let call = format!("/api/principal/{}", segment(domain.name()));
    let command = AsCommand::cli(words).get(&call);
    Answer::page(&DomainPage {
        frame: domain.frame(&asked, "Overview").with(command),
        reports: tabs(&asked, "reports", &REPORTS),
        query: query([("domain", domain.name())]),
        domain,
    })
}

/// Sets whether a domain is disabled.
async fn set_disabled(asked: &Asked, domain: &Head, disabled: bool) -> Result<(), Trouble> {
    let setting = Setting {
        key: "disabled".to_owned(),
        value: disabled.then(|| "true".to_owned()),
    };
    let set = Set {
        domain: domain.name().to_owned(),
        settings: vec![setting],
    };
    Ok(asked.run(set).await?)
}

/// Asks before a domain is disabled.
pub(in crate::face::pages) async fn ask_disable(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let domain = Head::of(&asked).await?;
    let name = domain.name();
    let action = asked.url(&domain.path("disable"));
    let question = format!("Disable {name}?");
    let confirm = Confirm::new(&asked, &question, "Disable the domain", &action)
        .effect("The domain receives no mail. Senders get a temporary error and try again later.")
        .effect("Nobody can send mail from the domain.")
        .effect("You can enable it again at any time.")
        .back(asked.url(&domain.path("")))
        .command(AsCommand::cli(["config", "domain", "disable", name]));
    Answer::page(&confirm)
}

/// Lets a domain receive and send no mail.
pub(in crate::face::pages) async fn disable(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let domain = Head::of(&asked).await?;
    set_disabled(&asked, &domain, true).await?;
    let told = format!("{} is disabled. Senders try again later.", domain.name());
    Ok(asked.done(told, &domain.path("")))
}

/// Lets a domain receive and send mail again.
pub(in crate::face::pages) async fn enable(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let domain = Head::of(&asked).await?;
    set_disabled(&asked, &domain, false).await?;
    let told = format!("{} receives and sends mail again.", domain.name());
    Ok(asked.done(told, &domain.path("")))
}

/// How many things a question names.
const EXAMPLES: usize = 5;

/// What a question says of the end of a domain.
async fn removal(asked: &Asked, domain: &Head) -> Result<Confirm, Trouble> {
    let name = domain.name();
    let action = asked.url(&domain.path("remove"));
    let question = format!("Remove {name}?");
    let all = asked.list(addresses::List { account: None }).await?;
    let is_own = |address: &String| {
        address
            .rsplit_once('@')
            .is_some_and(|(_, host)| host == name)
    };
    let own = all.into_iter().map(|item| (item.address, item.account));
    let own: Vec<_> = own.filter(|(address, _)| is_own(address)).collect();
    let examples = own.iter().take(EXAMPLES);
    let mut confirm = Confirm::new(asked, &question, "Remove the domain", &action)
        .effect("Mail for the domain is refused, and mail from it is signed no more.")
        .effect("Its key files go to the folder \"old\" beside them.");
    if domain.item.aliases > 0 {
        let aliases = counted(domain.item.aliases, "alias goes", "aliases go");
        confirm = confirm.effect(format!("{aliases} with it."));
    }
    if !own.is_empty() {
        let count = counted(
            own.len() as u64,
            "address of accounts is",
            "addresses of accounts are",
        );
        confirm = confirm.effect(format!(
            "{count} at the domain. Remove them first: while there are any, the domain stays."
        ));
    }
    Ok(confirm
        .examples(
            examples
                .map(|(address, account)| format!("{address}, account {account}"))
                .collect(),
        )
        .typing(name)
        .back(asked.url(&domain.path("")))
        .command(AsCommand::cli(["config", "domain", "rm", name])))
}

/// Asks before a domain is removed.
pub(in crate::face::pages) async fn ask_remove(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let domain = Head::of(&asked).await?;
    Answer::page(&removal(&asked, &domain).await?)
}

/// Removes a domain.
pub(in crate::face::pages) async fn remove(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let domain = Head::of(&asked).await?;
    let removed = match check_typed(&asked.form, domain.name()) {
        Ok(()) => {
            let name = domain.name().to_owned();
            asked.run(Remove { domain: name }).await
        }
        Err(error) => Err(error),
    };
    match removed {
        Ok(_) => {
            let told = format!("The domain {} is removed.", domain.name());
            Ok(asked.done(told, "domains"))
        }
        Err(error) if error.code == Code::Invalid => removal(&asked, &domain).await?.again(&error),
        Err(error) => Err(error.into()),
    }
}
