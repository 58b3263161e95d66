//! The settings of a mail program for an address, whatever their form.

use postrider_config::{Dynamic, Listener, Static};
use postrider_smtp::{Address, Domain};

/// How a connection is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protection {
    /// TLS from the first byte.
    Tls,
    /// STARTTLS, before the login.
    StartTls,
}

/// A server for mail programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Service {
    /// The name of the host in ASCII.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) protection: Protection,
}

/// The settings of a mail program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Program {
    /// The server of the mailboxes. None: the administrator did not name one.
    pub(super) imap: Option<Service>,
    /// The servers that take mail, the best first.
    pub(super) submission: Vec<Service>,
}

/// The settings for the addresses of a domain. None: the domain is not ours.
pub(super) fn program(statics: &Static, config: &Dynamic, domain: &Domain) -> Option<Program> {
    let settings = config.domains.get(domain)?;
    let host = settings.client_settings_domain.ascii();
    let imap = settings
        .client_settings_imap
        .as_ref()
        .map(|(host, port)| Service {
            host: host.ascii().to_owned(),
            port: *port,
            // RFC 8314 §3.2 has 993 for TLS from the first byte, and RFC 9051 has 143 for STARTTLS.
            protection: if *port == 143 {
                Protection::StartTls
            } else {
                Protection::Tls
            },
        });
    let service = |port: Option<u16>, protection| {
        port.map(|port| Service {
            host: host.to_owned(),
            port,
            protection,
        })
    };
    let tls = port(statics, |it| (it.submissions.enabled, it.submissions.port));
    let starttls = port(statics, |it| {
        (
            it.submission.enabled && it.tls.is_some(),
            it.submission.port,
        )
    });
    let submission = [
        service(tls, Protection::Tls),
        service(starttls, Protection::StartTls),
    ];
    Some(Program {
        imap,
        submission: submission.into_iter().flatten().collect(),
    })
}

/// The port of a service. A listener that other machines can reach comes before one on loopback.
fn port(statics: &Static, of: impl Fn(&Listener) -> (bool, u16)) -> Option<u16> {
    let enabled = statics.listeners.values().filter(|listener| of(listener).0);
    let first = enabled.min_by_key(|listener| listener.ips.iter().all(|ip| ip.is_loopback()))?;
    Some(of(first).1)
}

/// The address and its domain. None: the text is no address at a domain name.
pub(super) fn address(text: &str) -> Option<(Address, Domain)> {
    let address = Address::parse(text.trim()).ok()?;
    let domain = address.host.domain()?.clone();
    Some((address, domain))
}
