//! What administrators do to a server, behind whichever face they use.
//!
//! - [`password`]: the passwords of accounts and of the administrator.
//! - [`filter`]: filters as people write them, such as `<-1h30m`.
//! - [`shape`]: records as the APIs and `--json` show them.
//! - [`control`]: the socket in the data folder through which commands talk to the running server. [`request`]: what they can ask.
//!
//! Domains, accounts and keys are edited in domains.conf; this version has no functions that edit it.

pub mod control;
pub mod filter;
pub mod password;
pub mod request;
pub mod shape;
