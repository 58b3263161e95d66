//! The HTTP APIs for applications: v0, compatible with the webapi of mox, and v1, with more
//! methods.
//!
//! From the top down, each uses the ones below:
//!
//! | module | content |
//! |---|---|
//! | `router` | the routes of a listener |
//! | `v0`, `v1` | the methods of a version: reading requests, carrying them out, errors |
//! | `mail` | the mailbox API |
//! | `changed` | changes of received messages |
//! | `send` | sends messages for all of them |
//! | `compose` | makes a message and writes it to the store |
//! | `received`, `unsubscribe` | received messages in answers; the links for unsubscribing |
//! | `call` | the caller, limits, and the bytes of requests |
//! | `http`, `error` | answers and pages; error codes |
//!
//! [`api`] has the requests and answers as types, and `client` (a feature) calls a server with
//! them.
//!
//! Queued messages belong to the queue: it delivers them and makes their events.

mod call;
mod changed;
#[cfg(feature = "client")]
pub mod client;
mod compose;
mod error;
mod http;
mod mail;
mod received;
mod router;
mod send;
mod tracking;
mod unsubscribe;
mod v0;
mod v1;

use axum::Router;

use self::call::{bounds::Bounds, context::CallContext};

/// The requests and answers of v1, and the answers of v0.
pub mod api {
    pub use postrider_webhook::message::Structure;

    pub use crate::{
        received::{MessageFields, MessageGetResponse, Meta},
        send::{BatchResponse, BatchSubmission, SendResponse, SendSubmission as Submission},
        v0::shape::SuppressionEntry as Suppression,
        v1::shape::*,
    };

    /// The names of the methods of v0.
    pub fn methods_v0() -> impl Iterator<Item = &'static str> {
        crate::v0::Method::ALL
            .into_iter()
            .map(crate::v0::Method::name)
    }

    /// The names of the methods of v1, except the event stream.
    pub fn methods_v1() -> impl Iterator<Item = &'static str> {
        crate::v1::Method::ALL
            .into_iter()
            .map(crate::v1::Method::name)
    }
}

pub use call::{
    context::{Endpoint, HostNames, WebapiParts},
    key::{KeyError, UnsubscribeKey},
};
pub use error::{ApiError, Code};
pub use mail::{MAIL_SCHEMAS, MailCall, mail_calls};

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
        router::router(CallContext::new(parts, bounds, endpoint))
    }

    /// The mailbox API of one listener, as far as it is about mailboxes and mail: everything below
    /// `mail/` under the path of the endpoint.
    pub fn mail_router(&self, endpoint: Endpoint) -> Router {
        let (parts, bounds) = (self.parts.clone(), self.bounds.clone());
        mail::router(CallContext::new(parts, bounds, endpoint))
    }

    /// The tracked links of one listener.
    pub fn tracking_router(&self, endpoint: Endpoint) -> Router {
        let (parts, bounds) = (self.parts.clone(), self.bounds.clone());
        tracking::router(CallContext::new(parts, bounds, endpoint))
    }
}
