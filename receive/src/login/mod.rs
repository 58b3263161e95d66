//! Logins: password hashes, fast checks of passwords, and limits on guesses.
//!
//! Argon2id hashes each password. It is slow on purpose, and would limit an API to tens of requests
//! per second. So [`Logins`] remembers a right password for some minutes. [`LoginLimiter`] counts
//! wrong ones, per network and account.

mod apikey;
mod limiter;
mod logins;
mod password;

pub use apikey::KeyText;
pub use limiter::{Identity, LoginLimiter, LoginLimits, Rate, Source, wait_in_words};
pub use logins::{Logins, PasswordCheck};
pub use password::{PasswordError, hash_password};
