//! The host of the MTA-STS policies of all domains (RFC 8461 §3.3), over HTTPS.

use std::{collections::BTreeMap, io, sync::Arc, time::Duration};

use rustls::ServerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_rustls::TlsAcceptor;

use super::{certificates, clock::SimClock};

/// What the host answers for a domain.
#[derive(Clone, Debug)]
pub(crate) enum Policy {
    /// A policy with this mode for these hosts.
    Of(&'static str, Vec<String>),
    /// 404.
    Missing,
    /// The connection stays open without an answer.
    Silent,
}

/// The policies of domains, each from an age of the world on.
pub(crate) type Policies = BTreeMap<String, Vec<(Duration, Policy)>>;

/// The host. Clones are the same host.
#[derive(Clone)]
pub(crate) struct PolicyHost {
    policies: Arc<Policies>,
    tls: Arc<ServerConfig>,
}

impl PolicyHost {
    pub(crate) fn new(policies: Policies) -> Self {
        let names: Vec<String> = policies.keys().map(|it| format!("mta-sts.{it}")).collect();
        Self {
            policies: Arc::new(policies),
            tls: certificates::server_for(&names),
        }
    }

    /// Answers one request. That the client hangs up is no failure.
    pub(super) async fn serve(self, clock: SimClock, stream: DuplexStream) {
        let _ = self.answer(clock, stream).await;
    }

    async fn answer(&self, clock: SimClock, stream: DuplexStream) -> io::Result<()> {
        let acceptor = TlsAcceptor::from(Arc::clone(&self.tls));
        let mut stream = acceptor.accept(stream).await?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        let head = String::from_utf8_lossy(&head).to_lowercase();
        let host = head.lines().find_map(|line| line.strip_prefix("host: "));
        let domain = host.and_then(|host| host.strip_prefix("mta-sts."));
        let age = clock.age();
        let policies = domain.and_then(|domain| self.policies.get(domain));
        let policy = policies.and_then(|it| it.iter().rfind(|(from, _)| *from <= age));
        let (status, body) = match policy {
            Some((_, Policy::Of(mode, hosts))) => {
                let hosts: String = hosts.iter().map(|it| format!("mx: {it}\n")).collect();
                let text = format!("version: STSv1\nmode: {mode}\n{hosts}max_age: 604800\n");
                ("200 OK", text)
            }
            Some((_, Policy::Silent)) => return std::future::pending().await,
            Some((_, Policy::Missing)) | None => ("404 Not Found", String::new()),
        };
        let length = body.len();
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}");
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await
    }
}
