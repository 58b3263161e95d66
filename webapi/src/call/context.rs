//! The parts that each call uses: those of the server, and the settings of the listener that took
//! the call.

use std::{net::IpAddr, sync::Arc};

use axum::{extract::Request, http::StatusCode, response::Response};
use postrider_config::{Dynamic, Live, Static};
use postrider_observe::Metrics;
use postrider_queue::Queue;
use postrider_receive::{
    Hooks,
    login::{LoginLimiter, Logins},
};
use postrider_smtp::Domain;
use postrider_store::{Clock, Store};
use tokio::sync::watch;

use super::{bounds::Bounds, key::UnsubscribeKey};
use crate::http::{answer::text, header::authority};

/// The parts of the server that the webapi uses.
#[expect(
    missing_debug_implementations,
    reason = "its parts have nothing to show"
)]
#[derive(Clone)]
pub struct WebapiParts {
    /// Keeps texts and mail.
    pub store: Store,
    /// Takes outgoing messages.
    pub queue: Arc<Queue>,
    /// The current dynamic configuration.
    pub config: Live,
    /// The static configuration.
    pub statics: Arc<Static>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Checks passwords and remembers right ones.
    pub logins: Arc<Logins>,
    /// Counts failed logins.
    pub limiter: Arc<LoginLimiter>,
    /// The outside programs that learn what is junk.
    pub hooks: Arc<Hooks>,
    /// Signs the links by which recipients unsubscribe.
    pub unsubscribe_key: UnsubscribeKey,
    /// True when the server stops. Event streams, which have no other end, then end.
    pub stopping: watch::Receiver<bool>,
}

/// The answer to a request for another host.
const UNKNOWN_HOST: &str = "the Host of the request is not a name of this server; its names are the hostname of the \
    listener in postrider.conf, and client_settings_domain of each domain in domains.conf; \
    localserve takes more names with --host NAME";

/// Names by which clients reach a listener, beside its hostname. Names are only compared, never
/// looked up. So a name of another site that leads to this server (DNS rebinding) is refused.
#[derive(Clone, Debug, Default)]
pub struct HostNames {
    /// These names, in lower case.
    pub names: Vec<String>,
    /// All names without a dot, such as the names of containers. No site of the internet has one.
    pub without_dot: bool,
}

impl HostNames {
    /// Whether a name is one of these.
    #[must_use]
    pub fn has(&self, host: &str) -> bool {
        let bare = !host.is_empty() && !host.contains(['.', ':']);
        (self.without_dot && bare)
            || self
                .names
                .iter()
                .any(|name| name.eq_ignore_ascii_case(host))
    }

    /// The answer to a request that names another server than this one. None: it names this server
    /// by an IP address, by the hostname of its listener, by a name that the configuration gives to
    /// clients, or by one of these. HTTP/1.0 names nothing.
    #[must_use]
    pub fn refusal(
        &self,
        hostname: &Domain,
        config: &Dynamic,
        request: &Request,
    ) -> Option<Response> {
        let authority = authority(request)?;
        let host = match authority.strip_prefix('[') {
            Some(literal) => literal.split(']').next().unwrap_or_default(),
            None => authority.split(':').next().unwrap_or_default(),
        };
        let refusal = || text(StatusCode::NOT_FOUND, UNKNOWN_HOST);
        (!self.knows(hostname, config, host)).then(refusal)
    }

    /// Whether a name without its port is one of this server.
    #[must_use]
    pub fn knows(&self, hostname: &Domain, config: &Dynamic, host: &str) -> bool {
        let is_named = host.eq_ignore_ascii_case("localhost")
            || self.has(host)
            || host.parse::<IpAddr>().is_ok();
        is_named
            || Domain::parse(host).is_ok_and(|name| {
                let mut domains = config.domains.values();
                name == *hostname || domains.any(|domain| domain.client_settings_domain == name)
            })
    }
}

/// The settings of one listener.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// The hostname of the listener.
    pub hostname: Domain,
    /// Further names of the listener.
    pub hosts: HostNames,
    /// The largest message, in bytes.
    pub max_message_size: u64,
    /// The path below which the webapi answers, with a slash at both ends.
    pub path: String,
    /// The base of links in messages, with a slash at the end.
    pub public_url: String,
    /// The number of trusted proxies, each of which adds an address to X-Forwarded-For. 0: the
    /// client connects itself.
    pub forwarded_hops: usize,
    /// Requests come over TLS.
    pub tls: bool,
}

/// The parts that each call at one listener uses.
pub(crate) struct CallContext {
    pub(crate) store: Store,
    pub(crate) queue: Arc<Queue>,
    pub(crate) config: Live,
    pub(crate) statics: Arc<Static>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) logins: Arc<Logins>,
    pub(crate) limiter: Arc<LoginLimiter>,
    pub(crate) hooks: Arc<Hooks>,
    pub(crate) unsubscribe_key: UnsubscribeKey,
    pub(crate) stopping: watch::Receiver<bool>,
    /// All listeners share them.
    pub(crate) bounds: Bounds,
    pub(crate) endpoint: Endpoint,
}

impl CallContext {
    pub(crate) fn new(parts: WebapiParts, bounds: Bounds, endpoint: Endpoint) -> Self {
        let WebapiParts {
            store,
            queue,
            config,
            statics,
            clock,
            metrics,
            logins,
            limiter,
            hooks,
            unsubscribe_key,
            stopping,
        } = parts;
        Self {
            store,
            queue,
            config,
            statics,
            clock,
            metrics,
            logins,
            limiter,
            hooks,
            unsubscribe_key,
            stopping,
            bounds,
            endpoint,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_and_names_without_a_dot_may_all_be_known() {
        let named = HostNames {
            names: vec!["mail.test".to_owned()],
            without_dot: false,
        };
        assert!(named.has("MAIL.test"));
        assert!(!named.has("mailserver") && !named.has("evil.example"));
        let bare = HostNames {
            names: Vec::new(),
            without_dot: true,
        };
        assert!(bare.has("mail_server-1") && bare.has("app"));
        for host in ["evil.example", "app.", "", "::1"] {
            assert!(!bare.has(host), "{host:?}");
        }
    }
}
