//! Logins: password hashes, checking them fast, and limits for those who guess.
//!
//! A password is only ever hashed by Argon2id, which is slow on purpose. So that this does not cap an API at tens of
//! requests per second, [`Logins`] remembers for some minutes that a password was right. [`LoginLimiter`] counts wrong ones.

mod apikey;
mod limiter;
mod logins;
mod password;

pub use apikey::KeyText;
pub use limiter::{LoginLimiter, LoginLimits, Rate};
pub use logins::{Logins, PasswordCheck, Source};
pub use password::{PasswordError, hash_password};
