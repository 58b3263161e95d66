//! What became of the logins of an account, for its holder and for the administrator.

use std::sync::Arc;

use askama::Template;

use super::{
    answer::{Answer, Trouble},
    asked::Asked,
    command::AsCommand,
    frame::Frame,
    list::{Links, Listing},
    owner::Owner,
    shown::{Count, When},
};
use crate::op::login_attempts::{List, LoginItem, Whose};

/// Results by their words: what they mean, and how good that is.
const RESULTS: [(&str, &str, &str); 7] = [
    ("ok", "logged in", "good"),
    ("wrong", "wrong password, code or key", "bad"),
    (
        "weak",
        "right password, without the code that is needed too",
        "warn",
    ),
    ("disabled", "login is disabled", "warn"),
    ("limited", "not checked: too many wrong ones", "bad"),
    ("unavailable", "not checked: the server could not", "warn"),
    ("malformed", "not readable", "warn"),
];

/// Where somebody logs in.
const SERVICES: [(&str, &str); 5] = [
    ("submission", "sending mail (SMTP)"),
    ("webapi", "webapi"),
    ("mailbox", "mailboxes"),
    ("account", "account pages"),
    ("admin", "management"),
];

#[derive(Template)]
#[template(path = "login/logins.html")]
struct Logins {
    frame: Frame,
    owner: Owner,
    rows: Vec<Row>,
    links: Links,
    results: Vec<(&'static str, &'static str)>,
    services: Vec<(&'static str, &'static str)>,
    result: String,
    service: String,
}

struct Row {
    login: LoginItem,
    last: When,
    first: When,
    result: &'static str,
    grade: &'static str,
}

impl Row {
    fn new(asked: &Asked, login: LoginItem) -> Self {
        let mut results = RESULTS.iter();
        let known = results.find(|(word, ..)| *word == login.result);
        let (_, result, grade) = known.copied().unwrap_or(("", "not known", "warn"));
        Self {
            last: When::new(&login.last, asked.now()),
            first: When::new(&login.first, asked.now()),
            result,
            grade,
            login,
        }
    }

    fn service(&self) -> &str {
        let mut services = SERVICES.iter();
        let known = services.find(|(word, _)| *word == self.login.service);
        known.map_or(&self.login.service, |(_, text)| text)
    }

    /// How the login was made: mechanism, key, version of TLS.
    fn way(&self) -> String {
        let login = &self.login;
        let key = match login.key.as_str() {
            "" => String::new(),
            key => format!("key {key}"),
        };
        let parts = [login.mechanism.as_str(), &key, &login.tls];
        let parts = parts.into_iter().filter(|part| !part.is_empty());
        parts.collect::<Vec<_>>().join(", ")
    }
}

/// The logins, the newest first.
pub(super) async fn list(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let owner = Owner::of(&asked).await?;
    let listing = Listing::new(&asked.query);
    let result = asked.query.text("result").unwrap_or_default().to_owned();
    let service = asked.query.text("service").unwrap_or_default().to_owned();
    let given = |text: &String| (!text.is_empty()).then(|| text.clone());
    let list = List {
        of: Some(Whose::Account(owner.account.clone())),
        result: given(&result),
        service: given(&service),
        since: None,
        after: listing.after(),
        limit: Some(listing.limit()),
    };
    let (items, mut links) = listing.arrange(asked.list(list).await?, |item| item.id.to_string());
    // The operation goes from the newest to the oldest only.
    links.before = None;
    let mut frame = asked.frame(&owner.title("Logins"));
    if owner.by_admin {
        let command = AsCommand::cli(["login", "list", "--account", &owner.account])
            .option("--result", given(&result).as_deref())
            .option("--service", given(&service).as_deref());
        frame = frame.with(command);
    }
    Answer::page(&Logins {
        frame,
        rows: items
            .into_iter()
            .map(|item| Row::new(&asked, item))
            .collect(),
        owner,
        links,
        results: RESULTS
            .iter()
            .map(|(word, text, _)| (*word, *text))
            .collect(),
        services: SERVICES.into(),
        result,
        service,
    })
}
