//! Sessions of web pages, for the pages: [`begin`] after a right login, [`find`] for each request,
//! [`prove`] when the password was given once more, [`end`] to log out.
//!
//! The cookie has 256 random bits. The store has their SHA-256 digest, and finds a session by it,
//! so no comparison tells how much of a guess was right. The token against forged requests (CSRF)
//! follows from the secret in the cookie, so nothing that is stored or listed leads to it.

use std::{net::IpAddr, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use postrider_receive::login::shown;
use postrider_store::{
    Actor, NewWebSession, Time, WebSession, WebSessionId, WebSessionOwner, WebSessionUse,
};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tracing::warn;

use crate::{AdminError, Caller, Context};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How long the password counts as just given, for what needs it once more.
pub const PROOF_LASTS: Duration = Duration::from_secs(15 * 60);
/// Uses within this time are noted once.
const USE_NOTED: Duration = MINUTE;
/// Makes the token out of the secret.
const TOKEN: &[u8] = b"postrider token of a web session";

/// Whose pages a cookie is for. Each has a cookie of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pages {
    /// Those of the administrator.
    Admin,
    /// Those of the holder of an account.
    Account,
}

impl Pages {
    const fn of(owner: &WebSessionOwner) -> Self {
        match owner {
            WebSessionOwner::Admin => Self::Admin,
            WebSessionOwner::Account(_) => Self::Account,
        }
    }

    /// How long a session lasts without a use.
    #[must_use]
    pub const fn idle(self) -> Duration {
        match self {
            Self::Admin => Duration::from_secs(12 * HOUR.as_secs()),
            Self::Account => Duration::from_secs(7 * DAY.as_secs()),
        }
    }

    /// How long a session lasts in all: the `Max-Age` of the cookie.
    #[must_use]
    pub const fn longest(self) -> Duration {
        match self {
            Self::Admin => DAY,
            Self::Account => Duration::from_secs(30 * DAY.as_secs()),
        }
    }

    /// The end of a session that is used now.
    fn until(self, created: Time, now: Time) -> Time {
        now.after(self.idle()).min(created.after(self.longest()))
    }
}

/// A session of a browser.
#[derive(Clone, PartialEq, Eq)]
pub struct Session {
    /// The number, for `web_session.end`.
    pub id: u64,
    /// Who is logged in.
    pub owner: WebSessionOwner,
    /// The login as it was typed: an address, or `admin`.
    pub login: String,
    /// When it began.
    pub created: Time,
    /// When the password was last given.
    pub proven: Time,
    /// When it ends, unless it is used before.
    pub until: Time,
    /// The address of the client.
    pub from: Option<IpAddr>,
    token: String,
}

/// Hides the token.
impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("id", &self.id)
            .field("owner", &self.owner)
            .finish_non_exhaustive()
    }
}

impl Session {
    fn new(session: WebSession, secret: &Secret, from: Option<IpAddr>) -> Self {
        Self {
            id: session.id.0,
            owner: session.owner,
            login: session.login,
            created: session.created,
            proven: session.proven,
            until: session.until,
            from,
            token: secret.token(),
        }
    }

    /// The token that a form of this session has to bring (CSRF).
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// The same session without the token, for what several visitors get to see.
    #[must_use]
    pub fn without_token(mut self) -> Self {
        self.token.clear();
        self
    }

    /// Whether a form brought the right token.
    #[must_use]
    pub fn takes(&self, token: &str) -> bool {
        self.token.as_bytes().ct_eq(token.as_bytes()).into()
    }

    /// Whether the password was given within [`PROOF_LASTS`].
    #[must_use]
    pub fn is_proven(&self, now: Time) -> bool {
        // A clock that was set back makes no proof last longer.
        self.proven <= now && now.since(self.proven) < PROOF_LASTS
    }

    /// The account whose holder is logged in. None: the administrator is.
    #[must_use]
    pub fn account(&self) -> Option<&str> {
        self.owner.account()
    }

    /// The caller of the operations of this session.
    #[must_use]
    pub fn caller(&self) -> Caller {
        Caller {
            actor: match self.owner {
                WebSessionOwner::Admin => Actor::Admin,
                WebSessionOwner::Account(_) => Actor::Account,
            },
            name: self.login.clone(),
            from: self.from,
        }
    }
}

/// The random bits in a cookie.
struct Secret([u8; 32]);

impl Secret {
    fn parse(cookie: &str) -> Option<Self> {
        let secret = URL_SAFE_NO_PAD.decode(cookie).ok()?;
        secret.try_into().ok().map(Self)
    }

    fn cookie(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }

    fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.0).into()
    }

    fn token(&self) -> String {
        let token = Sha256::new().chain_update(TOKEN).chain_update(self.0);
        URL_SAFE_NO_PAD.encode(token.finalize())
    }
}

/// Begins a session for somebody whose login was right just now. Gives the value of the cookie, and
/// the session. `login` is what was typed, and `browser` is the field User-Agent.
///
/// # Errors
/// If the store fails.
pub async fn begin(
    context: &Context,
    owner: WebSessionOwner,
    login: &str,
    from: Option<IpAddr>,
    browser: &str,
) -> Result<(String, Session), AdminError> {
    let secret = Secret(rand::random());
    let now = context.clock.now();
    let until = Pages::of(&owner).until(now, now);
    let new = NewWebSession {
        hash: secret.hash(),
        owner: owner.clone(),
        login: shown(login),
        created: now,
        until,
        ip: from,
        browser: shown(browser),
    };
    let login = new.login.clone();
    let id = context.store.begin_web_session(new).await?.0;
    let session = Session {
        id,
        owner,
        login,
        created: now,
        proven: now,
        until,
        from,
        token: secret.token(),
    };
    Ok((secret.cookie(), session))
}

/// The session of a cookie for these pages. None: there is none, its time is over, or its account
/// may not log in any more. Its use is noted.
///
/// # Errors
/// If the store can't be read.
pub async fn find(
    context: &Context,
    pages: Pages,
    cookie: &str,
    from: Option<IpAddr>,
) -> Result<Option<Session>, AdminError> {
    let Some(secret) = Secret::parse(cookie) else {
        return Ok(None);
    };
    let found = context.store.web_session(&secret.hash()).await?;
    let now = context.clock.now();
    let is_good = |session: &WebSession| is_good(context, pages, session);
    let Some(mut session) = found.filter(is_good) else {
        return Ok(None);
    };
    if now.since(session.last_used) >= USE_NOTED {
        let until = pages.until(session.created, now);
        let used = WebSessionUse {
            id: session.id,
            now,
            until,
            ip: from,
            proven: false,
        };
        match context.store.use_web_session(used).await {
            Ok(true) => session.until = until,
            Ok(false) => return Ok(None),
            // Who may read the pages must not need room on the disk for that.
            Err(error) => warn!(%error, "the use of a web session not noted"),
        }
    }
    Ok(Some(Session::new(session, &secret, from)))
}

/// Whether the session of a cookie goes on. This is no use of it.
///
/// # Errors
/// If the store can't be read.
pub async fn goes_on(context: &Context, pages: Pages, cookie: &str) -> Result<bool, AdminError> {
    let Some(secret) = Secret::parse(cookie) else {
        return Ok(false);
    };
    let found = context.store.web_session(&secret.hash()).await?;
    Ok(found.is_some_and(|session| is_good(context, pages, &session)))
}

fn is_good(context: &Context, pages: Pages, session: &WebSession) -> bool {
    session.until > context.clock.now()
        && Pages::of(&session.owner) == pages
        && may_log_in(context, &session.owner)
}

fn may_log_in(context: &Context, owner: &WebSessionOwner) -> bool {
    let Some(account) = owner.account() else {
        return true;
    };
    let config = context.config.load();
    let account = config.accounts.get(account);
    account.is_some_and(|account| account.login_disabled.is_empty())
}

/// Notes that the password was given once more, and was right.
///
/// # Errors
/// If the session has ended, or the store fails.
pub async fn prove(context: &Context, session: &mut Session) -> Result<(), AdminError> {
    let now = context.clock.now();
    let used = WebSessionUse {
        id: WebSessionId(session.id),
        now,
        until: Pages::of(&session.owner).until(session.created, now),
        ip: session.from,
        proven: true,
    };
    if !context.store.use_web_session(used).await? {
        return Err(AdminError::not_found("the session has ended"));
    }
    (session.proven, session.until) = (now, used.until);
    Ok(())
}

/// Ends a session: its browser logs out.
///
/// # Errors
/// If the store fails.
pub async fn end(context: &Context, session: &Session) -> Result<(), AdminError> {
    let id = WebSessionId(session.id);
    context.store.end_web_session(id).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_leads_to_its_digest_and_token_and_not_back() {
        let secret = Secret([7; 32]);
        let cookie = secret.cookie();
        assert_eq!(cookie.len(), 43);
        let read = Secret::parse(&cookie).unwrap();
        assert_eq!(read.0, secret.0);
        assert_eq!(read.hash(), <[u8; 32]>::from(Sha256::digest([7; 32])));
        let hash = URL_SAFE_NO_PAD.encode(read.hash());
        assert!(read.token() != cookie && read.token() != hash);
        assert_ne!(Secret([8; 32]).token(), read.token());
        for none in ["", "AAAA", &cookie[1..], &format!("{cookie}A"), "\u{fc}"] {
            assert!(Secret::parse(none).is_none(), "{none}");
        }
    }

    #[test]
    fn a_session_has_two_ends() {
        let at = |hours: u64| Time(0).after(HOUR * u32::try_from(hours).unwrap());
        assert_eq!(Pages::Admin.until(at(0), at(0)), at(12));
        assert_eq!(Pages::Admin.until(at(0), at(11)), at(23));
        assert_eq!(Pages::Admin.until(at(0), at(20)), at(24));
        assert_eq!(Pages::Account.until(at(0), at(1)), at(7 * 24 + 1));
        assert_eq!(Pages::Account.until(at(0), at(29 * 24)), at(30 * 24));
    }
}
