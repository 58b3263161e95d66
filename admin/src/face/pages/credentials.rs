//! How an account logs in. The administrator has these pages below `/admin/accounts/NAME/`, and the
//! holder of the account below `/account/`: the same functions, which ask [`Owner`] whose page it
//! is.
//!
//! - `password`: the password. `app_passwords`: passwords for one program each.
//! - `keys`: keys for the webapi. `tls_keys`: keys of client certificates.
//!
//! [`Owner`]: super::owner::Owner

pub(super) mod app_passwords;
pub(super) mod keys;
pub(super) mod password;
pub(super) mod tls_keys;

use super::{answer::Answer, asked::Asked};

/// The parameter with the key of a secret that is shown once.
const SECRET: &str = "secret";

/// Leads to a page that shows a new secret, once. Neither the URL nor the log has it.
pub(super) fn reveal(asked: &Asked, told: String, secret: String, rest: &str) -> Answer {
    let key = asked.shared().notices.keep(secret);
    let target = asked.url(rest);
    asked.done_at(told, &format!("{target}?{SECRET}={key}"))
}

/// The secret that the page shows this once.
pub(super) fn revealed(asked: &Asked) -> Option<String> {
    asked.shared().notices.take(asked.query.text(SECRET))
}

/// What a question before a removal says of the last use.
fn last_used(time: Option<&String>) -> String {
    match time {
        Some(time) => format!("It was last used at {time}."),
        None => "It was never used.".to_owned(),
    }
}
