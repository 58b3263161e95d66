//! Pages about one account, which the administrator and the holder of the account both have: below
//! `/admin/accounts/NAME/` and below `/account/`.

use super::{
    answer::Trouble,
    asked::Asked,
    site::Area,
    tabs::{Tab, tabs},
};
use crate::{
    Code,
    face::path::segment,
    op::config::accounts::{AccountItem, List},
};

/// The tabs of an account for the administrator: title, and path below the account.
const TABS: [(&str, &str); 14] = [
    ("Account", ""),
    ("Addresses", "addresses"),
    ("Password", "password"),
    ("Second factor", "2fa"),
    ("App passwords", "app-passwords"),
    ("API keys", "keys"),
    ("TLS keys", "tls-keys"),
    ("Limits", "limits"),
    ("Webhooks", "webhooks"),
    ("Settings", "settings"),
    ("Rules", "rules"),
    ("Automatic replies", "auto-responder"),
    ("Logins", "logins"),
    ("Sessions", "sessions"),
];

/// The account that a page is about.
#[derive(Clone, Debug)]
pub(super) struct Owner {
    /// The name of the account.
    pub(super) account: String,
    pub(super) item: AccountItem,
    /// The tabs; none for the holder, whose menu has them.
    pub(super) tabs: Vec<Tab>,
    /// The administrator looks at the account.
    pub(super) by_admin: bool,
    /// The path of the account's pages within the area, without a slash at its end.
    base: String,
}

impl Owner {
    /// The account of the path for the administrator, and that of the session for others.
    ///
    /// # Errors
    /// If there is no such account.
    pub(super) async fn of(asked: &Asked) -> Result<Self, Trouble> {
        let by_admin = asked.area == Area::Admin;
        let (account, base) = match by_admin {
            true => {
                let account = asked.element(0);
                (account, format!("accounts/{}", segment(account)))
            }
            false => (asked.account(), String::new()),
        };
        let list = List {
            account: Some(account.to_owned()),
        };
        let found = asked.list(list).await.map_err(|error| match error.code {
            Code::NotFound => Trouble::NoPage,
            _ => error.into(),
        })?;
        let item = found.into_iter().next().ok_or(Trouble::NoPage)?;
        Ok(Self {
            account: account.to_owned(),
            item,
            tabs: match by_admin {
                true => tabs(asked, &base, &TABS),
                false => Vec::new(),
            },
            by_admin,
            base,
        })
    }

    /// The path within the area of a page of the account.
    pub(super) fn path(&self, rest: &str) -> String {
        match (self.base.as_str(), rest) {
            ("", rest) => rest.to_owned(),
            (base, "") => base.to_owned(),
            (base, rest) => format!("{base}/{rest}"),
        }
    }

    /// A variable element of the path behind the account.
    pub(super) fn element<'a>(&self, asked: &'a Asked, at: usize) -> &'a str {
        asked.element(at + usize::from(self.by_admin))
    }

    /// The title of a page about the account.
    pub(super) fn title(&self, title: &str) -> String {
        match self.by_admin {
            true => format!("{title} of {}", self.account),
            false => title.to_owned(),
        }
    }
}
