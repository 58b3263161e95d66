//! Port 25 of the MX hosts.

use std::net::{IpAddr, SocketAddr};

use postrider_dns::{Resolver, Tlsa};
use postrider_smtp::{
    Host,
    client::{Connection, Options, Remote, Timeouts, Tls, TlsMode},
};
use rustls::pki_types::ServerName;

use super::{About, CONNECTION_TIME, Found, Row, Subject, Verdict, mx::hosts, tls::Shown};
use crate::op::dns::records::tlsa_of;

/// The SMTP port of MX hosts (RFC 5321 §4.5.4.2).
const SMTP_PORT: u16 = 25;
/// The most addresses of a host that are tried.
const ADDRESSES: usize = 4;
/// A certificate that ends sooner should have been renewed already.
const DAYS: i64 = 14;

/// Each address of each MX host offers STARTTLS with a certificate that fits.
pub(super) fn smtp<'a>(subject: &'a Subject<'a>, resolver: &'a dyn Resolver) -> Row<'a> {
    Box::pin(async move {
        // Without hosts, the row about MX tells what is wrong.
        let hosts = hosts(subject, resolver).await.unwrap_or_default();
        let probes = hosts.iter().flat_map(|host| {
            let addresses = host.addresses.iter().take(ADDRESSES);
            addresses.map(|address| probe(subject, &host.name, *address, resolver))
        });
        futures_util::future::join_all(probes).await
    })
}

async fn probe(
    subject: &Subject<'_>,
    host: &str,
    address: IpAddr,
    resolver: &dyn Resolver,
) -> Found {
    let about = About {
        check: "SMTP",
        record_type: "SMTP",
        name: host,
        wanted: format!("{address} port {SMTP_PORT} with STARTTLS and a certificate for {host}"),
        needed: true,
    };
    let work = connect(subject, &about, host, address, resolver);
    match tokio::time::timeout(CONNECTION_TIME, work).await {
        Ok(Ok(found)) | Ok(Err(found)) => found,
        Err(_) => {
            let advice = format!(
                "no answer within {} s from here; try from outside, since some networks block port \
                {SMTP_PORT}",
                CONNECTION_TIME.as_secs()
            );
            about.found(Verdict::Error, Vec::new(), advice)
        }
    }
}

async fn connect(
    subject: &Subject<'_>,
    about: &About<'_>,
    host: &str,
    address: IpAddr,
    resolver: &dyn Resolver,
) -> Result<Found, Found> {
    let failed = |advice: String| about.found(Verdict::Error, Vec::new(), advice);
    let target = SocketAddr::new(address, SMTP_PORT);
    let dialed = subject.world.dialer.dial(target, None).await;
    let stream = dialed.map_err(|error| {
        failed(format!(
            "{address} can't be reached from here ({error}); try from outside"
        ))
    })?;
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| failed(format!("{host} is a name that no certificate can have")))?;
    let config = subject.tls.any();
    let helo = Host::Domain(subject.world.statics.hostname.clone());
    let options = Options {
        timeouts: Timeouts {
            tls: CONNECTION_TIME,
            greeting: CONNECTION_TIME,
            helo: CONNECTION_TIME,
            ..Timeouts::default()
        },
        ..Options::new(
            helo,
            TlsMode::Opportunistic(Tls {
                config,
                name: name.clone(),
            }),
        )
    };
    let remote = Remote {
        name: host.to_owned(),
        ip: Some(address),
    };
    let opened = Connection::open(stream, remote, options).await;
    let connection = opened.map_err(|unopened| failed(unopened.status.to_string()))?;
    let encrypted = connection.tls().map(|tls| tls.version.clone());
    let shown = subject.tls.judge(connection.peer_certificates(), &name);
    connection.quit().await;
    let (Some(version), Some(certificate)) = (encrypted, shown) else {
        let advice = "STARTTLS is not offered, so mail comes in clear; set the listener's tls";
        let found = vec![format!("{address} without STARTTLS")];
        return Ok(about.found(Verdict::Differs, found, advice));
    };
    let tlsa = resolver.tlsa(&format!("_25._tcp.{host}")).await;
    let tlsa = tlsa.ok().filter(|answer| answer.authentic);
    let tlsa = tlsa.map(|answer| answer.records).unwrap_or_default();
    Ok(judge(subject, about, version, &certificate, &tlsa))
}

fn judge(
    subject: &Subject<'_>,
    about: &About<'_>,
    version: String,
    certificate: &Shown,
    tlsa: &[Tlsa],
) -> Found {
    let digest = certificate.digest();
    let key = digest.map(|digest| tlsa_of(&digest));
    let by_dane = key.is_some_and(|key| tlsa.contains(&key));
    let now = subject.now();
    match (&certificate.trusted, certificate.days_left(now)) {
        (Err(reason), _) if !by_dane => {
            let advice = format!(
                "the certificate does not fit ({reason}); servers that verify it do not deliver"
            );
            about.found(Verdict::Differs, vec![version], advice)
        }
        (_, Some(days)) if days < DAYS => {
            let advice = format!("the certificate ends in {days} days; renew it");
            about.found(Verdict::Differs, vec![version], advice)
        }
        _ => about.ok(vec![version]),
    }
}
