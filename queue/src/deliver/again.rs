//! What the last attempt of a message says about the host and the family of the next one.

use std::net::IpAddr;

use postrider_smtp::{
    Stage,
    bounce::{Class, Said, classify},
};
use postrider_store::{Attempt, Queued};

use crate::next_hop::Hop;

/// The host and the family that the next attempt prefers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Preference {
    /// None.
    #[default]
    None,
    /// This address of this host. A server that uses greylisting knows us there.
    Same {
        /// The name of the host.
        host: String,
        /// The address.
        ip: IpAddr,
    },
    /// The family. At an address of the other one, a server refused by its policy, and such a
    /// policy is often about our address.
    Family {
        /// IPv6, or else IPv4.
        ipv6: bool,
    },
}

impl Preference {
    /// The preference of the next attempt of a message.
    pub(super) fn of(message: &Queued) -> Self {
        let last = message.results.last();
        last.and_then(|last| Self::after(last, message.results.len() == 1))
            .unwrap_or_default()
    }

    /// The preference after an attempt. `first`: it was the first one.
    fn after(last: &Attempt, first: bool) -> Option<Self> {
        let (host, ip) = last.remote.strip_suffix(']')?.split_once(" [")?;
        let ip: IpAddr = ip.parse().ok()?;
        let said = Said {
            stage: Some(Stage::Rcpt),
            code: last.code,
            enhanced: last.enhanced,
            text: &last.error,
        };
        if !last.success && classify(&said) == Class::Greylisted {
            let host = host.to_owned();
            return Some(Self::Same { host, ip });
        }
        let is_policy = last.enhanced.is_some_and(|code| code.subject == 7);
        (first && !last.success && is_policy).then_some(Self::Family { ipv6: ip.is_ipv4() })
    }

    /// Whether a connection to an address of a host is as good as the preferred one. None: it is
    /// over a Unix socket.
    pub(super) fn is_met_by(&self, name: &str, to: Option<IpAddr>) -> bool {
        match self {
            Self::None => true,
            Self::Same { host, ip } => name == host && to == Some(*ip),
            Self::Family { ipv6 } => to.is_some_and(|to| to.is_ipv6() == *ipv6),
        }
    }

    /// Puts the preferred host in front.
    pub(super) fn sort_hops(&self, hops: &mut [Hop]) {
        if let Self::Same { host, .. } = self {
            // The order of the others stays.
            hops.sort_by_key(|hop| hop.name != *host);
        }
    }

    /// Puts the preferred address of a host in front.
    pub(super) fn sort_addresses(&self, addresses: &mut [IpAddr]) {
        match self {
            Self::None => {}
            Self::Same { ip, .. } => addresses.sort_by_key(|address| address != ip),
            Self::Family { ipv6 } => addresses.sort_by_key(|address| address.is_ipv6() != *ipv6),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use postrider_store::Time;

    use super::*;

    fn attempt(remote: &str, code: u16, enhanced: &str, error: &str) -> Attempt {
        Attempt {
            start: Time(0),
            duration: Duration::ZERO,
            success: false,
            code,
            enhanced: enhanced.parse().ok(),
            remote: remote.to_owned(),
            error: error.to_owned(),
            blames: false,
        }
    }

    #[test]
    fn greylisting_brings_us_back_and_policy_to_the_other_family() {
        let check = |last: Attempt, first: bool, expected: Option<Preference>| {
            let after = Preference::after(&last, first);
            assert_eq!(after, expected, "{last:?}");
        };
        let v4 = "mx.test [192.0.2.1]";
        let same = Some(Preference::Same {
            host: "mx.test".to_owned(),
            ip: "192.0.2.1".parse().unwrap(),
        });
        let family = |ipv6| Some(Preference::Family { ipv6 });
        let grey = "Greylisted, see http://postgrey.schweikert.ch/help/";
        check(attempt(v4, 450, "4.2.0", grey), true, same.clone());
        check(
            attempt(v4, 451, "4.7.1", "greylisting in action"),
            false,
            same,
        );
        check(attempt(v4, 451, "4.7.1", "not now"), true, family(true));
        check(attempt(v4, 451, "4.7.1", "not now"), false, None);
        check(
            attempt("mx [2001:db8::1]", 450, "4.7.25", "no PTR"),
            true,
            family(false),
        );
        check(attempt(v4, 451, "4.3.0", "not now"), true, None);
        check(attempt("", 0, "4.4.3", "no DNS"), true, None);
        check(attempt("/run/lmtp", 451, "4.7.1", "not now"), true, None);
    }

    #[test]
    fn a_connection_is_of_use_where_the_message_wants_to_go() {
        let (v4, v6): (IpAddr, IpAddr) =
            ("192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap());
        let same = Preference::Same {
            host: "a.test".to_owned(),
            ip: v4,
        };
        let family = Preference::Family { ipv6: true };
        for (preference, host, to, met) in [
            (&Preference::None, "b.test", Some(v6), true),
            (&Preference::None, "/run/lmtp", None, true),
            (&same, "a.test", Some(v4), true),
            (&same, "a.test", Some(v6), false),
            (&same, "b.test", Some(v4), false),
            (&same, "a.test", None, false),
            (&family, "a.test", Some(v6), true),
            (&family, "a.test", Some(v4), false),
        ] {
            assert_eq!(preference.is_met_by(host, to), met, "{preference:?} {host}");
        }
    }

    #[test]
    fn the_preferred_comes_first_and_the_rest_keeps_its_order() {
        let hop = |name: &str| Hop {
            name: name.to_owned(),
            preference: 0,
            port: 25,
        };
        let ips = ["2001:db8::1", "192.0.2.1", "2001:db8::2", "192.0.2.2"];
        let ips = ips.map(|ip| ip.parse::<IpAddr>().unwrap());
        let sorted = |preference: &Preference| {
            let (mut hops, mut addresses) = (["a", "b", "c"].map(hop), ips);
            preference.sort_hops(&mut hops);
            preference.sort_addresses(&mut addresses);
            let place = |ip: &IpAddr| ips.iter().position(|other| other == ip).unwrap();
            let places = addresses.iter().map(place).collect::<Vec<_>>();
            (hops.map(|hop| hop.name).concat(), places)
        };
        assert_eq!(
            sorted(&Preference::None),
            ("abc".to_owned(), vec![0, 1, 2, 3])
        );
        let same = Preference::Same {
            host: "b".to_owned(),
            ip: ips[3],
        };
        assert_eq!(sorted(&same), ("bac".to_owned(), vec![3, 0, 1, 2]));
        let family = Preference::Family { ipv6: false };
        assert_eq!(sorted(&family), ("abc".to_owned(), vec![1, 3, 0, 2]));
    }
}
