//! Which way a message goes: straight to the hosts of its recipient's domain, or by a transport of
//! the configuration.

use std::time::Duration;

use postrider_config::{Direct, Dynamic, Smarthost, Static, Transport};
use postrider_smtp::{
    Cause, DeliveryStatus, EnhancedCode,
    client::{Credentials, Timeouts},
};
use postrider_store::{Origin, Queued};

/// The way of one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Route<'a> {
    /// To the hosts of the recipient's domain, by the transport of this name. Without a transport
    /// the name is empty.
    Direct(&'a str),
    /// To the host that this transport names: a smarthost or an LMTP server.
    Named(&'a str),
    /// Nowhere: this is what becomes of the message.
    End(DeliveryStatus),
}

/// How a smarthost is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SmarthostTls {
    /// TLS from the first byte.
    Implicit,
    /// STARTTLS or nothing.
    StartTls,
    /// In clear.
    Never,
}

/// The smarthost that a transport stands for, and how it is spoken to. None for transports of other
/// kinds.
pub(crate) fn smarthost(transport: &Transport) -> Option<(&Smarthost, SmarthostTls)> {
    match transport {
        Transport::Submissions(host) => Some((host, SmarthostTls::Implicit)),
        Transport::Submission(host) | Transport::Smtp(host) if host.no_starttls => {
            Some((host, SmarthostTls::Never))
        }
        Transport::Submission(host) | Transport::Smtp(host) => Some((host, SmarthostTls::StartTls)),
        _ => None,
    }
}

/// The settings of a transport that goes straight to the hosts of a domain.
pub(crate) fn direct(statics: &Static, transport: &str) -> Direct {
    match statics.transports.get(transport) {
        Some(Transport::Direct(settings)) => settings.clone(),
        _ => Direct::default(),
    }
}

/// The way of the next attempt of a message: by the transport forced on it, or by the first route
/// that matches.
pub(crate) fn route<'a>(message: &Queued, statics: &'a Static, config: &Dynamic) -> Route<'a> {
    let passed = matches!(message.common.origin, Origin::Passed { .. });
    // A stranger wrote the author of a message that is passed on. That chooses no way.
    let author = message.common.from.as_ref().filter(|_| !passed);
    let from = author.or_else(|| message.reverse_path.address());
    let disabled = from
        .filter(|_| !passed)
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
    let Some(name) = name else {
        return Route::Direct("");
    };
    match statics.transports.get_key_value(name) {
        Some((name, Transport::Direct(_))) => Route::Direct(name),
        Some((
            name,
            Transport::Submissions(_)
            | Transport::Submission(_)
            | Transport::Smtp(_)
            | Transport::Lmtp(_),
        )) => Route::Named(name),
        Some((_, Transport::Fail(fail))) => {
            let (cause, code) = (Cause::Local, EnhancedCode::SECURITY);
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
        Some((_, other @ Transport::Socks(_))) => not_now(format!(
            "transport {name:?} is of the kind {}, which this version can't use",
            other.kind()
        )),
        None => not_now(format!("there is no transport {name:?} in postrider.conf")),
    }
}

/// A fault of the configuration, which may be mended while the message waits.
fn not_now<'a>(text: String) -> Route<'a> {
    Route::End(DeliveryStatus::transient(
        Cause::Local,
        EnhancedCode::MISCONFIGURED,
        text,
    ))
}

/// The login at a smarthost.
pub(crate) fn login(host: &Smarthost) -> Option<Credentials> {
    host.auth.as_ref().map(|auth| Credentials {
        user: auth.username.clone(),
        password: auth.password.clone(),
        without_tls: host.no_starttls,
    })
}

/// The configured time limits of the client.
pub(crate) fn timeouts(statics: &Static) -> Timeouts {
    let client = &statics.smtp_client;
    Timeouts {
        tls: client.connect_timeout.max(Duration::from_secs(1)),
        greeting: client.greeting_timeout,
        helo: client.greeting_timeout,
        mail: client.mail_timeout,
        rcpt: client.rcpt_timeout,
        data: client.data_timeout,
        dot: client.dot_timeout,
        message: statics.delivery.message_time,
        min_rate: statics.delivery.min_rate.into(),
        ..Timeouts::default()
    }
}
