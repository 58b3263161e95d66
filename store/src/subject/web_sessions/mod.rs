//! Sessions of web pages: who is logged in with a browser.
//!
//! A session is found by the SHA-256 digest of the secret in the cookie of its browser. The store
//! never has the secret itself. A new password of an account ends the sessions of the account in
//! the same operation, and so does its removal.

#[cfg(any(test, feature = "memory"))]
pub(crate) mod model;
#[cfg(test)]
mod tests;

use std::{net::IpAddr, ops::Bound, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{State, next};
use crate::{
    Store, StoreError, Time,
    error::Fault,
    id::ids,
    table::{
        Faults, Table,
        key::Name,
        tables,
        value::{records, ways},
        values,
    },
};

ids! {
    /// A session of web pages.
    WebSessionId,
}

/// The most sessions of an account, and of the administrator. When one more comes, the one goes
/// that was not used for the longest time.
pub const WEB_SESSIONS_MAX: usize = 50;

/// Who is logged in.
///
/// The journal and the index have the place in this list, so a new one goes to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WebSessionOwner {
    /// The administrator.
    Admin,
    /// The holder of the account with this name.
    Account(String),
}

impl WebSessionOwner {
    /// The account. None: the administrator.
    #[must_use]
    pub fn account(&self) -> Option<&str> {
        match self {
            Self::Admin => None,
            Self::Account(account) => Some(account),
        }
    }

    /// The name for people: that of the account, or `admin`. An account may have that name too.
    #[must_use]
    pub fn name(&self) -> &str {
        self.account().unwrap_or("admin")
    }

    /// The key in the table of owners.
    pub(super) fn key(&self) -> Name {
        match self {
            Self::Admin => "admin".into(),
            Self::Account(account) => format!("account {account}").into(),
        }
    }
}

/// A session of web pages.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebSession {
    /// The number, for people.
    pub id: WebSessionId,
    /// The SHA-256 digest of the secret in the cookie.
    pub hash: [u8; 32],
    /// Who is logged in.
    pub owner: WebSessionOwner,
    /// The login as it was typed: an address, or `admin`.
    pub login: String,
    /// When it began.
    pub created: Time,
    /// When it was last used, within a minute or so.
    pub last_used: Time,
    /// When the password was last given.
    pub proven: Time,
    /// When it ends, unless it is used before.
    pub until: Time,
    /// The address of the client at the last use. None: it is not known.
    pub ip: Option<IpAddr>,
    /// What the browser calls itself, shortened.
    pub browser: String,
}

/// Hides the digest.
impl std::fmt::Debug for WebSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebSession")
            .field("id", &self.id)
            .field("owner", &self.owner)
            .field("created", &self.created)
            .field("last_used", &self.last_used)
            .field("until", &self.until)
            .finish_non_exhaustive()
    }
}

/// A new session. The password was given just now. The fields are those of [`WebSession`].
#[derive(Clone, Serialize, Deserialize)]
#[expect(
    missing_docs,
    reason = "each is described at the field of the same name of WebSession"
)]
pub struct NewWebSession {
    pub hash: [u8; 32],
    pub owner: WebSessionOwner,
    pub login: String,
    pub created: Time,
    pub until: Time,
    pub ip: Option<IpAddr>,
    pub browser: String,
}

/// Hides the digest.
impl std::fmt::Debug for NewWebSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewWebSession")
            .field("owner", &self.owner)
            .field("created", &self.created)
            .field("until", &self.until)
            .finish_non_exhaustive()
    }
}

impl NewWebSession {
    /// The record with this number.
    fn session(self, id: WebSessionId) -> WebSession {
        WebSession {
            id,
            hash: self.hash,
            owner: self.owner,
            login: self.login,
            created: self.created,
            last_used: self.created,
            proven: self.created,
            until: self.until,
            ip: self.ip,
            browser: self.browser,
        }
    }
}

/// The use of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebSessionUse {
    /// The session.
    pub id: WebSessionId,
    /// The time of the use.
    pub now: Time,
    /// When the session ends now, unless it is used before.
    pub until: Time,
    /// The address of the client.
    pub ip: Option<IpAddr>,
    /// The password was given.
    pub proven: bool,
}

impl WebSessionUse {
    fn note(&self, session: &mut WebSession) {
        session.last_used = session.last_used.max(self.now);
        session.until = self.until;
        session.ip = self.ip;
        if self.proven {
            session.proven = self.now;
        }
    }
}

/// Numbers that are kept with the tables.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Counters {
    last: u64,
}

records! {
    WebSession: version 1,
}

ways! {
    WebSessionId: version 1,
}

tables! {
    /// The sessions.
    counters: Counters,
    sessions: Table<WebSessionId, WebSession> = Table::new("web_sessions"),
    /// By the digest of the secret.
    by_hash: Table<[u8; 32], WebSessionId> = Table::new("web_session_hashes"),
    /// By owner.
    by_owner: Table<(Name, WebSessionId), ()> = Table::new("web_session_owners"),
    /// By the time when they end.
    ends: Table<(Time, WebSessionId), ()> = Table::new("web_session_ends"),
}

subject!(
    counters Counters, keys 1,
    fn skip_ids(&mut self, by: u64) {
        self.counters.last = self.counters.last.saturating_add(by);
    },
    fn sweep(state: &mut State, now: Time, max: u64) -> Result<u64, Fault> {
        state.web_sessions.end_old(now, max)
    }
);

impl Tables {
    fn add(&mut self, session: WebSession) {
        let id = session.id;
        self.by_hash.put(session.hash, id);
        self.by_owner.put_new((session.owner.key(), id), ());
        self.ends.put_new((session.until, id), ());
        self.sessions.put_new(id, session);
    }

    /// Ends a session. False: there is none.
    fn end(&mut self, id: WebSessionId) -> Result<bool, Fault> {
        let Some(session) = self.sessions.take(&id)? else {
            return Ok(false);
        };
        self.by_hash.remove(&session.hash);
        self.by_owner.remove(&(session.owner.key(), id));
        self.ends.remove(&(session.until, id));
        Ok(true)
    }

    fn of(&self, owner: &WebSessionOwner) -> Result<Vec<WebSession>, Fault> {
        let owner = owner.key();
        let from = (Arc::clone(&owner), WebSessionId(0));
        let to = (owner, WebSessionId(u64::MAX));
        let mut sessions = Vec::new();
        for entry in self
            .by_owner
            .range(Bound::Included(&from), Bound::Included(&to))?
        {
            let ((_, id), ()) = entry?;
            sessions.extend(self.sessions.get(&id)?);
        }
        Ok(sessions)
    }

    /// Ends the sessions of an owner but one. Gives how many there were.
    pub(super) fn end_of(
        &mut self,
        owner: &WebSessionOwner,
        except: Option<WebSessionId>,
    ) -> Result<u64, Fault> {
        let mut ended = 0;
        for session in self.of(owner)? {
            if Some(session.id) != except {
                ended += u64::from(self.end(session.id)?);
            }
        }
        Ok(ended)
    }

    /// Ends all sessions.
    pub(super) fn end_all(&mut self) -> Result<(), Fault> {
        for (id, _) in self.sessions.all()? {
            self.end(id)?;
        }
        Ok(())
    }

    /// Removes at most `max` sessions whose time is over.
    fn end_old(&mut self, now: Time, max: u64) -> Result<u64, Fault> {
        let to = (now, WebSessionId(u64::MAX));
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        let old = self
            .ends
            .range(Bound::Unbounded, Bound::Included(&to))?
            .take(max)
            .collect::<Result<Vec<_>, Fault>>()?;
        for (end, ()) in &old {
            if !self.end(end.1)? {
                // The session could not be read.
                self.ends.remove(end);
            }
        }
        Ok(old.len() as u64)
    }
}

/// The session to end so that an owner has no more than [`WEB_SESSIONS_MAX`].
fn too_many<'a>(sessions: impl ExactSizeIterator<Item = &'a WebSession>) -> Option<WebSessionId> {
    if sessions.len() <= WEB_SESSIONS_MAX {
        return None;
    }
    let oldest = sessions.min_by_key(|session| (session.last_used, session.id));
    oldest.map(|session| session.id)
}

impl State {
    /// Compares the ways to the sessions with the sessions.
    pub(super) fn check_web_sessions(&self, faults: &mut Faults) -> Result<(), Fault> {
        let tables = &self.web_sessions;
        let mut count = 0;
        tables.sessions.for_each(|id, session| {
            count += 1;
            let found = tables.by_hash.get(&session.hash)? == Some(id)
                && tables.by_owner.contains(&(session.owner.key(), id))?
                && tables.ends.contains(&(session.until, id))?;
            faults.check(found, || {
                format!("the web session {id} is not found by its cookie, owner and end")
            });
            Ok(())
        })?;
        faults.compare("web sessions by cookie", tables.by_hash.count()?, count);
        faults.compare("web sessions by owner", tables.by_owner.count()?, count);
        faults.compare("ends of web sessions", tables.ends.count()?, count);
        Ok(())
    }
}

operations! {
    WebSessions, version 1:
    Begin -> WebSessionId, Reserve;
    Use -> bool, Reserve;
    End -> bool, Reserve;
    EndOf -> u64, Reserve;
}

/// Begins a session.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Begin(NewWebSession);

impl Begin {
    fn apply(self, state: &mut State) -> Result<WebSessionId, Fault> {
        let tables = &mut state.web_sessions;
        let id = WebSessionId(next(&mut tables.counters.last));
        let session = self.0.session(id);
        let owner = session.owner.clone();
        tables.add(session);
        if let Some(oldest) = too_many(tables.of(&owner)?.iter()) {
            tables.end(oldest)?;
        }
        Ok(id)
    }
}

/// Notes the use of a session.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Use(WebSessionUse);

impl Use {
    fn apply(self, state: &mut State) -> Result<bool, Fault> {
        let tables = &mut state.web_sessions;
        let id = self.0.id;
        let Some(mut session) = tables.sessions.get(&id)? else {
            return Ok(false);
        };
        tables.ends.remove(&(session.until, id));
        self.0.note(&mut session);
        tables.ends.put((session.until, id), ());
        tables.sessions.put(id, session);
        Ok(true)
    }
}

/// Ends a session.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct End {
    id: WebSessionId,
}

impl End {
    fn apply(self, state: &mut State) -> Result<bool, Fault> {
        state.web_sessions.end(self.id)
    }
}

/// Ends the sessions of an owner.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct EndOf {
    owner: WebSessionOwner,
    except: Option<WebSessionId>,
}

impl EndOf {
    fn apply(self, state: &mut State) -> Result<u64, Fault> {
        state.web_sessions.end_of(&self.owner, self.except)
    }
}

questions! {
    ask ByCookie<'a> { hash: &'a [u8; 32] } -> Option<WebSession>,
    |this, state| match state.web_sessions.by_hash.get(this.hash)? {
        Some(id) => state.web_sessions.sessions.get(&id),
        None => Ok(None),
    },
    |this, model| model.web_sessions.find(this.hash);

    scan All { owner: Option<WebSessionOwner> } -> Vec<WebSession>,
    |this, reader| {
        let state = reader.state()?;
        let tables = &state.web_sessions;
        Ok(match &this.owner {
            Some(owner) => tables.of(owner)?,
            None => values(tables.sessions.all()?),
        })
    },
    |this, model| model.web_sessions.list(this.owner.as_ref());
}

impl Store {
    /// Begins a session of web pages. If its owner has [`WEB_SESSIONS_MAX`] already, the one ends
    /// that was not used for the longest time.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn begin_web_session(
        &self,
        session: NewWebSession,
    ) -> Result<WebSessionId, StoreError> {
        self.change_by(Begin(session)).await
    }

    /// The session with this digest of the secret in its cookie. Its time may be over: the store
    /// removes sessions some time after their end.
    ///
    /// # Errors
    /// If it can't be read.
    pub async fn web_session(&self, hash: &[u8; 32]) -> Result<Option<WebSession>, StoreError> {
        self.ask(ByCookie { hash }).await
    }

    /// Notes the use of a session. False: there is none with this number.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn use_web_session(&self, noted: WebSessionUse) -> Result<bool, StoreError> {
        self.change_by(Use(noted)).await
    }

    /// Ends a session. False: there is none with this number.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn end_web_session(&self, id: WebSessionId) -> Result<bool, StoreError> {
        self.change_by(End { id }).await
    }

    /// Ends the sessions of an owner but one, and tells how many there were.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn end_web_sessions(
        &self,
        owner: WebSessionOwner,
        except: Option<WebSessionId>,
    ) -> Result<u64, StoreError> {
        self.change_by(EndOf { owner, except }).await
    }

    /// The sessions of an owner, or all, by number. The time of some may be over.
    ///
    /// # Errors
    /// If they can't be read.
    pub async fn web_sessions(
        &self,
        owner: Option<WebSessionOwner>,
    ) -> Result<Vec<WebSession>, StoreError> {
        self.scan(All { owner }).await
    }
}

#[cfg(test)]
pub(crate) fn samples() -> Vec<Op> {
    let id = WebSessionId(1);
    vec![
        Op::Begin(Begin(tests::session(1, WebSessionOwner::Admin))),
        Op::Use(Use(WebSessionUse {
            id,
            now: Time(2),
            until: Time(3),
            ip: None,
            proven: true,
        })),
        Op::End(End { id }),
        Op::EndOf(EndOf {
            owner: WebSessionOwner::Account("ann".into()),
            except: Some(id),
        }),
    ]
}
