//! Who is logged in.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use postrider_store::Time;
use rand::Rng;
use sha2::{Digest, Sha256};

use super::{browser::Browser, site::Area};

/// Who visits a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// The administrator.
    Admin,
    /// The holder of an account.
    Holder {
        /// The account.
        account: String,
        /// The login address.
        login: String,
    },
}

impl Who {
    /// Whether the visitor may see an area. The inbox of localserve is that of an account.
    const fn sees(&self, area: Area) -> bool {
        match self {
            Self::Admin => matches!(area, Area::Admin),
            Self::Holder { .. } => matches!(area, Area::Account | Area::Inbox),
        }
    }

    /// The name for the audit log and for people.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Admin => "admin",
            Self::Holder { login, .. } => login,
        }
    }
}

/// A visitor who is logged in.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) id: u64,
    pub(super) who: Who,
    /// The token of the session's forms.
    pub(super) token: String,
    pub(super) begun: Time,
    pub(super) used: Time,
    /// When the visitor last gave the password.
    pub(super) proved: Time,
}

/// After so much time without a request a session ends; and in any case.
const fn limits(area: Area) -> (Duration, Duration) {
    const HOUR: u64 = 60 * 60;
    match area {
        Area::Admin => (
            Duration::from_secs(12 * HOUR),
            Duration::from_secs(24 * HOUR),
        ),
        Area::Account | Area::Inbox => (
            Duration::from_secs(7 * 24 * HOUR),
            Duration::from_secs(30 * 24 * HOUR),
        ),
    }
}

/// The sessions, by the hash of their cookies.
#[derive(Default)]
pub(super) struct Sessions {
    known: Mutex<HashMap<[u8; 32], Session>>,
}

impl Sessions {
    /// Begins a session, and gives the value of its cookie.
    pub(super) fn begin(&self, who: Who, now: Time) -> String {
        let mut cookie = [0; 32];
        rand::rng().fill_bytes(&mut cookie);
        let mut token = [0; 32];
        rand::rng().fill_bytes(&mut token);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let session = Session {
            id: known.len() as u64 + 1,
            who,
            token: URL_SAFE_NO_PAD.encode(token),
            begun: now,
            used: now,
            proved: now,
        };
        known.insert(Sha256::digest(cookie).into(), session);
        URL_SAFE_NO_PAD.encode(cookie)
    }

    /// The session of a browser in an area.
    pub(super) fn find(&self, browser: &Browser, area: Area, now: Time) -> Option<Session> {
        let hash = hash(browser.cookie(cookie_name(area, browser))?)?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let session = known.get_mut(&hash).filter(|it| it.who.sees(area))?;
        let (idle, whole) = limits(area);
        if now.since(session.used) > idle || now.since(session.begun) > whole {
            known.remove(&hash);
            return None;
        }
        session.used = now;
        Some(session.clone())
    }

    /// Ends the session of a browser.
    pub(super) fn end(&self, browser: &Browser, area: Area) {
        if let Some(hash) = browser.cookie(cookie_name(area, browser)).and_then(hash) {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.remove(&hash);
        }
    }
}

fn hash(cookie: &str) -> Option<[u8; 32]> {
    let bytes = URL_SAFE_NO_PAD.decode(cookie).ok()?;
    (bytes.len() == 32).then(|| Sha256::digest(bytes).into())
}

/// The name of the cookie. Browsers take the prefix over HTTPS only (RFC 6265bis §4.1.3).
pub(super) const fn cookie_name(area: Area, browser: &Browser) -> &'static str {
    match (area, browser.encrypted) {
        (Area::Admin, true) => "__Host-postrider-admin",
        (Area::Admin, false) => "postrider-admin",
        (_, true) => "__Host-postrider-account",
        (_, false) => "postrider-account",
    }
}

/// The field Set-Cookie for a session. An empty value removes the cookie.
pub(super) fn set_cookie(area: Area, browser: &Browser, value: &str) -> String {
    let name = cookie_name(area, browser);
    let secure = if browser.encrypted { "; Secure" } else { "" };
    let age = match value {
        "" => 0,
        _ => limits(area).1.as_secs(),
    };
    format!("{name}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={age}{secure}")
}
