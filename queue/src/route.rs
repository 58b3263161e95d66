//! Which way a message goes: straight to the hosts of its recipient's domain, or by a transport of the configuration.

use std::time::Duration;

use postrider_config::{Direct, Dynamic, Smarthost, Static, Transport};
use postrider_smtp::{
    Cause, DeliveryStatus, EnhancedCode, Host,
    client::{Login, Timeouts},
};
use postrider_store::Queued;

/// The way of one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// To the hosts of this destination.
    Direct {
        /// Domain or literal.
        destination: Host,
        /// Families and own addresses.
        settings: Direct,
    },
    /// To a host that takes all.
    Smarthost {
        /// Where, and how.
        host: Smarthost,
        /// TLS.
        tls: SmarthostTls,
    },
    /// Nowhere: this is what becomes of it.
    End(DeliveryStatus),
}

/// How a smarthost is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SmarthostTls {
    /// TLS from the first byte.
    Implicit,
    /// STARTTLS or nothing.
    StartTls,
    /// In clear.
    Never,
}

/// The way of this message's attempt: by the transport forced on it, or the first route that matches.
#[must_use]
pub fn route(message: &Queued, statics: &Static, config: &Dynamic) -> Route {
    let from = message
        .common
        .from
        .as_ref()
        .or_else(|| message.reverse_path.address());
    let disabled = from
        .and_then(|from| config.domains.get_key_value(from.host.domain()?))
        .filter(|(_, domain)| domain.disabled);
    if let Some((domain, _)) = disabled {
        return not_now(format!("the sender's domain {domain} is disabled"));
    }
    let name = if message.transport.is_empty() {
        let made = message.attempts.saturating_sub(1);
        let from = from.and_then(|from| from.host.domain());
        config.routes_for(
            &message.common.account,
            from,
            message.recipient.host.domain(),
            made,
        )
    } else {
        Some(message.transport.as_str())
    };
    let destination = message.recipient.host.clone();
    let Some(name) = name else {
        return Route::Direct {
            destination,
            settings: Direct::default(),
        };
    };
    match statics.transports.get(name) {
        Some(Transport::Direct(settings)) => Route::Direct {
            destination,
            settings: settings.clone(),
        },
        Some(Transport::Submissions(host)) => Route::Smarthost {
            host: host.clone(),
            tls: SmarthostTls::Implicit,
        },
        Some(Transport::Submission(host) | Transport::Smtp(host)) => {
            let tls = if host.no_starttls {
                SmarthostTls::Never
            } else {
                SmarthostTls::StartTls
            };
            Route::Smarthost {
                host: host.clone(),
                tls,
            }
        }
        Some(Transport::Fail(fail)) => {
            let (cause, code) = (Cause::Local, EnhancedCode::permanent(7, 0));
            let status = if fail.code >= 500 {
                DeliveryStatus::permanent(cause, code, fail.message.clone())
            } else {
                DeliveryStatus::transient(cause, code, fail.message.clone())
            };
            Route::End(DeliveryStatus {
                code: fail.code,
                ..status
            })
        }
        Some(other @ (Transport::Lmtp(_) | Transport::Socks(_))) => not_now(format!(
            "transport {name:?} is of the kind {}, which this version can't use",
            other.kind()
        )),
        None => not_now(format!("there is no transport {name:?} in postrider.conf")),
    }
}

/// A fault of the configuration, which may be mended while the message waits.
fn not_now(text: String) -> Route {
    Route::End(DeliveryStatus::transient(
        Cause::Local,
        EnhancedCode::transient(3, 5),
        text,
    ))
}

/// The login at a smarthost.
#[must_use]
pub fn login(host: &Smarthost) -> Option<Login> {
    host.auth.as_ref().map(|auth| Login {
        user: auth.username.clone(),
        password: auth.password.clone(),
        without_tls: host.no_starttls,
    })
}

/// The configured time limits of the client.
#[must_use]
pub fn timeouts(statics: &Static) -> Timeouts {
    let client = &statics.smtp_client;
    Timeouts {
        tls: client.connect_timeout.max(Duration::from_secs(1)),
        greeting: client.greeting_timeout,
        helo: client.greeting_timeout,
        mail: client.mail_timeout,
        rcpt: client.rcpt_timeout,
        data: client.data_timeout,
        dot: client.dot_timeout,
        ..Timeouts::default()
    }
}
