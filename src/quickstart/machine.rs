//! The machine as quickstart sees it. Tests pass another one.

use std::{
    net::{IpAddr, SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use jiff::Zoned;
use postrider_dns::{HickoryResolver, HickorySettings, Resolver, TrustAnchors};
use postrider_queue::{Dialer, TcpDialer};

/// The time limit of one question to the DNS.
const QUESTION: Duration = Duration::from_secs(5);

/// The machine as quickstart sees it.
pub struct Machine {
    /// The name that the system gives itself. It may have no dot.
    pub system_name: Option<String>,
    /// The addresses of all network interfaces, without loopback and link-local ones.
    pub addresses: Vec<IpAddr>,
    /// The DNS servers that the system asks, as text.
    pub servers: String,
    /// Asks the DNS. None: no network may be used.
    pub resolver: Option<Arc<dyn Resolver>>,
    /// Connects to mail servers.
    pub dialer: Arc<dyn Dialer>,
    /// Whether a TCP port is free.
    pub is_free: fn(SocketAddr) -> bool,
    /// The local time.
    pub now: Zoned,
}

impl Machine {
    /// This machine. Without `network`, quickstart asks nobody.
    ///
    /// # Errors
    /// If the system tells no addresses, or its DNS servers can't be used.
    pub fn this(network: bool) -> anyhow::Result<Self> {
        let interfaces = nix::ifaddrs::getifaddrs().context("failed to list the addresses")?;
        let mut addresses: Vec<IpAddr> = interfaces
            .filter_map(|interface| {
                let address = interface.address?;
                let v4 = address.as_sockaddr_in().map(|it| it.ip().into());
                v4.or_else(|| address.as_sockaddr_in6().map(|it| it.ip().into()))
            })
            .filter(is_usable)
            .collect();
        addresses.sort_unstable();
        addresses.dedup();
        let system_name = nix::unistd::gethostname().ok();
        Ok(Self {
            system_name: system_name.and_then(|name| name.into_string().ok()),
            addresses,
            servers: servers(),
            resolver: match network {
                true => Some(Arc::new(resolver()?)),
                false => None,
            },
            dialer: Arc::new(TcpDialer),
            is_free: |address| {
                let bound = TcpListener::bind(address);
                // Without the right to bind a low port, nothing is known: then it counts as free.
                bound.map_or_else(
                    |error| error.kind() != std::io::ErrorKind::AddrInUse,
                    |_| true,
                )
            },
            now: Zoned::now(),
        })
    }
}

fn resolver() -> anyhow::Result<HickoryResolver> {
    let start = std::time::Instant::now();
    let settings = HickorySettings {
        metrics: Arc::default(),
        servers: &[],
        timeout: QUESTION,
        validate: true,
        trust_anchors: TrustAnchors::default(),
        now: Arc::new(move || start.elapsed()),
    };
    HickoryResolver::new(&settings).context("the system's DNS servers can't be used")
}

/// The DNS servers in resolv.conf.
fn servers() -> String {
    let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let servers = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver"));
    let servers: Vec<&str> = servers.map(str::trim).collect();
    match servers.is_empty() {
        true => "of the system".to_owned(),
        false => servers.join(", "),
    }
}

/// Whether mail can come to an address of an interface.
fn is_usable(address: &IpAddr) -> bool {
    let link_local = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    !link_local && !address.is_loopback() && !address.is_unspecified() && !address.is_multicast()
}
