//! The cookie of a session. Its value leads to the session in [`crate::face::sessions`].

use super::{browser::Browser, site::Area};
use crate::face::sessions::Pages;

/// Whose sessions open an area. The inbox of localserve is that of an account.
pub(super) const fn pages(area: Area) -> Pages {
    match area {
        Area::Admin => Pages::Admin,
        Area::Account | Area::Inbox => Pages::Account,
    }
}

/// The name of the cookie. Browsers take the prefix over HTTPS only (RFC 6265bis §4.1.3).
const fn name(area: Area, browser: &Browser) -> &'static str {
    match (pages(area), browser.encrypted) {
        (Pages::Admin, true) => "__Host-postrider-admin",
        (Pages::Admin, false) => "postrider-admin",
        (Pages::Account, true) => "__Host-postrider-account",
        (Pages::Account, false) => "postrider-account",
    }
}

/// The value of the cookie that a browser sent.
pub(super) fn given(area: Area, browser: &Browser) -> Option<&str> {
    browser.cookie(name(area, browser))
}

/// The field Set-Cookie for a session. An empty value removes the cookie.
pub(super) fn set(area: Area, browser: &Browser, value: &str) -> String {
    let name = name(area, browser);
    let secure = if browser.encrypted { "; Secure" } else { "" };
    let age = match value {
        "" => 0,
        _ => pages(area).longest().as_secs(),
    };
    format!("{name}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={age}{secure}")
}
