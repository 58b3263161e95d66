//! The addresses that the internet does not know.

use std::net::IpAddr;

/// Whether an address leads to no host of the internet: loopback, private use (RFC 1918), shared
/// between customers of a provider (RFC 6598), link-local, unique local (RFC 4193).
pub(crate) fn is_private(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            let is_shared = a == 100 && (64..128).contains(&b);
            ip.is_loopback() || ip.is_private() || ip.is_link_local() || is_shared
        }
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}
