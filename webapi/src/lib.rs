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
mod context;
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

use axum::Router;

use self::{bounds::Bounds, context::Context};

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

pub use context::{Endpoint, WebapiParts};
pub use error::{ApiError, Code};

/// The webapi of a server. All its listeners share the limits on calls.
#[expect(
    missing_debug_implementations,
    reason = "its parts have nothing to show"
)]
pub struct Webapi {
    parts: WebapiParts,
    bounds: Bounds,
}

impl Webapi {
    /// The webapi of a server with these parts.
    #[must_use]
    pub fn new(parts: WebapiParts) -> Self {
        Self {
            parts,
            bounds: Bounds::default(),
        }
    }

    /// The routes of one listener: everything below its path.
    pub fn router(&self, endpoint: Endpoint) -> Router {
        let (parts, bounds) = (self.parts.clone(), self.bounds.clone());
        http::router(Context::new(parts, bounds, endpoint))
    }
}
