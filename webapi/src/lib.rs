//! The HTTP API of applications, compatible with mox's webapi v0.
//!
//! In reading order: `http` has the paths and statuses, `auth` says who calls, `form`, `data` and `json` read what they send, as
//! far as there is `memory` for it and `bounds` allow; `send` carries Send out, `compose` makes the message; `suppression` and `mailbox` have the other methods; `error` has the
//! codes, `pages` the documentation. `v1` is the API with what v0 lacks, [`api`] its requests and answers, and `client` (a feature) calls it.
//!
//! Not here: what becomes of a message, which is the queue's.

mod auth;
mod bounds;
#[cfg(feature = "client")]
pub mod client;
mod compose;
mod data;
mod error;
mod form;
mod http;
mod json;
mod mailbox;
mod memory;
mod pages;
mod request;
mod send;
mod suppression;
mod time;
mod unsubscribe;
mod v1;

use std::sync::Arc;

use postrider_config::{Live, Static};
use postrider_queue::Queue;
use postrider_receive::login::{LoginLimiter, Logins};
use postrider_smtp::Domain;
use postrider_store::{Clock, Store};
use tokio::sync::watch;

/// The requests and answers of v1, and what methods of v0 answer.
pub mod api {
    pub use crate::{
        mailbox::{Message, Meta, Shown as MessageGetResponse},
        send::{BatchResponse, BatchSubmission, Queued as Submission, Response as SendResponse},
        suppression::Entry as Suppression,
        v1::shape::*,
    };
    pub use postrider_webhook::message::Structure;

    /// The names of v0's methods.
    pub fn methods_v0() -> impl Iterator<Item = &'static str> {
        crate::pages::Method::ALL
            .into_iter()
            .map(crate::pages::Method::name)
    }

    /// The names of v1's methods, but for the one that has no end.
    pub fn methods_v1() -> impl Iterator<Item = &'static str> {
        crate::v1::Method::ALL
            .into_iter()
            .map(crate::v1::Method::name)
    }
}

pub use bounds::Bounds;
pub use error::{ApiError, Code};
pub use http::router;

/// What the API of a listener is made of.
#[expect(
    missing_debug_implementations,
    reason = "its parts have nothing to show"
)]
pub struct Parts {
    /// Where texts and mail are kept.
    pub store: Store,
    /// The way out.
    pub queue: Arc<Queue>,
    /// The dynamic configuration as it is now.
    pub config: Live,
    /// The static configuration.
    pub statics: Arc<Static>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Checked logins.
    pub logins: Arc<Logins>,
    /// Failed logins per network.
    pub limiter: Arc<LoginLimiter>,
    /// What calls may use at the same time, those of all listeners together.
    pub bounds: Bounds,
    /// What the listener calls itself.
    pub hostname: Domain,
    /// The largest message, in bytes.
    pub max_message_size: u64,
    /// Under which it answers, with a slash at both ends.
    pub path: String,
    /// Where others reach it, with a slash at the end: for links in what is sent.
    pub public_url: String,
    /// Signs links by which recipients unsubscribe.
    pub unsubscribe_key: Arc<[u8; 32]>,
    /// X-Forwarded-For says who calls.
    pub forwarded: bool,
    /// Requests come over TLS.
    pub tls: bool,
    /// True when the server stops, which ends the streams that have no end of their own.
    pub stopping: watch::Receiver<bool>,
}
