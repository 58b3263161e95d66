//! The names and addresses of this server as an MX host. A domain whose mail leads here, and that
//! is not one of ours, would send it in a circle.

use std::{
    collections::HashSet,
    fmt,
    net::{IpAddr, SocketAddr},
};

use postrider_config::{Static, Transport};
use postrider_smtp::{Cause, DeliveryStatus, EnhancedCode};

/// The port of MX hosts.
const SMTP_PORT: u16 = 25;

/// The names and addresses at which this server takes mail from others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ours {
    names: HashSet<String>,
    addresses: HashSet<IpAddr>,
}

impl Ours {
    /// The names of the server, and the addresses of its MX service at port 25: those of listeners,
    /// the public ones in front of them, and the sources, and those
    /// that direct transports connect from.
    /// `interfaces` are the addresses of the machine. They count if a listener takes all of them.
    pub(crate) fn new(statics: &Static, interfaces: impl FnOnce() -> Vec<IpAddr>) -> Self {
        let listeners = statics.listeners.values();
        let names = listeners.clone().map(|listener| &listener.hostname);
        let names = names.chain([&statics.hostname]);
        let names = names.map(|name| name.ascii().to_owned()).collect();
        let mut addresses = HashSet::new();
        let mut all = false;
        let mut serves = false;
        for listener in listeners {
            if listener.smtp.enabled && listener.smtp.port == SMTP_PORT {
                serves = true;
                all |= listener.ips.iter().any(IpAddr::is_unspecified);
                addresses.extend(listener.ips.iter().chain(&listener.nat_ips).copied());
            }
        }
        if all {
            addresses.extend(interfaces());
        }
        if serves {
            let direct = statics.transports.values().filter_map(|it| match it {
                Transport::Direct(direct) => Some(&direct.local_ips),
                _ => None,
            });
            addresses.extend(direct.flatten().copied());
            addresses.extend(statics.sources.values().map(|source| source.ip));
        }
        Self { names, addresses }
    }

    /// Whether an MX host, in lower case, is this server by its name.
    pub(crate) fn has_name(&self, host: &str) -> bool {
        self.names.contains(host)
    }

    /// Whether this server takes mail from others at an address.
    pub(crate) fn has_address(&self, address: SocketAddr) -> bool {
        address.port() == SMTP_PORT && self.addresses.contains(&address.ip().to_canonical())
    }
}

/// The host of a destination is this server, which takes no mail for the destination.
pub(crate) fn circle(destination: impl fmt::Display, host: &str) -> DeliveryStatus {
    let text = format!("{host} is this server, so mail for {destination} would come back to it");
    DeliveryStatus::permanent(Cause::Local, EnhancedCode::LOOP, text)
}

/// The addresses of the network interfaces. Empty if the system does not tell.
#[must_use]
pub fn interfaces() -> Vec<IpAddr> {
    let Ok(interfaces) = nix::ifaddrs::getifaddrs() else {
        return Vec::new();
    };
    let address = |address: nix::sys::socket::SockaddrStorage| {
        let v4 = address.as_sockaddr_in().map(|address| address.ip().into());
        v4.or_else(|| address.as_sockaddr_in6().map(|address| address.ip().into()))
    };
    interfaces
        .filter_map(|interface| address(interface.address?))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours(listeners: &str) -> Ours {
        let text = format!(
            "hostname = \"mail.example\"\npostmaster.account = \"a\"\n\
             transports.out.direct.local_ips = [\"192.0.2.9\"]\n\
             sources.out.ip = \"192.0.2.10\"\n{listeners}"
        );
        let statics = Static::parse(&text, "postrider.conf").unwrap();
        Ours::new(&statics, || vec!["192.0.2.7".parse().unwrap()])
    }

    fn has(ours: &Ours, address: &str) -> bool {
        ours.has_address(address.parse().unwrap())
    }

    #[test]
    fn an_mx_service_at_port_25_is_ours() {
        let mx = ours(
            "[listeners.mx]\nips = [\"192.0.2.1\", \"2001:db8::1\"]\nnat_ips = [\"198.51.100.1\"]\n\
             hostname = \"mx.example\"\nsmtp.enabled = true\n\
             [listeners.other]\nips = [\"192.0.2.2\"]\nsmtp.enabled = true\nsmtp.port = 2525\n",
        );
        assert!(mx.has_name("mail.example") && mx.has_name("mx.example"));
        assert!(!mx.has_name("example") && !mx.has_name("a.mx.example"));
        for address in [
            "192.0.2.1:25",
            "[::ffff:192.0.2.1]:25",
            "[2001:db8::1]:25",
            "198.51.100.1:25",
            "192.0.2.9:25",
            "192.0.2.10:25",
        ] {
            assert!(has(&mx, address), "{address}");
        }
        for address in [
            "192.0.2.1:2525",
            "192.0.2.2:25",
            "192.0.2.7:25",
            "192.0.2.3:25",
        ] {
            assert!(!has(&mx, address), "{address}");
        }
    }

    #[test]
    fn a_listener_at_all_addresses_has_those_of_the_machine() {
        let all = ours("[listeners.mx]\nips = [\"0.0.0.0\"]\nsmtp.enabled = true\n");
        assert!(has(&all, "192.0.2.7:25") && !has(&all, "192.0.2.1:25"));
        let none = ours("[listeners.mx]\nips = [\"0.0.0.0\"]\n");
        assert!(!has(&none, "192.0.2.7:25") && !has(&none, "192.0.2.9:25"));
    }
}
