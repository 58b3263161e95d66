//! The frame around each page: title, menu, what was just done, and the commands that do the same.

use std::sync::{Mutex, PoisonError};

use askama::Template;
use axum::http::Method;
use postrider_store::Time;

use super::{
    asked::{Asked, random_key},
    assets,
    command::AsCommand,
    recent::Recent,
    site::{self, Area},
};

/// The frame around a page.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    pub(super) title: String,
    pub(super) area: Area,
    /// Where the pages of the area are, with a slash at both ends.
    base: String,
    /// The parts of the menu. Only pages that exist are in it.
    pub(super) menu: Vec<Part>,
    /// The visitor; empty: nobody is logged in.
    pub(super) who: String,
    /// The token of the session's forms.
    pub(super) token: String,
    /// What was just done.
    pub(super) notice: Option<String>,
    /// The commands and calls that do the same as this page.
    pub(super) commands: Vec<AsCommand>,
    /// The visitor gave the password lately.
    pub(super) proven: bool,
    /// When the page was made.
    pub(super) now: Time,
    /// The page without a menu: a login.
    pub(super) bare: bool,
}

/// A part of the menu.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) title: &'static str,
    pub(super) items: Vec<Item>,
}

/// A link of the menu.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) title: &'static str,
    pub(super) url: String,
    /// The page is this one, or below it.
    pub(super) current: bool,
}

/// The links of the menu by part: title, and path within the area.
type Menu = &'static [(&'static str, &'static [(&'static str, &'static str)])];

const ADMIN: Menu = &[
    ("", &[("Overview", ""), ("Is it set up rightly?", "check")]),
    (
        "Mail",
        &[
            ("Queue", "queue"),
            ("Destinations", "queue/destinations"),
            ("History", "history"),
            ("Events", "events"),
            ("Hold rules", "hold-rules"),
            ("Suppressions", "suppressions"),
        ],
    ),
    (
        "Webhooks",
        &[("Calls", "webhooks"), ("Past calls", "webhooks/history")],
    ),
    (
        "Set-up",
        &[
            ("Domains", "domains"),
            ("Accounts", "accounts"),
            ("Keys", "keys"),
            ("Configuration", "config"),
        ],
    ),
    (
        "Watch",
        &[
            ("Metrics", "metrics"),
            ("Traces", "traces"),
            ("Logs", "logs"),
            ("DMARC reports", "reports/dmarc"),
            ("TLS reports", "reports/tls"),
            ("Complaints", "reports/arf"),
        ],
    ),
    (
        "Try",
        &[
            ("Delivery to an address", "troubleshoot/delivery"),
            ("Checks of a message", "troubleshoot/dmarc"),
        ],
    ),
    (
        "Who did what",
        &[
            ("Audit log", "audit"),
            ("Logins", "logins"),
            ("Sessions", "sessions"),
            ("Your second factor", "2fa"),
        ],
    ),
];

const ACCOUNT: Menu = &[
    ("", &[("Overview", "")]),
    (
        "Mail",
        &[
            ("Messages", "messages"),
            ("Events", "events"),
            ("Suppressions", "suppressions"),
        ],
    ),
    (
        "Programs",
        &[("Webhooks", "webhooks"), ("API keys", "keys")],
    ),
    (
        "Login",
        &[
            ("Password", "password"),
            ("Second factor", "2fa"),
            ("App passwords", "app-passwords"),
            ("TLS keys", "tls-keys"),
            ("Logins", "logins"),
            ("Sessions", "sessions"),
        ],
    ),
    (
        "Settings",
        &[
            ("Settings", "settings"),
            ("Rules", "rules"),
            ("Automatic replies", "auto-responder"),
        ],
    ),
];

const INBOX: Menu = &[("", &[("Inbox", ""), ("Send", "send")])];

impl Frame {
    pub(super) fn new(asked: &Asked, title: &str, notice: Option<String>) -> Self {
        let area = asked.area;
        let who = asked.session.as_ref().map(|session| session.login.as_str());
        Self {
            title: title.to_owned(),
            area,
            base: asked.url(""),
            menu: menu(asked),
            who: who.unwrap_or_default().to_owned(),
            token: asked.token().to_owned(),
            notice,
            commands: Vec::new(),
            proven: asked.is_proven(),
            now: asked.now(),
            bare: false,
        }
    }

    /// The same with a command that does the same as the page, if there is one.
    pub(super) fn with(mut self, command: AsCommand) -> Self {
        self.commands
            .extend(Some(command).filter(|it| *it != AsCommand::none()));
        self
    }

    /// The path of a page in this area.
    pub(super) fn url(&self, rest: &str) -> String {
        format!("{}{rest}", self.base)
    }

    /// The path of the style sheet.
    pub(super) fn style(&self) -> &'static str {
        assets::STYLE.path()
    }

    /// The path of the script.
    pub(super) fn script(&self) -> &'static str {
        assets::SCRIPT.path()
    }

    /// The path of the icon.
    pub(super) fn icon(&self) -> &'static str {
        assets::ICON.path()
    }

    /// The hidden fields of a form: the token of the session, and a number of its own.
    pub(super) fn hidden(&self) -> Hidden<'_> {
        Hidden {
            token: &self.token,
            number: random_key(),
        }
    }

    /// The name of the area, for the title.
    pub(super) fn of(&self) -> &'static str {
        match self.area {
            Area::Admin => "admin",
            Area::Account => "account",
            Area::Inbox => "inbox",
        }
    }
}

/// The hidden fields of a form.
#[derive(Template)]
#[template(
    source = r#"<input type="hidden" name="token" value="{{ token }}"><input type="hidden" name="form" value="{{ number }}">"#,
    ext = "html"
)]
pub(super) struct Hidden<'a> {
    token: &'a str,
    number: String,
}

impl askama::filters::HtmlSafe for Hidden<'_> {}

fn menu(asked: &Asked) -> Vec<Part> {
    let links = match asked.area {
        _ if asked.session.is_none() && asked.area != Area::Inbox => return Vec::new(),
        Area::Admin => ADMIN,
        Area::Account => ACCOUNT,
        Area::Inbox => INBOX,
    };
    let path = asked.target.split('?').next().unwrap_or_default();
    let exists = |rest: &str| {
        let elements: Vec<&str> = rest.split('/').collect();
        site::find(asked.area, &Method::GET, &elements).is_some()
    };
    // The longest link that the path begins with is the current one.
    let all = links.iter().flat_map(|(_, items)| items.iter());
    let all = all.map(|(_, rest)| asked.url(rest));
    let is_within = |url: &String| {
        let below = path.strip_prefix(url.as_str());
        below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let current = all.filter(is_within).max_by_key(String::len);
    let part = |(title, items): &(&'static str, &[(&'static str, &'static str)])| Part {
        title,
        items: items
            .iter()
            .filter(|(_, rest)| exists(rest))
            .map(|(title, rest)| {
                let url = asked.url(rest);
                Item {
                    title,
                    current: current.as_ref() == Some(&url),
                    url,
                }
            })
            .collect(),
    };
    let parts = links.iter().map(part);
    parts.filter(|part| !part.items.is_empty()).collect()
}

/// A page that tells of trouble.
#[derive(Template)]
#[template(path = "trouble.html")]
pub(super) struct TroublePage {
    pub(super) frame: Frame,
    pub(super) text: String,
}

/// The most notices that wait to be read.
const NOTICES: usize = 1000;

/// What was done, for the page that a form leads to. Each is read once.
#[derive(Default)]
pub(super) struct Notices {
    waiting: Mutex<Recent<String, NOTICES>>,
}

impl Notices {
    /// Keeps a text, and gives the key by which it is read.
    pub(super) fn keep(&self, text: String) -> String {
        let key = random_key();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.add(key.clone(), text);
        key
    }

    /// Reads a text. A second look finds nothing.
    pub(super) fn take(&self, key: Option<&str>) -> Option<String> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.take(key?)
    }
}

/// A path without the key of a notice.
pub(super) fn without_told(target: &str) -> String {
    let Some((path, query)) = target.split_once('?') else {
        return target.to_owned();
    };
    let kept: Vec<&str> = query
        .split('&')
        .filter(|pair| !pair.starts_with("told="))
        .collect();
    match kept.is_empty() {
        true => path.to_owned(),
        false => format!("{path}?{}", kept.join("&")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_is_read_once() {
        let notices = Notices::default();
        let key = notices.keep("1 message is held.".to_owned());
        assert_eq!(
            notices.take(Some(&key)).as_deref(),
            Some("1 message is held.")
        );
        assert_eq!(notices.take(Some(&key)), None);
        assert_eq!(notices.take(None), None);
    }

    #[test]
    fn the_key_of_a_notice_leaves_the_path() {
        assert_eq!(without_told("/admin/queue?told=1"), "/admin/queue");
        assert_eq!(
            without_told("/admin/queue?to=a&told=1&id=2"),
            "/admin/queue?to=a&id=2"
        );
        assert_eq!(without_told("/admin/"), "/admin/");
    }
}
