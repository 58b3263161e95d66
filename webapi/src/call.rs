//! The parts that the calls of both versions have in common.
//!
//! - `context`: the parts of the server, and the settings of the listener.
//! - `auth`: the caller.
//! - `key`: the key of unsubscribe links.
//! - `bounds`: limits on calls, in all and per account. `json_size` estimates the memory that JSON
//!   takes.
//! - `data`: the bytes of a request, in memory or in a file.
//! - `stream_token`: tokens that open one stream each.
//! - `value`: addresses and times in requests.
//! - `run`: tasks and threads for calls.

pub(crate) mod auth;
pub(crate) mod bounds;
pub(crate) mod context;
pub(crate) mod data;
pub(crate) mod json_size;
pub(crate) mod key;
pub(crate) mod run;
pub(crate) mod stream_token;
pub(crate) mod value;
