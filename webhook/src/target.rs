//! Refuses receivers on our own machine or network, unless the administrator allows them.

use std::{
    error::Error,
    fmt,
    net::{IpAddr, SocketAddr},
};

use postrider_config::is_public;
use reqwest::{
    Url,
    dns::{Addrs, Name, Resolve, Resolving},
};
use url::Host;

/// Looks names up, and refuses addresses that are not public. The client connects to the checked
/// addresses, so a name that changes its address between two look-ups gains nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PublicOnly;

/// The address of a receiver that may not be called.
#[derive(Debug)]
pub(crate) struct NotPublic(IpAddr);

impl fmt::Display for NotPublic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} is not a public address; webhook.allow_private_addresses would allow it",
            self.0
        )
    }
}

impl Error for NotPublic {}

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let (public, others): (Vec<SocketAddr>, Vec<SocketAddr>) =
                found.partition(|address| is_public(address.ip()));
            match (public.is_empty(), others.first()) {
                (true, Some(other)) => Err(NotPublic(other.ip()).into()),
                _ => Ok(Box::new(public.into_iter()) as Addrs),
            }
        })
    }
}

/// Refuses a URL whose host is a literal address that is not public. The resolver never sees such a
/// host.
pub(crate) fn check(url: &Url) -> Result<(), NotPublic> {
    let ip: IpAddr = match url.host() {
        Some(Host::Ipv4(ip)) => ip.into(),
        Some(Host::Ipv6(ip)) => ip.into(),
        Some(Host::Domain(_)) | None => return Ok(()),
    };
    if is_public(ip) {
        Ok(())
    } else {
        Err(NotPublic(ip))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literal_hosts_in_any_notation() {
        let ok = |url: &str| check(&url.parse().unwrap()).is_ok();
        assert!(ok("https://hooks.example/x") && ok("http://9.9.9.9/"));
        for url in [
            "http://127.1/",
            "http://0x7f000001:8080/",
            "http://[::1]/",
            "http://2130706433/",
        ] {
            assert!(!ok(url), "{url}");
        }
    }

    #[tokio::test]
    async fn names_of_private_addresses_are_refused() {
        let name: Name = "localhost".parse().unwrap();
        let error = PublicOnly.resolve(name).await.err().unwrap().to_string();
        assert!(error.contains("allow_private_addresses"), "{error}");
    }
}
