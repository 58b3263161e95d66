//! Sessions of web pages: who is logged in with a browser. The pages begin and find them by
//! [`face::sessions`](crate::face::sessions).

use std::net::IpAddr;

use postrider_store::{WebSession, WebSessionId, WebSessionOwner};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Listed as _, Operation, Single, Sink};
use crate::{AdminError, Context};

/// A session of web pages. Times are RFC 3339.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebSessionItem {
    /// The number.
    pub id: u64,
    /// The account whose holder is logged in; None: the administrator is.
    pub account: Option<String>,
    /// The login as it was typed.
    pub login: String,
    /// When it began.
    pub created: String,
    /// When it was last used, within a minute or so.
    pub last_used: String,
    /// When the password was last given.
    pub proven: String,
    /// When it ends, unless it is used before.
    pub until: String,
    /// The address of the client at the last use; None: it is not known.
    pub ip: Option<IpAddr>,
    /// What the browser calls itself, shortened.
    pub browser: String,
}

impl From<WebSession> for WebSessionItem {
    fn from(session: WebSession) -> Self {
        Self {
            id: session.id.0,
            account: session.owner.account().map(str::to_owned),
            login: session.login,
            created: session.created.to_string(),
            last_used: session.last_used.to_string(),
            proven: session.proven.to_string(),
            until: session.until.to_string(),
            ip: session.ip,
            browser: session.browser,
        }
    }
}

/// Lists sessions, the one that was used last first.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct List {
    /// `admin`, or `{"account": NAME}`; None: all.
    pub of: Option<WebSessionOwner>,
}

impl Operation for List {
    type Item = WebSessionItem;

    async fn run(
        self,
        context: &Context,
        items: &mut impl Sink<WebSessionItem>,
    ) -> Result<(), AdminError> {
        if let Some(owner) = &self.of {
            context.check_owner(owner)?;
        }
        let now = context.clock.now();
        let mut sessions = context.store.web_sessions(self.of).await?;
        sessions.retain(|session| session.until > now);
        sessions.sort_by_key(|session| std::cmp::Reverse((session.last_used, session.id)));
        let listed = sessions.into_iter().map(WebSessionItem::from);
        items.send(listed.collect()).await
    }
}

/// Ends sessions of the administrator or of an account: one, or all.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct End {
    /// `admin`, or `{"account": NAME}`.
    pub of: WebSessionOwner,
    /// The number of the session; None: all.
    #[serde(default)]
    pub id: Option<u64>,
    /// The number of a session that goes on: that of the caller.
    #[serde(default)]
    pub except: Option<u64>,
}

/// The result of [`End`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// The number of sessions that ended.
    pub count: u64,
}

impl Single for End {
    type Output = Ended;

    async fn answer(self, context: &Context) -> Result<Ended, AdminError> {
        let described = json!({"id": self.id, "except": self.except});
        let target = self.of.name().to_owned();
        let context = &context.carrying(Self::NAME, &target, &described);
        let ended = self.end(context).await;
        context.record(Self::NAME, &target, &described, ended).await
    }
}

impl End {
    async fn end(self, context: &Context) -> Result<Ended, AdminError> {
        context.check_owner(&self.of)?;
        let store = &context.store;
        let Some(id) = self.id else {
            let except = self.except.map(WebSessionId);
            let count = store.end_web_sessions(self.of, except).await?;
            return Ok(Ended { count });
        };
        // Nobody ends a session of somebody else by its number.
        let own = store.web_sessions(Some(self.of)).await?;
        let is_own = own.iter().any(|session| session.id.0 == id);
        match is_own && store.end_web_session(WebSessionId(id)).await? {
            true => Ok(Ended { count: 1 }),
            false => {
                let text = format!("there is no session {id}");
                Err(AdminError::not_found(text).at("id"))
            }
        }
    }
}
