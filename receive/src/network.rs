//! The networks that an address is in. Limits count them in three sizes, so that a client with many
//! addresses does not have as many times the limit.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// The size of a network. The numbers are the lengths of its prefix for IPv4 and IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Size {
    /// /32 and /64.
    Address,
    /// /26 and /48.
    Network,
    /// /21 and /32.
    Block,
}

impl Size {
    const ALL: [Self; 3] = [Self::Address, Self::Network, Self::Block];

    /// The limit of a network of this size, as a multiple of the limit of an address.
    #[must_use]
    pub const fn factor(self) -> u32 {
        match self {
            Self::Address => 1,
            Self::Network => 3,
            Self::Block => 9,
        }
    }

    const fn prefix(self, address: IpAddr) -> u32 {
        match (self, address) {
            (Self::Address, IpAddr::V4(_)) => 32,
            (Self::Network, IpAddr::V4(_)) => 26,
            (Self::Block, IpAddr::V4(_)) => 21,
            (Self::Address, IpAddr::V6(_)) => 64,
            (Self::Network, IpAddr::V6(_)) => 48,
            (Self::Block, IpAddr::V6(_)) => 32,
        }
    }
}

/// A network. Its text is like `192.0.2.0/26`, or the address of an IPv4 /32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network {
    size: Size,
    first: IpAddr,
}

impl Network {
    /// The network of this size around an address. An IPv4 address in its IPv6 form is an IPv4
    /// address.
    #[must_use]
    pub fn of(size: Size, address: IpAddr) -> Self {
        let address = address.to_canonical();
        let first = first(address, size.prefix(address));
        Self { size, first }
    }

    /// The networks around an address, the smallest first.
    #[must_use]
    pub fn around(address: IpAddr) -> [Self; 3] {
        Size::ALL.map(|size| Self::of(size, address))
    }

    /// The size.
    #[must_use]
    pub const fn size(self) -> Size {
        self.size
    }

    /// The text with the length of the prefix in all cases, like `192.0.2.1/32`.
    #[must_use]
    pub fn with_prefix(self) -> String {
        format!("{}/{}", self.first, self.size.prefix(self.first))
    }
}

/// The first address with the same prefix of this length.
pub(crate) fn first(address: IpAddr, prefix: u32) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - prefix.min(32)).unwrap_or(0);
            Ipv4Addr::from_bits(address.to_bits() & mask).into()
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - prefix.min(128)).unwrap_or(0);
            Ipv6Addr::from_bits(address.to_bits() & mask).into()
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.size, self.first) {
            (Size::Address, IpAddr::V4(address)) => address.fmt(f),
            _ => f.write_str(&self.with_prefix()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_in_three_networks() {
        for (address, expected) in [
            (
                "192.0.2.77",
                ["192.0.2.77", "192.0.2.64/26", "192.0.0.0/21"],
            ),
            (
                "::ffff:192.0.2.77",
                ["192.0.2.77", "192.0.2.64/26", "192.0.0.0/21"],
            ),
            (
                "2001:db8:1:2:3::4",
                ["2001:db8:1:2::/64", "2001:db8:1::/48", "2001:db8::/32"],
            ),
        ] {
            let around = Network::around(address.parse().unwrap());
            assert_eq!(around.map(|network| network.to_string()), expected);
        }
        let address = Network::of(Size::Address, "192.0.2.77".parse().unwrap());
        assert_eq!(address.with_prefix(), "192.0.2.77/32");
    }

    #[test]
    fn any_prefix_has_a_first_address() {
        for (address, prefix, expected) in [
            ("192.0.2.77", 24, "192.0.2.0"),
            ("192.0.2.77", 0, "0.0.0.0"),
            ("192.0.2.77", 99, "192.0.2.77"),
            ("2001:db8::1", 0, "::"),
            ("2001:db8::1", 128, "2001:db8::1"),
        ] {
            let found = first(address.parse().unwrap(), prefix);
            assert_eq!(found.to_string(), expected);
        }
    }
}
