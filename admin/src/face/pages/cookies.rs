//! The cookies of sessions, and of logins that wait for their codes. The value of one leads to the
//! session in [`crate::face::sessions`], that of the other to the login in [`halves`].

use super::{browser::Browser, halves, site::Area};
use crate::face::sessions::Pages;

/// Whose sessions open an area. The inbox of localserve is that of an account.
pub(super) const fn pages(area: Area) -> Pages {
    match area {
        Area::Admin => Pages::Admin,
        Area::Account | Area::Inbox => Pages::Account,
    }
}

/// What a cookie leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum To {
    /// A session.
    Session,
    /// A login that waits for its code.
    Half,
}

/// The name of the cookie. Browsers take the prefix over HTTPS only (RFC 6265bis §4.1.3).
fn name(area: Area, to: To, browser: &Browser) -> String {
    let prefix = if browser.encrypted { "__Host-" } else { "" };
    let pages = match pages(area) {
        Pages::Admin => "admin",
        Pages::Account => "account",
    };
    let end = match to {
        To::Session => "",
        To::Half => "-code",
    };
    format!("{prefix}postrider-{pages}{end}")
}

/// The value of the cookie that a browser sent.
pub(super) fn given(area: Area, to: To, browser: &Browser) -> Option<&str> {
    browser.cookie(&name(area, to, browser))
}

/// The field Set-Cookie. An empty value removes the cookie.
pub(super) fn set(area: Area, to: To, browser: &Browser, value: &str) -> String {
    let name = name(area, to, browser);
    let secure = if browser.encrypted { "; Secure" } else { "" };
    let age = match (value, to) {
        ("", _) => 0,
        (_, To::Session) => pages(area).longest().as_secs(),
        (_, To::Half) => halves::LASTS.as_secs(),
    };
    format!("{name}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={age}{secure}")
}
