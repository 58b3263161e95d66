//! PLAIN (RFC 4616) and LOGIN: the client sends its password.

use zeroize::Zeroizing;

use super::{Evidence, Exchange, Login, Mechanism, Pending, State, Step, Then, malformed};

/// The one response of PLAIN: authorization identity, user and password, with NULs between them.
pub(super) fn plain(response: &[u8]) -> Step {
    let text = std::str::from_utf8(response).unwrap_or_default();
    let mut parts = text.split('\0');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(authorization), Some(user), Some(password), None) if !user.is_empty() => {
            let login = Login {
                mechanism: Mechanism::Plain,
                authorization: authorization.to_owned(),
                user: user.to_owned(),
                evidence: Evidence::Password(Zeroizing::new(password.to_owned())),
            };
            Pending::step(login, Then::Verdict)
        }
        _ => malformed("not a response of PLAIN"),
    }
}

/// The first response of LOGIN.
pub(super) fn login_user(response: &[u8]) -> Step {
    match std::str::from_utf8(response) {
        Ok(user) => {
            let exchange = Exchange(State::LoginPassword(user.to_owned()));
            Step::Challenge(exchange, b"Password:".to_vec())
        }
        Err(_) => malformed("the user is not UTF-8"),
    }
}

/// The second response of LOGIN.
pub(super) fn login_password(user: String, response: &[u8]) -> Step {
    match std::str::from_utf8(response) {
        Ok(password) => {
            let login = Login {
                mechanism: Mechanism::Login,
                authorization: String::new(),
                user,
                evidence: Evidence::Password(Zeroizing::new(password.to_owned())),
            };
            Pending::step(login, Then::Verdict)
        }
        Err(_) => malformed("the password is not UTF-8"),
    }
}
